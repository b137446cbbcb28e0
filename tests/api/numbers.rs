//! `/api/stats`: every field there and right, and all nodes together.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;

use crate::company::{Company, stats, stats_become};
use crate::support::{Client, Raw, Value, eventually, now_ms, raise_nofile, token};

const OF_A_NODE: [&str; 11] = [
    "connections",
    "cpuPercent",
    "draining",
    "lastHeartbeat",
    "memoryBytes",
    "messagesPerSecond",
    "nodeId",
    "rooms",
    "startedAt",
    "uptime",
    "version",
];

fn fields(of: &Value) -> Vec<&str> {
    of.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Every field is there, no other, and its number is one that it can be; `before`: when no node ran yet.
fn check(stats: &Value, before: u64) {
    let all = [
        "messagesPerSecond",
        "nodes",
        "totalConnections",
        "totalNodes",
        "totalRooms",
    ];
    assert_eq!(fields(stats), all);
    let nodes = stats["nodes"].as_array().unwrap();
    assert_eq!(stats["totalNodes"], nodes.len());
    let now = now_ms();
    for node in nodes {
        assert_eq!(fields(node), OF_A_NODE);
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
        let (started, beat) = (
            node["startedAt"].as_u64().unwrap(),
            node["lastHeartbeat"].as_u64().unwrap(),
        );
        assert!(
            before <= started && started <= beat && beat <= now,
            "{node}"
        );
        assert!(now - beat < 8_000, "{node}");
        // Seconds, as the last heartbeat found it.
        let uptime = node["uptime"].as_u64().unwrap();
        assert!(uptime.abs_diff((beat - started) / 1_000) <= 1, "{node}");
        let memory = node["memoryBytes"].as_u64().unwrap();
        assert!((1 << 20..1 << 32).contains(&memory), "{node}");
        assert!(
            (0.0..=6_400.0).contains(&node["cpuPercent"].as_f64().unwrap()),
            "{node}"
        );
        assert!(
            node["draining"].is_boolean() && node["rooms"].is_u64(),
            "{node}"
        );
    }
    let sum = |field: &str| {
        nodes
            .iter()
            .map(|node| node[field].as_f64().unwrap())
            .sum::<f64>()
    };
    assert_eq!(
        stats["totalConnections"].as_f64().unwrap(),
        sum("connections")
    );
    let rate = stats["messagesPerSecond"].as_f64().unwrap();
    assert!((rate - sum("messagesPerSecond")).abs() < 0.06, "{stats}");
}

#[tokio::test]
async fn the_stats_of_three_nodes_add_up() {
    let before = now_ms();
    let mut company = Company::of(3).await;
    // `general` on all three, `pair` on two, `alone` on one.
    let mut clients = Vec::new();
    for (n, rooms) in [
        &["general", "pair", "alone"][..],
        &["general", "pair"],
        &["general"],
    ]
    .iter()
    .enumerate()
    {
        for user in 0..=n {
            let mut client = Client::of(&company.nodes[n], &format!("user{user}")).await;
            for room in *rooms {
                client.join(room).await;
            }
            clients.push(client);
        }
    }
    // Every node knows the same of all.
    for node in &company.nodes {
        let is_so = |stats: &Value| stats["totalConnections"] == 6 && stats["totalRooms"] == 3;
        let stats = stats_become(node, "six connections, three rooms", is_so).await;
        check(&stats, before);
        let names: Vec<&str> = stats["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["nodeId"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["node-0", "node-1", "node-2"]);
        for (n, rooms) in [3, 2, 1].into_iter().enumerate() {
            assert_eq!(stats["nodes"][n]["connections"], n + 1, "{stats}");
            assert_eq!(stats["nodes"][n]["rooms"], rooms, "{stats}");
            assert_eq!(stats["nodes"][n]["draining"], false);
        }
    }

    // A node that is killed is gone within 10 s, with all that it had.
    let killed = Instant::now();
    company.nodes[0].kill().await;
    let survivors = &company.nodes[1..];
    for node in survivors {
        let is_so = |stats: &Value| {
            stats["totalNodes"] == 2 && stats["totalConnections"] == 5 && stats["totalRooms"] == 2
        };
        let gone = || async { is_so(&stats(node).await) };
        let left = Duration::from_secs(10).saturating_sub(killed.elapsed());
        eventually(left, "the killed node to disappear", gone).await;
        check(&stats(node).await, before);
    }
    println!(
        "gone from all stats {:.1} s after SIGKILL",
        killed.elapsed().as_secs_f64()
    );
    // Who was on other nodes stays.
    for client in &mut clients[1..] {
        client.assert_alive().await;
    }
}

#[tokio::test]
async fn messages_are_counted_where_they_are_said() {
    let before = now_ms();
    let company = Company::of(2).await;
    let mut ada = Client::in_room(&company.nodes[0], "ada", "general").await;
    let mut ben = Client::in_room(&company.nodes[1], "ben", "general").await;
    // Until both nodes' stats show it, ada goes on: twenty a second.
    let talk = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            ada.say("general", "hello").await;
            ben.message().await;
        }
    };
    let rate = |stats: &Value, n: usize| stats["nodes"][n]["messagesPerSecond"].as_f64().unwrap();
    let look = async {
        let steady = |stats: &Value| (4.0..=30.0).contains(&rate(stats, 0));
        let stats = stats_become(&company.nodes[1], "about twenty a second", steady).await;
        assert_eq!(rate(&stats, 1), 0.0, "{stats}");
        check(&stats, before);
    };
    tokio::select! {
        () = talk => {}
        () = look => {}
    }
    let silent = |stats: &Value| stats["messagesPerSecond"] == 0.0;
    stats_become(&company.nodes[0], "silence", silent).await;
}

#[tokio::test]
async fn a_node_alone_has_its_stats_too() {
    let before = now_ms();
    let company = Company::alone().await;
    let node = &company.nodes[0];
    let first = stats(node).await;
    check(&first, before);
    let _ada = Client::in_room(node, "ada", "general").await;
    let _again = Client::in_room(node, "ada", "general").await;
    let _idle = Client::of(node, "ben").await;
    let is_so = |stats: &Value| stats["totalConnections"] == 3 && stats["totalRooms"] == 1;
    let stats = stats_become(node, "three connections, one room", is_so).await;
    check(&stats, before);
    let is_later = |stats: &Value| stats["nodes"][0]["uptime"].as_u64() >= Some(3);
    let later = stats_become(node, "three seconds", is_later).await;
    assert_eq!(
        later["nodes"][0]["startedAt"],
        first["nodes"][0]["startedAt"]
    );
    check(&later, before);
}

#[tokio::test]
async fn a_node_that_drains_says_so_and_is_gone_when_it_has_ended() {
    let mut company =
        Company::of_with(2, &[("SHUTDOWN_GRACE", "20s"), ("DRAIN_SPREAD", "10s")]).await;
    // Letting go is spread over a millisecond a connection, and one that answers no close takes 2 s: time
    // for the beat that says so, and for the other node's to find it.
    const HOLDING: usize = 3_000;
    raise_nofile();
    let addr = company.nodes[1].addr;
    let hold = |n: usize| async move {
        let mut raw = Raw::open(addr, &token(&format!("u{n}"))).await;
        raw.expect("connected").await;
        raw
    };
    let mut holding = Vec::new();
    for from in (0..HOLDING).step_by(100) {
        holding.extend(join_all((from..from + 100).map(hold)).await);
    }
    let node = &company.nodes[0];
    stats_become(node, "all connections", |stats| {
        stats["totalConnections"] == HOLDING
    })
    .await;
    company.nodes[1].signal(Signal::TERM);
    stats_become(node, "the draining node", |stats| {
        stats["nodes"][1]["draining"] == true && stats["nodes"][0]["draining"] == false
    })
    .await;
    let gone = |stats: &Value| stats["totalNodes"] == 1 && stats["totalConnections"] == 0;
    stats_become(node, "its end", gone).await;
    let names: BTreeSet<String> = stats(node).await["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["nodeId"].to_string())
        .collect();
    assert_eq!(names, BTreeSet::from(["\"node-0\"".to_owned()]));
    let ended = company.nodes[1].exit(Duration::from_secs(10)).await;
    assert_eq!(ended.code(), Some(0));
}
