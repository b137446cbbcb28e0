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
    /// The roster must be read, or is being read.
    in_doubt: bool,
    /// It must be read once more: the read under way may have come too early.
    again: bool,
    /// It wasn't certain at the last read who of the others lives.
    unsure: bool,
    held: Vec<Published>,
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
            again: false,
            unsure: false,
            held: Vec::new(),
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

    /// Whether the copy follows the broker's roster; otherwise it is read again soon.
    pub fn is_certain(&self) -> bool {
        !self.in_doubt
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
        self.doubt();
        self.dirty.extend(self.members.all_held().cloned());
    }

    /// The roster must be read.
    pub fn doubt(&mut self) {
        (self.in_doubt, self.again) = (true, true);
    }

    /// More is known of who lives: the roster must be read where that wasn't certain when it was.
    pub fn reconsider(&mut self) {
        if self.unsure {
            self.doubt();
        }
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
            self.again = false;
            // What came before the read is asked for is in it.
            self.held.clear();
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
        if self.dirty.is_empty() {
            // Whoever entered together with many leaves no room behind.
            self.dirty = HashSet::new();
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
            self.again = true;
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
            if nodes.heard(change.incarnation, at.now) && self.unsure {
                // Other entries of it weren't counted as long as it was unknown.
                (self.in_doubt, self.again) = (true, true);
            }
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
        if self.is_older(roster.version) {
            // The broker lost what it had: the others will enter their users again.
            nodes.fault(at.now);
        }
        self.version = roster.version;
        self.read_at = Some(at.now);
        self.expected = None;
        self.in_doubt = std::mem::take(&mut self.again);
        let changes = self.difference(roster, own, nodes, at.now);
        let mut told = self.members.change(at, &changes);
        for published in std::mem::take(&mut self.held) {
            let beyond = roster.version.is_none_or(|v| published.version.seq > v.seq);
            if beyond {
                told.extend(self.deliver(published, own, nodes, at));
            }
        }
        told
    }

    /// Whether a roster that was read lacks what this node's copy has. What is published during a read is
    /// held back, so the copy doesn't run ahead of it.
    fn is_older(&self, read: Option<Mark>) -> bool {
        let lacks = |had: Mark| match read {
            Some(read) => read.seq < had.seq || (read.seq == had.seq && read.id != had.id),
            None => true,
        };
        self.version.is_some_and(lacks)
    }

    /// How the copy differs from the roster; notes what of the roster must be mended.
    fn difference(
        &mut self,
        roster: &Roster,
        own: Option<Incarnation>,
        nodes: &Nodes,
        now: Instant,
    ) -> Vec<Change> {
        let mut missing: HashSet<(Incarnation, &UserId)> = self.members.entries().collect();
        let (mut changes, mut entered) = (Vec::new(), HashSet::new());
        let mut unsure = false;
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
                Standing::Unknown => {
                    unsure = true;
                    nodes.suspect(holder, now);
                }
            }
        }
        let held = self.members.all_held();
        self.dirty
            .extend(held.filter(|user| !entered.contains(user)).cloned());
        let may_be_missing = |holder| !nodes.steady() && nodes.standing(holder) == Standing::Alive;
        let (kept, gone): (Vec<_>, Vec<_>) = missing
            .into_iter()
            .partition(|(holder, _)| may_be_missing(*holder));
        self.unsure = unsure || !kept.is_empty();
        let gone = gone.into_iter();
        changes.extend(gone.map(|(incarnation, user)| Change {
            incarnation,
            user: user.clone(),
            name: None,
        }));
        changes
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
