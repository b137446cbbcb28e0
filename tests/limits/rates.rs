//! Messages of a user, over all nodes.

use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::support::{Client, Node, Redis, SOON, eventually, http, json};
use super::wait_of;

/// A window that no test outlasts.
const LONG: (&str, &str) = ("RATE_LIMIT_WINDOW", "10m");

async fn limited(redis: &Redis, limit: &str, window: &str) -> Node {
    let env = [
        ("RATE_LIMIT_MESSAGES", limit),
        ("RATE_LIMIT_WINDOW", window),
        ("MESSAGE_HISTORY_LIMIT", "1000"),
    ];
    Node::on_with(redis, &env).await
}

/// Says something; the reply.
async fn say(client: &mut Client, text: &str) -> super::Value {
    let payload = json!({"roomId": "red", "text": text});
    client.request("message", payload).await
}

/// Says so many at once, and how many were acked.
async fn say_many(client: &mut Client, count: usize) -> usize {
    let mut acked = 0;
    for n in 0..count {
        acked += usize::from(say(client, &n.to_string()).await["type"] == "ack");
    }
    acked
}

/// How many times Redis has done that.
async fn calls(redis: &Redis, command: &str) -> u64 {
    let stats: String = redis.cli(&["INFO", "commandstats"]).await;
    let name = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn four_connections_on_two_nodes_get_what_one_user_may_have() {
    let redis = Redis::start().await;
    let nodes = [
        limited(&redis, "60", "6s").await,
        limited(&redis, "60", "6s").await,
    ];
    let mut crowd = Crowd::of("ada", [&nodes[0], &nodes[1]]).await;
    let mut acked = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let mut burst = crowd.burst(60).await;
        assert!(burst.acked.len() <= 60, "{}", burst.acked.len());
        assert!(burst.acked.len() >= 54, "{}", burst.acked.len());
        assert_eq!(burst.acked.len() + burst.refused, 240);
        assert!(
            burst.wait <= Duration::from_secs(6) && start.elapsed() < Duration::from_secs(6),
            "the burst was over within its window"
        );
        acked.append(&mut burst.acked);
        tokio::time::sleep(burst.wait).await;
    }
    // What was acked is stored, in the order in which each connection said it, and nothing else is.
    let mut reader = Client::of(&nodes[0], "ben").await;
    let mut stored = Vec::new();
    for room in ["red", "blue"] {
        let history = reader
            .request("join", json!({"roomId": room, "limit": 1000}))
            .await;
        for message in history["payload"]["messages"].as_array().unwrap() {
            let text = message["payload"]["text"].as_str().unwrap();
            stored.push(text.to_owned());
        }
    }
    let key =
        |text: &String| -> Vec<usize> { text.split('.').map(|n| n.parse().unwrap()).collect() };
    let of = |texts: &[String], connection: usize| -> Vec<Vec<usize>> {
        let keys = texts.iter().map(key);
        keys.filter(|key| key[1] == connection).collect()
    };
    for connection in 0..4 {
        let mut expected = of(&acked, connection);
        expected.sort();
        assert_eq!(of(&stored, connection), expected);
    }
    assert_eq!(stored.len(), acked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_as_told_is_let_in() {
    let redis = Redis::start().await;
    let node = limited(&redis, "5", "1500ms").await;
    for user in ["ada", "ben"] {
        let mut client = Client::in_room(&node, user, "red").await;
        for round in 0..3 {
            let acked = say_many(&mut client, 5).await;
            assert_eq!(acked, 5, "{user}, round {round}");
            let mut wait = wait_of(&say(&mut client, "Redis refuses").await);
            if user == "ben" {
                wait = wait_of(&say(&mut client, "the node refuses").await);
            }
            assert!(wait > Duration::ZERO && wait <= Duration::from_millis(1_500));
            tokio::time::sleep(wait).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_taken_ahead_and_used_up_without_redis() {
    let redis = Redis::start().await;
    let node = limited(&redis, "60", LONG.1).await;
    let mut ada = Client::in_room(&node, "ada", "red").await;
    let mut used = Vec::new();
    for n in 0..60 {
        assert_eq!(say(&mut ada, &n.to_string()).await["type"], "ack");
        used.push(redis.cli::<usize>(&["GET", "chat:rate:{3:ada}"]).await);
    }
    // The first pays for four: 59 / 16 = 3 ahead; the fifth for four: 55 / 16 = 3.
    assert_eq!(used[..9], [4, 4, 4, 4, 8, 8, 8, 8, 12]);
    assert!((0..60).all(|n| used[n] > n), "{used:?}");
    assert_eq!(used.last(), Some(&60));
    wait_of(&say(&mut ada, "one more").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_doesnt_reach_redis() {
    let redis = Redis::start().await;
    let node = limited(&redis, "40", LONG.1).await;
    let mut ada = Client::in_room(&node, "ada", "red").await;
    assert_eq!(say_many(&mut ada, 41).await, 40);
    let before = (
        calls(&redis, "lindex").await,
        calls(&redis, "publish").await,
    );
    assert_eq!(say_many(&mut ada, 150).await, 0);
    // Another connection of hers knows it, too.
    let mut again = Client::in_room(&node, "ada", "red").await;
    assert_eq!(say_many(&mut again, 20).await, 0);
    let after = calls(&redis, "lindex").await;
    // The join reads the room, and so does the node once a minute.
    assert!(after - before.0 < 8, "{before:?}, {after}");
    // Others are none the wiser.
    let mut ben = Client::in_room(&node, "ben", "red").await;
    assert_eq!(say_many(&mut ben, 40).await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_comes_and_goes_leaves_no_block_behind() {
    let redis = Redis::start().await;
    let node = limited(&redis, "40", LONG.1).await;
    for n in 0..40 {
        let mut ada = Client::in_room(&node, "ada", "red").await;
        assert_eq!(say(&mut ada, "x").await["type"], "ack", "{n}");
        ada.close().await;
    }
    let mut ada = Client::in_room(&node, "ada", "red").await;
    wait_of(&say(&mut ada, "one more").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_who_is_barred_stays_so_and_others_hear_the_truth() {
    let mut redis = Redis::start().await;
    let node = limited(&redis, "20", LONG.1).await;
    let mut ada = Client::in_room(&node, "ada", "red").await;
    let mut ben = Client::in_room(&node, "ben", "red").await;
    assert_eq!(say_many(&mut ada, 20).await, 20);
    wait_of(&say(&mut ada, "one more").await);
    // One, and one ahead.
    assert_eq!(say_many(&mut ben, 1).await, 1);
    redis.kill().await;
    eventually(SOON, "the loss to be noticed", || async {
        http::get(node.addr, "/ready").await.status == 503
    })
    .await;
    wait_of(&say(&mut ada, "still one more").await);
    for _ in 0..3 {
        let reply = say(&mut ben, "x").await;
        assert_eq!(reply["payload"]["code"], "UNAVAILABLE", "{reply}");
    }
    redis.start_again().await;
    eventually(2 * SOON, "the node to be back", || async {
        http::get(node.addr, "/ready").await.status == 200
    })
    .await;
    assert_eq!(say_many(&mut ben, 3).await, 3);
    wait_of(&say(&mut ada, "even now").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_counts_as_well() {
    let env = [("RATE_LIMIT_MESSAGES", "30"), ("RATE_LIMIT_WINDOW", "2s")];
    let node = Node::start(&env).await;
    let mut ada = Client::in_room(&node, "ada", "red").await;
    let mut twin = Client::in_room(&node, "ada", "red").await;
    for _ in 0..2 {
        let start = Instant::now();
        let acked = say_many(&mut ada, 20).await + say_many(&mut twin, 20).await;
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "within one window"
        );
        assert_eq!(acked, 30);
        let wait = wait_of(&say(&mut ada, "one more").await);
        tokio::time::sleep(wait).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_nobody_is_refused_and_nothing_is_counted() {
    let redis = Redis::start().await;
    let node = limited(&redis, "0", "10s").await;
    let mut crowd = Crowd::of("ada", [&node, &node]).await;
    let burst = crowd.burst(250).await;
    assert_eq!((burst.acked.len(), burst.refused), (1_000, 0));
    let keys: Vec<String> = redis.cli(&["KEYS", "chat:rate:*"]).await;
    assert!(keys.is_empty(), "{keys:?}");
}

/// Each of the sends is taken before the first is answered: they don't bring a block each, or the node would hold what
/// the user is then refused.
#[tokio::test]
async fn who_sends_into_many_rooms_at_once_gets_all_that_the_limit_allows() {
    let redis = Redis::start().await;
    let node = limited(&redis, "60", LONG.1).await;
    let mut ada = Client::of(&node, "ada").await;
    let rooms: Vec<String> = (0..60).map(|n| format!("room-{n}")).collect();
    for room in &rooms {
        ada.join(room).await;
    }
    let message = |room| {
        let payload = json!({"roomId": room, "text": "to all of you"});
        json!({"type": "message", "payload": payload}).to_string()
    };
    ada.send_all(rooms.iter().map(message)).await;
    let (mut acked, mut refused) = (0, 0);
    while acked + refused < rooms.len() {
        let event = ada.next_or_close(SOON).await.expect("it stays");
        acked += usize::from(event["type"] == "ack");
        refused += usize::from(event["type"] == "error");
    }
    assert!(acked >= 54, "only {acked}");
}

/// What is stored is never called one too many, whenever it is sent again; what isn't, is.
#[tokio::test]
async fn who_sends_again_what_is_stored_gets_its_ack_though_nothing_is_left() {
    let redis = Redis::start().await;
    for node in [
        limited(&redis, "5", LONG.1).await,
        Node::start(&[("RATE_LIMIT_MESSAGES", "5"), LONG]).await,
    ] {
        let mut ada = Client::in_room(&node, "ada", "red").await;
        let named = |id: &str| json!({"roomId": "red", "text": "once", "clientId": id});
        let first = ada.request("message", named("first")).await;
        assert_eq!(say_many(&mut ada, 20).await, 4);
        let again = ada.request("message", named("first")).await;
        assert_eq!(again["payload"]["duplicate"], true, "{again}");
        assert_eq!(again["payload"]["seq"], first["payload"]["seq"]);
        wait_of(&ada.request("message", named("second")).await);
        wait_of(&say(&mut ada, "nothing is left").await);
    }
}
