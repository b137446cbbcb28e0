//! What a node holds for connections: while they are idle, after a load has passed over them, and when they
//! have gone. Anonymous memory is looked at (`RssAnon`), as the kernel counts it; what an idle connection takes
//! is the difference that the later ones make, so what a node takes once isn't in it.
//!
//! The bounds leave room above what was measured (2.4 to 2.8 KiB idle, 4.6 MB a minute after all had gone): what is
//! given back when is the system's to say, too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncReadExt;

use support::{Client, Node, Raw, Redis, eventually, json, raise_nofile, token, within};

/// KiB of an idle connection in a room of ten, at most.
const IDLE: u64 = 4;
/// MiB that a load leaves behind in a room of 500, at most: what the room and the threads hold, of which
/// nothing is a connection's.
const AFTER_LOAD: u64 = 3;
/// MiB over the beginning that a node holds a minute after all have gone, at most.
const AFTER_ALL: u64 = 6;
/// What is given back is given back by then.
const A_MINUTE: Duration = Duration::from_secs(60);

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Who enter at once.
const CROWD: usize = 50;

/// A node with the default limits, as far as one address can meet them.
async fn node(redis: &Redis) -> Node {
    let env = [
        ("HEARTBEAT_INTERVAL", "300s"),
        ("LOG_LEVEL", "info"),
        ("MAX_CONNECTIONS_PER_IP", "100000"),
        ("RATE_LIMIT_MESSAGES", "10000"),
        ("RATE_LIMIT_REQUESTS", "600"),
    ];
    Node::on_with(redis, &env).await
}

/// So many in rooms of so many, each with a user of its own.
async fn joined(node: &Node, name: &str, count: usize, of: usize) -> Vec<Raw> {
    let mut all = Vec::new();
    for crowd in (0..count).collect::<Vec<_>>().chunks(CROWD) {
        let enter = crowd.iter().map(async |nth| {
            let mut raw = Raw::open(node.addr, &token(&format!("{name}-user-{nth}"))).await;
            let room = format!("{name}-room-{}", nth / of);
            raw.send_json(&json!({"type": "join", "payload": {"roomId": room}}))
                .await;
            raw.expect("history").await;
            raw
        });
        all.extend(join_all(enter).await);
    }
    all
}

#[tokio::test]
async fn an_idle_connection_takes_little_and_nothing_once_it_has_gone() {
    raise_nofile();
    let redis = Redis::start().await;
    let node = node(&redis).await;
    let beginning = node.anonymous_memory();
    // What a node takes once, and what its maps take at a time.
    let first = joined(&node, "first", 500, 10).await;
    let before = node.anonymous_memory();
    let more = joined(&node, "more", 3_000, 10).await;
    let each = || (node.anonymous_memory().saturating_sub(before)) / more.len() as u64;
    // What handshakes took for a moment is given back some seconds later.
    let is_small = async || each() <= IDLE * KIB;
    eventually(A_MINUTE, "idle connections to take little", is_small).await;
    drop((first, more));
    let is_given_back = async || node.anonymous_memory() <= beginning + AFTER_ALL * MIB;
    eventually(A_MINUTE, "their memory to be given back", is_given_back).await;
}

#[tokio::test]
async fn a_load_leaves_nothing_with_the_connections_that_it_passed_over() {
    raise_nofile();
    let redis = Redis::start().await;
    let node = node(&redis).await;
    let crowd = joined(&node, "crowd", 500, 500).await;
    let mut sender = Client::in_room(&node, "sender", "crowd-room-0").await;
    let before = node.anonymous_memory();
    // As many as fill the room's tail, read by everybody.
    let last = "the last one";
    let readers = crowd
        .into_iter()
        .map(|raw| tokio::spawn(read_to(raw, last)));
    let readers: Vec<_> = readers.collect();
    let text = "x".repeat(1_000);
    for _ in 0..500 {
        let message = json!({"roomId": "crowd-room-0", "text": text});
        sender.send("message", message).await;
    }
    let message = json!({"roomId": "crowd-room-0", "text": last});
    sender.send("message", message).await;
    let crowd = within(A_MINUTE, "everybody to have read", join_all(readers)).await;
    let is_small = async || node.anonymous_memory() <= before + AFTER_LOAD * MIB;
    eventually(A_MINUTE, "the load to leave nothing", is_small).await;
    drop(crowd);
}

/// Reads until something with that text came, and gives the connection back.
async fn read_to(mut raw: Raw, text: &str) -> Raw {
    let mut input = Vec::new();
    while !input
        .windows(text.len())
        .any(|some| some == text.as_bytes())
    {
        let kept = input.len().saturating_sub(text.len());
        input.drain(..kept);
        let read = within(A_MINUTE, "input", raw.stream.read_buf(&mut input)).await;
        assert!(read.expect("the stream goes on") > 0, "it ended");
    }
    raw
}
