//! What lies after a connection's cursors, in all of its rooms. A cursor goes on when bytes are copied
//! for a write, and goes back to what the socket didn't take: nothing is kept for a slow client but
//! the rest of one frame.

use std::cell::RefCell;
use std::sync::Arc;

use slab::Slab;

use super::lane::{Lane, Member};
use crate::history::Slice;
use crate::hub::peer::ROOM_BITS;
use crate::hub::room::{Place, Room};
use crate::hub::tail::Reading;
use crate::id::{Mark, Seq};
use crate::protocol::frame;

/// Room for so many chunks is kept for the thread's next fill.
const KEPT_CHUNKS: usize = 256;

thread_local! {
    // A thread works at one connection at a time, and an idle one has no chunks.
    static CHUNKS: RefCell<Vec<Chunk>> = const { RefCell::new(Vec::new()) };
}

/// Where a member stands in its room's log.
#[derive(Clone)]
pub(super) enum Position {
    /// In the tail, at that offset.
    Tail(u64),
    /// Before it: this message is next. `asked`: it is being read.
    Behind { next: Mark, asked: bool },
    /// Before it, with what was read from that place on.
    Past { next: Seq, slice: Arc<Slice> },
    /// What it needs next is gone: it shall be told to begin anew.
    Lost,
}

/// What was copied of one room in the last fill.
struct Chunk {
    slot: usize,
    /// Where its bytes begin, from where the fill began.
    start: usize,
    /// Where the member stood before, and whether it had missed something.
    before: (Position, bool),
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Frames of the tail; the cursor stood here after them.
    Tail(u64),
    /// Messages from before the tail, from that place on.
    Past(Seq),
    /// Events made for this member alone.
    Own,
}

/// What trying to copy came to.
enum Step {
    /// Something was copied, or there was nothing; whether the room has no more now.
    Copied(Kind, bool),
    /// The position changed: look again.
    Again,
    /// Older messages must be read first; whether they are to be asked for.
    Waits(bool),
}

/// Which rooms have something, and what was copied of them last.
#[derive(Default)]
pub(super) struct Cursors {
    /// The bits of rooms that have something, or may.
    pub(super) bits: u64,
    /// Fills so far; it may begin anew.
    fills: u32,
    /// From a fill to its settlement.
    chunks: Vec<Chunk>,
    /// Slots that need messages from before the tail.
    pub(super) behind: Vec<usize>,
}

impl Cursors {
    /// Copies frames of all rooms that have some. Whether there is more.
    pub(super) fn fill(
        &mut self,
        lanes: &mut Slab<Lane>,
        out: &mut Vec<u8>,
        budget: usize,
    ) -> bool {
        self.chunks.clear();
        if self.chunks.capacity() == 0 {
            self.chunks = CHUNKS.take();
        }
        let origin = out.len();
        // Each fill begins with another bit, and a bit, when all have been the first, with another one of its rooms:
        // so one that fills every write can't starve the others.
        self.fills = self.fills.wrapping_add(1);
        let (round, first) = (self.fills / ROOM_BITS as u32, self.fills % ROOM_BITS as u32);
        let mut bits = self.bits.rotate_right(first);
        while bits != 0 {
            let bit = ((bits.trailing_zeros() + first) % 64) as usize;
            bits &= bits - 1;
            let mut drained = true;
            for slot in slots_of(bit, lanes.capacity(), round as usize) {
                let Some(lane) = lanes.get_mut(slot) else {
                    continue;
                };
                drained &= self.fill_from(slot, lane, out, origin, budget);
            }
            if drained {
                self.bits &= !(1 << bit);
            }
        }
        if self.chunks.is_empty() {
            self.let_go_of_chunks();
        }
        self.bits != 0
    }

    fn let_go_of_chunks(&mut self) {
        let mut chunks = std::mem::take(&mut self.chunks);
        chunks.clear();
        // None were taken where nothing was to be filled.
        if (1..=KEPT_CHUNKS).contains(&chunks.capacity()) {
            CHUNKS.set(chunks);
        }
    }

    /// Copies frames of one room. Whether nothing is left to copy there now.
    fn fill_from(
        &mut self,
        slot: usize,
        lane: &mut Lane,
        out: &mut Vec<u8>,
        origin: usize,
        budget: usize,
    ) -> bool {
        let Some(member) = &mut lane.member else {
            return true;
        };
        loop {
            let left = (origin + budget).saturating_sub(out.len());
            if left == 0 {
                return false;
            }
            let start = out.len() - origin;
            let before = (member.position.clone(), member.missed);
            match copy(&lane.room, member, left, out) {
                Step::Again => {}
                Step::Waits(ask) => {
                    if ask {
                        self.behind.push(slot);
                    }
                    return true;
                }
                Step::Copied(kind, drained) => {
                    if out.len() - origin > start {
                        self.chunks.push(Chunk {
                            slot,
                            start,
                            before,
                            kind,
                        });
                    }
                    if drained {
                        return true;
                    }
                }
            }
        }
    }

    /// Sets cursors back to what was not taken; see [`super::wire::Outflow::settle`].
    pub(super) fn settle(
        &mut self,
        lanes: &mut Slab<Lane>,
        filled: &[u8],
        taken: usize,
        full: bool,
    ) -> usize {
        let end = self.set_back(lanes, filled, taken);
        self.let_go_of_chunks();
        if full {
            // It may stay so: what was read for this client isn't kept for it.
            let members = lanes.iter_mut();
            members
                .filter_map(|(_, lane)| lane.member.as_mut())
                .for_each(Member::let_go_of_past);
        }
        end
    }

    fn set_back(&mut self, lanes: &mut Slab<Lane>, filled: &[u8], taken: usize) -> usize {
        if taken >= filled.len() {
            return taken;
        }
        let (mut stop, mut end) = (filled.len(), taken);
        while let Some(chunk) = self.chunks.pop() {
            if stop <= taken {
                break;
            }
            self.bits |= 1 << (chunk.slot % ROOM_BITS);
            let member = lanes
                .get_mut(chunk.slot)
                .and_then(|lane| lane.member.as_mut());
            let start = chunk.start;
            if let (Some(member), Some(bytes)) = (member, filled.get(start..stop)) {
                match taken.checked_sub(start) {
                    Some(some @ 1..) => end = start + chunk.take_back(member, bytes, some),
                    _ => (member.position, member.missed) = chunk.before,
                }
            }
            stop = start;
        }
        end
    }
}

impl Chunk {
    /// Sets a member back to behind the first `taken` of the chunk's bytes, at least one, and gives where
    /// the frame ends in which the last of them lies.
    fn take_back(self, member: &mut Member, bytes: &[u8], taken: usize) -> usize {
        let end = frame::boundary_after(bytes, taken);
        member.missed |= self.before.1;
        if end >= bytes.len() {
            // All of it goes out, and the member stands right behind it: later chunks are back already.
            return end;
        }
        match (self.kind, self.before) {
            (Kind::Tail(after), _) => {
                member.position = Position::Tail(after - (bytes.len() - end) as u64);
                end
            }
            (Kind::Past(first), (Position::Past { slice, .. }, _)) => {
                let mut given = 0;
                let mut at = 0;
                while at < end {
                    at += frame::frame_len(bytes.get(at..).unwrap_or_default()).unwrap_or(end);
                    given += 1;
                }
                member.position = Position::Past {
                    next: Seq(first.0 + given),
                    slice,
                };
                end
            }
            // These few go out whole.
            (Kind::Own | Kind::Past(_), _) => bytes.len(),
        }
    }
}

impl Member {
    fn let_go_of_past(&mut self) {
        if let Position::Past { next, slice } = &self.position {
            let next = slice.message_at(*next).map(|(mark, _)| *mark);
            self.position = next.map_or(Position::Lost, |next| Position::Behind {
                next,
                asked: false,
            });
        }
    }

    /// Takes what was read for it, or for another question of the same connection.
    pub(super) fn take_past(&mut self, past: Option<&Arc<Slice>>) {
        let Position::Behind { next, asked: true } = self.position else {
            return;
        };
        self.position = match past {
            None => Position::Behind { next, asked: false },
            Some(slice)
                if slice
                    .message_at(next.seq)
                    .is_some_and(|(mark, _)| *mark == next) =>
            {
                Position::Past {
                    next: next.seq,
                    slice: slice.clone(),
                }
            }
            // Read when it stood elsewhere: what it asked for here is still to come.
            Some(slice) if is_elsewhere(slice, next.seq) => return,
            Some(_) => Position::Lost,
        };
    }
}

/// Whether the history had that place when the slice was read, but the slice begins after it or ends
/// before.
fn is_elsewhere(slice: &Slice, seq: Seq) -> bool {
    let (first, last) = (slice.messages.first(), slice.messages.last());
    let after = first.is_some_and(|(mark, _)| mark.seq > seq);
    let before = last.is_some_and(|(mark, _)| mark.seq < seq);
    (slice.oldest <= seq && after) || (before && slice.head.is_some_and(|head| head.seq >= seq))
}

/// The slots of the rooms that have that bit, beginning with another one in each round: rooms share a bit every
/// `ROOM_BITS` slots, so a connection looks at few that have nothing.
fn slots_of(bit: usize, slots: usize, round: usize) -> impl Iterator<Item = usize> {
    let count = slots.saturating_sub(bit).div_ceil(ROOM_BITS);
    let first = if count > 1 { round % count } else { 0 };
    let nth = (first..count).chain(0..first);
    nth.map(move |nth| bit + nth * ROOM_BITS)
}

/// Copies about `budget` bytes of what comes next for a member.
fn copy(room: &Room, member: &mut Member, budget: usize, out: &mut Vec<u8>) -> Step {
    match &mut member.position {
        Position::Tail(cursor) => {
            if member.missed && room.put_users_at(*cursor, out) {
                member.missed = false;
                return Step::Copied(Kind::Own, false);
            }
            match room.read(*cursor, member.missed, budget, out) {
                Reading::Copied {
                    after,
                    skipped,
                    end,
                } => {
                    *cursor = after;
                    member.missed |= skipped;
                    Step::Copied(Kind::Tail(after), end && !member.missed)
                }
                Reading::Behind(next) => {
                    (member.position, member.missed) =
                        (Position::Behind { next, asked: false }, true);
                    Step::Again
                }
                Reading::Lost => {
                    member.position = Position::Lost;
                    Step::Again
                }
            }
        }
        Position::Behind { asked, .. } => Step::Waits(!std::mem::replace(asked, true)),
        Position::Past { next, slice } => {
            let first = *next;
            let after = copy_past(slice, first, budget, out);
            member.position = position_after(room, slice, after);
            Step::Copied(Kind::Past(first), false)
        }
        Position::Lost => {
            (member.position, member.missed) = (Position::Tail(room.begin_anew(out)), false);
            Step::Copied(Kind::Own, false)
        }
    }
}

/// Copies messages of a slice from a place on, as frames; gives the place after them.
fn copy_past(slice: &Slice, from: Seq, budget: usize, out: &mut Vec<u8>) -> Seq {
    let (start, mut next) = (out.len(), from);
    while out.len() - start < budget
        && let Some((mark, message)) = slice.message_at(next)
    {
        frame::put_text(out, message);
        next = mark.seq.next();
    }
    next
}

/// Where a member stands that was given everything of a slice up to before `next`.
fn position_after(room: &Room, slice: &Arc<Slice>, next: Seq) -> Position {
    let Some((last, _)) = slice.message_at(next.previous()) else {
        return Position::Lost;
    };
    match room.place_after(*last) {
        Place::Tail(cursor) => Position::Tail(cursor),
        Place::Gone => Position::Lost,
        Place::Behind(_) if slice.message_at(next).is_some() => Position::Past {
            next,
            slice: slice.clone(),
        },
        Place::Behind(next) => Position::Behind { next, asked: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_that_share_a_bit_take_turns_at_being_the_first() {
        let slots = |round| slots_of(2, 3 * ROOM_BITS, round).collect::<Vec<_>>();
        assert_eq!(slots(0), [2, 65, 128]);
        assert_eq!(slots(1), [65, 128, 2]);
        assert_eq!(slots(5), [128, 2, 65]);
        assert_eq!(slots_of(4, 4, 1).count(), 0);
        assert_eq!(slots_of(3, 4, 7).collect::<Vec<_>>(), [3]);
    }
}
