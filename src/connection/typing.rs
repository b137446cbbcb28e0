//! `typing` at most once a second for each room: what comes sooner is held, and what was said last is told when the
//! second is over. So a client may say it with each key that is pressed, the others don't hear it that
//! often, and who stopped is always known to have stopped.
//!
//! Held is one bool for each room, under the instant when it is due: the connection's timer asks for the
//! earliest. Who leaves, or whose connection ends, has stopped, if that was held.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::session::Session;
use crate::clock::now_ms;
use crate::id::RoomId;
use crate::protocol::event::{self, Typing};

/// Between what is told of one room.
const PAUSE: Duration = Duration::from_secs(1);

/// What was said last in rooms of which something was told less than a second ago: when that is due, the lane's
/// slot, and whether one is typing. One entry for each lane at most, removed with it.
/// Most connections never hold any, so it is boxed.
#[derive(Default)]
pub(super) struct Held(Option<Box<Later>>);

#[derive(Default)]
struct Later(BTreeMap<(Instant, usize), bool>);

impl Held {
    fn hold(&mut self, due: Instant, slot: usize, is_typing: bool) {
        let later = self.0.get_or_insert_default();
        later.0.insert((due, slot), is_typing);
    }

    /// When the first is due, and its slot.
    fn first(&self) -> Option<(Instant, usize)> {
        let (first, _) = self.0.as_ref()?.0.first_key_value()?;
        Some(*first)
    }

    fn take(&mut self, due: Instant, slot: usize) -> Option<bool> {
        let later = self.0.as_mut()?;
        let held = later.0.remove(&(due, slot));
        if later.0.is_empty() {
            self.0 = None;
        }
        held
    }
}

impl Session {
    /// Tells the room, or holds it until it may be told.
    pub(super) fn typing(&mut self, room: &RoomId, is_typing: bool) {
        let now = Instant::now();
        let Some((slot, lane)) = self.lane_of(room) else {
            return;
        };
        if lane.member.is_none() {
            return;
        }
        let due = lane.typed.map(|told| told + PAUSE);
        match due.filter(|due| now < *due) {
            Some(due) => {
                self.held.hold(due, slot, is_typing);
            }
            None => {
                // Held and due, but overtaken: this is what was said last.
                self.let_go_of_typing(slot);
                self.tell_typing(slot, is_typing, now);
            }
        }
    }

    /// When something held is due.
    pub(super) fn typing_due(&self) -> Option<Instant> {
        self.held.first().map(|(due, _)| due)
    }

    /// Tells what is due.
    pub(super) fn tell_due_typing(&mut self, now: Instant) {
        while let Some((due, slot)) = self.held.first().filter(|(due, _)| *due <= now)
            && let Some(is_typing) = self.held.take(due, slot)
        {
            self.tell_typing(slot, is_typing, now);
        }
    }

    /// The member in that slot leaves.
    pub(super) fn stop_typing(&mut self, slot: usize) {
        if self.let_go_of_typing(slot) == Some(false) {
            self.tell_typing(slot, false, Instant::now());
        }
    }

    /// Takes out what is held of a slot.
    fn let_go_of_typing(&mut self, slot: usize) -> Option<bool> {
        let told = self.lanes.get(slot)?.typed?;
        self.held.take(told + PAUSE, slot)
    }

    fn tell_typing(&mut self, slot: usize, is_typing: bool, now: Instant) {
        let Some(lane) = self.lanes.get_mut(slot) else {
            return;
        };
        lane.typed = Some(now);
        let identity = &self.peer.identity;
        let typing = Typing {
            room_id: &lane.room.id,
            user_id: &identity.user,
            username: &identity.username,
            is_typing,
            timestamp: now_ms(),
        };
        self.hub
            .broker()
            .publish(&lane.room.id, &event::json(&typing), &self.hub);
    }
}
