//! `/metrics`: who may read it, that the README lists what it shows, and that each number moves by exactly
//! what was done, with both brokers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use piazza::metrics::Label;
use piazza::protocol::close::Close;
use piazza::protocol::request::ErrorCode;
use support::raw::{TEXT, frame};
use support::token::{claims, in_seconds};
use support::{Client, Connect, Node, Raw, Redis, SOON, eventually, http, json, token};

/// The text of `/metrics`.
async fn text(node: &Node) -> String {
    let response = http::get(node.addr, "/metrics").await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(
        response.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    response.body
}

/// Every number of the chat: the series as it is written, and its value. Of a histogram only the count;
/// nothing of the process.
async fn numbers(node: &Node) -> BTreeMap<String, f64> {
    let text = text(node).await;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a series and its value"))
        .filter(|(series, _)| !series.starts_with("process_") && !series.contains("_build_info"))
        .filter(|(series, _)| !series.contains("_bucket{") && !series.contains("_sum"))
        .map(|(series, value)| (series.to_owned(), value.parse().expect("a number")))
        .collect()
}

/// A node's numbers as they should be.
struct Expected<'a> {
    node: &'a Node,
    numbers: BTreeMap<String, f64>,
}

impl<'a> Expected<'a> {
    async fn now(node: &'a Node) -> Self {
        let numbers = numbers(node).await;
        Self { node, numbers }
    }

    /// These have moved by so much and no other has at all. A number is moved right after what it counts,
    /// so it may come a moment after what a client sees of it.
    async fn moves(&mut self, moves: &[(&str, i32)]) {
        for (series, by) in moves {
            let number = self.numbers.get_mut(*series);
            *number.unwrap_or_else(|| panic!("no series {series}")) += f64::from(*by);
        }
        let deadline = tokio::time::Instant::now() + SOON;
        while numbers(self.node).await != self.numbers && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let found = numbers(self.node).await;
        let other: Vec<_> = self
            .numbers
            .iter()
            .filter(|(series, value)| found.get(*series) != Some(value))
            .map(|(series, value)| format!("{series}: {value} != {:?}", found.get(series)))
            .collect();
        assert!(other.is_empty(), "after {moves:?}: {other:#?}");
        assert_eq!(found.len(), self.numbers.len(), "{found:#?}");
    }
}

const CONNECTIONS: &str = "websocket_connections";
const RECEIVED: &str = "websocket_messages_received_total";
const SENT: &str = "websocket_messages_sent_total";
const ROOMS: &str = "chat_rooms";
const PUBLISHES: &str = "chat_publishes_total";
const DELIVERIES: &str = "chat_delivery_seconds_count";
const MENDS: &str = "chat_mends_total";
const RESETS: &str = "chat_resets_total";
const APPENDS: &str = "chat_broker_round_trip_seconds_count{call=\"append\"}";
const READS: &str = "chat_broker_round_trip_seconds_count{call=\"read\"}";

#[tokio::test]
async fn the_readme_has_every_metric_with_its_help_and_type() {
    let text = text(&Node::embedded().await).await;
    let mut shown = BTreeSet::new();
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let (of, meaning) = help.take().expect("a HELP line first");
            assert_eq!(of, name);
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            shown.insert(format!("| `{name}` | {meaning} | {kind} |"));
        }
    }
    let readme = include_str!("../README.md");
    let (_, table) = readme
        .split_once("<!-- tests/metrics.rs compares this table with the program -->\n")
        .expect("the mark before the table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let listed: Vec<String> = rows.skip(2).map(str::to_owned).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), shown);
    assert_eq!(listed.len(), shown.len(), "a metric is listed twice");
}

#[tokio::test]
async fn no_label_tells_of_rooms_or_users() {
    let node = Node::embedded().await;
    let mut ada = Client::in_room(&node, "ada", "secret-room").await;
    ada.say_and_hear("secret-room", "hello").await;
    let text = text(&node).await;
    assert!(!text.contains("secret-room") && !text.contains("ada"));
    let labels: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('{')?.1.split_once('}'))
        .flat_map(|(labels, _)| labels.split("\","))
        .map(|label| label.split_once('=').unwrap().0)
        .collect();
    let expected = ["call", "code", "le", "reason", "version"];
    assert_eq!(labels, BTreeSet::from(expected));
}

fn assert_in_order<L: Label>() {
    for (index, label) in L::ALL.iter().enumerate() {
        assert_eq!(label.index(), index, "{}", label.value());
    }
    let values: BTreeSet<&str> = L::ALL.iter().map(|label| label.value()).collect();
    assert_eq!(values.len(), L::ALL.len());
}

#[test]
fn labels_are_listed_at_their_places() {
    assert_in_order::<Close>();
    assert_in_order::<ErrorCode>();
}

#[tokio::test]
async fn a_token_keeps_others_out() {
    let secret = "a-token-of-the-tests";
    let node = Node::start(&[("METRICS_TOKEN", secret), ("LOG_LEVEL", "trace")]).await;
    let bearer = |token: &str| format!("Bearer {token}");
    for wrong in ["", "a-token-of-the-test", "a-token-of-the-tests2", "A"] {
        let header = bearer(wrong);
        let refused = http::try_request(node.addr, "/metrics", &[("Authorization", &header)]).await;
        let refused = refused.unwrap();
        refused.assert_refusal(401, "UNAUTHORIZED");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert!(!refused.body.contains("chat_"));
    }
    let bare = http::get(node.addr, "/metrics").await;
    bare.assert_refusal(401, "UNAUTHORIZED");
    let in_query = http::get(node.addr, &format!("/metrics?token={secret}")).await;
    in_query.assert_refusal(401, "UNAUTHORIZED");
    let header = bearer(secret);
    let let_in = http::try_request(node.addr, "/metrics", &[("Authorization", &header)]).await;
    let let_in = let_in.unwrap();
    assert_eq!(let_in.status, 200, "{let_in:?}");
    assert!(let_in.body.contains("chat_rooms 0"));
    assert!(!node.logs().iter().any(|line| line.contains(secret)));
}

#[tokio::test]
async fn each_number_moves_by_what_was_done_with_the_embedded_broker() {
    each_number_moves_by_what_was_done(&Node::embedded().await).await;
}

#[tokio::test]
async fn each_number_moves_by_what_was_done_with_redis() {
    let redis = Redis::start().await;
    each_number_moves_by_what_was_done(&Node::on(&redis).await).await;
}

async fn each_number_moves_by_what_was_done(node: &Node) {
    let mut expected = Expected::now(node).await;
    for (series, number) in &expected.numbers {
        assert_eq!(*number, 0.0, "{series} of a new node");
    }
    // `connected`, `history`, and for ada `user_joined`; the room is opened with one read.
    let mut ada = Client::in_room(node, "ada", "general").await;
    let mut ben = Client::in_room(node, "ben", "general").await;
    ada.expect("user_joined").await;
    let joined = [
        (CONNECTIONS, 2),
        (RECEIVED, 2),
        (SENT, 5),
        (ROOMS, 1),
        (READS, 1),
    ];
    expected.moves(&joined).await;

    // An ack each, and a message to both.
    for n in 1..=3 {
        ada.say_and_hear("general", &format!("message {n}")).await;
        ben.message().await;
    }
    let said = [
        (RECEIVED, 3),
        (SENT, 9),
        (PUBLISHES, 3),
        (APPENDS, 3),
        (DELIVERIES, 3),
    ];
    expected.moves(&said).await;

    // The second time nothing is stored, and so nothing comes back.
    let once = json!({"roomId": "general", "text": "once", "clientId": "c1"});
    for _ in 0..2 {
        assert_eq!(ada.request("message", once.clone()).await["type"], "ack");
    }
    ben.message().await;
    let repeated = [
        (RECEIVED, 2),
        (SENT, 4),
        (PUBLISHES, 1),
        (APPENDS, 2),
        (DELIVERIES, 1),
    ];
    expected.moves(&repeated).await;

    refusals(&mut expected, &mut ada).await;
    endings(&mut expected).await;

    ben.close().await;
    let closed = [
        (CONNECTIONS, -1),
        ("chat_closes_total{reason=\"by_peer\"}", 1),
        // To ada: `user_left`.
        (SENT, 1),
    ];
    expected.moves(&closed).await;
}

async fn refusals(expected: &mut Expected<'_>, ada: &mut Client) {
    let long = "x".repeat(2_001);
    let elsewhere = json!({"type": "message", "payload": {"roomId": "elsewhere", "text": "x"}});
    let too_long = json!({"type": "message", "payload": {"roomId": "general", "text": long}});
    for (code, request, times) in [
        ("INVALID_JSON", "{".to_owned(), 2),
        ("INVALID_PAYLOAD", "[]".to_owned(), 1),
        ("UNKNOWN_TYPE", json!({"type": "jump"}).to_string(), 3),
        ("INVALID_ROOM", json!({"type": "join"}).to_string(), 1),
        ("NOT_IN_ROOM", elsewhere.to_string(), 1),
        ("MESSAGE_TOO_LONG", too_long.to_string(), 1),
    ] {
        for _ in 0..times {
            ada.send_text(request.clone()).await;
            assert_eq!(ada.expect("error").await["code"], code);
        }
        let errors = format!("chat_errors_total{{code=\"{code}\"}}");
        let refused = [(RECEIVED, times), (SENT, times), (errors.as_str(), times)];
        expected.moves(&refused).await;
    }
}

async fn endings(expected: &mut Expected<'_>) {
    let node = expected.node;
    let garbled = frame(true, TEXT, b"\xff", Some([1, 2, 3, 4]));
    let unmasked = frame(true, TEXT, b"{}", None);
    let long = frame(true, TEXT, &[b'x'; 20_000], Some([1, 2, 3, 4]));
    for (reason, code, bytes) in [
        ("not_utf8", 1007, garbled),
        ("protocol", 1002, unmasked),
        ("too_big", 1009, long),
    ] {
        let mut raw = Raw::open(node.addr, &token("carl")).await;
        raw.expect("connected").await;
        raw.write(&bytes).await;
        assert_eq!(raw.close_code().await, Some(code));
        drop(raw);
        let closes = format!("chat_closes_total{{reason=\"{reason}\"}}");
        expected.moves(&[(SENT, 1), (closes.as_str(), 1)]).await;
    }
    let short = claims(&json!({"userId": "carl", "exp": in_seconds(2)}));
    let mut carl = Connect::to(node).token(&short).open().await;
    assert_eq!(carl.closed(SOON).await, Some(4001));
    let expired = "chat_closes_total{reason=\"expired\"}";
    expected.moves(&[(SENT, 1), (expired, 1)]).await;
}

#[tokio::test]
async fn publishes_are_counted_where_they_are_sent_and_deliveries_where_they_are_made() {
    let redis = Redis::start().await;
    let (a, b) = (Node::on(&redis).await, Node::on(&redis).await);
    // One user, so that nobody enters or leaves while it is counted.
    let mut here = Client::in_room(&a, "ada", "general").await;
    let mut there = Client::in_room(&b, "ada", "general").await;
    let (mut on_a, mut on_b) = (Expected::now(&a).await, Expected::now(&b).await);
    for _ in 0..5 {
        here.say_and_hear("general", "hello").await;
        there.message().await;
    }
    let said = [
        (RECEIVED, 5),
        (SENT, 10),
        (PUBLISHES, 5),
        (APPENDS, 5),
        (DELIVERIES, 5),
    ];
    on_a.moves(&said).await;
    on_b.moves(&[(SENT, 5)]).await;
}

#[tokio::test]
async fn a_lost_subscription_is_a_mend_and_lost_data_a_reset() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    ada.say_and_hear("general", "one").await;
    let before = numbers(&node).await;
    let moved = async |series: &str| numbers(&node).await[series] - before[series];

    redis.kill_clients("pubsub").await;
    eventually(SOON, "a mend", async || moved(MENDS).await == 1.0).await;
    ada.say_and_hear("general", "two").await;
    assert_eq!((moved(MENDS).await, moved(RESETS).await), (1.0, 0.0));

    let deleted: u64 = redis.cli(&["DEL", "chat:history:{general}"]).await;
    assert_eq!(deleted, 1);
    ada.say("general", "another first").await;
    let fresh = ada.expect("history").await;
    assert_eq!(
        (&fresh["recovered"], &fresh["seq"]),
        (&json!(false), &json!(1))
    );
    assert_eq!((moved(MENDS).await, moved(RESETS).await), (2.0, 1.0));
}

/// A socket that is full takes parts of frames, and cursors go back to what it didn't take: each frame is
/// counted once all the same.
#[tokio::test]
async fn what_a_slow_client_is_sent_is_counted_once() {
    const BATCHES: usize = 30;
    const BATCH: usize = 100;
    let node = Node::start(&[("RATE_LIMIT_MESSAGES", "0")]).await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let mut slow = Raw::open_with_buffer(node.addr, &token("slow"), Some(4096)).await;
    slow.send_json(&json!({"type": "join", "payload": {"roomId": "general"}}))
        .await;
    slow.expect("history").await;
    ada.expect("user_joined").await;
    // `connected` and `history` to both, `user_joined` to ada.
    let mut sent = 5;

    let request =
        json!({"type": "message", "payload": {"roomId": "general", "text": "x".repeat(1_900)}});
    let newest = json!(BATCHES * BATCH);
    let is_newest =
        |event: &support::Value| event["type"] == "message" && event["payload"]["seq"] == newest;
    let mut has_newest = false;
    for _ in 0..BATCHES {
        ada.send_all((0..BATCH).map(|_| request.to_string())).await;
        for _ in 0..BATCH {
            ada.expect("ack").await;
        }
        let before = ada.forget();
        sent += BATCH + before.len();
        has_newest = before.iter().any(is_newest);
    }
    // A message may come before the ack of it.
    while !has_newest {
        has_newest = is_newest(&sent_to(&mut ada, &mut sent).await);
    }

    let deadline = Duration::from_secs(30);
    let catches_up = async {
        loop {
            let event = slow.event().await;
            sent += 1;
            if event["payload"]["seq"] == newest {
                break;
            }
        }
    };
    support::within(deadline, "the slow one to catch up", catches_up).await;
    // A reply that takes several writes, and one behind it; and what still came behind the messages.
    let history = json!({"type": "history", "payload": {"roomId": "general", "limit": 100}});
    slow.send_json(&history).await;
    slow.send_json(&json!({"type": "ping"})).await;
    let mut kinds = Vec::new();
    while kinds.last() != Some(&json!("pong")) {
        kinds.push(slow.event().await["type"].take());
    }
    assert!(kinds.contains(&json!("history")), "{kinds:?}");
    sent += kinds.len();
    let counted = async || numbers(&node).await[SENT] == sent as f64;
    eventually(SOON, &format!("{sent} frames to be counted"), counted).await;
}

/// The next event, counted.
async fn sent_to(client: &mut Client, sent: &mut usize) -> support::Value {
    *sent += 1;
    client.next().await
}
