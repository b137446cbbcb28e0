//! Which incarnations of nodes live, as this node judges it. Pure but for a lock: the cluster's task
//! tells it what each beat of this node's own lease found.
//!
//! ```text
//!   unknown ──► alive ─── its lease has run out ──► struck off the list, unless it has a lease by then
//!                 ▲                                      │                      │
//!                 └──────────────────────────────────────┼──────────────────────┘
//!                                                        └──► dead
//! ```
//!
//! An incarnation is dead when it is not on the list any more. Whether it is struck off is decided by the
//! broker, in one step with a look at its lease, and it is put on no more; so whom the others gave up learns
//! it by its next beat, and who comes back just in time was given up by nobody.
//!
//! That is judged only by a node that is **steady**: its own lease was renewed on time for one whole lease time.
//! A broker that freezes lets all leases run out together, and a node that froze sees the others' too
//! late; after either everybody has had the time to renew before anybody judges.
//!
//! Lock: held for a look or a change of memory, inside a room's lock; it takes no other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::id::Incarnation;

/// How often a lease is renewed.
pub const BEAT: Duration = Duration::from_secs(2);
/// How long a lease lasts. A node that dies is noticed within it.
pub const LEASE: Duration = Duration::from_secs(6);
/// The longest time from a beat's going out to the next one's answer; beyond it there was a fault. The
/// broker can't have been frozen for longer between the two, and whoever beats on time has so much of its lease
/// left at any moment: so nobody's ran out by that.
const LATEST: Duration = LEASE.saturating_sub(BEAT);
/// How many dead incarnations are remembered, oldest forgotten first; so long a write of theirs that
/// arrives late is known for what it is.
const MAX_DEAD: usize = 1_024;
/// How many of whom nothing is known but their traces are looked out for; what more there are have their turn
/// when these are known.
const MAX_SUSPECTS: usize = 1_024;

/// What a beat found.
#[derive(Clone, Debug, Default)]
pub struct Beat {
    /// The incarnation was on the list before, or it is its first beat. Where it wasn't, the others
    /// gave it up, and it must not be used any more.
    pub listed: bool,
    /// Its lease hadn't run out.
    pub held: bool,
    /// Everybody on the list: whose lease, how long it still lasts (`None`: it has run out), and what
    /// the node says of itself.
    pub nodes: Vec<(Incarnation, Option<Duration>, Vec<u8>)>,
}

/// How an incarnation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Its entries count.
    Alive,
    /// Its entries count for nobody and are removed.
    Dead,
    /// It was never seen alive: its entries don't count, and aren't removed before that is certain.
    Unknown,
}

/// What a beat led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Who is dead from now on.
    pub dead: Vec<Incarnation>,
    /// Whose leases have run out: they are to be struck off the list at once.
    pub strike: Vec<Incarnation>,
    /// Whether rosters must be read again: this node has become steady, or has first seen somebody, or knows
    /// at last that somebody is dead whose entries it saw.
    pub read_again: bool,
}

/// This node's view of all nodes.
pub struct Nodes {
    own: watch::Sender<Option<Incarnation>>,
    view: RwLock<View>,
}

struct View {
    /// Since when each is known to be alive.
    alive: HashMap<Incarnation, Instant>,
    dead: VecDeque<Incarnation>,
    /// Since when there are traces of each that was never seen alive. They leave it with the first beat after
    /// that, alive or dead, as soon as this node is steady.
    suspects: HashMap<Incarnation, Instant>,
    /// When the last fault was; there was one at the start.
    fault: Instant,
    /// When the last beat that was answered went out.
    beat: Option<Instant>,
    steady: bool,
    /// Somebody was first heard of since the last beat: rosters may have been read before.
    news: bool,
}

impl Nodes {
    /// Nobody is known, and this node has no lease yet.
    pub fn new() -> Nodes {
        let view = View {
            alive: HashMap::new(),
            dead: VecDeque::new(),
            suspects: HashMap::new(),
            fault: Instant::now(),
            beat: None,
            steady: false,
            news: false,
        };
        Nodes {
            own: watch::Sender::new(None),
            view: RwLock::new(view),
        }
    }

    /// A node that is alone, and needs no lease.
    pub fn alone() -> Nodes {
        let nodes = Nodes::new();
        nodes.begin(Incarnation::random(), Instant::now());
        nodes.view_mut().steady = true;
        nodes
    }

    // Nothing under this lock panics half-way through a change.
    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's incarnation, once its lease is there.
    pub fn own(&self) -> Option<Incarnation> {
        *self.own.borrow()
    }

    /// Waits until this node has a lease.
    pub async fn has_lease(&self) {
        // The sender lives in `self`, so the wait can't end in an error.
        let _ = self.own.subscribe().wait_for(Option::is_some).await;
    }

    /// This node's lease in the name of that incarnation is there.
    pub fn begin(&self, own: Incarnation, now: Instant) {
        self.view_mut().alive.insert(own, now);
        self.own.send_replace(Some(own));
    }

    /// The others gave this node up: its incarnation is dead, and it is in none until the next begins.
    pub fn given_up(&self, now: Instant) {
        let former = self.own.send_replace(None);
        let mut view = self.view_mut();
        if let Some(former) = former {
            view.bury(former);
        }
        view.fault(now);
    }

    /// How an incarnation stands.
    pub fn standing(&self, incarnation: Incarnation) -> Standing {
        let view = self.view();
        if view.alive.contains_key(&incarnation) {
            Standing::Alive
        } else if view.dead.contains(&incarnation) {
            Standing::Dead
        } else {
            Standing::Unknown
        }
    }

    /// An incarnation has just done something; whether it wasn't known to live. Who is dead stays so.
    pub fn heard(&self, incarnation: Incarnation, now: Instant) -> bool {
        let known = {
            let view = self.view();
            view.alive.contains_key(&incarnation) || view.dead.contains(&incarnation)
        };
        if known {
            return false;
        }
        // The cluster's task may have found it dead meanwhile.
        let mut view = self.view_mut();
        let is_news = view.is_news(incarnation, now);
        view.news |= is_news;
        is_news
    }

    /// A roster has entries of an incarnation of which nothing else is known.
    pub fn suspect(&self, incarnation: Incarnation, now: Instant) {
        self.view_mut().suspect(incarnation, now);
    }

    /// Whether this node may judge others.
    pub fn steady(&self) -> bool {
        self.view().steady
    }

    /// How many are alive.
    pub fn count(&self) -> usize {
        self.view().alive.len()
    }

    /// The broker couldn't be reached, or answered late.
    pub fn fault(&self, now: Instant) {
        self.view_mut().fault(now);
    }

    /// Judges by a beat that went out at `sent` and was answered at `now`.
    pub fn judge(&self, beat: &Beat, sent: Instant, now: Instant) -> Verdict {
        let own = self.own();
        let mut view = self.view_mut();
        let was_steady = view.steady;
        view.keep_time(beat.held, sent, now);
        let mut verdict = Verdict {
            read_again: (view.steady && !was_steady) | std::mem::take(&mut view.news),
            ..Verdict::default()
        };
        for (of, left, _) in &beat.nodes {
            if left.is_some() {
                verdict.read_again |= view.is_news(*of, now);
            } else if view.steady && Some(*of) != own {
                view.suspect(*of, now);
                verdict.strike.push(*of);
            }
        }
        if view.steady {
            let listed: HashSet<Incarnation> = beat.nodes.iter().map(|(of, ..)| *of).collect();
            // Who was first heard of after the beat went out may have come too late for its list.
            let known = view.alive.iter().chain(&view.suspects);
            let gone = known.filter(|(of, since)| **since < sent && !listed.contains(of));
            verdict.dead = gone.map(|(of, _)| *of).collect();
            verdict.dead.retain(|of| Some(*of) != own);
        }
        for dead in &verdict.dead {
            verdict.read_again |= view.suspects.contains_key(dead);
            view.bury(*dead);
        }
        verdict
    }
}

impl Default for Nodes {
    fn default() -> Nodes {
        Nodes::new()
    }
}

impl View {
    fn fault(&mut self, now: Instant) {
        self.fault = now;
        self.steady = false;
    }

    fn keep_time(&mut self, held: bool, sent: Instant, now: Instant) {
        let last = self.beat.replace(sent);
        let on_time = last.is_some_and(|last| now.saturating_duration_since(last) <= LATEST);
        if !held || !on_time {
            self.fault(now);
        }
        self.steady = now.saturating_duration_since(self.fault) >= LEASE;
    }

    /// An incarnation has a lease. Whether that wasn't known.
    fn is_news(&mut self, incarnation: Incarnation, now: Instant) -> bool {
        if self.alive.contains_key(&incarnation) || self.dead.contains(&incarnation) {
            return false;
        }
        self.suspects.remove(&incarnation);
        self.alive.insert(incarnation, now);
        true
    }

    fn suspect(&mut self, incarnation: Incarnation, now: Instant) {
        let known = self.alive.contains_key(&incarnation) || self.dead.contains(&incarnation);
        if !known && self.suspects.len() < MAX_SUSPECTS {
            self.suspects.entry(incarnation).or_insert(now);
        }
    }

    fn bury(&mut self, dead: Incarnation) {
        self.alive.remove(&dead);
        self.suspects.remove(&dead);
        if !self.dead.contains(&dead) {
            self.dead.push_back(dead);
        }
        if self.dead.len() > MAX_DEAD {
            self.dead.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
