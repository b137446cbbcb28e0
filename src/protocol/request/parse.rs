//! Reads a frame. Faults are looked for in the order that the protocol gives: the frame and its
//! envelope, `type`, `roomId`, the other fields, the length of the text, the room's being private.

use super::fields::{self, Field, MAX_CLIENT_TEXT, NoObject};
use super::{ErrorCode, Limits, Parsed, Refusal, Request, RequestId, Send, Since};
use crate::config::Secret;
use crate::id::{Mark, MessageId, RoomId, Seq};

/// `limit` where the client gives none.
const DEFAULT_LIMIT: usize = 50;
/// How much of an unknown `type` is said back, in characters.
const MAX_QUOTED_TYPE: usize = 64;

/// Reads one frame. Costs time and memory in proportion to its length, whatever it holds.
pub fn parse(frame: &[u8], limits: Limits) -> Parsed {
    let envelope = std::str::from_utf8(frame)
        .map_err(|_| NoObject::NotJson)
        .and_then(|json| fields::read(json, ["type", "payload", "id"]));
    let [kind, payload, id] = match envelope {
        Ok(fields) => fields,
        Err(fault) => {
            let request = Err(not_an_envelope(fault));
            return Parsed { id: None, request };
        }
    };
    // A bad id is a fault like that of any other field, told in its turn.
    let (id, id_fault) = match id.client_text() {
        Ok(id) => (id.map(RequestId), None),
        Err(fault) => (None, Some(fault)),
    };
    let request = read_request(kind, payload, id_fault, limits);
    Parsed { id, request }
}

fn not_an_envelope(fault: NoObject) -> Refusal {
    match fault {
        NoObject::NotJson => Refusal::new(ErrorCode::InvalidJson, "the frame is not JSON in UTF-8"),
        NoObject::OtherValue => {
            Refusal::new(ErrorCode::InvalidPayload, "the frame must be an object")
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Join,
    Leave,
    Message,
    Typing,
    History,
    Users,
    Refresh,
    Ping,
}

/// The fields of every kind of payload; each kind looks at its own.
struct Payload<'a> {
    room: Field<'a>,
    text: Field<'a>,
    client_id: Field<'a>,
    reply_to: Field<'a>,
    is_typing: Field<'a>,
    limit: Field<'a>,
    before: Field<'a>,
    since: Field<'a>,
    token: Field<'a>,
}

const PAYLOAD_FIELDS: [&str; 9] = [
    "roomId", "text", "clientId", "replyTo", "isTyping", "limit", "before", "since", "token",
];

fn read_request(
    kind: Field<'_>,
    payload: Field<'_>,
    id_fault: Option<Refusal>,
    limits: Limits,
) -> Result<Request, Refusal> {
    let [
        room,
        text,
        client_id,
        reply_to,
        is_typing,
        limit,
        before,
        since,
        token,
    ] = fields::read(payload.json().unwrap_or("{}"), PAYLOAD_FIELDS)
        .map_err(|_| payload.must_be("an object"))?;
    let payload = Payload {
        room,
        text,
        client_id,
        reply_to,
        is_typing,
        limit,
        before,
        since,
        token,
    };
    let kind = read_kind(kind)?;
    if let Kind::Ping | Kind::Refresh = kind {
        return match id_fault {
            Some(fault) => Err(fault),
            None if kind == Kind::Ping => Ok(Request::Ping),
            None => read_refresh(payload.token),
        };
    }
    let room = read_room(kind, payload.room)?;
    let request = match id_fault {
        None => read_payload(kind, &room, &payload, limits),
        Some(fault) => Err(fault),
    };
    match request {
        // Private rooms are opened by `direct` alone, which is not there yet: nobody is in one.
        Ok(_) if room.is_private() => {
            let message = "`roomId` names a private room of others";
            Err(Refusal::new(ErrorCode::Forbidden, message).in_room(room))
        }
        request => request.map_err(|refusal| refusal.in_room(room)),
    }
}

fn read_kind(field: Field<'_>) -> Result<Kind, Refusal> {
    let unknown = |message| Refusal::new(ErrorCode::UnknownType, message);
    let Some(name) = field.given().and_then(fields::text) else {
        return Err(unknown("`type` must be a string".to_owned()));
    };
    Ok(match &*name {
        "join" => Kind::Join,
        "leave" => Kind::Leave,
        "message" => Kind::Message,
        "typing" => Kind::Typing,
        "history" => Kind::History,
        "users" => Kind::Users,
        "refresh" => Kind::Refresh,
        "ping" => Kind::Ping,
        other => {
            let quoted: String = other.chars().take(MAX_QUOTED_TYPE).collect();
            return Err(unknown(format!("`type` is unknown: \"{quoted}\"")));
        }
    })
}

fn read_room(kind: Kind, field: Field<'_>) -> Result<RoomId, Refusal> {
    let Some(json) = field.given() else {
        let code = match kind {
            // As the reference has it.
            Kind::Message => ErrorCode::InvalidPayload,
            _ => ErrorCode::InvalidRoom,
        };
        return Err(Refusal::new(code, "`roomId` is missing"));
    };
    let invalid = |why| Refusal::new(ErrorCode::InvalidRoom, format!("`roomId` {why}"));
    let id = fields::text(json).ok_or_else(|| invalid("must be a string"))?;
    RoomId::parse(&id).map_err(invalid)
}

fn read_payload(
    kind: Kind,
    room: &RoomId,
    payload: &Payload<'_>,
    limits: Limits,
) -> Result<Request, Refusal> {
    let room = room.clone();
    Ok(match kind {
        Kind::Join => Request::Join {
            room,
            limit: read_limit(payload.limit, limits)?,
            since: read_since(payload.since)?,
        },
        Kind::Leave => Request::Leave { room },
        Kind::Message => Request::Message(read_send(room, payload, limits)?),
        Kind::Typing => Request::Typing {
            room,
            is_typing: match payload.is_typing.given() {
                Some("true") => true,
                Some("false") => false,
                _ => return Err(payload.is_typing.must_be("true or false")),
            },
        },
        Kind::History => Request::History {
            room,
            limit: read_limit(payload.limit, limits)?,
            before: read_before(payload.before)?,
        },
        Kind::Users => Request::Users { room },
        Kind::Refresh => read_refresh(payload.token)?,
        Kind::Ping => Request::Ping,
    })
}

fn read_refresh(field: Field<'_>) -> Result<Request, Refusal> {
    let token = field.given().and_then(fields::text);
    let token = token.filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| field.must_be("a non-empty string"))?;
    Ok(Request::Refresh {
        token: Secret::new(token),
    })
}

fn read_send(room: RoomId, payload: &Payload<'_>, limits: Limits) -> Result<Send, Refusal> {
    let not_text = || payload.text.must_be("a non-empty string");
    let text = payload.text.given().and_then(fields::text);
    let text = text.filter(|text| !text.is_empty()).ok_or_else(not_text)?;
    let client_id = payload.client_id.client_text()?;
    let reply_to = payload.reply_to.client_text()?;
    // No text has more UTF-16 units than bytes, so most need no counting.
    if text.len() > limits.max_text && text.encode_utf16().count() > limits.max_text {
        let message = format!("`text` is over {} UTF-16 units", limits.max_text);
        return Err(Refusal::new(ErrorCode::MessageTooLong, message));
    }
    let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if trimmed.is_empty() {
        return Err(not_text());
    }
    let text = match trimmed.len() == text.len() {
        true => text.into_owned(),
        false => trimmed.to_owned(),
    };
    Ok(Send {
        room,
        text,
        client_id,
        reply_to,
    })
}

fn read_limit(field: Field<'_>, limits: Limits) -> Result<usize, Refusal> {
    let most = limits.history.max(1);
    let Some(json) = field.given() else {
        return Ok(DEFAULT_LIMIT.min(most));
    };
    let limit = fields::number(json).ok_or_else(|| field.must_be("a number"))?;
    // The cast cuts fractions off and saturates.
    Ok((limit as usize).clamp(1, most))
}

fn read_before(field: Field<'_>) -> Result<Option<Seq>, Refusal> {
    let Some(json) = field.given() else {
        return Ok(None);
    };
    let place = fields::whole(json).ok_or_else(|| field.must_be("a whole number from 0 up"))?;
    Ok(Some(Seq(place).min(Seq::MAX)))
}

fn read_since(field: Field<'_>) -> Result<Option<Since>, Refusal> {
    let Some(json) = field.given() else {
        return Ok(None);
    };
    let [seq, id] = fields::read(json, ["seq", "id"])
        .map_err(|_| field.must_be("an object with `seq` and `id`"))?;
    let (seq, id) = (seq.called("since.seq"), id.called("since.id"));
    let place = seq.given().and_then(fields::whole).map(Seq);
    let place = place
        .filter(|place| *place <= Seq::MAX)
        .ok_or_else(|| seq.must_be("a whole number from 0 to 2^53 - 1"))?;
    let id = match id.given() {
        None if place == Seq::ZERO => return Ok(Some(Since::Nothing)),
        None => return Err(id.must_be("a string unless `since.seq` is 0")),
        Some(json) => fields::text(json)
            .filter(|id| id.len() <= MAX_CLIENT_TEXT)
            .ok_or_else(|| id.must_be("a string of at most 64 bytes"))?,
    };
    Ok(Some(match MessageId::parse(id.as_bytes()) {
        Some(id) if place > Seq::ZERO => Since::After(Mark { seq: place, id }),
        _ => Since::Unknown,
    }))
}
