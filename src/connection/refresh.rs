//! The token of a connection, and the next one: a `refresh` moves the connection's end and changes its
//! grants, at once, without a new connection. The user stays, and so does the name that others know.
//!
//! The token that came last counts, whether it ends later or earlier than the one before. A token whose key
//! has to be fetched first is judged on a task of its own, and the outcome comes as a note: nothing else of
//! the connection waits for it but the next `refresh`, so they are answered in the order sent. What else is
//! sent before `refreshed` came may be judged by either token.
//!
//! A room that isn't granted any longer is left in the same step, so nothing of it is given to the client
//! after. Where something is on its way for it, the lane stays until that has come, without a member: sends
//! that were taken before are still stored, and acked; a question is answered with `FORBIDDEN`. A join that
//! waits for its room is judged again in the very step in which it would become a member (see
//! `Session::ask`); all of it happens in the connection's one task. So none can slip in with the old
//! token's grants, and what waits in the lane is judged when its turn comes.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Duration;

use super::lane::Ask;
use super::session::{Session, Todo};
use crate::auth::{Denied, Grants, Identity, Refused, Verdict, Verifier};
use crate::clock::now_ms;
use crate::config::Secret;
use crate::hub::peer::Note;
use crate::id::RoomId;
use crate::protocol::event::{self, Refreshed};
use crate::protocol::request::{ErrorCode, Parsed, Refusal, Request, RequestId};

/// What a connection may do and until when, and who judges its next token.
pub struct Pass {
    /// What the newest token grants.
    grants: Grants,
    verifier: Verifier,
    /// When it ends, in Unix milliseconds, where it is new since the connection's clock was set.
    renewed: Option<u64>,
    next: Option<Box<Next>>,
}

/// A `refresh` that is being judged, and those behind it.
struct Next {
    id: Option<RequestId>,
    weight: usize,
    /// Bounded by what may be outstanding.
    waiting: VecDeque<(Parsed, usize)>,
}

impl Pass {
    /// Of a connection that was let in with this identity.
    pub fn new(identity: Identity, verifier: Verifier) -> Pass {
        Pass {
            grants: identity.grants,
            verifier,
            renewed: None,
            next: None,
        }
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    pub(super) fn new_life(&mut self) -> Option<Duration> {
        let ends = self.renewed.take()?;
        Some(Duration::from_millis(ends.saturating_sub(now_ms())))
    }
}

pub(super) fn not_granted(room: &RoomId) -> Refusal {
    let message = "`roomId`: the token doesn't grant this room";
    Refusal::new(ErrorCode::Forbidden, message).in_room(room.clone())
}

fn refusal_of(refused: Refused) -> Refusal {
    let code = match refused {
        Refused::Denied(_) => ErrorCode::Unauthorized,
        Refused::KeysAway => ErrorCode::Unavailable,
    };
    Refusal::new(code, format!("`token`: {}", refused.message()))
}

impl Session {
    pub(super) fn refresh(
        &mut self,
        token: Secret,
        id: Option<&RequestId>,
        weight: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if let Some(next) = &mut self.pass.next {
            let (id, request) = (id.cloned(), Ok(Request::Refresh { token }));
            next.waiting.push_back((Parsed { id, request }, weight));
            self.owe(weight);
            return Ok(());
        }
        let verifier = &self.pass.verifier;
        match verifier.judge(token.expose(), std::time::SystemTime::now()) {
            Verdict::Verified(identity) => self.renew(identity, id, out),
            Verdict::Denied(denied) => Err(refusal_of(Refused::Denied(denied))),
            Verdict::UnknownKey => {
                let (verifier, peer) = (verifier.clone(), self.peer.clone());
                tokio::spawn(async move {
                    let outcome = verifier.verify(token.expose()).await;
                    peer.note(Note::Judged(Box::new(outcome)));
                });
                self.pass.next = Some(Box::new(Next {
                    id: id.cloned(),
                    weight,
                    waiting: VecDeque::new(),
                }));
                self.owe(weight);
                Ok(())
            }
        }
    }

    /// What the token is worth that is being judged. Those behind it have their turn then, before
    /// anything that comes later: nothing is read meanwhile.
    pub(super) fn judged(&mut self, outcome: Result<Identity, Refused>, out: &mut Vec<u8>) {
        let Some(next) = self.pass.next.take() else {
            return;
        };
        self.settle_one(next.weight);
        let waiting = next.waiting.into_iter();
        self.todo
            .extend(waiting.map(|(parsed, weight)| Todo::Request(parsed, weight)));
        let id = next.id.as_ref();
        let renewed = outcome
            .map_err(refusal_of)
            .and_then(|identity| self.renew(identity, id, out));
        if let Err(refusal) = renewed {
            self.refuse(&refusal, id, out);
        }
    }

    /// Goes on with this identity, if it is of the same user.
    fn renew(
        &mut self,
        identity: Identity,
        id: Option<&RequestId>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if identity.user != self.peer.identity.user {
            return Err(refusal_of(Refused::Denied(Denied::OTHER_USER)));
        }
        // It may have ended while it waited.
        if identity.life_left().is_zero() {
            return Err(refusal_of(Refused::Denied(Denied::EXPIRED)));
        }
        let refreshed = Refreshed {
            expires_at: identity.expires_at_ms(),
            lifetime: PhantomData,
        };
        event::put_event(out, &refreshed, id);
        self.pass.renewed = Some(identity.expires_at_ms());
        let before = std::mem::replace(&mut self.pass.grants, identity.grants);
        if before != self.pass.grants {
            self.leave_what_is_not_granted();
        }
        Ok(())
    }

    fn leave_what_is_not_granted(&mut self) {
        let grants = &self.pass.grants;
        let lost = self.lanes.iter().filter(|(_, lane)| {
            let granted = grants.allow(lane.room.id.as_str());
            lane.member.is_some() && !granted
        });
        let lost: Vec<usize> = lost.map(|(slot, _)| slot).collect();
        lost.into_iter().for_each(|slot| self.put_out(slot));
    }

    /// Ends the membership in that slot. The client is told piece by piece, as replies leave.
    fn put_out(&mut self, slot: usize) {
        let Some(room) = self.lanes.get(slot).map(|lane| lane.room.clone()) else {
            return;
        };
        // It isn't typing there any more, whatever is still to come for the lane.
        self.stop_typing(slot);
        let Some(lane) = self.lanes.get_mut(slot) else {
            return;
        };
        let member = lane.member.take();
        if let Some(asking) = &mut lane.asking {
            asking.ask = Ask::Withdrawn;
        }
        let over = lane.is_over();
        // It won't catch up any more.
        let gave_up = std::mem::take(&mut lane.catching_up);
        if let Some(member) = &member {
            self.depart(&room, member);
        }
        if gave_up {
            self.todo.push_back(Todo::Ask(slot));
        }
        self.todo.push_back(Todo::Withdrawn(room.id.clone()));
        if over {
            drop(room);
            self.remove(slot);
        }
    }
}
