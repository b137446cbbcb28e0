//! A room as this node has it: the log behind its gate, who is in it, and which connections are woken
//! when something comes.
//!
//! Locks, each held for a copy of memory at most and never across an `.await`: `state` and `members`
//! are taken one after the other, never one inside the other. That loses no wake-up: a joiner takes
//! its cursor under `state`, enters `members` after it, and then looks at its cursor once more by
//! itself.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use slab::Slab;

use super::catchup::Reads;
use super::log::{Delivered, Log};
use super::outbox::Outbox;
use super::peer::{Note, Peer};
use super::tail::{Reading, Tail};
use crate::broker::Unavailable;
use crate::history::{Decision, Joined, Page, Slice, Span, View, Want, decide};
use crate::id::{Mark, RoomId, Seq};
use crate::presence::Presence;
use crate::protocol::event::{self, History};
use crate::protocol::request::RequestId;

/// A room that has members here, or had until some seconds ago.
pub struct Room {
    /// Its id.
    pub id: RoomId,
    state: RwLock<State>,
    members: RwLock<Slab<Member>>,
    /// Sends on their way into the log.
    pub(super) outbox: Mutex<Outbox>,
    /// Who waits for older messages than the tail has.
    pub(super) reads: Mutex<Reads>,
    /// Whether it stands in the hub's list of rooms that may be let go.
    pub(super) may_go: AtomicBool,
}

struct State {
    log: Log,
    presence: Presence,
    /// Who waits for it to open: the connection, and its slot for this room.
    waiting: Vec<(Arc<Peer>, usize)>,
    /// Whether a task sees to it that this node's own appends come back.
    watched: bool,
}

struct Member {
    peer: Arc<Peer>,
    /// What is set at the peer to say "there is something in this room".
    bit: u64,
}

/// What asking a room came to.
pub enum Asked<T> {
    /// Done.
    Done(T),
    /// The room is being opened; a note will come.
    Opening,
    /// Older messages are needed than are at hand, from that place on.
    Needs(Seq),
    /// The room couldn't be opened.
    Failed,
}

/// A membership: who joins and leaves with it, and how it is woken.
pub struct Ticket<'a> {
    /// The connection.
    pub peer: &'a Arc<Peer>,
    /// Its slot for this room.
    pub slot: usize,
    /// The bit that wakes it for this room.
    pub bit: u64,
}

/// A question for messages, with what was read for it before, if anything, and where the answer goes.
pub struct Question<'a> {
    /// Which messages.
    pub want: Want,
    /// The request's id.
    pub id: Option<&'a RequestId>,
    /// What was read from the history for it.
    pub past: Option<&'a Slice>,
}

impl Room {
    pub(super) fn new(id: RoomId, history_limit: usize, presence_max: usize) -> Room {
        let state = State {
            log: Log::new(history_limit),
            presence: Presence::new(presence_max),
            waiting: Vec::new(),
            watched: false,
        };
        Room {
            id,
            state: RwLock::new(state),
            members: RwLock::default(),
            outbox: Mutex::default(),
            reads: Mutex::default(),
            may_go: AtomicBool::new(false),
        }
    }

    // A panic under these locks would be a defect of this file; the other rooms go on all the same.
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_members(&self) {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members
            .iter()
            .for_each(|(_, member)| member.peer.mark(member.bit));
    }

    /// Whether nobody is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.members
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Enters, answers with a page of history, and gives the member's key and cursor: from the
    /// page's end on it sees everything. The other members are told if the user is new here.
    pub fn join(
        &self,
        ticket: &Ticket<'_>,
        question: &Question<'_>,
        timestamp: u64,
        out: &mut Vec<u8>,
    ) -> Asked<(usize, u64)> {
        let mut state = self.state_mut();
        if state.log.has_failed() {
            return Asked::Failed;
        }
        if state.log.is_opening() {
            state.waiting.push((ticket.peer.clone(), ticket.slot));
            return Asked::Opening;
        }
        if let Err(from) = answer(&self.id, &state.log, question, out) {
            return Asked::Needs(from);
        }
        let (mut told, identity) = (Vec::new(), &ticket.peer.identity);
        state.presence.enter(
            &self.id,
            &identity.user,
            &identity.username,
            timestamp,
            &mut told,
        );
        state.log.push_event(&told);
        let cursor = state.log.tail().end();
        drop(state);
        if !told.is_empty() {
            self.wake_members();
        }
        let member = Member {
            peer: ticket.peer.clone(),
            bit: ticket.bit,
        };
        let key = self
            .members
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(member);
        ticket.peer.mark(ticket.bit);
        Asked::Done((key, cursor))
    }

    /// Leaves. The others are told if it was the user's last connection here. Whether nobody is left.
    pub fn leave(&self, key: usize, peer: &Peer, timestamp: u64) -> bool {
        let empty = {
            let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
            members.try_remove(key);
            members.is_empty()
        };
        let mut told = Vec::new();
        let mut state = self.state_mut();
        state
            .presence
            .leave(&self.id, &peer.identity.user, timestamp, &mut told);
        state.log.push_event(&told);
        drop(state);
        if !told.is_empty() {
            self.wake_members();
        }
        empty
    }

    /// Answers with a page of history.
    pub fn history(&self, question: &Question<'_>, out: &mut Vec<u8>) -> Asked<()> {
        match answer(&self.id, &self.state().log, question, out) {
            Ok(()) => Asked::Done(()),
            Err(from) => Asked::Needs(from),
        }
    }

    /// Answers with who is here.
    pub fn users(&self, id: Option<&RequestId>, out: &mut Vec<u8>) {
        event::put_event(out, &self.state().presence.users(&self.id), id);
    }

    /// Copies what lies after a cursor, about `budget` bytes.
    pub fn read(&self, cursor: u64, budget: usize, out: &mut Vec<u8>) -> Reading {
        self.state().log.tail().read(cursor, budget, out)
    }

    /// Copies a `users` event for a member that missed events, if it has everything else: only then does
    /// no event follow that the list contains already.
    pub fn put_users_at(&self, cursor: u64, out: &mut Vec<u8>) -> bool {
        let state = self.state();
        let there = cursor == state.log.tail().end();
        if there {
            state.presence.put_users(&self.id, out);
        }
        there
    }

    /// Copies the events that let a member begin anew, and gives the cursor after what they tell.
    pub fn begin_anew(&self, out: &mut Vec<u8>) -> u64 {
        let state = self.state();
        out.extend_from_slice(&state.log.fresh(&self.id));
        state.presence.put_users(&self.id, out);
        state.log.tail().end()
    }

    /// Where a cursor stands that has everything up to that place; `None` while the message after it
    /// has no bytes at hand.
    pub fn cursor_after(&self, seq: Seq) -> Option<u64> {
        let state = self.state();
        let tail = state.log.tail();
        (seq.next() >= tail.first()).then(|| tail.cursor_after(seq))
    }

    /// The mark that the index has at that place.
    pub fn mark_at(&self, seq: Seq) -> Option<Mark> {
        self.state().log.tail().mark_at(seq)
    }

    /// The newest message known here.
    pub(super) fn head(&self) -> Option<Mark> {
        self.state().log.tail().head()
    }

    /// Takes what came over its channel. Whether its history must be read now.
    pub(super) fn deliver(&self, payload: &[u8]) -> bool {
        let Delivered { grew, mend } = self.state_mut().log.deliver(payload);
        if grew {
            self.wake_members();
        }
        mend
    }

    /// Takes in what was read for somebody. Whether its history must be read now.
    pub(super) fn absorb(&self, slice: &Slice) -> bool {
        let Delivered { grew, mend } = self.state_mut().log.absorb(slice);
        if grew {
            self.wake_members();
        }
        mend
    }

    /// An append of this node got that place. Whether the room must be watched until it comes back:
    /// nobody does yet.
    pub(super) fn acked(&self, seq: Seq) -> bool {
        let mut state = self.state_mut();
        state.log.acked(seq);
        !state.log.has_acked() && !std::mem::replace(&mut state.watched, true)
    }

    /// Looks whether this node's own appends have come back, up to `target`: what was acked by the last
    /// look. `None`: all have, and nobody watches any more; else whether they are overdue, and what was
    /// acked by now.
    pub(super) fn overdue(&self, target: Seq) -> Option<(bool, Seq)> {
        let mut state = self.state_mut();
        state.watched = !state.log.has_acked();
        let head = state.log.tail().head().map_or(Seq::ZERO, |head| head.seq);
        state
            .watched
            .then(|| (head < target, state.log.newest_acked()))
    }

    /// Deliveries may have been missed. Whether its history must be read now.
    pub(super) fn distrust(&self) -> bool {
        self.state_mut().log.distrust()
    }

    /// Whether it is still being opened.
    pub(super) fn is_opening(&self) -> bool {
        self.state().log.is_opening()
    }

    /// What must be read from its history now.
    pub(super) fn wanted(&self) -> Span {
        self.state_mut().log.wanted()
    }

    /// Takes what was read. `false`: read again.
    pub(super) fn loaded(&self, slice: &Slice) -> bool {
        let mut state = self.state_mut();
        let done = state.log.loaded(&self.id, slice);
        let waiting = if state.log.is_opening() {
            Vec::new()
        } else {
            std::mem::take(&mut state.waiting)
        };
        drop(state);
        tell(waiting, Ok(()));
        self.wake_members();
        done
    }

    /// It can't be opened.
    pub(super) fn fail(&self) {
        let mut state = self.state_mut();
        state.log.fail();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        tell(waiting, Err(Unavailable));
    }
}

fn tell(waiting: Vec<(Arc<Peer>, usize)>, outcome: Result<(), Unavailable>) {
    waiting
        .into_iter()
        .for_each(|(peer, slot)| peer.note(Note::Opened(slot, outcome)));
}

/// Answers a question from the tail and what was read for it, or says what must be read.
fn answer(room: &RoomId, log: &Log, question: &Question<'_>, out: &mut Vec<u8>) -> Result<(), Seq> {
    let tail = log.tail();
    if question.past.is_none() && !log.has_acked() {
        return Err(tail.head().map_or(Seq(1), |head| head.seq));
    }
    let put = |page: Page, out: &mut Vec<u8>, past: Option<&Joined<'_, Tail>>| {
        let history = History {
            room,
            head: tail.head(),
            recovered: page.recovered,
            has_more: page.has_more,
        };
        let messages = (page.from.0..page.to.0).map(Seq).filter_map(|seq| {
            let at_hand = (seq >= tail.first())
                .then(|| tail.message_at(seq))
                .flatten();
            at_hand.or_else(|| past?.past.message_at(seq).map(|(_, message)| &message[..]))
        });
        event::put_history(out, &history, messages, question.id);
    };
    let joined = question.past.map(|past| Joined { past, tail });
    let decision = match &joined {
        Some(joined) => decide(joined, question.want),
        None => decide(tail, question.want),
    };
    match decision {
        Decision::Answer(page) => put(page, out, joined.as_ref()),
        Decision::Read(from) => return Err(from),
    }
    Ok(())
}
