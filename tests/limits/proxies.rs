//! As whom clients count behind a real nginx with `deploy/nginx.conf`.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::door::{Asked, HOME, ask, ask_nginx, ask_with};
use crate::support::nginx::Nginx;
use crate::support::node::field;
use crate::support::{Node, Redis, token};

/// In the order in which it has to go: nginx, the nodes, Redis.
struct Town {
    nginx: Nginx,
    nodes: Vec<Node>,
    _redis: Redis,
}

impl Town {
    async fn start(env: &[(&str, &str)]) -> Town {
        let redis = Redis::start().await;
        let nodes = join_all((0..3).map(|_| Node::on_with(&redis, env))).await;
        let ports: Vec<u16> = nodes.iter().map(|node| node.addr.port()).collect();
        Town {
            nginx: Nginx::start([ports[0], ports[1], ports[2]]).await,
            nodes,
            _redis: redis,
        }
    }

    async fn ask(&self, from: [u8; 4], user: &str) -> Asked {
        ask_nginx(&self.nginx, from, &token(user), &[]).await
    }
}

/// The nth of many addresses in many networks.
fn address(nth: usize) -> [u8; 4] {
    [
        127,
        1 + (nth % 97) as u8,
        (nth / 97) as u8,
        1 + (nth % 200) as u8,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_clients_from_their_own_addresses_are_let_in_by_default() {
    let defaults = [
        ("TRUSTED_PROXIES", "127.0.0.1,::1"),
        ("RATE_LIMIT_CONNECTS", ""),
        ("MAX_CONNECTIONS_PER_USER", ""),
        ("MAX_CONNECTIONS_PER_IP", ""),
    ];
    let town = Town::start(&defaults).await;
    let mut inside = Vec::new();
    for chunk in (0..500).collect::<Vec<usize>>().chunks(50) {
        let come = chunk.iter().map(|nth| {
            let town = &town;
            async move { town.ask(address(*nth), &format!("user{nth}")).await }
        });
        inside.extend(join_all(come).await);
    }
    inside.iter().for_each(Asked::assert_in);
    // Each counts for itself: the keys that count them are as many.
    let keys: Vec<String> = town._redis.cli(&["KEYS", "chat:connects:127.*"]).await;
    assert!(keys.len() > 250, "{} of 500 are still counted", keys.len());
    let home: Vec<String> = town._redis.cli(&["KEYS", "chat:connects:127.0.0.1"]).await;
    assert!(home.is_empty(), "the proxy itself came from nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_claims_through_nginx_counts_for_nothing() {
    let limit = [
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("RATE_LIMIT_CONNECTS", "2"),
        ("RATE_LIMIT_CONNECTS_WINDOW", "1h"),
    ];
    let town = Town::start(&limit).await;
    let claims = |nth: usize| {
        let name = format!("203.0.113.{nth}");
        let nginx = &town.nginx;
        async move {
            let spoofed = [("X-Forwarded-For", &*name), ("X-Real-IP", &*name)];
            ask_nginx(nginx, [127, 9, 9, 9], &token("eve"), &spoofed).await
        }
    };
    let all = join_all((0..10).map(claims)).await;
    let inside = all.iter().filter(|asked| asked.status() == 101).count();
    assert_eq!(inside, 2);
    // A node that is reached past the proxy believes nobody but the proxy.
    for (nth, status) in [101, 101, 429, 429].into_iter().enumerate() {
        let name = format!("203.0.113.{nth}");
        let spoofed = [("X-Forwarded-For", &*name)];
        let to = town.nodes[nth % 3].addr;
        let asked = ask_with(to, [127, 9, 9, 8], &token("eve"), &spoofed).await;
        assert_eq!(asked.status(), status, "{:?}", asked.response);
    }
    for nth in 0..20 {
        town.ask(address(nth), "ann").await.assert_in();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_trusted_proxies_all_share_one_limit_and_it_is_warned_of_once() {
    let limit = [
        ("RATE_LIMIT_CONNECTS", "10"),
        ("RATE_LIMIT_CONNECTS_WINDOW", "1h"),
    ];
    let town = Town::start(&limit).await;
    let come = (0..30).map(|nth| {
        let town = &town;
        async move { town.ask(address(nth), &format!("user{nth}")).await }
    });
    let all = join_all(come).await;
    let inside = all.iter().filter(|asked| asked.status() == 101).count();
    assert_eq!(inside, 10);
    let is_warning = |line: &str| line.contains("TRUSTED_PROXIES");
    let mut warned = 0;
    for node in &town.nodes {
        let lines: Vec<String> = node
            .logs()
            .into_iter()
            .filter(|line| is_warning(line))
            .collect();
        assert!(lines.len() <= 1, "{lines:#?}");
        for line in &lines {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(field(&line, "peer"), "127.0.0.1", "{line}");
            assert_eq!(line["level"], "warn", "{line}");
            warned += 1;
        }
    }
    assert!(warned > 0, "somebody warned");
    // Header contents are nobody's business.
    assert!(
        !town
            .nodes
            .iter()
            .any(|node| node.logs().concat().contains("127.1.0"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_limit_exactly_over_three_nodes_at_full_speed() {
    let town = Town::start(&[
        ("RATE_LIMIT_CONNECTS", "600"),
        ("RATE_LIMIT_CONNECTS_WINDOW", "1m"),
    ])
    .await;
    let begin = Instant::now();
    let mut counted = 0;
    for _ in 0..10 {
        let all = (0..100).map(|n| ask(town.nodes[n % 3].addr, HOME, "bad"));
        let all = join_all(all).await;
        counted += all.iter().filter(|asked| asked.status() == 401).count();
    }
    assert!(begin.elapsed() < Duration::from_secs(50), "one window");
    assert_eq!(counted, 600);
}
