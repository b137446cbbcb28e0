//! Who is judged alive or dead, beat by beat.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Clock {
    nodes: Nodes,
    own: Incarnation,
    now: Instant,
}

impl Clock {
    fn new() -> Clock {
        let (nodes, own, now) = (Nodes::new(), Incarnation::random(), Instant::now());
        nodes.begin(own, now);
        Clock { nodes, own, now }
    }

    fn beat(&mut self, held: bool, others: &[(Incarnation, bool)]) -> Verdict {
        self.now += BEAT;
        let left = |leased: bool| leased.then_some(SECOND);
        let mut nodes = vec![(self.own, Some(LEASE), Vec::new())];
        nodes.extend(
            others
                .iter()
                .map(|(of, leased)| (*of, left(*leased), Vec::new())),
        );
        let beat = Beat {
            listed: true,
            held,
            nodes,
        };
        self.nodes
            .judge(&beat, self.now, self.now + Duration::from_millis(1))
    }
}

#[test]
fn whose_lease_has_run_out_is_struck_off_and_then_dead() {
    let (mut clock, other) = (Clock::new(), Incarnation::random());
    (0..5).for_each(|_| drop(clock.beat(true, &[(other, true)])));
    assert_eq!(clock.nodes.standing(other), Standing::Alive);
    let verdict = clock.beat(true, &[(other, false)]);
    assert_eq!((verdict.strike, verdict.dead), (vec![other], vec![]));
    assert_eq!(clock.nodes.standing(other), Standing::Alive);
    let verdict = clock.beat(true, &[]);
    assert_eq!((verdict.strike, verdict.dead), (vec![], vec![other]));
    assert_eq!(clock.nodes.standing(other), Standing::Dead);
    assert_eq!(clock.beat(true, &[]), Verdict::default());
    clock.nodes.heard(other, clock.now);
    assert_eq!(clock.nodes.standing(other), Standing::Dead);
}

/// Else it would go on as one that the others have buried, and nobody would ever tell it.
#[test]
fn who_renews_before_it_is_struck_off_was_never_dead() {
    let (mut clock, other) = (Clock::new(), Incarnation::random());
    (0..5).for_each(|_| drop(clock.beat(true, &[(other, true)])));
    assert_eq!(clock.beat(true, &[(other, false)]).strike, [other]);
    assert_eq!(clock.beat(true, &[(other, true)]), Verdict::default());
    assert_eq!(clock.nodes.standing(other), Standing::Alive);
}

#[test]
fn who_was_struck_off_by_others_is_dead_too() {
    let (mut clock, other) = (Clock::new(), Incarnation::random());
    (0..5).for_each(|_| drop(clock.beat(true, &[(other, true)])));
    assert_eq!(clock.beat(true, &[]).dead, [other]);
}

#[test]
fn nobody_is_judged_for_a_lease_time_after_a_fault() {
    let (mut clock, other) = (Clock::new(), Incarnation::random());
    (0..5).for_each(|_| drop(clock.beat(true, &[(other, true)])));
    // The broker froze: all leases ran out.
    assert_eq!(clock.beat(false, &[(other, false)]), Verdict::default());
    assert_eq!(clock.beat(true, &[(other, false)]), Verdict::default());
    assert_eq!(clock.beat(true, &[]), Verdict::default());
    assert_eq!(clock.nodes.standing(other), Standing::Alive);
    let verdict = clock.beat(true, &[]);
    assert_eq!((verdict.dead, verdict.read_again), (vec![other], true));
}

#[test]
fn who_froze_judges_nobody() {
    let (mut clock, other) = (Clock::new(), Incarnation::random());
    (0..5).for_each(|_| drop(clock.beat(true, &[(other, true)])));
    clock.now += 20 * SECOND;
    assert_eq!(clock.beat(true, &[(other, false)]), Verdict::default());
    assert!(!clock.nodes.steady());
}

#[test]
fn what_an_outage_of_all_left_is_found() {
    let (mut clock, ghost) = (Clock::new(), Incarnation::random());
    let strike: Vec<_> = (0..4)
        .flat_map(|_| clock.beat(true, &[(ghost, false)]).strike)
        .collect();
    assert_eq!(strike, [ghost]);
    assert_eq!(clock.nodes.standing(ghost), Standing::Unknown);
    let verdict = clock.beat(true, &[]);
    assert_eq!((verdict.dead, verdict.read_again), (vec![ghost], true));
    assert_eq!(clock.nodes.standing(ghost), Standing::Dead);
}

/// Its entries in a room that nobody was in when the others buried it would stay as long as the room is used.
#[test]
fn a_trace_of_one_that_was_struck_off_before_this_node_began_is_found() {
    let (mut clock, ghost) = (Clock::new(), Incarnation::random());
    clock.nodes.suspect(ghost, clock.now);
    (0..3).for_each(|_| assert_eq!(clock.beat(true, &[]).dead, []));
    let verdict = clock.beat(true, &[]);
    assert_eq!((verdict.dead, verdict.read_again), (vec![ghost], true));
}

#[test]
fn a_trace_of_one_that_has_just_begun_is_no_suspicion() {
    let (mut clock, young) = (Clock::new(), Incarnation::random());
    (0..5).for_each(|_| drop(clock.beat(true, &[])));
    clock.nodes.suspect(young, clock.now + BEAT);
    assert_eq!(clock.beat(true, &[]), Verdict::default());
    assert!(clock.beat(true, &[(young, true)]).read_again);
    assert_eq!(clock.nodes.standing(young), Standing::Alive);
}

#[test]
fn who_is_heard_of_after_the_beat_went_out_is_not_missed() {
    let (mut clock, other) = (Clock::new(), Incarnation::random());
    (0..5).for_each(|_| drop(clock.beat(true, &[])));
    clock.nodes.heard(other, clock.now + BEAT);
    assert!(clock.beat(true, &[]).dead.is_empty());
    assert_eq!(clock.beat(true, &[]).dead, [other]);
}
