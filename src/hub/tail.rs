//! The tail of a room's log as this node holds it: finished frames one after another in one byte log,
//! and an index of the messages among them. Members read it with cursors: an offset that counts all
//! bytes ever written, so it stays right while old bytes go.
//!
//! ```text
//!                     base                    reset                      end
//!   bytes  ┄┄ gone ┄┄┄ │ frame │ frame │ event │ history event │ frame │  │
//!   index  │ 41 │ 42 │   43       44                              45
//! ```
//!
//! - A cursor up to `reset` skips to it: what lies before is another lineage, and the frame at
//!   `reset` tells the client so. Once that frame is gone, such a cursor is lost: it can't go on with
//!   what comes after.
//! - Who fell out of the bytes missed events; it is given no more of who comes and goes before it is told
//!   who is there, or it would see two joins in a row.
//! - The index reaches further back than the bytes (up to the history limit), so that a cursor that
//!   fell out of the bytes still tells which message it needs next.

use std::collections::VecDeque;

use crate::history::View;
use crate::id::{Mark, Seq};
use crate::protocol::{event, frame};

/// Bytes of frames that are kept, at least where there are as many; up to twice as many before old
/// ones are let go in one go.
const KEPT_BYTES: usize = 128 * 1024;

/// One message of the index.
#[derive(Clone, Copy)]
struct Entry {
    mark: Mark,
    /// Where its frame begins.
    start: u64,
    /// Length of its frame's payload.
    len: u32,
}

impl Entry {
    fn end(&self) -> u64 {
        self.start + (frame::header_len(self.len as usize) + self.len as usize) as u64
    }
}

/// Where another lineage begins.
#[derive(Clone, Copy)]
struct Reset {
    /// Where the former lineage ended.
    former: u64,
    /// Cursors up to this skip to it: the event there tells the client of it.
    at: u64,
}

/// The tail.
pub struct Tail {
    bytes: Vec<u8>,
    /// The offset of `bytes[0]`.
    base: u64,
    /// The last reset, if there was one.
    reset: Option<Reset>,
    /// Messages of the current lineage, consecutive.
    index: VecDeque<Entry>,
    /// Every message whose frame begins here or later is in the index.
    index_base: u64,
    /// The newest message, also when no message is left in the index.
    head: Option<Mark>,
    /// The oldest message of the broker's history, as far as known.
    oldest: Seq,
    /// Messages that the broker's history keeps.
    limit: usize,
}

/// What reading at a cursor gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Frames were copied; none, if the cursor was at the end.
    Copied {
        /// The cursor after them.
        after: u64,
        /// Events that aren't kept were skipped before them.
        skipped: bool,
        /// Nothing comes after them.
        end: bool,
    },
    /// The cursor fell out of the bytes: this message is next, and is in the broker's history yet.
    Behind(Mark),
    /// What the cursor needs next is gone for good.
    Lost,
}

impl Tail {
    /// An empty tail of a history that keeps `limit` messages.
    pub fn new(limit: usize) -> Tail {
        Tail {
            bytes: Vec::new(),
            base: 0,
            reset: None,
            index: VecDeque::new(),
            index_base: 0,
            head: None,
            oldest: Seq(1),
            limit,
        }
    }

    /// The offset after the last byte: where who has everything stands.
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Appends a message; its place must be the head's next.
    pub fn push_message(&mut self, mark: Mark, message: &[u8]) {
        let entry = Entry {
            mark,
            start: self.end(),
            len: message.len() as u32,
        };
        self.make_room(message.len());
        frame::put_text(&mut self.bytes, message);
        self.index.push_back(entry);
        self.head = Some(mark);
        while self.index.len() > self.limit {
            if let Some(gone) = self.index.pop_front() {
                self.index_base = gone.end();
            }
        }
        self.oldest = self
            .oldest
            .max(Seq((mark.seq.0 + 1).saturating_sub(self.limit as u64)));
        self.let_go();
    }

    /// Appends an event that isn't kept, as a finished frame.
    pub fn push_event(&mut self, frame: &[u8]) {
        self.make_room(frame.len());
        self.bytes.extend_from_slice(frame);
        self.let_go();
    }

    /// Notes where the broker's history begins.
    pub fn set_oldest(&mut self, oldest: Seq) {
        self.oldest = oldest;
    }

    /// Forgets everything: what comes next is another lineage. Cursors skip what was there.
    pub fn clear(&mut self) {
        self.base = self.end();
        self.bytes.clear();
        self.index.clear();
        self.index_base = self.base;
        self.reset = Some(Reset {
            former: self.base,
            at: self.base,
        });
        self.head = None;
        self.oldest = Seq(1);
    }

    /// After [`Tail::clear`]: makes all cursors skip to the end; what is appended next tells them that
    /// they begin anew.
    pub fn reset_here(&mut self) {
        let at = self.end();
        if let Some(reset) = &mut self.reset {
            reset.at = at;
        }
    }

    /// Makes room for a frame: a quarter more than there is, as most rooms are small and have said what they will.
    fn make_room(&mut self, payload: usize) {
        let frame = frame::MAX_HEADER + payload;
        if self.bytes.capacity() - self.bytes.len() < frame {
            self.bytes.reserve_exact(frame + self.bytes.len() / 4);
        }
    }

    fn let_go(&mut self) {
        if self.bytes.len() <= 2 * KEPT_BYTES {
            return;
        }
        let gone = frame::boundary_after(&self.bytes, self.bytes.len() - KEPT_BYTES);
        // The newest frame stays, however long it is: whoever stands before it is only just behind.
        if gone < self.bytes.len() {
            self.bytes.drain(..gone);
            self.base += gone as u64;
        }
    }

    /// Copies the frames from a cursor on, about `budget` bytes, and at least one frame if there is one; without
    /// a break: for a member that has `missed` events it stops before what is said of who comes and goes.
    pub fn read(&self, cursor: u64, missed: bool, budget: usize, out: &mut Vec<u8>) -> Reading {
        let (mut cursor, mut skipped) = (cursor, false);
        if let Some(reset) = self.reset
            && cursor <= reset.at
        {
            if reset.at < self.base {
                return Reading::Lost;
            }
            (cursor, skipped) = (reset.at, cursor < reset.former);
        }
        if cursor < self.base {
            if cursor < self.index_base {
                return Reading::Lost;
            }
            let next = self.index.partition_point(|entry| entry.start < cursor);
            match self.index.get(next) {
                Some(entry) if entry.start < self.base => return Reading::Behind(entry.mark),
                _ => (cursor, skipped) = (self.base, true),
            }
        }
        let (cursor, stop) = if missed || skipped {
            self.without_presence(cursor, budget)
        } else {
            (cursor, self.end())
        };
        let rest = self.bytes_between(cursor, stop).unwrap_or_default();
        let len = if rest.len() <= budget {
            rest.len()
        } else {
            frame::boundary_after(rest, budget)
        };
        out.extend_from_slice(&rest[..len]);
        let after = cursor + len as u64;
        Reading::Copied {
            after,
            skipped,
            end: after == self.end(),
        }
    }

    /// Copies everything from a cursor on.
    pub fn read_rest(&self, mut cursor: u64, missed: bool, out: &mut Vec<u8>) -> Reading {
        let mut any = false;
        loop {
            let reading = self.read(cursor, missed || any, usize::MAX, out);
            let Reading::Copied {
                after,
                skipped,
                end,
            } = reading
            else {
                return reading;
            };
            (cursor, any) = (after, any | skipped);
            if end {
                return Reading::Copied {
                    after,
                    skipped: any,
                    end,
                };
            }
        }
    }

    /// From where to where there is nothing of who comes and goes, from a cursor on.
    fn without_presence(&self, cursor: u64, budget: usize) -> (u64, u64) {
        let bytes = self.bytes_between(cursor, self.end()).unwrap_or_default();
        let (mut from, mut to) = (0, 0);
        while to - from < budget
            && let Some(len) = frame::frame_len(&bytes[to..])
        {
            if !frame::payload(&bytes[to..]).is_some_and(event::is_presence) {
                to += len;
            } else if to > from {
                break;
            } else {
                (from, to) = (to + len, to + len);
            }
        }
        (cursor + from as u64, cursor + to as u64)
    }

    /// The bytes from one offset to another, where they are still there.
    pub fn bytes_between(&self, from: u64, to: u64) -> Option<&[u8]> {
        let at = |offset: u64| usize::try_from(offset.checked_sub(self.base)?).ok();
        self.bytes.get(at(from)?..at(to)?)
    }

    /// Where a cursor stands that has everything up to that place and needs what follows.
    pub fn cursor_after(&self, seq: Seq) -> u64 {
        self.entry(seq.next())
            .map_or(self.end(), |entry| entry.start)
    }

    /// The message at that place, where its bytes are at hand.
    pub fn message_at(&self, seq: Seq) -> Option<&[u8]> {
        let entry = self.entry(seq)?;
        self.bytes_between(entry.end() - u64::from(entry.len), entry.end())
    }

    fn entry(&self, seq: Seq) -> Option<&Entry> {
        let first = self.index.front()?.mark.seq;
        self.index
            .get(usize::try_from(seq.0.checked_sub(first.0)?).ok()?)
    }
}

impl View for Tail {
    fn head(&self) -> Option<Mark> {
        self.head
    }

    fn oldest(&self) -> Seq {
        self.oldest
    }

    fn may_lag(&self) -> bool {
        true
    }

    fn first(&self) -> Seq {
        let gone = self.index.partition_point(|entry| entry.start < self.base);
        match self.index.get(gone) {
            Some(entry) => entry.mark.seq,
            None => self.head.map_or(Seq(1), |head| head.seq.next()),
        }
    }

    fn mark_at(&self, seq: Seq) -> Option<Mark> {
        self.entry(seq).map(|entry| entry.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;

    fn mark(seq: u64) -> Mark {
        Mark {
            seq: Seq(seq),
            id: MessageId::random(),
        }
    }

    fn tail_of(count: u64, limit: usize, len: usize) -> Tail {
        let mut tail = Tail::new(limit);
        (1..=count).for_each(|seq| tail.push_message(mark(seq), &vec![b'x'; len]));
        tail
    }

    #[test]
    fn a_cursor_reads_on_in_whole_frames() {
        let tail = tail_of(10, 100, 98);
        let mut out = Vec::new();
        let read = |after, end| Reading::Copied {
            after,
            skipped: false,
            end,
        };
        assert_eq!(tail.read(0, false, 250, &mut out), read(300, false));
        assert_eq!(tail.read(300, false, 10_000, &mut out), read(1_000, true));
        assert_eq!(out.len(), 1_000);
        assert_eq!(tail.read(1_000, false, 10_000, &mut out), read(1_000, true));
        assert_eq!(tail.cursor_after(Seq(4)), 400);
        assert_eq!(tail.message_at(Seq(4)).map(<[u8]>::len), Some(98));
        assert_eq!((tail.first(), tail.oldest()), (Seq(1), Seq(1)));
    }

    #[test]
    fn who_falls_out_of_the_bytes_knows_what_is_next() {
        let tail = tail_of(1_000, 900, 996); // frames of 1,000 bytes
        assert!(tail.first() > Seq(700));
        let mut out = Vec::new();
        assert_eq!(tail.read(0, false, 1_000, &mut out), Reading::Lost);
        assert_eq!(tail.read(99_999, false, 1_000, &mut out), Reading::Lost);
        assert_eq!(
            tail.read(100_000, false, 1_000, &mut out),
            Reading::Behind(tail.mark_at(Seq(101)).unwrap())
        );
        assert_eq!(tail.oldest(), Seq(101));
        assert!(out.is_empty());
    }

    #[test]
    fn who_missed_events_alone_goes_on() {
        let mut tail = tail_of(1, 10, 98);
        let mut event = Vec::new();
        frame::put_text(&mut event, &[b'e'; 996]);
        (0..400).for_each(|_| tail.push_event(&event));
        tail.push_message(mark(2), &[b'x'; 98]);
        let mut out = Vec::new();
        assert_eq!(
            tail.read(100, false, 10_000_000, &mut out),
            Reading::Copied {
                after: tail.end(),
                skipped: true,
                end: true
            }
        );
        assert!(out.len() > KEPT_BYTES);
        assert!(matches!(
            tail.read(0, false, 1_000, &mut out),
            Reading::Behind(Mark { seq: Seq(1), .. })
        ));
    }

    #[test]
    fn after_a_reset_cursors_skip_to_it() {
        let mut tail = tail_of(5, 10, 98);
        tail.clear();
        tail.push_message(mark(1), &[b'y'; 98]);
        tail.reset_here();
        tail.push_event(b"\x81\x01r");
        tail.push_message(mark(2), &[b'z'; 98]);
        let mut out = Vec::new();
        let all = Reading::Copied {
            after: tail.end(),
            skipped: true,
            end: true,
        };
        assert_eq!(tail.read(200, false, 10_000, &mut out), all);
        assert_eq!(out[..3], *b"\x81\x01r");
        assert_eq!(out.len(), 103);
        assert!(tail.message_at(Seq(1)).is_some());
    }

    #[test]
    fn one_frame_larger_than_all_that_is_kept_still_goes_through() {
        let mut tail = tail_of(1, 10, 98);
        tail.push_message(mark(2), &vec![b'x'; 4 * KEPT_BYTES]);
        let mut out = Vec::new();
        assert!(matches!(
            tail.read(100, false, 1_000, &mut out),
            Reading::Copied { .. }
        ));
        assert!(out.len() > 4 * KEPT_BYTES);
    }

    #[test]
    fn who_missed_events_hears_of_no_coming_and_going() {
        let mut tail = tail_of(1, 10, 98);
        let mut push = |json: &[u8]| {
            let mut event = Vec::new();
            frame::put_text(&mut event, json);
            tail.push_event(&event);
        };
        for json in ["user_joined", "typing", "users", "user_left", "read"] {
            push(format!("{{\"type\":\"{json}\"").as_bytes());
        }
        push(b"{\"type\":\"user_joined\"");
        let given = |missed| {
            let mut out = Vec::new();
            assert_eq!(
                tail.read_rest(100, missed, &mut out),
                Reading::Copied {
                    after: tail.end(),
                    skipped: false,
                    end: true
                }
            );
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(given(true).matches("user").count(), 0);
        assert!(given(true).contains("typing") && given(true).contains("read"));
        assert_eq!(given(false).matches("user").count(), 4);
    }
}
