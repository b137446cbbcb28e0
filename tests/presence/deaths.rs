//! Nodes that die without a word: what they left is announced by the others, once.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::support::{Client, SOON, Value, eventually};
use crate::town::{ANNOUNCED, Town, UNTIL_THEY_JUDGE, median_and_worst, names, option, person};
use crate::watcher::{News, Watcher};

/// Rooms with one of the dead node's users each, and rooms with all of them.
const ROOMS: usize = 1_000;
const HALLS: usize = 20;
const USERS: usize = 50;

/// The users of the first node, each in a part of the rooms and in all halls.
async fn crowd(town: &Town, users: &[String], rooms: &[String], halls: &[String]) -> Vec<Client> {
    let part = ROOMS / USERS;
    let places = users.iter().zip(rooms.chunks(part));
    let come = places.map(|(user, part)| {
        let rooms = [part, halls].concat();
        async move { person(&town.nodes[0], user, &rooms).await }
    });
    join_all(come).await
}

/// Reads until so many have left; what was told, in order, and when the last was.
async fn all_left(watcher: &mut Watcher, count: usize, death: Instant) -> (Vec<News>, Duration) {
    let left = |watcher: &Watcher| watcher.news.iter().filter(|news| !news.came).count();
    let limit = ANNOUNCED.saturating_sub(death.elapsed());
    watcher
        .until(limit, "all to leave", |w| left(w) >= count)
        .await;
    let took = death.elapsed();
    let mut told = watcher.told().await;
    told.sort();
    (told, took)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_left_is_announced_once_within_ten_seconds() {
    let mut town = Town::start(3, &[]).await;
    let (rooms, halls) = (names("room", ROOMS), names("hall", HALLS));
    let everywhere = [&rooms[..], &halls].concat();
    let users = names("user", USERS);
    // These are on another node, too: they never leave.
    let travellers: BTreeSet<&String> = users.iter().step_by(10).collect();
    let part = ROOMS / USERS;
    let mut expected = Vec::new();
    for (nth, user) in users
        .iter()
        .enumerate()
        .filter(|(_, user)| !travellers.contains(user))
    {
        let own = &rooms[nth * part..(nth + 1) * part];
        expected.extend(own.iter().chain(&halls).map(|room| News::went(room, user)));
    }
    expected.sort();
    let mut watchers = [
        Watcher::of(&town.nodes[1], "wb", &everywhere).await,
        Watcher::of(&town.nodes[2], "wc", &everywhere).await,
    ];
    let mut times = Vec::new();
    let mut elsewhere: Vec<Client> = Vec::new();
    for run in 0..option("PRESENCE_RUNS", 1) {
        if run > 0 {
            // Under its old name, but another incarnation.
            town.start_again(0).await;
        }
        let crowd = crowd(&town, &users, &rooms, &halls).await;
        for (nth, user) in users.iter().enumerate().step_by(10).filter(|_| run == 0) {
            let own = [&rooms[nth * part..(nth + 1) * part], &halls].concat();
            elsewhere.push(person(&town.nodes[2], user, &own).await);
        }
        // Who reads nothing answers no ping.
        for traveller in &mut elsewhere {
            traveller.assert_alive().await;
        }
        for watcher in &mut watchers {
            let (full, last) = (USERS + 2, &rooms[ROOMS - 1]);
            let all = |w: &Watcher| halls.iter().all(|hall| w.there[hall].len() == full);
            let all = |w: &Watcher| all(w) && rooms.iter().all(|room| w.there[room].len() == 3);
            watcher
                .until(ANNOUNCED, &format!("all users up to {last}"), all)
                .await;
            watcher.told().await;
        }
        // Late beats of a busy start are forgotten by then.
        sleep(UNTIL_THEY_JUDGE).await;
        let death = Instant::now();
        town.nodes[0].kill().await;
        for (told, took) in join_all(
            watchers
                .iter_mut()
                .map(|watcher| all_left(watcher, expected.len(), death)),
        )
        .await
        {
            assert_eq!(told, expected);
            times.push(took);
        }
        for watcher in &mut watchers {
            assert_eq!(watcher.users("hall-0").await.len(), travellers.len() + 2);
            assert_eq!(watcher.users("room-0").await, ["user-0", "wb", "wc"]);
            assert_eq!(watcher.users("room-20").await, ["wb", "wc"]);
        }
        drop(crowd);
    }
    let left = expected.len();
    let (median, worst) = median_and_worst(&mut times);
    println!(
        "SIGKILL to the last of {left} user_left: median {median:?}, worst {worst:?} of {}",
        times.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleaner_that_dies_half_way_leaves_nothing_unsaid() {
    let mut town = Town::start(3, &[]).await;
    let rooms = names("room", 300);
    let mut cleaner = Watcher::of(&town.nodes[1], "cleaner", &rooms).await;
    let mut watcher = Watcher::of(&town.nodes[2], "w", &rooms).await;
    let _first = person(&town.nodes[0], "first", &rooms).await;
    for watcher in [&mut cleaner, &mut watcher] {
        let all = |w: &Watcher| rooms.iter().all(|room| w.there[room].len() == 3);
        watcher.until(ANNOUNCED, "all three everywhere", all).await;
        watcher.told().await;
    }
    sleep(UNTIL_THEY_JUDGE).await;
    let death = Instant::now();
    town.nodes[0].kill().await;
    cleaner
        .until(ANNOUNCED, "the first to leave", |w| !w.news.is_empty())
        .await;
    town.nodes[1].signal(Signal::KILL);
    let second = Instant::now();
    let all_of = |watcher: &Watcher, user: &str| {
        watcher.news.iter().filter(|news| news.user == user).count() == rooms.len()
    };
    watcher
        .until(ANNOUNCED, "the first to leave everywhere", |w| {
            all_of(w, "first")
        })
        .await;
    let (noticed, left) = (second - death, death.elapsed());
    assert!(left < ANNOUNCED, "{left:?}");
    let limit = ANNOUNCED.saturating_sub(second.elapsed());
    watcher
        .until(limit, "the cleaner to leave everywhere", |w| {
            all_of(w, "cleaner")
        })
        .await;
    println!("noticed after {noticed:?}, all announced after {left:?}, though the cleaner died");
    assert_eq!(watcher.told().await.len(), 2 * rooms.len());
    assert_eq!(watcher.users("room-7").await, ["w"]);
}

/// How many entries a roster has.
async fn entries(town: &Town, room: &str) -> usize {
    let roster = format!("chat:roster:{{{room}}}");
    let fields: usize = town.redis.cli(&["HLEN", &roster]).await;
    // One is the version.
    fields.saturating_sub(1)
}

#[tokio::test]
async fn the_first_node_after_all_died_clears_what_they_left() {
    let mut town = Town::start(3, &[]).await;
    let rooms = names("room", 30);
    for nth in 0..3 {
        let users = names(&format!("ghost-{nth}"), 5);
        // They are dropped before their nodes are, who don't know it when they die.
        let ghosts = town.people(nth, &users, &rooms).await;
        let told = || async {
            let mut told = true;
            for room in &rooms {
                told &= entries(&town, room).await == 5 * (nth + 1);
            }
            told
        };
        eventually(SOON, "their entries", told).await;
        town.nodes[nth].kill().await;
        drop(ghosts);
    }
    let gone = || async {
        let leases: Vec<String> = town.redis.cli(&["KEYS", "chat:{nodes}:????????????"]).await;
        leases.is_empty()
    };
    eventually(ANNOUNCED, "the leases to run out", gone).await;
    let start = Instant::now();
    town.start_again(0).await;
    let mut watcher = Watcher::of(&town.nodes[0], "w", &rooms).await;
    for room in &rooms {
        assert_eq!(watcher.users(room).await, ["w"], "ghosts are counted");
    }
    eventually(ANNOUNCED, "the ghosts to be cleared", || async {
        entries(&town, &rooms[0]).await == 1
    })
    .await;
    println!(
        "what all nodes left was cleared {:?} after the first started",
        start.elapsed()
    );
    let nodes: Vec<String> = town.redis.cli(&["SMEMBERS", "chat:{nodes}"]).await;
    assert_eq!(nodes.len(), 1);
    assert_eq!(watcher.told().await, [], "nobody came or went");
    for room in &rooms {
        assert_eq!(watcher.users(room).await, ["w"]);
    }
}

#[tokio::test]
async fn a_node_that_restarts_under_its_name_is_another_incarnation() {
    let mut town = Town::start(2, &[]).await;
    let rooms = names("room", 3);
    let mut watcher = Watcher::of(&town.nodes[1], "w", &rooms).await;
    let lost = town.people(0, &names("lost", 2), &rooms).await;
    let back = person(&town.nodes[0], "back", &rooms).await;
    watcher
        .sees(ANNOUNCED, "room-2", &["back", "lost-0", "lost-1", "w"])
        .await;
    watcher
        .until(ANNOUNCED, "all", |w| {
            w.there.values().all(|there| there.len() == 4)
        })
        .await;
    watcher.told().await;
    town.nodes[0].kill().await;
    drop((lost, back));
    town.start_again(0).await;
    let mut back = person(&town.nodes[0], "back", &rooms).await;
    watcher
        .until(2 * ANNOUNCED, "the lost to leave", |w| {
            w.there.values().all(|there| there.len() == 2)
        })
        .await;
    let mut told = watcher.told().await;
    told.sort();
    let lost = |room: &String| [News::went(room, "lost-0"), News::went(room, "lost-1")];
    let expected: Vec<News> = rooms.iter().flat_map(lost).collect();
    assert_eq!(told, expected);
    let users: Value = back
        .request("users", crate::support::json!({"roomId": "room-0"}))
        .await;
    assert_eq!(users["payload"]["count"], 2, "{users}");
}
