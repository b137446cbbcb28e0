//! A connection's membership in one room, and the order of its requests to it. Sends may follow one
//! another into the room's outbox, which keeps their order; any other request waits until what was
//! asked before is answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::outflow::Position;
use crate::history::Want;
use crate::hub::room::Room;
use crate::protocol::request::{Parsed, Request, RequestId};

/// One room of one connection.
pub(super) struct Lane {
    pub(super) room: Arc<Room>,
    /// The member's key in the room and its place in the log; `None` while it is joining, and when its room
    /// isn't granted any longer and something is still on its way.
    pub(super) member: Option<Member>,
    /// Sends that have no answer yet.
    pub(super) sends: usize,
    /// The question for messages that has no answer yet.
    pub(super) asking: Option<Box<Asking>>,
    /// Whether that waits until the member has caught up.
    pub(super) catching_up: bool,
    /// Requests that wait, with their weight.
    pub(super) waiting: VecDeque<(Parsed, usize)>,
    /// When the room was told last whether one is typing.
    pub(super) typed: Option<Instant>,
}

/// A member of a room.
pub(super) struct Member {
    pub(super) key: usize,
    pub(super) position: Position,
    /// Events that aren't kept were missed, so it shall be told who is there.
    pub(super) missed: bool,
}

/// A `join`, `history` or `users` that waits for the room to open, for older messages, or until the member
/// has caught up.
pub(super) struct Asking {
    pub(super) ask: Ask,
    pub(super) id: Option<RequestId>,
    /// How often it was tried: the log may move on while it reads.
    pub(super) tries: u8,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    /// Messages.
    Messages(Want),
    /// Who is there.
    Users,
    /// Nothing any more: the room isn't granted any longer. Something is still on its way for it.
    Withdrawn,
}

impl Asking {
    pub(super) fn new(ask: Ask, id: Option<&RequestId>) -> Asking {
        Asking {
            ask,
            id: id.cloned(),
            tries: 0,
        }
    }
}

impl Lane {
    pub(super) fn new(room: Arc<Room>) -> Lane {
        Lane {
            room,
            member: None,
            sends: 0,
            asking: None,
            catching_up: false,
            waiting: VecDeque::new(),
            typed: None,
        }
    }

    /// Whether a request has to wait for what was asked before.
    pub(super) fn must_wait(&self, parsed: &Parsed) -> bool {
        let is_send = matches!(parsed.request, Ok(Request::Message(_)));
        self.asking.is_some() || !self.waiting.is_empty() || (self.sends > 0 && !is_send)
    }

    /// Whether nothing but its place is left of it: it is in the room no longer, and nothing is on its way.
    pub(super) fn is_over(&self) -> bool {
        self.member.is_none() && self.asking.is_none() && self.sends == 0
    }

    /// The next request that needn't wait any more.
    pub(super) fn next(&mut self) -> Option<(Parsed, usize)> {
        let waiting = std::mem::take(&mut self.waiting);
        let first_may_go = waiting
            .front()
            .is_some_and(|(parsed, _)| !self.must_wait(parsed));
        self.waiting = waiting;
        if first_may_go {
            self.waiting.pop_front()
        } else {
            None
        }
    }
}
