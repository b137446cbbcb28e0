//! What a send costs its user: one of so many in a window, over all nodes. A window is fixed: it begins with the
//! user's first send and ends so long after. That is exact with one number in one key, and no send is
//! ever counted twice or late; the price is that around the edge of two windows up to twice the limit
//! may pass in less than a window's time.
//!
//! A call of the broker is made anyway, so a draft pays within it. With what it pays for itself a draft may ask for a
//! **block** ahead for its node: a sixteenth of what is left in the window, so that what lies unused on a node the
//! user has turned away from is little (at most 6.25 % of the limit a node, as a node asks for one block of a user
//! at a time). The user's next sends there are paid from the block, and nothing is asked or counted elsewhere.
//!
//! A send whose `clientId` is known pays nothing: what is stored is never called one too many.
//!
//! `redis/toll.lua` does in Redis what [`Tally::take`] does here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::id::UserId;

/// A block is that part of what is left in the window.
const PART: u32 = 16;

/// So many in one window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// At least 1.
    pub limit: u32,
    /// At least 1 ms.
    pub window: Duration,
}

impl Rate {
    /// The rate; `None` where `limit` is 0, which means: any number.
    pub fn new(limit: u32, window: Duration) -> Option<Rate> {
        (limit > 0).then_some(Rate { limit, window })
    }
}

/// What a draft has to pay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pays {
    /// It was counted before.
    Nothing,
    /// One.
    One,
    /// One, and a block ahead if there is one.
    WithBlock,
}

/// What a paying draft brought beside its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Which draft of the call paid; its user may send these.
    pub nth: usize,
    /// How many more its node may let the user send, paid already.
    pub ahead: u32,
    /// How long the window still lasted when the draft paid: the block is good for no longer.
    pub left: Duration,
}

/// What came of paying.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is within the limit, and so many more were taken ahead; the window lasts that long still.
    In(u32, Duration),
    /// The window is used up; a new one begins that much later.
    Out(Duration),
}

/// One fixed window.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    used: u32,
    /// `None`: none has begun.
    ends: Option<Instant>,
}

impl Tally {
    /// Takes one, and a block ahead where that is asked for. Never more than the limit in one window.
    pub fn take(&mut self, rate: Rate, now: Instant, with_block: bool) -> Taken {
        if self.is_over(now) {
            (self.used, self.ends) = (0, Some(now + rate.window));
        }
        let left = self.ends.map_or(Duration::ZERO, |ends| ends - now);
        let Some(rest) = rate.limit.checked_sub(self.used + 1) else {
            return Taken::Out(left);
        };
        let ahead = if with_block { rest / PART } else { 0 };
        self.used += 1 + ahead;
        Taken::In(ahead, left)
    }

    /// Whether no window goes on now.
    pub fn is_over(&self, now: Instant) -> bool {
        self.ends.is_none_or(|ends| ends <= now)
    }
}

/// The windows of all users, where no other node counts: for the embedded broker.
pub(super) struct Tallies {
    rate: Rate,
    users: Mutex<HashMap<UserId, Tally>>,
}

impl Tallies {
    pub(super) fn new(rate: Rate) -> Tallies {
        Tallies {
            rate,
            users: Mutex::default(),
        }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one of that user's; see [`Tally::take`].
    pub(super) fn take(&self, user: &UserId, now: Instant, with_block: bool) -> Taken {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = match users.get_mut(user) {
            Some(tally) => tally,
            None => users.entry(user.clone()).or_default(),
        };
        tally.take(self.rate, now, with_block)
    }

    /// Forgets the windows that are over.
    pub(super) fn sweep(&self, now: Instant) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, tally| !tally.is_over(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(limit: u32) -> Rate {
        Rate::new(limit, 10 * SECOND).unwrap()
    }

    #[test]
    fn a_window_begins_with_the_first_and_holds_the_limit() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        assert!(tally.is_over(now));
        for n in 0..3 {
            let at = now + n * SECOND;
            let left = 10 * SECOND - n * SECOND;
            assert_eq!(tally.take(rate(3), at, false), Taken::In(0, left));
        }
        let late = now + 9 * SECOND;
        assert_eq!(tally.take(rate(3), late, false), Taken::Out(SECOND));
        let next = now + 10 * SECOND;
        assert_eq!(tally.take(rate(3), next, false), Taken::In(0, 10 * SECOND));
    }

    #[test]
    fn blocks_get_smaller_and_never_exceed_the_limit() {
        for limit in [1, 2, 16, 17, 18, 60, 1_000_000] {
            let (mut tally, now) = (Tally::default(), Instant::now());
            let mut sum = 0;
            while let Taken::In(ahead, _) = tally.take(rate(limit), now, true) {
                assert!(ahead <= limit / PART);
                sum += 1 + ahead;
            }
            assert_eq!(sum, limit);
        }
    }

    #[test]
    fn windows_that_are_over_are_forgotten() {
        let (tallies, now) = (Tallies::new(rate(1)), Instant::now());
        let user = |id| UserId::parse(id).unwrap();
        tallies.take(&user("a"), now, true);
        tallies.take(&user("b"), now + SECOND, true);
        tallies.sweep(now + 10 * SECOND);
        assert_eq!(tallies.users.lock().unwrap().len(), 1);
        assert!(matches!(
            tallies.take(&user("b"), now + 10 * SECOND, true),
            Taken::Out(_)
        ));
    }
}
