//! Who is in a room, over all nodes. It is about users, not sockets: a user with several connections on
//! several nodes enters once and leaves once.
//!
//! The broker keeps a **roster** of each room: one entry per user and incarnation of a node, set and
//! removed absolutely, never counted, so that nothing goes wrong with a call that is carried out twice. Every
//! change gets the roster's next version and is published; so a roster is a log, too, and a node's
//! copy of it ([`Presence`]) follows it through a gate as the messages do. What the members are told is
//! the difference between what they were told before and the copy: of each change, and of each mend.
//!
//! - [`members`]: the copy itself, and what its members are told
//! - [`follow`]: the gate before it, and what this node has yet to tell the broker
//! - [`nodes`]: which incarnations live
//!
//! Entries of dead incarnations count for nobody. Every node that has members in a room removes them
//! from the room's roster; the broker publishes the one removal that had an effect.

pub mod follow;
pub mod members;
pub mod nodes;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::follow::Presence;
use self::members::MAX_LISTED;
use self::nodes::{Nodes, Standing};
use crate::id::{Incarnation, Mark, RoomId, ShortId, UserId};
use crate::protocol::event::{User, Users};

/// One entry of a roster, set or removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which life of which node holds it.
    pub incarnation: Incarnation,
    /// Who is there.
    pub user: UserId,
    /// The user's name; `None`: the entry is removed.
    pub name: Option<Arc<str>>,
}

/// A roster as the broker has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roster {
    /// Its version; `None` where it was never changed.
    pub version: Option<Mark>,
    /// All entries.
    pub entries: Vec<Change>,
}

impl Roster {
    /// Who is there by the entries of those who live, each user once: the payload of a `users` event for a
    /// room of which this node has no copy.
    pub fn users<'a>(&'a self, room: &'a RoomId, nodes: &Nodes) -> Users<'a> {
        let mut known = HashMap::new();
        let mut lives = |of: Incarnation| {
            let standing = known.entry(of).or_insert_with(|| nodes.standing(of));
            *standing == Standing::Alive
        };
        let mut there: HashMap<&UserId, &str> = HashMap::new();
        for entry in &self.entries {
            if let Some(name) = entry.name.as_deref()
                && lives(entry.incarnation)
            {
                there.entry(&entry.user).or_insert(name);
            }
        }
        let listed = there.iter().take(MAX_LISTED);
        let users = listed.map(|(user_id, username)| User { user_id, username });
        Users {
            room_id: room,
            count: there.len(),
            users: users.collect(),
        }
    }
}

/// What was published of a roster: changes that had an effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// The id of the version before.
    pub prev: Option<ShortId>,
    /// The version that they made.
    pub version: Mark,
    /// The changes, in order.
    pub changes: Vec<Change>,
}
