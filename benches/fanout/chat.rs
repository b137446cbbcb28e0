//! The chat protocol without a JSON parser: a delivery costs the load a few comparisons, so that the
//! server saturates first.
//!
//! The server's events begin with their type, and the text of each message with a token of fixed
//! width, `#P0001S00000001#`: the publisher and its how-manieth message this is.

use crate::Result;

const MARK: &[u8] = b"\"text\":\"#P";
const PUBLISHER: std::ops::Range<usize> = MARK.len()..MARK.len() + 4;
const SEQUENCE: std::ops::Range<usize> = PUBLISHER.end + 1..PUBLISHER.end + 9;

/// After the token, up to a text of 32 characters: a delivery has about 190 bytes.
const PADDING: &str = "................";

/// What the load does with an event.
pub(crate) enum Event {
    /// A delivery, of this publisher's message with this number.
    Message { publisher: usize, sequence: u32 },
    /// A message of this connection is stored.
    Ack,
    /// This connection has joined.
    History,
    /// Of no interest here.
    Other,
}

/// The request to join with as little history as may be.
pub(crate) fn join(room: &str) -> String {
    format!(r#"{{"type":"join","payload":{{"roomId":"{room}","limit":1}}}}"#)
}

/// The request to send a publisher's next message.
pub(crate) fn message(room: &str, publisher: usize, sequence: u32) -> String {
    let text = format!("#P{publisher:04}S{sequence:08}#{PADDING}");
    format!(r#"{{"type":"message","payload":{{"roomId":"{room}","text":"{text}"}}}}"#)
}

/// Reads events.
#[derive(Default)]
pub(crate) struct Reader {
    /// Where the last message had its token: as a rule the next one has it there too.
    token_at: usize,
}

impl Reader {
    /// # Errors
    /// An `error` event, or a message that this load didn't send.
    #[inline]
    pub(crate) fn read(&mut self, event: &[u8]) -> Result<Event> {
        if event.starts_with(br#"{"type":"message""#) {
            return self
                .message(event)
                .ok_or_else(|| format!("not ours: {}", event.escape_ascii()).into());
        }
        if event.starts_with(br#"{"type":"ack""#) {
            return Ok(Event::Ack);
        }
        if event.starts_with(br#"{"type":"history""#) {
            return Ok(Event::History);
        }
        if event.starts_with(br#"{"type":"error""#) {
            return Err(format!("the server answered {}", event.escape_ascii()).into());
        }
        Ok(Event::Other)
    }

    #[inline]
    fn message(&mut self, event: &[u8]) -> Option<Event> {
        if !event.get(self.token_at..)?.starts_with(MARK) {
            self.token_at = event.windows(MARK.len()).position(|bytes| bytes == MARK)?;
        }
        let token = event.get(self.token_at..)?;
        let publisher = number(token.get(PUBLISHER)?)? as usize;
        Some(Event::Message {
            publisher,
            sequence: number(token.get(SEQUENCE)?)?,
        })
    }
}

#[inline]
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |n, byte| {
        byte.is_ascii_digit()
            .then(|| n * 10 + u32::from(byte - b'0'))
    })
}
