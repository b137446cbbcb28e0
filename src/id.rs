//! The names of things: rooms, users, nodes, connections, messages. Each is valid by construction,
//! so nothing behind the parser checks one again. Cloning any of them copies a pointer or 16 bytes.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Longest room or user id, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// Rooms whose id begins so belong to two users and are opened by `direct` alone.
pub const PRIVATE_PREFIX: &str = "dm:";

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// A room: 1 to 128 bytes without control characters, white space, `{` or `}` (the braces mark
    /// the part of a Redis key that decides its cluster slot).
    RoomId
}

text_id! {
    /// A user, as the token names it: 1 to 128 bytes.
    UserId
}

text_id! {
    /// One running server.
    NodeId
}

impl RoomId {
    /// The room of that id, or what is wrong with the id.
    pub fn parse(text: &str) -> Result<RoomId, &'static str> {
        if text.is_empty() || text.len() > MAX_ID_BYTES {
            return Err("must be 1 to 128 bytes");
        }
        let bad = |c: char| c.is_control() || c.is_whitespace() || c == '{' || c == '}';
        if text.contains(bad) {
            return Err("must not hold control characters, white space, '{' or '}'");
        }
        Ok(RoomId(text.into()))
    }

    /// Whether it is a room of two users.
    pub fn is_private(&self) -> bool {
        self.0.starts_with(PRIVATE_PREFIX)
    }
}

impl UserId {
    /// The user of that id, or what is wrong with the id.
    pub fn parse(text: &str) -> Result<UserId, &'static str> {
        if text.is_empty() || text.len() > MAX_ID_BYTES {
            return Err("must be 1 to 128 bytes");
        }
        Ok(UserId(text.into()))
    }
}

impl NodeId {
    /// A node id of 12 random characters.
    pub fn random() -> NodeId {
        NodeId(ShortId::random().as_str().into())
    }

    /// The node of that id (`NODE_ID`), or what is wrong with the id.
    pub fn parse(text: &str) -> Result<NodeId, &'static str> {
        if text.is_empty() || text.len() > 64 {
            return Err("must be 1 to 64 bytes");
        }
        if !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return Err("must hold letters, digits, '-', '_' and '.' alone");
        }
        Ok(NodeId(text.into()))
    }
}

/// A nanoid of 12 characters from `A-Za-z0-9_-`, 71 bits of chance: names one message (one execution
/// of an append, so what is stored again never passes for what was lost), one connection, one life of a
/// node or one change of a roster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortId([u8; ShortId::LEN]);

/// The id of a message.
pub type MessageId = ShortId;

/// One life of a node as the others know it: drawn at its start, and anew after they gave it up.
pub type Incarnation = ShortId;

impl ShortId {
    /// Its length in bytes.
    pub const LEN: usize = 12;

    /// A new one, of the thread's cryptographic generator: nanoid's default asks the kernel for a seed each time,
    /// and every message has an id.
    pub fn random() -> ShortId {
        use nanoid::{alphabet, rngs};
        let text = nanoid::nanoid!(ShortId::LEN, &alphabet::SAFE, rngs::thread_local);
        let mut id = [0; ShortId::LEN];
        id.copy_from_slice(text.as_bytes());
        ShortId(id)
    }

    /// Reads one; `None` where the text has not its form.
    pub fn parse(text: &[u8]) -> Option<ShortId> {
        let id: [u8; ShortId::LEN] = text.try_into().ok()?;
        id.iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_')
            .then_some(ShortId(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ShortId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A message's place in its room: 1, 2, 3, … without holes. 0 is the place before the first.
/// Stays below 2^53, the largest whole number that JavaScript and Redis' Lua hold exactly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The place before the first message.
    pub const ZERO: Seq = Seq(0);
    /// The largest place, 2^53 - 1.
    pub const MAX: Seq = Seq((1 << 53) - 1);

    /// The place after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }

    /// The place before this one; 0 stays 0.
    pub fn previous(self) -> Seq {
        Seq(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A message of a room, or a state of its roster: its place and its id. Two brokers' states, or one's before and after it lost
/// data, agree up to here exactly if they hold the same mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Its place.
    pub seq: Seq,
    /// Its id.
    pub id: MessageId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_id_is_bounded_and_clean() {
        assert!(RoomId::parse("general").is_ok());
        assert!(RoomId::parse("größe-✓").is_ok());
        assert!(RoomId::parse(&"a".repeat(128)).is_ok());
        for bad in [
            "", " ", "a b", "a\u{a0}b", "a\nb", "a\u{7f}", "{a}", "a}", "\u{85}",
        ] {
            assert!(RoomId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(RoomId::parse(&"a".repeat(129)).is_err());
        assert!(RoomId::parse(&"é".repeat(65)).is_err());
    }

    #[test]
    fn short_ids_differ_and_read_back() {
        let (a, b) = (ShortId::random(), ShortId::random());
        assert_ne!(a, b);
        assert_eq!(ShortId::parse(a.as_str().as_bytes()), Some(a));
        assert_eq!(ShortId::parse(b"short"), None);
        assert_eq!(ShortId::parse(b"twelve bytes"), None);
    }
}
