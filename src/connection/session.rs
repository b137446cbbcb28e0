//! What a connection's requests do. It decides and answers, and never touches the socket: replies go
//! into a buffer, what the rooms have is copied when the wire asks for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

use super::Handler;
use super::lane::{Lane, Member};
use super::outflow::{Cursors, Position};
use super::rates::Rates;
use super::refresh::{Pass, not_granted};
use super::slots::Slots;
use super::typing::Held;
use super::wire::{Incoming, Outflow};
use crate::broker::toll::Rate;
use crate::config::Config;
use crate::hub::Hub;
use crate::hub::catchup::{Reader, Reason};
use crate::hub::peer::{MAX_SAID, NOTES, Note, Peer};
use crate::hub::room::Room;
use crate::id::RoomId;
use crate::protocol::close::Close;
use crate::protocol::request::{self, Limits, Parsed};

/// Requests without an answer, and their bytes, beyond which no more are read.
const MAX_OUTSTANDING: u32 = 256;
const MAX_OUTSTANDING_BYTES: usize = 64 * 1024;

/// Questions of one connection for which older messages are read at once: what was read lies here until the
/// answer may be put, and that may be the whole history of a room.
pub(super) const MAX_READS: u8 = 4;

/// Bounds that the configuration sets, of all connections together.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of requests.
    pub request: Limits,
    /// Rooms of one connection; 0 is off.
    pub rooms: usize,
    /// Requests of one connection, messages aside; `None`: any number.
    pub rate: Option<Rate>,
}

impl Bounds {
    /// As the configuration has them.
    pub fn new(config: &Config) -> Bounds {
        Bounds {
            request: Limits {
                max_text: config.max_text,
                history: config.history_limit,
            },
            rooms: config.max_rooms_per_connection,
            rate: Rate::new(config.rate_limit_requests, config.rate_limit_window),
        }
    }
}

/// A connection that was let in.
pub struct Session {
    pub(super) hub: Hub,
    pub(super) peer: Arc<Peer>,
    /// What its token lets it do, and who judges the next one.
    pub(super) pass: Pass,
    pub(super) bounds: Arc<Bounds>,
    pub(super) lanes: Slab<Lane>,
    pub(super) slots: Slots,
    pub(super) cursors: Cursors,
    /// How often it asked.
    pub(super) rates: Rates,
    /// `typing` that is told later.
    pub(super) held: Held,
    /// What is to be done, in order; nothing is read meanwhile. It is done piece by piece as replies
    /// leave, so that requests of a few bytes can't pile up answers of megabytes.
    pub(super) todo: VecDeque<Todo>,
    /// Whether some lane's question waits until its member has caught up.
    pub(super) catching_up: bool,
    /// Reads for questions that were asked for and whose outcome wasn't looked at yet.
    pub(super) reads: u8,
    /// Questions that wait until fewer are read for.
    pub(super) later: Option<Box<Later>>,
    /// Whether the socket didn't take all of the last fill.
    pub(super) full: bool,
    /// The node sends it to another one: its user is expected there, and doesn't leave.
    told_to_leave: bool,
    outstanding: u32,
    outstanding_bytes: usize,
}

/// The slots of lanes whose question waits for its turn to be read for, in order. Boxed where it is held, as hardly
/// any connection has one.
#[derive(Default)]
pub(super) struct Later(pub(super) VecDeque<usize>);

/// Something to be done.
pub(super) enum Todo {
    /// An outcome of an own request came.
    Note(Note),
    /// What waits in that lane may go on.
    GoOn(usize),
    /// A request, with its weight, whose lane is gone.
    Request(Parsed, usize),
    /// The member in that slot has caught up, or it is its turn to be read for: ask its question.
    Ask(usize),
    /// It was put out of that room, which its new token doesn't grant.
    Withdrawn(RoomId),
}

impl Session {
    /// A session of that connection, which is entered with the hub.
    pub fn new(hub: Hub, peer: Arc<Peer>, pass: Pass, bounds: Arc<Bounds>) -> Session {
        hub.connect(peer.clone());
        Session {
            rates: Rates::new(&hub, &peer.identity.user),
            held: Held::default(),
            hub,
            peer,
            pass,
            bounds,
            lanes: Slab::new(),
            slots: Slots::default(),
            cursors: Cursors::default(),
            todo: VecDeque::new(),
            catching_up: false,
            reads: 0,
            later: None,
            full: false,
            told_to_leave: false,
            outstanding: 0,
            outstanding_bytes: 0,
        }
    }

    /// Notes in metrics and log why it ended, and after how long.
    pub fn say_closed(&self, why: Close, after: Duration) {
        self.hub.metrics().closes.inc(why);
        let (peer, rooms, seconds) = (&self.peer, self.lanes.len(), after.as_secs());
        tracing::info!(connection = %peer.id, user = %peer.identity.user, why = why.label(), rooms, seconds, "connection closed");
    }

    pub(super) fn lane_of(&mut self, room: &RoomId) -> Option<(usize, &mut Lane)> {
        let slot = self.slots.find(&self.lanes, room)?;
        Some((slot, self.lanes.get_mut(slot)?))
    }

    /// Takes a request: carries it out, or lets it wait behind others to the same room.
    pub(super) fn request(&mut self, parsed: Parsed, weight: usize, out: &mut Vec<u8>) {
        let room = match &parsed.request {
            Ok(request) => request.room(),
            Err(refusal) => refusal.room.as_ref(),
        };
        if let Some((_, lane)) = room.cloned().and_then(|room| self.lane_of(&room))
            && lane.must_wait(&parsed)
        {
            lane.waiting.push_back((parsed, weight));
            self.owe(weight);
            return;
        }
        self.perform(parsed, weight, out);
    }

    /// Takes a lane out. What waited in it is asked anew.
    pub(super) fn remove(&mut self, slot: usize) {
        self.stop_typing(slot);
        let Some(lane) = self.lanes.try_remove(slot) else {
            return;
        };
        self.slots.remove(&mut self.lanes, &lane.room.id);
        if let Some(member) = &lane.member {
            self.depart(&lane.room, member);
        }
        drop(lane.room);
        let waiting = lane.waiting.into_iter();
        self.todo
            .extend(waiting.map(|(parsed, weight)| Todo::Request(parsed, weight)));
    }

    /// Ends a membership.
    pub(super) fn depart(&self, room: &Arc<Room>, member: &Member) {
        tracing::debug!(connection = %self.peer.id, user = %self.peer.identity.user, room = %room.id, "left");
        if room.leave(member.key, &self.peer, self.told_to_leave) {
            self.hub.emptied(room);
        }
        room.tell_roster(&self.hub);
    }

    /// Who reads older messages for that slot.
    pub(super) fn reader(&self, slot: usize, reason: Reason) -> Reader {
        Reader {
            peer: self.peer.clone(),
            slot,
            reason,
        }
    }

    fn said_waiting(&self) -> usize {
        let said = |todo: &&Todo| matches!(todo, Todo::Note(Note::Said(_)));
        self.todo.iter().filter(said).count()
    }

    pub(super) fn owe(&mut self, weight: usize) {
        self.outstanding += 1;
        self.outstanding_bytes += weight;
    }

    pub(super) fn settle_one(&mut self, weight: usize) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.outstanding_bytes = self.outstanding_bytes.saturating_sub(weight);
    }
}

impl Handler for Session {
    fn message(&mut self, message: Incoming<'_>, out: &mut Vec<u8>) {
        let (Incoming::Text(message) | Incoming::Binary(message)) = message else {
            // Its answer can't be refused; only the connection can end.
            let _ = self.count_request();
            return;
        };
        let parsed = request::parse(message, self.bounds.request);
        let parsed = self.within_rate(parsed);
        self.request(parsed, message.len(), out);
    }

    fn takes_messages(&self) -> bool {
        self.todo.is_empty()
            && self.outstanding < MAX_OUTSTANDING
            && self.outstanding_bytes < MAX_OUTSTANDING_BYTES
    }

    fn woken(&mut self, bits: u64) -> Option<Close> {
        self.cursors.bits |= bits & !NOTES;
        let mut close = None;
        if bits & NOTES != 0 {
            for note in self.peer.take_notes() {
                match note {
                    Note::Close(why) => {
                        self.told_to_leave |= why == Close::Leaving;
                        close = close.or(Some(why));
                    }
                    Note::Said(_) if self.said_waiting() >= MAX_SAID => {}
                    // It puts no reply, so it needn't wait until others have left.
                    Note::Past(past) if past.reason == Reason::Cursor => self.feed(&past),
                    note => self.todo.push_back(Todo::Note(note)),
                }
            }
        }
        close
    }

    fn has_work(&self) -> bool {
        !self.todo.is_empty()
    }

    fn work(&mut self, out: &mut Vec<u8>) -> Option<Close> {
        match self.todo.pop_front()? {
            Todo::Note(Note::Opened(slot, outcome)) => self.opened(slot, outcome, out),
            Todo::Note(Note::Past(past)) => self.answer_past(&past, out),
            Todo::Note(Note::Sent(receipt)) => return self.sent(&receipt, out),
            Todo::Note(Note::Judged(outcome)) => self.judged(*outcome, out),
            Todo::Note(Note::Said(frame)) => out.extend_from_slice(&frame),
            Todo::Note(Note::Close(why)) => return Some(why),
            Todo::GoOn(slot) => self.go_on(slot, out),
            Todo::Ask(slot) => {
                self.take_up(slot, None, out);
                self.read_next();
            }
            Todo::Withdrawn(room) => self.refuse(&not_granted(&room), None, out),
            Todo::Request(parsed, weight) => {
                self.settle_one(weight);
                self.request(parsed, weight, out);
            }
        }
        None
    }

    fn dirty(&self, waker: &Waker) -> u64 {
        self.peer.take_dirty(waker)
    }

    fn is_owed(&self) -> bool {
        self.outstanding > 0
    }

    fn new_life(&mut self) -> Option<Duration> {
        self.pass.new_life()
    }

    fn due(&self) -> Option<Instant> {
        self.typing_due()
    }

    fn tick(&mut self, now: Instant) {
        self.tell_due_typing(now);
    }
}

impl Outflow for Session {
    fn fill(&mut self, out: &mut Vec<u8>, budget: usize) -> bool {
        self.full = false;
        if self.todo.is_empty() && self.todo.capacity() > 0 {
            // An idle connection holds no room for more.
            self.todo = VecDeque::new();
        }
        let more = self.cursors.fill(&mut self.lanes, out, budget);
        for slot in std::mem::take(&mut self.cursors.behind) {
            let Some(lane) = self.lanes.get(slot) else {
                continue;
            };
            if let Some(Member {
                position: Position::Behind { next, .. },
                ..
            }) = &lane.member
            {
                let reader = self.reader(slot, Reason::Cursor);
                lane.room.read_past(&self.hub, next.seq, reader);
            }
        }
        self.notice_caught_up();
        more
    }

    fn settle(&mut self, filled: &[u8], taken: usize, full: bool) -> usize {
        self.full = full;
        self.cursors.settle(&mut self.lanes, filled, taken, full)
    }
}

impl Drop for Session {
    /// The one clean-up, whatever ended the connection.
    fn drop(&mut self) {
        let slots: Vec<usize> = self.lanes.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.stop_typing(slot));
        for (_, lane) in &self.lanes {
            if let Some(member) = &lane.member {
                self.depart(&lane.room, member);
            }
        }
        self.hub.disconnect(&self.peer);
    }
}
