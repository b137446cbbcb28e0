//! A user of Redis with the rights that the README names, and no more: they are enough for everything.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use rustix::process::Signal;
use support::{Client, Node, Redis, SOON, eventually, http, json, within};

const PASSWORD: &str = "the-password-of-redis";
const KEY: &str = "the-key-of-the-operator";

/// The command as it stands in the README, with a password.
fn setuser() -> Vec<String> {
    let readme = include_str!("../README.md");
    let at = readme.find("ACL SETUSER").expect("the command");
    let command = readme[at..].split('`').next().expect("its end");
    let words = command.split_whitespace();
    words
        .map(|word| word.replace("PASSWORD", PASSWORD))
        .collect()
}

#[tokio::test]
async fn the_rights_that_the_readme_names_are_enough() {
    let redis = Redis::start().await;
    let command = setuser();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let _: String = redis.cli(&command).await;
    let url = redis
        .url()
        .replace("redis://", &format!("redis://{}:{PASSWORD}@", command[2]));
    let env = [
        ("REDIS_URL", url.as_str()),
        ("API_KEY", KEY),
        ("MAX_CONNECTIONS_PER_IP", "100"),
        ("RATE_LIMIT_CONNECTS", "600"),
        ("RATE_LIMIT_MESSAGES", "60"),
    ];
    let (one, mut two) = (Node::start(&env).await, Node::start(&env).await);
    for node in [&one, &two] {
        eventually(SOON, "the node to be ready", || async {
            http::get(node.addr, "/ready").await.status == 200
        })
        .await;
    }

    // Rooms, presence, rates, a repeated send.
    let mut ada = Client::in_room(&one, "ada", "general").await;
    let mut ben = Client::in_room(&two, "ben", "general").await;
    assert_eq!(ada.expect("user_joined").await["userId"], "ben");
    let named = json!({"roomId": "general", "text": "heard by all", "clientId": "c"});
    ben.request("message", named.clone()).await;
    assert_eq!(ada.message().await["text"], "heard by all");
    let again = ben.request("message", named).await;
    assert_eq!(again["payload"]["duplicate"], true, "{again}");
    ada.send("typing", json!({"roomId": "general", "isTyping": true}))
        .await;
    assert_eq!(ben.expect("typing").await["userId"], "ada");

    // What the operator asks and orders; a connection that broke; a node that died.
    let bearer = format!("Bearer {KEY}");
    let headers = [("Authorization", bearer.as_str())];
    let online = http::send(one.addr, "GET", "/api/users/online", &headers, None).await;
    assert_eq!(online.status, 200, "{online:?}");
    redis.kill_clients("normal").await;
    let payload = json!({"roomId": "general", "text": "after it was cut"});
    let sent = async { while ada.request("message", payload.clone()).await["type"] != "ack" {} };
    within(SOON, "the connection to Redis to be back", sent).await;
    two.signal(Signal::KILL);
    two.exit(SOON).await;
    let left = ada
        .expect_within(Duration::from_secs(12), "user_left")
        .await;
    assert_eq!(left["userId"], "ben");

    let denied: Vec<redis::Value> = redis.cli(&["ACL", "LOG"]).await;
    assert!(denied.is_empty(), "{denied:?}");
}
