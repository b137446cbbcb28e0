//! What the model found in the room's gate and tail, each as the story that it was.

use bytes::Bytes;
use piazza::history::{Decision, Joined, Slice, View, Want, decide};
use piazza::hub::log::Log;
use piazza::hub::tail::{Reading, Tail};
use piazza::id::{Mark, MessageId, RoomId, Seq};
use piazza::protocol::{frame, message};

fn mark(lineage: char, seq: u64) -> Mark {
    Mark {
        seq: Seq(seq),
        id: MessageId::parse(format!("{lineage}{seq:0>11}").as_bytes()).unwrap(),
    }
}

/// The messages up to a place, all still in the history.
fn up_to(lineage: char, last: u64) -> Slice {
    let entry = |mark| (mark, Bytes::from(message::entry(mark, b",\"x\":1}}")));
    Slice {
        messages: (1..=last).map(|seq| entry(mark(lineage, seq))).collect(),
        head: Some(mark(lineage, last)),
        oldest: Seq(1),
    }
}

/// Events that push all that stood before them out of a tail's bytes.
fn push_many_events(tail: &mut Tail) {
    let mut event = Vec::new();
    frame::put_text(&mut event, &[b'e'; 100_000]);
    (0..4).for_each(|_| tail.push_event(&event));
}

#[test]
fn a_read_that_was_overtaken_by_another_is_no_fork() {
    let (mut log, room) = (Log::new(100), RoomId::parse("r").unwrap());
    log.wanted();
    assert!(log.loaded(&room, &up_to('A', 1)));
    let cursor = log.tail().end();
    assert!(log.distrust());
    log.wanted();
    // The room's own read saw two; one for somebody, carried out later, saw three and came first. It
    // has to wait: the own read must find the tail as it was.
    assert!(!log.absorb(&up_to('A', 3)).grew);
    assert!(log.loaded(&room, &up_to('A', 2)));
    assert!(log.absorb(&up_to('A', 3)).grew);
    assert_eq!(log.tail().head().map(|head| head.seq), Some(Seq(3)));
    let mut out = Vec::new();
    log.tail().read(cursor, false, usize::MAX, &mut out);
    assert!(!String::from_utf8_lossy(&out).contains("recovered"));
}

#[test]
fn who_never_saw_the_reset_cannot_go_on_behind_it() {
    for former in [0, 2] {
        let mut tail = Tail::new(100);
        (1..=former).for_each(|seq| tail.push_message(mark('A', seq), b"old"));
        let cursor = tail.end();
        tail.clear();
        (1..=4).for_each(|seq| tail.push_message(mark('B', seq), b"new"));
        tail.reset_here();
        tail.push_event(b"\x81\x05reset");
        push_many_events(&mut tail);
        tail.push_message(mark('B', 5), b"new");
        assert_eq!(
            tail.read(cursor, false, 1_000_000, &mut Vec::new()),
            Reading::Lost
        );
    }
}

#[test]
fn events_before_a_reset_count_as_missed() {
    let mut tail = Tail::new(100);
    let behind = tail.end();
    tail.push_event(b"\x81\x06joined");
    let whole = tail.end();
    tail.clear();
    tail.reset_here();
    tail.push_event(b"\x81\x05reset");
    for (cursor, missed) in [(behind, true), (whole, false)] {
        let mut out = Vec::new();
        let reading = tail.read(cursor, false, 1_000, &mut out);
        assert!(matches!(reading, Reading::Copied { skipped, .. } if skipped == missed));
        assert_eq!(out, b"\x81\x05reset");
    }
}

#[test]
fn a_read_of_another_lineage_is_not_joined_to_a_tail_without_messages_at_hand() {
    let mut tail = Tail::new(100);
    (1..=5).for_each(|seq| tail.push_message(mark('A', seq), b"message"));
    push_many_events(&mut tail);
    assert_eq!(tail.first(), Seq(6));
    let (other, ours) = (up_to('B', 9), up_to('A', 5));
    let want = |past| decide(&Joined { past, tail: &tail }, Want::Newest(3));
    assert_eq!(want(&other), Decision::Read(Seq(3)));
    assert!(matches!(want(&ours), Decision::Answer(page) if page.from == Seq(3)));
}
