//! Who may enter, over several nodes on one Redis; with the embedded broker there is nobody to ask.

use std::time::Duration;

use piazza::broker::Unavailable;
use piazza::broker::places::{Ask, Claim, Connect, Entry, Number, Verdict};
use piazza::id::Incarnation;

use super::Bench;

const KEY: &str = "chat:connections:user:ann";

fn claim<'a>(own: Incarnation, version: u64, held: u32, strike: &'a [Incarnation]) -> Claim<'a> {
    Claim {
        own,
        place: "user:ann",
        version,
        held,
        most: 5,
        strike,
    }
}

async fn enter_one(bench: &Bench, ask: Ask<'_>) -> Result<Entry, Unavailable> {
    bench.broker.enter(&[ask]).await?.remove(0)
}

async fn enter(bench: &Bench, claims: &[Claim<'_>]) -> Verdict {
    let ask = Ask {
        connect: None,
        claims,
    };
    enter_one(bench, ask).await.unwrap().verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_everybody_may_enter() {
    let bench = Bench::embedded().await;
    assert!(!bench.broker.is_shared());
    let own = Incarnation::random();
    assert_eq!(enter(&bench, &[claim(own, 1, 99, &[])]).await, Verdict::In);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sum_is_never_exceeded_and_older_numbers_change_nothing() {
    let bench = Bench::redis().await;
    let (one, two) = (Incarnation::random(), Incarnation::random());
    assert_eq!(enter(&bench, &[claim(one, 2, 3, &[])]).await, Verdict::In);
    // It was overtaken by the one above, which contains it.
    assert_eq!(enter(&bench, &[claim(one, 1, 2, &[])]).await, Verdict::In);
    assert_eq!(enter(&bench, &[claim(two, 1, 2, &[])]).await, Verdict::In);
    let full = Verdict::Full(0, vec![one, two]);
    let mut found = enter(&bench, &[claim(two, 2, 3, &[])]).await;
    if let Verdict::Full(_, holders) = &mut found {
        holders.sort_by_key(|of| *of != one);
    }
    assert_eq!(found, full);
    // Nothing of it stays; and the dead make room.
    assert_eq!(enter(&bench, &[claim(one, 3, 3, &[])]).await, Verdict::In);
    assert_eq!(
        enter(&bench, &[claim(two, 3, 5, &[one])]).await,
        Verdict::In
    );
    let number = |of, version, held| Number {
        place: "user:ann",
        of,
        version,
        held,
    };
    let others = bench
        .broker
        .set_numbers(&[number(one, 9, 1)])
        .await
        .unwrap();
    assert_eq!(others, [(0, two)]);
    // An older number, an older end.
    bench
        .broker
        .set_numbers(&[number(one, 8, 0)])
        .await
        .unwrap();
    assert!(matches!(
        enter(&bench, &[claim(two, 4, 5, &[])]).await,
        Verdict::Full(..)
    ));
    let strike = [Number::strike("user:ann", one), number(two, 5, 0)];
    assert!(bench.broker.set_numbers(&strike).await.unwrap().len() <= 1);
    let redis = bench.redis.as_ref().unwrap();
    let left: i64 = redis.cli(&["EXISTS", KEY]).await;
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_places_all_are_taken_or_none() {
    let bench = Bench::redis().await;
    let (one, two) = (Incarnation::random(), Incarnation::random());
    assert_eq!(enter(&bench, &[claim(one, 1, 5, &[])]).await, Verdict::In);
    let free = Claim {
        place: "ip:192.0.2.1",
        ..claim(two, 1, 1, &[])
    };
    let found = enter(&bench, &[free, claim(two, 2, 1, &[])]).await;
    assert_eq!(found, Verdict::Full(1, vec![one]));
    let redis = bench.redis.as_ref().unwrap();
    let left: i64 = redis
        .cli(&["EXISTS", "chat:connections:ip:192.0.2.1"])
        .await;
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connects_are_counted_in_a_window_that_the_first_begins() {
    let bench = Bench::redis().await;
    let ask = Ask {
        connect: Some(Connect {
            source: "192.0.2.1",
            most: 3,
            window: Duration::from_secs(60),
        }),
        claims: &[],
    };
    for verdict in [Verdict::In, Verdict::In, Verdict::In, Verdict::TooFast] {
        let entry = enter_one(&bench, ask).await.unwrap();
        assert_eq!(entry.verdict, verdict);
        let left = entry.left.unwrap();
        assert!(left > Duration::from_secs(30) && left <= Duration::from_millis(60_001));
    }
    // A counter that lost its end gets one again.
    let redis = bench.redis.as_ref().unwrap();
    let () = redis.cli(&["PERSIST", "chat:connects:192.0.2.1"]).await;
    enter_one(&bench, ask).await.unwrap();
    let left: i64 = redis.cli(&["PTTL", "chat:connects:192.0.2.1"]).await;
    assert!(left > 0, "{left}");
}

/// Those who go in one call are judged as if each had called alone, one after another.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_in_one_call_each_is_judged_for_itself() {
    let bench = Bench::redis().await;
    let redis = bench.redis.as_ref().unwrap();
    let (one, two) = (Incarnation::random(), Incarnation::random());
    let connect = |source| {
        Some(Connect {
            source,
            most: 4,
            window: Duration::from_secs(60),
        })
    };
    // Of five places two are another node's, and one of them a dead one's.
    assert_eq!(enter(&bench, &[claim(two, 1, 2, &[])]).await, Verdict::In);
    let () = redis.cli(&["SET", "chat:connections:user:eve", "x"]).await;
    let () = redis.cli(&["SET", "chat:connects:192.0.2.9", "x"]).await;
    let dead = Incarnation::random();
    assert_eq!(enter(&bench, &[claim(dead, 1, 1, &[])]).await, Verdict::In);
    let of_eve = Claim {
        place: "user:eve",
        ..claim(one, 3, 1, &[])
    };
    let strike = [dead];
    let claims: [&[Claim<'_>]; 8] = [
        &[claim(one, 1, 1, &[])],
        &[claim(one, 2, 2, &[])],
        // The sixth: too many, until the dead one is struck off.
        &[claim(one, 4, 3, &[])],
        &[claim(one, 5, 3, &strike)],
        // The fifth connect of its window, which takes four: no place is looked at.
        &[claim(one, 6, 1, &[])],
        &[of_eve],
        &[],
        // Older than what came before it in the same call, which contains it.
        &[claim(one, 4, 2, &[])],
    ];
    let sources = [1, 1, 1, 1, 1, 2, 9, 3].map(|last| format!("192.0.2.{last}"));
    let asks = claims.iter().zip(&sources).map(|(claims, source)| Ask {
        connect: connect(source),
        claims,
    });
    let asks: Vec<Ask<'_>> = asks.collect();
    let entries = bench.broker.enter(&asks).await.unwrap();
    let verdicts = entries.iter().map(|entry| {
        let entry = entry.as_ref().ok()?;
        assert!(entry.left.unwrap() > Duration::from_secs(30));
        Some(match &entry.verdict {
            Verdict::In => "in",
            Verdict::TooFast => "fast",
            Verdict::Full(0, holders) if holders.len() == 3 => "full",
            Verdict::Full(..) => "full of others",
        })
    });
    let verdicts: Vec<Option<&str>> = verdicts.collect();
    let (entered, fast) = (Some("in"), Some("fast"));
    let expected = [
        entered,
        entered,
        Some("full"),
        entered,
        fast,
        None,
        None,
        entered,
    ];
    assert_eq!(verdicts, expected);
    let counted: i64 = redis.cli(&["GET", "chat:connects:192.0.2.1"]).await;
    assert_eq!(counted, 5);
    let number: String = redis.cli(&["HGET", KEY, one.as_str()]).await;
    assert!(number.starts_with("5 3 "), "{number}");
    let fields: i64 = redis.cli(&["HLEN", KEY]).await;
    assert_eq!(fields, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_isnt_ours_or_is_too_old_counts_for_nothing() {
    let bench = Bench::redis().await;
    let redis = bench.redis.as_ref().unwrap();
    let (own, old) = (Incarnation::random(), Incarnation::random());
    // As a Redis would have it that came back with data of half an hour ago.
    let second = crate::support::now_ms() / 1_000 - 1_800;
    let aged = format!("7 5 {second}");
    for (field, value) in [(old.as_str(), &*aged), ("rubbish", "x"), ("", "1 2")] {
        let _: i64 = redis.cli(&["HSET", KEY, field, value]).await;
    }
    assert_eq!(enter(&bench, &[claim(own, 1, 5, &[])]).await, Verdict::In);
    let fields: Vec<String> = redis.cli(&["HKEYS", KEY]).await;
    assert_eq!(fields, [own.as_str()]);
    // A key that is something else stands in the way of nobody else's.
    let () = redis.cli(&["SET", "chat:connections:user:eve", "x"]).await;
    let number = |place| Number {
        place,
        of: own,
        version: 2,
        held: 1,
    };
    let told = bench
        .broker
        .set_numbers(&[number("user:eve"), number("user:bob")])
        .await;
    assert_eq!(told, Ok(Vec::new()));
    let told: i64 = redis.cli(&["HLEN", "chat:connections:user:bob"]).await;
    assert_eq!(told, 1);
    let strange = Claim {
        place: "user:eve",
        ..claim(own, 3, 1, &[])
    };
    let ask = Ask {
        connect: None,
        claims: &[strange],
    };
    assert!(enter_one(&bench, ask).await.is_err());
}
