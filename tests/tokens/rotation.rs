//! A secret is replaced over two nodes without anybody being logged out: first every node learns the new
//! one, then tokens are made with it, then every node forgets the old one.

use jsonwebtoken::Header;

use crate::support::token::signed;
use crate::support::{Client, Connect, Node, Redis};
use crate::{ada, assert_accepted, assert_denied};

const OLD: &str = "the-old-secret-of-the-tests-0123456789";
const NEW: &str = "the-new-secret-of-the-tests-0123456789";

fn by(secret: &str) -> String {
    signed(&Header::default(), &ada(), secret)
}

async fn node(redis: &Redis, current: &str, previous: &str) -> Node {
    let env = [("JWT_SECRET", current), ("JWT_PREVIOUS_SECRET", previous)];
    Node::on_with(redis, &env).await
}

async fn connect(node: &Node, secret: &str) -> Client {
    Connect::to(node).token(&by(secret)).open().await
}

#[tokio::test]
async fn nobody_is_logged_out_while_the_secret_changes() {
    let redis = Redis::start().await;
    // Each step restarts one node after the other, so both sorts serve at a time. In circulation are the
    // tokens that the issuer made until then.
    let steps = [
        ((OLD, ""), (OLD, NEW), &[OLD][..]),
        ((OLD, NEW), (NEW, OLD), &[OLD, NEW]),
        ((NEW, OLD), (NEW, ""), &[NEW]),
    ];
    for (before, after, circulating) in steps {
        let not_yet = node(&redis, before.0, before.1).await;
        let restarted = node(&redis, after.0, after.1).await;
        for secret in circulating {
            // Who has to go from the one comes to the other with the same token.
            let mut there = connect(&restarted, secret).await;
            there.join("r").await;
            let mut here = connect(&not_yet, secret).await;
            here.join("r").await;
            let ack = here.say("r", "ciao").await;
            assert_eq!(there.message().await["id"], ack["messageId"]);
        }
    }
    let done = node(&redis, NEW, "").await;
    assert_accepted(&done, &by(NEW), "the new one").await;
    assert_denied(&done, &by(OLD), "signature", "the old one").await;
}
