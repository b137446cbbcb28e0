//! Nodes on one Redis, and clients that are just there.

use std::time::Duration;

use futures_util::future::join_all;

use crate::support::{Client, Connect, Node, Redis, http, json, token};

/// A node judges others once its own lease was renewed for one whole lease time, which is six seconds; and
/// a beat after it.
pub(crate) const UNTIL_THEY_JUDGE: Duration = Duration::from_millis(8_500);
/// A node that dies is noticed, and what it left is announced, within this.
pub(crate) const ANNOUNCED: Duration = Duration::from_secs(10);

/// In the order in which it has to go.
pub(crate) struct Town {
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Redis,
}

impl Town {
    /// That many nodes, and what they need beyond the usual.
    pub(crate) async fn start(count: usize, env: &[(&str, &str)]) -> Town {
        Town::on(Redis::start().await, count, env).await
    }

    pub(crate) async fn on(redis: Redis, count: usize, env: &[(&str, &str)]) -> Town {
        let start = |nth| start_node(&redis, nth, env);
        let nodes = join_all((0..count).map(start)).await;
        Town { nodes, redis }
    }

    /// The node of that number once more, under the same name.
    pub(crate) async fn start_again(&mut self, nth: usize) {
        self.nodes[nth] = start_node(&self.redis, nth, &[]).await;
    }

    /// Waits until every node says that it is ready.
    pub(crate) async fn ready(&self) {
        for node in &self.nodes {
            let ready = || async { http::get(node.addr, "/ready").await.status == 200 };
            crate::support::eventually(2 * ANNOUNCED, "the nodes to be ready", ready).await;
        }
    }

    /// Clients of these users in all of these rooms, on one node.
    pub(crate) async fn people(
        &self,
        nth: usize,
        users: &[String],
        rooms: &[String],
    ) -> Vec<Client> {
        let mut clients = Vec::new();
        // In batches, so that a listen queue doesn't overflow.
        for users in users.chunks(50) {
            let come = users
                .iter()
                .map(|user| person(&self.nodes[nth], user, rooms));
            clients.extend(join_all(come).await);
        }
        clients
    }
}

async fn start_node(redis: &Redis, nth: usize, env: &[(&str, &str)]) -> Node {
    let name = format!("node-{}", ["a", "b", "c"][nth]);
    let usual = [
        ("NODE_ID", name.as_str()),
        ("MAX_ROOMS_PER_CONNECTION", "0"),
        ("RATE_LIMIT_REQUESTS", "0"),
        ("RATE_LIMIT_CONNECTS", "0"),
    ];
    let env: Vec<(&str, &str)> = usual.into_iter().chain(env.iter().copied()).collect();
    Node::on_with(redis, &env).await
}

/// A client of this user in all of these rooms.
pub(crate) async fn person(node: &Node, user: &str, rooms: &[String]) -> Client {
    let mut client = Connect::to(node).token(&token(user)).open().await;
    enter(&mut client, rooms).await;
    client
}

/// Joins all of these rooms.
pub(crate) async fn enter(client: &mut Client, rooms: &[String]) {
    let join = |room| json!({"type": "join", "payload": {"roomId": room}}).to_string();
    client.send_all(rooms.iter().map(join)).await;
    for _ in rooms {
        client.expect_within(ANNOUNCED, "history").await;
    }
}

/// `<prefix>-0`, `<prefix>-1`, …
pub(crate) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

/// A number from the environment.
pub(crate) fn option(name: &str, default: usize) -> usize {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

/// The middle and the last of some times.
pub(crate) fn median_and_worst(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}
