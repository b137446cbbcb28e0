//! The end of a node that is told to stop: protocol.md's "Draining", from outside, on real parts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod company;
mod member;
mod phases;
mod rolling;
