//! How often one address may come, and how many connections a user and an address may have.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::door::{Asked, HOME, ask, enter};
use crate::support::{Node, Redis, SOON, eventually, http, token};

async fn two_nodes(env: &[(&str, &str)]) -> (Redis, [Node; 2]) {
    let redis = Redis::start().await;
    let (one, two) = tokio::join!(Node::on_with(&redis, env), Node::on_with(&redis, env));
    (redis, [one, two])
}

/// Keys of Redis that hold who is connected.
async fn places(redis: &Redis) -> Vec<String> {
    redis.cli(&["KEYS", "chat:connections:*"]).await
}

fn statuses(all: &[Asked], status: u16) -> usize {
    all.iter().filter(|one| one.status() == status).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_connects_so_often_in_a_window_over_both_nodes() {
    let limit = [
        ("RATE_LIMIT_CONNECTS", "30"),
        ("RATE_LIMIT_CONNECTS_WINDOW", "6s"),
    ];
    let (redis, nodes) = two_nodes(&limit).await;
    // Neither of these is a connect.
    for node in &nodes {
        http::get(node.addr, "/health").await;
        http::get(node.addr, "/ws").await;
        http::get(node.addr, "/api/rooms/a/users").await;
    }
    let begin = Instant::now();
    let good = token("ann");
    let all = (0..80).map(|n| {
        let token = if n % 3 == 0 { "bad" } else { &good };
        ask(nodes[n % 2].addr, HOME, token)
    });
    let all = join_all(all).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "one window");
    let (told, refused) = (
        statuses(&all, 101) + statuses(&all, 401),
        statuses(&all, 429),
    );
    // The user's own 20 are refused with 429, too, and count as connects all the same.
    let too_fast = all
        .iter()
        .filter(|one| one.status() == 429 && one.response.body.contains("from this address"));
    assert_eq!(too_fast.count(), 50, "{told} answered, {refused} refused");
    // Whoever comes too often doesn't learn what a token is worth.
    for (node, token) in [(0, "bad"), (1, "bad"), (0, &*good), (1, &*good)] {
        let seconds = ask(nodes[node].addr, HOME, token).await.assert_too_many();
        assert!((1..=6).contains(&seconds), "{seconds}");
    }
    // Others aren't concerned.
    ask(nodes[0].addr, [127, 0, 0, 2], &token("bob"))
        .await
        .assert_in();
    let refused = ask(nodes[1].addr, HOME, &token("bob")).await;
    tokio::time::sleep(Duration::from_secs(refused.assert_too_many())).await;
    for node in &nodes {
        ask(node.addr, HOME, &token("bob")).await.assert_in();
    }
    let left: i64 = redis.cli(&["PTTL", "chat:connects:127.0.0.1"]).await;
    assert!((1..=6_000).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_twenty_connections_over_both_nodes_and_not_one_more() {
    let (redis, nodes) = two_nodes(&[]).await;
    let ann = token("ann");
    let all = join_all((0..60).map(|n| ask(nodes[n % 2].addr, HOME, &ann))).await;
    let mut inside: Vec<Asked> = all.into_iter().filter(|one| one.status() == 101).collect();
    assert!(inside.len() <= 20, "{} were let in", inside.len());
    while inside.len() < 20 {
        inside.push(enter(&nodes[inside.len() % 2], "ann").await);
    }
    for node in &nodes {
        assert!(ask(node.addr, HOME, &ann).await.assert_too_many() >= 1);
        enter(node, "bob").await;
    }
    // Who closes one may open another at once, at whichever node.
    for turn in 0..40 {
        drop(inside.remove(turn % 20));
        inside.push(enter(&nodes[turn / 3 % 2], "ann").await);
    }
    ask(nodes[0].addr, HOME, &ann).await.assert_too_many();
    inside.clear();
    eventually(SOON, "nothing to be left", || async {
        places(&redis).await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections_over_both_nodes() {
    let (redis, nodes) = two_nodes(&[("MAX_CONNECTIONS_PER_IP", "4")]).await;
    let mut inside = Vec::new();
    for n in 0..4 {
        inside.push(enter(&nodes[n % 2], &format!("user{n}")).await);
    }
    for node in &nodes {
        let refused = ask(node.addr, HOME, &token("late")).await;
        refused.assert_too_many();
        assert!(
            refused.response.body.contains("this address"),
            "{:?}",
            refused.response
        );
        ask(node.addr, [127, 0, 0, 2], &token("late"))
            .await
            .assert_in();
    }
    // Who was refused for the address has taken nothing of the user.
    eventually(SOON, "five names", || async {
        places(&redis).await.len() == 5
    })
    .await;
    drop(inside.pop());
    inside.push(enter(&nodes[0], "late").await);
    inside.clear();
    eventually(SOON, "nothing to be left", || async {
        places(&redis).await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_that_come_and_go_and_are_refused_leave_nothing() {
    let cap = [
        ("MAX_CONNECTIONS_PER_USER", "3"),
        ("MAX_CONNECTIONS_PER_IP", "1000"),
    ];
    let (redis, nodes) = two_nodes(&cap).await;
    let round = async |times: usize| {
        for turn in 0..times {
            // Two that stay to the end of the turn, and some that meet the cap.
            let user = token(&format!("user{turn}"));
            join_all((0..10).map(|n| ask(nodes[n % 2].addr, HOME, &user))).await;
        }
        eventually(SOON, "nothing to be left", || async {
            places(&redis).await.is_empty()
        })
        .await;
        nodes.each_ref().map(Node::peak_memory)
    };
    let first = round(50).await;
    let then = round(50).await;
    for (first, then) in first.iter().zip(then) {
        assert!(then < first + (4 << 20), "{first} bytes became {then}");
    }
    for node in &nodes {
        let text = http::get(node.addr, "/metrics").await.body;
        let counted = "chat_connects_refused_total{reason=\"user\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(counted));
        assert!(line.unwrap().parse::<u32>().unwrap() > 0, "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_has_the_same_limits() {
    let limits = [
        ("RATE_LIMIT_CONNECTS", "40"),
        ("RATE_LIMIT_CONNECTS_WINDOW", "4s"),
        ("MAX_CONNECTIONS_PER_USER", "5"),
        ("MAX_CONNECTIONS_PER_IP", "8"),
    ];
    let node = Node::start(&limits).await;
    let mut inside = Vec::new();
    for n in 0..5 {
        inside.push(enter(&node, "ann").await);
        assert_eq!(inside.len(), n + 1);
    }
    ask(node.addr, HOME, &token("ann")).await.assert_too_many();
    for _ in 0..3 {
        inside.push(enter(&node, "bob").await);
    }
    ask(node.addr, HOME, &token("bob")).await.assert_too_many();
    ask(node.addr, [127, 0, 0, 2], &token("bob"))
        .await
        .assert_in();
    // Ten connects so far.
    let all = join_all((0..60).map(|_| ask(node.addr, HOME, "bad"))).await;
    assert_eq!((statuses(&all, 401), statuses(&all, 429)), (30, 30));
    let seconds = ask(node.addr, HOME, &token("eve")).await.assert_too_many();
    assert!((1..=4).contains(&seconds), "{seconds}");
    inside.clear();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for _ in 0..5 {
        inside.push(enter(&node, "ann").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_for_a_cap_has_connected_all_the_same() {
    let limits = [
        ("RATE_LIMIT_CONNECTS", "10"),
        ("RATE_LIMIT_CONNECTS_WINDOW", "1h"),
        ("MAX_CONNECTIONS_PER_USER", "1"),
    ];
    let (_redis, nodes) = two_nodes(&limits).await;
    let _inside = enter(&nodes[0], "ann").await;
    let ann = token("ann");
    // This node knows by itself that ann has a connection; the other one has to be told of the tries.
    let all = join_all((0..9).map(|_| ask(nodes[0].addr, HOME, &ann))).await;
    for asked in &all {
        asked.assert_too_many();
        assert!(
            asked.response.body.contains("this user"),
            "{:?}",
            asked.response
        );
    }
    let refused = ask(nodes[1].addr, HOME, &token("bob")).await;
    assert!(refused.assert_too_many() > 3_000);
    assert!(
        refused.response.body.contains("from this address"),
        "{:?}",
        refused.response
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_off_is_off() {
    let off = [
        ("RATE_LIMIT_CONNECTS", "0"),
        ("MAX_CONNECTIONS_PER_USER", "0"),
        ("MAX_CONNECTIONS_PER_IP", "0"),
    ];
    let (redis, nodes) = two_nodes(&off).await;
    let ann = token("ann");
    let all = join_all((0..100).map(|n| ask(nodes[n % 2].addr, HOME, &ann))).await;
    assert_eq!(statuses(&all, 101), 100);
    let keys: Vec<String> = redis.cli(&["KEYS", "chat:connect*"]).await;
    assert!(keys.is_empty(), "{keys:?}");
}
