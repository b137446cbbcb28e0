//! What each request does: answered at once, or asked of the room ([`super::answers`]) or sent into it.

use std::marker::PhantomData;

use super::lane::{Ask, Asking, Lane};
use super::refresh::not_granted;
use super::session::Session;
use crate::broker::Draft;
use crate::clock::now_ms;
use crate::history::Want;
use crate::hub::outbox::{Sender, Sending};
use crate::id::{MessageId, RoomId};
use crate::protocol::event::{self, Ack, Error, Pong};
use crate::protocol::message::Content;
use crate::protocol::request::{ErrorCode, Parsed, Refusal, Request, RequestId, Send};

impl Session {
    pub(super) fn perform(&mut self, parsed: Parsed, weight: usize, out: &mut Vec<u8>) {
        let Parsed { id, request } = parsed;
        let id = id.as_ref();
        let is_send = matches!(request, Ok(Request::Message(_)));
        let outcome = match request.and_then(|request| self.granted(request)) {
            Err(refusal) => Err(refusal),
            Ok(Request::Ping) => {
                event::put_event(
                    out,
                    &Pong {
                        timestamp: now_ms(),
                        lifetime: PhantomData,
                    },
                    id,
                );
                Ok(())
            }
            Ok(Request::Join { room, limit, since }) => {
                let want = since.map_or(Want::Newest(limit), |since| Want::Since(since, limit));
                self.join(room, Asking::new(Ask::Messages(want), id), out)
            }
            Ok(Request::History {
                room,
                limit,
                before,
            }) => {
                let want = before.map_or(Want::Newest(limit), |before| Want::Before(before, limit));
                self.ask_member(&room, Asking::new(Ask::Messages(want), id), out)
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
            Ok(Request::Refresh { token }) => self.refresh(token, id, weight, out),
            Ok(Request::Users { room }) => self.ask_member(&room, Asking::new(Ask::Users, id), out),
        };
        match outcome {
            Ok(()) => {}
            Err(refusal) if is_send && refusal.code != ErrorCode::RateLimited => {
                let refusal = self.count_failed(refusal);
                self.refuse(&refusal, id, out);
            }
            Err(refusal) => self.refuse(&refusal, id, out),
        }
    }

    /// Answers that a request was refused.
    pub(super) fn refuse(&self, refusal: &Refusal, id: Option<&RequestId>, out: &mut Vec<u8>) {
        self.hub.metrics().errors.inc(refusal.code);
        event::put_event(out, &Error::from(refusal), id);
    }

    /// Refuses what concerns a room that the token doesn't grant. `leave` and `typing` are ignored there
    /// as in any room that one isn't in.
    fn granted(&self, request: Request) -> Result<Request, Refusal> {
        let quiet = matches!(request, Request::Leave { .. } | Request::Typing { .. });
        match request.room() {
            Some(room) if !quiet && !self.pass.grants().allow(room.as_str()) => {
                Err(not_granted(room))
            }
            _ => Ok(request),
        }
    }

    /// A member that joins again is only answered.
    fn join(&mut self, room: RoomId, asking: Asking, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let slot = match self.lane_of(&room) {
            Some((slot, _)) => slot,
            None => self.new_lane(room)?,
        };
        self.ask(slot, asking, None, out);
        Ok(())
    }

    fn new_lane(&mut self, room: RoomId) -> Result<usize, Refusal> {
        let most = self.bounds.rooms;
        if most > 0 && self.lanes.len() >= most {
            let message = format!("`roomId`: a connection may be in {most} rooms");
            return Err(Refusal::new(ErrorCode::TooManyRooms, message).in_room(room));
        }
        let lane = Lane::new(self.hub.room(&room));
        Ok(self.slots.insert(&mut self.lanes, lane))
    }

    fn ask_member(
        &mut self,
        room: &RoomId,
        asking: Asking,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let slot = self.member_slot(room)?;
        self.ask(slot, asking, None, out);
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
            self.remove(slot);
        }
    }

    fn send(&mut self, send: &Send, id: Option<&RequestId>, weight: usize) -> Result<(), Refusal> {
        let slot = self.member_slot(&send.room)?;
        let pays = match self.may_send(&send.room, send.client_id.is_some()) {
            Ok(pays) => pays,
            Err(refusal) => return self.refuse_behind(slot, refusal, id, weight),
        };
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
            pays,
        };
        let sending = Sending {
            draft,
            sender: Sender {
                peer: self.peer.clone(),
                allowance: self.rates.allowance().cloned(),
                slot,
                id: id.cloned(),
                weight,
            },
        };
        let lane = &mut self.lanes[slot];
        let behind = lane.sends > 0;
        lane.sends += 1;
        lane.room.send(&self.hub, sending, behind);
        self.owe(weight);
        Ok(())
    }

    /// Refuses a send: now, or behind the answers of those before it, which have yet to come.
    fn refuse_behind(
        &mut self,
        slot: usize,
        refusal: Refusal,
        id: Option<&RequestId>,
        weight: usize,
    ) -> Result<(), Refusal> {
        match self.lanes.get_mut(slot).filter(|lane| lane.sends > 0) {
            None => Err(refusal),
            Some(lane) => {
                let refused = Parsed {
                    id: id.cloned(),
                    request: Err(refusal),
                };
                // A send that is carried out has nobody before it, but may have others behind it.
                lane.waiting.push_front((refused, weight));
                self.owe(weight);
                Ok(())
            }
        }
    }
}
