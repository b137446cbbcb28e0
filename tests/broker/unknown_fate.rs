//! Redis: appends whose answer was lost, and lists that hold something else.

use std::time::Duration;

use piazza::broker::{AppendError, Draft, Outcome, Unavailable};
use piazza::history::Span;
use piazza::id::{Mark, RoomId, Seq};

use super::support::{SOON, eventually, within};
use super::{Bench, draft, room};

async fn append_one(bench: &Bench, room: &RoomId, draft: &Draft, base: Option<Mark>) -> Outcome {
    let drafts = std::slice::from_ref(draft);
    bench
        .broker
        .append(room, drafts, base, &bench.heard)
        .await
        .expect("an answer")
        .outcomes[0]
}

async fn kept(bench: &Bench, room: &RoomId) -> usize {
    bench
        .broker
        .read(room, Span::Newest(9))
        .await
        .unwrap()
        .messages
        .len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_try_that_was_stored_is_found() {
    let (bench, room) = (Bench::redis().await, room("general"));
    for client_id in [None, Some("c")] {
        let mut draft = draft(&room, "u", "hello", client_id);
        let first = append_one(&bench, &room, &draft, None).await;
        draft.retry();
        assert_eq!(
            append_one(&bench, &room, &draft, None).await,
            first,
            "{client_id:?}"
        );
    }
    assert_eq!(kept(&bench, &room).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_try_that_was_not_stored_is_stored_under_a_new_id() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let base = match append_one(&bench, &room, &draft(&room, "u", "before", None), None).await {
        Outcome::Stored(mark) => mark,
        other => panic!("{other:?}"),
    };
    let mut lost = draft(&room, "u", "lost", None);
    lost.retry();
    let expected = Outcome::Stored(Mark {
        seq: Seq(2),
        id: lost.id,
    });
    assert_eq!(append_one(&bench, &room, &lost, Some(base)).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_list_no_longer_tells_is_unknowable_without_a_client_id() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let base = match append_one(&bench, &room, &draft(&room, "u", "before", None), None).await {
        Outcome::Stored(mark) => mark,
        other => panic!("{other:?}"),
    };
    // Five are kept: the base goes, and with it the knowledge of what came right after it.
    for n in 0..5 {
        append_one(
            &bench,
            &room,
            &draft(&room, "u", &n.to_string(), None),
            None,
        )
        .await;
    }
    let mut lost = draft(&room, "u", "lost", None);
    lost.retry();
    assert_eq!(
        append_one(&bench, &room, &lost, Some(base)).await,
        Outcome::Unknowable
    );
    let mut named = draft(&room, "u", "named", Some("c"));
    named.retry();
    let expected = Outcome::Stored(Mark {
        seq: Seq(7),
        id: named.id,
    });
    assert_eq!(
        append_one(&bench, &room, &named, Some(base)).await,
        expected
    );
    // A history that is gone altogether, where the node had seen one, tells nothing either.
    bench
        .redis
        .as_ref()
        .unwrap()
        .cli::<i64>(&["DEL", "chat:history:{general}"])
        .await;
    lost.retry();
    assert_eq!(
        append_one(&bench, &room, &lost, Some(base)).await,
        Outcome::Unknowable
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_into_a_stopped_redis_is_stored_once() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let redis = bench.redis.as_ref().unwrap();
    let mut draft = draft(&room, "u", "hello", None);
    redis.freeze();
    let call = bench
        .broker
        .append(&room, std::slice::from_ref(&draft), None, &bench.heard);
    let answer = within(Duration::from_secs(10), "the call to be given up", call).await;
    assert_eq!(answer, Err(AppendError::Lost));
    redis.thaw();
    within(
        Duration::from_secs(10),
        "Redis to be back",
        bench.broker.up(),
    )
    .await;
    draft.retry();
    assert!(matches!(
        append_one(&bench, &room, &draft, None).await,
        Outcome::Stored(_)
    ));
    assert_eq!(
        kept(&bench, &room).await,
        1,
        "the former try must not run after the retry"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nothing_is_stored_and_it_is_said() {
    let (mut bench, room) = (Bench::redis().await, room("general"));
    bench.redis.as_mut().unwrap().kill().await;
    let broker = bench.broker.clone();
    // Until the loss is noticed, an append is of unknown fate.
    let try_one = || async {
        let drafts = [draft(&room, "u", "x", None)];
        broker.append(&room, &drafts, None, &bench.heard).await
    };
    eventually(SOON, "the loss to be noticed", || async {
        try_one().await == Err(AppendError::Unavailable)
    })
    .await;
    assert!(!broker.health().up);
    assert_eq!(
        bench.broker.read(&room, Span::Newest(1)).await,
        Err(Unavailable)
    );
    assert_eq!(bench.broker.open(&room).await, Err(Unavailable));
    bench.redis.as_mut().unwrap().start_again().await;
    eventually(SOON, "Redis to be back", || async { broker.health().up }).await;
    assert!(matches!(
        append_one(&bench, &room, &draft(&room, "u", "x", None), None).await,
        Outcome::Stored(_)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_holds_something_else_is_refused_and_left_alone() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let redis = bench.redis.as_ref().unwrap();
    for foreign in [
        &["SET", "chat:history:{general}", "x"][..],
        &["RPUSH", "chat:history:{general}", "x"],
    ] {
        redis.cli::<()>(&["DEL", "chat:history:{general}"]).await;
        redis.cli::<()>(foreign).await;
        let refused = bench
            .broker
            .append(&room, &[draft(&room, "u", "x", None)], None, &bench.heard)
            .await;
        assert!(
            matches!(refused, Err(AppendError::Refused(_))),
            "{refused:?}"
        );
        assert_eq!(
            bench.broker.read(&room, Span::Newest(1)).await,
            Err(Unavailable)
        );
    }
    assert_eq!(
        redis.cli::<i64>(&["LLEN", "chat:history:{general}"]).await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgot_the_scripts_is_told_them_again() {
    let (bench, room) = (Bench::redis().await, room("general"));
    bench
        .redis
        .as_ref()
        .unwrap()
        .cli::<()>(&["SCRIPT", "FLUSH"])
        .await;
    assert!(matches!(
        append_one(&bench, &room, &draft(&room, "u", "x", None), None).await,
        Outcome::Stored(_)
    ));
    assert_eq!(kept(&bench, &room).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_stores_nothing_and_says_so() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let redis = bench.redis.as_ref().unwrap();
    redis.cli::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = bench
        .broker
        .append(
            &room,
            &[draft(&room, "u", "x", Some("c"))],
            None,
            &bench.heard,
        )
        .await;
    assert_eq!(refused, Err(AppendError::Unavailable));
    redis.cli::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(matches!(
        append_one(&bench, &room, &draft(&room, "u", "x", Some("c")), None).await,
        Outcome::Stored(_)
    ));
    assert_eq!(kept(&bench, &room).await, 1);
}
