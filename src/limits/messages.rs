//! Messages of a user, over all nodes. The broker counts them as it stores them ([`crate::broker::toll`]); what it
//! said last of a user is kept here, shared by all of the user's connections on this node:
//!
//! ```text
//!              take: pays
//!   Unknown ───────────────► the broker ──► in, with a block ──► Ahead ──► take: paid already
//!      ▲                         │                                 │ used up, or its time is over
//!      │                         └──► too many ──► Barred          │
//!      │                                             │ take: wait  │
//!      └──────────── its time is over ◄──────────────┴─────────────┘
//! ```
//!
//! **Instants.** The broker says for how long its window lasts still, at some instant between the call and the answer.
//! So the window ends at the earliest that long after the call, and at the latest that long after the answer. A block
//! may be used, and a user is refused without asking, until the earliest; a refused client is told the
//! latest. So no block is used in a window that it isn't counted in, nobody is refused for a window that is over, and
//! who waits as told meets a new one.
//!
//! **Where Redis is away** a block in hand is used up as ever, and who is barred stays so; a message that couldn't be
//! stored isn't given back. Where Redis lost its data, what this node holds is valid still: once, the user may send a
//! block more.
//!
//! **Locks.** A connection looks its user up once, in one of 64 maps; afterwards only the user's own
//! connections share a lock, for a few instructions. An entry goes when nobody holds it and nothing is known of
//! it: decided under the map's lock, from which alone new holders come. It is kept until then, so that who comes
//! and goes (or sends over HTTP, without a connection) doesn't leave a block behind each time.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::toll::{Pays, Rate};
use crate::id::UserId;

/// A block that was asked for so long ago won't come: the window had none left, or the call failed.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Maps that users are spread over.
const SHARDS: usize = 64;
/// The broker's clock may be so much further than it says: it counts in milliseconds.
const TICK: Duration = Duration::from_millis(1);

/// What this node may let one user send.
#[derive(Default, Debug)]
pub struct Allowance {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Default, Debug)]
struct State {
    known: Known,
    /// When a block was asked for that hasn't come. One at a time: a user who sends into sixty rooms at once would
    /// be given a sixteenth of what is left for each, and find nothing left.
    asked: Option<Instant>,
}

/// What the broker said last; what is over counts as `Unknown`.
#[derive(Clone, Copy, Default, Debug)]
enum Known {
    #[default]
    Unknown,
    /// So many are paid; good until then.
    Ahead(u32, Instant),
    /// The window is used up. It isn't over before the first instant, and is at the second.
    Barred(Instant, Instant),
}

/// Whether a message may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pass {
    /// It may; it is paid.
    Paid,
    /// The broker will say: it pays there.
    Pays(Pays),
    /// It may not; so much later it may.
    Wait(Duration),
}

impl State {
    /// What a send pays of which nothing is known: with a block, unless one is on its way.
    fn ask(&mut self, now: Instant) -> Pays {
        let is_coming = |asked: Instant| now.saturating_duration_since(asked) < ASK_AGAIN;
        if self.asked.is_some_and(is_coming) {
            return Pays::One;
        }
        self.asked = Some(now);
        Pays::WithBlock
    }
}

impl Known {
    fn at(self, now: Instant) -> Known {
        match self {
            Known::Ahead(ahead, until) if ahead > 0 && now < until => self,
            Known::Barred(until, _) if now < until => self,
            _ => Known::Unknown,
        }
    }
}

impl Allowance {
    fn state(&self) -> MutexGuard<'_, State> {
        // Values are written whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One message that the user wants to send now.
    pub fn take(&self, now: Instant) -> Pass {
        let mut state = self.state();
        state.known = state.known.at(now);
        match &mut state.known {
            Known::Unknown => Pass::Pays(state.ask(now)),
            Known::Ahead(ahead, _) => {
                *ahead -= 1;
                Pass::Paid
            }
            Known::Barred(_, over) => Pass::Wait(*over - now),
        }
    }

    /// A call that was made then brought a block; its window still lasted `left` when it was counted.
    pub fn grant(&self, ahead: u32, called: Instant, left: Duration, now: Instant) {
        let until = called + left.saturating_sub(TICK);
        let mut state = self.state();
        state.asked = None;
        let known = &mut state.known;
        // A block of an earlier window is over when one of the next arrives, and one that arrives late is over
        // by itself: so what is valid together is of one window, and adds up.
        *known = match (known.at(now), Known::Ahead(ahead, until).at(now)) {
            (Known::Ahead(some, first), Known::Ahead(more, second)) => {
                Known::Ahead(some.saturating_add(more), first.max(second))
            }
            (_, granted @ Known::Ahead(..)) => granted,
            (known, _) => known,
        };
    }

    /// A call that was made then was told that the window, which still lasted `left`, is used up.
    pub fn bar(&self, called: Instant, left: Duration, now: Instant) {
        let barred = Known::Barred(called + left.saturating_sub(TICK), now + left);
        let mut state = self.state();
        state.asked = None;
        let known = &mut state.known;
        // What is paid may be used, whatever was refused beside it.
        if !matches!(known.at(now), Known::Ahead(..)) {
            *known = barred;
        }
    }
}

/// The allowances of all users who are here, or were lately.
pub struct Allowances {
    rate: Rate,
    hasher: RandomState,
    shards: [Mutex<HashMap<UserId, Arc<Allowance>>>; SHARDS],
    /// Which of them is swept next.
    next: AtomicUsize,
}

impl Allowances {
    /// Of users who may send so many.
    pub fn new(rate: Rate) -> Allowances {
        Allowances {
            rate,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicUsize::new(0),
        }
    }

    /// How many a user may send.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, HashMap<UserId, Arc<Allowance>>> {
        let shard = &self.shards[number % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user's. Whoever sends for the user holds it meanwhile.
    pub fn of(&self, user: &UserId) -> Arc<Allowance> {
        let number = self.hasher.hash_one(user) as usize;
        self.shard(number).entry(user.clone()).or_default().clone()
    }

    /// Forgets the users of one map who are gone and of whom nothing is known. To be called once a second: so a
    /// user is forgotten about a minute after its window, and no call holds anybody up.
    pub fn sweep(&self, now: Instant) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shard(number);
        shard.retain(|_, allowance| {
            Arc::strong_count(allowance) > 1
                || !matches!(allowance.state().known.at(now), Known::Unknown)
        });
        if shard.capacity() > 4 * shard.len() + SHARDS {
            shard.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PAYS: Pass = Pass::Pays(Pays::WithBlock);
    const MS: Duration = Duration::from_millis(1);

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn a_block_is_used_up_or_runs_out() {
        let (allowance, now) = (Allowance::default(), Instant::now());
        assert_eq!(allowance.take(now), PAYS);
        assert_eq!(allowance.take(now), Pass::Pays(Pays::One));
        allowance.grant(2, now, 10 * SECOND, now + SECOND);
        let late = now + 10 * SECOND - 2 * MS;
        assert_eq!(allowance.take(now + SECOND), Pass::Paid);
        assert_eq!(allowance.take(late), Pass::Paid);
        assert_eq!(allowance.take(late), PAYS);
        allowance.grant(2, now, 10 * SECOND, late);
        // The call was made at `now` at the earliest, and the broker's millisecond may have been nearly over.
        assert_eq!(allowance.take(late + MS), PAYS);
    }

    #[test]
    fn blocks_of_one_window_add_up_and_late_ones_count_for_nothing() {
        let (allowance, now) = (Allowance::default(), Instant::now());
        allowance.grant(1, now, 10 * SECOND, now + SECOND);
        allowance.grant(1, now + SECOND, 9 * SECOND, now + SECOND);
        allowance.grant(5, now, SECOND, now + SECOND);
        allowance.grant(0, now, 20 * SECOND, now + SECOND);
        let taken = (0..4).map(|_| allowance.take(now + 2 * SECOND));
        let expected = [Pass::Paid, Pass::Paid, PAYS, Pass::Pays(Pays::One)];
        assert_eq!(taken.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn who_is_barred_is_asked_for_again_early_and_told_late() {
        let (allowance, now) = (Allowance::default(), Instant::now());
        let answered = now + SECOND;
        allowance.bar(now, 5 * SECOND, answered);
        assert_eq!(allowance.take(answered + SECOND), Pass::Wait(4 * SECOND));
        assert_eq!(
            allowance.take(now + 5 * SECOND - 2 * MS),
            Pass::Wait(SECOND + 2 * MS)
        );
        assert_eq!(allowance.take(now + 5 * SECOND - MS), PAYS);
    }

    #[test]
    fn what_is_paid_is_used_before_anybody_is_barred() {
        let (allowance, now) = (Allowance::default(), Instant::now());
        allowance.grant(1, now, 10 * SECOND, now);
        allowance.bar(now, 10 * SECOND, now);
        assert_eq!(allowance.take(now), Pass::Paid);
        allowance.bar(now, 10 * SECOND, now);
        assert_eq!(allowance.take(now), Pass::Wait(10 * SECOND));
        allowance.grant(1, now, 10 * SECOND, now);
        assert_eq!(allowance.take(now), Pass::Paid);
    }

    #[test]
    fn a_user_is_forgotten_when_nobody_holds_it_and_nothing_is_known() {
        let allowances = Allowances::new(Rate::new(60, 10 * SECOND).unwrap());
        let now = Instant::now();
        let sweep = |at| (0..SHARDS).for_each(|_| allowances.sweep(at));
        let count = || -> usize { (0..SHARDS).map(|n| allowances.shard(n).len()).sum() };
        let held = allowances.of(&user("held"));
        assert!(Arc::ptr_eq(&held, &allowances.of(&user("held"))));
        allowances
            .of(&user("ahead"))
            .grant(3, now, 10 * SECOND, now);
        drop(allowances.of(&user("gone")));
        sweep(now + SECOND);
        assert_eq!(count(), 2);
        sweep(now + 10 * SECOND);
        assert_eq!(count(), 1);
        drop(held);
        sweep(now + 10 * SECOND);
        assert_eq!(count(), 0);
    }
}
