//! A node's copy of a room's roster, and what its members are told of it: `user_joined` and `user_left`,
//! or, where there are too many users for that, a `users` event when the line is crossed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use super::Change;
use super::follow::At;
use super::nodes::{Nodes, Standing};
use crate::id::{Incarnation, RoomId, UserId};
use crate::maps;
use crate::protocol::event::{self, User, UserJoined, UserLeft, Users};
use crate::protocol::request::RequestId;

/// Users that a `users` event lists; the count is of all.
pub const MAX_LISTED: usize = 1_000;

/// A frame for the members.
pub type Frame = Vec<u8>;

/// The users of one room.
pub struct Members {
    users: HashMap<UserId, Member>,
    /// Above so many users, joins and leaves aren't told.
    max: usize,
    /// Whether they are not told now: since there were more than `max`, until there are 90 % of it.
    quiet: bool,
}

/// A user who is there: never with all of these empty. What the roster says of this node's own
/// connections doesn't matter here; this node knows best.
struct Member {
    name: Arc<str>,
    /// Connections of this node.
    here: u32,
    /// Was here until this node sent it to another.
    stays: bool,
    /// Other incarnations whose entries the roster has.
    holders: SmallVec<[Incarnation; 1]>,
}

impl Member {
    fn new(name: &Arc<str>) -> Member {
        Member {
            name: name.clone(),
            here: 0,
            stays: false,
            holders: SmallVec::new(),
        }
    }

    fn is_held(&self) -> bool {
        self.here > 0 || self.stays
    }

    fn is_gone(&self) -> bool {
        !self.is_held() && self.holders.is_empty()
    }
}

impl Members {
    /// Nobody.
    pub fn new(max: usize) -> Members {
        Members {
            users: HashMap::new(),
            max,
            quiet: false,
        }
    }

    /// A connection of this node enters. Whether it is the user's first here, and what the others are told.
    pub fn enter(&mut self, at: At<'_>, user: &UserId, name: &Arc<str>) -> (bool, Option<Frame>) {
        let is_new = !self.users.contains_key(user);
        let member = self.users.entry(user.clone());
        let member = member.or_insert_with(|| Member::new(name));
        member.here += 1;
        member.stays = false;
        let first = member.here == 1;
        let told = is_new.then(|| self.told(at, vec![(user.clone(), name.clone(), true)]));
        (first, told.and_then(|mut told| told.pop()))
    }

    /// A connection of this node leaves. Whether it was the user's last here, and what the others are told.
    pub fn leave(&mut self, at: At<'_>, user: &UserId, stays: bool) -> (bool, Option<Frame>) {
        let Some(member) = self.users.get_mut(user).filter(|member| member.here > 0) else {
            return (false, None);
        };
        member.here -= 1;
        let last = member.here == 0;
        member.stays = last && stays;
        if !member.is_gone() {
            return (last, None);
        }
        let name = member.name.clone();
        self.remove(user);
        let mut told = self.told(at, vec![(user.clone(), name, false)]);
        (last, told.pop())
    }

    /// The name of a user of whom this node holds an entry: who has a connection here, or had until this
    /// node sent it to another.
    pub fn held(&self, user: &UserId) -> Option<&Arc<str>> {
        let member = self.users.get(user)?;
        member.is_held().then_some(&member.name)
    }

    /// All of whom this node holds an entry.
    pub fn all_held(&self) -> impl Iterator<Item = &UserId> {
        let held = self.users.iter().filter(|(_, member)| member.is_held());
        held.map(|(user, _)| user)
    }

    /// All entries of others: who holds them, and of whom they are.
    pub fn entries(&self) -> impl Iterator<Item = (Incarnation, &UserId)> {
        self.users.iter().flat_map(|(user, member)| {
            let holders = member.holders.iter();
            holders.map(move |holder| (*holder, user))
        })
    }

    /// Whether this node, as `own`, is the first of all that live and have somebody here. What the dead left
    /// may take a moment to be removed.
    pub fn is_led_by(&self, own: Incarnation, nodes: &Nodes) -> bool {
        let any = self.users.values().any(|member| member.here > 0);
        let holders = self.users.values().flat_map(|member| &member.holders);
        let mut before = holders.filter(|holder| **holder < own);
        any && !before.any(|holder| nodes.standing(*holder) != Standing::Dead)
    }

    /// Sets and removes entries of others, and gives what the members are told of it. Of somebody who comes
    /// and goes within the changes nothing is told.
    pub fn change(&mut self, at: At<'_>, changes: &[Change]) -> Vec<Frame> {
        let (mut before, mut seen) = (Vec::new(), HashSet::new());
        for change in changes {
            let (was, name) = self.apply(change);
            if seen.insert(&change.user) {
                before.push((&change.user, name, was));
            }
        }
        let news = before.into_iter().filter_map(|(user, name, was)| {
            let is = self.users.contains_key(user);
            (was != is).then(|| (user.clone(), name, is))
        });
        let news = news.collect();
        self.told(at, news)
    }

    /// Sets or removes one entry; gives whether the user was there before, and its name.
    fn apply(&mut self, change: &Change) -> (bool, Arc<str>) {
        let Change {
            incarnation,
            user,
            name,
        } = change;
        let was = self.users.contains_key(user);
        if let Some(name) = name {
            let member = self.users.entry(user.clone());
            let member = member.or_insert_with(|| Member::new(name));
            if !member.holders.contains(incarnation) {
                member.holders.push(*incarnation);
            }
            return (was, member.name.clone());
        }
        let Some(member) = self.users.get_mut(user) else {
            return (was, user.as_str().into());
        };
        member.holders.retain(|holder| holder != incarnation);
        let name = member.name.clone();
        if member.is_gone() {
            self.remove(user);
        }
        (was, name)
    }

    fn remove(&mut self, user: &UserId) {
        self.users.remove(user);
        maps::fit(&mut self.users);
    }

    /// What the members are told of users who came (`true`) and went.
    fn told(&mut self, at: At<'_>, news: Vec<(UserId, Arc<str>, bool)>) -> Vec<Frame> {
        if self.crossed() {
            let mut frame = Vec::new();
            self.put_users(at.room, None, &mut frame);
            return vec![frame];
        }
        if self.quiet {
            return Vec::new();
        }
        let told = news.into_iter();
        told.map(|(user, name, came)| told_of(at, &user, &name, came))
            .collect()
    }

    /// Whether there are so many that coming and going isn't told.
    pub fn is_quiet(&self) -> bool {
        self.quiet
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

    /// Appends a `users` event, which replaces what a client had.
    pub fn put_users(&self, room: &RoomId, id: Option<&RequestId>, out: &mut Vec<u8>) {
        event::put_event(out, &self.users(room), id);
    }

    /// The payload of a `users` event.
    pub fn users<'a>(&'a self, room: &'a RoomId) -> Users<'a> {
        let listed = self.users.iter().take(MAX_LISTED);
        let users = listed.map(|(user_id, member)| User {
            user_id,
            username: &member.name,
        });
        Users {
            room_id: room,
            count: self.users.len(),
            users: users.collect(),
        }
    }
}

fn told_of(at: At<'_>, user: &UserId, name: &str, came: bool) -> Frame {
    let mut frame = Vec::new();
    if came {
        let joined = UserJoined {
            room_id: at.room,
            user_id: user,
            username: name,
            timestamp: at.timestamp,
        };
        event::put_event(&mut frame, &joined, None);
    } else {
        let left = UserLeft {
            room_id: at.room,
            user_id: user,
            username: name,
            timestamp: at.timestamp,
        };
        event::put_event(&mut frame, &left, None);
    }
    frame
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn user(n: usize) -> UserId {
        UserId::parse(&format!("u{n}")).unwrap()
    }

    fn set(incarnation: Incarnation, n: usize) -> Change {
        Change {
            incarnation,
            user: user(n),
            name: Some("U".into()),
        }
    }

    fn unset(incarnation: Incarnation, n: usize) -> Change {
        Change {
            name: None,
            ..set(incarnation, n)
        }
    }

    fn kinds(told: impl IntoIterator<Item = Frame>) -> Vec<&'static str> {
        let kind = |frame: Frame| {
            let text = String::from_utf8_lossy(&frame).into_owned();
            let kinds = ["user_joined", "user_left", "users"].into_iter();
            let mut found = kinds.filter(|kind| text.contains(&format!("\"{kind}\"")));
            found.next().unwrap()
        };
        told.into_iter().map(kind).collect()
    }

    /// A room, at one moment.
    struct Bench(RoomId, Members);

    impl Bench {
        fn new(max: usize) -> Bench {
            Bench(RoomId::parse("r").unwrap(), Members::new(max))
        }

        fn at(room: &RoomId) -> At<'_> {
            At {
                room,
                timestamp: 1,
                now: Instant::now(),
            }
        }

        fn change(&mut self, changes: &[Change]) -> Vec<&'static str> {
            kinds(self.1.change(Bench::at(&self.0), changes))
        }

        fn enter(&mut self, n: usize) -> (bool, Vec<&'static str>) {
            let (first, told) = self.1.enter(Bench::at(&self.0), &user(n), &"U".into());
            (first, kinds(told))
        }

        fn leave(&mut self, n: usize, stays: bool) -> (bool, Vec<&'static str>) {
            let (last, told) = self.1.leave(Bench::at(&self.0), &user(n), stays);
            (last, kinds(told))
        }
    }

    #[test]
    fn a_user_on_three_nodes_enters_once_and_leaves_once() {
        let (a, b) = (Incarnation::random(), Incarnation::random());
        let mut bench = Bench::new(500);
        assert_eq!(bench.change(&[set(a, 1)]), ["user_joined"]);
        assert!(bench.change(&[set(b, 1), unset(a, 1)]).is_empty());
        assert_eq!(bench.enter(1), (true, vec![]));
        assert_eq!(bench.enter(1), (false, vec![]));
        assert!(bench.change(&[unset(b, 1)]).is_empty());
        assert_eq!(bench.leave(1, false), (false, vec![]));
        assert_eq!(bench.leave(1, false), (true, vec!["user_left"]));
        assert_eq!(bench.leave(1, false), (false, vec![]));
        assert!(bench.1.users.is_empty());
    }

    #[test]
    fn who_comes_and_goes_at_once_is_no_news() {
        let a = Incarnation::random();
        let mut bench = Bench::new(500);
        assert!(bench.change(&[set(a, 1), unset(a, 1)]).is_empty());
        bench.change(&[set(a, 1)]);
        assert!(bench.change(&[unset(a, 1), set(a, 1)]).is_empty());
    }

    #[test]
    fn who_is_sent_to_another_node_has_not_left() {
        let a = Incarnation::random();
        let mut bench = Bench::new(500);
        assert_eq!(bench.enter(1), (true, vec!["user_joined"]));
        assert_eq!(bench.leave(1, true), (true, vec![]));
        assert!(bench.change(&[set(a, 1)]).is_empty());
        assert_eq!(bench.1.users(&bench.0).count, 1);
    }

    #[test]
    fn a_large_room_goes_quiet_and_says_so() {
        let a = Incarnation::random();
        let mut bench = Bench::new(10);
        let told: Vec<_> = (0..12).flat_map(|n| bench.change(&[set(a, n)])).collect();
        assert_eq!(told[9..], ["user_joined", "users"]);
        let told: Vec<_> = (0..4).flat_map(|n| bench.change(&[unset(a, n)])).collect();
        assert_eq!(told, ["users", "user_left"]);
    }
}
