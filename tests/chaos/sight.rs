//! Judges what clients were told of who is in a room, and what the nodes say when all is still. Pure:
//! events and rests in, findings out.
//!
//! - Between two joins of a client, a user doesn't join a room twice without leaving it between, nor leave
//!   twice. What a `users` says replaces what was known: who is listed can only leave next, who isn't can
//!   only join. Of whom nothing is known yet, either may come first.
//! - Nobody is told of its own user.
//! - At a [`Rest`] every node lists in every room exactly who is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::history::{Event, What};
use super::verdict::{Kind, Verdict};

/// The number of a user that is no client of the run.
pub(crate) const STRANGER: u16 = u16::MAX;

/// A moment at which nothing was broken and nothing under way.
#[derive(Clone, Default, Debug)]
pub(crate) struct Rest {
    pub(crate) at: Duration,
    /// Who is connected and in the room.
    pub(crate) present: BTreeMap<u8, BTreeSet<u16>>,
    /// What each node answered when it was asked who is there.
    pub(crate) seen: Vec<Seen>,
}

/// What a node says of a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) node: usize,
    pub(crate) room: u8,
    pub(crate) users: Vec<u16>,
}

impl Seen {
    /// Who is listed and isn't there, or is listed twice; and who is there and isn't listed.
    fn differences(&self, present: &BTreeMap<u8, BTreeSet<u16>>) -> (Vec<u16>, Vec<u16>) {
        let nobody = BTreeSet::new();
        let present = present.get(&self.room).unwrap_or(&nobody);
        let mut listed = BTreeSet::new();
        let mut ghosts = Vec::new();
        for user in &self.users {
            if !listed.insert(*user) || !present.contains(user) {
                ghosts.push(*user);
            }
        }
        (ghosts, present.difference(&listed).copied().collect())
    }
}

impl Rest {
    /// Whether every node says what is so.
    pub(crate) fn is_right(&self) -> bool {
        let is_right = |seen: &Seen| seen.differences(&self.present) == (vec![], vec![]);
        self.seen.iter().all(is_right)
    }
}

/// What a client knows of who is in a room.
#[derive(Default)]
struct Sight {
    /// Whether a user is there.
    known: HashMap<u16, bool>,
    /// Whether a `users` came: then who isn't known isn't there.
    is_complete: bool,
}

impl Sight {
    fn take(&mut self, event: &Event, verdict: &mut Verdict) {
        match &event.what {
            What::Joined(user) => self.turn(*user, true, event, verdict),
            What::Left(user) => self.turn(*user, false, event, verdict),
            What::Users(users) => {
                self.is_complete = true;
                self.known = users.iter().map(|user| (*user, true)).collect();
                if self.known.len() < users.len() {
                    let story = format!("somebody is listed twice: {event}");
                    verdict.find(Kind::Unpaired, event, story);
                }
            }
            What::Cut => *self = Sight::default(),
            _ => {}
        }
    }

    fn turn(&mut self, user: u16, is_there: bool, event: &Event, verdict: &mut Verdict) {
        verdict.turns += 1;
        let before = self.known.insert(user, is_there);
        let before = before.or(self.is_complete.then_some(false));
        if user == event.client {
            verdict.find(Kind::Unpaired, event, format!("told of itself: {event}"));
        } else if user == STRANGER {
            verdict.find(
                Kind::Unpaired,
                event,
                format!("told of a stranger: {event}"),
            );
        } else if before == Some(is_there) {
            let already = if is_there { "there" } else { "gone" };
            let story = format!("c{user} was {already} already: {event}");
            verdict.find(Kind::Unpaired, event, story);
        }
    }
}

/// Judges what every client was told, and every rest.
pub(crate) fn check_sights(events: &[Event], rests: &[Rest], verdict: &mut Verdict) {
    let mut sights: HashMap<(u16, u8), Sight> = HashMap::new();
    for event in events {
        let sight = sights.entry((event.client, event.room)).or_default();
        sight.take(event, verdict);
    }
    for rest in rests {
        verdict.sights += rest.seen.len();
        let at = rest.at.as_secs_f64();
        for seen in &rest.seen {
            let (ghosts, missing) = seen.differences(&rest.present);
            for user in ghosts {
                let story = format!("node {} at {at:.3} lists c{user}, wrongly", seen.node);
                verdict.note(Kind::Ghost, seen.room, story);
            }
            for user in missing {
                let story = format!("node {} at {at:.3} doesn't list c{user}", seen.node);
                verdict.note(Kind::Unseen, seen.room, story);
            }
        }
    }
}
