//! Judges the history of a run by protocol.md's "What is promised". Pure: events in, a verdict out.
//!
//! Per room, the *log* is what Redis holds in the end, and before it what the members' last spans hold
//! (all spans, where nothing was taken from Redis).
//!
//! - A span has no hole, no double, nothing out of order (see [`super::view`]).
//! - All members' last spans are the log, place by place, and end where it ends. Where nothing was
//!   taken from Redis, all spans ever are.
//! - An id stands for one text at one place, in whatever span.
//! - Every acked text is in the log, under the id and place of its ack; a text is there once. A member
//!   whose last span begins behind it has it in an earlier one, or came later, or was told.
//! - Nothing is in any span that wasn't sent, or of which every try was answered with `error`.
//! - Who was told to begin anew had to be: what it had is no longer in the history.
//!
//! Faults that take what is stored ([`Taken`]) excuse this alone: what was first sent before they ended
//! may be gone from the log, for all; and who had it is told.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::history::{Entry, Event, Id, Mark, Said, What};
use super::verdict::{Kind, Verdict};
use super::view::{Reset, View};

/// For so long after Redis lost something, a node may tell members to begin anew that needn't.
const AFTERMATH: Duration = Duration::from_secs(60);

/// A time in which something stored was taken from Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// Of one room, or of all.
    pub(crate) room: Option<u8>,
}

/// A run's history.
pub(crate) struct Run<'a> {
    pub(crate) events: &'a [Event],
    pub(crate) taken: &'a [Taken],
    /// What Redis holds in the end, by room.
    pub(crate) stored: &'a BTreeMap<u8, Vec<Entry>>,
    /// Messages kept per room.
    pub(crate) limit: u64,
}

impl Run<'_> {
    fn taken_of(&self, room: u8) -> impl Iterator<Item = &Taken> {
        let concerns = move |taken: &&Taken| taken.room.is_none_or(|other| other == room);
        self.taken.iter().filter(concerns)
    }
}

/// What became of the tries to send a text.
struct Tries {
    first: Duration,
    count: usize,
    refused: usize,
    acked: Option<Mark>,
}

/// Judges a run.
pub(crate) fn check(run: &Run<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut rooms: BTreeMap<u8, Room> = BTreeMap::new();
    for event in run.events {
        let room = rooms.entry(event.room).or_default();
        room.note_try(event, &mut verdict);
        let view = room.views.entry(event.client).or_default();
        view.take(event, &mut verdict);
    }
    for (id, room) in &rooms {
        let judge = Judge {
            id: *id,
            room,
            run,
            log: room.log(*id, run, &mut verdict),
        };
        judge.spans(&mut verdict);
        judge.ids(&mut verdict);
        judge.tries(&mut verdict);
        judge.resets(&mut verdict);
    }
    verdict
}

#[derive(Default)]
struct Room {
    views: BTreeMap<u16, View>,
    tries: HashMap<Said, Tries>,
}

impl Room {
    fn note_try(&mut self, event: &Event, verdict: &mut Verdict) {
        match event.what {
            What::Sent(said) => {
                let tries = self.tries.entry(said).or_insert(Tries {
                    first: event.at,
                    count: 0,
                    refused: 0,
                    acked: None,
                });
                tries.count += 1;
            }
            What::Refused(said) => {
                self.tries
                    .entry(said)
                    .and_modify(|tries| tries.refused += 1);
            }
            What::Acked(said, mark) => match self.tries.get_mut(&said) {
                Some(tries) => tries.acked = Some(mark),
                None => {
                    let story = format!("an ack for {said}, which wasn't sent");
                    verdict.find(Kind::Invented, event, story);
                }
            },
            _ => {}
        }
    }

    /// What Redis holds, and before it what the spans hold that count.
    fn log(&self, id: u8, run: &Run<'_>, verdict: &mut Verdict) -> BTreeMap<u64, Entry> {
        let stored = run.stored.get(&id).into_iter().flatten();
        let mut log: BTreeMap<u64, Entry> = stored.map(|e| (e.mark.seq, *e)).collect();
        let kept_all = run.taken_of(id).next().is_none();
        for view in self.views.values() {
            let from = if kept_all {
                0
            } else {
                view.spans.len().saturating_sub(1)
            };
            for entry in view.spans.iter().skip(from).flat_map(|span| &span.entries) {
                log.entry(entry.mark.seq).or_insert(*entry);
            }
        }
        let mut places: HashMap<Said, u64> = HashMap::new();
        for (seq, entry) in &log {
            let before = entry.said.and_then(|said| places.insert(said, *seq));
            if let Some(before) = before {
                verdict.note(Kind::Doubled, id, format!("{entry} is also at {before}"));
            }
        }
        log
    }
}

struct Judge<'a> {
    id: u8,
    room: &'a Room,
    run: &'a Run<'a>,
    log: BTreeMap<u64, Entry>,
}

impl Judge<'_> {
    fn taken(&self) -> impl Iterator<Item = &Taken> {
        self.run.taken_of(self.id)
    }

    /// Every span against the log and the sends.
    fn spans(&self, verdict: &mut Verdict) {
        let kept_all = self.taken().next().is_none();
        let stored = self.run.stored.get(&self.id).and_then(|log| log.last());
        let end = stored.map_or(1, |newest| newest.mark.seq + 1);
        for (client, view) in &self.room.views {
            for (n, span) in view.spans.iter().enumerate() {
                let is_last = n + 1 == view.spans.len();
                for entry in &span.entries {
                    verdict.deliveries += 1;
                    self.is_sent(*client, entry, verdict);
                    let logged = self.log.get(&entry.mark.seq);
                    if (is_last || kept_all) && logged != Some(entry) {
                        let other = logged.map_or("nothing".to_owned(), Entry::to_string);
                        let story = format!("c{client} has {entry} where the room has {other}");
                        verdict.note(Kind::Reordered, self.id, story);
                    }
                }
                if is_last && span.end() < end {
                    let story = format!(
                        "c{client} ends before {}, the room before {end}",
                        span.end()
                    );
                    verdict.note(Kind::Lost, self.id, story);
                }
            }
            for entry in view.doubles() {
                let story = format!("c{client} was given {entry} twice");
                verdict.note(Kind::Doubled, self.id, story);
            }
        }
    }

    /// Ids against each other, also in spans that were replaced.
    fn ids(&self, verdict: &mut Verdict) {
        let mut known: HashMap<Id, &Entry> = HashMap::new();
        let spans = self.room.views.values().flat_map(|view| &view.spans);
        for entry in spans.flat_map(|span| &span.entries) {
            let first = *known.entry(entry.mark.id).or_insert(entry);
            if first != entry {
                let story = format!("{entry} was given elsewhere as {first}");
                verdict.note(Kind::Reordered, self.id, story);
            }
        }
    }

    fn is_sent(&self, client: u16, entry: &Entry, verdict: &mut Verdict) {
        let tries = entry.said.and_then(|said| self.room.tries.get(&said));
        match tries {
            None => {
                let story = format!("c{client} was given {entry}, which nobody sent");
                verdict.note(Kind::Invented, self.id, story);
            }
            Some(tries) if tries.refused >= tries.count => {
                let story = format!("c{client} was given {entry}, which got `error`");
                verdict.note(Kind::Refused, self.id, story);
            }
            Some(_) => {}
        }
    }

    /// Every acked text against the log and the views.
    fn tries(&self, verdict: &mut Verdict) {
        for (said, tries) in &self.room.tries {
            verdict.refused += usize::from(tries.refused >= tries.count);
            let Some(mark) = tries.acked else { continue };
            verdict.acked += 1;
            let entry = Entry {
                mark,
                said: Some(*said),
            };
            if self.log.get(&mark.seq) == Some(&entry) {
                self.has_everyone(&entry, verdict);
            } else if self.taken().any(|taken| taken.to >= tries.first) {
                verdict.gone += 1;
            } else if self.is_trimmed(&entry) {
                // Before the log's beginning: nobody who was there is left with it.
            } else {
                let story = format!("{entry} was acked and isn't in the log");
                verdict.note(Kind::Lost, self.id, story);
            }
        }
    }

    /// Whether a message, sent when nothing was taken any more, was before what is known of the log, and
    /// nobody was given another at its place. What was sent before something was taken is no other: it
    /// was there first, and who had it was told.
    fn is_trimmed(&self, entry: &Entry) -> bool {
        let seq = entry.mark.seq;
        let first = self.log.first_key_value().map(|(first, _)| *first);
        let end = self.taken().map(|taken| taken.to).max();
        let is_new = |said: Said| {
            let tries = self.room.tries.get(&said);
            tries.is_some_and(|tries| end.is_none_or(|end| end < tries.first))
        };
        let is_other = |other: &Entry| other != entry && other.said.is_none_or(is_new);
        let spans = self.room.views.values().flat_map(|view| &view.spans);
        first.is_some_and(|first| seq < first)
            && !spans.filter_map(|span| span.at(seq)).any(is_other)
    }

    fn has_everyone(&self, entry: &Entry, verdict: &mut Verdict) {
        let seq = entry.mark.seq;
        for (client, view) in &self.room.views {
            let is_after = view.last().is_some_and(|span| span.end() <= seq);
            if is_after {
                let story = format!("{entry} never came to c{client}");
                verdict.note(Kind::Lost, self.id, story);
            }
        }
    }

    /// Whoever was told to begin anew had to be.
    fn resets(&self, verdict: &mut Verdict) {
        for (client, view) in &self.room.views {
            verdict.told += view.resets.len();
            for reset in view.resets.iter().filter(|reset| self.is_needless(reset)) {
                let at = reset.at.as_secs_f64();
                let (had, seq) = (reset.had.map_or(0, |had| had.seq), reset.seq);
                let story = format!("c{client} at {at:.3} had {had} and began anew at {seq}");
                verdict.note(Kind::Needless, self.id, story);
            }
        }
    }

    fn is_needless(&self, reset: &Reset) -> bool {
        let is_kept = match reset.had {
            // It needs the message itself, or with nothing in hand the room's first.
            Some(had) => {
                had.seq + self.run.limit > reset.seq
                    && self
                        .log
                        .get(&had.seq)
                        .is_some_and(|entry| entry.mark == had)
            }
            None => reset.seq <= self.run.limit,
        };
        let mut excuses = self.taken();
        is_kept && !excuses.any(|taken| taken.from <= reset.at && reset.at < taken.to + AFTERMATH)
    }
}
