//! Reading older messages than a room's tail has: one read per room at a time, however many wait for
//! it. What a question waits for runs up to the newest message, so the read from the oldest place that
//! is asked for answers all of them. A cursor is fed a part at a time, as much as its socket may take:
//! a slow one must not make the node hold, and read again and again, all that it hasn't read.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Hub;
use super::peer::{Note, Peer};
use super::room::Room;
use crate::broker::Unavailable;
use crate::history::{Slice, Span};
use crate::id::Seq;

/// Messages that are read at once where only cursors wait.
const PART: usize = 256;
/// How long what was read for a question is kept for others, where it isn't larger than so many bytes, and
/// all that is kept in all rooms isn't, either.
const KEPT: Duration = Duration::from_secs(3);
const KEPT_BYTES: usize = 4 << 20;
const KEPT_IN_ALL: usize = 64 << 20;
/// After a read that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Who reads, and what for.
pub struct Reader {
    /// The connection.
    pub peer: Arc<Peer>,
    /// Its slot for the room.
    pub slot: usize,
    /// What for.
    pub reason: Reason,
}

/// What older messages are read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// To answer a question: what is read must be newer than the question.
    Question,
    /// To feed a cursor that fell out of the tail.
    Cursor,
}

/// What was read for a connection.
pub struct Past {
    /// Its slot for the room.
    pub slot: usize,
    /// What it was read for.
    pub reason: Reason,
    /// The room.
    pub room: Arc<Room>,
    /// What was read.
    pub read: Result<Arc<Slice>, Unavailable>,
}

/// Who waits. Bounded by the members: each asks once at a time for each reason.
#[derive(Default)]
pub struct Reads {
    waiting: Vec<(Seq, Reader)>,
    running: bool,
}

impl Room {
    /// Reads the history from that place on; a note with it comes to the connection's slot.
    pub fn read_past(self: &Arc<Room>, hub: &Hub, from: Seq, reader: Reader) {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.waiting.push((from, reader));
        if !std::mem::replace(&mut reads.running, true) {
            drop(reads);
            tokio::spawn(run(hub.clone(), self.clone()));
        }
    }

    /// What to read now, and for whom. If nobody waits, the task is done, decided under the lock.
    fn next_read(&self) -> Option<(Span, Vec<(Seq, Reader)>)> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let next = take_next(&mut reads.waiting, PART);
        reads.running = next.is_some();
        next
    }
}

/// What to read next, and who of those that wait is answered by it: everybody where a question is among
/// them; else those whose next message is in the part that the hindmost needs. It comes again for more
/// only when it has taken that, so the others have their turn before.
pub(crate) fn take_next(
    waiting: &mut Vec<(Seq, Reader)>,
    part: usize,
) -> Option<(Span, Vec<(Seq, Reader)>)> {
    let from = waiting.iter().map(|(from, _)| *from).min()?;
    if waiting
        .iter()
        .any(|(_, reader)| reader.reason == Reason::Question)
    {
        return Some((Span::From(from, usize::MAX), std::mem::take(waiting)));
    }
    let end = Seq(from.0.saturating_add(part as u64));
    let (now, later) = std::mem::take(waiting)
        .into_iter()
        .partition(|(next, _)| *next < end);
    *waiting = later;
    Some((Span::From(from, part), now))
}

/// Keeps what was read for those who come back at the same time.
fn keep(hub: &Hub, room: &Arc<Room>, slice: &Arc<Slice>) {
    let bytes: usize = slice
        .messages
        .iter()
        .map(|(_, message)| message.len())
        .sum();
    if bytes > KEPT_BYTES || !hub.may_keep(bytes) {
        return;
    }
    room.keep(slice);
    let (hub, room, slice) = (hub.clone(), room.clone(), Arc::downgrade(slice));
    tokio::spawn(async move {
        tokio::time::sleep(KEPT).await;
        if let Some(slice) = slice.upgrade() {
            room.let_go_of(&slice);
        }
        // One that was replaced before counts until now: so a room that is read on and on keeps little.
        hub.inner.kept.fetch_sub(bytes, Ordering::Relaxed);
    });
}

impl Hub {
    /// Whether so many bytes more may be kept; then they count.
    fn may_keep(&self, bytes: usize) -> bool {
        let within = |kept: usize| (kept + bytes <= KEPT_IN_ALL).then_some(kept + bytes);
        let kept = &self.inner.kept;
        kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .is_ok()
    }
}

async fn run(hub: Hub, room: Arc<Room>) {
    loop {
        let Some((span, readers)) = room.next_read() else {
            return;
        };
        let read = hub.read(&room.id, span).await.map(Arc::new);
        let asks = |(_, reader): &(Seq, Reader)| reader.reason == Reason::Question;
        let (questions, cursors): (Vec<_>, Vec<_>) = readers.into_iter().partition(asks);
        if let Ok(slice) = &read {
            if room.absorb(slice) {
                hub.start_mending(room.clone());
            }
            if !questions.is_empty() {
                keep(&hub, &room, slice);
            }
        }
        tell(&room, questions, &read);
        if read.is_err() && !cursors.is_empty() {
            // They would be read for again at once.
            tokio::time::sleep(PAUSE).await;
        }
        tell(&room, cursors, &read);
    }
}

fn tell(room: &Arc<Room>, readers: Vec<(Seq, Reader)>, read: &Result<Arc<Slice>, Unavailable>) {
    for (_, Reader { peer, slot, reason }) in readers {
        let (room, read) = (room.clone(), read.clone());
        peer.note(Note::Past(Past {
            slot,
            reason,
            room,
            read,
        }));
    }
}
