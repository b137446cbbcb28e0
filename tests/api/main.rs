//! `/api` from outside, on real nodes, a real Redis and the embedded broker: what the operator asks and
//! orders, who is in a room, and what nobody else gets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod caller;
mod commands;
mod company;
mod numbers;
mod online;
mod refusals;
mod rooms;
