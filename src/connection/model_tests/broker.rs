//! The broker as it may be at its worst: it can come back older than it was, or empty, and give the
//! same places to other messages. It remembers what it ever stored, to judge the members' views by.

use std::collections::HashMap;

use bytes::Bytes;

use super::random::Random;
use crate::broker::payload;
use crate::history::{Slice, Span};
use crate::id::{Mark, MessageId, Seq};
use crate::protocol::message;

/// A message that was stored once, whatever became of it.
pub(super) struct Stored {
    pub(super) mark: Mark,
    /// The message that stood before it: a view is right where it follows these.
    pub(super) prev: Option<MessageId>,
    pub(super) bytes: Bytes,
}

/// One room's log.
pub(super) struct Broker {
    /// All messages of the present lineage, trimmed or not.
    log: Vec<(Mark, Bytes)>,
    /// How many of them are trimmed.
    trimmed: usize,
    limit: usize,
    pub(super) ever: HashMap<MessageId, Stored>,
    /// The marks of `ever`, in the order of their birth.
    pub(super) marks: Vec<Mark>,
    /// It lost data at least once.
    pub(super) lost_data: bool,
}

impl Broker {
    pub(super) fn new(limit: usize) -> Broker {
        Broker {
            log: Vec::new(),
            trimmed: 0,
            limit,
            ever: HashMap::new(),
            marks: Vec::new(),
            lost_data: false,
        }
    }

    pub(super) fn head(&self) -> Option<Mark> {
        self.log.last().map(|(mark, _)| *mark)
    }

    pub(super) fn len(&self) -> usize {
        self.log.len()
    }

    pub(super) fn oldest(&self) -> Seq {
        Seq(self.trimmed as u64 + 1)
    }

    pub(super) fn trimmed(&self) -> usize {
        self.trimmed
    }

    pub(super) fn mark_at(&self, seq: Seq) -> Option<Mark> {
        let at = usize::try_from(seq.0.checked_sub(1)?).ok()?;
        self.log.get(at).map(|(mark, _)| *mark)
    }

    /// Appends and gives what is published.
    pub(super) fn append(
        &mut self,
        count: usize,
        pad: usize,
        room: usize,
        random: &mut Random,
    ) -> Vec<u8> {
        let before = self.head().map(|head| head.id);
        let from = self.log.len();
        for _ in 0..count {
            let prev = self.head();
            let mark = Mark {
                seq: prev.map_or(Seq(1), |head| head.seq.next()),
                id: random.id(),
            };
            let body = format!(
                ",\"roomId\":\"r{room}\",\"text\":\"{:x<pad$}\"}}}}",
                mark.id.as_str()
            );
            let bytes = Bytes::from(message::entry(mark, body.as_bytes()));
            self.log.push((mark, bytes.clone()));
            let prev = prev.map(|prev| prev.id);
            self.ever.insert(mark.id, Stored { mark, prev, bytes });
            self.marks.push(mark);
        }
        self.trimmed = self.trimmed.max(self.log.len().saturating_sub(self.limit));
        payload::messages(before, self.log[from..].iter().map(|(_, bytes)| &bytes[..]))
    }

    /// Comes back as it was when it had that many messages.
    pub(super) fn roll_back(&mut self, len: usize) {
        self.lost_data |= len < self.log.len();
        self.log.truncate(len);
        self.trimmed = self.log.len().saturating_sub(self.limit);
    }

    pub(super) fn read(&self, span: Span) -> Slice {
        let kept = &self.log[self.trimmed..];
        let (skip, take) = match span {
            Span::Newest(count) => (kept.len().saturating_sub(count), count),
            Span::From(seq, max) => (seq.0.saturating_sub(self.oldest().0) as usize, max),
        };
        Slice {
            messages: kept.iter().skip(skip).take(take).cloned().collect(),
            head: self.head(),
            oldest: self.oldest(),
        }
    }
}
