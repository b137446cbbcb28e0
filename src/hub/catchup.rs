//! Reading older messages than a room's tail has: one read per room at a time, however many wait for
//! it. What they wait for always runs up to the newest message, so the read from the oldest place
//! that is asked for answers all of them.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Hub;
use super::peer::{Note, Peer};
use super::room::Room;
use crate::history::Span;
use crate::id::Seq;

/// After a read that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Who waits. Bounded by the members: each asks once at a time.
#[derive(Default)]
pub struct Reads {
    waiting: Vec<(Seq, Arc<Peer>, usize)>,
    running: bool,
}

impl Room {
    /// Reads the history from that place on; a note with it comes to the connection's slot.
    pub fn read_past(self: &Arc<Room>, hub: &Hub, from: Seq, peer: &Arc<Peer>, slot: usize) {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.waiting.push((from, peer.clone(), slot));
        if !std::mem::replace(&mut reads.running, true) {
            drop(reads);
            tokio::spawn(run(hub.clone(), self.clone()));
        }
    }

    /// Who waits now. If nobody does, the task is done, decided under the lock.
    fn next_readers(&self) -> Vec<(Seq, Arc<Peer>, usize)> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.running = !reads.waiting.is_empty();
        std::mem::take(&mut reads.waiting)
    }
}

async fn run(hub: Hub, room: Arc<Room>) {
    loop {
        let readers = room.next_readers();
        let Some(from) = readers.iter().map(|(from, _, _)| *from).min() else {
            return;
        };
        let past = hub
            .broker()
            .read(&room.id, Span::From(from, usize::MAX))
            .await
            .map(Arc::new);
        if past.is_err() {
            // Who is told asks again.
            tokio::time::sleep(PAUSE).await;
        }
        if past.as_ref().is_ok_and(|slice| room.absorb(slice)) {
            hub.start_mending(room.clone());
        }
        for (_, peer, slot) in readers {
            peer.note(Note::Past(slot, room.clone(), past.clone()));
        }
    }
}
