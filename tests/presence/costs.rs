//! What presence costs Redis.

use redis::Value;

use crate::support::SOON;
use crate::town::{Town, names, person};
use crate::watcher::Watcher;

/// The commands about a room since the last call, as Redis logged them.
async fn commands(town: &Town, room: &str) -> Vec<String> {
    let log: Vec<Value> = town.redis.cli(&["SLOWLOG", "GET", "10000"]).await;
    town.redis.cli::<()>(&["SLOWLOG", "RESET"]).await;
    let lines = log.iter().map(|entry| format!("{entry:?}"));
    lines
        .filter(|line| line.contains(&format!("{{{room}}}")))
        .collect()
}

#[tokio::test]
async fn a_join_into_a_room_that_is_up_costs_one_round_trip_at_most() {
    const JOINS: usize = 10;
    let town = Town::start(2, &[]).await;
    let rooms = names("room", 1);
    // Everything is logged.
    town.redis
        .cli::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0"])
        .await;
    town.redis
        .cli::<()>(&["CONFIG", "SET", "slowlog-max-len", "10000"])
        .await;
    commands(&town, "room-0").await;
    let mut here = Watcher::of(&town.nodes[0], "wa", &rooms).await;
    let cold = commands(&town, "room-0").await;
    println!("the first join of a room costs {} commands", cold.len());
    assert!(cold.len() > 1, "nothing was logged: {cold:?}");
    let mut there = Watcher::of(&town.nodes[1], "wb", &rooms).await;
    here.sees(SOON, "room-0", &["wa", "wb"]).await;
    commands(&town, "room-0").await;
    let mut clients = Vec::new();
    for nth in 0..JOINS {
        clients.push(person(&town.nodes[0], &format!("user-{nth}"), &rooms).await);
        let seen = |w: &Watcher| w.there["room-0"].len() == 3 + nth;
        there.until(SOON, "the one who joined", seen).await;
    }
    let joins = commands(&town, "room-0").await;
    assert!(joins.len() <= JOINS, "{} commands: {joins:#?}", joins.len());
    assert!(!joins.is_empty(), "nothing was logged");
    // A second connection of theirs costs nothing, nor does its leave.
    for nth in 0..JOINS {
        let mut second = person(&town.nodes[0], &format!("user-{nth}"), &rooms).await;
        second.leave("room-0").await;
    }
    let again = commands(&town, "room-0").await;
    assert!(again.is_empty(), "{again:#?}");
    assert_eq!(there.users("room-0").await.len(), 2 + JOINS);
}
