//! What the server says, encoded once into a finished text frame. Every event is a struct whose fields
//! are the payload's; `type` comes first and the request's `id` last.

use std::cell::RefCell;

use serde::Serialize;

use crate::id::{MessageId, NodeId, RoomId, Seq, ShortId, UserId};
use crate::protocol::frame;
use crate::protocol::request::{Refusal, RequestId};

/// A payload and the type it goes under.
pub trait Event: Serialize {
    /// The envelope's `type`.
    const TYPE: &'static str;
}

macro_rules! event {
    ($(#[$doc:meta])* $name:ident = $kind:literal { $($(#[$field:meta])* $f:ident: $t:ty,)* }) => {
        $(#[$doc])*
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        #[allow(missing_docs)] // protocol.md's table tells each field
        pub struct $name<'a> { $($(#[$field])* pub $f: $t,)* }
        impl Event for $name<'_> { const TYPE: &'static str = $kind; }
    };
}

event! {
    /// The first event of a connection: who it is and which bounds hold.
    Connected = "connected" {
        user_id: &'a UserId,
        username: &'a str,
        timestamp: u64,
        connection_id: ShortId,
        node_id: &'a NodeId,
        heartbeat_ms: u64,
        expires_at: u64,
        max_text_length: usize,
        max_frame_bytes: usize,
        /// Lasting memberships; there are none yet.
        rooms: &'a [RoomId],
    }
}

event! {
    /// A message is stored and published.
    Ack = "ack" {
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<MessageId>,
        room_id: &'a RoomId,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<Seq>,
        #[serde(skip_serializing_if = "Option::is_none")]
        timestamp: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<&'a str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    }
}

event! {
    /// A request was refused; nothing came of it.
    Error = "error" {
        code: &'static str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        room_id: Option<&'a RoomId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    }
}

event! {
    /// A user's first connection entered the room.
    UserJoined = "user_joined" {
        room_id: &'a RoomId,
        user_id: &'a UserId,
        username: &'a str,
        timestamp: u64,
    }
}

event! {
    /// A user's last connection left the room.
    UserLeft = "user_left" {
        room_id: &'a RoomId,
        user_id: &'a UserId,
        username: &'a str,
        timestamp: u64,
    }
}

event! {
    /// Somebody types, or no longer does.
    Typing = "typing" {
        room_id: &'a RoomId,
        user_id: &'a UserId,
        username: &'a str,
        is_typing: bool,
        timestamp: u64,
    }
}

event! {
    /// Who is in the room: the count of all, and at most 1,000 of them.
    Users = "users" {
        room_id: &'a RoomId,
        count: usize,
        users: Vec<User<'a>>,
    }
}

event! {
    /// What an operator says to everyone.
    Broadcast = "broadcast" {
        event: &'a str,
        data: &'a serde_json::value::RawValue,
        timestamp: u64,
    }
}

event! {
    /// This connection is closed next; the client is to come back after that long, to any node.
    Reconnect = "reconnect" {
        reason: &'a str,
        delay_ms: u64,
    }
}

event! {
    /// The connection goes on with the new token, until then (Unix milliseconds).
    Refreshed = "refreshed" {
        expires_at: u64,
        /// Ties the lifetime that all events have.
        #[serde(skip)]
        lifetime: std::marker::PhantomData<&'a ()>,
    }
}

event! {
    /// The answer to `ping`.
    Pong = "pong" {
        timestamp: u64,
        /// Ties the lifetime that all events have.
        #[serde(skip)]
        lifetime: std::marker::PhantomData<&'a ()>,
    }
}

/// One user of a `users` event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User<'a> {
    /// The user.
    pub user_id: &'a UserId,
    /// Its name.
    pub username: &'a str,
}

impl<'a> From<&'a Refusal> for Error<'a> {
    fn from(refusal: &'a Refusal) -> Error<'a> {
        Error {
            code: refusal.code.as_str(),
            message: &refusal.message,
            room_id: refusal.room.as_ref(),
            retry_after_ms: refusal.retry_after_ms,
        }
    }
}

/// What a `history` event says beside the messages.
pub struct History<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// The newest message's place and id, wherever the page lies.
    pub head: Option<crate::id::Mark>,
    /// Whether the page continues what the client has; `None` where it didn't ask.
    pub recovered: Option<bool>,
    /// Whether the history holds messages older than the page's.
    pub has_more: bool,
}

thread_local! {
    /// Where JSON is written before its length, and with it the frame's header, is known.
    static JSON: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Above this the thread's JSON buffer isn't kept for the next event.
const KEPT_JSON: usize = 64 * 1024;

fn put(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut json = JSON.take();
    json.clear();
    write(&mut json);
    frame::put_text(out, &json);
    if json.capacity() <= KEPT_JSON {
        JSON.set(json);
    }
}

fn put_value(json: &mut Vec<u8>, value: &impl Serialize) {
    // A vector takes all bytes and no event has a key that is no string: it can't fail.
    let _ = serde_json::to_writer(json, value);
}

fn put_end(json: &mut Vec<u8>, id: Option<&RequestId>) {
    if let Some(id) = id {
        json.extend_from_slice(b",\"id\":");
        put_value(json, id);
    }
    json.push(b'}');
}

fn put_envelope<E: Event>(json: &mut Vec<u8>, event: &E, id: Option<&RequestId>) {
    json.extend_from_slice(b"{\"type\":\"");
    json.extend_from_slice(E::TYPE.as_bytes());
    json.extend_from_slice(b"\",\"payload\":");
    put_value(json, event);
    put_end(json, id);
}

/// Whether an event says who comes, goes or is there.
pub fn is_presence(json: &[u8]) -> bool {
    // `user_joined`, `user_left`, `users`: no other type begins so.
    json.starts_with(b"{\"type\":\"user")
}

/// An event's JSON, without a frame.
pub fn json<E: Event>(event: &E) -> Vec<u8> {
    let mut json = Vec::new();
    put_envelope(&mut json, event, None);
    json
}

/// Appends an event as a frame; `id` is the request's that it directly answers.
pub fn put_event<E: Event>(out: &mut Vec<u8>, event: &E, id: Option<&RequestId>) {
    put(out, |json| put_envelope(json, event, id));
}

/// Appends a `history` event; the messages are whole envelopes, oldest first, taken as they are.
pub fn put_history<'m>(
    out: &mut Vec<u8>,
    history: &History<'_>,
    messages: impl Iterator<Item = &'m [u8]>,
    id: Option<&RequestId>,
) {
    put(out, |json| {
        json.extend_from_slice(b"{\"type\":\"history\",\"payload\":{\"roomId\":");
        put_value(json, history.room);
        json.extend_from_slice(b",\"messages\":[");
        for (n, message) in messages.enumerate() {
            if n > 0 {
                json.push(b',');
            }
            json.extend_from_slice(message);
        }
        json.extend_from_slice(b"],\"seq\":");
        put_value(json, &history.head.map_or(Seq::ZERO, |head| head.seq));
        json.extend_from_slice(b",\"lastId\":");
        put_value(json, &history.head.map(|head| head.id));
        if let Some(recovered) = history.recovered {
            json.extend_from_slice(b",\"recovered\":");
            put_value(json, &recovered);
        }
        json.extend_from_slice(b",\"hasMore\":");
        put_value(json, &history.has_more);
        json.push(b'}');
        put_end(json, id);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Mark;

    fn payload_of(frame: &[u8]) -> serde_json::Value {
        let skip = frame.len().min(frame::frame_len(frame).unwrap()) - frame.len();
        assert_eq!(skip, 0);
        let start = frame.iter().position(|b| *b == b'{').unwrap();
        serde_json::from_slice(&frame[start..]).unwrap()
    }

    #[test]
    fn an_event_leaves_out_what_it_has_not() {
        let room = RoomId::parse("r").unwrap();
        let mut out = Vec::new();
        let ack = Ack {
            message_id: None,
            room_id: &room,
            seq: None,
            timestamp: None,
            client_id: None,
            duplicate: false,
        };
        put_event(&mut out, &ack, None);
        assert_eq!(
            payload_of(&out),
            serde_json::json!({"type": "ack", "payload": {"roomId": "r"}})
        );
    }

    #[test]
    fn a_history_of_an_empty_room_says_null() {
        let room = RoomId::parse("r").unwrap();
        let mut out = Vec::new();
        let none = History {
            room: &room,
            head: None,
            recovered: Some(false),
            has_more: false,
        };
        put_history(&mut out, &none, [].into_iter(), None);
        let expected = serde_json::json!({"type": "history", "payload": {"roomId": "r", "messages": [], "seq": 0,
            "lastId": null, "recovered": false, "hasMore": false}});
        assert_eq!(payload_of(&out), expected);
    }

    #[test]
    fn a_long_history_has_a_long_header() {
        let room = RoomId::parse("r").unwrap();
        let message = format!(
            "{{\"type\":\"message\",\"payload\":\"{}\"}}",
            "x".repeat(70_000)
        );
        let head = Some(Mark {
            seq: Seq(1),
            id: MessageId::random(),
        });
        let mut out = Vec::new();
        let history = History {
            room: &room,
            head,
            recovered: None,
            has_more: false,
        };
        put_history(&mut out, &history, [message.as_bytes()].into_iter(), None);
        let start = frame::MAX_HEADER;
        let read: serde_json::Value = serde_json::from_slice(&out[start..]).unwrap();
        assert_eq!(
            read["payload"]["messages"][0]["payload"]
                .as_str()
                .unwrap()
                .len(),
            70_000
        );
        assert_eq!(read["payload"].get("recovered"), None);
    }
}
