//! How much anybody may do, on real nodes with a real Redis: each limit is reached, said, and over when it was said
//! to be; and what is within it goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod crowd;
mod door;
mod far;
mod flood;
mod proxies;
mod rates;
mod recovery;
mod requests;
mod typing;

use std::time::Duration;

use support::{Value, within};

/// That this is a refusal for asking too often; how long to wait.
#[track_caller]
fn wait_of(reply: &Value) -> Duration {
    assert_eq!(reply["type"], "error", "{reply}");
    assert_eq!(reply["payload"]["code"], "RATE_LIMITED", "{reply}");
    let ms = reply["payload"]["retryAfterMs"].as_u64();
    Duration::from_millis(ms.unwrap_or_else(|| panic!("no time in {reply}")))
}
