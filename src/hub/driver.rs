//! What the hub's tasks do with a room, one call at a time, so that a test can put any time between
//! two of them.

use super::room::Room;
use crate::history::Slice;
use crate::history::Span;
use crate::id::{Mark, RoomId, Seq};

pub(crate) fn new_room(id: RoomId, history_limit: usize, presence_max: usize) -> Room {
    Room::new(id, history_limit, presence_max, 0)
}

/// Whether the history must be read now.
pub(crate) fn deliver(room: &Room, payload: &[u8]) -> bool {
    room.deliver(payload)
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
