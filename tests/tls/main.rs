//! TLS of the node's own, and TLS between a node and its Redis, with real clients of two makes (rustls,
//! openssl).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod chat;
mod port;
mod redis;
mod reload;
mod start;
mod stream;
mod traffic;

use support::{Certificate, Node};

/// A node that speaks TLS with this certificate, with further variables.
async fn node_with(certificate: &Certificate, env: &[(&str, &str)]) -> Node {
    let (file, key) = (certificate.file(), certificate.key());
    let tls = [("TLS_CERT_FILE", &*file), ("TLS_KEY_FILE", &*key)];
    let env: Vec<_> = tls.into_iter().chain(env.iter().copied()).collect();
    Node::start(&env).await
}
