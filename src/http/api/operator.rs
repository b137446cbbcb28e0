//! What the operator asks of all nodes and tells them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::cursor::{After, behind};
use super::path::UserInPath;
use crate::broker::Unavailable;
use crate::clock::now_ms;
use crate::cluster::{NotAll, Stats};
use crate::http::App;
use crate::http::body::JsonBody;
use crate::http::caller::Operator;
use crate::http::error::HttpError;
use crate::hub::command::Command;
use crate::id::UserId;

/// Users of one page.
const PAGE: usize = 1_000;
/// Longest name of what is broadcast, in bytes.
const MAX_EVENT: usize = 64;

/// The body of `POST /api/broadcast`.
#[derive(Deserialize)]
pub(super) struct Said {
    event: String,
    /// As it was sent, so that no number loses a digit on its way.
    data: Box<RawValue>,
}

/// A page of those who are connected.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Online {
    users: Vec<User>,
    /// `None`: this was the last page.
    next_cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct User {
    user_id: UserId,
    username: Arc<str>,
}

/// `GET /api/stats`: every living node as of its last beat, and all together. 503 while that isn't known.
pub(super) async fn stats(
    _: Operator,
    State(app): State<Arc<App>>,
) -> Result<Json<Stats>, HttpError> {
    app.cluster.stats().map(Json).map_err(unreachable)
}

/// `GET /api/users/online?cursor=`: users with a connection anywhere, each once, as the nodes' last beats
/// told. 503 while the broker can't be reached.
pub(super) async fn online(
    _: Operator,
    After(after): After,
    State(app): State<Arc<App>>,
) -> Result<Json<Online>, HttpError> {
    // One more than a page holds tells whether another follows.
    let found = app.cluster.online(after.as_ref(), PAGE + 1).await;
    let mut users = found.map_err(unreachable)?;
    let more = users.len() > PAGE;
    users.truncate(PAGE);
    let last = users.last().filter(|_| more);
    let next_cursor = last.map(|(user, _)| behind(user));
    let users = users
        .into_iter()
        .map(|(user_id, username)| User { user_id, username });
    Ok(Json(Online {
        users: users.collect(),
        next_cursor,
    }))
}

/// `POST /api/users/{user}/disconnect`: closes the user's connections, on all nodes, with 4002. 204, also where
/// there are none; 503 where a node may not have heard it.
pub(super) async fn disconnect(
    _: Operator,
    UserInPath(user): UserInPath,
    State(app): State<Arc<App>>,
) -> Result<StatusCode, HttpError> {
    tracing::info!(%user, "the operator disconnects a user");
    let user = user.as_str().to_owned();
    say(&app, Command::Disconnect { user }).await
}

/// `POST /api/broadcast`: a `broadcast` event for every connection of every node. 204; 503 where a node may
/// not have heard it, though others may have.
pub(super) async fn broadcast(
    _: Operator,
    State(app): State<Arc<App>>,
    JsonBody(Said { event, data }): JsonBody<Said>,
) -> Result<StatusCode, HttpError> {
    if !(1..=MAX_EVENT).contains(&event.len()) {
        let what = format!("event: must be 1 to {MAX_EVENT} bytes");
        return Err(HttpError::invalid_payload(what));
    }
    tracing::info!(event, "the operator says something to everyone");
    let timestamp = now_ms();
    let broadcast = Command::Broadcast {
        event,
        data,
        timestamp,
    };
    say(&app, broadcast).await
}

async fn say(app: &App, command: Command) -> Result<StatusCode, HttpError> {
    match app.cluster.command(&command).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(NotAll) => Err(HttpError::unavailable(
            "not every node can be reached now: some may have carried it out",
        )),
    }
}

fn unreachable(Unavailable: Unavailable) -> HttpError {
    HttpError::unavailable("the broker can't be reached now: nobody knows about the other nodes")
}
