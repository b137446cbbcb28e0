//! How many connections each user and each address has at this node, and what of that the broker has yet to be
//! told. Pure but for locks: the calls are `admission`'s.
//!
//! The broker keeps one number per place and node, set absolutely. Each number that goes out carries a version,
//! drawn under the place's lock together with it, and the broker takes none that is older than what it has. So
//! of two that overtake each other the newer stays, and it contains everybody whom this node lets in or is
//! about to: **the broker's number is never below those that were let in**, as long as it remembers it.
//!
//! A place is **settled** when the last number that is known to be there is the true one and no call for it is on its
//! way. Otherwise the end of that call, or whoever changes it next, puts it into the queue, once. It is taken
//! out of the map when it is settled and nobody is left. So the map and the queue hold no more places than
//! there are connections, and those whose end the broker hasn't confirmed yet.
//!
//! Lock order: a part of the map before the queue.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::broker::places::Verdict;
use crate::maps;

/// Parts of the map: one lock each, and restated one after another.
pub(super) const PARTS: usize = 64;

/// What is counted: a user or an address, by its name in the broker.
pub(super) type Place = Arc<str>;

/// How many connections there are, as of a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Count {
    pub(super) version: u64,
    pub(super) held: u32,
}

/// What became of a number that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The broker has it, or a newer one.
    Written,
    /// The broker refused it.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Fate {
    /// Of a number that was sent with one who enters.
    pub(super) fn of(verdict: &Verdict) -> Fate {
        match verdict {
            Verdict::In => Fate::Written,
            Verdict::TooFast | Verdict::Full(..) => Fate::Refused,
        }
    }
}

/// The numbers of this node.
pub(super) struct Held {
    /// Whether there is anybody to be told.
    shared: bool,
    version: AtomicU64,
    hasher: RandomState,
    parts: Box<[Mutex<HashMap<Place, Entry>>]>,
    queue: Mutex<VecDeque<Place>>,
    /// Something was put into the queue.
    pub(super) news: Notify,
}

struct Entry {
    held: u32,
    /// Calls that are on their way.
    calls: u32,
    /// What the broker is known to have.
    told: Option<Count>,
    /// What was drawn up to then tells nothing of what the broker has now.
    doubt: u64,
    queued: bool,
}

impl Entry {
    const NEW: Entry = Entry {
        held: 0,
        calls: 0,
        told: Some(Count {
            version: 0,
            held: 0,
        }),
        doubt: 0,
        queued: false,
    };

    fn settled(&self) -> bool {
        self.calls == 0 && self.told.is_some_and(|told| told.held == self.held)
    }

    fn count(&self, version: &AtomicU64) -> Count {
        Count {
            version: 1 + version.fetch_add(1, Ordering::Relaxed),
            held: self.held,
        }
    }
}

impl Held {
    /// Nobody is here.
    pub(super) fn new(shared: bool) -> Held {
        Held {
            shared,
            version: AtomicU64::new(0),
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            queue: Mutex::default(),
            news: Notify::new(),
        }
    }

    fn part_of(&self, place: &str) -> MutexGuard<'_, HashMap<Place, Entry>> {
        self.part(self.hasher.hash_one(place) as usize)
    }

    // Nothing under these locks panics half-way through a change.
    fn part(&self, nth: usize) -> MutexGuard<'_, HashMap<Place, Entry>> {
        self.parts[nth % PARTS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Place>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of `most` connections, if this node alone hasn't as many. [`Held::release`] gives it back. What it
    /// gives is to be sent, and [`Held::answered`] to hear of it.
    pub(super) fn take(&self, place: &Place, most: u32) -> Option<Count> {
        let mut part = self.part_of(place);
        let entry = part.entry(place.clone()).or_insert(Entry::NEW);
        if entry.held >= most {
            // Only an entry with somebody is that full: none is left behind.
            return None;
        }
        entry.held += 1;
        entry.calls += u32::from(self.shared);
        Some(entry.count(&self.version))
    }

    /// A connection has ended.
    pub(super) fn release(&self, place: &Place) {
        self.change(place, |entry| entry.held = entry.held.saturating_sub(1));
    }

    /// What became of a number that was sent.
    pub(super) fn answered(&self, place: &Place, count: Count, fate: Fate) {
        if !self.shared {
            return;
        }
        let now = &self.version;
        self.change(place, |entry| {
            entry.calls = entry.calls.saturating_sub(1);
            let newest = entry.told.is_none_or(|told| told.version < count.version);
            match fate {
                Fate::Written if count.version > entry.doubt && newest => entry.told = Some(count),
                Fate::Written | Fate::Refused => {}
                Fate::Unknown => entry.forget(now),
            }
        });
    }

    fn change(&self, place: &Place, change: impl FnOnce(&mut Entry)) {
        let mut part = self.part_of(place);
        let Some(entry) = part.get_mut(place) else {
            return;
        };
        change(entry);
        if self.shared && entry.calls > 0 {
            // The end of the call sees to it.
        } else if self.shared && !entry.settled() {
            self.enqueue(place, entry);
        } else if entry.held == 0 && !entry.queued {
            part.remove(place);
            maps::fit(&mut part);
        }
    }

    fn enqueue(&self, place: &Place, entry: &mut Entry) {
        if !std::mem::replace(&mut entry.queued, true) {
            self.queue().push_back(place.clone());
            self.news.notify_one();
        }
    }

    /// Numbers that are to be sent, `max` at most; [`Held::answered`] is to hear of each.
    pub(super) fn next(&self, max: usize) -> Vec<(Place, Count)> {
        let mut next = Vec::new();
        while next.len() < max {
            let Some(place) = self.pop() else { break };
            let mut part = self.part_of(&place);
            let Some(entry) = part.get_mut(&place) else {
                continue;
            };
            entry.queued = false;
            if entry.calls > 0 {
                // The end of that call sees to it.
            } else if !entry.settled() {
                entry.calls += 1;
                next.push((place.clone(), entry.count(&self.version)));
            } else if entry.held == 0 {
                part.remove(&place);
                maps::fit(&mut part);
            }
        }
        next
    }

    fn pop(&self) -> Option<Place> {
        let mut queue = self.queue();
        let place = queue.pop_front();
        if queue.is_empty() {
            *queue = VecDeque::new();
        }
        place
    }

    /// The broker may have nothing any more of what it was told: all is to be told again.
    pub(super) fn all_anew(&self) {
        (0..PARTS).for_each(|nth| self.part_anew(nth));
    }

    /// The same for one of [`PARTS`] parts.
    pub(super) fn part_anew(&self, nth: usize) {
        if !self.shared {
            return;
        }
        for (place, entry) in self.part(nth).iter_mut() {
            entry.forget(&self.version);
            self.enqueue(place, entry);
        }
    }

    /// Whether nothing is to be told.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue().is_empty()
    }

    /// Whether the broker is known to have everything.
    pub(super) fn is_settled(&self) -> bool {
        let settled = |nth| self.part(nth).values().all(Entry::settled);
        !self.shared || (0..PARTS).all(settled)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        (0..PARTS).map(|nth| self.part(nth).len()).sum()
    }
}

impl Entry {
    fn forget(&mut self, version: &AtomicU64) {
        self.told = None;
        self.doubt = version.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
