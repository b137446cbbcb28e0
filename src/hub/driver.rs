//! What the hub's tasks do with a room, one call at a time, so that a test can put any time between
//! two of them.

use std::sync::Arc;
use std::time::Instant;

use super::room::Room;
use crate::history::Slice;
use crate::history::Span;
use crate::id::{Incarnation, Mark, RoomId, Seq};
use crate::presence::follow::Step;
use crate::presence::nodes::Nodes;
use crate::presence::{Change, Roster};

pub(crate) fn new_room(id: RoomId, history_limit: usize, presence_max: usize) -> Room {
    let room = Room::new(id, history_limit, presence_max, 0);
    room.state_mut().telling = false;
    room
}

/// Whether the history must be read now.
pub(crate) fn deliver(room: &Room, payload: &[u8]) -> bool {
    room.deliver(payload)
}

pub(crate) fn take_roster(room: &Room, payload: &[u8], nodes: &Nodes) {
    room.take_roster(payload, nodes);
}

/// What is to be done for the roster, after the members were woken for what they were told.
pub(crate) fn roster_step(room: &Room, own: Incarnation, now: Instant) -> Step {
    room.spread_news();
    room.next_step(own, now)
}

pub(crate) fn roster_read(room: &Room, roster: &Roster, nodes: &Nodes) {
    room.roster_read(roster, nodes);
}

pub(crate) fn roster_told(room: &Room, changes: Vec<Change>, version: Option<Mark>) {
    room.roster_told(changes, version);
}

/// Whether a task would be at work for the roster, and keep the room up.
pub(crate) fn has_roster_work(room: &Room) -> bool {
    let state = room.state();
    state.telling || state.presence.has_work()
}

/// The call failed, and may have been carried out or not.
pub(crate) fn roster_not_told(room: &Room, own: Incarnation, changes: Vec<Change>) {
    room.state_mut().presence.not_told(own, changes);
}

pub(crate) fn assert_roster(room: &Room) {
    room.state_mut().presence.assert();
}

/// As the minute's comparison does.
pub(crate) fn compare_roster(room: &Room, version: Option<Mark>) {
    if room.differs(version) {
        room.state_mut().presence.doubt();
    }
}

/// Whether the history must be read now.
pub(crate) fn absorb(room: &Room, slice: &Slice) -> bool {
    room.absorb(slice)
}

/// Whether the history must be read now.
pub(crate) fn distrust(room: &Room) -> bool {
    room.distrust()
}

pub(crate) fn wanted(room: &Room) -> Span {
    room.wanted()
}

/// `false`: read again.
pub(crate) fn loaded(room: &Room, slice: &Slice) -> bool {
    room.loaded(slice)
}

pub(crate) fn keep(room: &Room, slice: &Arc<Slice>) {
    room.keep(slice);
}

pub(crate) fn fail(room: &Room) {
    room.fail();
}

pub(crate) fn is_opening(room: &Room) -> bool {
    room.is_opening()
}

pub(crate) fn is_empty(room: &Room) -> bool {
    room.is_empty()
}

pub(crate) fn head(room: &Room) -> Option<Mark> {
    room.head()
}

/// Whether the room must be watched from now on.
pub(crate) fn acked(room: &Room, seq: Seq) -> bool {
    room.acked(seq)
}

/// `None`: all came back. Else whether something is overdue, and what was acked by now.
pub(crate) fn overdue(room: &Room, target: Seq) -> Option<(bool, Seq)> {
    room.overdue(target)
}
