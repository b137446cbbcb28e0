//! The reference chat's own test client, unchanged, run by Node.js with the `ws` package: it connects
//! with `?token=`, joins `general`, sends after a second and prints what comes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use support::token::SECRET;
use support::{Client, Node, Redis, Value, json, within};
use tokio::process::Command;

#[tokio::test]
async fn it_works_unchanged_with_the_embedded_broker() {
    the_flow(&Node::embedded().await).await;
}

#[tokio::test]
async fn it_works_unchanged_with_redis() {
    let redis = Redis::start().await;
    the_flow(&Node::on(&redis).await).await;
}

async fn the_flow(node: &Node) {
    let mut ada = Client::in_room(node, "ada", "general").await;
    ada.say_and_hear("general", "said before").await;
    let printed = run(node).await;
    let events: Vec<&Value> = printed.iter().filter_map(|line| line.get("got")).collect();
    let of = |kind: &str| {
        let found = events.iter().find(|event| event["type"] == kind);
        found.unwrap_or_else(|| panic!("it got no `{kind}`: {printed:#?}"))["payload"].clone()
    };

    assert_eq!(printed[0], json!({"log": "open"}));
    assert!(
        printed.iter().all(|line| line["isBinary"] != true),
        "{printed:#?}"
    );
    assert_eq!(events[0]["type"], "connected");
    assert_eq!(
        (&of("connected")["userId"], &of("connected")["username"]),
        (&json!("user_001"), &json!("Mario"))
    );

    let history = of("history");
    assert_eq!(history["roomId"], "general");
    assert_eq!(history["messages"][0]["type"], "message");
    assert_eq!(history["messages"][0]["payload"]["text"], "said before");

    let (message, ack) = (of("message"), of("ack"));
    assert_eq!(message["text"], "Ciao a tutti dalla chat!");
    assert_eq!(message["userId"], "user_001");
    assert_eq!(message["roomId"], "general");
    assert_eq!(message["id"], ack["messageId"]);

    assert_eq!(ada.expect("user_joined").await["userId"], "user_001");
    assert_eq!(ada.message().await["text"], "Ciao a tutti dalla chat!");
    assert_eq!(ada.expect("user_left").await["userId"], "user_001");
}

/// Runs the client to its end; what it printed, line by line.
async fn run(node: &Node) -> Vec<Value> {
    let folder = folder();
    assert!(
        folder.join("node_modules/ws").is_dir(),
        "{} isn't prepared: `tests/run` does that",
        folder.display()
    );
    let client = Command::new("node")
        .arg("client.mjs")
        .current_dir(&folder)
        .env("JWT_SECRET", SECRET)
        .env("WS_URL", format!("ws://{}", node.addr))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let limit = Duration::from_secs(20);
    let end = within(limit, "the client's end", client)
        .await
        .expect("Node.js is installed");
    let stdout = String::from_utf8_lossy(&end.stdout);
    let stderr = String::from_utf8_lossy(&end.stderr);
    assert!(end.status.success(), "{}\n{stdout}{stderr}", end.status);
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

/// Where `tests/run` has put the client and its packages.
fn folder() -> PathBuf {
    match std::env::var_os("REFERENCE_CLIENT") {
        Some(folder) => folder.into(),
        None => concat!(env!("CARGO_TARGET_TMPDIR"), "/../reference-client").into(),
    }
}
