//! What both brokers promise of users' windows of sends; and how Redis keeps them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use piazza::broker::toll::Pays;
use piazza::broker::{Appended, Draft, Outcome};
use piazza::history::Span;
use piazza::id::{Mark, RoomId, Seq};

use super::{Bench, draft, room};

/// What a user may send in one window.
pub(super) const LIMIT: &str = "40";
/// Longer than a slow test takes.
pub(super) const WINDOW: &str = "1m";

const MINUTE: Duration = Duration::from_secs(60);

on_both_brokers! {
    nobody_sends_more_than_the_limit_over_all_rooms,
    a_block_is_paid_ahead_where_it_is_asked_for,
    who_sends_too_many_disturbs_nobody,
    who_doesnt_pay_isnt_counted,
    a_client_id_that_is_known_costs_nothing,
}

/// A draft that pays, and asks for a block.
fn paying(room: &RoomId, user: &str, text: &str, client_id: Option<&str>) -> Draft {
    Draft {
        pays: Pays::WithBlock,
        ..draft(room, user, text, client_id)
    }
}

async fn append(bench: &Bench, room: &RoomId, drafts: &[Draft]) -> Appended {
    let answer = bench.broker.append(room, drafts, None, &bench.heard).await;
    answer.expect("an answer")
}

/// Uses up what a user has left; how much that was, blocks included.
async fn use_up(bench: &Bench, room: &RoomId, user: &str) -> u32 {
    let mut used = 0;
    loop {
        let answer = append(bench, room, &[paying(room, user, "x", None)]).await;
        used += answer.blocks.iter().map(|block| block.ahead).sum::<u32>();
        match answer.outcomes[0] {
            Outcome::Stored(_) => used += 1,
            Outcome::Limited(left) => {
                assert!(left > Duration::ZERO && left <= MINUTE, "{left:?}");
                return used;
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn nobody_sends_more_than_the_limit_over_all_rooms(bench: Bench) {
    let (one, two) = (room("one"), room("two"));
    append(&bench, &one, &[paying(&one, "u", "x", None)]).await;
    assert_eq!(use_up(&bench, &two, "u").await, 40 - 1 - 2);
    assert_eq!(use_up(&bench, &one, "u").await, 0);
    assert_eq!(use_up(&bench, &one, "another").await, 40);
    // Ids that look like parts of names in Redis are ids.
    for odd in ["}", "{}", "2:u", "u}:{one", "*"] {
        assert_eq!(use_up(&bench, &one, odd).await, 40, "{odd}");
    }
}

async fn a_block_is_paid_ahead_where_it_is_asked_for(bench: Bench) {
    let room = room("general");
    let mut drafts = ["u", "v", "u", "u", "v"].map(|user| paying(&room, user, "x", None));
    drafts[2..]
        .iter_mut()
        .for_each(|draft| draft.pays = Pays::One);
    let answer = append(&bench, &room, &drafts).await;
    let blocks: Vec<_> = answer.blocks.iter().map(|b| (b.nth, b.ahead)).collect();
    assert_eq!(blocks, [(0, 39 / 16), (1, 39 / 16)]);
    let lefts = answer.blocks.iter().map(|block| block.left);
    assert!(
        lefts
            .clone()
            .all(|left| left <= MINUTE && left > MINUTE / 2)
    );
    assert_eq!(use_up(&bench, &room, "u").await, 40 - 3 - 2);
    assert_eq!(use_up(&bench, &room, "v").await, 40 - 2 - 2);
}

async fn who_sends_too_many_disturbs_nobody(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    use_up(&bench, &room, "u").await;
    let before = bench.broker.read(&room, Span::Newest(9)).await.unwrap();
    let before = before.head.unwrap();
    let drafts = [
        paying(&room, "v", "one", None),
        paying(&room, "u", "too many", None),
        paying(&room, "v", "two", None),
        paying(&room, "u", "too many", Some("c")),
        paying(&room, "v", "three", Some("c")),
    ];
    let answer = append(&bench, &room, &drafts).await;
    let mut next = before.seq;
    for (draft, outcome) in drafts.iter().zip(answer.outcomes) {
        if draft.user.as_str() == "u" {
            assert!(matches!(outcome, Outcome::Limited(_)), "{outcome:?}");
        } else {
            next = Seq(next.0 + 1);
            let mark = Mark {
                seq: next,
                id: draft.id,
            };
            assert_eq!(outcome, Outcome::Stored(mark));
        }
    }
    let after = bench.broker.read(&room, Span::Newest(3)).await.unwrap();
    let texts = after.messages.iter().map(|(_, entry)| {
        let envelope: serde_json::Value = serde_json::from_slice(entry).unwrap();
        envelope["payload"]["text"].as_str().unwrap().to_owned()
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["one", "two", "three"]);
}

async fn who_doesnt_pay_isnt_counted(bench: Bench) {
    let room = room("general");
    for _ in 0..50 {
        let answer = append(&bench, &room, &[draft(&room, "u", "x", None)]).await;
        assert!(matches!(answer.outcomes[0], Outcome::Stored(_)));
        assert_eq!(answer.blocks, []);
    }
    use_up(&bench, &room, "u").await;
    let paid = append(&bench, &room, &[draft(&room, "u", "x", None)]).await;
    assert!(matches!(paid.outcomes[0], Outcome::Stored(_)));
}

async fn a_client_id_that_is_known_costs_nothing(bench: Bench) {
    let room = room("general");
    let first = append(&bench, &room, &[paying(&room, "u", "x", Some("c"))]).await;
    let Outcome::Stored(mark) = first.outcomes[0] else {
        panic!("{first:?}");
    };
    let again = append(&bench, &room, &[paying(&room, "u", "x", Some("c"))]).await;
    assert_eq!(again.outcomes, [Outcome::Duplicate(mark, 7)]);
    // One send and its block.
    assert_eq!(use_up(&bench, &room, "u").await, 40 - 1 - 2);
    // Also where nothing is left: what is stored is never called one too many.
    let late = append(&bench, &room, &[paying(&room, "u", "x", Some("c"))]).await;
    assert_eq!(late.outcomes, [Outcome::Duplicate(mark, 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_was_stored_is_paid_once() {
    let (bench, room) = (Bench::redis().await, room("general"));
    for client_id in [None, Some("c")] {
        let user = client_id.unwrap_or("none");
        let mut draft = paying(&room, user, "x", client_id);
        let first = append(&bench, &room, std::slice::from_ref(&draft)).await;
        for _ in 0..3 {
            draft.retry();
            let again = append(&bench, &room, std::slice::from_ref(&draft)).await;
            assert_eq!(again.outcomes, first.outcomes);
            assert_eq!(again.blocks, []);
        }
        assert_eq!(use_up(&bench, &room, user).await, 40 - 1 - 2);
        // Found also when nothing is left; one that never was stored is not.
        draft.retry();
        let late = append(&bench, &room, std::slice::from_ref(&draft)).await;
        assert!(
            matches!(late.outcomes[0], Outcome::Stored(_) | Outcome::Unknowable),
            "{late:?}"
        );
        let mut other = paying(&room, user, "y", Some("y"));
        other.retry();
        let refused = append(&bench, &room, &[other]).await;
        assert!(matches!(refused.outcomes[0], Outcome::Limited(_)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_one_key_that_goes_with_it() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let redis = bench.redis.as_ref().unwrap();
    let key = "chat:rate:{1:u}";
    let mut ends = None;
    for n in 1..=5 {
        append(&bench, &room, &[paying(&room, "u", "x", None)]).await;
        let used: u32 = redis.cli(&["GET", key]).await;
        assert!(used > n, "{used}");
        let left: u64 = redis.cli(&["PTTL", key]).await;
        let end = Instant::now() + Duration::from_millis(left);
        // It begins with the first send, and none after it moves its end.
        let first = *ends.get_or_insert(end);
        assert!(end.max(first) - end.min(first) < Duration::from_millis(500));
    }
    let second = bench.second().await;
    let used: u32 = redis.cli(&["GET", key]).await;
    assert_eq!(use_up(&second, &room, "u").await, 40 - used);
    // A node that only looks doesn't lengthen it; and what is no window makes way for one.
    for foreign in [
        &["SET", key, "nonsense"][..],
        &["SET", key, "99"],
        &["LPUSH", key, "x"],
    ] {
        redis.cli::<()>(&["DEL", key]).await;
        redis.cli::<()>(foreign).await;
        assert_eq!(use_up(&second, &room, "u").await, 40, "{foreign:?}");
    }
    redis.cli::<()>(&["PEXPIRE", key, "50"]).await;
    super::eventually(super::SOON, "the next window", || async {
        redis.cli::<u32>(&["EXISTS", key]).await == 0
    })
    .await;
    assert_eq!(use_up(&second, &room, "u").await, 40);
    let keys: HashMap<String, String> = HashMap::from([(key.to_owned(), "40".to_owned())]);
    let all: Vec<String> = redis.cli(&["KEYS", "chat:rate:*"]).await;
    assert_eq!(all, keys.into_keys().collect::<Vec<_>>());
}
