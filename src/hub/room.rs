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
use super::echoes::Echoes;
use super::hearing::Ear;
use super::log::{Delivered, Log};
use super::outbox::Outbox;
use super::peer::{Note, Peer};
use super::tail::Reading;
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
    /// At which second of a minute it is compared with the broker's history.
    pub(super) second: u8,
    state: RwLock<State>,
    members: RwLock<Slab<Member>>,
    /// Sends on their way into the log.
    pub(super) outbox: Mutex<Outbox>,
    /// Who waits for older messages than the tail has.
    pub(super) reads: Mutex<Reads>,
    /// This node's appends that have yet to come back.
    pub(super) echoes: Echoes,
    /// Whether it stands in the hub's list of rooms that may be let go.
    pub(super) may_go: AtomicBool,
    /// What its channel brings.
    pub(super) ear: Ear,
}

pub(super) struct State {
    pub(super) log: Log,
    pub(super) presence: Presence,
    /// Whether a task tells the broker who is here, or the one that opens the room reads its roster.
    pub(super) telling: bool,
    /// Whether something of who comes and goes here was told and nobody was woken for it yet.
    pub(super) news: bool,
    /// What was read last for a question, for some seconds.
    recent: Option<Arc<Slice>>,
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
    /// The member has fallen out of the tail, and must catch up first.
    Behind,
    /// The room couldn't be opened.
    Failed,
}

impl<T> Asked<T> {
    /// The same, with another outcome.
    pub fn map<U>(self, done: impl FnOnce(T) -> U) -> Asked<U> {
        match self {
            Asked::Done(outcome) => Asked::Done(done(outcome)),
            Asked::Opening => Asked::Opening,
            Asked::Needs(from) => Asked::Needs(from),
            Asked::Behind => Asked::Behind,
            Asked::Failed => Asked::Failed,
        }
    }
}

/// Where a member stands in a room's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the tail, at that offset.
    Tail(u64),
    /// Before it: that message is next.
    Behind(Mark),
    /// Nowhere: what it has is not of this log, or what it needs is gone.
    Gone,
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
    pub(super) fn new(id: RoomId, history_limit: usize, presence_max: usize, second: u8) -> Room {
        let state = State {
            log: Log::new(history_limit),
            presence: Presence::new(presence_max),
            telling: true,
            news: false,
            recent: None,
            waiting: Vec::new(),
            watched: false,
        };
        Room {
            id,
            second,
            state: RwLock::new(state),
            members: RwLock::default(),
            outbox: Mutex::default(),
            reads: Mutex::default(),
            echoes: Echoes::default(),
            may_go: AtomicBool::new(false),
            ear: Ear::default(),
        }
    }

    // A panic under these locks would be a defect of this file; the other rooms go on all the same.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_members(&self) {
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
    /// page's end on it sees everything. [`Room::tell_roster`] is to follow.
    pub fn join(
        &self,
        ticket: &Ticket<'_>,
        question: &Question<'_>,
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
        let recent = state.recent.clone();
        match plan(&state.log, question, recent.as_deref()) {
            Ok(answer) => put_page(&self.id, &state.log, question, answer, out),
            Err(from) => return Asked::Needs(from),
        }
        state.enter(&self.id, &ticket.peer.identity);
        // It isn't told of itself.
        let cursor = state.log.tail().end();
        drop(state);
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

    /// Leaves; [`Room::tell_roster`] is to follow. `stays`: the user is expected back on another node.
    /// Whether nobody is left.
    pub fn leave(&self, key: usize, peer: &Peer, stays: bool) -> bool {
        let empty = {
            let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
            members.try_remove(key);
            if members.is_empty() {
                // What a crowd left would be walked through for each delivery.
                *members = Slab::new();
            }
            members.is_empty()
        };
        self.state_mut().leave(&self.id, &peer.identity, stays);
        empty
    }

    /// Copies what a member hasn't been given yet, and answers with a page of history: after it comes
    /// what is newer. Gives the cursor after it, and whether events that aren't kept were skipped.
    pub fn history(
        &self,
        (cursor, missed): (u64, bool),
        question: &Question<'_>,
        out: &mut Vec<u8>,
    ) -> Asked<(u64, bool)> {
        let state = self.state();
        let answer = match plan(&state.log, question, state.recent.as_deref()) {
            Ok(answer) => answer,
            Err(from) => return Asked::Needs(from),
        };
        match state.log.tail().read_rest(cursor, missed, out) {
            Reading::Copied { after, skipped, .. } => {
                put_page(&self.id, &state.log, question, answer, out);
                Asked::Done((after, skipped))
            }
            Reading::Behind(_) | Reading::Lost => Asked::Behind,
        }
    }

    /// Copies what lies after a cursor, about `budget` bytes; see [`super::tail::Tail::read`].
    pub fn read(&self, cursor: u64, missed: bool, budget: usize, out: &mut Vec<u8>) -> Reading {
        self.state().log.tail().read(cursor, missed, budget, out)
    }

    /// Copies the events that let a member begin anew, and gives the cursor after what they tell.
    pub fn begin_anew(&self, out: &mut Vec<u8>) -> u64 {
        let state = self.state();
        out.extend_from_slice(&state.log.fresh(&self.id));
        state.presence.members().put_users(&self.id, None, out);
        state.log.tail().end()
    }

    /// Where a member stands that was given everything up to that message. The tail may be of another
    /// lineage by now: it goes on from there only if it knows this very message.
    pub fn place_after(&self, last: Mark) -> Place {
        let state = self.state();
        let tail = state.log.tail();
        if tail.mark_at(last.seq) != Some(last) {
            return Place::Gone;
        }
        if last.seq.next() >= tail.first() {
            return Place::Tail(tail.cursor_after(last.seq));
        }
        tail.mark_at(last.seq.next())
            .map_or(Place::Gone, Place::Behind)
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

    /// Keeps what was read for a question, for those who ask the same.
    pub(super) fn keep(&self, slice: &Arc<Slice>) {
        self.state_mut().recent = Some(slice.clone());
    }

    /// Lets go of it, if it is still that.
    pub(super) fn let_go_of(&self, slice: &Arc<Slice>) {
        let recent = &mut self.state_mut().recent;
        recent.take_if(|recent| Arc::ptr_eq(recent, slice));
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
        let whole = state.log.loaded(&self.id, slice);
        let opened = !state.log.is_opening();
        let waiting = if opened {
            std::mem::take(&mut state.waiting)
        } else {
            Vec::new()
        };
        drop(state);
        tell(waiting, Ok(()));
        self.wake_members();
        whole
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

/// Which page answers a question from the tail and what was read for it, or from where on must be read.
/// Those who come back at once need the same older messages, so what was read for one of them serves
/// the others, too; but that something isn't there is said only by a read of one's own.
fn plan<'a>(
    log: &Log,
    question: &Question<'a>,
    recent: Option<&'a Slice>,
) -> Result<(Page, Option<&'a Slice>), Seq> {
    let tail = log.tail();
    let newest = tail.head().map_or(Seq::ZERO, |head| head.seq);
    let onward = newest.max(Seq(1));
    let decision = match question.past {
        None if !log.has_acked() => return Err(onward),
        None => decide(tail, question.want),
        // The room is being mended, and will take in what was read when that is done.
        Some(past) if past.head.is_some_and(|head| head.seq > newest) => return Err(onward),
        Some(past) => decide(&Joined { past, tail }, question.want),
    };
    let from = match decision {
        Decision::Answer(page) => return Ok((page, question.past)),
        Decision::Read(from) => from,
    };
    if let (None, Some(past)) = (question.past, recent)
        && let Decision::Answer(page) = decide(&Joined { past, tail }, question.want)
        && page.recovered == Some(true)
    {
        return Ok((page, recent));
    }
    Err(from)
}

fn put_page(
    room: &RoomId,
    log: &Log,
    question: &Question<'_>,
    (page, past): (Page, Option<&Slice>),
    out: &mut Vec<u8>,
) {
    let tail = log.tail();
    let history = History {
        room,
        head: tail.head(),
        recovered: page.recovered,
        has_more: page.has_more,
    };
    let read = |seq| {
        let (_, message) = past?.message_at(seq)?;
        Some(&message[..])
    };
    let messages = (page.from.0..page.to.0)
        .map(Seq)
        .filter_map(|seq| tail.message_at(seq).or_else(|| read(seq)));
    event::put_history(out, &history, messages, question.id);
}
