//! What goes over a room's channel: one payload per append, or one event that isn't kept.
//!
//! ```text
//! m<prev>\n<message>\n<message>…    prev: the id of the message before the first one, empty if none
//! e<event>                          an event as it goes to the clients
//! ```
//!
//! JSON as this server writes it has no raw line breaks, so they part messages. `prev` chains payloads:
//! who holds another newest message than `prev` knows that something is missing or forked.

use crate::id::MessageId;

/// A payload, taken apart.
pub enum Payload<'a> {
    /// Messages, in the order of their places.
    Messages {
        /// The id of the message before the first.
        prev: Option<MessageId>,
        /// The messages, parted by line breaks.
        lines: &'a [u8],
    },
    /// An event that isn't kept.
    Event(&'a [u8]),
}

/// Takes a payload apart; `None` where it has not the form.
pub fn parse(payload: &[u8]) -> Option<Payload<'_>> {
    match payload.split_first()? {
        (b'm', rest) => {
            let end = rest.iter().position(|b| *b == b'\n')?;
            let (prev, lines) = (&rest[..end], &rest[end + 1..]);
            let prev = if prev.is_empty() {
                None
            } else {
                Some(MessageId::parse(prev)?)
            };
            Some(Payload::Messages { prev, lines })
        }
        (b'e', event) if !event.is_empty() => Some(Payload::Event(event)),
        _ => None,
    }
}

/// The payload of an append.
pub fn messages<'m>(prev: Option<MessageId>, messages: impl Iterator<Item = &'m [u8]>) -> Vec<u8> {
    let mut out = vec![b'm'];
    if let Some(prev) = prev {
        out.extend_from_slice(prev.as_str().as_bytes());
    }
    for message in messages {
        out.push(b'\n');
        out.extend_from_slice(message);
    }
    out
}

/// The payload of an event.
pub fn event(event: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + event.len());
    out.push(b'e');
    out.extend_from_slice(event);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_read_back() {
        let prev = MessageId::random();
        for prev in [None, Some(prev)] {
            let written = messages(prev, [&b"{1}"[..], b"{2}"].into_iter());
            let Some(Payload::Messages { prev: read, lines }) = parse(&written) else {
                panic!("no messages")
            };
            assert_eq!((read, lines), (prev, &b"{1}\n{2}"[..]));
        }
        assert!(matches!(parse(&event(b"{}")), Some(Payload::Event(b"{}"))));
    }

    #[test]
    fn other_bytes_are_no_payload() {
        for bad in [&b""[..], b"m", b"mshort\n{}", b"e", b"x{}", b"m{}"] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
