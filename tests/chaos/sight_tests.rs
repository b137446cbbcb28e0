//! What is said of who is in a room: what is right passes, and each forgery is found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::history::{Event, What};
use super::sight::{Rest, STRANGER, Seen, check_sights};
use super::verdict::{Kind, Verdict};

/// What client 0 is given in room 0, one after another.
fn given(story: &[What]) -> Vec<Event> {
    let event = |(n, what): (usize, &What)| Event {
        at: Duration::from_millis(n as u64),
        client: 0,
        room: 0,
        what: what.clone(),
    };
    story.iter().enumerate().map(event).collect()
}

/// Whether it is right; every finding is of the one kind.
#[track_caller]
fn is_right(story: &[What]) -> bool {
    let mut verdict = Verdict::default();
    check_sights(&given(story), &[], &mut verdict);
    let found = verdict.count(Kind::Unpaired);
    assert_eq!(found, verdict.findings.len(), "{verdict:#?}");
    found == 0
}

#[test]
fn joins_and_leaves_in_turn_are_right() {
    use What::{Joined, Left, Users};
    assert!(is_right(&[
        Joined(1),
        Left(1),
        Joined(1),
        Joined(2),
        Left(2)
    ]));
    // Who was there before it came.
    assert!(is_right(&[Left(1), Joined(1)]));
    assert!(is_right(&[
        Users(vec![0, 1]),
        Left(1),
        Joined(1),
        Joined(2)
    ]));
}

#[test]
fn a_double_join_is_found() {
    use What::{Joined, Users};
    assert!(!is_right(&[Joined(1), Joined(1)]));
    assert!(!is_right(&[Joined(1), Joined(2), Joined(1)]));
    assert!(!is_right(&[Users(vec![0, 1]), Joined(1)]));
}

#[test]
fn a_leave_without_a_join_is_found() {
    use What::{Joined, Left, Users};
    assert!(!is_right(&[Joined(1), Left(1), Left(1)]));
    assert!(!is_right(&[Left(1), Left(1)]));
    assert!(!is_right(&[Users(vec![0, 2]), Left(1)]));
    assert!(!is_right(&[Joined(1), Users(vec![0]), Left(1)]));
}

#[test]
fn who_joins_again_knows_nothing_yet() {
    use What::{Cut, Joined, Left, Users};
    assert!(is_right(&[Joined(1), Cut, Joined(1)]));
    assert!(is_right(&[Users(vec![0]), Cut, Left(1)]));
    assert!(!is_right(&[Cut, Joined(1), Joined(1)]));
}

#[test]
fn news_of_oneself_of_strangers_and_of_doubles_is_found() {
    use What::{Joined, Left, Users};
    assert!(!is_right(&[Joined(0)]));
    assert!(!is_right(&[Left(0)]));
    assert!(!is_right(&[Joined(STRANGER)]));
    assert!(!is_right(&[Users(vec![0, 1, 1])]));
}

/// What is found where users 0 to 2 are there and two nodes say so, one of them this.
fn found_at_rest(users: &[u16]) -> (usize, usize) {
    let seen = |node, users: &[u16]| Seen {
        node,
        room: 0,
        users: users.to_vec(),
    };
    let rest = Rest {
        at: Duration::ZERO,
        present: BTreeMap::from([(0, BTreeSet::from([0, 1, 2]))]),
        seen: vec![seen(0, &[2, 0, 1]), seen(1, users)],
    };
    let mut verdict = Verdict::default();
    check_sights(&[], std::slice::from_ref(&rest), &mut verdict);
    assert_eq!(rest.is_right(), verdict.is_clean());
    assert_eq!(verdict.sights, 2);
    (verdict.count(Kind::Ghost), verdict.count(Kind::Unseen))
}

#[test]
fn a_rest_at_which_all_say_what_is_so_is_right() {
    assert_eq!(found_at_rest(&[0, 1, 2]), (0, 0));
}

#[test]
fn a_ghost_at_rest_is_found() {
    assert_eq!(found_at_rest(&[0, 1, 2, 3]), (1, 0));
    assert_eq!(found_at_rest(&[0, 1, 2, STRANGER]), (1, 0));
    assert_eq!(found_at_rest(&[0, 1, 2, 2]), (1, 0));
}

#[test]
fn a_missing_user_at_rest_is_found() {
    assert_eq!(found_at_rest(&[0, 2]), (0, 1));
    assert_eq!(found_at_rest(&[]), (0, 3));
    assert_eq!(found_at_rest(&[0, 1, 3]), (1, 1));
}
