//! Bytes that are made to hurt, sent to a running node: over its port, before and after the handshake.
//! Whatever comes, it answers in the form that it must, and has after it what it had before: no panic, no
//! socket, no memory. `FUZZ_SECONDS` (2) bounds each target, `FUZZ_SEED` begins it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../model/mutate.rs"]
mod mutate;
#[path = "../support/mod.rs"]
mod support;

mod frames;
mod port;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use support::{Client, Node, SOON, eventually};

/// What the operator shows.
const KEY: &str = "the-key-of-the-fuzzed-operator";
/// So many do it side by side: some wait for a deadline.
const SIDE_BY_SIDE: u64 = 8;
/// What the node may have more after it than after a first round, in bytes.
const GROWTH: u64 = 16 << 20;

/// A node that lets go of everything soon, so that what it keeps too long shows.
async fn node() -> Node {
    let env = [
        ("API_KEY", KEY),
        ("HANDSHAKE_TIMEOUT", "100ms"),
        ("HISTORY_TTL", "1s"),
        ("MAX_CONNECTIONS_PER_USER", "0"),
        ("RATE_LIMIT_CONNECTS", "0"),
        ("RATE_LIMIT_MESSAGES", "0"),
        ("RATE_LIMIT_REQUESTS", "0"),
    ];
    Node::start(&env).await
}

/// Lets `judge` try inputs of this corpus, twice, and looks at what is left of them in the node.
async fn fuzz(name: &'static str, judge: fn(SocketAddr, &[u8])) {
    let node = node().await;
    let files = node.open_files();
    let mut count = round(node.addr, name, 0, judge).await;
    settled(&node, files).await;
    let memory = node.memory();
    count += round(node.addr, name, SIDE_BY_SIDE, judge).await;
    settled(&node, files).await;
    let grown = node.memory().saturating_sub(memory);
    println!("{name}: {count} inputs, {memory} bytes and {grown} more");
    assert!(grown < GROWTH, "{grown} bytes more");
    let panicked = node
        .logs()
        .into_iter()
        .find(|line| line.contains("panicked"));
    assert_eq!(panicked, None);
    Client::of(&node, "ada").await.assert_alive().await;
}

async fn round(
    addr: SocketAddr,
    name: &'static str,
    from: u64,
    judge: fn(SocketAddr, &[u8]),
) -> u64 {
    let threads = (from..from + SIDE_BY_SIDE).map(|nth| {
        tokio::task::spawn_blocking(move || mutate::fuzz(name, nth, |input| judge(addr, input)))
    });
    let counts = futures_util::future::join_all(threads).await;
    counts
        .into_iter()
        .map(|count| count.expect("no panic"))
        .sum()
}

/// Waits until every socket is gone.
async fn settled(node: &Node, files: usize) {
    eventually(SOON * 2, "every socket to be gone", || async {
        node.open_files() <= files
    })
    .await;
}

/// Writes what the server takes.
fn write(stream: &mut TcpStream, bytes: &[u8]) {
    // It may have closed already.
    let _ = stream.write_all(bytes);
}

/// Reads what comes until the server ends the stream, which it must.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(SOON * 3)).expect("a timeout");
    let (mut all, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(read) => all.extend_from_slice(&buffer[..read]),
            // It ended it with input unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("no end: {error}"),
        }
    }
}

/// Reads the head of a response, and not a byte more.
fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(SOON * 3)).expect("a timeout");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole head");
        head.extend_from_slice(&byte);
    }
    head
}

/// A stream to the node; it takes as many as there are.
fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    stream
}
