//! Members that lose their connection and come back with `since`: what they have, and what they are given.
//! Each is in one room and publishes nothing.

use std::time::Instant;

use super::Result;
use super::chat::{self, Place};
use super::ledger::Ledger;
use super::shape::Shape;

/// One of them.
#[derive(Default)]
struct Roamer {
    /// The last message that it has.
    place: Option<Place>,
    /// The answer to its last join.
    back_at: Option<Instant>,
}

/// All of a run, by connection; `None` for those that stay.
#[derive(Default)]
pub(crate) struct Roamers {
    members: Vec<Option<Roamer>>,
    resumed: usize,
    /// Comebacks that were told `recovered: false`.
    unrecovered: usize,
}

impl Roamers {
    pub(crate) fn new(shape: &Shape, roams: impl Fn(usize) -> bool) -> Self {
        let member = |connection| roams(connection).then(Roamer::default);
        Self {
            members: (0..shape.connections()).map(member).collect(),
            resumed: 0,
            unrecovered: 0,
        }
    }

    #[inline]
    pub(crate) fn is_one(&self, connection: usize) -> bool {
        self.get(connection).is_some()
    }

    /// Their numbers.
    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|&connection| self.is_one(connection))
            .collect()
    }

    /// Comebacks that were answered, and how many of them with `recovered: false`.
    pub(crate) fn resumed(&self) -> (usize, usize) {
        (self.resumed, self.unrecovered)
    }

    /// When this one's last join was answered.
    pub(crate) fn back_at(&self, connection: usize) -> Option<Instant> {
        self.get(connection)?.back_at
    }

    fn get(&self, connection: usize) -> Option<&Roamer> {
        self.members.get(connection)?.as_ref()
    }

    /// A member got this message.
    #[inline]
    pub(crate) fn received(&mut self, connection: usize, message: &[u8]) {
        if let Some(Some(roamer)) = self.members.get_mut(connection) {
            roamer.place = chat::place(message);
        }
    }

    /// The join that goes on where this one is: `since` its last message, or from nothing.
    pub(crate) fn rejoin(&self, connection: usize, room: usize) -> String {
        let nothing = Place::nothing();
        let place = self.get(connection).and_then(|r| r.place.as_ref());
        chat::join(room, Some(place.unwrap_or(&nothing)))
    }

    /// A member got a `history` event; one of those that stay gets it with its first join alone.
    pub(crate) fn history(
        &mut self,
        connection: usize,
        room: usize,
        event: &[u8],
        at: Instant,
        ledger: &mut Ledger<'_>,
    ) -> Result<()> {
        let Some(Some(roamer)) = self.members.get_mut(connection) else {
            return Ok(());
        };
        let history = chat::history(event)
            .ok_or_else(|| format!("not a history: {}", event.escape_ascii()))?;
        // the first join of all, into a room where nothing has been said yet
        if roamer.back_at.replace(at).is_none() && history.newest.is_none() {
            return Ok(());
        }
        self.resumed += 1;
        if !history.recovered {
            self.unrecovered += 1;
            ledger.excuse(connection, room)?;
        }
        for (publisher, sequence) in history.messages {
            ledger.received(connection, publisher, sequence, at)?;
        }
        if history.newest.is_some() {
            roamer.place = history.newest;
        }
        Ok(())
    }
}
