//! How a node's copy of a room's roster follows the broker's, and what the node has yet to tell the
//! broker. Pure: it is told what was published and what was read, and says what is to be done next.
//!
//! ```text
//!             hole, fork, overdue, outage
//!   following ───────────────────────────► in doubt: the roster is read, what is published
//!       ▲                                      │      meanwhile is held back
//!       └──────────────── loaded ──────────────┘
//! ```
//!
//! What this node tells is absolute ("this user has, or hasn't, an entry of mine"), so a call whose
//! answer was lost is simply made again, and what comes and goes meanwhile needs no call at all.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::members::{Frame, Members};
use super::nodes::{Nodes, Standing};
use super::{Change, Published, Roster};
use crate::id::{Incarnation, Mark, RoomId, UserId};

/// Changes in one call.
const BATCH: usize = 1_000;
/// What is published while the roster is being read, and held back; beyond it the roster is read again.
const MAX_HELD: usize = 64;
/// What was published before a read may come so long after it.
const OVERTAKEN: Duration = Duration::from_secs(2);
/// A change of this node that hasn't come back by then was missed.
const OVERDUE: Duration = Duration::from_secs(1);

/// Who is in a room, and how sure of it this node is.
pub struct Presence {
    members: Members,
    version: Option<Mark>,
    /// The roster must be read.
    in_doubt: bool,
    held: Vec<Published>,
    /// More was published than could be held.
    held_over: bool,
    /// When the roster was read last.
    read_at: Option<Instant>,
    /// The newest version that this node's own calls made, and when it was told of it.
    expected: Option<(Mark, Instant)>,
    /// Users whose entry of this node may not be as it should.
    dirty: HashSet<UserId>,
    /// Entries of dead incarnations that the broker may have yet.
    stale: HashSet<(Incarnation, UserId)>,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Read the roster.
    Read,
    /// Tell the broker.
    Tell(Vec<Change>),
    /// Look again soon: what was told has not come back yet.
    Wait,
    /// Nothing.
    Rest,
}

/// Which room, and when: Unix milliseconds for the members, the clock for the gate.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// Unix milliseconds.
    pub timestamp: u64,
    /// The clock.
    pub now: Instant,
}

impl Presence {
    /// Nobody, and in doubt. In a room of more than `max` users, joins and leaves aren't told.
    pub fn new(max: usize) -> Presence {
        Presence {
            members: Members::new(max),
            version: None,
            in_doubt: true,
            held: Vec::new(),
            held_over: false,
            read_at: None,
            expected: None,
            dirty: HashSet::new(),
            stale: HashSet::new(),
        }
    }

    /// Who is there.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The roster's version that this node's copy has.
    pub fn version(&self) -> Option<Mark> {
        self.version
    }

    /// A connection of this node enters; gives what the others are told.
    pub fn enter(&mut self, at: At<'_>, user: &UserId, name: &Arc<str>) -> Option<Frame> {
        let (first, told) = self.members.enter(at, user, name);
        if first {
            self.dirty.insert(user.clone());
        }
        told
    }

    /// A connection of this node leaves; gives what the others are told. `stays`: the user is expected on
    /// another node, so its entry is left to go with this incarnation.
    pub fn leave(&mut self, at: At<'_>, user: &UserId, stays: bool) -> Option<Frame> {
        let (last, told) = self.members.leave(at, user, stays);
        if last && !stays {
            self.dirty.insert(user.clone());
        }
        told
    }

    /// What was published may have been missed, or the roster was lost: asserts everything again.
    pub fn assert(&mut self) {
        self.in_doubt = true;
        self.dirty.extend(self.members.all_held().cloned());
    }

    /// The roster must be read: it was not certain what to make of it.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// An incarnation is dead: what it left is removed.
    pub fn bury(&mut self, dead: Incarnation) {
        let left = self.members.entries().filter(|(holder, _)| *holder == dead);
        self.stale
            .extend(left.map(|(holder, user)| (holder, user.clone())));
    }

    /// What is to be done next, in the name of the incarnation that this node is in now.
    pub fn step(&mut self, own: Incarnation, now: Instant) -> Step {
        if self.in_doubt {
            return Step::Read;
        }
        let changes = self.take_changes(own);
        if !changes.is_empty() {
            return Step::Tell(changes);
        }
        match self.expected {
            Some((mark, _)) if self.version.is_some_and(|v| v.seq >= mark.seq) => Step::Rest,
            Some((_, since)) if now.duration_since(since) > OVERDUE => {
                self.in_doubt = true;
                Step::Read
            }
            Some(_) => Step::Wait,
            None => Step::Rest,
        }
    }

    /// Whether there is something to be done.
    pub fn has_work(&self) -> bool {
        self.in_doubt || !self.dirty.is_empty() || !self.stale.is_empty()
    }

    fn take_changes(&mut self, own: Incarnation) -> Vec<Change> {
        let users: Vec<UserId> = self.dirty.iter().take(BATCH).cloned().collect();
        let stale = self.stale.iter().take(BATCH - users.len()).cloned();
        let stale: Vec<(Incarnation, UserId)> = stale.collect();
        for user in &users {
            self.dirty.remove(user);
        }
        for entry in &stale {
            self.stale.remove(entry);
        }
        let told = users.into_iter().map(|user| Change {
            incarnation: own,
            name: self.members.held(&user).cloned(),
            user,
        });
        let removed = stale.into_iter().map(|(incarnation, user)| Change {
            incarnation,
            user,
            name: None,
        });
        told.chain(removed).collect()
    }

    /// A call was carried out; the roster has that version now. What it removed is gone for certain, also
    /// where it was gone before and nothing is published; gives what the members are told of it.
    pub fn told(
        &mut self,
        mut changes: Vec<Change>,
        version: Option<Mark>,
        at: At<'_>,
    ) -> Vec<Frame> {
        self.expected = version.map(|version| (version, at.now)).or(self.expected);
        changes.retain(|change| change.name.is_none());
        self.members.change(at, &changes)
    }

    /// A call may not have been carried out: it is made again.
    pub fn not_told(&mut self, own: Incarnation, changes: Vec<Change>) {
        for change in changes {
            if change.incarnation == own {
                self.dirty.insert(change.user);
            } else {
                self.stale.insert((change.incarnation, change.user));
            }
        }
    }

    /// Takes what was published; gives what the members are told of it.
    pub fn deliver(
        &mut self,
        published: Published,
        own: Option<Incarnation>,
        nodes: &Nodes,
        at: At<'_>,
    ) -> Vec<Frame> {
        if self.in_doubt {
            self.hold(published);
            return Vec::new();
        }
        let (next, newest) = (self.version.map_or(1, |v| v.seq.0 + 1), self.version);
        let mark = published.version;
        if mark.seq.0 == next && published.prev == newest.map(|v| v.id) {
            self.version = Some(mark);
            return self.take(published.changes, own, nodes, at);
        }
        let overtaken = self
            .read_at
            .is_some_and(|read| at.now.duration_since(read) < OVERTAKEN);
        if Some(mark) != newest && (mark.seq.0 >= next || !overtaken) {
            self.in_doubt = true;
            self.hold(published);
        }
        Vec::new()
    }

    fn hold(&mut self, published: Published) {
        if self.held.len() < MAX_HELD {
            self.held.push(published);
        } else {
            self.held_over = true;
        }
    }

    /// Lets changes into the copy. What a dead incarnation did late counts for nobody and is removed again;
    /// an entry of this node that isn't as it should be is told once more.
    fn take(
        &mut self,
        mut changes: Vec<Change>,
        own: Option<Incarnation>,
        nodes: &Nodes,
        at: At<'_>,
    ) -> Vec<Frame> {
        changes.retain(|change| {
            let is_set = change.name.is_some();
            if Some(change.incarnation) == own {
                if self.members.held(&change.user).is_some() != is_set {
                    self.dirty.insert(change.user.clone());
                }
                return false;
            }
            if !is_set {
                return true;
            }
            nodes.heard(change.incarnation, at.now);
            let dead = nodes.standing(change.incarnation) == Standing::Dead;
            if dead {
                let entry = (change.incarnation, change.user.clone());
                self.stale.insert(entry);
            }
            !dead
        });
        self.members.change(at, &changes)
    }

    /// Takes a roster that was read; gives what the members are told of it. While it isn't certain who
    /// lives, a missing entry of a living node isn't missed: the node will set it again.
    pub fn loaded(
        &mut self,
        roster: &Roster,
        own: Option<Incarnation>,
        nodes: &Nodes,
        at: At<'_>,
    ) -> Vec<Frame> {
        self.version = roster.version;
        self.read_at = Some(at.now);
        self.expected = None;
        self.in_doubt = std::mem::take(&mut self.held_over);
        let changes = self.difference(roster, own, nodes);
        let mut told = self.members.change(at, &changes);
        for published in std::mem::take(&mut self.held) {
            let beyond = roster.version.is_none_or(|v| published.version.seq > v.seq);
            if beyond {
                told.extend(self.deliver(published, own, nodes, at));
            }
        }
        told
    }

    /// How the copy differs from the roster; notes what of the roster must be mended.
    fn difference(
        &mut self,
        roster: &Roster,
        own: Option<Incarnation>,
        nodes: &Nodes,
    ) -> Vec<Change> {
        let mut missing: HashSet<(Incarnation, &UserId)> = self.members.entries().collect();
        let (mut changes, mut entered) = (Vec::new(), HashSet::new());
        for entry in &roster.entries {
            let (holder, user) = (entry.incarnation, &entry.user);
            if Some(holder) == own {
                entered.insert(user);
                if self.members.held(user).is_none() {
                    self.dirty.insert(user.clone());
                }
                continue;
            }
            match nodes.standing(holder) {
                Standing::Alive => {
                    if !missing.remove(&(holder, user)) {
                        changes.push(entry.clone());
                    }
                }
                Standing::Dead => {
                    self.stale.insert((holder, user.clone()));
                }
                Standing::Unknown => {}
            }
        }
        let held = self.members.all_held();
        self.dirty
            .extend(held.filter(|user| !entered.contains(user)).cloned());
        let may_be_missing = |holder| !nodes.steady() && nodes.standing(holder) == Standing::Alive;
        let gone = missing.into_iter();
        let gone = gone.filter(|(holder, _)| !may_be_missing(*holder));
        changes.extend(gone.map(|(incarnation, user)| Change {
            incarnation,
            user: user.clone(),
            name: None,
        }));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Seq, ShortId};

    /// A room on one node, its roster, and another node's incarnation.
    struct Bench {
        room: RoomId,
        nodes: Nodes,
        own: Incarnation,
        other: Incarnation,
        presence: Presence,
        roster: Roster,
        now: Instant,
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn kinds(told: &[Frame]) -> Vec<String> {
        let kind = |told: &Frame| {
            let text = String::from_utf8_lossy(told).into_owned();
            let word = |key: &str| {
                let rest = text.split(key).nth(1).unwrap_or_default();
                rest.split('"').next().unwrap_or_default().to_owned()
            };
            format!("{} {}", word("\"type\":\""), word("\"userId\":\""))
        };
        let mut kinds: Vec<String> = told.iter().map(kind).collect();
        kinds.sort();
        kinds
    }

    impl Bench {
        /// Steady, and following an empty roster.
        fn new() -> Bench {
            let nodes = Nodes::alone();
            let own = nodes.own().unwrap();
            let mut bench = Bench {
                room: RoomId::parse("r").unwrap(),
                nodes,
                own,
                other: Incarnation::random(),
                presence: Presence::new(100),
                roster: Roster::default(),
                now: Instant::now(),
            };
            bench.nodes.heard(bench.other, bench.now);
            assert!(bench.load().is_empty());
            bench
        }

        fn at(room: &RoomId, now: Instant) -> At<'_> {
            At {
                room,
                timestamp: 1,
                now,
            }
        }

        fn enter(&mut self, name: &str) -> Vec<String> {
            let at = Bench::at(&self.room, self.now);
            let told = self.presence.enter(at, &user(name), &"N".into());
            kinds(told.as_slice())
        }

        fn leave(&mut self, name: &str) -> Vec<String> {
            let at = Bench::at(&self.room, self.now);
            let told = self.presence.leave(at, &user(name), false);
            kinds(told.as_slice())
        }

        fn load(&mut self) -> Vec<String> {
            let (own, now) = (self.nodes.own(), self.now);
            let at = Bench::at(&self.room, now);
            kinds(&self.presence.loaded(&self.roster, own, &self.nodes, at))
        }

        fn step(&mut self) -> Step {
            self.presence.step(self.own, self.now)
        }

        /// The broker carries changes out.
        fn carry_out(&mut self, changes: &[Change]) -> Option<Published> {
            let entries = &mut self.roster.entries;
            let mut effective = Vec::new();
            for change in changes {
                let same =
                    |e: &Change| e.incarnation == change.incarnation && e.user == change.user;
                let there = entries.iter().any(same);
                if there != change.name.is_some() {
                    entries.retain(|e| !same(e));
                    entries.extend(change.name.is_some().then(|| change.clone()));
                    effective.push(change.clone());
                }
            }
            let prev = self.roster.version.map(|version| version.id);
            let version = Mark {
                seq: Seq(self.roster.version.map_or(0, |v| v.seq.0) + 1),
                id: ShortId::random(),
            };
            (!effective.is_empty()).then(|| {
                self.roster.version = Some(version);
                Published {
                    prev,
                    version,
                    changes: effective,
                }
            })
        }

        fn deliver(&mut self, published: Published) -> Vec<String> {
            let (own, now) = (self.nodes.own(), self.now);
            let at = Bench::at(&self.room, now);
            kinds(&self.presence.deliver(published, own, &self.nodes, at))
        }

        /// Another node's user comes or goes.
        fn other(&mut self, name: &str, there: bool) -> Published {
            let change = Change {
                incarnation: self.other,
                user: user(name),
                name: there.then(|| "N".into()),
            };
            self.carry_out(&[change]).unwrap()
        }

        /// Tells the broker what there is to tell; gives what the members are told at once and later.
        fn tell(&mut self) -> Vec<String> {
            let Step::Tell(changes) = self.presence.step(self.own, self.now) else {
                return Vec::new();
            };
            let published = self.carry_out(&changes);
            let version = self.roster.version;
            let at = Bench::at(&self.room, self.now);
            let mut told = kinds(&self.presence.told(changes, version, at));
            told.extend(
                published
                    .into_iter()
                    .flat_map(|published| self.deliver(published)),
            );
            told
        }
    }

    #[test]
    fn members_hear_of_both_nodes_users_once() {
        let mut bench = Bench::new();
        assert_eq!(bench.enter("a"), ["user_joined a"]);
        assert!(bench.tell().is_empty());
        let there = bench.other("a", true);
        assert!(bench.deliver(there).is_empty());
        assert!(bench.leave("a").is_empty());
        assert!(bench.tell().is_empty());
        let gone = bench.other("a", false);
        assert_eq!(bench.deliver(gone), ["user_left a"]);
        assert!(bench.roster.entries.is_empty());
    }

    #[test]
    fn a_hole_is_mended_by_the_difference() {
        let mut bench = Bench::new();
        for name in ["a", "b"] {
            let there = bench.other(name, true);
            bench.deliver(there);
        }
        let missed = bench.other("a", false);
        let seen = bench.other("c", true);
        assert!(bench.deliver(seen).is_empty());
        assert!(matches!(bench.step(), Step::Read));
        assert_eq!(bench.load(), ["user_joined c", "user_left a"]);
        // Overtaken by the read, so no reason for doubt.
        assert!(bench.deliver(missed).is_empty());
        assert!(matches!(bench.step(), Step::Rest));
    }

    #[test]
    fn what_is_published_during_a_read_comes_after_it() {
        let mut bench = Bench::new();
        bench.presence.doubt();
        let before = bench.other("a", true);
        assert!(bench.deliver(before).is_empty());
        let roster = bench.roster.clone();
        let after = bench.other("b", true);
        assert!(bench.deliver(after).is_empty());
        bench.roster = roster;
        assert_eq!(bench.load(), ["user_joined a", "user_joined b"]);
    }

    #[test]
    fn a_lost_answer_is_told_again_and_does_no_harm() {
        let mut bench = Bench::new();
        bench.enter("a");
        let Step::Tell(changes) = bench.step() else {
            panic!("nothing to tell")
        };
        let published = bench.carry_out(&changes).unwrap();
        bench.presence.not_told(bench.own, changes);
        assert!(bench.deliver(published).is_empty());
        bench.tell();
        assert_eq!(bench.leave("a"), ["user_left a"]);
        bench.tell();
        assert!(bench.roster.entries.is_empty());
    }

    #[test]
    fn an_own_change_that_does_not_come_back_is_a_doubt() {
        let mut bench = Bench::new();
        bench.enter("a");
        let missed = bench.other("b", true);
        let Step::Tell(changes) = bench.step() else {
            panic!("nothing to tell")
        };
        bench.carry_out(&changes);
        let version = bench.roster.version;
        let at = Bench::at(&bench.room, bench.now);
        bench.presence.told(changes, version, at);
        assert!(matches!(bench.step(), Step::Wait));
        bench.now += 2 * OVERDUE;
        assert!(matches!(bench.step(), Step::Read));
        assert_eq!(bench.load(), ["user_joined b"]);
        assert!(bench.deliver(missed).is_empty());
    }

    #[test]
    fn after_a_loss_of_the_roster_nobody_living_is_missed() {
        let mut bench = Bench::new();
        bench.enter("a");
        bench.tell();
        let there = bench.other("b", true);
        bench.deliver(there);
        bench.roster = Roster::default();
        bench.nodes.fault(bench.now);
        bench.presence.assert();
        assert!(bench.load().is_empty());
        assert!(bench.tell().is_empty());
        assert_eq!(bench.roster.entries.len(), 1);
        assert_eq!(bench.presence.members().users(&bench.room).count, 2);
    }

    #[test]
    fn the_dead_are_removed_and_what_they_do_late_counts_for_nobody() {
        let mut bench = Bench::new();
        let there = bench.other("b", true);
        bench.deliver(there);
        let other = bench.other;
        // As the cluster's task does when the lease has run out.
        let beat = super::super::nodes::Beat {
            listed: true,
            held: true,
            nodes: vec![],
        };
        bench.now += Duration::from_secs(9);
        for _ in 0..5 {
            bench.now += Duration::from_secs(2);
            bench.nodes.judge(&beat, bench.now, bench.now);
        }
        assert_eq!(bench.nodes.standing(other), Standing::Dead);
        bench.presence.bury(other);
        assert_eq!(bench.tell(), ["user_left b"]);
        assert!(bench.roster.entries.is_empty());
        let late = bench.other("c", true);
        assert!(bench.deliver(late).is_empty());
        assert!(bench.tell().is_empty());
        assert!(bench.roster.entries.is_empty());
    }

    #[test]
    fn a_new_incarnation_takes_its_users_over() {
        let mut bench = Bench::new();
        bench.enter("a");
        bench.tell();
        bench.nodes.given_up(bench.now);
        bench.own = Incarnation::random();
        bench.nodes.begin(bench.own, bench.now);
        bench.presence.assert();
        assert!(bench.load().is_empty());
        assert!(bench.tell().is_empty());
        let holders: Vec<_> = bench.roster.entries.iter().map(|e| e.incarnation).collect();
        assert_eq!(holders, [bench.own]);
    }

    #[test]
    fn who_is_sent_to_another_node_keeps_its_entry() {
        let mut bench = Bench::new();
        bench.enter("a");
        let at = Bench::at(&bench.room, bench.now);
        assert!(bench.presence.leave(at, &user("a"), true).is_none());
        assert!(bench.tell().is_empty());
        assert_eq!(bench.roster.entries.len(), 1);
        bench.presence.assert();
        assert!(bench.load().is_empty());
        assert!(bench.tell().is_empty());
        assert_eq!(bench.roster.entries.len(), 1);
    }
}
