//! Who is in a room, over HTTP.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::path::RoomInPath;
use crate::broker::Unavailable;
use crate::http::App;
use crate::http::caller::UserOrOperator;
use crate::http::error::HttpError;
use crate::id::RoomId;

/// `GET /api/rooms/{room}/users`: who is there, on all nodes: the count of all and at most 1,000 of them, the
/// payload of the WebSocket's `users`. 503 while the broker can't be reached.
pub(super) async fn users(
    caller: UserOrOperator,
    RoomInPath(room): RoomInPath,
    State(app): State<Arc<App>>,
) -> Result<Response, HttpError> {
    granted(&caller, &room)?;
    let users = app.hub.users(&room).await.map_err(|Unavailable| {
        HttpError::unavailable("the broker can't be reached now: nobody knows who is there")
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], users).into_response())
}

/// The same rooms as over a WebSocket. Nobody opens a private room yet, so it is nobody's.
fn granted(caller: &UserOrOperator, room: &RoomId) -> Result<(), HttpError> {
    let UserOrOperator::User(identity) = caller else {
        return Ok(());
    };
    if room.is_private() {
        return Err(HttpError::forbidden(
            "room: this is a private room of others",
        ));
    }
    if !identity.grants.allow(room.as_str()) {
        return Err(HttpError::forbidden(
            "room: the token doesn't grant this room",
        ));
    }
    Ok(())
}
