//! It is about users, not sockets.

use crate::support::{SOON, json};
use crate::town::{Town, names, person};
use crate::watcher::{News, Watcher};

#[tokio::test]
async fn a_user_on_three_nodes_enters_once_and_leaves_once() {
    let town = Town::start(3, &[]).await;
    let rooms = names("room", 1);
    let mut watchers = Vec::new();
    for (node, user) in town.nodes.iter().zip(["wa", "wb", "wc"]) {
        watchers.push(Watcher::of(node, user, &rooms).await);
    }
    for watcher in &mut watchers {
        watcher.sees(SOON, "room-0", &["wa", "wb", "wc"]).await;
        watcher.told().await;
    }
    // Two connections on each node, all at once.
    let nodes = town.nodes.iter().chain(&town.nodes);
    let come = nodes.map(|node| person(node, "ada", &rooms));
    let mut sockets = futures_util::future::join_all(come).await;
    for watcher in &mut watchers {
        watcher
            .sees(SOON, "room-0", &["ada", "wa", "wb", "wc"])
            .await;
        assert_eq!(watcher.told().await, [News::came("room-0", "ada")]);
        assert_eq!(watcher.users("room-0").await, ["ada", "wa", "wb", "wc"]);
    }
    // Nobody hears of the first five that go, in one way or another.
    sockets.pop().unwrap().close().await;
    sockets.pop().unwrap().leave("room-0").await;
    drop(sockets.pop());
    sockets[2].leave("room-0").await;
    sockets[2].join("room-0").await;
    for nth in [1, 2] {
        sockets[nth].leave("room-0").await;
    }
    let still_there = sockets[0]
        .request("users", json!({"roomId": "room-0"}))
        .await;
    assert_eq!(still_there["payload"]["count"], 4, "{still_there}");
    let _eve = person(&town.nodes[1], "eve", &rooms).await;
    for watcher in &mut watchers {
        watcher
            .until(SOON, "eve", |w| w.there["room-0"].contains("eve"))
            .await;
        assert_eq!(watcher.told().await, [News::came("room-0", "eve")]);
    }
    sockets[0].leave("room-0").await;
    for watcher in &mut watchers {
        watcher
            .sees(SOON, "room-0", &["eve", "wa", "wb", "wc"])
            .await;
        assert_eq!(watcher.told().await, [News::went("room-0", "ada")]);
        assert_eq!(watcher.users("room-0").await, ["eve", "wa", "wb", "wc"]);
    }
}

#[tokio::test]
async fn names_of_any_kind_are_seen_on_the_other_node() {
    let town = Town::start(2, &[]).await;
    let rooms = names("room", 1);
    let mut watcher = Watcher::of(&town.nodes[1], "w", &rooms).await;
    let ids = [
        "a b",
        "\"",
        "\\",
        "\\n",
        " ",
        "{}",
        "x日本🎉",
        "[\"x\"]",
        "+",
        "-a",
    ];
    let mut clients = Vec::new();
    for id in ids {
        clients.push(person(&town.nodes[0], id, &rooms).await);
    }
    let mut all = ids.to_vec();
    all.push("w");
    watcher.sees(SOON, "room-0", &all).await;
    assert_eq!(watcher.users("room-0").await.len(), all.len());
    drop(clients);
    watcher.sees(SOON, "room-0", &["w"]).await;
    assert_eq!(watcher.told().await.len(), 2 * ids.len());
}

#[tokio::test]
async fn who_comes_and_goes_quickly_leaves_no_trace() {
    let town = Town::start(2, &[]).await;
    let rooms = names("room", 1);
    let mut watchers = [
        Watcher::of(&town.nodes[0], "wa", &rooms).await,
        Watcher::of(&town.nodes[1], "wb", &rooms).await,
    ];
    // A restless user on both nodes, in and out without waiting for any answer.
    let mut restless = Vec::new();
    for node in &town.nodes {
        restless.push(person(node, "ada", &rooms).await);
    }
    for _ in 0..50 {
        for client in &mut restless {
            let both = ["leave", "join"];
            let both = both.map(|kind| json!({"type": kind, "payload": {"roomId": "room-0"}}));
            client
                .send_all(both.map(|request| request.to_string()))
                .await;
        }
    }
    for client in &mut restless {
        client.leave("room-0").await;
    }
    for watcher in &mut watchers {
        watcher.sees(SOON, "room-0", &["wa", "wb"]).await;
        assert_eq!(watcher.users("room-0").await, ["wa", "wb"]);
    }
    let left = || async {
        let fields: Vec<String> = town.redis.cli(&["HKEYS", "chat:roster:{room-0}"]).await;
        fields.len() == 3
    };
    crate::support::eventually(SOON, "two entries and a version", left).await;
}
