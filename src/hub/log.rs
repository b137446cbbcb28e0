//! The gate of a room: what may enter its [`Tail`], so that every cursor sees one order without holes
//! and doubles. Pure: it is told what was delivered and what was read, and says what to do next.
//!
//! ```text
//!                 loaded                hole, fork, distrust
//!   Opening ───────────────► Live ◄──────────────────────► Mending ──┐ lineage lost: read the newest
//!      │ failed                          loaded: goes on             │ anew; members are reset
//!      ▼                                                  ▲──────────┘
//!   Failed
//! ```
//!
//! A message enters where its place is the head's next *and* the id before it is the head's: places
//! alone don't tell a broker that came back older than it was and gave the same places to others. While
//! a read is on its way, what is delivered is held back and goes through the gate after it.

use crate::broker::payload::{self, Payload};
use crate::history::{Slice, Span, View};
use crate::id::{Mark, MessageId, RoomId, Seq};
use crate::protocol::event::{self, History};
use crate::protocol::{frame, message};

use super::tail::Tail;

/// Payloads held back while a read is on its way, and their bytes. What is over is dropped: the
/// messages are in the history, and the read is done once more.
const MAX_HELD: usize = 1_024;
const MAX_HELD_BYTES: usize = 256 * 1024;
/// Messages with which a room is opened, and with which members begin anew.
const OPEN_WITH: usize = 200;
/// Messages in the `history` event that tells members to begin anew.
pub const FRESH: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Opening,
    Live,
    /// `anew`: what the tail holds is no longer in the history.
    Mending {
        anew: bool,
    },
    Failed,
}

/// A room's tail behind its gate.
pub struct Log {
    tail: Tail,
    state: State,
    held: Vec<Box<[u8]>>,
    held_bytes: usize,
    /// Something may have been missed after the read on its way was done: read once more.
    again: bool,
    /// The newest place of this node's own appends that the tail may not have reached yet.
    acked: Seq,
    /// What `acked` was when the read on its way was asked for.
    acked_before_read: Seq,
}

/// What a delivery led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delivered {
    /// There is something for the members.
    pub grew: bool,
    /// The history must be read now.
    pub mend: bool,
}

impl Log {
    /// The log of a room that is being opened.
    pub fn new(limit: usize) -> Log {
        Log {
            tail: Tail::new(limit),
            state: State::Opening,
            held: Vec::new(),
            held_bytes: 0,
            again: false,
            acked: Seq::ZERO,
            acked_before_read: Seq::ZERO,
        }
    }

    /// The tail.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// An append of this node got that place.
    pub fn acked(&mut self, seq: Seq) {
        self.acked = self.acked.max(seq);
    }

    /// The newest place of this node's own appends, as far as they may be still to come.
    pub fn newest_acked(&self) -> Seq {
        self.acked
    }

    /// Whether the tail has all that was acked by this node: who was told that a message is stored
    /// must find it in the history.
    pub fn has_acked(&self) -> bool {
        self.tail.head().map_or(Seq::ZERO, |head| head.seq) >= self.acked
    }

    /// Whether it is not open yet.
    pub fn is_opening(&self) -> bool {
        self.state == State::Opening
    }

    /// Whether it could not be opened. It stays so; another room of that id takes its place.
    pub fn has_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// It can't be opened.
    pub fn fail(&mut self) {
        self.state = State::Failed;
    }

    /// Takes what came over the room's channel.
    pub fn deliver(&mut self, bytes: &[u8]) -> Delivered {
        match (payload::parse(bytes), self.state) {
            (Some(Payload::Messages { prev, lines }), State::Live) => {
                match self.take(prev, lines) {
                    Ok(grew) => Delivered { grew, mend: false },
                    Err(grew) => Delivered {
                        grew,
                        mend: self.suspect(bytes),
                    },
                }
            }
            (Some(Payload::Messages { .. }), State::Opening | State::Mending { .. }) => {
                self.hold(bytes);
                Delivered::default()
            }
            (Some(Payload::Event(event)), State::Live | State::Mending { .. }) => {
                let mut frame = Vec::new();
                frame::put_text(&mut frame, event);
                self.push_event(&frame);
                Delivered {
                    grew: true,
                    mend: false,
                }
            }
            (Some(Payload::Event(_)), State::Opening) | (_, State::Failed) => Delivered::default(),
            // The roster has a gate of its own: see `crate::presence`. A probe was counted as heard.
            (Some(Payload::Roster(_) | Payload::Probe), _) => Delivered::default(),
            (None, _) => {
                tracing::warn!("something of unknown form came over a room's channel");
                Delivered {
                    grew: false,
                    mend: self.distrust(),
                }
            }
        }
    }

    /// Appends an event of this node, as a finished frame.
    pub fn push_event(&mut self, frame: &[u8]) {
        self.tail.push_event(frame);
    }

    /// Deliveries may have been missed. Whether the history must be read now.
    pub fn distrust(&mut self) -> bool {
        match self.state {
            State::Live => {
                self.state = State::Mending { anew: false };
                true
            }
            State::Opening | State::Mending { .. } => {
                self.again = true;
                false
            }
            State::Failed => false,
        }
    }

    /// Lets messages in, as far as they fit; `Err` at the first that doesn't.
    fn take(&mut self, mut prev: Option<MessageId>, lines: &[u8]) -> Result<bool, bool> {
        let mut grew = false;
        for line in lines.split(|b| *b == b'\n') {
            let mark = message::mark(line).ok_or(grew)?;
            match self.fits(mark, prev) {
                Some(true) => {
                    self.tail.push_message(mark, line);
                    grew = true;
                }
                Some(false) => {}
                None => return Err(grew),
            }
            prev = Some(mark.id);
        }
        Ok(grew)
    }

    /// Whether a message is the next (`true`), is there already (`false`), or neither.
    fn fits(&self, mark: Mark, prev: Option<MessageId>) -> Option<bool> {
        let head = self.tail.head();
        let next = head.map_or(Seq(1), |head| head.seq.next());
        if mark.seq == next && prev == head.map(|head| head.id) {
            return Some(true);
        }
        (self.tail.mark_at(mark.seq) == Some(mark)).then_some(false)
    }

    /// A payload doesn't fit: something is missing, or the history forked.
    fn suspect(&mut self, bytes: &[u8]) -> bool {
        let mend = self.distrust();
        self.hold(bytes);
        mend
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.held.len() >= MAX_HELD || self.held_bytes + bytes.len() > MAX_HELD_BYTES {
            self.again = true;
            return;
        }
        self.held_bytes += bytes.len();
        self.held.push(bytes.into());
    }

    /// What must be read from the history now.
    pub fn wanted(&mut self) -> Span {
        self.again = false;
        self.acked_before_read = self.acked;
        match (self.state, self.tail.head()) {
            (State::Mending { anew: false }, Some(head)) => Span::From(head.seq, usize::MAX),
            (State::Mending { anew: false }, None) => Span::From(Seq(1), usize::MAX),
            _ => Span::Newest(OPEN_WITH),
        }
    }

    /// Takes what was read. `false`: something is missing yet, read again.
    pub fn loaded(&mut self, room: &RoomId, slice: &Slice) -> bool {
        match self.state {
            State::Opening => self.fill(slice),
            State::Mending { anew: true } => {
                self.tail.clear();
                self.fill(slice);
                self.tail.reset_here();
                let frame = self.fresh(room);
                self.tail.push_event(&frame);
            }
            State::Mending { anew: false } => {
                if !self.goes_on(slice) {
                    self.state = State::Mending { anew: true };
                    return false;
                }
            }
            State::Live | State::Failed => return true,
        }
        self.release()
    }

    fn fill(&mut self, slice: &Slice) {
        slice
            .messages
            .iter()
            .for_each(|(mark, message)| self.tail.push_message(*mark, message));
        self.tail.set_oldest(slice.oldest);
    }

    /// Takes in what was read for somebody, where it is newer than the tail.
    pub fn absorb(&mut self, slice: &Slice) -> Delivered {
        let newer = slice.head.map(|head| head.seq) > self.tail.head().map(|head| head.seq);
        // A part of the history needn't reach the tail.
        let whole = slice.messages.last().map(|(mark, _)| *mark) == slice.head;
        // While it is mended, the read on its way must find the tail as it was when it was asked for.
        if !newer || !whole || self.state != State::Live {
            return Delivered::default();
        }
        let grew = self.goes_on(slice);
        Delivered {
            grew,
            mend: !grew && self.distrust(),
        }
    }

    /// Appends what a slice has beyond the head; `false` where it doesn't go on from it.
    fn goes_on(&mut self, slice: &Slice) -> bool {
        let next = match (self.tail.head(), slice.messages.first()) {
            (Some(head), _)
                if slice
                    .message_at(head.seq)
                    .is_some_and(|(mark, _)| *mark == head) =>
            {
                head.seq.next()
            }
            (None, Some((first, _))) if first.seq == Seq(1) => Seq(1),
            (None, None) => return slice.head.is_none(),
            _ => return false,
        };
        let beyond = slice
            .messages
            .iter()
            .skip_while(|(mark, _)| mark.seq < next);
        beyond.for_each(|(mark, message)| self.tail.push_message(*mark, message));
        true
    }

    /// Lets what was held back through the gate. `false`: something still doesn't fit, read again.
    fn release(&mut self) -> bool {
        self.state = State::Live;
        self.held_bytes = 0;
        if self.acked == self.acked_before_read {
            // The read saw all of it, as far as it is still there.
            self.acked = Seq::ZERO;
        }
        for bytes in std::mem::take(&mut self.held) {
            if let Some(Payload::Messages { prev, lines }) = payload::parse(&bytes)
                && self.take(prev, lines).is_err()
            {
                self.again = true;
            }
        }
        if self.again {
            self.state = State::Mending { anew: false };
        }
        !self.again
    }

    /// The `history` event that replaces what a client had, with the newest messages at hand.
    pub fn fresh(&self, room: &RoomId) -> Vec<u8> {
        let head = self.tail.head();
        let end = head.map_or(Seq(1), |head| head.seq.next());
        let from = Seq(end.0.saturating_sub(FRESH as u64)).max(self.tail.first());
        let history = History {
            room,
            head,
            recovered: Some(false),
            has_more: from > self.tail.oldest(),
        };
        let mut out = Vec::new();
        let messages = (from.0..end.0).filter_map(|seq| self.tail.message_at(Seq(seq)));
        event::put_history(&mut out, &history, messages, None);
        out
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::history::Capped;

    /// A broker's log that publishes.
    #[derive(Default)]
    struct Source {
        log: Capped,
    }

    impl Source {
        fn append(&mut self) -> Vec<u8> {
            let prev = self.log.head();
            let mark = Mark {
                seq: prev.map_or(Seq(1), |head| head.seq.next()),
                id: MessageId::random(),
            };
            let entry = Bytes::from(message::entry(mark, b",\"x\":1}}"));
            self.log.push(mark, entry.clone(), 100);
            payload::messages(prev.map(|prev| prev.id), [&entry[..]].into_iter())
        }

        fn mend(&self, log: &mut Log) -> usize {
            let room = RoomId::parse("r").unwrap();
            (1..9)
                .find(|_| {
                    let span = log.wanted();
                    log.loaded(&room, &self.log.read(span))
                })
                .expect("it is mended in a few reads")
        }
    }

    fn live() -> (Source, Log) {
        let (mut source, mut log) = (Source::default(), Log::new(100));
        source.append();
        source.mend(&mut log);
        (source, log)
    }

    const GREW: Delivered = Delivered {
        grew: true,
        mend: false,
    };
    const MEND: Delivered = Delivered {
        grew: false,
        mend: true,
    };
    const NOTHING: Delivered = Delivered {
        grew: false,
        mend: false,
    };

    #[test]
    fn messages_enter_once_and_in_order() {
        let (mut source, mut log) = live();
        let second = source.append();
        assert_eq!(log.deliver(&second), GREW);
        assert_eq!(log.deliver(&second), NOTHING);
        assert_eq!(log.tail().head(), source.log.head());
    }

    #[test]
    fn a_hole_is_mended_from_the_history() {
        let (mut source, mut log) = live();
        source.append();
        let third = source.append();
        assert_eq!(log.deliver(&third), MEND);
        let fourth = source.append();
        assert_eq!(log.deliver(&fourth), NOTHING);
        assert_eq!(source.mend(&mut log), 1);
        assert_eq!(log.tail().head(), source.log.head());
        let fifth = source.append();
        assert_eq!(log.deliver(&fifth), GREW);
    }

    #[test]
    fn a_fork_resets_the_members() {
        let (_, mut log) = live();
        let end = log.tail().end();
        let mut other = Source::default();
        other.append();
        let second = other.append();
        assert_eq!(log.deliver(&second), MEND);
        assert_eq!(other.mend(&mut log), 2);
        assert_eq!(log.tail().head(), other.log.head());
        let mut out = Vec::new();
        log.tail().read(end, false, 100_000, &mut out);
        let text = String::from_utf8_lossy(&out);
        assert!(
            text.contains("\"recovered\":false") && text.contains("\"seq\":2"),
            "{text}"
        );
    }

    #[test]
    fn a_history_that_is_gone_resets_the_members() {
        let (_, mut log) = live();
        assert!(log.distrust());
        assert_eq!(Source::default().mend(&mut log), 2);
        assert_eq!(log.tail().head(), None);
        assert_eq!(log.deliver(&Source::default().append()), GREW);
    }

    #[test]
    fn what_comes_while_a_room_opens_is_held_back() {
        let (mut source, mut log) = (Source::default(), Log::new(100));
        source.append();
        let before = source.log.read(log.wanted());
        let second = source.append();
        assert_eq!(log.deliver(&second), NOTHING);
        assert!(log.loaded(&RoomId::parse("r").unwrap(), &before));
        assert_eq!(log.tail().head(), source.log.head());
    }

    #[test]
    fn a_doubt_that_comes_while_reading_leads_to_another_read() {
        let (mut source, mut log) = live();
        assert!(log.distrust());
        let before = source.log.read(log.wanted());
        source.append();
        assert!(!log.distrust());
        assert!(!log.loaded(&RoomId::parse("r").unwrap(), &before));
        source.mend(&mut log);
        assert_eq!(log.tail().head(), source.log.head());
    }
}
