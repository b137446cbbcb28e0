//! A client that reads nothing for 20 s in a room with 1,000 messages a second, and then reads on:
//! nothing is lost on it that it isn't told of, and it costs the others and the node nothing. And who
//! is let go for taking nothing, and who isn't.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use support::raw::{CLOSE, TEXT};
use support::{Client, Follow, Node, Raw, Redis, SOON, json, token, within};
use tokio::sync::watch;

const ROOM: &str = "general";
const PUBLISHERS: usize = 4;
const LISTENERS: usize = 4;
/// In this time each publisher sends so many messages: ten make 1,000 a second of them all.
const TURN: Duration = Duration::from_millis(40);
/// Before the slow one comes, while it reads nothing, and while it reads on.
const BEFORE: Duration = Duration::from_secs(5);
const STALL: Duration = Duration::from_secs(20);
const AFTER: Duration = Duration::from_secs(3);
/// What the node may need more at its peak because of the slow one.
const MEMORY: u64 = 8 << 20;

/// A good kilobyte each, so that what isn't read fills the socket's buffers in some seconds.
fn text(begin: Instant) -> String {
    format!("{} {}", begin.elapsed().as_micros(), "x".repeat(1_000))
}

/// Microseconds that a message of [`text`] took.
fn took(begin: Instant, text: &str) -> u64 {
    let sent: u64 = text.split(' ').next().unwrap().parse().unwrap();
    begin.elapsed().as_micros() as u64 - sent
}

/// Sends at its pace, and all of it is acked; how many.
async fn publish(
    mut client: Client,
    a_turn: usize,
    begin: Instant,
    stopped: watch::Receiver<bool>,
) -> usize {
    let mut pace = tokio::time::interval(TURN);
    let mut sent = 0;
    while !*stopped.borrow() {
        pace.tick().await;
        let message = |_| {
            let payload = json!({"roomId": ROOM, "text": text(begin)});
            json!({"type": "message", "payload": payload}).to_string()
        };
        client.send_all((0..a_turn).map(message)).await;
        for _ in 0..a_turn {
            client.expect("ack").await;
        }
        sent += a_turn;
        client.forget();
    }
    sent
}

/// Reads everything until the room's end, which is known before it comes; when each message came and
/// what it took.
async fn listen(
    node: &Node,
    n: usize,
    begin: Instant,
    end: watch::Receiver<Option<u64>>,
) -> Vec<(Instant, u64)> {
    let mut client = Client::of(node, &format!("listener{n}")).await;
    let mut follow = Follow::new(format!("listener {n}"));
    follow.history(&client.join(ROOM).await);
    let mut taken = Vec::new();
    while end.borrow().is_none_or(|end| follow.seq < Some(end)) {
        let message = client.message().await;
        follow.message(&message);
        let took = took(begin, message["text"].as_str().unwrap());
        taken.push((Instant::now(), took));
        assert_eq!(
            client
                .forget()
                .iter()
                .find(|event| event["type"] == "history"),
            None
        );
    }
    taken
}

/// The 50th and 99th of a hundred of those that came in this time.
fn percentiles(
    all: &[Vec<(Instant, u64)>],
    from: Instant,
    to: Instant,
) -> (usize, Duration, Duration) {
    let in_time = all
        .iter()
        .flatten()
        .filter(|(at, _)| (from..to).contains(at));
    let mut took: Vec<u64> = in_time.map(|(_, took)| *took).collect();
    took.sort_unstable();
    let at = |percent: usize| Duration::from_micros(took[took.len() * percent / 100]);
    (took.len(), at(50), at(99))
}

/// What became of the slow one.
struct Slow {
    follow: Follow,
    resets: usize,
    raw: Raw,
}

impl Slow {
    async fn join(node: &Node) -> Self {
        let mut raw = Raw::open_with_buffer(node.addr, &token("slow"), Some(64 * 1024)).await;
        raw.send_json(&json!({"type": "join", "payload": {"roomId": ROOM}}))
            .await;
        let mut follow = Follow::new("the slow one");
        follow.history(&raw.expect("history").await);
        Self {
            follow,
            resets: 0,
            raw,
        }
    }

    /// Takes the next event, each following the one before, or a history that replaces them.
    async fn take(&mut self) {
        let event = self.raw.event().await;
        if event["type"] == "history" {
            assert_eq!(event["payload"]["recovered"], false, "{event}");
            self.resets += 1;
        }
        self.follow.event(&event, ROOM);
    }

    async fn read_to(&mut self, end: &watch::Receiver<Option<u64>>) {
        while end.borrow().is_none_or(|end| self.follow.seq < Some(end)) {
            self.take().await;
        }
    }
}

/// The whole course; gives the slow one as it was at the end, and how many messages there were.
async fn stall(limit: &str, a_turn: usize) -> Slow {
    let redis = Redis::start().await;
    let env = [
        ("MESSAGE_HISTORY_LIMIT", limit),
        ("RATE_LIMIT_MESSAGES", "0"),
    ];
    let node = Node::on_with(&redis, &env).await;
    let begin = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let (tell_end, end) = watch::channel(None);
    let mut publishers = Vec::new();
    for n in 0..PUBLISHERS {
        let client = Client::in_room(&node, &format!("publisher{n}"), ROOM).await;
        publishers.push(publish(client, a_turn, begin, stopped.clone()));
    }
    let mut closer = Client::in_room(&node, "closer", ROOM).await;
    let publishing = async {
        let sent = 1 + join_all(publishers).await.into_iter().sum::<usize>() as u64;
        tell_end.send_replace(Some(sent));
        assert_eq!(closer.say(ROOM, &text(begin)).await["seq"], sent);
        sent
    };
    let listening = join_all((0..LISTENERS).map(|n| listen(&node, n, begin, end.clone())));
    let course = async {
        tokio::time::sleep(BEFORE).await;
        let without = (begin + Duration::from_secs(1), Instant::now());
        let memory = node.peak_memory();
        let mut slow = Slow::join(&node).await;
        let with = (Instant::now(), Instant::now() + STALL);
        tokio::time::sleep(STALL).await;
        let stalled = node.peak_memory();
        let reads = calls(&redis).await;
        let back = Instant::now();
        let stopping = async {
            tokio::time::sleep(AFTER).await;
            let _ = stop.send(true);
        };
        let reading = within(6 * SOON, "the slow one's end", slow.read_to(&end));
        tokio::join!(stopping, reading);
        println!(
            "limit {limit}: at the end after {:?} with {} scripts",
            back.elapsed(),
            calls(&redis).await - reads
        );
        (slow, without, with, [memory, stalled, node.peak_memory()])
    };
    let (sent, taken, (mut slow, without, with, memory)) =
        tokio::join!(publishing, listening, course);
    let [before, stalled, after] = memory.map(|bytes| bytes >> 10);
    println!(
        "limit {limit}, {sent} messages; peak KiB: {before} before, {stalled} stalled, {after} after"
    );
    for (what, (from, to)) in [("without", without), ("with", with)] {
        let (count, p50, p99) = percentiles(&taken, from, to);
        println!(
            "limit {limit}, {what} the slow one: {count} deliveries, p50 {p50:?}, p99 {p99:?}"
        );
    }
    // Each listener checked that it had every message, in order.
    assert!(memory[1] - memory[0] < MEMORY, "while it stood: {memory:?}");
    assert!(
        memory[2] - memory[0] < MEMORY,
        "as it caught up: {memory:?}"
    );
    assert_eq!(slow.follow.seq, Some(sent));
    slow.raw
        .send_json(&json!({"type": "ping", "payload": {}}))
        .await;
    slow.raw.expect("pong").await;
    slow
}

/// How many scripts Redis has run.
async fn calls(redis: &Redis) -> u64 {
    let stats: String = redis.cli(&["INFO", "commandstats"]).await;
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// 400 a second: the longest history there is holds what comes in 20 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_for_20_s_gets_everything_that_the_history_holds() {
    let slow = stall("10000", 4).await;
    assert_eq!(slow.resets, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_for_20_s_is_told_where_the_history_holds_less() {
    let slow = stall("100", 10).await;
    assert!(slow.resets > 0);
}

/// Says long things into the room until told to stop.
async fn flood(node: &Node, stopped: watch::Receiver<bool>) {
    let mut sender = Client::in_room(node, "sender", ROOM).await;
    while !*stopped.borrow() {
        sender.say(ROOM, &"漢".repeat(2_000)).await;
        sender.forget();
    }
}

#[tokio::test]
async fn who_takes_no_byte_gets_4008_after_the_timeout_and_not_before() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let env = [("SLOW_CLIENT_TIMEOUT", "4s"), ("RATE_LIMIT_MESSAGES", "0")];
    let node = Node::start(&env).await;
    let mut slow = Slow::join(&node).await;
    let mut watcher = Client::in_room(&node, "watcher", ROOM).await;
    let (stop, stopped) = watch::channel(false);
    let begin = Instant::now();
    let course = async {
        while watcher.next().await["type"] != "user_left" {}
        let _ = stop.send(true);
        begin.elapsed()
    };
    let (_, after) = tokio::join!(flood(&node, stopped), course);
    assert!(after >= TIMEOUT, "let go after {after:?} already");
    // Its buffers have to fill first, and the close frame, which can't get through, has its 2 s.
    assert!(after < TIMEOUT + 2 * SOON, "let go only after {after:?}");
    // What had got through before was in order, and may be followed by the close frame with its code.
    while let Some((opcode, payload)) = slow.raw.recv(SOON).await {
        match opcode {
            TEXT => {
                let event = serde_json::from_slice(&payload).expect("JSON");
                slow.follow.event(&event, ROOM);
            }
            CLOSE => assert_eq!(payload[..2], 4008u16.to_be_bytes()),
            _ => {}
        }
    }
    let line = node.log("why it was let go", |line| {
        line["user"] == "slow" && !line["why"].is_null()
    });
    println!("let go after {after:?}: {}", line.await);
}

/// As over a thin line: far less than comes, but steadily.
#[tokio::test]
async fn who_takes_a_little_now_and_then_stays() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let env = [("SLOW_CLIENT_TIMEOUT", "4s"), ("RATE_LIMIT_MESSAGES", "0")];
    let node = Node::start(&env).await;
    let mut slow = Slow::join(&node).await;
    let (stop, stopped) = watch::channel(false);
    let course = async {
        let begin = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_millis(500));
        while begin.elapsed() < 4 * TIMEOUT {
            pace.tick().await;
            // A good 60 KB each time.
            for _ in 0..10 {
                slow.take().await;
            }
        }
        let _ = stop.send(true);
    };
    tokio::join!(flood(&node, stopped), course);
    let mut last = Client::in_room(&node, "last", ROOM).await;
    let end = last.say(ROOM, "the last").await["seq"].as_u64();
    let (_tell_end, end) = watch::channel(end);
    within(4 * SOON, "the end", slow.read_to(&end)).await;
}

/// It asks in many rooms for more than it takes: what is read for its questions isn't piled up for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_much_and_takes_nothing_holds_little_memory() {
    const ROOMS: usize = 60;
    const SAID: usize = 300;
    let redis = Redis::start().await;
    let node = Node::on_with(&redis, &[("MESSAGE_HISTORY_LIMIT", "1000")]).await;
    let room = |n: usize| format!("r{n}");
    let mut ada = Client::of(&node, "ada").await;
    for n in 0..ROOMS {
        ada.join(&room(n)).await;
        let payload = json!({"roomId": room(n), "text": "x".repeat(1_000)});
        let said = json!({"type": "message", "payload": payload}).to_string();
        ada.send_all(std::iter::repeat_n(said, SAID)).await;
        for _ in 0..SAID {
            ada.expect("ack").await;
        }
        ada.leave(&room(n)).await;
        ada.forget();
    }
    let mut raw = Raw::open_with_buffer(node.addr, &token("slow"), Some(16 * 1024)).await;
    for n in 0..ROOMS {
        let join = json!({"type": "join", "payload": {"roomId": room(n), "limit": 1}});
        raw.send_json(&join).await;
        raw.expect("history").await;
    }
    // What the rooms' sweep and the kept reads of others leave is gone by then.
    let settled = Duration::from_secs(8);
    tokio::time::sleep(settled).await;
    let before = node.anonymous_memory();
    for n in 0..ROOMS {
        // Sixty pages of a few messages each, for which the whole of a room must be read.
        let page = json!({"roomId": room(n), "before": 80, "limit": 80});
        let ask = json!({"type": "history", "payload": page});
        raw.send_json(&ask).await;
    }
    tokio::time::sleep(settled).await;
    let more = node.anonymous_memory().saturating_sub(before);
    println!("{} KiB more", more >> 10);
    assert!(more < MEMORY, "{more} bytes more");
    let mut answered = HashSet::new();
    for _ in 0..ROOMS {
        let page = raw.expect("history").await;
        let messages = page["messages"].as_array().map(Vec::len);
        assert_eq!(messages, Some(79), "{}", page["roomId"]);
        answered.insert(page["roomId"].to_string());
    }
    assert_eq!(answered.len(), ROOMS);
}
