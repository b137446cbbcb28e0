//! What is under `/api`: who is in a room (a user whom the token grants the room, or the operator), and
//! what the operator alone asks and orders. A handler takes its caller first, so that nobody else learns
//! what is wrong with a request.
//!
//! - `operator`: all nodes' numbers, everyone who is connected, what is said to all nodes
//! - `rooms`: who is in a room
//! - `path`, `cursor`: what a path and a query say

mod cursor;
mod operator;
mod path;
mod rooms;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::App;

/// The routes under `/api`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/stats", get(operator::stats))
        .route("/api/users/online", get(operator::online))
        .route("/api/users/{user}/disconnect", post(operator::disconnect))
        .route("/api/broadcast", post(operator::broadcast))
        .route("/api/rooms/{room}/users", get(rooms::users))
}
