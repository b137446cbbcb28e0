//! The embedded broker: the rooms' logs in this process, for one node. It keeps the contract of
//! [`crate::broker`] as Redis does, and forgets everything when the process ends.
//!
//! Locks: the map of rooms is let go before a room is locked. A room stays locked while its append is
//! delivered, so deliveries come in the order of places; the hub's locks are taken inside. The users' windows are
//! locked last, and for a moment.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::toll::{Block, Pays, Rate, Taken, Tallies};
use super::{Appended, Deliver, Draft, Outcome, REMEMBERED, Renewal, online, payload};
use crate::history::{Capped, Slice, Span};
use crate::id::{Incarnation, Mark, RoomId, Seq, ShortId, UserId};
use crate::presence::nodes::Beat;
use crate::presence::{Change, Published, Roster};
use crate::protocol::message;

/// How many `clientId`s of a room are remembered at most; beyond it the oldest go early.
const MAX_REMEMBERED: usize = 65_536;
/// How often what has had its time is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// What is kept of a room.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// That many messages.
    pub messages: usize,
    /// For that long after the last one.
    pub idle: Duration,
}

/// The embedded broker.
pub struct Local {
    keep: Keep,
    rooms: Mutex<HashMap<RoomId, Arc<Mutex<Room>>>>,
    /// Who is connected.
    online: Mutex<BTreeSet<Vec<u8>>>,
    /// How much each user has sent lately; `None`: nobody counts.
    tallies: Option<Tallies>,
}

struct Room {
    log: Capped,
    sent: Sent,
    roster: HashMap<(Incarnation, UserId), Arc<str>>,
    roster_version: Option<Mark>,
    touched: Instant,
}

/// Which `clientId`s were used, and what came of them.
#[derive(Default)]
struct Sent {
    known: HashMap<(UserId, Box<str>), (Mark, u64)>,
    by_age: VecDeque<(Instant, (UserId, Box<str>))>,
}

impl Sent {
    fn forget_old(&mut self, now: Instant) {
        while let Some((since, _)) = self.by_age.front() {
            if now.duration_since(*since) < REMEMBERED && self.by_age.len() <= MAX_REMEMBERED {
                break;
            }
            if let Some((_, key)) = self.by_age.pop_front() {
                self.known.remove(&key);
            }
        }
    }

    fn remember(&mut self, key: (UserId, Box<str>), mark: Mark, timestamp: u64, now: Instant) {
        self.by_age.push_back((now, key.clone()));
        self.known.insert(key, (mark, timestamp));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks panics half-way through a change, so a poisoned one is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Local {
    /// An empty broker.
    pub fn new(keep: Keep) -> Local {
        Local {
            keep,
            rooms: Mutex::default(),
            online: Mutex::default(),
            tallies: None,
        }
    }

    /// The same, where users may send so many messages.
    pub fn limited(self, rate: Option<Rate>) -> Local {
        Local {
            tallies: rate.map(Tallies::new),
            ..self
        }
    }

    /// How many messages a user may send; `None`: any number.
    pub fn rate(&self) -> Option<Rate> {
        self.tallies.as_ref().map(Tallies::rate)
    }

    fn room(&self, id: &RoomId) -> Arc<Mutex<Room>> {
        let mut rooms = lock(&self.rooms);
        if let Some(room) = rooms.get(id) {
            return room.clone();
        }
        let room = Room {
            log: Capped::default(),
            sent: Sent::default(),
            roster: HashMap::new(),
            roster_version: None,
            touched: Instant::now(),
        };
        rooms
            .entry(id.clone())
            .or_insert(Arc::new(Mutex::new(room)))
            .clone()
    }

    /// Appends drafts of one room and delivers what was stored.
    pub fn append(&self, id: &RoomId, drafts: &[Draft], up: &impl Deliver) -> Appended {
        let room = self.room(id);
        let mut room = lock(&room);
        let now = Instant::now();
        room.touched = now;
        room.sent.forget_old(now);
        let prev = room.log.head().map(|head| head.id);
        let mut stored = Vec::with_capacity(drafts.len());
        let mut outcomes = Vec::with_capacity(drafts.len());
        let mut blocks: Vec<Block> = Vec::new();
        for (nth, draft) in drafts.iter().enumerate() {
            // What is stored already pays nothing, and is never called one too many.
            let outcome = room.sent_before(draft).map_or_else(
                || match self.pay(nth, draft, &mut blocks, now) {
                    Ok(()) => Outcome::Stored(room.store(draft, &mut stored, self.keep, now)),
                    Err(left) => Outcome::Limited(left),
                },
                |(mark, timestamp)| Outcome::Duplicate(mark, timestamp),
            );
            outcomes.push(outcome);
        }
        if !stored.is_empty() {
            up.deliver(
                id.as_str(),
                &payload::messages(prev, stored.iter().map(|entry| &entry[..])),
            );
        }
        Appended { outcomes, blocks }
    }

    /// Counts a draft into its user's window, where it pays.
    fn pay(
        &self,
        nth: usize,
        draft: &Draft,
        blocks: &mut Vec<Block>,
        now: Instant,
    ) -> Result<(), Duration> {
        let Some(tallies) = self
            .tallies
            .as_ref()
            .filter(|_| draft.pays != Pays::Nothing)
        else {
            return Ok(());
        };
        match tallies.take(&draft.user, now, draft.pays == Pays::WithBlock) {
            Taken::Out(left) => Err(left),
            Taken::In(0, _) => Ok(()),
            Taken::In(ahead, left) => {
                blocks.push(Block { nth, ahead, left });
                Ok(())
            }
        }
    }

    /// Reads a room's history.
    pub fn read(&self, id: &RoomId, span: Span) -> Slice {
        let room = lock(&self.rooms).get(id).cloned();
        match room {
            Some(room) => lock(&room).log.read(span),
            None => Capped::default().read(span),
        }
    }

    /// Changes a room's roster and delivers what had an effect.
    pub fn change_roster(
        &self,
        id: &RoomId,
        changes: &[Change],
        up: &impl Deliver,
    ) -> Option<Mark> {
        let room = self.room(id);
        let mut room = lock(&room);
        let prev = room.roster_version;
        let mut changes = changes.to_vec();
        changes.retain(|change| room.enter(change));
        if !changes.is_empty() {
            let version = Mark {
                seq: prev.map_or(Seq(1), |prev| prev.seq.next()),
                id: ShortId::random(),
            };
            room.roster_version = Some(version);
            let prev = prev.map(|prev| prev.id);
            let published = Published {
                prev,
                version,
                changes,
            };
            up.deliver(id.as_str(), &payload::changes(&published));
        }
        room.roster_version
    }

    /// Reads a room's roster.
    pub fn roster(&self, id: &RoomId) -> Roster {
        let room = lock(&self.rooms).get(id).cloned();
        let Some(room) = room else {
            return Roster::default();
        };
        let room = lock(&room);
        let entries = room
            .roster
            .iter()
            .map(|((incarnation, user), name)| Change {
                incarnation: *incarnation,
                user: user.clone(),
                name: Some(name.clone()),
            });
        Roster {
            version: room.roster_version,
            entries: entries.collect(),
        }
    }

    /// The one node there is lives.
    pub fn beat(&self, renewal: &Renewal<'_>) -> Beat {
        let mut online = lock(&self.online);
        if renewal.anew {
            online.clear();
        }
        for (user, name, came) in renewal.users {
            let member = online::member(user, name);
            if *came {
                online.insert(member);
            } else {
                online.remove(&member);
            }
        }
        Beat {
            listed: true,
            held: true,
            nodes: vec![(renewal.own, Some(renewal.lease), renewal.about.to_vec())],
        }
    }

    /// Who is connected.
    pub fn online(&self, after: Option<&UserId>, max: usize) -> Vec<(UserId, Arc<str>)> {
        let from = after.map_or(Bound::Unbounded, |user| {
            Bound::Excluded(online::after(user))
        });
        let online = lock(&self.online);
        let members = online.range((from, Bound::Unbounded)).take(max);
        online::page(members.cloned().collect(), max)
    }

    /// Forgets, once a minute and without end, the rooms whose time has come.
    pub async fn sweep(&self) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            if let Some(tallies) = &self.tallies {
                tallies.sweep(now);
            }
            // A room that nobody else holds can be reached by nobody while the map is locked, so an
            // append can't go into a room that is just being forgotten.
            lock(&self.rooms).retain(|_, room| {
                Arc::strong_count(room) > 1 || {
                    let room = lock(room);
                    !room.roster.is_empty() || now.duration_since(room.touched) < self.keep.idle
                }
            });
        }
    }
}

impl Room {
    /// Sets or removes an entry of the roster; whether that had an effect.
    fn enter(&mut self, change: &Change) -> bool {
        let key = (change.incarnation, change.user.clone());
        match &change.name {
            Some(name) => self.roster.insert(key, name.clone()).as_ref() != Some(name),
            None => self.roster.remove(&key).is_some(),
        }
    }

    /// The message that this one repeats, by its `clientId`.
    fn sent_before(&self, draft: &Draft) -> Option<(Mark, u64)> {
        let key = (draft.user.clone(), draft.client_id.clone()?);
        self.sent.known.get(&key).copied()
    }

    fn store(&mut self, draft: &Draft, stored: &mut Vec<Bytes>, keep: Keep, now: Instant) -> Mark {
        let seq = self.log.head().map_or(Seq(1), |head| head.seq.next());
        let mark = Mark { seq, id: draft.id };
        let entry = Bytes::from(message::entry(mark, &draft.body));
        self.log.push(mark, entry.clone(), keep.messages);
        stored.push(entry);
        if let Some(client_id) = draft.client_id.clone() {
            let key = (draft.user.clone(), client_id);
            self.sent.remember(key, mark, draft.timestamp, now);
        }
        mark
    }
}
