//! Requests of a connection that are no messages, and of a user over HTTP.

use std::time::Duration;

use tokio_tungstenite::tungstenite::Message;

use super::support::{Client, Node, Redis, SOON, http, json, token};
use super::wait_of;

/// A node where a connection may ask so often.
async fn limited(redis: &Redis, limit: &str, window: &str) -> Node {
    let env = [
        ("RATE_LIMIT_REQUESTS", limit),
        ("RATE_LIMIT_WINDOW", window),
    ];
    Node::on_with(redis, &env).await
}

/// Pings so often, each answered.
async fn ping(client: &mut Client, count: usize) {
    for _ in 0..count {
        client.assert_alive().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_too_many_is_refused_and_nothing_is_done() {
    let redis = Redis::start().await;
    let node = limited(&redis, "20", "10m").await;
    let mut ada = Client::in_room(&node, "ada", "red").await;
    ping(&mut ada, 19).await;
    for (kind, payload) in [
        ("ping", json!({})),
        ("join", json!({"roomId": "blue"})),
        ("history", json!({"roomId": "red"})),
        ("users", json!({"roomId": "red"})),
        ("leave", json!({"roomId": "red"})),
        ("nonsense", json!({})),
    ] {
        let reply = ada.request(kind, payload.clone()).await;
        let wait = wait_of(&reply);
        assert!(wait > Duration::from_secs(500) && wait <= Duration::from_secs(600));
        assert_eq!(reply["payload"]["roomId"], payload["roomId"], "{reply}");
    }
    // It has left nothing and joined nothing; messages have a limit of their own.
    ada.say("red", "still here").await;
    let reply = ada
        .request("message", json!({"roomId": "blue", "text": "x"}))
        .await;
    wait_of(&reply);
    // Another connection has a window of its own.
    Client::in_room(&node, "ada", "red")
        .await
        .assert_alive()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_reply_is_refused_by_an_error_all_the_same() {
    let redis = Redis::start().await;
    let node = limited(&redis, "5", "10m").await;
    let mut ada = Client::in_room(&node, "ada", "red").await;
    let mut ben = Client::in_room(&node, "ben", "red").await;
    ping(&mut ada, 4).await;
    ada.send("typing", json!({"roomId": "red", "isTyping": true}))
        .await;
    let error = ada.expect("error").await;
    assert_eq!(
        (&error["code"], &error["roomId"]),
        (&json!("RATE_LIMITED"), &json!("red"))
    );
    ada.say("red", "x").await;
    ben.message().await;
    ben.expect_no("typing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_messages_that_come_to_nothing_count() {
    let redis = Redis::start().await;
    let node = limited(&redis, "12", "10m").await;
    let mut ada = Client::of(&node, "ada").await;
    for text in ["{", "[]", r#"{"type":"message"}"#, "", "\u{0}", "{}"] {
        ada.send_text(text).await;
        assert_ne!(ada.expect("error").await["code"], "RATE_LIMITED", "{text}");
    }
    for _ in 0..5 {
        let stray = json!({"roomId": "red", "text": "x"});
        let reply = ada.request("message", stray).await;
        assert_eq!(reply["payload"]["code"], "NOT_IN_ROOM", "{reply}");
    }
    ada.send_frame(Message::binary(vec![0xff_u8, 0xfe])).await;
    assert_eq!(ada.expect("error").await["code"], "INVALID_JSON");
    for text in ["{", "[]", r#"{"type":"message"}"#] {
        ada.send_text(text).await;
        assert_eq!(ada.expect("error").await["code"], "RATE_LIMITED", "{text}");
    }
    let stray = json!({"roomId": "red", "text": "x"});
    wait_of(&ada.request("message", stray).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_in_turn_and_who_waits_is_let_in() {
    let redis = Redis::start().await;
    let node = limited(&redis, "10", "2s").await;
    let mut ada = Client::in_room(&node, "ada", "red").await;
    let ask = |n: usize| {
        let kind = ["message", "history", "users"][n % 3];
        let payload = json!({"roomId": "red", "text": "x"});
        json!({"type": kind, "id": n.to_string(), "payload": payload}).to_string()
    };
    ada.send_all((0..60).map(ask)).await;
    let (mut next, mut wait, mut refused) = (0, Duration::ZERO, 0);
    while next < 60 {
        let event = ada.next().await;
        if !event["id"].is_string() {
            continue;
        }
        assert_eq!(event["id"], next.to_string(), "out of turn: {event}");
        if event["type"] == "error" {
            assert_ne!(next % 3, 0, "a message was refused: {event}");
            wait = wait.max(wait_of(&event));
            refused += 1;
        }
        next += 1;
    }
    // The join and nine of the forty.
    assert_eq!(refused, 31);
    tokio::time::sleep(wait).await;
    ping(&mut ada, 10).await;
    wait_of(&ada.request("ping", json!({})).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_a_user_has_a_window_as_well() {
    let redis = Redis::start().await;
    let node = limited(&redis, "3", "10m").await;
    let ask = async |user: &str| {
        let bearer = format!("Bearer {}", token(user));
        let headers = [("Authorization", bearer.as_str())];
        http::send(node.addr, "GET", "/api/rooms/red/users", &headers, None).await
    };
    for _ in 0..3 {
        assert_eq!(ask("ada").await.status, 200);
    }
    let refused = ask("ada").await;
    refused.assert_refusal(429, "RATE_LIMITED");
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(after > 500 && after <= 600, "{after}");
    assert_eq!(ask("ben").await.status, 200);
    // The connections of hers are counted by themselves.
    let mut ada = Client::of(&node, "ada").await;
    ping(&mut ada, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_a_connection_asks_as_it_likes() {
    let redis = Redis::start().await;
    let node = limited(&redis, "0", "10m").await;
    let mut ada = Client::of(&node, "ada").await;
    let ping = json!({"type": "ping"}).to_string();
    ada.send_all(std::iter::repeat_n(ping, 2_000)).await;
    for _ in 0..2_000 {
        ada.expect_within(SOON, "pong").await;
    }
}
