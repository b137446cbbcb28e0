//! What the parts of a message's way and of a connect take, each by itself: nanoseconds on this machine, with the
//! bytes or the elements that they are for. What may not grow is `tests/guard`'s to hold, by instructions; this
//! is for whoever works at one of the parts.
//!
//! `cargo bench --bench micro`, or `cargo bench --bench micro -- request` for a part of it.
//!
//! [`way`]: a message in, through the gate, and out · [`door`]: the token, and the form of an upgrade ·
//! [`node`]: a hub with members, and an append's call to Redis.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    dead_code,
    reason = "whatever fails ends the run; the macros of criterion make functions without docs"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

// What the guard counts is what is timed here.
#[path = "../../tests/guard/work/node.rs"]
mod stand;

mod door;
mod node;
mod way;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    way::requests,
    way::frames,
    way::payloads,
    way::gate,
    way::drain,
    node::deliveries,
    node::append,
    door::tokens,
    door::upgrade,
);
criterion_main!(benches);
