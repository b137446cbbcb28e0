//! Who goes on though it is refused: closed with 4029, after the last answer, and alone.

use std::time::Duration;

use super::support::raw::{CLOSE, PING, PONG, TEXT, frame};
use super::support::{Client, Node, Raw, Value, eventually, http, json, token};
use super::wait_of;

const LIMIT: Duration = Duration::from_secs(20);

/// A node where both limits are 5 in ten minutes: so a flood begins with the hundredth refusal.
async fn node() -> Node {
    let env = [
        ("RATE_LIMIT_MESSAGES", "5"),
        ("RATE_LIMIT_REQUESTS", "5"),
        ("RATE_LIMIT_WINDOW", "10m"),
    ];
    Node::start(&env).await
}

/// Sends `text` over and over; how many were refused before the close 4029.
async fn flood(client: &mut Client, text: &str) -> usize {
    client
        .send_all(std::iter::repeat_n(text.to_owned(), 150))
        .await;
    let mut refused = 0;
    while let Some(event) = client.next_or_close(LIMIT).await {
        if event["payload"]["code"] == "RATE_LIMITED" {
            wait_of(&event);
            refused += 1;
        }
    }
    assert_eq!(client.closed(LIMIT).await, Some(4029));
    refused
}

async fn floods(node: &Node) -> String {
    let metrics = http::get(node.addr, "/metrics").await.body;
    let name = "chat_closes_total{reason=\"flood\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.expect("the metric").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_floods_is_closed_and_nobody_else() {
    let node = node().await;
    let mut quiet = Client::in_room(&node, "ada", "red").await;
    let mut ada = Client::in_room(&node, "ada", "red").await;
    let message = json!({"type": "message", "payload": {"roomId": "red", "text": "x"}});
    // Those that are on their way to the broker then are answered, too.
    let refused = flood(&mut ada, &message.to_string()).await;
    assert!((100..=145).contains(&refused), "{refused}");
    let mut ben = Client::of(&node, "ben").await;
    assert_eq!(flood(&mut ben, r#"{"type":"ping"}"#).await, 100);
    let mut eve = Client::of(&node, "eve").await;
    assert_eq!(flood(&mut eve, "garbage").await, 100);
    let mut dan = Client::of(&node, "dan").await;
    let stray = json!({"type": "message", "payload": {"roomId": "red", "text": "x"}});
    assert_eq!(flood(&mut dan, &stray.to_string()).await, 100);
    eventually(LIMIT, "four floods to be counted", || async {
        floods(&node).await == "4"
    })
    .await;
    // Her other connection got her five messages, and is there still.
    for _ in 0..5 {
        assert_eq!(quiet.message().await["text"], "x");
    }
    quiet.assert_alive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_of_the_websocket_are_answered_and_then_too_many() {
    let node = node().await;
    let mut raw = Raw::open(node.addr, &token("ada")).await;
    raw.expect("connected").await;
    let mut bytes = Vec::new();
    for _ in 0..104 {
        bytes.extend(frame(true, PING, b"p", Some([1, 2, 3, 4])));
    }
    raw.write(&bytes).await;
    for _ in 0..104 {
        let (opcode, payload) = raw.recv(LIMIT).await.expect("an answer");
        assert_eq!((opcode, &payload[..]), (PONG, &b"p"[..]));
    }
    let more = bytes.repeat(1_000);
    raw.write(&more).await;
    assert_eq!(raw.close_code().await, Some(4029));
}

#[tokio::test(flavor = "multi_thread")]
async fn pongs_that_nobody_asked_for_are_no_way_around_it() {
    let node = node().await;
    let mut raw = Raw::open(node.addr, &token("ada")).await;
    raw.expect("connected").await;
    raw.write(&frame(true, PONG, b"", Some([1, 2, 3, 4])).repeat(110))
        .await;
    assert_eq!(raw.close_code().await, Some(4029));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_is_answered_before_the_close() {
    let node = node().await;
    let mut raw = Raw::open(node.addr, &token("ada")).await;
    let join = json!({"type": "join", "payload": {"roomId": "red"}});
    raw.send_json(&join).await;
    raw.expect("history").await;
    let mut bytes = Vec::new();
    for n in 0..300 {
        let payload = json!({"roomId": "red", "text": "x"});
        let message = json!({"type": "message", "id": n.to_string(), "payload": payload});
        let text = message.to_string();
        bytes.extend(frame(true, TEXT, text.as_bytes(), Some([1, 2, 3, 4])));
    }
    raw.write(&bytes).await;
    let (mut answered, mut acked) = (0, 0);
    loop {
        let (opcode, payload) = raw.recv(LIMIT).await.expect("a close frame at the end");
        if opcode == CLOSE {
            break;
        }
        let event: Value = serde_json::from_slice(&payload).unwrap();
        if event["id"].is_string() {
            assert_eq!(event["id"], answered.to_string(), "out of turn: {event}");
            answered += 1;
            acked += usize::from(event["type"] == "ack");
        }
    }
    assert_eq!(acked, 5);
    assert!(answered >= 105, "{answered}");
}
