//! The opening handshake, judged: what a client may send on the port, byte by byte, and the answer that it
//! must get, with the section that says so. Straight to a node, and through nginx what might make the two
//! disagree about where a request ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod fields;
mod messages;
mod opening;
mod smuggling;
mod tokens;

use case::Case;
use support::{Client, Node};

/// Every table, on one node, which is as it was after all of them.
#[tokio::test]
async fn every_handshake_gets_the_answer_it_must() {
    let node = Node::start(&[("HANDSHAKE_TIMEOUT", "2s"), ("RATE_LIMIT_CONNECTS", "0")]).await;
    let cases: Vec<Case> = [
        opening::cases(),
        messages::cases(),
        fields::cases(),
        tokens::cases(),
    ]
    .concat();
    assert!(cases.len() > 100, "only {}", cases.len());
    let mut wrong = Vec::new();
    for run in cases.chunks(16) {
        let judged = futures_util::future::join_all(run.iter().map(|case| case.judge(node.addr)));
        wrong.extend(judged.await.into_iter().filter_map(Result::err));
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    println!("{} handshakes", cases.len());
    Client::of(&node, "ada").await.assert_alive().await;
}
