//! What a node counts alone: requests of a connection, which lives here only, and of a user over HTTP. A window is
//! fixed, as the users' windows of messages are: see [`crate::broker::toll`].
//!
//! Who is refused over and over in one window floods: [`Refusals`] says when that goes too far.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::toll::{Rate, Taken, Tally};
use crate::id::UserId;

/// Refusals of a window beyond that many times the limit are a flood…
const FLOOD_FACTOR: u32 = 5;
/// …where they are at least so many.
const FLOOD_LEAST: u32 = 100;
/// Users whose windows are kept before those that are over are looked for.
const KEPT: usize = 1_024;

/// Refusals of one connection in one window, which begins with the first of them.
#[derive(Clone, Copy, Default, Debug)]
pub struct Refusals {
    tally: Tally,
}

impl Refusals {
    /// One more request was refused that `rate` limits. Whether that is a flood: more than five times the limit
    /// in one window, and at least 100.
    pub fn count(&mut self, rate: Rate, now: Instant) -> bool {
        let bearable = rate.limit.saturating_mul(FLOOD_FACTOR).max(FLOOD_LEAST - 1);
        let bearable = Rate {
            limit: bearable,
            ..rate
        };
        matches!(self.tally.take(bearable, now, false), Taken::Out(_))
    }
}

/// Requests of one connection in one window.
#[derive(Clone, Copy, Default, Debug)]
pub struct Requests {
    tally: Tally,
}

impl Requests {
    /// One request more.
    ///
    /// # Errors
    /// It is one too many; so much later there may be one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        match self.tally.take(rate, now, false) {
            Taken::In(..) => Ok(()),
            Taken::Out(left) => Err(left),
        }
    }
}

/// Requests of users over HTTP, on this node.
pub struct ByUser {
    rate: Option<Rate>,
    users: Mutex<Users>,
}

struct Users {
    windows: HashMap<UserId, Requests>,
    /// With so many entries those that are over are removed: as that is set to twice of what is left, the map
    /// has at most twice as many as users ask in one window, and an entry is looked at about once for each
    /// that comes.
    sweep_at: usize,
}

impl ByUser {
    /// So many each; `None`: any number, and nothing is kept.
    pub fn new(rate: Option<Rate>) -> ByUser {
        ByUser {
            rate,
            users: Mutex::new(Users {
                windows: HashMap::new(),
                sweep_at: KEPT,
            }),
        }
    }

    /// One request more of that user.
    ///
    /// # Errors
    /// It is one too many; so much later there may be one.
    pub fn take(&self, user: &UserId, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else {
            return Ok(());
        };
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.windows.len() >= users.sweep_at {
            users
                .windows
                .retain(|_, requests| !requests.tally.is_over(now));
            users.sweep_at = KEPT.max(2 * users.windows.len());
        }
        let requests = users.windows.entry(user.clone()).or_default();
        requests.take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refusals_to_a_flood(limit: u32) -> u32 {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let rate = Rate::new(limit, SECOND).unwrap();
        (1..).find(|_| refusals.count(rate, now)).unwrap()
    }

    #[test]
    fn a_flood_is_more_than_five_times_the_limit_and_at_least_a_hundred() {
        for (limit, first) in [(1, 100), (19, 100), (20, 101), (60, 301), (600, 3_001)] {
            assert_eq!(refusals_to_a_flood(limit), first, "{limit}");
        }
    }

    #[test]
    fn refusals_of_another_window_dont_add_up() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let rate = Rate::new(1, SECOND).unwrap();
        for n in 0..400 {
            assert!(!refusals.count(rate, now + n * SECOND / 90));
        }
    }

    #[test]
    fn users_have_windows_of_their_own_which_are_forgotten() {
        let by_user = ByUser::new(Rate::new(2, SECOND));
        let now = Instant::now();
        let user = |n: usize| UserId::parse(&n.to_string()).unwrap();
        // Windows that go on are kept when they are looked at.
        for n in 0..2 * KEPT {
            assert_eq!(by_user.take(&user(n), now), Ok(()));
        }
        assert_eq!(by_user.users.lock().unwrap().windows.len(), 2 * KEPT);
        assert_eq!(by_user.take(&user(0), now), Ok(()));
        assert_eq!(by_user.take(&user(0), now), Err(SECOND));
        for n in 0..2 * KEPT {
            assert_eq!(by_user.take(&user(2 * KEPT + n), now + SECOND), Ok(()));
        }
        assert_eq!(by_user.take(&user(0), now + SECOND), Ok(()));
        let left = by_user.users.lock().unwrap().windows.len();
        assert!(left <= 2 * KEPT + 1, "{left}");
        let off = ByUser::new(None);
        assert_eq!(off.take(&user(0), now), Ok(()));
        assert!(off.users.lock().unwrap().windows.is_empty());
    }
}
