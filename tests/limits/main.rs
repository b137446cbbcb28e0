//! What one user, one address may have, over two real nodes and a real Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod door;
mod proxies;
mod recovery;
