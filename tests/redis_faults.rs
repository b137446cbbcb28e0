//! A Redis that is away, goes away, freezes or comes back empty: nothing is lost, nothing doubled, and
//! whoever can't be given something is told so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use support::{
    Client, Follow, Node, Redis, SOON, Value, eventually, free_port, http, json, within,
};
use tokio::sync::watch;

/// How soon a node works again after Redis does: its reconnects are at most 2 s apart.
const RECOVERY: Duration = Duration::from_secs(10);

async fn node_on(redis: &Redis) -> Node {
    let env = [
        ("MESSAGE_HISTORY_LIMIT", "10000"),
        ("RATE_LIMIT_MESSAGES", "0"),
    ];
    Node::on_with(redis, &env).await
}

#[tokio::test]
async fn killed_connections_lose_and_double_nothing() {
    const KILLS: usize = 20;
    const SENDERS: usize = 8;
    let redis = Redis::start().await;
    let nodes = [node_on(&redis).await, node_on(&redis).await];
    let mut listeners = Vec::new();
    for i in 0..6 {
        let mut listener = Client::of(&nodes[i % 2], &format!("listener{i}")).await;
        let mut follow = Follow::new(format!("listener{i} on node {}", i % 2));
        follow.history(&listener.join("general").await);
        listeners.push((listener, follow));
    }
    let (acked, acks) = watch::channel(0usize);
    let (stop, stopped) = watch::channel(false);
    let begin = Instant::now();

    let senders = (0..SENDERS).map(|i| {
        let user = format!("sender{i}");
        send_until_stopped(&nodes[i % 2], user, acked.clone(), stopped.clone())
    });
    let killing = async {
        let mut acks = acks.clone();
        for kill in 0..KILLS {
            // Under load: some more are acked between two kills, so each hits sends under way.
            let enough = *acks.borrow() + 40;
            let wait = acks.wait_for(|&acked| acked >= enough);
            within(RECOVERY, &format!("acks after kill {kill}"), wait)
                .await
                .unwrap();
            let kind = ["pubsub", "normal"][kill % 2];
            // And it hits a whole cluster: both nodes have come back from the last one.
            let is_whole = || is_connected(&redis, nodes.len());
            eventually(
                RECOVERY,
                &format!("both nodes to be back after kill {kill}"),
                is_whole,
            )
            .await;
            let closed = redis.kill_clients(kind).await;
            assert!(
                closed >= nodes.len(),
                "kill {kill} closed only {closed} of type {kind}"
            );
        }
        let enough = *acks.borrow() + 40;
        let wait = acks.wait_for(|&acked| acked >= enough);
        within(RECOVERY, "acks after the last kill", wait)
            .await
            .unwrap();
        let _ = stop.send(true);
    };
    let (sent, ()) = tokio::join!(join_all(senders), killing);
    let sent: BTreeSet<String> = sent.into_iter().flatten().collect();
    println!(
        "{} messages, {KILLS} kills, {:?}",
        sent.len(),
        begin.elapsed()
    );

    for (listener, follow) in &mut listeners {
        while follow.seen.len() < sent.len() {
            let event = listener
                .next_or_close(RECOVERY)
                .await
                .expect("the connection stays");
            let is_fresh = event["type"] == "history" && event["payload"]["recovered"] == false;
            assert!(!is_fresh, "the list was never trimmed: {event}");
            follow.event(&event, "general");
        }
        assert_eq!(texts_of(follow), sent, "{}", listener.user());
        assert_eq!(follow.seen, whole_room(&redis, &nodes[0]).await.seen);
        listener.expect_no("message").await;
    }
}

/// Whether so many nodes have their subscription, and their connection for everything else.
async fn is_connected(redis: &Redis, nodes: usize) -> bool {
    let subscribed: String = redis.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    let others: String = redis.cli(&["CLIENT", "LIST", "TYPE", "normal"]).await;
    // One of the others is the one that asks.
    subscribed.lines().count() >= nodes && others.lines().count() > nodes
}

/// Says one thing after the other, each with a `clientId`, and each again until it is acked. All that
/// was acked.
async fn send_until_stopped(
    node: &Node,
    user: String,
    acked: watch::Sender<usize>,
    stopped: watch::Receiver<bool>,
) -> Vec<String> {
    let mut client = Client::in_room(node, &user, "general").await;
    let mut sent = Vec::new();
    while !*stopped.borrow() {
        let text = format!("{user} says {}", sent.len());
        let payload = json!({"roomId": "general", "text": text, "clientId": text});
        while !say(&mut client, &payload).await {
            if client.is_closed() {
                client = back_in_room(node, &user).await;
            }
        }
        sent.push(text);
        acked.send_modify(|acked| *acked += 1);
        client.forget();
    }
    sent
}

/// Connects and joins, as soon as the node can let anyone join.
async fn back_in_room(node: &Node, user: &str) -> Client {
    let mut client = Client::of(node, user).await;
    let give_up = Instant::now() + RECOVERY;
    while Instant::now() < give_up {
        let reply = client.request("join", json!({"roomId": "general"})).await;
        if reply["type"] == "history" {
            return client;
        }
        assert_eq!(reply["payload"]["code"], "UNAVAILABLE", "{reply}");
    }
    panic!("{user} could not join for {RECOVERY:?}");
}

/// Sends once and waits for the answer: whether it was stored. `UNAVAILABLE` says it was not, and a
/// closed connection says nothing; both mean: again.
async fn say(client: &mut Client, payload: &Value) -> bool {
    if !client.try_send("message", payload.clone()).await {
        return false;
    }
    let what = &payload["clientId"];
    while let Some(event) = client.next_or_close(RECOVERY * 2).await {
        match event["type"].as_str() {
            Some("ack") if event["payload"]["clientId"] == *what => return true,
            Some("error") => {
                assert_eq!(event["payload"]["code"], "UNAVAILABLE", "{event}");
                return false;
            }
            _ => {}
        }
    }
    false
}

fn texts_of(follow: &Follow) -> BTreeSet<String> {
    follow.seen.values().map(|(_, text)| text.clone()).collect()
}

/// What a newcomer is given: the whole list as Redis holds it.
async fn whole_room(redis: &Redis, node: &Node) -> Follow {
    let length: u64 = redis.cli(&["LLEN", "chat:history:{general}"]).await;
    let mut newcomer = Client::of(node, "newcomer").await;
    let nothing = json!({"roomId": "general", "since": {"seq": 0, "id": null}});
    let reply = newcomer.request("join", nothing).await;
    assert_eq!(
        reply["payload"]["recovered"], true,
        "the first message is still there"
    );
    let mut follow = Follow::new("newcomer");
    follow.history(&reply["payload"]);
    assert_eq!(follow.seen.len() as u64, length);
    follow
}

#[tokio::test]
async fn a_node_starts_without_redis_and_becomes_whole_by_itself() {
    let port = free_port();
    let node = Node::start(&[("REDIS_URL", &format!("redis://127.0.0.1:{port}"))]).await;
    let ready = http::get(node.addr, "/ready").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    let health = http::get(node.addr, "/health").await;
    assert_eq!(health.status, 200, "{health:?}");
    assert_eq!(health.json()["status"], "degraded", "{health:?}");
    assert_eq!(health.json()["broker"]["kind"], "redis", "{health:?}");
    assert_eq!(health.json()["broker"]["state"], "down", "{health:?}");

    let mut ada = Client::of(&node, "ada").await;
    let refused = ada.request("join", json!({"roomId": "general"})).await;
    assert_eq!(refused["payload"]["code"], "UNAVAILABLE", "{refused}");
    assert_eq!(refused["payload"]["roomId"], "general", "{refused}");
    ada.assert_alive().await;

    let _redis = Redis::start_on(port, &[])
        .await
        .expect("the port is still free");
    is_ready(&node).await;
    assert_eq!(ada.join("general").await["seq"], 0);
    assert_eq!(ada.say("general", "at last").await["seq"], 1);
    assert_eq!(ada.message().await["text"], "at last");
    assert_eq!(http::get(node.addr, "/health").await.json()["status"], "ok");
}

#[tokio::test]
async fn a_node_starts_where_redis_accepts_but_never_answers() {
    // Something listens there that never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let node = Node::start(&[("REDIS_URL", &format!("redis://127.0.0.1:{port}"))]).await;
    assert_eq!(http::get(node.addr, "/ready").await.status, 503);
    let mut ada = Client::of(&node, "ada").await;
    ada.send_text(r#"{"type":"join","id":"j","payload":{"roomId":"general"}}"#)
        .await;
    let refused = ada.expect_within(RECOVERY, "error").await;
    assert_eq!(refused["code"], "UNAVAILABLE", "{refused}");
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_told_to_the_members() {
    let mut redis = Redis::start().await;
    let node = node_on(&redis).await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    for n in 1..=3 {
        ada.say("general", &format!("{n}")).await;
        assert_eq!(ada.message().await["seq"], n);
    }
    redis.kill().await;
    is_not_ready(&node).await;
    redis.start_again().await;

    let fresh = ada.expect_within(RECOVERY, "history").await;
    assert_eq!(
        fresh["recovered"], false,
        "it replaces what she had: {fresh}"
    );
    assert_eq!(fresh["messages"], json!([]));
    assert_eq!((&fresh["seq"], &fresh["lastId"]), (&json!(0), &json!(null)));
    is_ready(&node).await;
    assert_eq!(ada.say("general", "anew").await["seq"], 1);
    assert_eq!(ada.message().await["text"], "anew");
}

#[tokio::test]
async fn a_redis_that_kept_everything_goes_on_where_it_was() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut redis = Redis::start_with(&options).await;
    let nodes = [node_on(&redis).await, node_on(&redis).await];
    let mut ada = Client::of(&nodes[0], "ada").await;
    let mut follow = Follow::new("ada");
    follow.history(&ada.join("general").await);
    let mut ben = Client::in_room(&nodes[1], "ben", "general").await;
    for n in 1..=3 {
        ben.say("general", &format!("{n}")).await;
    }
    redis.kill().await;
    is_not_ready(&nodes[0]).await;
    redis.start_again().await;
    is_ready(&nodes[0]).await;
    is_ready(&nodes[1]).await;
    assert_eq!(ben.say("general", "4").await["seq"], 4);
    while follow.seq != Some(4) {
        let event = ada.next_or_close(SOON).await.expect("the connection stays");
        assert_ne!(event["payload"]["recovered"], false, "{event}");
        follow.event(&event, "general");
    }
    assert_eq!(
        texts_of(&follow),
        ["1", "2", "3", "4"].map(str::to_owned).into()
    );
}

#[tokio::test]
async fn a_send_into_a_frozen_redis_is_stored_once() {
    let redis = Redis::start().await;
    let node = node_on(&redis).await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    ada.say("general", "before").await;
    redis.freeze();
    let payload = json!({"roomId": "general", "text": "into the ice", "clientId": "c1"});
    assert!(ada.try_send("message", payload.clone()).await);
    is_not_ready(&node).await;
    ada.assert_alive().await;
    redis.thaw();
    is_ready(&node).await;
    // Acked by itself where the node found out; else refused or closed, and then sent again.
    let mut is_stored = wait_for_answer(&mut ada).await;
    while !is_stored {
        if ada.is_closed() {
            ada = back_in_room(&node, "ada").await;
        }
        is_stored = say(&mut ada, &payload).await;
    }
    ada.say_and_hear("general", "after").await;
    let follow = whole_room(&redis, &node).await;
    assert_eq!(follow.seq, Some(3), "{:?}", follow.seen);
    let texts: HashSet<String> = texts_of(&follow).into_iter().collect();
    assert_eq!(
        texts,
        ["before", "into the ice", "after"]
            .map(str::to_owned)
            .into()
    );
}

/// The answer to a send made before: whether it is an ack.
async fn wait_for_answer(client: &mut Client) -> bool {
    while let Some(event) = client.next_or_close(RECOVERY).await {
        if event["type"] == "ack" && event["payload"]["clientId"] == "c1" {
            return true;
        }
        if event["type"] == "error" {
            return false;
        }
    }
    false
}

/// A bare name where a list should be: what is in Redis under the room's key is not this server's.
#[tokio::test]
async fn a_room_whose_key_is_broken_harms_no_other() {
    let redis = Redis::start().await;
    let node = node_on(&redis).await;
    let _: String = redis
        .cli(&["SET", "chat:history:{broken}", "no list"])
        .await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let refused = ada.request("join", json!({"roomId": "broken"})).await;
    assert_eq!(refused["type"], "error", "{refused}");
    assert_eq!(ada.say("general", "all well here").await["seq"], 1);
    assert_eq!(http::get(node.addr, "/ready").await.status, 200);
}

async fn is_ready(node: &Node) {
    eventually(RECOVERY, "/ready to be 200", || async {
        http::get(node.addr, "/ready").await.status == 200
    })
    .await;
}

async fn is_not_ready(node: &Node) {
    eventually(RECOVERY, "/ready to be 503", || async {
        http::get(node.addr, "/ready").await.status == 503
    })
    .await;
}

/// Nobody says anything, so nothing but the comparison of all open rooms, once a minute, can show it.
#[tokio::test]
async fn a_quiet_room_whose_list_is_gone_is_noticed_within_a_minute() {
    let redis = Redis::start().await;
    let node = node_on(&redis).await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    ada.say("general", "hello").await;
    ada.message().await;
    redis.cli::<i64>(&["DEL", "chat:history:{general}"]).await;
    let told = ada.expect_within(Duration::from_secs(75), "history").await;
    assert_eq!(told["recovered"], false, "{told}");
    assert_eq!(told["seq"], 0, "{told}");
    let ack = ada.say("general", "hello again").await;
    assert_eq!(ack["seq"], 1, "{ack}");
}
