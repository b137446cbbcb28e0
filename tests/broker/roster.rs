//! What both brokers promise of a room's roster: entries set and removed absolutely, each change that has
//! an effect published once, in a chain of versions.

use piazza::broker::Unavailable;
use piazza::broker::payload::{self, Payload};
use piazza::id::{Incarnation, Mark, RoomId, Seq, UserId};
use piazza::presence::{Change, Published, Roster};

use super::support::{SOON, eventually};
use super::{Bench, room};

on_both_brokers! {
    a_room_that_nobody_ever_entered_has_no_version,
    entries_are_set_and_removed_absolutely,
    versions_make_a_chain,
    only_changes_with_an_effect_are_published,
    a_repeated_call_does_nothing,
    another_name_is_a_change,
    a_call_keeps_the_order_of_its_changes,
    names_of_any_kind_come_back_as_they_were,
    a_thousand_changes_go_in_one_call,
    two_calls_at_once_share_no_version,
    rosters_and_logs_are_apart,
}

/// Names that a careless text format would take for something else.
pub(super) const HOSTILE: [&str; 16] = [
    "a\nb",
    "a\r\nb",
    "\n",
    "\t",
    "\0",
    "\"",
    "\\\"",
    "['a']",
    "\",\"",
    " ",
    "+a",
    "-a",
    "\u{7f}\u{2028}",
    "ß日本🎉",
    "{a}",
    "abcdefghijklmnopqrst",
];

fn incarnation(letter: &str) -> Incarnation {
    Incarnation::parse(letter.repeat(Incarnation::LEN).as_bytes()).unwrap()
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn set(node: &str, id: &str, name: &str) -> Change {
    Change {
        incarnation: incarnation(node),
        user: user(id),
        name: Some(name.into()),
    }
}

fn unset(node: &str, id: &str) -> Change {
    Change {
        name: None,
        ..set(node, id, "")
    }
}

async fn change(bench: &Bench, room: &RoomId, changes: &[Change]) -> Option<Mark> {
    let answer = bench.broker.change_roster(room, changes, &bench.heard);
    answer.await.expect("an answer")
}

/// The roster, its entries in order.
async fn read(bench: &Bench, room: &RoomId) -> Roster {
    let mut roster = bench.broker.roster(room).await.expect("a roster");
    let place = |change: &Change| (change.user.to_string(), change.incarnation.to_string());
    roster.entries.sort_by_key(place);
    roster
}

/// What was published, once it is so much.
async fn published(bench: &Bench, room: &RoomId, count: usize) -> Vec<Published> {
    let read = |text: &String| match payload::parse(text.as_bytes()) {
        Some(Payload::Roster(published)) => published,
        _ => panic!("no changes of a roster: {text:?}"),
    };
    let payloads = bench.heard.payloads(room, count).await;
    payloads.iter().map(read).collect()
}

async fn a_room_that_nobody_ever_entered_has_no_version(bench: Bench) {
    let room = room("general");
    assert_eq!(read(&bench, &room).await, Roster::default());
    assert_eq!(change(&bench, &room, &[]).await, None);
    assert_eq!(change(&bench, &room, &[unset("A", "ada")]).await, None);
    assert_eq!(read(&bench, &room).await, Roster::default());
}

async fn entries_are_set_and_removed_absolutely(bench: Bench) {
    let room = room("general");
    let (a, b) = (set("A", "ada", "Ada"), set("B", "ada", "Ada"));
    change(&bench, &room, &[a.clone(), b.clone()]).await;
    assert_eq!(read(&bench, &room).await.entries, [a, b.clone()]);
    change(&bench, &room, &[unset("A", "ada")]).await;
    assert_eq!(read(&bench, &room).await.entries, std::slice::from_ref(&b));
    change(&bench, &room, &[unset("B", "ada")]).await;
    let empty = read(&bench, &room).await;
    assert!(empty.entries.is_empty());
    // It goes on where it was.
    assert_eq!(empty.version.unwrap().seq, Seq(3));
    assert_eq!(change(&bench, &room, &[b]).await.unwrap().seq, Seq(4));
}

async fn versions_make_a_chain(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    let mut prev = None;
    for n in 1..=4 {
        let entry = set("A", &format!("u{n}"), "U");
        let version = change(&bench, &room, std::slice::from_ref(&entry)).await;
        assert_eq!(version.unwrap().seq, Seq(n));
        let all = published(&bench, &room, n as usize).await;
        let last = all.last().unwrap();
        assert_eq!((Some(last.version), last.prev), (version, prev));
        assert_eq!(last.changes, [entry]);
        assert_eq!(read(&bench, &room).await.version, version);
        prev = version.map(|version| version.id);
    }
}

async fn only_changes_with_an_effect_are_published(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    let (ada, ben) = (set("A", "ada", "Ada"), set("A", "ben", "Ben"));
    let first = change(&bench, &room, std::slice::from_ref(&ada)).await;
    let idle = [ada.clone(), unset("B", "ada"), unset("A", "eve")];
    assert_eq!(change(&bench, &room, &idle).await, first);
    let mixed = [
        ada.clone(),
        ben.clone(),
        unset("A", "eve"),
        unset("A", "ada"),
    ];
    change(&bench, &room, &mixed).await;
    let all = published(&bench, &room, 2).await;
    let changes: Vec<_> = all.into_iter().map(|published| published.changes).collect();
    assert_eq!(changes, [vec![ada], vec![ben, unset("A", "ada")]]);
}

async fn a_repeated_call_does_nothing(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    let (come, go) = ([set("A", "ada", "Ada")], [unset("A", "ada")]);
    let mut versions = Vec::new();
    for changes in [&come, &come, &come, &go, &go, &come] {
        versions.push(change(&bench, &room, changes).await.unwrap().seq.0);
    }
    assert_eq!(versions, [1, 1, 1, 2, 2, 3]);
    assert_eq!(published(&bench, &room, 3).await.len(), 3);
}

async fn another_name_is_a_change(bench: Bench) {
    let room = room("general");
    change(&bench, &room, &[set("A", "ada", "Ada")]).await;
    let renamed = set("A", "ada", "");
    let version = change(&bench, &room, std::slice::from_ref(&renamed)).await;
    assert_eq!(version.unwrap().seq, Seq(2));
    assert_eq!(read(&bench, &room).await.entries, [renamed]);
}

async fn a_call_keeps_the_order_of_its_changes(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    let changes = [
        set("A", "ada", "Ada"),
        unset("A", "ada"),
        set("A", "ada", "Again"),
    ];
    change(&bench, &room, &changes).await;
    assert_eq!(published(&bench, &room, 1).await[0].changes, changes);
    assert_eq!(read(&bench, &room).await.entries, changes[2..]);
}

async fn names_of_any_kind_come_back_as_they_were(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    let longest = "x".repeat(128);
    let ids = HOSTILE.into_iter().chain([longest.as_str()]);
    let mut entries: Vec<Change> = ids.map(|id| set("A", id, id)).collect();
    entries.push(set("A", "nameless", ""));
    change(&bench, &room, &entries).await;
    assert_eq!(published(&bench, &room, 1).await[0].changes, entries);
    let mut expected = entries.clone();
    expected.sort_by_key(|entry| entry.user.to_string());
    assert_eq!(read(&bench, &room).await.entries, expected);
    let gone: Vec<Change> = entries
        .iter()
        .map(|entry| unset("A", entry.user.as_str()))
        .collect();
    change(&bench, &room, &gone).await;
    assert_eq!(published(&bench, &room, 2).await[1].changes, gone);
    assert!(read(&bench, &room).await.entries.is_empty());
}

async fn a_thousand_changes_go_in_one_call(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    let all: Vec<Change> = (0..1_000).map(|n| set("A", &n.to_string(), "N")).collect();
    change(&bench, &room, &all).await;
    assert_eq!(published(&bench, &room, 1).await[0].changes, all);
    assert_eq!(read(&bench, &room).await.entries.len(), 1_000);
}

async fn two_calls_at_once_share_no_version(bench: Bench) {
    let room = room("general");
    bench.broker.open(&room).await.unwrap();
    let one = |n: usize| {
        let (bench, room) = (&bench, &room);
        async move {
            let entry = [set("A", &n.to_string(), "N")];
            change(bench, room, &entry).await.unwrap().seq.0
        }
    };
    let mut versions = futures_util::future::join_all((0..50).map(one)).await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=50).collect::<Vec<u64>>());
    let all = published(&bench, &room, 50).await;
    for pair in all.windows(2) {
        assert_eq!(pair[1].prev, Some(pair[0].version.id));
        assert_eq!(pair[1].version.seq, pair[0].version.seq.next());
    }
}

async fn rosters_and_logs_are_apart(bench: Bench) {
    let (one, two) = (room("one"), room("two"));
    change(&bench, &one, &[set("A", "ada", "Ada")]).await;
    assert_eq!(read(&bench, &two).await, Roster::default());
    let draft = super::draft(&two, "ada", "hello", None);
    bench.append(&two, &[draft]).await;
    assert_eq!(read(&bench, &two).await, Roster::default());
    assert_eq!(read(&bench, &one).await.entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_roster_is_forgotten_by_redis() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let redis = bench.redis.as_ref().unwrap();
    let key = "chat:roster:{general}";
    change(&bench, &room, &[set("A", "ada", "Ada")]).await;
    redis.cli::<i64>(&["PERSIST", key]).await;
    // A call without changes touches it.
    change(&bench, &room, &[]).await;
    let seconds: i64 = redis.cli(&["TTL", key]).await;
    assert!((1..=300).contains(&seconds), "{seconds}");
    // And makes none where there was none.
    redis.cli::<i64>(&["DEL", key]).await;
    assert_eq!(change(&bench, &room, &[]).await, None);
    assert_eq!(redis.cli::<i64>(&["EXISTS", key]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_in_a_roster_counts_for_nobody() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let redis = bench.redis.as_ref().unwrap();
    let key = "chat:roster:{general}";
    change(&bench, &room, &[set("A", "ada", "Ada")]).await;
    let short = "x".repeat(Incarnation::LEN);
    for field in ["x", &short, "not/an/id/!!ben"] {
        redis.cli::<i64>(&["HSET", key, field, "Name"]).await;
    }
    assert_eq!(read(&bench, &room).await.entries, [set("A", "ada", "Ada")]);
    redis.cli::<()>(&["SET", key, "x"]).await;
    assert_eq!(bench.broker.roster(&room).await, Err(Unavailable));
    let changes = [set("A", "ada", "Ada")];
    for changes in [&changes[..], &[]] {
        let refused = bench.broker.change_roster(&room, changes, &bench.heard);
        assert_eq!(refused.await, Err(Unavailable));
    }
    redis.cli::<i64>(&["DEL", key]).await;
    assert_eq!(change(&bench, &room, &changes).await.unwrap().seq, Seq(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_carried_out_once_though_redis_stood_still() {
    let (bench, room) = (Bench::redis().await, room("general"));
    let redis = bench.redis.as_ref().unwrap();
    bench.broker.open(&room).await.unwrap();
    let changes = [set("A", "ada", "Ada")];
    redis.freeze();
    let answer = bench
        .broker
        .change_roster(&room, &changes, &bench.heard)
        .await;
    assert_eq!(answer, Err(Unavailable));
    redis.thaw();
    bench.broker.up().await;
    let again = change(&bench, &room, &changes).await.unwrap();
    assert_eq!(again.seq, Seq(1));
    eventually(SOON, "the entry", || async {
        read(&bench, &room).await.entries.len() == 1
    })
    .await;
}
