//! Three nodes on one real Redis behind a real nginx with `deploy/nginx.conf`: one chat, whoever is
//! connected where, and also when a node goes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use support::connect::Io;
use support::nginx::Nginx;
use support::{Client, Connect, Follow, Node, Raw, Redis, SOON, http, json, token, within};
use tokio::net::TcpStream;

const NAMES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// In the order in which it has to go: nginx, the nodes, Redis.
struct Cluster {
    nginx: Nginx,
    nodes: Vec<Node>,
    _redis: Redis,
}

impl Cluster {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let start = |name| {
            let redis = &redis;
            async move { Node::on_with(redis, &[("NODE_ID", name)]).await }
        };
        let nodes = join_all(NAMES.map(start)).await;
        let ports: Vec<u16> = nodes.iter().map(|node| node.addr.port()).collect();
        let nginx = Nginx::start([ports[0], ports[1], ports[2]]).await;
        Self {
            nginx,
            nodes,
            _redis: redis,
        }
    }

    /// A client from the network `127.0.network.*`, on the node that nginx chooses for it.
    async fn client(&self, user: &str, network: u8) -> Client {
        let through = Connect::through(&self.nginx).token(&token(user));
        through.from([127, 0, network, 1]).open().await
    }

    /// Its place among the nodes.
    fn node_of(&self, client: &Client) -> usize {
        NAMES
            .iter()
            .position(|name| *name == client.node_id())
            .expect("one of the three")
    }

    /// A network whose clients come to a node of which `is_right` is true, and its first client.
    async fn network_of(&self, is_right: impl Fn(&str) -> bool) -> (u8, Client) {
        for network in 1..200 {
            let client = self.client("scout", network).await;
            if is_right(client.node_id()) {
                return (network, client);
            }
            client.close().await;
        }
        panic!("ip_hash never chose such a node");
    }
}

#[tokio::test]
async fn sixty_clients_on_three_nodes_see_the_same_chat() {
    const CLIENTS: usize = 60;
    const ROOMS: usize = 6;
    const SENDERS: usize = 20;
    const EACH: usize = 50;
    let cluster = Cluster::start().await;
    let room_of = |i: usize| format!("room-{}", i % ROOMS);
    let expected = |i: usize| (0..SENDERS).filter(|s| s % ROOMS == i % ROOMS).count() * EACH;

    let connect = |i: usize| {
        let cluster = &cluster;
        async move { cluster.client(&format!("user{i}"), (i + 1) as u8).await }
    };
    let mut clients = join_all((0..CLIENTS).map(connect)).await;

    let mut held = BTreeMap::new();
    for client in &clients {
        *held.entry(client.node_id().to_owned()).or_insert(0) += 1;
    }
    println!("clients per node: {held:?}");
    assert_eq!(held.len(), 3, "ip_hash left a node without any: {held:?}");

    let mut follows = Vec::new();
    for (i, client) in clients.iter_mut().enumerate() {
        let mut follow = Follow::new(format!("user{i} on {}", client.node_id()));
        follow.history(&client.join(&room_of(i)).await);
        follows.push(follow);
    }

    let talk = clients
        .iter_mut()
        .zip(&mut follows)
        .enumerate()
        .map(|(i, (client, follow))| {
            let room = room_of(i);
            async move {
                if i < SENDERS {
                    let say = |n| {
                        let payload = json!({"roomId": room, "text": format!("user{i} says {n}")});
                        json!({"type": "message", "payload": payload}).to_string()
                    };
                    client.send_all((0..EACH).map(say)).await;
                }
                while follow.live < expected(i) {
                    follow.message(&client.expect_within(SOON * 4, "message").await);
                }
                for _ in 0..if i < SENDERS { EACH } else { 0 } {
                    client.expect("ack").await;
                }
            }
        });
    within(
        Duration::from_secs(60),
        "everyone to see everything",
        join_all(talk),
    )
    .await;

    for (i, follow) in follows.iter().enumerate() {
        assert_eq!(
            follow.seen,
            follows[i % ROOMS].seen,
            "user{i} and user{} differ",
            i % ROOMS
        );
        let texts: BTreeSet<&str> = follow
            .seen
            .values()
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(texts.len(), expected(i), "user{i} saw a message twice");
    }
    // Each sender's own messages stand in the order in which it sent them.
    for (sender, follow) in follows.iter().enumerate().take(SENDERS) {
        let prefix = format!("user{sender} says ");
        let in_order: BTreeMap<u64, &String> = follow
            .seen
            .iter()
            .map(|(seq, (_, text))| (*seq, text))
            .collect();
        let numbers = in_order
            .values()
            .filter_map(|text| text.strip_prefix(&prefix));
        let numbers: Vec<usize> = numbers.map(|n| n.parse().unwrap()).collect();
        assert_eq!(
            numbers,
            (0..EACH).collect::<Vec<_>>(),
            "the order of user{sender}'s messages"
        );
    }
    for client in &mut clients {
        client.expect_no("message").await;
    }
}

#[tokio::test]
async fn a_join_on_another_node_sees_what_was_said() {
    let cluster = Cluster::start().await;
    let mut ada = Client::in_room(&cluster.nodes[0], "ada", "general").await;
    ada.say_and_hear("general", "from a").await;
    let mut ben = Client::of(&cluster.nodes[1], "ben").await;
    let history = ben.join("general").await;
    assert_eq!(history["messages"][0]["payload"]["text"], "from a");
    let ack = ben.say("general", "from b").await;
    assert_eq!(ack["seq"], 2);
    assert_eq!(ada.message().await["text"], "from b");
    ben.send("typing", json!({"roomId": "general", "isTyping": true}))
        .await;
    assert_eq!(ada.expect("typing").await["userId"], "ben");
}

#[tokio::test]
async fn the_same_send_on_another_node_is_a_duplicate() {
    let cluster = Cluster::start().await;
    let payload = json!({"roomId": "general", "text": "once", "clientId": "c1"});
    let mut on_a = Client::in_room(&cluster.nodes[0], "ada", "general").await;
    let first = on_a.request("message", payload.clone()).await;
    let mut on_b = Client::in_room(&cluster.nodes[1], "ada", "general").await;
    let second = on_b.request("message", payload).await;
    assert_eq!(second["payload"]["duplicate"], true, "{second}");
    assert_eq!(
        second["payload"]["messageId"],
        first["payload"]["messageId"]
    );
}

#[tokio::test]
async fn clients_of_a_dead_node_land_elsewhere_and_miss_nothing() {
    let mut cluster = Cluster::start().await;
    let (network, mut ada) = cluster.network_of(|_| true).await;
    let dead = cluster.node_of(&ada);
    let (_, mut ben) = cluster.network_of(|node| node != NAMES[dead]).await;
    let mut follow = Follow::new("ada");
    follow.history(&ada.join("general").await);
    ben.join("general").await;
    ben.say("general", "before").await;
    follow.message(&ada.message().await);

    cluster.nodes[dead].kill().await;
    assert_eq!(ada.closed(SOON).await, None, "gone without a word");
    ben.say_and_hear("general", "while she was away").await;

    // From the same address, so that ip_hash asks the dead one first.
    let mut ada = cluster.client("scout", network).await;
    assert_ne!(cluster.node_of(&ada), dead, "not on the dead node");
    let last = &follow.seen[&follow.seq.unwrap()].0;
    let since = json!({"seq": follow.seq, "id": last});
    let reply = ada
        .request("join", json!({"roomId": "general", "since": since}))
        .await;
    assert_eq!(reply["payload"]["recovered"], true, "{reply}");
    assert_eq!(
        reply["payload"]["messages"][0]["payload"]["text"],
        "while she was away"
    );
    follow.history(&reply["payload"]);
    ben.say("general", "welcome back").await;
    follow.message(&ada.message().await);

    // More from the same address: none of them meets the dead node.
    for _ in 0..20 {
        let client = cluster.client("another", network).await;
        assert_ne!(cluster.node_of(&client), dead);
        client.close().await;
    }
    assert_no_token_in(&cluster.nginx.logs());
}

#[tokio::test]
async fn a_draining_node_is_passed_over() {
    let mut cluster = Cluster::start().await;
    let (network, scout) = cluster.network_of(|_| true).await;
    let draining = cluster.node_of(&scout);
    scout.close().await;
    // It answers no close, so the node waits for it and goes on draining meanwhile.
    let mut holding = Raw::open(cluster.nodes[draining].addr, &token("holding")).await;
    holding.expect("connected").await;
    cluster.nodes[draining].signal(Signal::TERM);
    assert_eq!(holding.close_code().await, Some(1001));
    let client = cluster.client("ada", network).await;
    assert_ne!(cluster.node_of(&client), draining);
    let status = cluster.nodes[draining].exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
    assert_no_token_in(&cluster.nginx.logs());
}

#[tokio::test]
async fn nginx_sends_plain_http_to_tls_and_logs_no_token() {
    let cluster = Cluster::start().await;
    let plain = http::get(cluster.nginx.plain, "/health?x=1").await;
    assert_eq!(plain.status, 308, "{plain:?}");
    assert!(
        plain
            .header("location")
            .is_some_and(|to| to.starts_with("https://")),
        "{plain:?}"
    );
    http::get(cluster.nginx.plain, &format!("/?token={}", token("ada"))).await;

    // Each node's numbers are its own, and not for strangers.
    assert_eq!(http::get_over(edge(&cluster).await, "/metrics").await, 404);
    assert_eq!(http::get_over(edge(&cluster).await, "/health").await, 200);

    let client = cluster.client("ada", 1).await;
    client.close().await;
    // A request is logged at its end.
    let logged = || async { cluster.nginx.logs().contains(" GET / HTTP/1.1 101 ") };
    support::eventually(SOON, "the line of the access log", logged).await;
    assert_no_token_in(&cluster.nginx.logs());
}

/// A connection to nginx.
async fn edge(cluster: &Cluster) -> Box<dyn Io> {
    let tcp = TcpStream::connect(cluster.nginx.addr).await.unwrap();
    cluster.nginx.over_tls(tcp).await
}

#[track_caller]
fn assert_no_token_in(logs: &str) {
    // Every JWT begins with the base64url of `{"`.
    for trace in ["eyJ", "token=", "Bearer"] {
        let line = logs.lines().find(|line| line.contains(trace));
        assert!(line.is_none(), "a token in a log of nginx: {line:?}");
    }
}
