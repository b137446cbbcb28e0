//! Answers that come later: the room has to open, older messages have to be read, the broker has to say
//! what became of a send.

use std::sync::Arc;

use super::lane::{Asking, Lane, Member};
use super::outflow::Position;
use super::session::{Session, now_ms};
use crate::broker::{Outcome, Unavailable};
use crate::history::Slice;
use crate::hub::outbox::{Fate, Receipt};
use crate::hub::peer::ROOM_BITS;
use crate::hub::room::{Asked, Question, Room, Ticket};
use crate::id::RoomId;
use crate::protocol::close::Close;
use crate::protocol::event::{self, Ack, Error};
use crate::protocol::request::{ErrorCode, Refusal};

/// How often a question for messages is tried.
const MAX_TRIES: u8 = 4;

impl Session {
    /// Asks a lane's room for messages; a member that isn't one yet joins with it. Answers now, or when
    /// the room is open or what must be read is there.
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
        let question = Question {
            want: asking.want,
            id: asking.id.as_ref(),
            past,
        };
        let asked = if lane.member.is_some() {
            lane.room.history(&question, out)
        } else {
            let ticket = Ticket {
                peer: &self.peer,
                slot,
                bit: bit(slot),
            };
            match lane.room.join(&ticket, &question, now_ms(), out) {
                Asked::Done((key, cursor)) => {
                    let user = &self.peer.identity.user;
                    tracing::debug!(connection = %self.peer.id, %user, room = %lane.room.id, "joined");
                    lane.member = Some(Member {
                        key,
                        position: Position::Tail(cursor),
                        missed: false,
                    });
                    Asked::Done(())
                }
                Asked::Opening => Asked::Opening,
                Asked::Needs(from) => Asked::Needs(from),
                Asked::Failed => Asked::Failed,
            }
        };
        match asked {
            Asked::Done(()) => {}
            Asked::Opening => lane.asking = Some(Box::new(asking)),
            Asked::Needs(from) if asking.tries < MAX_TRIES => {
                asking.tries += 1;
                lane.asking = Some(Box::new(asking));
                lane.room
                    .clone()
                    .read_past(&self.hub, from, &self.peer, slot);
            }
            Asked::Needs(_) | Asked::Failed => self.ask_failed(slot, &asking, out),
        }
    }

    pub(super) fn ask_failed(&mut self, slot: usize, asking: &Asking, out: &mut Vec<u8>) {
        let Some(lane) = self.lanes.get_mut(slot) else {
            return;
        };
        let room = lane.room.id.clone();
        let joining = lane.member.is_none();
        event::put_event(out, &Error::from(&unavailable(&room)), asking.id.as_ref());
        if joining {
            self.remove(slot, out);
        }
    }

    /// Carries out what waited in a lane, as far as it needn't wait any more.
    pub(super) fn go_on(&mut self, slot: usize, out: &mut Vec<u8>) {
        while let Some((parsed, weight)) = self.lanes.get_mut(slot).and_then(Lane::next) {
            self.settle_one(weight);
            self.perform(parsed, weight, out);
        }
    }

    pub(super) fn opened(
        &mut self,
        slot: usize,
        outcome: Result<(), Unavailable>,
        out: &mut Vec<u8>,
    ) {
        let Some(asking) = self.lanes.get_mut(slot).and_then(|lane| lane.asking.take()) else {
            return;
        };
        match outcome {
            Ok(()) => self.ask(slot, *asking, None, out),
            Err(Unavailable) => self.ask_failed(slot, &asking, out),
        }
        self.go_on(slot, out);
    }

    pub(super) fn past(
        &mut self,
        slot: usize,
        room: &Arc<Room>,
        past: Result<Arc<Slice>, Unavailable>,
        out: &mut Vec<u8>,
    ) {
        // The lane it was asked for may be gone, and its slot another room's.
        let Some(lane) = self
            .lanes
            .get_mut(slot)
            .filter(|lane| Arc::ptr_eq(&lane.room, room))
        else {
            return;
        };
        if let Some(member) = &mut lane.member {
            member.take_past(past.as_ref().ok());
            self.cursors.bits |= bit(slot);
        }
        let Some(asking) = lane.asking.take() else {
            return;
        };
        match past {
            Ok(slice) => self.ask(slot, *asking, Some(&slice), out),
            Err(Unavailable) => self.ask_failed(slot, &asking, out),
        }
        self.go_on(slot, out);
    }

    /// What became of a send. A reason: the connection can't go on.
    pub(super) fn sent(&mut self, receipt: Receipt, out: &mut Vec<u8>) -> Option<Close> {
        self.settle_one(receipt.weight);
        // A lane stays while it has sends, so this is the room that it was sent to.
        let lane = self.lanes.get_mut(receipt.slot)?;
        lane.sends = lane.sends.saturating_sub(1);
        let room = lane.room.id.clone();
        let (mark, timestamp, duplicate) = match receipt.fate {
            Fate::Known(Outcome::Stored(mark)) => (mark, receipt.timestamp, false),
            Fate::Known(Outcome::Duplicate(mark, timestamp)) => (mark, timestamp, true),
            Fate::Known(Outcome::Unknowable) => return Some(Close::Internal),
            Fate::Unavailable | Fate::Refused => {
                let refusal = match receipt.fate {
                    Fate::Refused => {
                        Refusal::new(ErrorCode::InternalError, "the message can't be stored")
                            .in_room(room)
                    }
                    _ => unavailable(&room),
                };
                event::put_event(out, &Error::from(&refusal), receipt.id.as_ref());
                self.go_on(receipt.slot, out);
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
        self.go_on(receipt.slot, out);
        None
    }
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
