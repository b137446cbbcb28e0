//! A node that drains hands its users over: who comes back elsewhere never left.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::support::SOON;
use crate::town::{Town, names, person};
use crate::watcher::{News, Watcher};

/// Who is on another node so long after the close never left.
const HAND_OVER: Duration = Duration::from_secs(8);

#[tokio::test]
async fn who_comes_back_within_eight_seconds_never_left() {
    let mut town = Town::start(3, &[]).await;
    let rooms = names("room", 3);
    let mut watchers = [
        Watcher::of(&town.nodes[1], "wb", &rooms).await,
        Watcher::of(&town.nodes[2], "wc", &rooms).await,
    ];
    let names = ["prompt", "late", "gone", "early"];
    let mut clients = Vec::new();
    for name in names {
        clients.push(person(&town.nodes[0], name, &rooms).await);
    }
    for watcher in &mut watchers {
        let all = ["early", "gone", "late", "prompt", "wb", "wc"];
        for room in &rooms {
            watcher.sees(SOON, room, &all).await;
        }
        watcher.told().await;
    }
    // One leaves by itself just before, and that is a leave.
    clients.pop().unwrap().close().await;
    let term = Instant::now();
    town.nodes[0].signal(Signal::TERM);
    let [prompt, late, gone] = clients.try_into().ok().unwrap();
    let return_after = |mut client: crate::support::Client, wait: Duration| {
        let (node, rooms) = (&town.nodes[1], &rooms);
        async move {
            let user = client.user().to_owned();
            assert_eq!(client.closed(SOON).await, Some(1001));
            sleep(wait).await;
            person(node, &user, rooms).await
        }
    };
    let (_prompt, _late, _) = tokio::join!(
        return_after(prompt, Duration::ZERO),
        return_after(late, HAND_OVER - Duration::from_millis(300)),
        async {
            let mut gone = gone;
            gone.closed(SOON).await
        },
    );
    for watcher in &mut watchers {
        let rest = ["late", "prompt", "wb", "wc"];
        for room in &rooms {
            watcher.sees(Duration::from_secs(20), room, &rest).await;
        }
        println!(
            "who didn't come back was announced {:?} after SIGTERM",
            term.elapsed()
        );
    }
    assert_eq!(town.nodes[0].exit(SOON).await.code(), Some(0));
    let mut expected: Vec<News> = Vec::new();
    for room in &rooms {
        expected.extend([News::went(room, "early"), News::went(room, "gone")]);
    }
    for watcher in &mut watchers {
        let mut told = watcher.told().await;
        told.sort();
        assert_eq!(told, expected);
        assert_eq!(
            watcher.users("room-1").await,
            ["late", "prompt", "wb", "wc"]
        );
    }
}
