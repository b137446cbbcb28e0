//! Which incarnations of nodes live, as this node judges it. Pure but for a lock: the cluster's task
//! tells it what each beat of this node's own lease found.
//!
//! An incarnation is dead when its lease has run out, or when others have struck it off the list. That is
//! judged only by a node that is **steady**: its own lease was renewed on time for one whole lease time.
//! A broker that freezes lets all leases run out together, and a node that froze sees the others' too
//! late; after either everybody has had the time to renew before anybody judges.
//!
//! Lock: held for a look or a change of memory, inside a room's lock; it takes no other.

use std::collections::{HashMap, VecDeque};
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
    /// It was never seen alive: its entries don't count, and aren't removed yet.
    Unknown,
}

/// What a beat led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Who is dead from now on.
    pub dead: Vec<Incarnation>,
    /// Whether rosters must be read again: this node has become steady, or has first seen somebody.
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
    /// When the last fault was; there was one at the start.
    fault: Instant,
    /// When the last beat that was answered went out.
    beat: Option<Instant>,
    steady: bool,
}

impl Nodes {
    /// Nobody is known, and this node has no lease yet.
    pub fn new() -> Nodes {
        let view = View {
            alive: HashMap::new(),
            dead: VecDeque::new(),
            fault: Instant::now(),
            beat: None,
            steady: false,
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

    /// An incarnation has just done something. Who is dead stays so.
    pub fn heard(&self, incarnation: Incarnation, now: Instant) {
        let known = {
            let view = self.view();
            view.alive.contains_key(&incarnation) || view.dead.contains(&incarnation)
        };
        if !known {
            // Nobody else but the cluster's task changes the view of it: that one finds it alive or dead.
            self.view_mut().alive.entry(incarnation).or_insert(now);
        }
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
        let mut read_again = view.steady && !was_steady;
        let leased = |(of, left, _): &(Incarnation, Option<Duration>, Vec<u8>)| left.map(|_| *of);
        let living: Vec<Incarnation> = beat.nodes.iter().filter_map(leased).collect();
        for incarnation in &living {
            if !view.dead.contains(incarnation) && !view.alive.contains_key(incarnation) {
                view.alive.insert(*incarnation, now);
                read_again = true;
            }
        }
        let mut dead = Vec::new();
        if view.steady {
            // Whoever was first heard of after the beat went out may have come too late for its list.
            let missed = view
                .alive
                .iter()
                .filter(|(of, since)| **since < sent && Some(**of) != own && !living.contains(*of));
            dead.extend(missed.map(|(of, _)| *of));
            let unknown = beat
                .nodes
                .iter()
                .filter(|(of, left, _)| left.is_none() && Some(*of) != own);
            dead.extend(
                unknown
                    .map(|(of, ..)| *of)
                    .filter(|of| !view.alive.contains_key(of)),
            );
        }
        dead.retain(|of| view.bury(*of));
        Verdict { dead, read_again }
    }

    /// Who of a beat's list is to be struck off it.
    pub fn struck(&self, beat: &Beat) -> Vec<Incarnation> {
        let view = self.view();
        let listed = beat.nodes.iter().filter(|(_, left, _)| left.is_none());
        let listed = listed.map(|(of, ..)| *of);
        listed.filter(|of| view.dead.contains(of)).collect()
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

    /// Whether it wasn't known for dead before.
    fn bury(&mut self, dead: Incarnation) -> bool {
        self.alive.remove(&dead);
        if self.dead.contains(&dead) {
            return false;
        }
        self.dead.push_back(dead);
        if self.dead.len() > MAX_DEAD {
            self.dead.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Clock {
        nodes: Nodes,
        own: Incarnation,
        now: Instant,
    }

    impl Clock {
        fn new() -> Clock {
            let (nodes, own, now) = (Nodes::new(), Incarnation::random(), Instant::now());
            nodes.begin(own, now);
            Clock { nodes, own, now }
        }

        fn beat(&mut self, held: bool, others: &[(Incarnation, bool)]) -> Verdict {
            self.now += BEAT;
            let left = |leased: bool| leased.then_some(SECOND);
            let mut nodes = vec![(self.own, Some(LEASE), Vec::new())];
            nodes.extend(
                others
                    .iter()
                    .map(|(of, leased)| (*of, left(*leased), Vec::new())),
            );
            let beat = Beat {
                listed: true,
                held,
                nodes,
            };
            self.nodes
                .judge(&beat, self.now, self.now + Duration::from_millis(1))
        }
    }

    #[test]
    fn a_lease_that_runs_out_is_a_death() {
        let (mut clock, other) = (Clock::new(), Incarnation::random());
        (0..5).for_each(|_| drop(clock.beat(true, &[(other, true)])));
        assert_eq!(clock.nodes.standing(other), Standing::Alive);
        assert_eq!(clock.beat(true, &[(other, false)]).dead, [other]);
        assert_eq!(clock.nodes.standing(other), Standing::Dead);
        assert!(clock.beat(true, &[(other, false)]).dead.is_empty());
        clock.nodes.heard(other, clock.now);
        assert_eq!(clock.nodes.standing(other), Standing::Dead);
    }

    #[test]
    fn who_was_struck_off_by_others_is_dead_too() {
        let (mut clock, other) = (Clock::new(), Incarnation::random());
        (0..5).for_each(|_| drop(clock.beat(true, &[(other, true)])));
        assert_eq!(clock.beat(true, &[]).dead, [other]);
    }

    #[test]
    fn nobody_is_judged_for_a_lease_time_after_a_fault() {
        let (mut clock, other) = (Clock::new(), Incarnation::random());
        (0..5).for_each(|_| drop(clock.beat(true, &[(other, true)])));
        // The broker froze: all leases ran out.
        assert_eq!(clock.beat(false, &[(other, false)]), Verdict::default());
        assert_eq!(clock.beat(true, &[(other, false)]), Verdict::default());
        assert_eq!(clock.beat(true, &[(other, false)]), Verdict::default());
        assert_eq!(clock.nodes.standing(other), Standing::Alive);
        let verdict = clock.beat(true, &[(other, false)]);
        assert_eq!((verdict.dead, verdict.read_again), (vec![other], true));
    }

    #[test]
    fn who_froze_judges_nobody() {
        let (mut clock, other) = (Clock::new(), Incarnation::random());
        (0..5).for_each(|_| drop(clock.beat(true, &[(other, true)])));
        clock.now += 20 * SECOND;
        assert!(clock.beat(true, &[(other, false)]).dead.is_empty());
        assert!(!clock.nodes.steady());
    }

    #[test]
    fn what_an_outage_of_all_left_is_found() {
        let (mut clock, ghost) = (Clock::new(), Incarnation::random());
        assert!(clock.beat(true, &[(ghost, false)]).dead.is_empty());
        assert_eq!(clock.nodes.standing(ghost), Standing::Unknown);
        let dead: Vec<_> = (0..4)
            .flat_map(|_| clock.beat(true, &[(ghost, false)]).dead)
            .collect();
        assert_eq!(dead, [ghost]);
    }

    #[test]
    fn who_is_heard_of_after_the_beat_went_out_is_not_missed() {
        let (mut clock, other) = (Clock::new(), Incarnation::random());
        (0..5).for_each(|_| drop(clock.beat(true, &[])));
        clock.nodes.heard(other, clock.now + BEAT);
        assert!(clock.beat(true, &[]).dead.is_empty());
        assert_eq!(clock.beat(true, &[]).dead, [other]);
    }
}
