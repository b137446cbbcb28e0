//! The gate of a roster, against a roster that a test keeps.

use super::*;
use crate::id::{Seq, ShortId};

/// A room on one node, its roster, and another node's incarnation.
struct Bench {
    room: RoomId,
    nodes: Nodes,
    own: Incarnation,
    other: Incarnation,
    presence: Presence,
    roster: Roster,
    now: Instant,
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn kinds(told: &[Frame]) -> Vec<String> {
    let kind = |told: &Frame| {
        let text = String::from_utf8_lossy(told).into_owned();
        let word = |key: &str| {
            let rest = text.split(key).nth(1).unwrap_or_default();
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        format!("{} {}", word("\"type\":\""), word("\"userId\":\""))
    };
    let mut kinds: Vec<String> = told.iter().map(kind).collect();
    kinds.sort();
    kinds
}

impl Bench {
    /// Steady, and following an empty roster.
    fn new() -> Bench {
        let nodes = Nodes::alone();
        let own = nodes.own().unwrap();
        let mut bench = Bench {
            room: RoomId::parse("r").unwrap(),
            nodes,
            own,
            other: Incarnation::random(),
            presence: Presence::new(100),
            roster: Roster::default(),
            now: Instant::now(),
        };
        bench.nodes.heard(bench.other, bench.now);
        assert!(bench.load().is_empty());
        bench
    }

    fn at(room: &RoomId, now: Instant) -> At<'_> {
        At {
            room,
            timestamp: 1,
            now,
        }
    }

    fn enter(&mut self, name: &str) -> Vec<String> {
        let at = Bench::at(&self.room, self.now);
        let told = self.presence.enter(at, &user(name), &"N".into());
        kinds(told.as_slice())
    }

    fn leave(&mut self, name: &str) -> Vec<String> {
        let at = Bench::at(&self.room, self.now);
        let told = self.presence.leave(at, &user(name), false);
        kinds(told.as_slice())
    }

    fn load(&mut self) -> Vec<String> {
        let (own, now) = (self.nodes.own(), self.now);
        let at = Bench::at(&self.room, now);
        kinds(&self.presence.loaded(&self.roster, own, &self.nodes, at))
    }

    fn step(&mut self) -> Step {
        self.presence.step(self.own, self.now)
    }

    /// The broker carries changes out.
    fn carry_out(&mut self, changes: &[Change]) -> Option<Published> {
        let entries = &mut self.roster.entries;
        let mut effective = Vec::new();
        for change in changes {
            let same = |e: &Change| e.incarnation == change.incarnation && e.user == change.user;
            let there = entries.iter().any(same);
            if there != change.name.is_some() {
                entries.retain(|e| !same(e));
                entries.extend(change.name.is_some().then(|| change.clone()));
                effective.push(change.clone());
            }
        }
        let prev = self.roster.version.map(|version| version.id);
        let version = Mark {
            seq: Seq(self.roster.version.map_or(0, |v| v.seq.0) + 1),
            id: ShortId::random(),
        };
        (!effective.is_empty()).then(|| {
            self.roster.version = Some(version);
            Published {
                prev,
                version,
                changes: effective,
            }
        })
    }

    fn deliver(&mut self, published: Published) -> Vec<String> {
        let (own, now) = (self.nodes.own(), self.now);
        let at = Bench::at(&self.room, now);
        kinds(&self.presence.deliver(published, own, &self.nodes, at))
    }

    /// Another node's user comes or goes.
    fn other(&mut self, name: &str, there: bool) -> Published {
        let change = Change {
            incarnation: self.other,
            user: user(name),
            name: there.then(|| "N".into()),
        };
        self.carry_out(&[change]).unwrap()
    }

    /// Tells the broker what there is to tell; gives what the members are told at once and later.
    fn tell(&mut self) -> Vec<String> {
        let Step::Tell(changes) = self.presence.step(self.own, self.now) else {
            return Vec::new();
        };
        let published = self.carry_out(&changes);
        let version = self.roster.version;
        let at = Bench::at(&self.room, self.now);
        let mut told = kinds(&self.presence.told(changes, version, at));
        told.extend(
            published
                .into_iter()
                .flat_map(|published| self.deliver(published)),
        );
        told
    }
}

#[test]
fn members_hear_of_both_nodes_users_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.enter("a"), ["user_joined a"]);
    assert!(bench.tell().is_empty());
    let there = bench.other("a", true);
    assert!(bench.deliver(there).is_empty());
    assert!(bench.leave("a").is_empty());
    assert!(bench.tell().is_empty());
    let gone = bench.other("a", false);
    assert_eq!(bench.deliver(gone), ["user_left a"]);
    assert!(bench.roster.entries.is_empty());
}

#[test]
fn a_hole_is_mended_by_the_difference() {
    let mut bench = Bench::new();
    for name in ["a", "b"] {
        let there = bench.other(name, true);
        bench.deliver(there);
    }
    let missed = bench.other("a", false);
    let seen = bench.other("c", true);
    assert!(bench.deliver(seen).is_empty());
    assert!(matches!(bench.step(), Step::Read));
    assert_eq!(bench.load(), ["user_joined c", "user_left a"]);
    // Overtaken by the read, so no reason for doubt.
    assert!(bench.deliver(missed).is_empty());
    assert!(matches!(bench.step(), Step::Rest));
}

#[test]
fn what_is_published_during_a_read_comes_after_it() {
    let mut bench = Bench::new();
    bench.presence.doubt();
    assert!(matches!(bench.step(), Step::Read));
    let before = bench.other("a", true);
    assert!(bench.deliver(before).is_empty());
    let roster = bench.roster.clone();
    let after = bench.other("b", true);
    assert!(bench.deliver(after).is_empty());
    bench.roster = roster;
    assert_eq!(bench.load(), ["user_joined a", "user_joined b"]);
}

#[test]
fn what_is_missed_during_a_read_is_read_again() {
    let mut bench = Bench::new();
    bench.presence.doubt();
    assert!(matches!(bench.step(), Step::Read));
    // The roster was read; then the subscription broke, and something was published before the next.
    let roster = bench.roster.clone();
    bench.other("a", true);
    bench.presence.assert();
    let now = std::mem::replace(&mut bench.roster, roster);
    assert!(bench.load().is_empty());
    bench.roster = now;
    assert!(matches!(bench.step(), Step::Read));
    assert_eq!(bench.load(), ["user_joined a"]);
    assert!(matches!(bench.step(), Step::Rest));
}

#[test]
fn who_is_unknown_when_the_roster_is_read_counts_as_soon_as_it_is_heard() {
    let mut bench = Bench::new();
    bench.other = Incarnation::random();
    bench.other("a", true);
    bench.presence.doubt();
    assert!(matches!(bench.step(), Step::Read));
    assert!(bench.load().is_empty());
    assert!(matches!(bench.step(), Step::Rest));
    let there = bench.other("b", true);
    assert_eq!(bench.deliver(there), ["user_joined b"]);
    assert!(matches!(bench.step(), Step::Read));
    assert_eq!(bench.load(), ["user_joined a"]);
}

#[test]
fn what_was_published_before_the_broker_lost_it_is_not_waited_for() {
    let mut bench = Bench::new();
    let (first, lost) = (bench.other("a", true), bench.other("b", true));
    bench.presence.doubt();
    bench.deliver(first);
    bench.deliver(lost);
    bench.roster = Roster::default();
    assert!(matches!(bench.step(), Step::Read));
    assert!(bench.load().is_empty());
    assert!(matches!(bench.step(), Step::Rest));
}

#[test]
fn a_lost_answer_is_told_again_and_does_no_harm() {
    let mut bench = Bench::new();
    bench.enter("a");
    let Step::Tell(changes) = bench.step() else {
        panic!("nothing to tell")
    };
    let published = bench.carry_out(&changes).unwrap();
    bench.presence.not_told(bench.own, changes);
    assert!(bench.deliver(published).is_empty());
    bench.tell();
    assert_eq!(bench.leave("a"), ["user_left a"]);
    bench.tell();
    assert!(bench.roster.entries.is_empty());
}

#[test]
fn an_own_change_that_does_not_come_back_is_a_doubt() {
    let mut bench = Bench::new();
    bench.enter("a");
    let missed = bench.other("b", true);
    let Step::Tell(changes) = bench.step() else {
        panic!("nothing to tell")
    };
    bench.carry_out(&changes);
    let version = bench.roster.version;
    let at = Bench::at(&bench.room, bench.now);
    bench.presence.told(changes, version, at);
    assert!(matches!(bench.step(), Step::Wait));
    bench.now += 2 * OVERDUE;
    assert!(matches!(bench.step(), Step::Read));
    assert_eq!(bench.load(), ["user_joined b"]);
    assert!(bench.deliver(missed).is_empty());
}

#[test]
fn after_a_loss_of_the_roster_nobody_living_is_missed() {
    let mut bench = Bench::new();
    bench.enter("a");
    bench.tell();
    let there = bench.other("b", true);
    bench.deliver(there);
    bench.roster = Roster::default();
    bench.presence.assert();
    assert!(matches!(bench.step(), Step::Read));
    assert!(bench.load().is_empty());
    assert!(
        !bench.nodes.steady(),
        "it judges nobody before they had the time"
    );
    assert!(bench.tell().is_empty());
    assert_eq!(bench.roster.entries.len(), 1);
    assert_eq!(bench.presence.members().users(&bench.room).count, 2);
}

#[test]
fn the_dead_are_removed_and_what_they_do_late_counts_for_nobody() {
    let mut bench = Bench::new();
    let there = bench.other("b", true);
    bench.deliver(there);
    let other = bench.other;
    // As the cluster's task does when the lease has run out.
    let beat = super::super::nodes::Beat {
        listed: true,
        held: true,
        nodes: vec![],
    };
    bench.now += Duration::from_secs(9);
    for _ in 0..5 {
        bench.now += Duration::from_secs(2);
        bench.nodes.judge(&beat, bench.now, bench.now);
    }
    assert_eq!(bench.nodes.standing(other), Standing::Dead);
    bench.presence.bury(other);
    assert_eq!(bench.tell(), ["user_left b"]);
    assert!(bench.roster.entries.is_empty());
    let late = bench.other("c", true);
    assert!(bench.deliver(late).is_empty());
    assert!(bench.tell().is_empty());
    assert!(bench.roster.entries.is_empty());
}

/// It died when nobody was in the room, and before this node began: it is on no list any more.
#[test]
fn an_entry_of_nobody_is_removed_once_it_is_certain() {
    let mut bench = Bench::new();
    let ghost = Change {
        incarnation: Incarnation::random(),
        user: user("g"),
        name: Some("G".into()),
    };
    bench.carry_out(&[ghost]).unwrap();
    bench.presence.doubt();
    assert!(matches!(bench.step(), Step::Read));
    assert!(bench.load().is_empty());
    assert!(bench.tell().is_empty());
    assert_eq!(bench.roster.entries.len(), 1);
    let listed = super::super::nodes::Beat {
        listed: true,
        held: true,
        nodes: vec![(bench.other, Some(Duration::from_secs(6)), Vec::new())],
    };
    bench.now += Duration::from_secs(9);
    let mut again = false;
    for _ in 0..5 {
        bench.now += Duration::from_secs(2);
        again |= bench.nodes.judge(&listed, bench.now, bench.now).read_again;
    }
    assert!(again);
    bench.presence.doubt();
    assert!(matches!(bench.step(), Step::Read));
    assert!(bench.load().is_empty());
    assert!(bench.tell().is_empty());
    assert!(bench.roster.entries.is_empty());
}

#[test]
fn a_new_incarnation_takes_its_users_over() {
    let mut bench = Bench::new();
    bench.enter("a");
    bench.tell();
    bench.nodes.given_up(bench.now);
    bench.own = Incarnation::random();
    bench.nodes.begin(bench.own, bench.now);
    bench.presence.assert();
    assert!(matches!(bench.step(), Step::Read));
    assert!(bench.load().is_empty());
    assert!(bench.tell().is_empty());
    let holders: Vec<_> = bench.roster.entries.iter().map(|e| e.incarnation).collect();
    assert_eq!(holders, [bench.own]);
}

#[test]
fn who_is_sent_to_another_node_keeps_its_entry() {
    let mut bench = Bench::new();
    bench.enter("a");
    let at = Bench::at(&bench.room, bench.now);
    assert!(bench.presence.leave(at, &user("a"), true).is_none());
    assert!(bench.tell().is_empty());
    assert_eq!(bench.roster.entries.len(), 1);
    bench.presence.assert();
    assert!(matches!(bench.step(), Step::Read));
    assert!(bench.load().is_empty());
    assert!(bench.tell().is_empty());
    assert_eq!(bench.roster.entries.len(), 1);
}
