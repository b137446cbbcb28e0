//! A node that was only frozen comes back: it finds that it was given up, and enters its users again. Its
//! clients notice nothing worse than that others were told of it.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use crate::support::SOON;
use crate::town::{ANNOUNCED, Town, UNTIL_THEY_JUDGE, names};
use crate::watcher::{News, Watcher};

/// Side by side: they wait most of the time.
#[tokio::test]
async fn a_node_that_was_frozen_comes_back() {
    tokio::join!(
        for_twenty_seconds(),
        until_it_is_just_given_up(Duration::from_millis(6_100)),
        until_it_is_just_given_up(Duration::from_millis(6_400)),
        until_it_is_just_given_up(Duration::from_millis(6_700)),
    );
}

async fn for_twenty_seconds() {
    let town = Town::start(3, &[]).await;
    let rooms = names("room", 10);
    let mut frozen = Watcher::of(&town.nodes[0], "frozen", &rooms).await;
    let mut watchers = [
        Watcher::of(&town.nodes[1], "wb", &rooms).await,
        Watcher::of(&town.nodes[2], "wc", &rooms).await,
    ];
    for watcher in watchers.iter_mut().chain([&mut frozen]) {
        let all = |w: &Watcher| w.there.values().all(|there| there.len() == 3);
        watcher.until(SOON, "all three", all).await;
        watcher.told().await;
    }
    town.nodes[0].signal(Signal::STOP);
    let expected = |told: fn(&str, &str) -> News| {
        let mut news: Vec<News> = rooms.iter().map(|room| told(room, "frozen")).collect();
        news.sort();
        news
    };
    let freeze = sleep(Duration::from_secs(20));
    tokio::pin!(freeze);
    for watcher in &mut watchers {
        watcher
            .until(2 * ANNOUNCED, "the frozen to leave", |w| w.news.len() >= 10)
            .await;
        let mut told = watcher.told().await;
        told.sort();
        assert_eq!(told, expected(News::went));
        assert_eq!(watcher.users("room-3").await, ["wb", "wc"]);
    }
    freeze.await;
    town.nodes[0].signal(Signal::CONT);
    for watcher in &mut watchers {
        watcher
            .until(ANNOUNCED, "the frozen to come back", |w| w.news.len() >= 10)
            .await;
        let mut told = watcher.told().await;
        told.sort();
        assert_eq!(told, expected(News::came));
    }
    // Its own client was never away.
    watchers[0].client.say("room-3", "welcome back").await;
    assert_eq!(frozen.client.message().await["text"], "welcome back");
    frozen.client.say("room-3", "thank you").await;
    for text in ["welcome back", "thank you"] {
        assert_eq!(watchers[1].client.message().await["text"], text);
    }
    assert_eq!(frozen.told().await, []);
    // A second judgement would have come by now.
    sleep(UNTIL_THEY_JUDGE).await;
    for watcher in watchers.iter_mut().chain([&mut frozen]) {
        assert_eq!(watcher.told().await, []);
        for room in &rooms {
            assert_eq!(watcher.users(room).await, ["frozen", "wb", "wc"]);
        }
    }
}

/// Back in the moment in which the others find that its lease has run out, which lasts six seconds from a
/// beat that was up to two seconds ago: whatever they came to, it and they agree soon.
async fn until_it_is_just_given_up(freeze: Duration) {
    let town = Town::start(3, &[]).await;
    let rooms = names("room", 4);
    let mut watchers = Vec::new();
    for (node, user) in town.nodes.iter().zip(["wa", "wb", "wc"]) {
        watchers.push(Watcher::of(node, user, &rooms).await);
    }
    sleep(UNTIL_THEY_JUDGE).await;
    town.nodes[0].signal(Signal::STOP);
    sleep(freeze).await;
    town.nodes[0].signal(Signal::CONT);
    // A beat, and the next one.
    sleep(Duration::from_secs(4)).await;
    for watcher in &mut watchers {
        for room in &rooms {
            let users = watcher.users(room).await;
            assert_eq!(users, ["wa", "wb", "wc"], "after {freeze:?}");
        }
    }
}
