//! What comes over a room's channel: whatever it is, the gate lets in only what follows its head, asks
//! for a read where something doesn't fit, and what members read stays whole frames.

use std::time::Instant;

use bytes::Bytes;
use piazza::broker::payload::{self, Payload};
use piazza::history::{Slice, View};
use piazza::hub::log::Log;
use piazza::hub::tail::Reading;
use piazza::id::{Mark, MessageId, RoomId, Seq};
use piazza::presence::follow::{At, Step};
use piazza::presence::nodes::Nodes;
use piazza::presence::{Presence, Published, Roster};
use piazza::protocol::{frame, message};

use crate::fuzz;

fn opened() -> (Log, RoomId) {
    let mark = Mark {
        seq: Seq(1),
        id: MessageId::parse(b"AAAAAAAAAAA1").unwrap(),
    };
    let slice = Slice {
        messages: vec![(
            mark,
            Bytes::from(message::entry(mark, b",\"roomId\":\"r\"}}")),
        )],
        head: Some(mark),
        oldest: Seq(1),
    };
    let (mut log, room) = (Log::new(10), RoomId::parse("r").unwrap());
    log.wanted();
    assert!(log.loaded(&room, &slice));
    (log, room)
}

#[test]
fn any_payload_leaves_the_log_whole() {
    fuzz("payload", |bytes| {
        let (mut log, room) = opened();
        let (before, cursor) = (log.tail().head().unwrap(), log.tail().end());
        let delivered = log.deliver(bytes);
        let head = log.tail().head().unwrap();
        match payload::parse(bytes) {
            None => assert!(delivered.mend && !delivered.grew && head == before),
            Some(Payload::Event(_)) => assert!(delivered.grew && !delivered.mend && head == before),
            Some(Payload::Probe) => {
                assert!(!delivered.grew && !delivered.mend && head == before);
            }
            Some(Payload::Roster(published)) => {
                assert!(!delivered.grew && !delivered.mend && head == before);
                follows_again(published);
            }
            Some(Payload::Messages { prev, lines }) => {
                assert_eq!(delivered.grew, head.seq > before.seq);
                assert!(head == before || head.seq > before.seq);
                // Nothing enters that doesn't say that it follows the head, or repeats it first.
                let repeats = message::mark(lines) == Some(before);
                assert!(!delivered.grew || prev == Some(before.id) || repeats);
                assert!(
                    delivered.grew
                        || delivered.mend
                        || bytes.windows(12).any(|id| id == b"AAAAAAAAAAA1")
                );
            }
        }
        reads_whole(&log, cursor);
        // Whatever it was, the history decides in the end.
        log.distrust();
        let empty = Slice {
            oldest: Seq(1),
            ..Slice::default()
        };
        let reads = (1..5).find(|_| {
            log.wanted();
            log.loaded(&room, &empty)
        });
        assert!(reads.is_some());
        // What was held back may be the first message of the history that begins anew.
        let begins = matches!(
            payload::parse(bytes),
            Some(Payload::Messages { prev: None, .. })
        );
        assert!(begins || log.tail().head().is_none());
        reads_whole(&log, cursor);
    });
}

/// Whatever was published of a roster, it is followed again after a read; and who was only ever published
/// is gone when its node is.
fn follows_again(published: Published) {
    let (room, nodes) = (RoomId::parse("r").unwrap(), Nodes::alone());
    let at = At {
        room: &room,
        timestamp: 1,
        now: Instant::now(),
    };
    let mut presence = Presence::new(3);
    presence.loaded(&Roster::default(), nodes.own(), &nodes, at);
    let holders: Vec<_> = published.changes.iter().map(|c| c.incarnation).collect();
    presence.deliver(published, nodes.own(), &nodes, at);
    presence.doubt();
    holders.iter().for_each(|holder| presence.bury(*holder));
    let own = nodes.own().unwrap();
    for _ in 0..4 {
        match presence.step(own, at.now) {
            Step::Read => drop(presence.loaded(&Roster::default(), Some(own), &nodes, at)),
            Step::Tell(changes) => drop(presence.told(changes, None, at)),
            Step::Wait | Step::Rest => {}
        }
    }
    assert_eq!(presence.version(), None);
    assert!(matches!(presence.step(own, at.now), Step::Rest));
    holders.iter().for_each(|holder| presence.bury(*holder));
    while let Step::Tell(changes) = presence.step(own, at.now) {
        presence.told(changes, None, at);
    }
    assert_eq!(presence.members().entries().count(), 0);
}

fn reads_whole(log: &Log, mut cursor: u64) {
    for budget in [1, 50, 1 << 20, 1 << 20] {
        let mut out = Vec::new();
        let Reading::Copied { after, .. } = log.tail().read(cursor, false, budget, &mut out) else {
            panic!("a member that was there is lost");
        };
        cursor = after;
        let mut rest = &out[..];
        while !rest.is_empty() {
            let len = frame::frame_len(rest).expect("a whole header");
            rest = rest.get(len..).expect("a whole frame");
        }
    }
    assert_eq!(cursor, log.tail().end());
}
