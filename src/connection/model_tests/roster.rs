//! A room's roster as the broker keeps it.

use crate::broker::payload;
use crate::id::{Mark, Seq, ShortId};
use crate::presence::{self, Change, Published};

/// The roster.
#[derive(Default)]
pub(super) struct Roster(presence::Roster);

impl Roster {
    pub(super) fn version(&self) -> Option<Mark> {
        self.0.version
    }

    pub(super) fn read(&self) -> presence::Roster {
        self.0.clone()
    }

    /// Whether a user has an entry.
    pub(super) fn has(&self, user: &str) -> bool {
        self.0
            .entries
            .iter()
            .any(|entry| entry.user.as_str() == user)
    }

    /// Carries changes out; gives what is published.
    pub(super) fn change(&mut self, changes: &[Change]) -> Option<Vec<u8>> {
        let mut effective = Vec::new();
        for change in changes {
            let same = |e: &Change| e.incarnation == change.incarnation && e.user == change.user;
            let there = self.0.entries.iter().any(same);
            if there == change.name.is_some() {
                continue;
            }
            self.0.entries.retain(|entry| !same(entry));
            self.0
                .entries
                .extend(change.name.is_some().then(|| change.clone()));
            effective.push(change.clone());
        }
        if effective.is_empty() {
            return None;
        }
        let prev = self.0.version.map(|version| version.id);
        let version = Mark {
            seq: self.0.version.map_or(Seq(1), |version| version.seq.next()),
            id: ShortId::random(),
        };
        self.0.version = Some(version);
        Some(payload::changes(&Published {
            prev,
            version,
            changes: effective,
        }))
    }
}
