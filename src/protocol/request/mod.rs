//! What a client may ask for: one frame's bytes are read into a [`Request`] that is valid in every
//! field, or into the [`Refusal`] that the `error` reply carries. Whether the connection is in the
//! room, may join it, or asks too often is not known here.
//!
//! The requests are here; `parse` reads one, `fields` knows JSON, `refusal` says why not.

mod fields;
mod parse;
mod refusal;
#[cfg(test)]
mod tests;

use serde::{Serialize, Serializer};

pub use self::parse::parse;
pub use self::refusal::{ErrorCode, Refusal};
use crate::config::Secret;
use crate::id::{Mark, RoomId, Seq};

/// Bounds that the configuration sets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest text, in UTF-16 units.
    pub max_text: usize,
    /// Most messages of one `history` reply (`MESSAGE_HISTORY_LIMIT`), at least 1.
    pub history: usize,
}

/// A client's own request id, 1 to 64 bytes, echoed in the direct reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// One frame, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// The request's id, if it has a valid one; also where the request is refused.
    pub id: Option<RequestId>,
    /// What it asks for, or why that is refused.
    pub request: Result<Request, Refusal>,
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Become a member of the room and get its history.
    Join {
        /// The room.
        room: RoomId,
        /// Most messages in the reply, from 1 to [`Limits::history`]; a resume goes beyond it.
        limit: usize,
        /// What the client has already.
        since: Option<Since>,
    },
    /// Stop being a member of the room.
    Leave {
        /// The room.
        room: RoomId,
    },
    /// Say something in the room.
    Message(Send),
    /// Tell the members that one is typing, or no longer.
    Typing {
        /// The room.
        room: RoomId,
        /// Whether one is typing.
        is_typing: bool,
    },
    /// Read the room's messages.
    History {
        /// The room.
        room: RoomId,
        /// Most messages in the reply, from 1 to [`Limits::history`].
        limit: usize,
        /// Only those before this place; the newest if absent.
        before: Option<Seq>,
    },
    /// Who is in the room.
    Users {
        /// The room.
        room: RoomId,
    },
    /// Go on with another token.
    Refresh {
        /// The token, not empty, as it came.
        token: Secret,
    },
    /// A `pong`.
    Ping,
}

impl Request {
    /// The room that it concerns, if it does one.
    pub fn room(&self) -> Option<&RoomId> {
        match self {
            Request::Join { room, .. }
            | Request::Leave { room }
            | Request::Message(Send { room, .. })
            | Request::Typing { room, .. }
            | Request::History { room, .. }
            | Request::Users { room } => Some(room),
            Request::Refresh { .. } | Request::Ping => None,
        }
    }
}

/// A message to be stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Send {
    /// The room.
    pub room: RoomId,
    /// The text: not empty, trimmed of white space, at most [`Limits::max_text`] UTF-16 units.
    pub text: String,
    /// The client's name for this send, 1 to 64 bytes: the same one again is the same send again.
    pub client_id: Option<Box<str>>,
    /// The id of the message that it answers, 1 to 64 bytes, not looked up.
    pub reply_to: Option<Box<str>>,
}

/// The last message of a room that a client has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// It has none (`{seq: 0, id: null}`).
    Nothing,
    /// It has all up to this one.
    After(Mark),
    /// It names one that cannot be here, such as one with another server's kind of id; nothing is
    /// ever recovered from it.
    Unknown,
}
