//! What the checker found: counts by kind, and the first findings told one by one.

use super::history::Event;

/// Findings that are told; the counts are of all.
const TOLD: usize = 200;

/// A broken promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A member misses a message and wasn't told, or an acked message is gone though nothing took it.
    Lost,
    /// A member has a message twice, or the room has a text twice.
    Doubled,
    /// Messages out of order, or members that see different ones at one place.
    Reordered,
    /// A message that nobody sent.
    Invented,
    /// A message whose every try was answered with `error`.
    Refused,
    /// A member was told to begin anew though the history still had what it needed.
    Needless,
    /// A node still holds the connection of a client that vanished long ago.
    Lingering,
    /// A member was told of a user's joins and leaves not in turn, or of its own.
    Unpaired,
    /// At rest a node listed a user who wasn't there.
    Ghost,
    /// At rest a node didn't list a user who was there.
    Unseen,
}

/// All kinds, in the order of the table.
pub(crate) const KINDS: [Kind; 10] = [
    Kind::Lost,
    Kind::Doubled,
    Kind::Reordered,
    Kind::Invented,
    Kind::Refused,
    Kind::Needless,
    Kind::Lingering,
    Kind::Unpaired,
    Kind::Ghost,
    Kind::Unseen,
];

/// The outcome of a check.
#[derive(Default, Debug)]
pub(crate) struct Verdict {
    counts: [usize; KINDS.len()],
    /// The first findings.
    pub(crate) findings: Vec<String>,
    /// Messages that were acked.
    pub(crate) acked: usize,
    /// Texts of which every try was answered with `error`.
    pub(crate) refused: usize,
    /// Messages given to members.
    pub(crate) deliveries: usize,
    /// Members that were told to begin anew.
    pub(crate) told: usize,
    /// Joins and leaves of users that members were told of.
    pub(crate) turns: usize,
    /// Lists of a room's users that nodes gave at rest.
    pub(crate) sights: usize,
    /// Acked messages that a fault took which takes what is stored.
    pub(crate) gone: usize,
}

impl Verdict {
    /// Notes a finding about what happened there.
    pub(crate) fn find(&mut self, kind: Kind, event: &Event, story: String) {
        let at = event.at.as_secs_f64();
        self.note(
            kind,
            event.room,
            format!("c{} at {at:.3}: {story}", event.client),
        );
    }

    /// Notes a finding about a room.
    pub(crate) fn note(&mut self, kind: Kind, room: u8, story: String) {
        self.counts[kind as usize] += 1;
        if self.findings.len() < TOLD {
            self.findings.push(format!("{kind:?} in r{room}: {story}"));
        }
    }

    /// How many of that kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.counts[kind as usize]
    }

    /// Whether every promise was kept.
    pub(crate) fn is_clean(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}
