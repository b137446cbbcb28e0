//! One node, phase by phase: whom it refuses, whom it goes on serving, when it lets whom go, and the
//! status with which it ends.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;

use crate::support::raw::{CLOSE, Raw, TEXT};
use crate::support::{Client, Connect, Node, Redis, SOON, Value, eventually, http, json, token};

/// So long a peer has to answer the close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// For whatever else a busy machine does.
const SLACK: Duration = Duration::from_secs(3);

/// So many connections that say nothing, past their handshake.
async fn crowd(node: &Node, count: usize) -> Vec<Raw> {
    let mut crowd = Vec::new();
    for batch in 0..count.div_ceil(100) {
        let these = batch * 100..count.min(batch * 100 + 100);
        crowd.extend(join_all(these.map(|i| one_of_crowd(node, i))).await);
    }
    crowd
}

async fn one_of_crowd(node: &Node, i: usize) -> Raw {
    let mut one = Raw::open(node.addr, &token(&format!("user{i}"))).await;
    one.expect("connected").await;
    one
}

/// Reads to `reconnect`, answers the close that has to follow it at once, and reads to the end. When it
/// was told.
async fn let_go(mut one: Raw, limit: Duration) -> Instant {
    let (kind, payload) = one.recv(limit).await.expect("`reconnect`");
    let told = Instant::now();
    assert_eq!(kind, TEXT);
    let event: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(event["type"], "reconnect");
    assert_eq!(event["payload"]["reason"], "draining");
    let away = event["payload"]["delayMs"].as_u64().unwrap();
    assert!((100..=1_000).contains(&away), "{away} ms");
    let (kind, payload) = one.recv(SOON).await.expect("the close");
    assert_eq!(kind, CLOSE);
    assert_eq!(payload[..2], 1001_u16.to_be_bytes());
    one.send(true, CLOSE, &payload[..2]).await;
    assert!(one.recv(SOON).await.is_none(), "nothing after the close");
    told
}

#[tokio::test]
async fn connections_are_let_go_evenly_a_millisecond_each() {
    const COUNT: usize = 2_000;
    let mut node = Node::embedded().await;
    let crowd = crowd(&node, COUNT).await;
    let begin = Instant::now();
    node.signal(Signal::TERM);
    let limit = Duration::from_secs(10);
    let told = join_all(crowd.into_iter().map(|one| let_go(one, limit)));
    let (mut told, status) = tokio::join!(told, node.exit(limit));
    assert_eq!(status.code(), Some(0));
    told.sort();
    // None before its time, however fast or slow this machine is: the drain begins after the signal,
    // and whoever is told sees it later.
    for (nth, at) in told.iter().enumerate() {
        let due = Duration::from_millis(nth as u64);
        let at = *at - begin;
        assert!(at >= due, "the {nth}th was let go after {at:?}");
    }
    // Nor are they all let go at the end.
    let (quarter, last) = (told[COUNT / 4] - begin, told[COUNT - 1] - begin);
    assert!(quarter < Duration::from_millis(1_500), "{quarter:?}");
    assert!(last < Duration::from_secs(2) + SLACK, "{last:?}");
}

#[tokio::test]
async fn drain_spread_is_the_longest_time() {
    const COUNT: usize = 600;
    let mut node = Node::start(&[("DRAIN_SPREAD", "100ms")]).await;
    let crowd = crowd(&node, COUNT).await;
    node.signal(Signal::TERM);
    let line = node.log("letting go", |line| {
        line["message"] == "letting connections go"
    });
    let line = line.await;
    assert_eq!(line["connections"], COUNT);
    assert_eq!(line["over_ms"], 100, "not 600");
    join_all(crowd.into_iter().map(|one| let_go(one, SOON))).await;
    assert_eq!(node.exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_spread_that_leaves_no_grace_is_cut_with_a_warning() {
    let env = [("SHUTDOWN_GRACE", "1s"), ("DRAIN_SPREAD", "800ms")];
    let node = Node::start(&env).await;
    let warned = node.log("the warning", |line| {
        line["level"] == "warn" && line["drain_spread_ms"] == 800
    });
    assert_eq!(warned.await["used_ms"], 500);
}

#[tokio::test]
async fn who_has_not_been_let_go_is_served_as_before_and_nobody_new_is() {
    let mut node = Node::embedded().await;
    let mut talkers = Vec::new();
    for i in 0..20 {
        talkers.push(Client::in_room(&node, &format!("talker{i}"), "general").await);
    }
    let crowd = crowd(&node, 2_000).await;
    node.signal(Signal::TERM);

    let refusals = async {
        eventually(SOON, "the node to drain", || async {
            http::get(node.addr, "/ready").await.status == 503
        })
        .await;
        let ready = http::get(node.addr, "/ready").await;
        assert_eq!(ready.json()["reason"], "draining");
        assert_eq!(http::get(node.addr, "/health").await.status, 200);
        let path = format!("/?token={}", token("late"));
        let refused = http::upgrade(node.addr, &path, &[]).await;
        refused.assert_refusal(503, "DRAINING");
        let seconds = refused.header("retry-after");
        assert!(seconds.is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 0)));
        // A bad token learns no less: where to come to instead is no secret.
        let refused = http::upgrade(node.addr, "/ws?token=x", &[]).await;
        refused.assert_refusal(503, "DRAINING");
    };
    let talk = join_all(talkers.iter_mut().map(talk_to_the_end));
    let gone = join_all(crowd.into_iter().map(|one| let_go(one, 2 * SOON)));
    let ((), acked, _) = tokio::join!(refusals, talk, gone);
    let (acked, heard) = acked
        .into_iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(acked > 100, "{acked} sends acked while it drained");
    assert!(heard > acked, "{heard} messages for {acked} sends");
    assert_eq!(node.exit(SOON).await.code(), Some(0));
}

/// Says something again and again until it is let go; how many acks and messages it got.
async fn talk_to_the_end(client: &mut Client) -> (usize, usize) {
    let (mut acked, mut heard, mut unanswered) = (0, 0, 0);
    loop {
        if unanswered == 0 {
            let payload = json!({"roomId": "general", "text": "still here"});
            // One that has just been let go can't be told from the socket.
            client.try_send("message", payload).await;
            unanswered = 1;
        }
        match client.next_or_close(SOON).await {
            Some(event) => match event["type"].as_str() {
                Some("ack") => (acked, unanswered) = (acked + 1, 0),
                Some("message") => heard += 1,
                Some("reconnect") => {
                    assert_eq!(client.closed(SOON).await, Some(1001));
                    assert!(client.forget().is_empty(), "nothing after `reconnect`");
                    return (acked, heard);
                }
                _ => {}
            },
            None => panic!("{} was closed without a word", client.user()),
        }
    }
}

#[tokio::test]
async fn what_is_owed_comes_before_the_end() {
    let redis = Redis::start().await;
    let mut node = Node::on(&redis).await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    // Redis answers nothing for now, so these are on the way when the node is told to stop.
    redis.freeze();
    let text = |n: usize| {
        let payload =
            json!({"roomId": "general", "text": format!("{n}"), "clientId": n.to_string()});
        json!({"type": "message", "payload": payload}).to_string()
    };
    ada.send_all((0..10).map(text)).await;
    ada.send_text(json!({"type": "ping", "id": "after"}).to_string())
        .await;
    // It has read them: it answers in the order of a room, and a ping is in none.
    ada.expect("pong").await;
    node.signal(Signal::TERM);
    eventually(SOON, "the node to drain", || async {
        http::get(node.addr, "/ready").await.status == 503
    })
    .await;
    redis.thaw();
    let mut acks = Vec::new();
    loop {
        let event = ada.next().await;
        match event["type"].as_str() {
            Some("ack") => acks.push(event["payload"]["clientId"].clone()),
            Some("reconnect") => break,
            _ => {}
        }
    }
    let sent: Vec<_> = (0..10).map(|n| json!(n.to_string())).collect();
    assert_eq!(acks, sent, "each was acked before it was let go");
    assert_eq!(ada.closed(SOON).await, Some(1001));
    assert_eq!(node.exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn what_stays_owed_holds_nobody_for_long() {
    let redis = Redis::start().await;
    let mut node = Node::on(&redis).await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    redis.freeze();
    ada.send("message", json!({"roomId": "general", "text": "lost?"}))
        .await;
    ada.assert_alive().await;
    let begin = Instant::now();
    node.signal(Signal::TERM);
    ada.expect("reconnect").await;
    assert!(begin.elapsed() >= CLOSE_TIMEOUT, "it was waited for");
    assert_eq!(ada.closed(SOON).await, Some(1001));
    assert_eq!(node.exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_peer_that_answers_nothing_is_dropped_and_counts_as_gone() {
    let mut node = Node::embedded().await;
    let mut silent = one_of_crowd(&node, 0).await;
    let mut polite = Client::of(&node, "polite").await;
    let begin = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(silent.close_code().await, Some(1001));
    assert_eq!(polite.closed(SOON).await, Some(1001));
    let status = node.exit(CLOSE_TIMEOUT + SLACK).await;
    assert_eq!(status.code(), Some(0));
    assert!(
        begin.elapsed() >= CLOSE_TIMEOUT,
        "it had the time to answer"
    );
    silent.ended(SOON).await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_dropped_too() {
    let mut node = Node::embedded().await;
    let mut sender = Client::in_room(&node, "sender", "general").await;
    let mut full = Raw::open_with_buffer(node.addr, &token("full"), Some(4096)).await;
    full.send_json(&json!({"type": "join", "payload": {"roomId": "general"}}))
        .await;
    full.expect("history").await;
    // More than its socket holds: the close can't even be written.
    for _ in 0..1_000 {
        sender.say("general", &"漢".repeat(2_000)).await;
        sender.forget();
    }
    node.signal(Signal::TERM);
    assert_eq!(sender.closed(SOON).await, Some(1001));
    let status = node.exit(2 * CLOSE_TIMEOUT + SLACK).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_grace_that_runs_out_ends_it_with_1() {
    let mut node = Node::start(&[("SHUTDOWN_GRACE", "500ms")]).await;
    let mut silent = one_of_crowd(&node, 0).await;
    let begin = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(silent.close_code().await, Some(1001));
    let status = node.exit(Duration::from_millis(500) + SLACK).await;
    assert_eq!(status.code(), Some(1));
    assert!(begin.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn a_second_signal_ends_it_while_it_lets_connections_go() {
    let env = [("SHUTDOWN_GRACE", "60s"), ("DRAIN_SPREAD", "30s")];
    let mut node = Node::start(&env).await;
    let crowd = crowd(&node, 3_000).await;
    let begin = Instant::now();
    node.signal(Signal::TERM);
    let what = |line: &Value| line["message"] == "letting connections go";
    node.log("letting go", what).await;
    node.signal(Signal::TERM);
    assert_eq!(node.exit(SOON).await.code(), Some(1));
    let after = begin.elapsed();
    assert!(after < Duration::from_secs(3), "ended after {after:?}");
    drop(crowd);
}

/// Handshakes that are under way when the signal comes: whoever got its 101 is let go like everybody
/// else, whoever didn't was told to go elsewhere or found nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_is_under_way_is_not_forgotten() {
    for round in 0..10 {
        let mut node = Node::embedded().await;
        let addr = node.addr;
        let knock = |who: usize| {
            tokio::spawn(async move {
                let path = format!("/?token={}", token(&format!("user{who}")));
                let mut let_in = 0;
                loop {
                    let Ok(Some(mut one)) = Raw::try_open(addr, &path).await else {
                        return let_in;
                    };
                    let_in += 1;
                    one.expect("connected").await;
                    // It leaves at once, so that often nobody is left to be waited for.
                    one.send(true, CLOSE, &1000_u16.to_be_bytes()).await;
                    let end = one.recv(SOON).await;
                    let (kind, payload) = end.expect("a close, or `reconnect` before it");
                    if kind == TEXT {
                        let event: Value = serde_json::from_slice(&payload).unwrap();
                        assert_eq!(event["type"], "reconnect");
                        assert_eq!(one.close_code().await, Some(1001));
                        return let_in;
                    }
                    assert_eq!(kind, CLOSE);
                }
            })
        };
        let knocking: Vec<_> = (0..8).map(knock).collect();
        tokio::time::sleep(Duration::from_millis(30 + 7 * round)).await;
        node.signal(Signal::TERM);
        assert_eq!(node.exit(SOON).await.code(), Some(0));
        for knocker in knocking {
            assert!(knocker.await.expect("no one was forgotten") > 0);
        }
    }
}

#[tokio::test]
async fn a_token_that_ends_or_a_client_that_leaves_meanwhile_is_no_trouble() {
    let mut node = Node::embedded().await;
    let mut ada = Connect::to(&node).token(&token("ada")).open().await;
    let ben = Client::of(&node, "ben").await;
    let crowd = crowd(&node, 1_000).await;
    node.signal(Signal::TERM);
    drop(ben);
    drop(crowd);
    assert_eq!(ada.closed(SOON).await, Some(1001));
    assert_eq!(node.exit(SOON).await.code(), Some(0));
}
