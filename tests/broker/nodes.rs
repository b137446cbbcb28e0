//! What both brokers promise of nodes: beats, who is connected, what is said to all; and what Redis alone
//! has to keep, where there are several: leases.

use std::sync::Arc;
use std::time::Duration;

use piazza::broker::Renewal;
use piazza::id::{Incarnation, UserId};
use piazza::presence::nodes::Beat;

use super::Bench;
use super::roster::HOSTILE;
use super::support::{SOON, eventually};

on_both_brokers! {
    a_beat_gives_the_list_of_nodes,
    who_came_and_went_is_known,
    the_list_of_users_begins_anew,
    pages_of_users_go_on_where_the_last_ended,
    a_command_is_heard_once_by_all_who_listen,
}

/// One who came, or went.
type Move = (UserId, Arc<str>, bool);

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

/// A life of a node.
struct Life<'a> {
    bench: &'a Bench,
    own: Incarnation,
}

impl<'a> Life<'a> {
    fn new(bench: &'a Bench) -> Life<'a> {
        Life {
            bench,
            own: Incarnation::random(),
        }
    }

    fn renewal(&self) -> Renewal<'static> {
        Renewal {
            own: self.own,
            first: false,
            about: b"{\"node\":1}",
            lease: LONG,
            strike: &[],
            users: &[],
            anew: false,
        }
    }

    async fn send(&self, renewal: Renewal<'_>) -> Beat {
        self.bench.broker.beat(&renewal).await.expect("an answer")
    }

    async fn first(&self, lease: Duration) -> Beat {
        let renewal = Renewal {
            first: true,
            anew: true,
            lease,
            ..self.renewal()
        };
        self.send(renewal).await
    }

    async fn again(&self) -> Beat {
        self.send(self.renewal()).await
    }

    async fn strike(&self, strike: &[Incarnation]) -> Beat {
        let renewal = self.renewal();
        self.send(Renewal { strike, ..renewal }).await
    }

    async fn moves(&self, users: &[Move], anew: bool) {
        let renewal = self.renewal();
        self.send(Renewal {
            users,
            anew,
            ..renewal
        })
        .await;
    }
}

fn came(id: &str) -> Move {
    (user(id), format!("Name of {id}").into(), true)
}

fn went(id: &str) -> Move {
    (user(id), format!("Name of {id}").into(), false)
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// Whether it is on the list, and whether its lease is held.
fn standing(beat: &Beat, of: Incarnation) -> (bool, bool) {
    let found = beat.nodes.iter().find(|(node, ..)| *node == of);
    (
        found.is_some(),
        found.is_some_and(|(_, left, _)| left.is_some()),
    )
}

/// The ids of all users of these nodes, read in pages of that size.
async fn online(bench: &Bench, nodes: &[Incarnation], page: usize) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let found = bench.broker.online(nodes, after.as_ref(), page).await;
        let found = found.expect("a page");
        assert!(found.len() <= page);
        let Some((last, _)) = found.last() else {
            return ids;
        };
        after = Some(last.clone());
        for (user, name) in found {
            assert_eq!(*name, format!("Name of {user}"));
            ids.push(user.to_string());
        }
    }
}

async fn a_beat_gives_the_list_of_nodes(bench: Bench) {
    let life = Life::new(&bench);
    for beat in [life.first(LONG).await, life.again().await] {
        assert!(beat.listed && beat.held);
        let (of, left, about) = &beat.nodes[0];
        assert_eq!((*of, &about[..]), (life.own, &b"{\"node\":1}"[..]));
        assert!(left.is_some_and(|left| left > LONG / 2 && left <= LONG));
        assert_eq!(beat.nodes.len(), 1);
    }
}

async fn who_came_and_went_is_known(bench: Bench) {
    let life = Life::new(&bench);
    life.first(LONG).await;
    assert!(online(&bench, &[life.own], 9).await.is_empty());
    let users = [came("ada"), came("ben"), came("eve")];
    life.moves(&users, false).await;
    // A beat whose answer was lost is made again.
    life.moves(&users, false).await;
    assert_eq!(online(&bench, &[life.own], 9).await, ["ada", "ben", "eve"]);
    life.moves(&[went("ben"), went("nobody")], false).await;
    life.again().await;
    assert_eq!(online(&bench, &[life.own], 9).await, ["ada", "eve"]);
}

async fn the_list_of_users_begins_anew(bench: Bench) {
    let life = Life::new(&bench);
    life.first(LONG).await;
    life.moves(&[came("ada"), came("ben")], false).await;
    life.moves(&[came("eve")], true).await;
    assert_eq!(online(&bench, &[life.own], 9).await, ["eve"]);
    life.moves(&[], true).await;
    assert!(online(&bench, &[life.own], 9).await.is_empty());
}

async fn pages_of_users_go_on_where_the_last_ended(bench: Bench) {
    let life = Life::new(&bench);
    life.first(LONG).await;
    // Some of them are the beginnings of others.
    let ids = ["a", "a!", "aa", "ab", "a b", "a\"", "a,", "b"];
    let ids: Vec<&str> = ids.into_iter().chain(HOSTILE).collect();
    let users: Vec<Move> = ids.iter().map(|id| came(id)).collect();
    life.moves(&users, false).await;
    let whole = online(&bench, &[life.own], 1_000).await;
    for page in 1..5 {
        assert_eq!(online(&bench, &[life.own], page).await, whole);
    }
    let mut sorted: Vec<&str> = whole.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut expected = ids;
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    let (nodes, missing) = ([life.own], user("aaa"));
    let after = bench.broker.online(&nodes, Some(&missing), 1_000).await;
    let after: Vec<String> = after
        .expect("a page")
        .iter()
        .map(|(user, _)| user.to_string())
        .collect();
    assert!(
        whole.ends_with(&after),
        "after one who isn't there: {after:?}"
    );
    assert!(after.contains(&"ab".to_owned()) && !after.contains(&"aa".to_owned()));
}

async fn a_command_is_heard_once_by_all_who_listen(bench: Bench) {
    let heard = bench.broker.command(b"{\"say\":\"\\n\"}", &bench.heard);
    assert_eq!(heard.await, Ok(1));
    let heard = bench.broker.command(b"second", &bench.heard);
    assert_eq!(heard.await, Ok(1));
    let said = || commands(&bench);
    eventually(SOON, "the commands", || async { said().len() >= 2 }).await;
    assert_eq!(said(), ["{\"say\":\"\\n\"}", "second"]);
}

/// What a bench heard that was said to all nodes.
fn commands(bench: &Bench) -> Vec<String> {
    let heard = bench.heard.0.lock().unwrap();
    let to_all = heard.iter().filter(|(room, _)| room.is_empty());
    let text = |payload: &Vec<u8>| String::from_utf8(payload.clone()).unwrap();
    to_all.map(|(_, payload)| text(payload)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_come_to_all_nodes() {
    let one = Bench::redis().await;
    let two = one.second().await;
    let told = || async {
        let heard = one.broker.command(b"x", &one.heard).await;
        heard == Ok(2)
    };
    // The second one's subscription may just be made.
    eventually(SOON, "both to listen", told).await;
    let heard = || async { commands(&one).len() == commands(&two).len() };
    eventually(SOON, "both to hear it", heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_see_each_other_and_each_others_leases_run_out() {
    let one = Bench::redis().await;
    let two = one.second().await;
    let (a, b) = (Life::new(&one), Life::new(&two));
    a.first(LONG).await;
    let beat = b.first(SHORT).await;
    assert_eq!(standing(&beat, a.own), (true, true));
    eventually(SOON, "the lease to run out", || async {
        standing(&a.again().await, b.own) == (true, false)
    })
    .await;
    // Nobody has struck it off: it is there again, and learns that its lease wasn't held.
    let beat = b.again().await;
    assert_eq!((beat.listed, beat.held), (true, false));
    let beat = b.again().await;
    assert_eq!((beat.listed, beat.held), (true, true));
    assert_eq!(standing(&a.again().await, b.own), (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn none_is_struck_off_whose_lease_is_held() {
    let bench = Bench::redis().await;
    let (a, b) = (Life::new(&bench), Life::new(&bench));
    a.first(LONG).await;
    b.first(LONG).await;
    assert_eq!(
        standing(&a.strike(&[b.own]).await, b.own),
        (true, true),
        "struck off with a lease"
    );
    let beat = b.again().await;
    assert!(beat.listed && beat.held);
    // Nor oneself: a beat renews first.
    assert!(a.strike(&[a.own]).await.listed);
    assert!(a.again().await.listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_struck_off_is_not_put_on_again() {
    let bench = Bench::redis().await;
    let (a, b) = (Life::new(&bench), Life::new(&bench));
    a.first(LONG).await;
    b.first(SHORT).await;
    eventually(SOON, "the lease to run out", || async {
        !standing(&a.again().await, b.own).1
    })
    .await;
    assert_eq!(
        standing(&a.strike(&[b.own]).await, b.own),
        (false, false),
        "gone at once"
    );
    for _ in 0..2 {
        let beat = b.again().await;
        assert_eq!((beat.listed, beat.nodes.len()), (false, 0));
        assert_eq!(standing(&a.again().await, b.own), (false, false));
    }
    // Nothing of that beat was done.
    let redis = bench.redis.as_ref().unwrap();
    let lease = format!("chat:{{nodes}}:{}", b.own);
    assert_eq!(redis.cli::<i64>(&["EXISTS", &lease]).await, 0);
    assert!(b.first(LONG).await.listed, "another life may begin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_its_data_knows_nobody() {
    let bench = Bench::redis().await;
    let life = Life::new(&bench);
    life.first(LONG).await;
    bench.redis.as_ref().unwrap().cli::<()>(&["FLUSHALL"]).await;
    assert!(!life.again().await.listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_two_nodes_is_online_once() {
    let bench = Bench::redis().await;
    let (a, b) = (Life::new(&bench), Life::new(&bench));
    let ids: Vec<String> = (0..25).map(|n| format!("u{n:02}")).collect();
    let moves = |ids: &[String]| ids.iter().map(|id| came(id)).collect::<Vec<_>>();
    for (life, ids) in [(&a, &ids[..18]), (&b, &ids[9..])] {
        life.first(LONG).await;
        life.moves(&moves(ids), false).await;
    }
    for page in [1, 4, 7, 100] {
        assert_eq!(online(&bench, &[a.own, b.own], page).await, ids);
    }
    // Who reads looks at those that live alone.
    assert_eq!(online(&bench, &[a.own], 100).await, ids[..18]);
    assert!(online(&bench, &[], 100).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_leave_in_redis_goes_by_itself() {
    let bench = Bench::redis().await;
    let life = Life::new(&bench);
    life.first(LONG).await;
    life.moves(&[came("ada")], false).await;
    let redis = bench.redis.as_ref().unwrap();
    for key in [
        format!("chat:{{nodes}}:{}", life.own),
        format!("chat:{{nodes}}:{}:users", life.own),
    ] {
        let seconds: i64 = redis.cli(&["TTL", &key]).await;
        assert!((0..=60).contains(&seconds), "{key}: {seconds}");
    }
}
