//! Answers that come later: the room has to open, older messages have to be read, the broker has to say
//! what became of a send.

use std::sync::Arc;

use super::lane::{Ask, Asking, Lane, Member};
use super::outflow::Position;
use super::refresh::not_granted;
use super::session::{MAX_READS, Session, Todo};
use crate::broker::{Outcome, Unavailable};
use crate::history::Slice;
use crate::hub::catchup::{Past, Reason};
use crate::hub::outbox::{Fate, Receipt};
use crate::hub::peer::{NOTES, ROOM_BITS};
use crate::hub::room::{Asked, Question, Room, Ticket};
use crate::id::RoomId;
use crate::protocol::close::Close;
use crate::protocol::event::{self, Ack};
use crate::protocol::request::{ErrorCode, Refusal, RequestId};

/// How often a question for messages is tried.
const MAX_TRIES: u8 = 4;

impl Session {
    /// Asks a lane's room for messages; a member that isn't one yet joins with it. Answers now, or when
    /// the room is open, when what must be read is there, or when the member has caught up: what it
    /// hasn't been given yet comes before the answer, so that after it comes what is newer.
    pub(super) fn ask(
        &mut self,
        slot: usize,
        mut asking: Asking,
        past: Option<&Slice>,
        out: &mut Vec<u8>,
    ) {
        let Some(lane) = self.lanes.get_mut(slot) else {
            return;
        };
        let grants = self.pass.grants();
        let joins = lane.member.is_none();
        // What waited is judged again: the token may be another one by now.
        let lost = joins && !grants.allow(lane.room.id.as_str());
        if lost || matches!(asking.ask, Ask::Withdrawn) {
            let refusal = not_granted(&lane.room.id);
            self.refuse(&refusal, asking.id.as_ref(), out);
            return self.remove(slot);
        }
        let id = asking.id.as_ref();
        let question = |want| Question { want, id, past };
        let asked = match (&mut lane.member, asking.ask) {
            (Some(member), Ask::Messages(want)) => {
                ask_as_member(&lane.room, member, &question(want), out)
            }
            (Some(member), Ask::Users) => users_as_member(&lane.room, member, id, out),
            (None, Ask::Messages(want)) => self.join_room(slot, &question(want), out),
            // Only a member asks, and it stays one as long as its lane is there.
            (None, Ask::Users) | (_, Ask::Withdrawn) => return,
        };
        let Some(lane) = self.lanes.get_mut(slot) else {
            return;
        };
        match asked {
            Asked::Done(()) => {}
            Asked::Opening => lane.asking = Some(Box::new(asking)),
            Asked::Behind => {
                lane.asking = Some(Box::new(asking));
                (lane.catching_up, self.catching_up) = (true, true);
                self.cursors.bits |= bit(slot);
            }
            Asked::Needs(_) if self.reads >= MAX_READS => {
                lane.asking = Some(Box::new(asking));
                self.later.get_or_insert_default().0.push_back(slot);
            }
            Asked::Needs(from) if asking.tries < MAX_TRIES => {
                asking.tries += 1;
                lane.asking = Some(Box::new(asking));
                self.reads += 1;
                let room = lane.room.clone();
                room.read_past(&self.hub, from, self.reader(slot, Reason::Question));
            }
            Asked::Needs(_) | Asked::Failed => self.ask_failed(slot, &asking, out),
        }
    }

    fn join_room(&mut self, slot: usize, question: &Question<'_>, out: &mut Vec<u8>) -> Asked<()> {
        let Some(lane) = self.lanes.get_mut(slot) else {
            return Asked::Failed;
        };
        let ticket = Ticket {
            peer: &self.peer,
            slot,
            bit: bit(slot),
        };
        lane.room.join(&ticket, question, out).map(|(key, cursor)| {
            let user = &self.peer.identity.user;
            tracing::debug!(connection = %self.peer.id, %user, room = %lane.room.id, "joined");
            lane.room.tell_roster(&self.hub);
            lane.member = Some(Member {
                key,
                position: Position::Tail(cursor),
                missed: false,
            });
        })
    }

    fn ask_failed(&mut self, slot: usize, asking: &Asking, out: &mut Vec<u8>) {
        let Some(lane) = self.lanes.get_mut(slot) else {
            return;
        };
        let room = lane.room.id.clone();
        let joining = lane.member.is_none();
        self.refuse(&unavailable(&room), asking.id.as_ref(), out);
        if joining {
            self.remove(slot);
        }
    }

    /// Sees whether members that have a question waiting have caught up.
    pub(super) fn notice_caught_up(&mut self) {
        if !std::mem::take(&mut self.catching_up) {
            return;
        }
        let waiting = self.lanes.iter_mut().filter(|(_, lane)| lane.catching_up);
        for (slot, lane) in waiting {
            match lane.member.as_ref().map(|member| &member.position) {
                Some(Position::Tail(_)) => {
                    lane.catching_up = false;
                    self.todo.push_back(Todo::Ask(slot));
                }
                Some(_) => self.catching_up = true,
                None => lane.catching_up = false,
            }
        }
        if !self.todo.is_empty() {
            self.peer.mark(NOTES);
        }
    }

    /// Takes the question up that waits in a lane.
    pub(super) fn take_up(&mut self, slot: usize, past: Option<&Slice>, out: &mut Vec<u8>) {
        let lane = self.lanes.get_mut(slot);
        if let Some(asking) = lane.and_then(|lane| lane.asking.take()) {
            self.ask(slot, *asking, past, out);
            self.todo.push_back(Todo::GoOn(slot));
        }
    }

    fn give_up(&mut self, slot: usize, out: &mut Vec<u8>) {
        let lane = self.lanes.get_mut(slot);
        if let Some(asking) = lane.and_then(|lane| lane.asking.take()) {
            match asking.ask {
                Ask::Withdrawn => self.ask(slot, *asking, None, out),
                _ => self.ask_failed(slot, &asking, out),
            }
            self.todo.push_back(Todo::GoOn(slot));
        }
    }

    /// Carries out the next request that waits in a lane, if it needn't wait any more.
    pub(super) fn go_on(&mut self, slot: usize, out: &mut Vec<u8>) {
        if let Some((parsed, weight)) = self.lanes.get_mut(slot).and_then(Lane::next) {
            self.settle_one(weight);
            self.perform(parsed, weight, out);
            self.todo.push_back(Todo::GoOn(slot));
        }
    }

    pub(super) fn opened(
        &mut self,
        slot: usize,
        outcome: Result<(), Unavailable>,
        out: &mut Vec<u8>,
    ) {
        match outcome {
            Ok(()) => self.take_up(slot, None, out),
            Err(Unavailable) => self.give_up(slot, out),
        }
    }

    /// The lane that older messages were read for. It may be gone, and its slot another room's.
    fn lane_of_past(&mut self, past: &Past) -> Option<&mut Lane> {
        let lane = self.lanes.get_mut(past.slot);
        lane.filter(|lane| Arc::ptr_eq(&lane.room, &past.room))
    }

    /// Gives a cursor what was read for it.
    pub(super) fn feed(&mut self, past: &Past) {
        // What is read for a socket that is full isn't kept for it: it is asked for again.
        let slice = past.read.as_ref().ok().filter(|_| !self.full);
        let lane = self.lane_of_past(past);
        if let Some(member) = lane.and_then(|lane| lane.member.as_mut()) {
            member.take_past(slice);
            self.cursors.bits |= bit(past.slot);
        }
    }

    /// Answers a question with what was read for it; then the next one may be read for.
    pub(super) fn answer_past(&mut self, past: &Past, out: &mut Vec<u8>) {
        self.reads = self.reads.saturating_sub(1);
        if self.lane_of_past(past).is_some() {
            match &past.read {
                Ok(slice) => self.take_up(past.slot, Some(slice), out),
                Err(Unavailable) => self.give_up(past.slot, out),
            }
        }
        self.read_next();
    }

    /// Takes up the next question that waits for its turn to be read for, before anything else asks. Called whenever a
    /// read has ended, and when such a question was taken up, whether it then needed a read or not: so as long as
    /// one waits, there is a read on its way or a question to be taken up, and none waits for ever.
    pub(super) fn read_next(&mut self) {
        if self.reads >= MAX_READS {
            return;
        }
        let next = self.later.as_mut().and_then(|later| later.0.pop_front());
        match next {
            // A lane stays as long as it has a question, so this is still the slot of that one.
            Some(slot) => self.todo.push_front(Todo::Ask(slot)),
            None => self.later = None,
        }
    }

    /// What became of a send. A reason: the connection can't go on.
    pub(super) fn sent(&mut self, receipt: &Receipt, out: &mut Vec<u8>) -> Option<Close> {
        self.settle_one(receipt.weight);
        // A lane stays while it has sends, so this is the room that it was sent to.
        let lane = self.lanes.get_mut(receipt.slot)?;
        lane.sends = lane.sends.saturating_sub(1);
        let room = lane.room.id.clone();
        let (mark, timestamp, duplicate) = match receipt.fate {
            Fate::Known(Outcome::Stored(mark)) => (mark, receipt.timestamp, false),
            Fate::Known(Outcome::Duplicate(mark, timestamp)) => {
                // It cost its user nothing, so it counts as what else is asked; and is answered in any case.
                let _ = self.count_request();
                (mark, timestamp, true)
            }
            Fate::Known(Outcome::Unknowable) => return Some(Close::Internal),
            Fate::Known(Outcome::Limited(left)) => {
                let refusal = self.refuse_message(&room, left);
                self.refuse(&refusal, receipt.id.as_ref(), out);
                self.after_send(receipt.slot);
                return None;
            }
            Fate::Unavailable | Fate::Refused => {
                let refusal = match receipt.fate {
                    Fate::Refused => {
                        Refusal::new(ErrorCode::InternalError, "the message can't be stored")
                            .in_room(room)
                    }
                    _ => unavailable(&room),
                };
                let refusal = self.count_failed(refusal);
                self.refuse(&refusal, receipt.id.as_ref(), out);
                self.after_send(receipt.slot);
                return None;
            }
        };
        let ack = Ack {
            message_id: Some(mark.id),
            room_id: &room,
            seq: Some(mark.seq),
            timestamp: Some(timestamp),
            client_id: receipt.client_id.as_deref(),
            duplicate,
        };
        event::put_event(out, &ack, receipt.id.as_ref());
        self.after_send(receipt.slot);
        None
    }

    /// A send was answered: what waits behind it may go on, or the lane was kept for it alone.
    fn after_send(&mut self, slot: usize) {
        match self.lanes.get(slot) {
            Some(lane) if lane.is_over() => self.remove(slot),
            _ => self.todo.push_back(Todo::GoOn(slot)),
        }
    }
}

/// Gives a member what it hasn't been given yet, and then the answer.
pub(super) fn ask_as_member(
    room: &Room,
    member: &mut Member,
    question: &Question<'_>,
    out: &mut Vec<u8>,
) -> Asked<()> {
    let Position::Tail(cursor) = &mut member.position else {
        return Asked::Behind;
    };
    room.history((*cursor, member.missed), question, out)
        .map(|(after, skipped)| {
            *cursor = after;
            member.missed |= skipped;
        })
}

/// Gives a member what it hasn't been given yet, and then who is there.
pub(super) fn users_as_member(
    room: &Room,
    member: &mut Member,
    id: Option<&RequestId>,
    out: &mut Vec<u8>,
) -> Asked<()> {
    let Position::Tail(cursor) = &mut member.position else {
        return Asked::Behind;
    };
    room.users((*cursor, member.missed), id, out)
        .map(|(after, _)| {
            // The answer replaces what was missed.
            *cursor = after;
            member.missed = false;
        })
}

fn bit(slot: usize) -> u64 {
    1 << (slot % ROOM_BITS)
}

fn unavailable(room: &RoomId) -> Refusal {
    Refusal::new(
        ErrorCode::Unavailable,
        "the broker can't be reached now; try again",
    )
    .in_room(room.clone())
}
