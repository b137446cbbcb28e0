//! The chat protocol without a JSON parser: a delivery costs the load a few comparisons, so that the
//! server saturates first.
//!
//! The server's events begin with their type, and the text of each message with a token of fixed
//! width, `#P0001S00000001#`: the publisher and its how-manieth message this is.

use super::Result;
use super::shape::room_name;

const MARK: &[u8] = b"\"text\":\"#P";
const PUBLISHER: std::ops::Range<usize> = MARK.len()..MARK.len() + 5;
const SEQUENCE: std::ops::Range<usize> = PUBLISHER.end + 1..PUBLISHER.end + 9;

/// In front of the id of a message, and of the room's name in an ack.
const BEFORE_ID: &str = r#"{"type":"message","payload":{"id":""#;
const BEFORE_ROOM: &[u8] = br#""roomId":"r"#;

/// What messages look like.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    /// Whether each has a `clientId` that the server looks for among those it knows.
    pub(crate) keyed: bool,
    /// Characters of the text, no fewer than the token's.
    pub(crate) text: usize,
}

impl Form {
    /// A text of 32 characters: a delivery has about 210 bytes with a key.
    pub(crate) fn short(keyed: bool) -> Self {
        Self { keyed, text: 32 }
    }
}

/// What the load does with an event.
pub(crate) enum Event<'a> {
    /// A delivery, of this publisher's message with this number; the whole event.
    Message {
        publisher: usize,
        sequence: u32,
        text: &'a [u8],
    },
    /// A request of this connection that concerns this room is done: a message is stored, a room left.
    Ack { room: usize },
    /// This connection is in a room; the whole event.
    History(&'a [u8]),
    /// The connection is gone, which was expected of it.
    Ended,
    /// Of no interest here.
    Other,
}

/// The last message that a client has of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    seq: u64,
    /// As it stands in JSON.
    id: String,
}

impl Place {
    /// Before the first message.
    pub(crate) fn nothing() -> Self {
        Self {
            seq: 0,
            id: "null".to_owned(),
        }
    }

    /// The message's `seq`.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    fn new(seq: &str, id: &str) -> Option<Self> {
        let end = seq.find(|c: char| !c.is_ascii_digit())?;
        Some(Self {
            seq: seq[..end].parse().ok()?,
            id: format!("\"{id}\""),
        })
    }
}

/// The request to join with as little history as may be; with all that came after `since`.
pub(crate) fn join(room: usize, since: Option<&Place>) -> String {
    let room = room_name(room);
    match since {
        None => format!(r#"{{"type":"join","payload":{{"roomId":"{room}","limit":1}}}}"#),
        Some(Place { seq, id }) => format!(
            r#"{{"type":"join","payload":{{"roomId":"{room}","limit":1,"since":{{"seq":{seq},"id":{id}}}}}}}"#
        ),
    }
}

/// The request to leave; the answer to it is an ack.
pub(crate) fn leave(room: usize) -> String {
    let room = room_name(room);
    format!(r#"{{"type":"leave","payload":{{"roomId":"{room}"}},"id":"1"}}"#)
}

/// The request to send a publisher's next message.
pub(crate) fn message(room: usize, publisher: usize, sequence: u32, form: Form) -> String {
    let room = room_name(room);
    let token = format!("#P{publisher:05}S{sequence:08}#");
    let key = if form.keyed {
        format!(r#","clientId":"{publisher:x}-{sequence:x}""#)
    } else {
        String::new()
    };
    let width = form.text;
    format!(
        r#"{{"type":"message","payload":{{"roomId":"{room}","text":"{token:.<width$}"{key}}}}}"#
    )
}

/// Where a message is in its room.
pub(crate) fn place(message: &[u8]) -> Option<Place> {
    let rest = std::str::from_utf8(message).ok()?.strip_prefix(BEFORE_ID)?;
    let (id, rest) = rest.split_once("\",\"seq\":")?;
    Place::new(rest, id)
}

/// What a `history` event says.
pub(crate) struct History {
    /// Publishers and numbers of its messages, oldest first.
    pub(crate) messages: Vec<(usize, u32)>,
    /// The room's newest; `None` in an empty room.
    pub(crate) newest: Option<Place>,
    /// False where it replaces what the client had.
    pub(crate) recovered: bool,
}

/// Reads a `history` event of a join with `since`, or of a server that begins anew.
pub(crate) fn history(event: &[u8]) -> Option<History> {
    let event = std::str::from_utf8(event).ok()?;
    let (messages, tail) = event.rsplit_once("],\"seq\":")?;
    let id = tail.split_once("\"lastId\":\"").map(|(_, rest)| rest);
    let id = id.and_then(|rest| rest.split_once('"')).map(|(id, _)| id);
    let newest = id.and_then(|id| Place::new(tail, id));
    let mark = std::str::from_utf8(MARK).ok()?;
    let messages = messages
        .match_indices(mark)
        .map(|(at, _)| token(&messages.as_bytes()[at..]))
        .collect::<Option<_>>()?;
    Some(History {
        messages,
        newest,
        recovered: tail.contains("\"recovered\":true"),
    })
}

/// Reads events.
#[derive(Default)]
pub(crate) struct Reader {
    /// Where the last message had its token, and the last ack its room: as a rule the next one has it
    /// there too.
    token_at: usize,
    room_at: usize,
}

impl Reader {
    /// # Errors
    /// An `error` event, or a message that this load didn't send.
    #[inline]
    pub(crate) fn read<'a>(&mut self, event: &'a [u8]) -> Result<Event<'a>> {
        let strange = || format!("not ours: {}", event.escape_ascii());
        if event.starts_with(br#"{"type":"message""#) {
            return Ok(self.message(event).ok_or_else(strange)?);
        }
        if event.starts_with(br#"{"type":"ack""#) {
            return Ok(self.ack(event).ok_or_else(strange)?);
        }
        if event.starts_with(br#"{"type":"history""#) {
            return Ok(Event::History(event));
        }
        if event.starts_with(br#"{"type":"error""#) {
            return Err(format!("the server answered {}", event.escape_ascii()).into());
        }
        Ok(Event::Other)
    }

    #[inline]
    fn message<'a>(&mut self, event: &'a [u8]) -> Option<Event<'a>> {
        self.token_at = find(event, MARK, self.token_at)?;
        let (publisher, sequence) = token(event.get(self.token_at..)?)?;
        Some(Event::Message {
            publisher,
            sequence,
            text: event,
        })
    }

    #[inline]
    fn ack<'a>(&mut self, event: &'a [u8]) -> Option<Event<'a>> {
        self.room_at = find(event, BEFORE_ROOM, self.room_at)?;
        let digits = event.get(self.room_at + BEFORE_ROOM.len()..)?;
        let length = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        let room = number(&digits[..length])? as usize;
        Some(Event::Ack { room })
    }
}

/// Where `what` is: at `guess`, or wherever it is first.
#[inline]
fn find(bytes: &[u8], what: &[u8], guess: usize) -> Option<usize> {
    if bytes.get(guess..)?.starts_with(what) {
        return Some(guess);
    }
    bytes.windows(what.len()).position(|window| window == what)
}

/// The publisher and the number in what begins with [`MARK`].
#[inline]
fn token(bytes: &[u8]) -> Option<(usize, u32)> {
    let publisher = number(bytes.get(PUBLISHER)?)? as usize;
    Some((publisher, number(bytes.get(SEQUENCE)?)?))
}

#[inline]
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |n, byte| {
        byte.is_ascii_digit()
            .then(|| n * 10 + u32::from(byte - b'0'))
    })
}
