//! What a path names, percent-decoded: 400 where it can't be such a thing.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::http::error::HttpError;
use crate::id::{RoomId, UserId};

/// The `{room}` of a path; otherwise 400 `INVALID_ROOM`.
pub(super) struct RoomInPath(pub RoomId);

/// The `{user}` of a path; otherwise 400 `INVALID_PAYLOAD`.
pub(super) struct UserInPath(pub UserId);

/// What stands in a path that has one name in it, or what is wrong with it.
async fn name<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, &'static str> {
    let name = Path::<String>::from_request_parts(parts, state).await;
    name.map(|Path(name)| name).map_err(|_| "must be UTF-8")
}

impl<S: Send + Sync> FromRequestParts<S> for RoomInPath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<RoomInPath, HttpError> {
        let name = name(parts, state).await;
        let room = name.and_then(|name| RoomId::parse(&name));
        room.map(RoomInPath)
            .map_err(|what| HttpError::invalid_room(format!("room: {what}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for UserInPath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<UserInPath, HttpError> {
        let name = name(parts, state).await;
        let user = name.and_then(|name| UserId::parse(&name));
        user.map(UserInPath)
            .map_err(|what| HttpError::invalid_payload(format!("user: {what}")))
    }
}
