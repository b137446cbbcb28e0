//! piazza, a chat server that people run themselves.
pub mod auth;
pub mod broker;
pub mod commands;
pub mod config;
pub mod connection;
pub mod history;
pub mod http;
pub mod hub;
pub mod id;
pub mod presence;
pub mod protocol;
pub mod server;
pub mod shutdown;
pub mod telemetry;
