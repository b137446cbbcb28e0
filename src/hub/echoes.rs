//! How long this node's own appends take to come back by its subscription: the way of every message to
//! the members, as far as a node can time it by its own clock alone.
//!
//! An append is noted before it is called, as its payload may overtake its answer. One whose answer says
//! that it stored nothing is taken out again; one whose payload was lost stays until a later one comes
//! back, or until there are too many.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::payload::{self, Payload};
use crate::id::MessageId;
use crate::protocol::message;

/// Appends of a room that are waited for. One is called at a time, so more are out only where payloads
/// come much later than answers, or not at all.
const MOST: usize = 16;

/// Appends of one room that have yet to come back: the first message's id and when it was called, oldest
/// first.
#[derive(Default)]
pub(super) struct Echoes(Mutex<VecDeque<(MessageId, Instant)>>);

impl Echoes {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(MessageId, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An append is about to be called.
    pub(super) fn expect(&self, first: MessageId, start: Instant) {
        let mut out = self.lock();
        if out.len() >= MOST {
            out.pop_front();
        }
        out.push_back((first, start));
    }

    /// An append stored nothing by that id, or nobody knows.
    pub(super) fn forget(&self, first: MessageId) {
        self.lock().retain(|(id, _)| *id != first);
    }

    /// A payload came: how long ago it was sent, if it is one of these. They come in the order in which
    /// they were called, so what is before it was lost.
    pub(super) fn came(&self, payload: &[u8]) -> Option<Duration> {
        let mut out = self.lock();
        if out.is_empty() {
            return None;
        }
        let Some(Payload::Messages { lines, .. }) = payload::parse(payload) else {
            return None;
        };
        let first = message::mark(lines)?.id;
        let nth = out.iter().position(|(id, _)| *id == first)?;
        out.drain(..=nth)
            .next_back()
            .map(|(_, start)| start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Mark, Seq};

    fn payload(ids: &[MessageId]) -> Vec<u8> {
        let entry = |id: &MessageId| {
            let mark = Mark {
                seq: Seq(7),
                id: *id,
            };
            message::entry(mark, b",\"x\":1}}")
        };
        let entries: Vec<Vec<u8>> = ids.iter().map(entry).collect();
        payload::messages(None, entries.iter().map(|entry| &entry[..]))
    }

    #[test]
    fn an_append_is_timed_once_and_lost_ones_go_with_the_next() {
        let (echoes, ids) = (Echoes::default(), [(); 4].map(|()| MessageId::random()));
        let long_ago = Instant::now() - Duration::from_secs(9);
        echoes.expect(ids[0], long_ago);
        echoes.expect(ids[1], Instant::now());
        assert_eq!(echoes.came(&payload(&ids[3..])), None);
        assert!(echoes.came(&payload(&ids[1..3])).unwrap() < Duration::from_secs(9));
        assert_eq!(echoes.came(&payload(&ids[..1])), None);
        echoes.expect(ids[2], long_ago);
        echoes.forget(ids[2]);
        assert_eq!(echoes.came(&payload(&ids[2..])), None);
        assert_eq!(echoes.came(b"e{}"), None);
    }

    #[test]
    fn what_never_comes_back_is_bounded() {
        let echoes = Echoes::default();
        (0..1_000).for_each(|_| echoes.expect(MessageId::random(), Instant::now()));
        assert_eq!(echoes.lock().len(), MOST);
    }
}
