//! Limits while nodes and Redis come and go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::door::{Asked, HOME, ask, enter};
use crate::support::{Node, Redis, SOON, eventually, token, within};

/// A dead node is given up within that time; some of it is for a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(12);

async fn two_nodes() -> (Redis, [Node; 2]) {
    let redis = Redis::start().await;
    let (one, two) = tokio::join!(Node::on(&redis), Node::on(&redis));
    (redis, [one, two])
}

/// Ten connections of ann at each node: as many as a user has.
async fn crowd(nodes: &[Node; 2]) -> [Vec<Asked>; 2] {
    let mut inside = [Vec::new(), Vec::new()];
    for _ in 0..10 {
        for (inside, node) in inside.iter_mut().zip(nodes) {
            inside.push(enter(node, "ann").await);
        }
    }
    inside
}

/// Ann asks until she is let in.
async fn first_in(to: SocketAddr, what: &str) -> Asked {
    let ann = token("ann");
    within(GIVEN_UP, what, async {
        loop {
            let asked = ask(to, HOME, &ann).await;
            if asked.status() == 101 {
                return asked;
            }
            asked.assert_too_many();
        }
    })
    .await
}

/// The nodes' numbers of ann's connections, lowest first.
async fn numbers(redis: &Redis) -> Vec<u32> {
    let values: Vec<String> = redis.cli(&["HVALS", "chat:connections:user:ann"]).await;
    let number = |value: &String| value.split(' ').nth(1).unwrap().parse().unwrap();
    let mut numbers: Vec<u32> = values.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_nodes_places_are_free_within_ten_seconds() {
    let (redis, mut nodes) = two_nodes().await;
    let _inside = crowd(&nodes).await;
    let ann = token("ann");
    ask(nodes[1].addr, HOME, &ann).await.assert_too_many();
    nodes[0].kill().await;
    ask(nodes[1].addr, HOME, &ann).await.assert_too_many();
    let (mut back, to) = (Vec::new(), nodes[1].addr);
    back.push(first_in(to, "a place of the dead").await);
    for _ in 1..10 {
        back.push(enter(&nodes[1], "ann").await);
    }
    ask(to, HOME, &ann).await.assert_too_many();
    assert_eq!(numbers(&redis).await, [20], "what the dead left is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_nodes_places_are_free_at_once() {
    let (redis, mut nodes) = two_nodes().await;
    let all = (0..20).map(|_| enter(&nodes[0], "ann"));
    let inside: Vec<Asked> = join_all(all).await;
    ask(nodes[1].addr, HOME, &token("ann"))
        .await
        .assert_too_many();
    // They don't answer the close: they are dropped after 2 s.
    assert!(nodes[0].stop().await.success());
    drop(inside);
    let all = (0..20).map(|_| enter(&nodes[1], "ann"));
    let _inside: Vec<Asked> = join_all(all).await;
    assert_eq!(numbers(&redis).await, [20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_nodes_own_numbers_hold_and_all_is_told_when_it_is_back() {
    let (mut redis, nodes) = two_nodes().await;
    let mut inside = crowd(&nodes).await;
    redis.kill().await;
    for (inside, node) in inside.iter_mut().zip(&nodes) {
        let begin = Instant::now();
        for _ in 0..10 {
            inside.push(enter(node, "ann").await);
        }
        ask(node.addr, HOME, &token("ann")).await.assert_too_many();
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
    inside.iter_mut().for_each(|inside| inside.truncate(9));
    redis.start_again().await;
    eventually(4 * SOON, "all to be told", async || {
        numbers(&redis).await == [9, 9]
    })
    .await;
    for node in &nodes {
        inside[0].push(enter(node, "ann").await);
    }
    for node in &nodes {
        ask(node.addr, HOME, &token("ann")).await.assert_too_many();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgot_everything_is_told_again() {
    let (redis, nodes) = two_nodes().await;
    let inside = crowd(&nodes).await;
    let () = redis.cli(&["FLUSHALL"]).await;
    eventually(4 * SOON, "all to be told", async || {
        numbers(&redis).await == [10, 10]
    })
    .await;
    for node in &nodes {
        ask(node.addr, HOME, &token("ann")).await.assert_too_many();
    }
    drop(inside);
    eventually(SOON, "nothing to be left", async || {
        numbers(&redis).await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_slow_holds_nobody_up_and_who_gave_up_holds_no_place() {
    let (redis, nodes) = two_nodes().await;
    let inside = crowd(&nodes).await;
    redis.freeze();
    let begin = Instant::now();
    let own = join_all((0..10).map(|_| enter(&nodes[0], "ann"))).await;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    // These go before they are answered.
    let bob = token("bob");
    let hurried = (0..10).map(|_| {
        let asked = ask(nodes[1].addr, HOME, &bob);
        tokio::time::timeout(Duration::from_millis(200), asked)
    });
    let hurried = join_all(hurried).await;
    assert!(hurried.iter().any(Result::is_err), "somebody gave up");
    drop(hurried);
    redis.thaw();
    eventually(4 * SOON, "all to be told", async || {
        numbers(&redis).await == [10, 20]
    })
    .await;
    eventually(4 * SOON, "bob to be gone", async || {
        let keys: Vec<String> = redis.cli(&["KEYS", "chat:connections:user:bob"]).await;
        keys.is_empty()
    })
    .await;
    drop((own, inside));
    eventually(SOON, "nothing to be left", async || {
        numbers(&redis).await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_given_up_enters_its_connections_again() {
    use rustix::process::Signal;
    let (redis, nodes) = two_nodes().await;
    let inside = crowd(&nodes).await;
    nodes[0].signal(Signal::STOP);
    let (mut back, ann) = (Vec::new(), token("ann"));
    back.push(first_in(nodes[1].addr, "the frozen node's places").await);
    nodes[0].signal(Signal::CONT);
    // One more than allowed: nobody is thrown out, and nobody comes in before two have left.
    eventually(4 * SOON, "all to be told", async || {
        numbers(&redis).await == [10, 11]
    })
    .await;
    for node in &nodes {
        ask(node.addr, HOME, &ann).await.assert_too_many();
    }
    drop((inside, back));
    eventually(SOON, "nothing to be left", async || {
        numbers(&redis).await.is_empty()
    })
    .await;
}
