//! A node's side of one room: what its tasks do, a step at a time. Any time may lie between a read's
//! being asked for, its being carried out and its answer, and the two kinds of reads overtake each
//! other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::client::check;
use super::random::Random;
use super::roster::Roster;
use crate::broker::{Unavailable, payload};
use crate::history::{Slice, Span};
use crate::hub::catchup::{self, Reader, Reason};
use crate::hub::driver;
use crate::hub::peer::Note;
use crate::hub::room::Room;
use crate::id::{Incarnation, Mark, RoomId, Seq, UserId};
use crate::presence::follow::Step;
use crate::presence::nodes::Nodes;
use crate::presence::{self, Change};

/// Messages that are read at once for cursors: so few that a member often stands elsewhere.
const PART: usize = 2;

/// A read of the history.
enum Read {
    Idle,
    Due,
    Asked(Span),
    Carried(Slice),
}

/// A read of older messages for members, and who waits for it.
enum Past {
    Idle,
    Asked(Span, Vec<(Seq, Reader)>),
    Carried(Slice, Vec<(Seq, Reader)>),
}

/// An answer of the broker's about the roster.
enum Answer {
    Read(presence::Roster),
    Told(Vec<Change>, Option<Mark>),
}

/// A room on a node.
pub(super) struct Node {
    pub(super) broker: Broker,
    pub(super) room: Arc<Room>,
    /// Published and not delivered yet.
    pub(super) channel: VecDeque<Vec<u8>>,
    /// Delivered some time ago.
    pub(super) delivered: VecDeque<Vec<u8>>,
    load: Read,
    past: Past,
    waiting: Vec<(Seq, Reader)>,
    /// Up to where this node's own appends are expected, while somebody watches.
    watched: Option<Seq>,
    pub(super) acked: Seq,
    /// The number of the last event that isn't kept.
    pub(super) events: u64,
    /// The room's roster, and who may be in it.
    pub(super) roster: Roster,
    /// What the broker answered and hasn't arrived yet.
    answer: Option<Answer>,
    nodes: Nodes,
    other: Incarnation,
    now: Instant,
}

const PRESENCE_MAX: usize = 3;

impl Node {
    pub(super) fn new(number: usize, limit: usize) -> Node {
        let id = RoomId::parse(&format!("r{number}")).expect("a room's id");
        Node {
            broker: Broker::new(limit),
            room: Arc::new(driver::new_room(id, limit, PRESENCE_MAX)),
            channel: VecDeque::new(),
            delivered: VecDeque::new(),
            load: Read::Due,
            past: Past::Idle,
            waiting: Vec::new(),
            watched: None,
            acked: Seq::ZERO,
            events: 0,
            roster: Roster::default(),
            answer: None,
            nodes: Nodes::alone(),
            other: Incarnation::random(),
            now: Instant::now(),
        }
    }

    /// Lets a room go that nobody is in, and opens it anew.
    pub(super) fn open_anew(&mut self, limit: usize) {
        let telling = driver::has_roster_work(&self.room) || self.answer.is_some();
        let busy = telling || !self.waiting.is_empty() || !matches!(self.past, Past::Idle);
        if Arc::strong_count(&self.room) > 1 || !driver::is_empty(&self.room) || busy {
            return;
        }
        self.room = Arc::new(driver::new_room(self.room.id.clone(), limit, PRESENCE_MAX));
        self.channel.clear();
        (self.load, self.watched) = (Read::Due, None);
    }

    fn mend(&mut self, mend: bool) -> Result<(), String> {
        if mend {
            check!(matches!(self.load, Read::Idle), "two tasks mend one room");
            self.load = Read::Due;
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, payload: Vec<u8>) -> Result<(), String> {
        let mend = if payload::is_roster(&payload) {
            driver::take_roster(&self.room, &payload, &self.nodes);
            false
        } else {
            driver::deliver(&self.room, &payload)
        };
        self.delivered.push_back(payload);
        if self.delivered.len() > 8 {
            self.delivered.pop_front();
        }
        self.mend(mend)
    }

    pub(super) fn distrust(&mut self) -> Result<(), String> {
        driver::assert_roster(&self.room);
        let mend = driver::distrust(&self.room);
        self.mend(mend)
    }

    /// One step of the task that tells the broker who is here; whether there was something to do.
    pub(super) fn tell_roster(&mut self, fails: bool) -> bool {
        self.now += Duration::from_millis(300);
        let Some(own) = self.nodes.own() else {
            return false;
        };
        match self.answer.take() {
            Some(Answer::Read(roster)) => {
                driver::roster_read(&self.room, &roster, &self.nodes);
                return true;
            }
            Some(Answer::Told(changes, version)) => {
                driver::roster_told(&self.room, changes, version);
                return true;
            }
            None => {}
        }
        match driver::roster_step(&self.room, own, self.now) {
            Step::Rest => return false,
            Step::Wait => {}
            Step::Read if fails => {}
            Step::Read => {
                self.nodes.heard(self.other, self.now);
                self.answer = Some(Answer::Read(self.roster.read()));
            }
            Step::Tell(changes) => {
                self.channel.extend(self.roster.change(&changes));
                if fails {
                    driver::roster_not_told(&self.room, own, changes);
                } else {
                    self.answer = Some(Answer::Told(changes, self.roster.version()));
                }
            }
        }
        true
    }

    /// Somebody on another node comes or goes.
    pub(super) fn elsewhere(&mut self, random: &mut Random) {
        let user = format!("other{}", random.below(3));
        let name = (!self.roster.has(&user)).then(|| "Other".into());
        let change = Change {
            incarnation: self.other,
            user: UserId::parse(&user).expect("a user's id"),
            name,
        };
        self.channel.extend(self.roster.change(&[change]));
    }

    /// As the minute's comparison does.
    pub(super) fn compare_roster(&self) {
        driver::compare_roster(&self.room, self.roster.version());
    }

    /// An event that isn't kept comes.
    pub(super) fn typing(&mut self, pad: usize) -> Result<(), String> {
        if driver::is_opening(&self.room) {
            return Ok(());
        }
        self.events += 1;
        let (id, n) = (&self.room.id, self.events);
        let event = format!(
            "e{{\"type\":\"typing\",\"roomId\":\"{id}\",\"n\":{n},\"x\":\"{:x<pad$}\"}}",
            ""
        );
        let mend = driver::deliver(&self.room, event.as_bytes());
        self.mend(mend)
    }

    /// This node's own append was answered.
    pub(super) fn acked(&mut self) {
        if let Some(head) = self.broker.head() {
            self.acked = self.acked.max(head.seq);
            if driver::acked(&self.room, head.seq) {
                self.watched = Some(head.seq);
            }
        }
    }

    /// A second passed for who watches this node's own appends.
    pub(super) fn watch(&mut self) -> Result<(), String> {
        let Some(target) = self.watched else {
            return Ok(());
        };
        let look = driver::overdue(&self.room, target);
        self.watched = look.map(|(_, acked)| acked);
        if look.is_some_and(|(overdue, _)| overdue) {
            self.distrust()?;
        }
        Ok(())
    }

    /// One step of the task that opens and mends.
    pub(super) fn load(&mut self, fails: bool) -> Result<(), String> {
        self.load = match std::mem::replace(&mut self.load, Read::Idle) {
            Read::Idle => Read::Idle,
            Read::Due => Read::Asked(driver::wanted(&self.room)),
            Read::Asked(_) if fails => Read::Due,
            Read::Asked(span) => Read::Carried(self.broker.read(span)),
            Read::Carried(slice) if driver::loaded(&self.room, &slice) => Read::Idle,
            Read::Carried(_) => Read::Due,
        };
        Ok(())
    }

    /// It can't be opened; whoever waits is told, and the next one opens it anew.
    pub(super) fn fail_opening(&mut self, limit: usize) {
        if driver::is_opening(&self.room) {
            driver::fail(&self.room);
            self.room = Arc::new(driver::new_room(self.room.id.clone(), limit, PRESENCE_MAX));
            self.channel.clear();
            self.answer = None;
            (self.load, self.watched) = (Read::Due, None);
        }
    }

    /// A connection wants older messages than are at hand.
    pub(super) fn read_past(&mut self, room: &Arc<Room>, from: Seq, reader: Reader) {
        assert!(Arc::ptr_eq(room, &self.room));
        self.waiting.push((from, reader));
    }

    /// One step of the task that reads older messages.
    pub(super) fn read(&mut self, fails: bool) -> Result<(), String> {
        self.past = match std::mem::replace(&mut self.past, Past::Idle) {
            Past::Idle => match catchup::take_next(&mut self.waiting, PART) {
                Some((span, readers)) => Past::Asked(span, readers),
                None => Past::Idle,
            },
            Past::Asked(_, readers) if fails => {
                self.tell(readers, Err(Unavailable));
                Past::Idle
            }
            Past::Asked(span, readers) => Past::Carried(self.broker.read(span), readers),
            Past::Carried(slice, readers) => {
                let slice = Arc::new(slice);
                if readers.iter().any(|(_, r)| r.reason == Reason::Question) {
                    driver::keep(&self.room, &slice);
                }
                let mend = driver::absorb(&self.room, &slice);
                self.mend(mend)?;
                self.tell(readers, Ok(slice));
                Past::Idle
            }
        };
        Ok(())
    }

    fn tell(&self, readers: Vec<(Seq, Reader)>, read: Result<Arc<Slice>, Unavailable>) {
        for (_, Reader { peer, slot, reason }) in readers {
            let (room, read) = (self.room.clone(), read.clone());
            peer.note(Note::Past(catchup::Past {
                slot,
                reason,
                room,
                read,
            }));
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!((&self.load, &self.past), (Read::Idle, Past::Idle)) && self.waiting.is_empty()
    }
}
