//! How often a connection may ask. Messages are counted per user over all nodes ([`crate::limits::messages`]); here
//! it is decided what is asked of whom, and what a refusal says. Everything else that a client sends
//! counts as a request of this connection: also what can't be read, messages that came to nothing for another
//! reason, and pings and pongs of the WebSocket, which the codec answers itself. Else any of it would be free.
//!
//! Who goes on and on is closed ([`Close::Flood`]): messages and requests each have their own count of refusals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::session::{Session, Todo};
use crate::broker::toll::Pays;
use crate::hub::Hub;
use crate::hub::peer::Note;
use crate::id::{RoomId, UserId};
use crate::limits::messages::{Allowance, Pass};
use crate::limits::window::{Refusals, Requests};
use crate::protocol::close::Close;
use crate::protocol::request::{ErrorCode, Parsed, Refusal, Request};

/// What a connection has asked, and how often it was refused. Every idle connection has one, so what is seldom
/// needed is boxed, and the rates are where they are for all.
pub(super) struct Rates {
    /// What its user's messages are counted in; `None`: any number.
    allowance: Option<Arc<Allowance>>,
    asked: Requests,
    refused: Option<Box<Refused>>,
}

#[derive(Default)]
struct Refused {
    messages: Refusals,
    requests: Refusals,
}

impl Rates {
    /// Of a connection of that user.
    pub(super) fn new(hub: &Hub, user: &UserId) -> Rates {
        Rates {
            allowance: hub.allowance(user),
            asked: Requests::default(),
            refused: None,
        }
    }

    /// The allowance that the user's messages are counted in.
    pub(super) fn allowance(&self) -> Option<&Arc<Allowance>> {
        self.allowance.as_ref()
    }

    fn refused(&mut self) -> &mut Refused {
        self.refused.get_or_insert_default()
    }
}

impl Session {
    /// Refuses a request that is one too many, whatever it asks for; messages are counted elsewhere.
    pub(super) fn within_rate(&mut self, parsed: Parsed) -> Parsed {
        if matches!(parsed.request, Ok(Request::Message(_))) {
            return parsed;
        }
        let Err(wait) = self.count_request() else {
            return parsed;
        };
        let room = match parsed.request {
            Ok(request) => request.room().cloned(),
            Err(refusal) => refusal.room,
        };
        let request = Err(too_many("requests", wait, room));
        Parsed { request, ..parsed }
    }

    /// One request more.
    pub(super) fn count_request(&mut self) -> Result<(), Duration> {
        let Some(rate) = self.bounds.rate else {
            return Ok(());
        };
        let now = Instant::now();
        let taken = self.rates.asked.take(rate, now);
        if taken.is_err() && self.rates.refused().requests.count(rate, now) {
            self.end_flood();
        }
        taken
    }

    /// A message that came to nothing counts as a request: what to answer.
    pub(super) fn count_failed(&mut self, refusal: Refusal) -> Refusal {
        match self.count_request() {
            Err(wait) => too_many("requests", wait, refusal.room),
            Ok(()) => refusal,
        }
    }

    /// Whether its user may send a message into that room now; and what it pays the broker. One that has a
    /// `clientId` (`named`) is asked of the broker also where there were too many: it may be stored already.
    pub(super) fn may_send(&mut self, room: &RoomId, named: bool) -> Result<Pays, Refusal> {
        let pass = match self.rates.allowance() {
            Some(allowance) => allowance.take(Instant::now()),
            None => Pass::Paid,
        };
        match pass {
            Pass::Paid => Ok(Pays::Nothing),
            Pass::Pays(pays) => Ok(pays),
            // Such a try isn't free: it counts as a request.
            Pass::Wait(_) if named && self.count_request().is_ok() => Ok(Pays::One),
            Pass::Wait(left) => Err(self.refuse_message(room, left)),
        }
    }

    /// A message into that room is one too many.
    pub(super) fn refuse_message(&mut self, room: &RoomId, left: Duration) -> Refusal {
        if let Some(rate) = self.hub.rate()
            && self.rates.refused().messages.count(rate, Instant::now())
        {
            self.end_flood();
        }
        too_many("messages", left, Some(room.clone()))
    }

    /// The connection ends as soon as what it is owed was answered.
    fn end_flood(&mut self) {
        self.todo.push_back(Todo::Note(Note::Close(Close::Flood)));
    }
}

fn too_many(what: &str, wait: Duration, room: Option<RoomId>) -> Refusal {
    let refusal = Refusal {
        room,
        ..Refusal::new(ErrorCode::RateLimited, format!("too many {what}"))
    };
    // Rounded up: who waits so long isn't too early.
    let ms = wait.as_nanos().div_ceil(1_000_000);
    refusal.retry_after(u64::try_from(ms).unwrap_or(u64::MAX))
}
