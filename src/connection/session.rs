//! What a connection's requests do. It decides and answers, and never touches the socket: replies go
//! into a buffer, what the rooms have is copied when the wire asks for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::SystemTime;

use slab::Slab;

use super::Handler;
use super::lane::{Asking, Lane, Member};
use super::outflow::{Cursors, Position};
use super::wire::{Incoming, Outflow};
use crate::broker::{Draft, Outcome, Unavailable};
use crate::history::{Slice, Want};
use crate::hub::Hub;
use crate::hub::outbox::{Fate, Receipt, Sending};
use crate::hub::peer::{NOTES, Note, Peer, ROOM_BITS};
use crate::hub::room::{Asked, Question, Room, Ticket};
use crate::id::{MessageId, RoomId};
use crate::protocol::close::Close;
use crate::protocol::event::{self, Ack, Error, Pong, Typing};
use crate::protocol::message::Content;
use crate::protocol::request::{
    self, ErrorCode, Limits, Parsed, Refusal, Request, RequestId, Send,
};

/// Requests without an answer, and their bytes, beyond which no more are read.
const MAX_OUTSTANDING: usize = 256;
const MAX_OUTSTANDING_BYTES: usize = 64 * 1024;
/// How often a question for messages is tried.
const MAX_TRIES: u8 = 4;

/// Bounds that the configuration sets.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of requests.
    pub request: Limits,
    /// Rooms of one connection; 0 is off.
    pub rooms: usize,
}

/// A connection that was let in.
pub struct Session {
    hub: Hub,
    peer: Arc<Peer>,
    bounds: Bounds,
    lanes: Slab<Lane>,
    slots: HashMap<RoomId, usize>,
    cursors: Cursors,
    outstanding: usize,
    outstanding_bytes: usize,
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

impl Session {
    /// A session of that connection, which is entered with the hub.
    pub fn new(hub: Hub, peer: Arc<Peer>, bounds: Bounds) -> Session {
        hub.connect(peer.clone());
        Session {
            hub,
            peer,
            bounds,
            lanes: Slab::new(),
            slots: HashMap::new(),
            cursors: Cursors::default(),
            outstanding: 0,
            outstanding_bytes: 0,
        }
    }

    /// How many rooms it is in or joining.
    pub fn room_count(&self) -> usize {
        self.lanes.len()
    }

    fn lane_of(&mut self, room: &RoomId) -> Option<(usize, &mut Lane)> {
        let slot = *self.slots.get(room)?;
        Some((slot, self.lanes.get_mut(slot)?))
    }

    /// Takes a request: carries it out, or lets it wait behind others to the same room.
    fn request(&mut self, parsed: Parsed, weight: usize, out: &mut Vec<u8>) {
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

    fn perform(&mut self, parsed: Parsed, weight: usize, out: &mut Vec<u8>) {
        let Parsed { id, request } = parsed;
        let id = id.as_ref();
        let outcome = match request {
            Err(refusal) => Err(refusal),
            Ok(Request::Ping) => {
                event::put_event(
                    out,
                    &Pong {
                        timestamp: now_ms(),
                        lifetime: std::marker::PhantomData,
                    },
                    id,
                );
                Ok(())
            }
            Ok(Request::Join { room, limit, since }) => {
                let want = since.map_or(Want::Newest(limit), |since| Want::Since(since, limit));
                self.join(room, want, id, out)
            }
            Ok(Request::History {
                room,
                limit,
                before,
            }) => {
                let want = before.map_or(Want::Newest(limit), |before| Want::Before(before, limit));
                self.history(&room, want, id, out)
            }
            Ok(Request::Leave { room }) => {
                self.leave(&room, id, out);
                Ok(())
            }
            Ok(Request::Message(send)) => self.send(&send, id, weight),
            Ok(Request::Typing { room, is_typing }) => {
                self.typing(&room, is_typing);
                Ok(())
            }
            Ok(Request::Users { room }) => self.users(&room, id, out),
        };
        if let Err(refusal) = outcome {
            event::put_event(out, &Error::from(&refusal), id);
        }
    }

    fn join(
        &mut self,
        room: RoomId,
        want: Want,
        id: Option<&RequestId>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if let Some((slot, _)) = self.lane_of(&room) {
            self.ask(
                slot,
                Asking {
                    want,
                    id: id.cloned(),
                    tries: 0,
                },
                None,
                out,
            );
            return Ok(());
        }
        if self.bounds.rooms > 0 && self.lanes.len() >= self.bounds.rooms {
            let message = format!(
                "`roomId`: a connection may be in {} rooms",
                self.bounds.rooms
            );
            return Err(Refusal::new(ErrorCode::TooManyRooms, message).in_room(room));
        }
        let slot = self.lanes.insert(Lane::new(self.hub.room(&room)));
        self.slots.insert(room, slot);
        self.ask(
            slot,
            Asking {
                want,
                id: id.cloned(),
                tries: 0,
            },
            None,
            out,
        );
        Ok(())
    }

    fn history(
        &mut self,
        room: &RoomId,
        want: Want,
        id: Option<&RequestId>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let slot = self.member_slot(room)?;
        self.ask(
            slot,
            Asking {
                want,
                id: id.cloned(),
                tries: 0,
            },
            None,
            out,
        );
        Ok(())
    }

    fn users(
        &mut self,
        room: &RoomId,
        id: Option<&RequestId>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let slot = self.member_slot(room)?;
        self.lanes[slot].room.users(id, out);
        Ok(())
    }

    /// The slot of a room that it is in.
    fn member_slot(&mut self, room: &RoomId) -> Result<usize, Refusal> {
        match self.lane_of(room) {
            Some((slot, lane)) if lane.member.is_some() => Ok(slot),
            _ => Err(
                Refusal::new(ErrorCode::NotInRoom, "`roomId`: join the room first")
                    .in_room(room.clone()),
            ),
        }
    }

    /// Asks a lane's room for messages; a member that isn't one yet joins with it. Answers now, or when
    /// the room is open or what must be read is there.
    fn ask(&mut self, slot: usize, mut asking: Asking, past: Option<&Slice>, out: &mut Vec<u8>) {
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

    fn ask_failed(&mut self, slot: usize, asking: &Asking, out: &mut Vec<u8>) {
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

    /// Takes a lane out. What waited in it is asked anew.
    fn remove(&mut self, slot: usize, out: &mut Vec<u8>) {
        let Some(lane) = self.lanes.try_remove(slot) else {
            return;
        };
        self.slots.remove(&lane.room.id);
        self.depart(&lane);
        drop(lane.room);
        for (parsed, weight) in lane.waiting {
            self.settle(weight);
            self.request(parsed, weight, out);
        }
    }

    /// Ends a lane's membership.
    fn depart(&self, lane: &Lane) {
        tracing::debug!(connection = %self.peer.id, user = %self.peer.identity.user, room = %lane.room.id, "left");
        if let Some(member) = &lane.member
            && lane.room.leave(member.key, &self.peer, now_ms())
        {
            self.hub.emptied(&lane.room);
        }
    }

    fn leave(&mut self, room: &RoomId, id: Option<&RequestId>, out: &mut Vec<u8>) {
        if id.is_some() {
            let done = Ack {
                message_id: None,
                room_id: room,
                seq: None,
                timestamp: None,
                client_id: None,
                duplicate: false,
            };
            event::put_event(out, &done, id);
        }
        if let Some((slot, _)) = self.lane_of(room) {
            self.remove(slot, out);
        }
    }

    fn send(&mut self, send: &Send, id: Option<&RequestId>, weight: usize) -> Result<(), Refusal> {
        let slot = self.member_slot(&send.room)?;
        let identity = &self.peer.identity;
        let timestamp = now_ms();
        let content = Content {
            room_id: &send.room,
            user_id: &identity.user,
            username: &identity.username,
            text: &send.text,
            timestamp,
            client_id: send.client_id.as_deref(),
            reply_to: send.reply_to.as_deref(),
        };
        let draft = Draft {
            id: MessageId::random(),
            former: Vec::new(),
            user: identity.user.clone(),
            client_id: send.client_id.clone(),
            timestamp,
            body: content.body(),
        };
        let sending = Sending {
            draft,
            peer: self.peer.clone(),
            slot,
            id: id.cloned(),
            weight,
        };
        let lane = &mut self.lanes[slot];
        let behind = lane.sends > 0;
        lane.sends += 1;
        lane.room.send(&self.hub, sending, behind);
        self.owe(weight);
        Ok(())
    }

    fn typing(&mut self, room: &RoomId, is_typing: bool) {
        let Ok(slot) = self.member_slot(room) else {
            return;
        };
        let identity = &self.peer.identity;
        let typing = Typing {
            room_id: room,
            user_id: &identity.user,
            username: &identity.username,
            is_typing,
            timestamp: now_ms(),
        };
        self.hub
            .broker()
            .publish(&self.lanes[slot].room.id, &event::json(&typing), &self.hub);
    }

    fn owe(&mut self, weight: usize) {
        self.outstanding += 1;
        self.outstanding_bytes += weight;
    }

    fn settle(&mut self, weight: usize) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.outstanding_bytes = self.outstanding_bytes.saturating_sub(weight);
    }

    /// Carries out what waited in a lane, as far as it needn't wait any more.
    fn go_on(&mut self, slot: usize, out: &mut Vec<u8>) {
        while let Some((parsed, weight)) = self.lanes.get_mut(slot).and_then(Lane::next) {
            self.settle(weight);
            self.perform(parsed, weight, out);
        }
    }

    fn opened(&mut self, slot: usize, outcome: Result<(), Unavailable>, out: &mut Vec<u8>) {
        let Some(asking) = self.lanes.get_mut(slot).and_then(|lane| lane.asking.take()) else {
            return;
        };
        match outcome {
            Ok(()) => self.ask(slot, *asking, None, out),
            Err(Unavailable) => self.ask_failed(slot, &asking, out),
        }
        self.go_on(slot, out);
    }

    fn past(
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
    fn sent(&mut self, receipt: Receipt, out: &mut Vec<u8>) -> Option<Close> {
        self.settle(receipt.weight);
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

impl Handler for Session {
    fn message(&mut self, message: Incoming<'_>, out: &mut Vec<u8>) {
        let (Incoming::Text(message) | Incoming::Binary(message)) = message;
        let parsed = request::parse(message, self.bounds.request);
        self.request(parsed, message.len(), out);
    }

    fn takes_messages(&self) -> bool {
        self.outstanding < MAX_OUTSTANDING && self.outstanding_bytes < MAX_OUTSTANDING_BYTES
    }

    fn woken(&mut self, bits: u64, out: &mut Vec<u8>) -> Option<Close> {
        self.cursors.bits |= bits & !NOTES;
        let mut close = None;
        if bits & NOTES != 0 {
            for note in self.peer.take_notes() {
                let end = match note {
                    Note::Opened(slot, outcome) => {
                        self.opened(slot, outcome, out);
                        None
                    }
                    Note::Past(slot, room, past) => {
                        self.past(slot, &room, past, out);
                        None
                    }
                    Note::Sent(receipt) => self.sent(receipt, out),
                    Note::Close(why) => Some(why),
                };
                close = close.or(end);
            }
        }
        close
    }

    fn dirty(&self, waker: &Waker) -> u64 {
        self.peer.register(waker);
        self.peer.take_dirty()
    }

    fn is_owed(&self) -> bool {
        self.outstanding > 0
    }
}

impl Outflow for Session {
    fn fill(&mut self, out: &mut Vec<u8>, budget: usize) -> bool {
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
                lane.room.read_past(&self.hub, next.seq, &self.peer, slot);
            }
        }
        more
    }

    fn settle(&mut self, filled: &[u8], taken: usize) -> usize {
        self.cursors.settle(&mut self.lanes, filled, taken)
    }
}

impl Drop for Session {
    /// The one clean-up, whatever ended the connection.
    fn drop(&mut self) {
        self.lanes.iter().for_each(|(_, lane)| self.depart(lane));
        self.hub.disconnect(&self.peer);
    }
}
