//! A room's history, without I/O: a capped log of messages, what a read of it gives, and which of
//! them a client is answered with. The embedded broker keeps its rooms in a [`Capped`]; Redis keeps
//! lists and answers reads with the same [`Slice`]; a node's tail is a [`View`] like both, so joining,
//! paging and resuming are decided here, once.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::id::{Mark, Seq};
use crate::protocol::request::Since;

/// Which messages of a history are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// That many of the newest.
    Newest(usize),
    /// From that place on (or from the oldest that is left), at most that many.
    From(Seq, usize),
}

/// What a read of a history gave: consecutive messages, oldest first, and where the history began and
/// ended at that moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Slice {
    /// The messages.
    pub messages: Vec<(Mark, Bytes)>,
    /// The newest message of the history, in the slice or not; `None`: it is empty.
    pub head: Option<Mark>,
    /// The place of the oldest message of the history; one past the newest where it is empty.
    pub oldest: Seq,
}

impl Slice {
    /// The message at that place, if it was read.
    pub fn message_at(&self, seq: Seq) -> Option<&(Mark, Bytes)> {
        let first = self.messages.first()?.0.seq;
        self.messages
            .get(usize::try_from(seq.0.checked_sub(first.0)?).ok()?)
    }
}

/// A capped log: the newest `limit` messages of a room.
#[derive(Default)]
pub struct Capped {
    messages: VecDeque<(Mark, Bytes)>,
}

impl Capped {
    /// The newest message's mark.
    pub fn head(&self) -> Option<Mark> {
        self.messages.back().map(|(mark, _)| *mark)
    }

    /// Appends, and lets go what is over the limit.
    pub fn push(&mut self, mark: Mark, message: Bytes, limit: usize) {
        self.messages.push_back((mark, message));
        while self.messages.len() > limit {
            self.messages.pop_front();
        }
    }

    /// Whether a message of that id is there, and where.
    pub fn find(&self, wanted: impl Fn(Mark) -> bool) -> Option<Mark> {
        self.messages
            .iter()
            .rev()
            .map(|(mark, _)| *mark)
            .find(|mark| wanted(*mark))
    }

    /// Reads a span.
    pub fn read(&self, span: Span) -> Slice {
        let oldest = self.messages.front().map_or(Seq(1), |(mark, _)| mark.seq);
        let (skip, take) = match span {
            Span::Newest(count) => (self.messages.len().saturating_sub(count), count),
            Span::From(seq, max) => (seq.0.saturating_sub(oldest.0) as usize, max),
        };
        let messages = self
            .messages
            .iter()
            .skip(skip)
            .take(take)
            .cloned()
            .collect();
        Slice {
            messages,
            head: self.head(),
            oldest,
        }
    }
}

/// What is known of a history: where it ends and begins, and the messages at hand, an unbroken run
/// up to the newest.
pub trait View {
    /// The newest message.
    fn head(&self) -> Option<Mark>;
    /// Whether the history may have newer ones by now.
    fn may_lag(&self) -> bool;
    /// The place of the oldest message that the history holds, at hand or not; one past the newest
    /// where it is empty.
    fn oldest(&self) -> Seq;
    /// The place of the oldest message at hand; one past the newest where none is.
    fn first(&self) -> Seq;
    /// The mark at that place, where it is at hand.
    fn mark_at(&self, seq: Seq) -> Option<Mark>;
}

/// What a client asks a history for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// The newest so many.
    Newest(usize),
    /// The newest so many before that place.
    Before(Seq, usize),
    /// All that came after what it names; the newest so many where that can't be had.
    Since(Since, usize),
}

/// A run of messages to answer with: from `from` to before `to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// The first message's place.
    pub from: Seq,
    /// One past the last message's place.
    pub to: Seq,
    /// Whether it continues what the client has; `None` where it didn't ask.
    pub recovered: Option<bool>,
    /// Whether the history holds older messages.
    pub has_more: bool,
}

/// What is to be done for a [`Want`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Answer with that page; all of it is at hand.
    Answer(Page),
    /// Read the history from that place on first: older messages are asked for than are at hand.
    Read(Seq),
}

/// Decides what answers a want.
pub fn decide(view: &impl View, want: Want) -> Decision {
    let end = view.head().map_or(Seq(1), |head| head.seq.next());
    let newest = |limit: usize, recovered| page(view, back(end, limit), end, recovered);
    match want {
        Want::Newest(limit) => newest(limit, None),
        Want::Before(seq, limit) => {
            let to = seq.clamp(Seq(1), end);
            page(view, back(to, limit), to, None)
        }
        Want::Since(since, limit) => match resume(view, since) {
            Resume::After(seq) => page(view, seq.next(), end, Some(true)),
            Resume::Unknown => newest(limit, Some(false)),
            Resume::Read(seq) => Decision::Read(seq),
        },
    }
}

enum Resume {
    /// The client has all up to here.
    After(Seq),
    /// What it names isn't in this history.
    Unknown,
    /// It can be told when the history from here on is at hand.
    Read(Seq),
}

/// The resume decision: `since` counts if the history still holds that very message at that place;
/// "nothing" counts if nothing has gone yet. An id belongs to one execution of an append, so data
/// that was lost and written anew never passes for what the client knows.
fn resume(view: &impl View, since: Since) -> Resume {
    let (head, newest) = (view.head(), view.head().map_or(Seq::ZERO, |head| head.seq));
    match since {
        Since::Nothing if head.is_none() => Resume::After(Seq::ZERO),
        // Another node may have shown it to the client a moment before it gets here.
        Since::After(mark) if mark.seq > newest && view.may_lag() => {
            Resume::Read(newest.max(Seq(1)))
        }
        Since::Nothing if view.oldest() <= Seq(1) => Resume::After(Seq::ZERO),
        Since::Nothing | Since::Unknown => Resume::Unknown,
        Since::After(mark) if mark.seq > newest || mark.seq < view.oldest() => Resume::Unknown,
        Since::After(mark) if mark.seq < view.first() => Resume::Read(mark.seq),
        Since::After(mark) if view.mark_at(mark.seq) == Some(mark) => Resume::After(mark.seq),
        Since::After(_) => Resume::Unknown,
    }
}

fn back(from: Seq, steps: usize) -> Seq {
    Seq(from.0.saturating_sub(steps as u64).max(1))
}

fn page(view: &impl View, from: Seq, to: Seq, recovered: Option<bool>) -> Decision {
    let from = from.max(view.oldest()).min(to);
    if from < to && from < view.first() {
        return Decision::Read(from);
    }
    Decision::Answer(Page {
        from,
        to,
        recovered,
        has_more: from > view.oldest(),
    })
}

/// What a node has at hand after a read: the slice, and the tail that goes on from it.
pub struct Joined<'a, T> {
    /// What was read.
    pub past: &'a Slice,
    /// The node's tail.
    pub tail: &'a T,
}

impl<T: View> Joined<'_, T> {
    /// Whether the slice reaches the messages at hand and is of the same lineage: the last place that
    /// both know has the same id in both.
    fn fits(&self) -> bool {
        let (Some((last, _)), Some(head)) = (self.past.messages.last(), self.tail.head()) else {
            return false;
        };
        let shared = last.seq.min(head.seq);
        let mark = self.past.message_at(shared).map(|(mark, _)| *mark);
        shared.next() >= self.tail.first() && mark.is_some() && mark == self.tail.mark_at(shared)
    }
}

impl<T: View> View for Joined<'_, T> {
    fn head(&self) -> Option<Mark> {
        self.tail.head()
    }

    /// The tail took in what was read, and that was read after the question was asked.
    fn may_lag(&self) -> bool {
        false
    }

    fn oldest(&self) -> Seq {
        if !self.fits() {
            return self.tail.oldest();
        }
        self.past
            .oldest
            .max(self.tail.oldest())
            .min(self.tail.first())
    }

    fn first(&self) -> Seq {
        match self.past.messages.first() {
            Some((mark, _)) if self.fits() => mark.seq.min(self.tail.first()),
            _ => self.tail.first(),
        }
    }

    fn mark_at(&self, seq: Seq) -> Option<Mark> {
        if seq >= self.tail.first() {
            return self.tail.mark_at(seq);
        }
        self.past.message_at(seq).map(|(mark, _)| *mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;

    /// A view that has at hand what a slice has.
    impl View for Slice {
        fn head(&self) -> Option<Mark> {
            self.head
        }
        fn may_lag(&self) -> bool {
            false
        }
        fn oldest(&self) -> Seq {
            self.oldest
        }
        fn first(&self) -> Seq {
            self.messages.first().map_or(
                self.head.map_or(Seq(1), |head| head.seq.next()),
                |(mark, _)| mark.seq,
            )
        }
        fn mark_at(&self, seq: Seq) -> Option<Mark> {
            self.messages
                .iter()
                .map(|(mark, _)| *mark)
                .find(|mark| mark.seq == seq)
        }
    }

    fn log(count: u64, limit: usize) -> Capped {
        let mut log = Capped::default();
        for seq in 1..=count {
            log.push(
                Mark {
                    seq: Seq(seq),
                    id: MessageId::random(),
                },
                Bytes::new(),
                limit,
            );
        }
        log
    }

    fn answer(view: &impl View, want: Want) -> (u64, u64, Option<bool>, bool) {
        match decide(view, want) {
            Decision::Answer(page) => (page.from.0, page.to.0, page.recovered, page.has_more),
            Decision::Read(from) => panic!("wants to read from {from}"),
        }
    }

    #[test]
    fn a_capped_log_reads_spans() {
        let log = log(10, 4);
        let places = |span| {
            log.read(span)
                .messages
                .iter()
                .map(|(mark, _)| mark.seq.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(places(Span::Newest(2)), [9, 10]);
        assert_eq!(places(Span::Newest(9)), [7, 8, 9, 10]);
        assert_eq!(places(Span::From(Seq(8), 2)), [8, 9]);
        assert_eq!(places(Span::From(Seq(1), 9)), [7, 8, 9, 10]);
        assert_eq!(places(Span::From(Seq(11), 9)), [] as [u64; 0]);
        assert_eq!(
            (
                log.read(Span::Newest(1)).oldest,
                log.read(Span::Newest(1)).head
            ),
            (Seq(7), log.head())
        );
    }

    #[test]
    fn pages_go_back_to_the_oldest() {
        let all = log(10, 4).read(Span::Newest(4));
        assert_eq!(answer(&all, Want::Newest(2)), (9, 11, None, true));
        assert_eq!(answer(&all, Want::Newest(50)), (7, 11, None, false));
        assert_eq!(answer(&all, Want::Before(Seq(9), 1)), (8, 9, None, true));
        assert_eq!(answer(&all, Want::Before(Seq(99), 1)), (10, 11, None, true));
        assert_eq!(answer(&all, Want::Before(Seq(3), 5)), (3, 3, None, false));
        assert_eq!(answer(&all, Want::Before(Seq(0), 5)), (1, 1, None, false));
        assert_eq!(
            answer(
                &Slice {
                    oldest: Seq(1),
                    ..Slice::default()
                },
                Want::Newest(5)
            ),
            (1, 1, None, false)
        );
    }

    #[test]
    fn a_resume_holds_where_the_very_message_is_there() {
        let log = log(10, 4);
        let all = log.read(Span::Newest(4));
        let at = |seq| all.mark_at(Seq(seq)).unwrap();
        assert_eq!(
            answer(&all, Want::Since(Since::After(at(7)), 1)),
            (8, 11, Some(true), true)
        );
        assert_eq!(
            answer(&all, Want::Since(Since::After(at(10)), 1)),
            (11, 11, Some(true), true)
        );
        let forged = Mark {
            seq: Seq(8),
            id: MessageId::random(),
        };
        let trimmed = Mark {
            seq: Seq(6),
            id: MessageId::random(),
        };
        let future = Mark {
            seq: Seq(11),
            id: MessageId::random(),
        };
        for since in [
            Since::After(forged),
            Since::After(trimmed),
            Since::After(future),
            Since::Nothing,
            Since::Unknown,
        ] {
            assert_eq!(
                answer(&all, Want::Since(since, 2)),
                (9, 11, Some(false), true),
                "{since:?}"
            );
        }
    }

    #[test]
    fn nothing_is_resumed_while_nothing_has_gone() {
        let all = log(3, 4).read(Span::Newest(4));
        assert_eq!(
            answer(&all, Want::Since(Since::Nothing, 1)),
            (1, 4, Some(true), false)
        );
        let empty = Slice {
            oldest: Seq(1),
            ..Slice::default()
        };
        assert_eq!(
            answer(&empty, Want::Since(Since::Nothing, 1)),
            (1, 1, Some(true), false)
        );
        assert_eq!(
            answer(&empty, Want::Since(Since::Unknown, 1)),
            (1, 1, Some(false), false)
        );
    }

    #[test]
    fn older_messages_than_those_at_hand_are_read_and_joined() {
        let log = log(10, 8);
        let tail = log.read(Span::Newest(3));
        let since = Want::Since(
            Since::After(log.find(|mark| mark.seq == Seq(5)).unwrap()),
            1,
        );
        assert_eq!(decide(&tail, since), Decision::Read(Seq(5)));
        assert_eq!(decide(&tail, Want::Newest(5)), Decision::Read(Seq(6)));
        let past = log.read(Span::From(Seq(5), usize::MAX));
        let joined = Joined {
            past: &past,
            tail: &tail,
        };
        assert_eq!(answer(&joined, since), (6, 11, Some(true), true));
        assert_eq!(answer(&joined, Want::Before(Seq(7), 2)), (5, 7, None, true));
    }

    #[test]
    fn a_slice_of_another_lineage_is_not_joined() {
        let (ours, other) = (log(10, 8), log(10, 8));
        let (past, tail) = (other.read(Span::Newest(8)), ours.read(Span::Newest(3)));
        let joined = Joined {
            past: &past,
            tail: &tail,
        };
        assert_eq!(joined.first(), Seq(8));
    }
}
