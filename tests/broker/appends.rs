//! Redis: what a node expects of a room is a guess. Messages come out right whatever it guessed.

use std::time::Duration;

use piazza::broker::{Draft, Known, MORE_LIFE, Outcome};
use piazza::history::Span;
use piazza::id::{Mark, RoomId, Seq};
use piazza::protocol::message;

use super::{Bench, draft, room};

const LIST: &str = "chat:history:{general}";

fn expecting(next: u64) -> Known {
    Known {
        base: None,
        next: Seq(next),
        renews: false,
    }
}

async fn append(bench: &Bench, room: &RoomId, drafts: &[Draft], known: Known) -> Vec<Outcome> {
    let answer = bench.broker.append(room, drafts, known, &bench.heard);
    answer.await.expect("an answer").outcomes
}

/// What was answered, what is in the list, and what was published are the same messages, from that place on.
async fn holds(bench: &Bench, room: &RoomId, drafts: &[Draft], outcomes: &[Outcome], first: u64) {
    let marks = (first..).map(Seq).zip(drafts);
    let marks: Vec<Mark> = marks
        .map(|(seq, draft)| Mark { seq, id: draft.id })
        .collect();
    let stored: Vec<Outcome> = marks.iter().copied().map(Outcome::Stored).collect();
    assert_eq!(outcomes, stored);
    let entries = marks.iter().zip(drafts);
    let entries: Vec<Vec<u8>> = entries
        .map(|(mark, draft)| message::entry(*mark, &draft.body))
        .collect();
    let read = bench
        .broker
        .read(room, Span::From(Seq(first), 9))
        .await
        .unwrap();
    let read: Vec<&[u8]> = read
        .messages
        .iter()
        .map(|(_, message)| &message[..])
        .collect();
    assert_eq!(read, entries);
    let published = bench.heard.payloads(room, 1).await;
    let (_, lines) = published.last().unwrap().split_once('\n').unwrap();
    assert_eq!(lines.as_bytes(), entries.join(&b'\n'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_guess_of_the_place_changes_nothing() {
    // Places of one, two and three digits, each guessed right, too low and too high.
    for before in [0, 8, 9, 98, 99] {
        for guess in [1, 9, 10, 99, 100, 1_000, (1 << 53) - 2] {
            let (bench, room) = (Bench::redis().await, room("general"));
            bench.broker.open(&room).await.unwrap();
            if before > 0 {
                let mut last = Vec::new();
                let id = draft(&room, "u", "x", None).id;
                message::put_entry(
                    &mut last,
                    Mark {
                        seq: Seq(before),
                        id,
                    },
                    b",\"x\":1}}",
                );
                let last = String::from_utf8(last).unwrap();
                let redis = bench.redis.as_ref().unwrap();
                redis.cli::<()>(&["RPUSH", LIST, &last]).await;
            }
            let drafts = ["a", "b", "c"].map(|text| draft(&room, "u", text, None));
            let outcomes = append(&bench, &room, &drafts, expecting(guess)).await;
            holds(&bench, &room, &drafts, &outcomes, before + 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_with_a_client_id_among_others_changes_nothing_either() {
    for guess in [1, 9, 10] {
        let (bench, room) = (Bench::redis().await, room("general"));
        bench.broker.open(&room).await.unwrap();
        let drafts = [None, Some("c"), None].map(|named| draft(&room, "u", "x", named));
        let outcomes = append(&bench, &room, &drafts, expecting(guess)).await;
        holds(&bench, &room, &drafts, &outcomes, 1).await;
        let again = append(&bench, &room, &drafts[1..2], expecting(guess)).await;
        let mark = outcomes[1].stored().unwrap();
        assert_eq!(again, [Outcome::Duplicate(mark, 7)]);
        // Twice in one call, of which nothing else is out of the ordinary.
        let twice = [(); 2].map(|()| draft(&room, "u", "y", Some("d")));
        let outcomes = append(&bench, &room, &twice, expecting(guess + 3)).await;
        let mark = Mark {
            seq: Seq(4),
            id: twice[0].id,
        };
        let expected = [Outcome::Stored(mark), Outcome::Duplicate(mark, 7)];
        assert_eq!(outcomes, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_lives_as_long_as_it_is_to_and_is_renewed_only_where_that_is_asked_for() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let redis = bench.redis.as_ref().unwrap();
    let life = Duration::from_secs(7 * 86_400) + MORE_LIFE;
    let is_whole = |left: i64| (life.as_secs() as i64 - 5..=life.as_secs() as i64).contains(&left);
    let one = || [draft(&room, "u", "x", None)];
    // New, so it gets a life though nobody asks for it.
    append(&bench, &room, &one(), expecting(1)).await;
    assert!(is_whole(redis.cli(&["TTL", LIST]).await));
    redis.cli::<()>(&["EXPIRE", LIST, "100"]).await;
    append(&bench, &room, &one(), expecting(2)).await;
    let left: i64 = redis.cli(&["TTL", LIST]).await;
    assert!((1..=100).contains(&left), "{left}");
    let renews = Known {
        renews: true,
        ..expecting(3)
    };
    append(&bench, &room, &one(), renews).await;
    assert!(is_whole(redis.cli(&["TTL", LIST]).await));
}
