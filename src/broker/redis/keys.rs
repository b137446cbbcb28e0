//! The names in Redis. All of a room carry its id in braces, so that in a cluster one slot holds them
//! and one script may touch them; a room id holds no brace.

use crate::id::{Incarnation, NodeId, RoomId, UserId};

/// Names, all behind the configured prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys {
            prefix: prefix.to_owned(),
        }
    }

    /// The list that is the room's log.
    pub(super) fn history(&self, room: &RoomId) -> String {
        format!("{}history:{{{room}}}", self.prefix)
    }

    /// What came of a `clientId`. The user's length keeps two pairs from sharing a name.
    pub(super) fn sent(&self, room: &RoomId, user: &UserId, client_id: &str) -> String {
        format!(
            "{}sent:{{{room}}}:{}:{user}:{client_id}",
            self.prefix,
            user.as_str().len()
        )
    }

    /// A user's window of sends, tagged by the user: it is counted over all rooms. The length keeps the tag from
    /// being empty, whatever braces the user's id holds.
    pub(super) fn rate(&self, user: &UserId) -> String {
        format!("{}rate:{{{}:{user}}}", self.prefix, user.as_str().len())
    }

    /// The channel on which the room's payloads go out.
    pub(super) fn channel(&self, room: &RoomId) -> String {
        format!("{}room:{{{room}}}", self.prefix)
    }

    /// The room of a channel.
    pub(super) fn room_of<'c>(&self, channel: &'c str) -> Option<&'c str> {
        channel
            .strip_prefix(&self.prefix)?
            .strip_prefix("room:{")?
            .strip_suffix('}')
    }

    /// The hash that is the room's roster.
    pub(super) fn roster(&self, room: &RoomId) -> String {
        format!("{}roster:{{{room}}}", self.prefix)
    }

    /// The set of all nodes' incarnations. `beat.lua` makes the leases' names from it.
    pub(super) fn nodes(&self) -> String {
        format!("{}{{nodes}}", self.prefix)
    }

    /// The lease of an incarnation.
    pub(super) fn lease(&self, of: Incarnation) -> String {
        format!("{}{{nodes}}:{of}", self.prefix)
    }

    /// The users who are connected to that node.
    pub(super) fn users_of(&self, node: Incarnation) -> String {
        format!("{}{{nodes}}:{node}:users", self.prefix)
    }

    /// The window of the connects from a source.
    pub(super) fn connects(&self, source: &str) -> String {
        format!("{}connects:{source}", self.prefix)
    }

    /// The hash of who has how many connections at a place.
    pub(super) fn connections(&self, place: &str) -> String {
        format!("{}connections:{place}", self.prefix)
    }

    /// The channel of what is said to all nodes.
    pub(super) fn commands(&self) -> String {
        format!("{}commands", self.prefix)
    }

    /// The channel over which a node probes its own subscription. A node's name may be used twice by
    /// mistake, so each start has its own.
    pub(super) fn probe(&self, node: &NodeId) -> String {
        format!("{}probe:{node}:{}", self.prefix, nanoid::nanoid!(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tagged_by_room_and_read_back() {
        let keys = Keys::new("chat:");
        let room = RoomId::parse("general").unwrap();
        assert_eq!(keys.history(&room), "chat:history:{general}");
        assert_eq!(keys.room_of(&keys.channel(&room)), Some("general"));
        assert_eq!(keys.room_of("other:room:{general}"), None);
        let user = |id| UserId::parse(id).unwrap();
        assert_ne!(
            keys.sent(&room, &user("a:b"), "c"),
            keys.sent(&room, &user("a"), "b:c")
        );
        assert_eq!(keys.rate(&user("u1")), "chat:rate:{2:u1}");
        assert_eq!(keys.rate(&user("}{")), "chat:rate:{2:}{}");
    }
}
