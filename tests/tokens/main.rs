//! Tokens against real nodes: every kind of key and every refusal, keys that are fetched and change, a
//! secret that is rotated, the end of a token and the next one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod expiry;
mod fetched;
mod files;
mod grants;
mod keys;
mod kinds;
mod rotation;
mod source;

use support::http::Response;
use support::{Node, Value, http, json};

/// Claims of `ada` that are good for an hour.
pub(crate) fn ada() -> Value {
    json!({"userId": "ada", "exp": support::token::in_seconds(3600)})
}

/// How a node answers an upgrade with this token.
pub(crate) async fn upgrade(node: &Node, token: &str) -> Response {
    http::upgrade(node.addr, &format!("/?token={token}"), &[]).await
}

/// That a node lets this token in.
pub(crate) async fn assert_accepted(node: &Node, token: &str, what: &str) {
    let response = upgrade(node, token).await;
    assert_eq!(response.status, 101, "{what}: {response:?}");
}

/// That a node refuses this token with 401, and says so.
pub(crate) async fn assert_denied(node: &Node, token: &str, said: &str, what: &str) {
    let response = upgrade(node, token).await;
    assert_eq!(response.status, 401, "{what}: {response:?}");
    let body = response.json();
    assert_eq!(body["code"], "UNAUTHORIZED", "{what}: {body}");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains(said), "{what}: {message}");
}

/// That a node can't tell whether this token is good.
pub(crate) async fn assert_unknowable(node: &Node, token: &str, what: &str) {
    let response = upgrade(node, token).await;
    assert_eq!(response.status, 503, "{what}: {response:?}");
    assert_eq!(response.json()["code"], "UNAVAILABLE", "{what}");
    assert!(response.header("retry-after").is_some(), "{what}");
}
