//! What goes over a room's channel: one payload per append, or one event that isn't kept.
//!
//! ```text
//! m<prev>\n<message>\n<message>…    prev: the id of the message before the first one, empty if none
//! e<event>                          an event as it goes to the clients; an empty one only shows that the
//!                                   channel brings what is said in it
//! p<prev>\n<place> <id>\n<change>…   changes of the room's roster, and the version that they made;
//!                                   prev: the id of the version before
//! ```
//!
//! A change is `["<incarnation>","<user>","<name>"]`, or without a name where the entry was removed.
//! JSON as this server writes it has no raw line breaks, so they part messages. `prev` chains payloads:
//! who holds another newest message than `prev` knows that something is missing or forked.

use std::borrow::Cow;

use crate::id::{Incarnation, Mark, MessageId, Seq, ShortId, UserId};
use crate::presence::{Change, Published};

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
    /// Nothing: whoever listens hears that it does.
    Probe,
    /// Changes of the roster.
    Roster(Published),
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
        (b'e', []) => Some(Payload::Probe),
        (b'e', event) => Some(Payload::Event(event)),
        (b'p', rest) => Some(Payload::Roster(roster(std::str::from_utf8(rest).ok()?)?)),
        _ => None,
    }
}

/// Whether it is, or means to be, changes of the roster.
pub fn is_roster(payload: &[u8]) -> bool {
    payload.first() == Some(&b'p')
}

fn roster(text: &str) -> Option<Published> {
    let mut lines = text.split('\n');
    let prev = match lines.next()? {
        "" => None,
        prev => Some(ShortId::parse(prev.as_bytes())?),
    };
    let (seq, id) = lines.next()?.split_once(' ')?;
    let version = Mark {
        seq: Seq(seq.parse().ok()?),
        id: ShortId::parse(id.as_bytes())?,
    };
    let changes: Option<Vec<Change>> = lines.map(read_change).collect();
    Some(Published {
        prev,
        version,
        changes: changes?,
    })
}

fn read_change(line: &str) -> Option<Change> {
    let words: Vec<Cow<'_, str>> = serde_json::from_str(line).ok()?;
    let (incarnation, user, name) = match &words[..] {
        [incarnation, user] => (incarnation, user, None),
        [incarnation, user, name] => (incarnation, user, Some(name)),
        _ => return None,
    };
    Some(Change {
        incarnation: Incarnation::parse(incarnation.as_bytes())?,
        user: UserId::parse(user).ok()?,
        name: name.map(|name| (&**name).into()),
    })
}

/// A change as it is published.
pub fn change(change: &Change) -> Vec<u8> {
    let (incarnation, user) = (change.incarnation.as_str(), change.user.as_str());
    let words = [Some(incarnation), Some(user), change.name.as_deref()];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    // A list of strings always has a JSON form.
    serde_json::to_vec(&words).unwrap_or_default()
}

/// The payload of changes of a roster.
pub fn changes(published: &Published) -> Vec<u8> {
    let prev = published.prev.as_ref().map_or("", ShortId::as_str);
    let Mark { seq, id } = published.version;
    let mut out = format!("p{prev}\n{seq} {id}").into_bytes();
    for one in &published.changes {
        out.push(b'\n');
        out.extend_from_slice(&change(one));
    }
    out
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
    fn changes_of_a_roster_read_back() {
        let change = |name: Option<&str>| Change {
            incarnation: Incarnation::random(),
            user: UserId::parse("a\n\"b\t").unwrap(),
            name: name.map(Into::into),
        };
        let published = Published {
            prev: Some(ShortId::random()),
            version: Mark {
                seq: Seq(7),
                id: ShortId::random(),
            },
            changes: vec![change(Some("A\n\\ B")), change(None)],
        };
        let Some(Payload::Roster(read)) = parse(&changes(&published)) else {
            panic!("no changes")
        };
        assert_eq!(read, published);
    }

    #[test]
    fn other_bytes_are_no_payload() {
        for bad in [
            &b""[..],
            b"m",
            b"mshort\n{}",
            b"x{}",
            b"m{}",
            b"p",
            b"p\n1 short",
            b"p\n1 abcdefghijkl\n[]",
        ] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
