//! Who is in a room. It is about users, not sockets: a user with several connections enters once and
//! leaves once. This covers one node; members on others are not seen yet.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{RoomId, UserId};
use crate::protocol::event::{self, User, UserJoined, UserLeft, Users};

/// Users that a `users` event lists; the count is of all.
pub const MAX_LISTED: usize = 1_000;

/// The users of one room.
pub struct Presence {
    users: HashMap<UserId, Present>,
    /// Above so many users, joins and leaves aren't told.
    max: usize,
    /// Whether they are not told now: since there were more than `max`, until there are 90 % of it.
    quiet: bool,
}

struct Present {
    username: Arc<str>,
    /// Never 0.
    connections: u32,
}

impl Presence {
    /// Nobody.
    pub fn new(max: usize) -> Presence {
        Presence {
            users: HashMap::new(),
            max,
            quiet: false,
        }
    }

    /// A connection of a user enters. Appends to `out` what the other members are told.
    pub fn enter(
        &mut self,
        room: &RoomId,
        user: &UserId,
        username: &Arc<str>,
        timestamp: u64,
        out: &mut Vec<u8>,
    ) {
        if let Some(present) = self.users.get_mut(user) {
            present.connections += 1;
            return;
        }
        self.users.insert(
            user.clone(),
            Present {
                username: username.clone(),
                connections: 1,
            },
        );
        if self.crossed() {
            self.put_users(room, out);
        } else if !self.quiet {
            event::put_event(
                out,
                &UserJoined {
                    room_id: room,
                    user_id: user,
                    username,
                    timestamp,
                },
                None,
            );
        }
    }

    /// A connection of a user leaves. Appends to `out` what the other members are told.
    pub fn leave(&mut self, room: &RoomId, user: &UserId, timestamp: u64, out: &mut Vec<u8>) {
        let Some(present) = self.users.get_mut(user) else {
            return;
        };
        present.connections -= 1;
        if present.connections > 0 {
            return;
        }
        let gone = self.users.remove(user);
        if self.crossed() {
            self.put_users(room, out);
        } else if let (false, Some(gone)) = (self.quiet, gone) {
            let left = UserLeft {
                room_id: room,
                user_id: user,
                username: &gone.username,
                timestamp,
            };
            event::put_event(out, &left, None);
        }
    }

    /// Whether the room has just become so large that it goes quiet, or small enough again.
    fn crossed(&mut self) -> bool {
        let was = self.quiet;
        self.quiet = self.users.len()
            > if was {
                self.max / 10 * 9 + self.max % 10 * 9 / 10
            } else {
                self.max
            };
        self.quiet != was
    }

    /// The payload of a `users` event.
    pub fn users<'a>(&'a self, room: &'a RoomId) -> Users<'a> {
        let listed = self.users.iter().take(MAX_LISTED);
        let users = listed
            .map(|(user_id, present)| User {
                user_id,
                username: &present.username,
            })
            .collect();
        Users {
            room_id: room,
            count: self.users.len(),
            users,
        }
    }

    /// Appends a `users` event, which replaces what a client had.
    pub fn put_users(&self, room: &RoomId, out: &mut Vec<u8>) {
        event::put_event(out, &self.users(room), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(frames: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(frames);
        text.split("{\"type\":\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_user_enters_once_and_leaves_once() {
        let (room, user) = (RoomId::parse("r").unwrap(), UserId::parse("u").unwrap());
        let mut presence = Presence::new(500);
        let mut out = Vec::new();
        presence.enter(&room, &user, &"U".into(), 1, &mut out);
        presence.enter(&room, &user, &"U".into(), 1, &mut out);
        presence.leave(&room, &user, 1, &mut out);
        assert_eq!(told(&out), ["user_joined"]);
        presence.leave(&room, &user, 1, &mut out);
        presence.leave(&room, &user, 1, &mut out);
        assert_eq!(told(&out), ["user_joined", "user_left"]);
        assert_eq!(presence.users(&room).count, 0);
    }

    #[test]
    fn a_large_room_goes_quiet_and_says_so() {
        let room = RoomId::parse("r").unwrap();
        let user = |n: usize| UserId::parse(&format!("u{n}")).unwrap();
        let mut presence = Presence::new(10);
        let mut out = Vec::new();
        (0..12).for_each(|n| presence.enter(&room, &user(n), &"U".into(), 1, &mut out));
        assert_eq!(told(&out)[9..], ["user_joined", "users"]);
        out.clear();
        (0..4).for_each(|n| presence.leave(&room, &user(n), 1, &mut out));
        assert_eq!(told(&out), ["users", "user_left"]);
    }
}
