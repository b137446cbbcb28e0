//! Redis freezes, or dies and comes back, with its data or without: no living node is given up, and nobody
//! hears of anyone coming or going who didn't.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::{Redis, SOON};
use crate::town::{ANNOUNCED, Town, UNTIL_THEY_JUDGE, names};
use crate::watcher::{Watcher, mark};

/// What is done to Redis.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It neither answers nor closes anything for so long.
    Freeze(Duration),
    /// It dies, and is started again after so long.
    Restart(Duration),
}

const SECOND: Duration = Duration::from_secs(1);
/// As long as a wrong judgement could take to show: each node judges again after a lease time of six
/// seconds without a fault, which begins up to two seconds later where it waits to connect again.
const LONG_ENOUGH: Duration = Duration::from_secs(11);

async fn nobody_notices(fault: Fault, options: &[&str]) {
    let redis = Redis::start_with(options).await;
    let mut town = Town::on(redis, 3, &[]).await;
    let rooms = names("room", 12);
    let (mut watchers, mut people) = (Vec::new(), Vec::new());
    for (nth, name) in ["wa", "wb", "wc"].into_iter().enumerate() {
        watchers.push(Watcher::of(&town.nodes[nth], name, &rooms).await);
        people.push(
            town.people(nth, &names(&format!("of-{name}"), 3), &rooms)
                .await,
        );
    }
    for watcher in &mut watchers {
        let all = |w: &Watcher| w.there.values().all(|there| there.len() == 12);
        watcher.until(ANNOUNCED, "all twelve", all).await;
        watcher.told().await;
    }
    sleep(UNTIL_THEY_JUDGE).await;
    match fault {
        Fault::Freeze(time) => {
            town.redis.freeze();
            sleep(time).await;
            town.redis.thaw();
        }
        Fault::Restart(after) => {
            town.redis.kill().await;
            sleep(after).await;
            town.redis.start_again().await;
        }
    }
    town.ready().await;
    sleep(LONG_ENOUGH).await;
    let news = mark(&town.nodes[0], &mut watchers, "room-0", "newcomer").await;
    for (watcher, news) in watchers.iter_mut().zip(news) {
        let who = watcher.client.user().to_owned();
        assert!(
            news.is_empty(),
            "{fault:?} {options:?}: {who} was told {news:?}"
        );
        for room in &rooms {
            assert_eq!(
                watcher.users(room).await.len(),
                12,
                "{fault:?} {options:?}: {who}"
            );
        }
    }
    // And those who go, go.
    for people in people {
        drop(people);
    }
    for watcher in &mut watchers {
        for room in &rooms {
            watcher.sees(SOON, room, &["wa", "wb", "wc"]).await;
        }
    }
}

/// Each with a Redis and nodes of its own, side by side: they wait most of the time.
#[tokio::test]
async fn nobody_notices_that_redis_was_away() {
    let kept = ["--appendonly", "yes", "--appendfsync", "always"];
    let frozen = async {
        tokio::join!(
            nobody_notices(Fault::Freeze(3 * SECOND), &[]),
            nobody_notices(Fault::Freeze(SECOND * 13 / 2), &[]),
            nobody_notices(Fault::Freeze(15 * SECOND), &[]),
        )
    };
    tokio::join!(
        frozen,
        nobody_notices(Fault::Restart(Duration::ZERO), &[]),
        nobody_notices(Fault::Restart(4 * SECOND), &[]),
        nobody_notices(Fault::Restart(Duration::ZERO), &kept),
        nobody_notices(Fault::Restart(7 * SECOND), &kept),
    );
}
