//! How often each address came: fixed windows, each begun by the first connect in it. Pure but for locks: the clock
//! is handed in.
//!
//! Where nodes meet in a broker, its count decides, and this one keeps in step with it: every answer says when
//! the window ends there. What this one refuses by itself needs no question then: an address that the broker
//! refused, or that has used the whole limit at this node alone, has no right to another connect in the same
//! window. So however fast one address comes, the broker hears of it at most as often as the limit allows.
//! While the broker is away, or where there is none, this count is all there is.
//!
//! Memory: 131,072 windows at most, each until it ends. Whoever comes from more networks than that within one window
//! could have made that many times the limit's connects in any case; those beyond it aren't counted here, and
//! still are in the broker. Nobody is refused for the crowd around.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::address::Source;

/// Locks: each is held for one look-up, or for one sweep of its part.
const SHARDS: usize = 64;
/// Windows at once under each of them.
const A_SHARD: usize = 2_048;
/// A part that is full is swept so often at most.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// The windows of all addresses.
pub(super) struct Connects {
    most: u32,
    length: Duration,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    windows: HashMap<Source, Window>,
    swept: Option<Instant>,
}

struct Window {
    /// Connects at this node.
    count: u32,
    /// The broker said that there were too many over all nodes.
    closed: bool,
    ends: Instant,
}

impl Connects {
    /// `most` connects in a window of that length.
    pub(super) fn new(most: u32, length: Duration) -> Connects {
        Connects {
            most,
            length,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn shard(&self, source: Source) -> MutexGuard<'_, Shard> {
        let nth = self.hasher.hash_one(source) as usize % SHARDS;
        self.part(nth)
    }

    // Nothing under this lock panics half-way through a change.
    fn part(&self, nth: usize) -> MutexGuard<'_, Shard> {
        self.shards[nth % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connect.
    ///
    /// # Errors
    /// The time until the window ends, where there were too many.
    pub(super) fn knock(&self, source: Source, now: Instant) -> Result<(), Duration> {
        let mut shard = self.shard(source);
        if let Some(window) = shard.windows.get_mut(&source)
            && window.ends > now
        {
            if window.closed || window.count >= self.most {
                return Err(window.ends - now);
            }
            window.count += 1;
            return Ok(());
        }
        if shard.has_room(source, now) {
            let window = Window {
                count: 1,
                closed: false,
                ends: now + self.length,
            };
            shard.windows.insert(source, window);
        }
        Ok(())
    }

    /// The broker's window of that address ends after `left`; and it is `closed`, or not yet.
    pub(super) fn told(&self, source: Source, left: Duration, closed: bool, now: Instant) {
        if let Some(window) = self.shard(source).windows.get_mut(&source) {
            let ends = now + left.min(self.length);
            // One that ends so much later is the broker's next: what was counted here was in the one before. It
            // is only the broker who says that it is full.
            if window.ends <= now || ends > window.ends + self.length / 2 {
                (window.count, window.closed) = (1, false);
            }
            window.ends = ends;
            window.closed |= closed;
        }
    }

    /// Forgets what has ended, in all parts.
    pub(super) fn sweep(&self, now: Instant) {
        (0..SHARDS).for_each(|nth| self.part(nth).sweep(now));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        (0..SHARDS).map(|nth| self.part(nth).windows.len()).sum()
    }
}

impl Shard {
    fn has_room(&mut self, source: Source, now: Instant) -> bool {
        let lately = |swept: Instant| now.saturating_duration_since(swept) < SWEEP_AGAIN;
        if self.windows.len() >= A_SHARD && !self.swept.is_some_and(lately) {
            self.sweep(now);
        }
        self.windows.len() < A_SHARD || self.windows.contains_key(&source)
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        self.windows.retain(|_, window| window.ends > now);
        if self.windows.capacity() > 4 * self.windows.len() {
            self.windows.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const MAX_WINDOWS: usize = SHARDS * A_SHARD;
    const WINDOW: Duration = Duration::from_secs(10);

    fn source(last: u8) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    #[test]
    fn a_window_is_begun_by_its_first_connect_and_takes_so_many() {
        let (connects, start) = (Connects::new(3, WINDOW), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [0, 4_000, 9_999] {
            assert_eq!(connects.knock(source(1), at(ms)), Ok(()));
        }
        let left = connects.knock(source(1), at(9_999));
        assert_eq!(left, Err(Duration::from_millis(1)));
        assert_eq!(connects.knock(source(2), at(9_999)), Ok(()));
        for _ in 0..3 {
            assert_eq!(connects.knock(source(1), at(10_000)), Ok(()));
        }
        assert_eq!(connects.knock(source(1), at(10_000)), Err(WINDOW));
    }

    #[test]
    fn the_broker_says_when_a_window_ends_and_when_it_is_closed() {
        let (connects, start) = (Connects::new(3, WINDOW), Instant::now());
        let second = Duration::from_secs(1);
        for _ in 0..2 {
            assert_eq!(connects.knock(source(1), start), Ok(()));
        }
        connects.told(source(1), 4 * second, true, start);
        assert_eq!(connects.knock(source(1), start + second), Err(3 * second));
        assert_eq!(connects.knock(source(1), start + 4 * second), Ok(()));
        // Of an address that isn't known here nothing is kept.
        connects.told(source(9), second, true, start);
        assert_eq!(connects.len(), 1);
    }

    /// A window here ends a little later than the broker's: who comes in between begins the broker's next.
    #[test]
    fn what_was_counted_before_the_brokers_next_window_is_not_counted_in_it() {
        let (connects, start) = (Connects::new(3, WINDOW), Instant::now());
        let late = start + WINDOW - Duration::from_millis(1);
        for _ in 0..2 {
            assert_eq!(connects.knock(source(1), start), Ok(()));
        }
        connects.told(source(1), Duration::from_millis(1), true, late);
        connects.told(source(1), WINDOW, false, late);
        for _ in 0..2 {
            assert_eq!(connects.knock(source(1), late), Ok(()));
        }
        assert_eq!(connects.knock(source(1), late), Err(WINDOW));
    }

    #[test]
    fn windows_are_bounded_and_go_when_they_have_ended() {
        let (connects, start) = (Connects::new(1, WINDOW), Instant::now());
        let network = |n: u32| Source::of(IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 64)));
        let many = 2 * MAX_WINDOWS as u32;
        for n in 0..many {
            assert_eq!(connects.knock(network(n), start), Ok(()));
        }
        assert!(connects.len() <= MAX_WINDOWS);
        connects.sweep(start + WINDOW);
        assert_eq!(connects.len(), 0);
        // The first of a full part makes room by itself, too.
        (0..many).for_each(|n| connects.knock(network(n), start).unwrap_or_default());
        let later = start + WINDOW;
        (0..many).for_each(|n| connects.knock(network(many + n), later).unwrap_or_default());
        assert_eq!(connects.knock(network(0), start + WINDOW), Ok(()));
        assert!(connects.len() <= MAX_WINDOWS);
    }
}
