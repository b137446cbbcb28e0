//! piazza, a chat server that people run themselves: one binary that speaks WebSocket to chat clients
//! and scales by starting more of it beside a Redis.
//!
//! # The idea: a room is a log, everything else is a cursor on it
//!
//! ```text
//!                         client
//!               WebSocket │   ▲ frames, encoded once and shared
//!                         ▼   │
//!    http::upgrade ── auth ◄── keys, limits refuses before the upgrade: 401 403 426 429 503
//!                         │ Identity + socket
//!                         ▼
//!    connection ──── wire ─► protocol::request ─► session
//!         ▲ write                                  │ replies    │ send
//!         │  what lies after its cursors           │            ▼
//!         ├──────────── replies ◄──────────────────┘      hub::outbox ─► broker: embedded | redis
//!         │                                                                  │  one step: dedupe,
//!    hub::room  tail of the log + members ◄── hub::log, the gate ◄── deliver ┘  place, append, publish
//!         │ prev doesn't match? ─► read the history from there on ─► broker
//! ```
//!
//! The broker holds the log of every room. A node holds the tail of each room that has members here,
//! as finished WebSocket frames in one byte log. A member is an offset in it: to join, to resume, to
//! catch up after an outage, and to be slow are one mechanism: put a cursor somewhere and read on. There
//! is no queue per connection.
//!
//! A message goes in through `connection` → `session` → `hub::outbox` → `broker`, and out through `broker` →
//! `hub::log` → `hub::tail` → `connection`. On the way out no JSON is parsed, nothing is allocated per
//! receiver, and no lock is held across an `.await`.
//!
//! # What is promised, and who keeps it
//!
//! | promise | kept by | shown by |
//! |---|---|---|
//! | one order, no holes, no doubles | [`hub::log`], [`hub::tail`] | `tests/chaos`, `connection/model_tests`, `tests/joining.rs` |
//! | resume, or be told that one can't | [`history`] | `tests/protocol/history.rs` |
//! | an ack means stored; a send of unknown fate is found out | [`hub::outbox`], `broker/redis/append.lua` | `tests/broker/unknown_fate.rs` |
//! | the same `clientId` stores once | [`broker`] | `tests/protocol/idempotence.rs` |
//! | requests to one room take effect in order | `connection/lane.rs` | `tests/protocol/requests.rs` |
//! | a slow client costs nothing | `connection/outflow.rs`, [`connection::wire`] | `connection/model_tests`, `tests/slow_client.rs` |
//! | a node that doesn't hear what is published says so, and heals | `broker/redis/link.rs`, `hub/hearing.rs` | `tests/deaf.rs` |
//! | what an operator says reaches every node, or the answer says that it may not have | [`cluster`], [`hub::command`] | `tests/api` |
//! | presence is about users, and heals | [`presence`], [`cluster`], `broker/redis/roster.lua` | `tests/presence` |
//! | nobody has more connections than allowed, over all nodes | [`limits::admission`], `broker/redis/enter.lua` | `tests/limits` |
//! | RFC 6455 to the letter | [`connection::wire`] | `tests/autobahn.rs` |
//! | TLS changes nothing of this | [`connection::stream`], [`tls`] | `tests/tls`, `tests/autobahn.rs` |
//! | a page of another site gets nowhere | [`http::origin`], [`http::hygiene`] | `tests/origin.rs`, `tests/hygiene.rs` |
//! | every wait has a deadline | [`connection::heartbeat`], `broker/redis/link.rs` | `tests/liveness.rs`, `tests/redis_faults.rs` |
//! | a node that stops lets everyone go in order and forgets none | [`drain`], [`shutdown`] | `tests/drain` |
//! | a token proves what its key says it may, and no longer than it lasts | [`auth`], [`keys`], [`connection::refresh`] | `tests/tokens` |
//! | nobody sends more than its share, over all nodes, and who floods is closed | [`broker::toll`], [`limits`], `connection/rates.rs` | `tests/limits`, `tests/broker/rates.rs` |
//! | bad input is answered, and nothing else happens | [`protocol::request`] | `tests/protocol/bad_input.rs` |
//!
//! # Layout, lowest first
//!
//! `tests/architecture.rs` holds that imports point upward in this list and that each outside crate has
//! one door.
//!
//! - [`id`]: names of things, valid by construction; [`clock`]: the time of day; [`maps`]: how they shrink
//! - [`telemetry`], [`metrics`], [`shutdown`], [`tls`]: logs; what is counted and timed; whether the node
//!   goes on, and who is still here; the node's own certificate
//! - [`protocol`]: bytes to requests, events to bytes, frames, close codes
//! - [`keys`]: public keys, out of PEM and JWK sets; weak ones are none
//! - [`config`]: every variable once, checked before anything binds
//! - [`history`]: pages and the resume decision, pure
//! - [`auth`]: a token becomes an identity, by secrets and keys, of which some are fetched
//! - [`presence`]: who is in a room, over all nodes; which nodes live
//! - [`broker`]: the contract, and its two keepers
//! - [`limits`]: how much anybody may do: allow, or say when to come back
//! - [`hub`]: this node's rooms: the gate, the tail, sends, reads
//! - [`cluster`]: this node's lease, who is dead, what is said to all nodes
//! - [`drain`]: lets everyone go, one after another
//! - [`connection`]: one task per connection: stream, wire, session, cursors, clocks
//! - [`http`]: routes, who calls from where, the upgrade, probes, what is under `/api`
//! - [`server`]: builds every part, accepts, ends in order
//! - [`commands`]: what `main` can be told

pub mod auth;
pub mod broker;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod connection;
pub mod drain;
pub mod history;
pub mod http;
pub mod hub;
pub mod id;
pub mod keys;
pub mod limits;
pub mod maps;
pub mod metrics;
pub mod presence;
pub mod protocol;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
