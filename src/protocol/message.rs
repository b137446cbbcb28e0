//! The form of a stored message. A node writes everything but the place; the broker puts that in:
//!
//! ```text
//! {"type":"message","payload":{"id":"V1StGXR8_Z5j","seq":42,"roomId":"general",…}}
//! └──────── head ─────────────────────────────────┘  └──────── body ───────────────┘
//! ```
//!
//! The bytes in the history, on the channel and to the client are these same bytes. Since id and place
//! come first and in this order, they are found without parsing JSON, here and in the Lua scripts.

use std::io::Write;

use serde::Serialize;

use crate::id::{Mark, MessageId, RoomId, Seq, ShortId, UserId};

const BEFORE_ID: &[u8] = br#"{"type":"message","payload":{"id":""#;
const BEFORE_SEQ: &[u8] = br#"","seq":"#;

/// What a message says, from whom and when: all that doesn't depend on its place.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Content<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// The sender.
    pub user_id: &'a UserId,
    /// The sender's name.
    pub username: &'a str,
    /// The text as it is delivered.
    pub text: &'a str,
    /// When the node took it, Unix milliseconds.
    pub timestamp: u64,
    /// The sender's own id for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a str>,
    /// The message it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<&'a str>,
}

impl Content<'_> {
    /// The body: what follows the place, to the end of the envelope.
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(192 + self.text.len());
        // A vector takes all bytes and these types have no keys but strings: it can't fail.
        let _ = serde_json::to_writer(&mut body, self);
        if let Some(brace) = body.first_mut() {
            *brace = b',';
        }
        body.push(b'}');
        body
    }
}

/// Puts a message together as it is stored.
pub fn entry(mark: Mark, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_entry(&mut out, mark, body);
    out
}

/// The same, behind what `out` holds.
pub fn put_entry(out: &mut Vec<u8>, mark: Mark, body: &[u8]) {
    out.reserve(BEFORE_ID.len() + ShortId::LEN + BEFORE_SEQ.len() + 20 + body.len());
    out.extend_from_slice(BEFORE_ID);
    out.extend_from_slice(mark.id.as_str().as_bytes());
    out.extend_from_slice(BEFORE_SEQ);
    // A vector takes all bytes.
    let _ = write!(out, "{}", mark.seq);
    out.extend_from_slice(body);
}

/// The place and id of a stored message; `None` where the bytes have not that form.
pub fn mark(entry: &[u8]) -> Option<Mark> {
    let rest = entry.strip_prefix(BEFORE_ID)?;
    let (id, rest) = rest.split_at_checked(ShortId::LEN)?;
    let rest = rest.strip_prefix(BEFORE_SEQ)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=16).contains(&digits) || rest.get(digits) != Some(&b',') {
        return None;
    }
    let seq = rest[..digits]
        .iter()
        .fold(0, |seq, digit| seq * 10 + u64::from(digit - b'0'));
    let id = MessageId::parse(id)?;
    (1..=Seq::MAX.0)
        .contains(&seq)
        .then_some(Mark { seq: Seq(seq), id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_valid_json_and_tells_its_mark() {
        let (room, user) = (
            RoomId::parse("general").unwrap(),
            UserId::parse("u1").unwrap(),
        );
        let content = Content {
            room_id: &room,
            user_id: &user,
            username: "Ann",
            text: "<b>\n\"hi\"",
            timestamp: 7,
            client_id: Some("c1"),
            reply_to: None,
        };
        let wanted = Mark {
            seq: Seq(42),
            id: MessageId::random(),
        };
        let entry = entry(wanted, &content.body());
        assert_eq!(mark(&entry), Some(wanted));
        assert!(!entry.contains(&b'\n'));
        let read: serde_json::Value = serde_json::from_slice(&entry).unwrap();
        let expected = serde_json::json!({"type": "message", "payload": {
            "id": wanted.id.as_str(), "seq": 42, "roomId": "general", "userId": "u1", "username": "Ann",
            "text": "<b>\n\"hi\"", "timestamp": 7, "clientId": "c1"}});
        assert_eq!(read, expected);
    }

    #[test]
    fn what_has_another_form_has_no_mark() {
        let good = entry(
            Mark {
                seq: Seq(7),
                id: MessageId::random(),
            },
            b",\"x\":1}}",
        );
        assert!(mark(&good).is_some());
        for cut in 0..good.len() - 7 {
            assert_eq!(mark(&good[..cut]), None);
        }
        let text = String::from_utf8(good).unwrap();
        assert_eq!(mark(text.replace(":7,", ":0,").as_bytes()), None);
        assert_eq!(
            mark(text.replace(":7,", ":99999999999999999,").as_bytes()),
            None
        );
        assert_eq!(mark(text.replace(":7,", ":7}").as_bytes()), None);
    }
}
