//! A connection as the rest of the node sees it: who it is, and how it is woken. Nothing is queued
//! here for a client: a room only says "there is something", and the connection reads on from its
//! cursor. Notes are the outcomes of its own requests, so their number is bounded by what it has
//! outstanding, plus what operators say and one order to close.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use atomic_waker::AtomicWaker;

use super::catchup::Past;
use super::outbox::Receipt;
use crate::auth::{Identity, Refused};
use crate::broker::Unavailable;
use crate::id::{ShortId, UserId};
use crate::protocol::close::Close;

/// Bits that rooms share: the room in slot `n` has bit `n % ROOM_BITS`.
pub const ROOM_BITS: usize = 63;
/// The bit that says: there are notes.
pub const NOTES: u64 = 1 << ROOM_BITS;

/// What operators said and a connection hasn't looked at yet; more is dropped, for that connection.
pub const MAX_SAID: usize = 16;

/// One connection.
pub struct Peer {
    /// Its id.
    pub id: ShortId,
    /// Who it is, for as long as it lasts: a `refresh` changes what it may do and until when, which is the
    /// session's alone, and neither the user nor the name that others know it by.
    pub identity: Person,
    /// What there is to look at. Not 0 means that the connection has been woken and has not looked yet,
    /// so a room that delivers a thousand messages meanwhile wakes it once.
    dirty: AtomicU64,
    waker: AtomicWaker,
    notes: Mutex<Vec<Note>>,
}

/// Who a connection belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// The user.
    pub user: UserId,
    /// What the user is called: 1 to [`crate::auth::MAX_USERNAME`] bytes without control characters.
    pub username: Arc<str>,
}

/// What a connection is told.
pub enum Note {
    /// The room in that slot can be joined now, or can't be opened.
    Opened(usize, Result<(), Unavailable>),
    /// What became of a send.
    Sent(Receipt),
    /// The older messages that were asked for.
    Past(Past),
    /// An operator says something to everyone: a finished frame.
    Said(Arc<[u8]>),
    /// What a new token is worth, of which that couldn't be told at once.
    Judged(Box<Result<Identity, Refused>>),
    /// It shall end.
    Close(Close),
}

impl Peer {
    /// A new connection of that user.
    pub fn new(identity: &Identity) -> Peer {
        Peer {
            id: ShortId::random(),
            identity: Person {
                user: identity.user.clone(),
                username: identity.username.clone(),
            },
            dirty: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            notes: Mutex::default(),
        }
    }

    /// Says that there is something to look at. What it is about must have been written before.
    pub fn mark(&self, bits: u64) {
        if self.dirty.fetch_or(bits, Ordering::AcqRel) == 0 {
            self.waker.wake();
        }
    }

    /// Leaves a note.
    pub fn note(&self, note: Note) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let said = |note: &&Note| matches!(note, Note::Said(_));
        if said(&&note) && notes.iter().filter(said).count() >= MAX_SAID {
            return;
        }
        notes.push(note);
        drop(notes);
        self.mark(NOTES);
    }

    /// What there is to look at since the last call. The bits are cleared before anything is looked
    /// at: what comes in between sets them again, and wakes again. Where there is nothing, who is to be woken
    /// is registered first: what came before that is seen, and what comes after it wakes.
    pub fn take_dirty(&self, waker: &Waker) -> u64 {
        if !self.is_dirty() {
            self.waker.register(waker);
            if !self.is_dirty() {
                return 0;
            }
        }
        self.dirty.swap(0, Ordering::AcqRel)
    }

    fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire) != 0
    }

    /// Takes the notes.
    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
