//! Reading older messages than a room's tail has: one read per room at a time, however many wait for
//! it. What they wait for always runs up to the newest message, so the read from the oldest place
//! that is asked for answers all of them.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Hub;
use super::peer::{Note, Peer};
use super::room::Room;
use crate::broker::Unavailable;
use crate::history::{Slice, Span};
use crate::id::Seq;

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

    /// Who waits now. If nobody does, the task is done, decided under the lock.
    fn next_readers(&self) -> Vec<(Seq, Reader)> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.running = !reads.waiting.is_empty();
        std::mem::take(&mut reads.waiting)
    }
}

async fn run(hub: Hub, room: Arc<Room>) {
    loop {
        let readers = room.next_readers();
        let Some(from) = readers.iter().map(|(from, _)| *from).min() else {
            return;
        };
        let span = Span::From(from, usize::MAX);
        let read = hub.read(&room.id, span).await.map(Arc::new);
        match &read {
            Ok(slice) if room.absorb(slice) => hub.start_mending(room.clone()),
            Ok(_) => {}
            // Who is told asks again.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
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
}
