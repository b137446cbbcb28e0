//! `typing` is told at most once a second for each room, and what was said last is told.

use std::time::{Duration, Instant};

use super::support::{Client, Node, Redis, Value, json};

/// Two members on two nodes.
struct Pair {
    ada: Client,
    ben: Client,
    _nodes: [Node; 2],
    _redis: Redis,
}

impl Pair {
    async fn start() -> Pair {
        let redis = Redis::start().await;
        let nodes = [Node::on(&redis).await, Node::on(&redis).await];
        let mut ada = Client::in_room(&nodes[0], "ada", "red").await;
        let mut ben = Client::in_room(&nodes[1], "ben", "red").await;
        ada.join("blue").await;
        ben.join("blue").await;
        Pair {
            ada,
            ben,
            _nodes: nodes,
            _redis: redis,
        }
    }

    async fn type_all(&mut self, room: &str, states: impl IntoIterator<Item = bool>) {
        let envelope = |is_typing| {
            let payload = json!({"roomId": room, "isTyping": is_typing});
            json!({"type": "typing", "payload": payload}).to_string()
        };
        let all: Vec<String> = states.into_iter().map(envelope).collect();
        self.ada.send_all(all).await;
    }

    /// That ben hears no more typing of ada's in that room, up to a message that she says now.
    async fn ben_hears_no_more(&mut self, room: &str) {
        self.ada.say(room, "done").await;
        self.ben.message().await;
        self.ben.expect_no("typing").await;
    }
}

fn is(event: &Value, room: &str, is_typing: bool) {
    let found = (&event["roomId"], &event["isTyping"], &event["userId"]);
    let expected = (&json!(room), &json!(is_typing), &json!("ada"));
    assert_eq!(found, expected, "{event}");
}

fn time(event: &Value) -> u64 {
    event["timestamp"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_within_a_second_is_merged_into_its_last_word() {
    let mut pair = Pair::start().await;
    for last in [false, true] {
        let states = (0..20).map(|n| n % 2 == 0).chain([last]);
        pair.type_all("red", states).await;
        let first = pair.ben.expect("typing").await;
        is(&first, "red", true);
        let second = pair.ben.expect("typing").await;
        is(&second, "red", last);
        let apart = time(&second) - time(&first);
        assert!((1_000..3_000).contains(&apart), "{apart} ms");
        // And she hears of it herself, as every member does.
        is(&pair.ada.expect("typing").await, "red", true);
        is(&pair.ada.expect("typing").await, "red", last);
        pair.ben_hears_no_more("red").await;
        // Nothing is held now; but a second has to pass since the last.
        let next = time(&second) + 1_000;
        let pause = next.saturating_sub(super::support::now_ms());
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_merged_apart() {
    let mut pair = Pair::start().await;
    pair.type_all("red", [true]).await;
    pair.type_all("blue", [true, true, false]).await;
    pair.type_all("red", [false, false]).await;
    let mut heard = Vec::new();
    for _ in 0..4 {
        let event = pair.ben.expect("typing").await;
        heard.push((event["roomId"].clone(), event["isTyping"].clone()));
    }
    for room in ["red", "blue"] {
        let of_room = heard.iter().filter(|(of, _)| of == room);
        let states: Vec<_> = of_room.map(|(_, state)| state.clone()).collect();
        assert_eq!(states, [true, false], "{room}");
    }
    pair.ben_hears_no_more("red").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_typist_is_told_once_a_second() {
    let mut pair = Pair::start().await;
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while start.elapsed() < Duration::from_millis(2_500) {
        ticks.tick().await;
        pair.type_all("red", [true]).await;
    }
    pair.type_all("red", [false]).await;
    let mut times = Vec::new();
    loop {
        let event = pair.ben.expect("typing").await;
        times.push(time(&event));
        if event["isTyping"] == false {
            break;
        }
    }
    assert!(times.len() >= 3, "{times:?}");
    let apart = times.windows(2).map(|pair| pair[1] - pair[0]);
    // Two clocks, of the day and of the node's uptime, may part by a millisecond.
    assert!(apart.clone().all(|ms| ms >= 995), "{times:?}");
    pair.ben_hears_no_more("red").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_or_is_gone_has_stopped() {
    let mut pair = Pair::start().await;
    let start = Instant::now();
    for room in ["red", "blue"] {
        pair.type_all(room, [true, false]).await;
        is(&pair.ben.expect("typing").await, room, true);
    }
    pair.ada.leave("red").await;
    is(&pair.ben.expect("typing").await, "red", false);
    let Pair { ada, mut ben, .. } = pair;
    ada.close().await;
    is(&ben.expect("typing").await, "blue", false);
    println!("told {:?} after the first", start.elapsed());
}
