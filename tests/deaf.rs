//! Nodes that don't hear what is published though everything looks alive: the whole subscription, or
//! one channel of it. A proxy before Redis keeps the pushes back. The node says so, reconnects, mends
//! its rooms and is whole again, and its clients see nothing of it but a pause.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::time::{Duration, Instant};

use support::{Client, Follow, Node, Redis, SOON, Tap, eventually, http, json, within};
use tokio::sync::watch;

/// How soon a node is whole again after its way to Redis is.
const RECOVERY: Duration = Duration::from_secs(10);
/// An own append counts as missed after a second, and then the room is read.
const OWN: Duration = Duration::from_secs(4);

/// A node that hears Redis through a proxy, and one that hears it itself.
struct Pair {
    tapped: Node,
    whole: Node,
    tap: Tap,
    redis: Redis,
}

impl Pair {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let tap = Tap::on(&redis).await;
        let url = tap.url();
        let env = |url| {
            [
                ("REDIS_URL", url),
                ("MESSAGE_HISTORY_LIMIT", "10000"),
                ("RATE_LIMIT_MESSAGES", "0"),
            ]
        };
        let tapped = Node::start(&env(&url)).await;
        let whole = Node::start(&env(&redis.url())).await;
        is_ready(&tapped, SOON).await;
        is_ready(&whole, SOON).await;
        Self {
            tapped,
            whole,
            tap,
            redis,
        }
    }
}

async fn status(node: &Node) -> u16 {
    http::get(node.addr, "/ready").await.status
}

async fn is_ready(node: &Node, limit: Duration) {
    eventually(limit, "/ready to be 200", || async {
        status(node).await == 200
    })
    .await;
}

async fn is_not_ready(node: &Node) {
    eventually(RECOVERY, "/ready to be 503", || async {
        status(node).await == 503
    })
    .await;
}

/// Connects, joins these rooms, and follows each.
async fn member(node: &Node, user: &str, rooms: &[String]) -> (Client, Vec<Follow>) {
    let mut client = Client::of(node, user).await;
    let mut follows = Vec::new();
    for room in rooms {
        let mut follow = Follow::new(format!("{user} in {room}"));
        follow.history(&client.join(room).await);
        follows.push(follow);
    }
    (client, follows)
}

/// Says some hundred things a second, going round these rooms, until it is told to stop; how many went
/// into each room. Each ack is waited for.
async fn talk(mut client: Client, rooms: &[String], stopped: watch::Receiver<bool>) -> Vec<u64> {
    let mut said = vec![0; rooms.len()];
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    for turn in (0..rooms.len()).cycle() {
        if *stopped.borrow() {
            break;
        }
        client
            .say(&rooms[turn], &format!("{turn}: {}", said[turn]))
            .await;
        said[turn] += 1;
        client.forget();
        pace.tick().await;
    }
    said
}

/// Reads on until each room has come so far. Its connection stays, and no history replaces anything.
async fn read_to(client: &mut Client, follows: &mut [Follow], rooms: &[String], ends: &[u64]) {
    while follows
        .iter()
        .zip(ends)
        .any(|(follow, end)| follow.seq < Some(*end))
    {
        let event = client.next_or_close(RECOVERY).await;
        let event = event.expect("the connection stays");
        assert_ne!(event["payload"]["recovered"], false, "{event}");
        for (follow, room) in follows.iter_mut().zip(rooms) {
            follow.event(&event, room);
        }
    }
}

fn rooms(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("room-{n}")).collect()
}

/// What `/health` says while the node is deaf: it serves, it isn't well, and its last probe grows old.
async fn watch_health(node: &Node) {
    let mut lags = Vec::new();
    while status(node).await == 503 {
        let health = http::get(node.addr, "/health").await;
        assert_eq!(health.status, 200, "{health:?}");
        let body = health.json();
        lags.push(body["broker"]["lagMs"].as_u64().expect("a lagMs"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The last one may have been asked for just after it heard again.
    lags.pop();
    assert!(lags.iter().all(|lag| *lag > 5_000), "{lags:?}");
    assert!(lags.is_sorted(), "{lags:?}");
}

#[tokio::test]
async fn a_deaf_node_says_so_and_is_whole_again_within_10_s() {
    let pair = Pair::start().await;
    let rooms = rooms(20);
    let (mut ada, mut ada_follows) = member(&pair.tapped, "ada", &rooms).await;
    let (mut alan, mut alan_follows) = member(&pair.tapped, "alan", &rooms[..5]).await;
    let (ben, _) = member(&pair.whole, "ben", &rooms).await;
    let (stop, stopped) = watch::channel(false);
    let before = pair.tap.opened();

    let deafness = async {
        let begin = Instant::now();
        pair.tap.deafen();
        is_not_ready(&pair.tapped).await;
        let ready = http::get(pair.tapped.addr, "/ready").await;
        let health = http::get(pair.tapped.addr, "/health").await.json();
        if ready.status == 503 {
            assert_eq!(
                ready.json()["reason"],
                "what is published doesn't come back"
            );
        }
        println!("not ready after {:?}: {health}", begin.elapsed());
        watch_health(&pair.tapped).await;
        is_ready(&pair.tapped, RECOVERY.saturating_sub(begin.elapsed())).await;
        println!("ready again after {:?}", begin.elapsed());
        assert_eq!(status(&pair.whole).await, 200);
        let _ = stop.send(true);
        begin
    };
    let (said, begin) = tokio::join!(talk(ben, &rooms, stopped), deafness);
    println!("{} messages", said.iter().sum::<u64>());
    assert!(said.iter().all(|count| *count > 0));

    // Whole: it has everything, and what is said from now on comes by itself.
    read_to(&mut ada, &mut ada_follows, &rooms, &said).await;
    read_to(&mut alan, &mut alan_follows, &rooms[..5], &said).await;
    println!("everything was there after {:?}", begin.elapsed());
    assert!(
        begin.elapsed() < RECOVERY,
        "only after {:?}",
        begin.elapsed()
    );
    let mut ben = Client::in_room(&pair.whole, "ben", &rooms[7]).await;
    ben.say(&rooms[7], "and now").await;
    let mut ends = said.clone();
    ends[7] += 1;
    read_to(&mut ada, &mut ada_follows, &rooms, &ends).await;
    assert_eq!(
        ada.pings + alan.pings,
        0,
        "and all of that before a heartbeat"
    );
    // The subscription alone was replaced.
    assert_eq!(pair.tap.opened(), before + 1);
    ada.expect_no("message").await;
    alan.expect_no("message").await;
}

#[tokio::test]
async fn it_stays_deaf_as_long_as_new_connections_are_and_heals_within_10_s_after() {
    let pair = Pair::start().await;
    let rooms = rooms(3);
    let (mut ada, mut follows) = member(&pair.tapped, "ada", &rooms).await;
    let (mut ben, _) = member(&pair.whole, "ben", &rooms).await;
    pair.tap.deafen_all();
    is_not_ready(&pair.tapped).await;
    for (turn, room) in rooms.iter().enumerate() {
        ben.say(room, &format!("said to a deaf node {turn}")).await;
    }
    // Through at least one attempt that fails.
    let tried = pair.tap.opened() + 2;
    eventually(RECOVERY * 2, "new tries", || async {
        pair.tap.opened() >= tried
    })
    .await;
    assert_eq!(status(&pair.tapped).await, 503);
    pair.tap.deafen();
    let begin = Instant::now();
    is_ready(&pair.tapped, RECOVERY).await;
    read_to(&mut ada, &mut follows, &rooms, &[1, 1, 1]).await;
    println!("whole again after {:?}", begin.elapsed());
    assert!(
        begin.elapsed() < RECOVERY,
        "only after {:?}",
        begin.elapsed()
    );
}

/// The newcomer's room has to be listened to over the deaf connection: that must not put off finding out.
#[tokio::test]
async fn joining_a_new_room_on_a_deaf_node_works_within_10_s() {
    let pair = Pair::start().await;
    let (mut ada, mut follows) = member(&pair.tapped, "ada", &rooms(1)).await;
    pair.tap.deafen();
    let begin = Instant::now();
    // So late that an answer which is waited for in vain would keep the node from seeing it in time.
    eventually(RECOVERY, "some seconds of deafness", || async {
        let health = http::get(pair.tapped.addr, "/health").await.json();
        health["broker"]["lagMs"].as_u64() > Some(5_700)
    })
    .await;
    let join = async {
        let mut alan = Client::of(&pair.tapped, "alan").await;
        loop {
            alan.send("join", json!({"roomId": "new"})).await;
            let answer = alan.next_or_close(RECOVERY).await.expect("it stays");
            if answer["type"] == "history" {
                return alan;
            }
            assert_eq!(answer["payload"]["code"], "UNAVAILABLE", "{answer}");
        }
    };
    let mut alan = within(RECOVERY.saturating_sub(begin.elapsed()), "the join", join).await;
    println!("joined after {:?}", begin.elapsed());
    alan.say_and_hear("new", "hello").await;
    ada.say("room-0", "hello").await;
    read_to(&mut ada, &mut follows, &rooms(1), &[1]).await;
}

/// Rooms are heard and the probes are not. The node can't tell that from an overload at once, but it
/// must not stay not ready for as long as people talk.
#[tokio::test]
async fn lost_probes_are_found_out_while_rooms_are_heard() {
    let pair = Pair::start().await;
    let rooms = rooms(2);
    let (mut ada, mut follows) = member(&pair.tapped, "ada", &rooms).await;
    let (ben, _) = member(&pair.whole, "ben", &rooms).await;
    let (stop, stopped) = watch::channel(false);
    let deafness = async {
        let begin = Instant::now();
        pair.tap.swallow("chat:probe:");
        is_not_ready(&pair.tapped).await;
        is_ready(&pair.tapped, RECOVERY.saturating_sub(begin.elapsed())).await;
        println!("ready again after {:?}", begin.elapsed());
        let _ = stop.send(true);
    };
    let (said, ()) = tokio::join!(talk(ben, &rooms, stopped), deafness);
    read_to(&mut ada, &mut follows, &rooms, &said).await;
}

/// One channel lost, in which way, and what is expected of the connections through the proxy.
async fn one_lost_channel(lose: impl Fn(&Tap, &str), healed_by: u64) {
    let pair = Pair::start().await;
    let rooms = rooms(2);
    let (mut ada, mut ada_follows) = member(&pair.tapped, "ada", &rooms[..1]).await;
    let (mut alan, mut alan_follows) = member(&pair.tapped, "alan", &rooms[1..]).await;
    let (mut ben, _) = member(&pair.whole, "ben", &rooms).await;
    let before = pair.tap.opened();
    lose(&pair.tap, "chat:room:{room-0}");

    // Another's message stays out, one's own brings it along, and both have their places.
    ben.say("room-0", "ben").await;
    let begin = Instant::now();
    ada.say("room-0", "ada").await;
    let back = read_to(&mut ada, &mut ada_follows, &rooms[..1], &[2]);
    within(OWN, "its own message and the one before", back).await;
    println!("back after {:?}", begin.elapsed());
    // The other room is as if nothing had been.
    ben.say("room-1", "all well").await;
    read_to(&mut alan, &mut alan_follows, &rooms[1..], &[1]).await;
    assert_eq!(status(&pair.tapped).await, 200);

    // And the channel itself comes back without anybody's help, long before the minute's comparison. What is
    // said until then comes with the history that is read when it does.
    let by_itself = async {
        for turn in 0..100 {
            ben.say("room-0", &format!("without her {turn}")).await;
            tokio::time::sleep(RECOVERY / 100).await;
        }
    };
    let listening = read_to(&mut ada, &mut ada_follows, &rooms[..1], &[102]);
    tokio::join!(
        by_itself,
        within(RECOVERY * 2, "what others say", listening)
    );
    let begin = Instant::now();
    ben.say("room-0", "at once").await;
    ada_follows[0].message(&ada.message().await);
    println!("heard after {:?}", begin.elapsed());
    assert_eq!(pair.tap.opened(), before + healed_by);
    ada.expect_no("message").await;
    drop(pair.redis);
}

#[tokio::test]
async fn a_channel_that_was_unsubscribed_is_subscribed_again() {
    one_lost_channel(Tap::unsubscribe, 0).await;
}

#[tokio::test]
async fn a_channel_that_stays_silent_makes_the_node_reconnect() {
    one_lost_channel(Tap::swallow, 1).await;
}

/// Nobody speaks on the node that doesn't hear, so only the comparison of all open rooms can show it.
#[tokio::test]
async fn a_lost_channel_of_listeners_is_found_within_a_minute_and_healed() {
    let pair = Pair::start().await;
    let rooms = rooms(1);
    let (mut ada, mut follows) = member(&pair.tapped, "ada", &rooms).await;
    let (mut ben, _) = member(&pair.whole, "ben", &rooms).await;
    pair.tap.unsubscribe("chat:room:{room-0}");
    ben.say("room-0", "is anybody there").await;
    let message = ada.expect_within(Duration::from_secs(65), "message").await;
    follows[0].message(&message);
    // From then on it hears again, at once.
    for turn in 0..5 {
        ben.say("room-0", &format!("again {turn}")).await;
        follows[0].message(&ada.message().await);
    }
    assert_eq!(status(&pair.tapped).await, 200);
}
