//! Why a request was not carried out: the error codes of the protocol and what an `error` reply says.

use std::borrow::Cow;

use crate::id::RoomId;
use crate::metrics::Label;

/// The `code` of an `error` reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorCode {
    /// The frame is not JSON (RFC 8259) in UTF-8.
    InvalidJson,
    /// `type` is missing or names no request.
    UnknownType,
    /// `roomId` is missing or names no possible room.
    InvalidRoom,
    /// Any other field is missing or of the wrong form.
    InvalidPayload,
    /// `text` has more UTF-16 units than are allowed.
    MessageTooLong,
    /// The connection is not in that room.
    NotInRoom,
    /// A fault of the server's own.
    InternalError,
    /// The token does not grant that room, or it is a private room of others.
    Forbidden,
    /// A `refresh` with a token that does not hold.
    Unauthorized,
    /// Too many requests; the reply says when the next one may come.
    RateLimited,
    /// The connection is in as many rooms as it may be.
    TooManyRooms,
    /// The broker cannot be reached now: nothing was stored.
    Unavailable,
}

impl Label for ErrorCode {
    const ALL: &'static [ErrorCode] = &[
        ErrorCode::InvalidJson,
        ErrorCode::UnknownType,
        ErrorCode::InvalidRoom,
        ErrorCode::InvalidPayload,
        ErrorCode::MessageTooLong,
        ErrorCode::NotInRoom,
        ErrorCode::InternalError,
        ErrorCode::Forbidden,
        ErrorCode::Unauthorized,
        ErrorCode::RateLimited,
        ErrorCode::TooManyRooms,
        ErrorCode::Unavailable,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        self.as_str()
    }
}

impl ErrorCode {
    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidJson => "INVALID_JSON",
            ErrorCode::UnknownType => "UNKNOWN_TYPE",
            ErrorCode::InvalidRoom => "INVALID_ROOM",
            ErrorCode::InvalidPayload => "INVALID_PAYLOAD",
            ErrorCode::MessageTooLong => "MESSAGE_TOO_LONG",
            ErrorCode::NotInRoom => "NOT_IN_ROOM",
            ErrorCode::InternalError => "INTERNAL_ERROR",
            ErrorCode::Forbidden => "FORBIDDEN",
            ErrorCode::Unauthorized => "UNAUTHORIZED",
            ErrorCode::RateLimited => "RATE_LIMITED",
            ErrorCode::TooManyRooms => "TOO_MANY_ROOMS",
            ErrorCode::Unavailable => "UNAVAILABLE",
        }
    }
}

/// What an `error` reply says. It never ends the connection by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which error it is.
    pub code: ErrorCode,
    /// A sentence for people, which names the field that is wrong. Of what the client sent it holds
    /// at most the `type`, cut to 64 characters.
    pub message: Cow<'static, str>,
    /// The room that it concerns, where there is one.
    pub room: Option<RoomId>,
    /// After how many milliseconds the request may be sent again, where that is known.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal that concerns no room.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            room: None,
            retry_after_ms: None,
        }
    }

    /// The same, about `room`.
    pub fn in_room(self, room: RoomId) -> Refusal {
        Refusal {
            room: Some(room),
            ..self
        }
    }

    /// The same, with the time after which the request may be sent again, in milliseconds.
    pub fn retry_after(self, ms: u64) -> Refusal {
        Refusal {
            retry_after_ms: Some(ms),
            ..self
        }
    }
}
