//! What both brokers promise.

use piazza::broker::Outcome;
use piazza::history::Span;
use piazza::id::{Mark, RoomId, Seq};
use piazza::protocol::message;
use serde_json::Value;

use super::{Bench, draft, room};

on_both_brokers! {
    appends_get_the_next_places,
    a_payload_is_what_is_stored_and_chains_to_the_one_before,
    the_history_is_capped,
    spans_are_read,
    a_client_id_stores_once,
    events_are_delivered_and_not_kept,
    rooms_are_apart,
    a_closed_room_is_quiet_and_opens_again,
    two_appends_at_once_share_no_place,
}

fn stored(outcomes: &[Outcome]) -> Vec<Mark> {
    let mark = |outcome: &Outcome| match outcome {
        Outcome::Stored(mark) => *mark,
        other => panic!("not stored: {other:?}"),
    };
    outcomes.iter().map(mark).collect()
}

/// Appends that many messages, each by itself.
async fn fill(bench: &Bench, room: &RoomId, count: usize) -> Vec<Mark> {
    let mut marks = Vec::new();
    for n in 0..count {
        marks.extend(stored(
            &bench
                .append(room, &[draft(room, "u", &n.to_string(), None)])
                .await,
        ));
    }
    marks
}

async fn appends_get_the_next_places(bench: Bench) {
    let room = room("general");
    let drafts = [
        draft(&room, "u", "one", None),
        draft(&room, "u", "two", None),
    ];
    let first = stored(&bench.append(&room, &drafts).await);
    assert_eq!(
        first,
        [
            Mark {
                seq: Seq(1),
                id: drafts[0].id
            },
            Mark {
                seq: Seq(2),
                id: drafts[1].id
            }
        ]
    );
    assert_eq!(fill(&bench, &room, 1).await[0].seq, Seq(3));
}

async fn a_payload_is_what_is_stored_and_chains_to_the_one_before(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    let first = fill(&bench, &room, 1).await[0];
    let two = [
        draft(&room, "u", "\"two\"\n", None),
        draft(&room, "u", "three", None),
    ];
    bench.append(&room, &two).await;
    let payloads = bench.heard.payloads(&room, 2).await;
    let slice = bench.broker.read(&room, Span::Newest(5)).await.unwrap();
    let texts: Vec<&str> = slice
        .messages
        .iter()
        .map(|(_, bytes)| std::str::from_utf8(bytes).unwrap())
        .collect();
    assert_eq!(payloads[0], format!("m\n{}", texts[0]));
    assert_eq!(
        payloads[1],
        format!("m{}\n{}\n{}", first.id, texts[1], texts[2])
    );
    let envelope: Value = serde_json::from_str(texts[1]).unwrap();
    assert_eq!(envelope["payload"]["text"], "\"two\"\n");
    assert_eq!(envelope["payload"]["seq"], 2);
}

async fn the_history_is_capped(bench: Bench) {
    let room = room("general");
    let marks = fill(&bench, &room, 8).await;
    let slice = bench.broker.read(&room, Span::Newest(100)).await.unwrap();
    let kept: Vec<Mark> = slice.messages.iter().map(|(mark, _)| *mark).collect();
    assert_eq!(kept, marks[3..]);
    assert_eq!((slice.oldest, slice.head), (Seq(4), marks.last().copied()));
    assert!(
        slice
            .messages
            .iter()
            .all(|(mark, bytes)| message::mark(bytes) == Some(*mark))
    );
}

async fn spans_are_read(bench: Bench) {
    let room = room("general");
    let empty = bench.broker.read(&room, Span::Newest(3)).await.unwrap();
    assert_eq!(
        (empty.messages.len(), empty.head, empty.oldest),
        (0, None, Seq(1))
    );
    fill(&bench, &room, 8).await;
    for (span, expected) in [
        (Span::Newest(2), vec![7, 8]),
        (Span::Newest(0), vec![]),
        (Span::From(Seq(6), 2), vec![6, 7]),
        (Span::From(Seq(1), 2), vec![4, 5]),
        (Span::From(Seq(5), usize::MAX), vec![5, 6, 7, 8]),
        (Span::From(Seq(8), usize::MAX), vec![8]),
        (Span::From(Seq(9), usize::MAX), vec![]),
        (Span::From(Seq::MAX, usize::MAX), vec![]),
    ] {
        let slice = bench.broker.read(&room, span).await.unwrap();
        let places: Vec<u64> = slice.messages.iter().map(|(mark, _)| mark.seq.0).collect();
        assert_eq!(places, expected, "{span:?}");
        assert_eq!(slice.head.unwrap().seq, Seq(8));
    }
}

async fn a_client_id_stores_once(bench: Bench) {
    let (general, other) = (room("general"), room("other"));
    let first = stored(
        &bench
            .append(&general, &[draft(&general, "u", "one", Some("c"))])
            .await,
    )[0];
    let again = [
        draft(&general, "u", "again", Some("c")),
        draft(&general, "v", "another user", Some("c")),
        draft(&general, "v", "twice in one call", Some("c")),
    ];
    let outcomes = bench.append(&general, &again).await;
    let second = Mark {
        seq: Seq(2),
        id: again[1].id,
    };
    let expected = [
        Outcome::Duplicate(first, 7),
        Outcome::Stored(second),
        Outcome::Duplicate(second, 7),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(
        stored(
            &bench
                .append(&other, &[draft(&other, "u", "another room", Some("c"))])
                .await
        )[0]
        .seq,
        Seq(1)
    );
    assert_eq!(
        bench
            .broker
            .read(&general, Span::Newest(9))
            .await
            .unwrap()
            .messages
            .len(),
        2
    );
}

async fn events_are_delivered_and_not_kept(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    bench
        .broker
        .publish(&room, b"{\"type\":\"typing\"}", &bench.heard);
    assert_eq!(
        bench.heard.payloads(&room, 1).await,
        ["e{\"type\":\"typing\"}"]
    );
    assert_eq!(
        bench
            .broker
            .read(&room, Span::Newest(9))
            .await
            .unwrap()
            .head,
        None
    );
}

async fn rooms_are_apart(bench: Bench) {
    let (one, two) = (room("one"), room("two"));
    bench.broker.open(&one).await.unwrap();
    bench.broker.open(&two).await.unwrap();
    fill(&bench, &one, 2).await;
    assert_eq!(fill(&bench, &two, 1).await[0].seq, Seq(1));
    assert_eq!(bench.heard.payloads(&two, 1).await.len(), 1);
    assert_eq!(bench.heard.payloads(&one, 2).await.len(), 2);
}

async fn a_closed_room_is_quiet_and_opens_again(bench: Bench) {
    let room = room("general");
    for _ in 0..20 {
        bench.broker.open(&room).await.unwrap();
        bench.broker.close(&room);
    }
    bench.broker.open(&room).await.unwrap();
    fill(&bench, &room, 1).await;
    assert_eq!(bench.heard.payloads(&room, 1).await.len(), 1);
}

async fn two_appends_at_once_share_no_place(bench: Bench) {
    let room = room("general");
    let one = || async {
        stored(&bench.append(&room, &[draft(&room, "u", "x", None)]).await)[0]
            .seq
            .0
    };
    let mut places = futures_util::future::join_all((0..50).map(|_| one())).await;
    places.sort_unstable();
    assert_eq!(places, (1..=50).collect::<Vec<u64>>());
}
