//! The wire protocol, request by request, from outside. Every test runs twice: on a node with the
//! embedded broker and on one with a real Redis. What holds on one has to hold on the other.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

/// Makes of each `async fn name(broker: Broker)` two tests.
macro_rules! on_both_brokers {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::Broker::embedded()).await;
            })+
        }
        mod redis {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::Broker::redis().await).await;
            })+
        }
    };
}

mod bad_input;
mod frames;
mod history;
mod idempotence;
mod presence;
mod requests;

use std::collections::BTreeSet;

use support::{Node, Redis, Value};

/// What the nodes of a test meet in.
pub(crate) struct Broker(Option<Redis>);

impl Broker {
    pub(crate) fn embedded() -> Self {
        Self(None)
    }

    pub(crate) async fn redis() -> Self {
        Self(Some(Redis::start().await))
    }

    /// A node on it.
    pub(crate) async fn node(&self) -> Node {
        self.node_with(&[]).await
    }

    /// A node on it with further variables.
    pub(crate) async fn node_with(&self, env: &[(&str, &str)]) -> Node {
        match &self.0 {
            Some(redis) => Node::on_with(redis, env).await,
            None => Node::start(env).await,
        }
    }
}

/// That this object has these fields and no others.
#[track_caller]
pub(crate) fn assert_fields(object: &Value, expected: &[&str]) {
    let fields = object
        .as_object()
        .unwrap_or_else(|| panic!("no object: {object}"));
    let fields: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
    assert_eq!(fields, expected.iter().copied().collect(), "{object}");
}

/// That this is an error with this code, whose message names what is wrong.
#[track_caller]
pub(crate) fn assert_error(reply: &Value, code: &str, named: &str) {
    assert_eq!(reply["type"], "error", "wanted {code}: {reply}");
    assert_eq!(reply["payload"]["code"], code, "{reply}");
    let message = reply["payload"]["message"].as_str().expect("a message");
    assert!(message.contains(named), "`{named}` is not named: {reply}");
}

/// The texts of a `history` payload, oldest first.
pub(crate) fn texts(history: &Value) -> Vec<&str> {
    let messages = history["messages"].as_array().expect("messages");
    messages
        .iter()
        .map(|message| message["payload"]["text"].as_str().expect("a text"))
        .collect()
}
