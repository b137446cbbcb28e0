//! Presence over three real nodes and a real Redis: who is in a room, whoever is connected where, and
//! whatever stops, freezes or forgets meanwhile. The watchers fail at the first event that breaks the
//! promise: two joins of a user in a row, or a leave without a join.
//!
//! `PRESENCE_RUNS` (default 1) repeats the deaths whose time is measured, `PRESENCE_CROWD` (default 500)
//! is how many enter one room while another one is timed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod comebacks;
mod costs;
mod crowds;
mod deaths;
mod drains;
mod outages;
mod town;
mod users;
mod watcher;
