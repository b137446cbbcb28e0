//! What one member was given of one room, as spans: each begins where the member began (a join, or a
//! `history` that replaces what it had) and goes on without a hole. What doesn't fit is a finding.

use std::collections::HashSet;
use std::time::Duration;

use super::history::{Entry, Event, Mark, What};
use super::verdict::{Kind, Verdict};

/// An unbroken run of messages.
#[derive(Debug)]
pub(crate) struct Span {
    /// The place of the first message; where there is none, of the next one.
    pub(crate) first: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Span {
    /// The place after the last message.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(crate) fn at(&self, seq: u64) -> Option<&Entry> {
        self.entries
            .get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }
}

/// A member that was told to begin anew, although it had something.
#[derive(Debug)]
pub(crate) struct Reset {
    pub(crate) at: Duration,
    /// The last message that it had.
    pub(crate) had: Option<Mark>,
    /// The newest place of the history that it got instead.
    pub(crate) seq: u64,
}

/// All that a member was given of a room.
#[derive(Default, Debug)]
pub(crate) struct View {
    pub(crate) spans: Vec<Span>,
    pub(crate) resets: Vec<Reset>,
}

impl View {
    /// The span that counts in the end.
    pub(crate) fn last(&self) -> Option<&Span> {
        self.spans.last()
    }

    /// Takes what the member was given next.
    pub(crate) fn take(&mut self, event: &Event, verdict: &mut Verdict) {
        match &event.what {
            What::Message(entry) => self.go_on(*entry, event, verdict),
            What::History {
                continues,
                seq,
                messages,
            } => {
                if !continues {
                    self.begin_anew(event, *seq, messages.len() as u64);
                }
                for entry in messages {
                    self.go_on(*entry, event, verdict);
                }
                if self.last().is_some_and(|span| span.end() != seq + 1) {
                    let story = format!("the history doesn't end with its own seq: {event}");
                    verdict.find(Kind::Lost, event, story);
                    self.begin_anew(event, *seq, 0);
                }
            }
            What::Sent(_) | What::Acked(..) | What::Refused(_) | What::Cut => {}
            // Judged elsewhere.
            What::Joined(_) | What::Left(_) | What::Users(_) => {}
        }
    }

    fn begin_anew(&mut self, event: &Event, seq: u64, count: u64) {
        if let Some(span) = self.last() {
            self.resets.push(Reset {
                at: event.at,
                had: span.entries.last().map(|entry| entry.mark),
                seq,
            });
        }
        self.spans.push(Span {
            first: (seq + 1).saturating_sub(count),
            entries: Vec::new(),
        });
    }

    /// The next message has the next place; what hasn't is a hole, a double or out of order.
    fn go_on(&mut self, entry: Entry, event: &Event, verdict: &mut Verdict) {
        let Some(span) = self.spans.last_mut() else {
            let story = format!("a message before any history: {entry}");
            return verdict.find(Kind::Reordered, event, story);
        };
        let (next, seq) = (span.end(), entry.mark.seq);
        if seq == next {
            return span.entries.push(entry);
        }
        if seq > next {
            let story = format!("{} missing before {entry}", seq - next);
            verdict.find(Kind::Lost, event, story);
            // The rest is judged from here on.
            return self.spans.push(Span {
                first: seq,
                entries: vec![entry],
            });
        }
        let kind = if span.at(seq) == Some(&entry) {
            Kind::Doubled
        } else {
            Kind::Reordered
        };
        verdict.find(kind, event, format!("{entry} when {next} was next"));
    }

    /// Whether a text was given twice in one span.
    pub(crate) fn doubles(&self) -> impl Iterator<Item = &Entry> {
        self.spans.iter().flat_map(|span| {
            let mut said = HashSet::new();
            span.entries
                .iter()
                .filter(move |entry| entry.said.is_some_and(|text| !said.insert(text)))
        })
    }
}
