//! Nodes that know one another: on one Redis, or one alone with the embedded broker.

use std::time::Duration;

use crate::caller::{KEY, OPERATOR};
use crate::support::{Node, Redis, Value, eventually};

/// In the order in which it has to go: the nodes, then Redis.
pub(crate) struct Company {
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Option<Redis>,
}

/// A beat is due every 2 s, and the others' beats show it 2 s later.
pub(crate) const TOLD: Duration = Duration::from_secs(10);

impl Company {
    /// So many nodes on one Redis, once each knows all the others.
    pub(crate) async fn of(count: usize) -> Self {
        Self::of_with(count, &[]).await
    }

    /// The same with further variables.
    pub(crate) async fn of_with(count: usize, env: &[(&str, &str)]) -> Self {
        let redis = Redis::start().await;
        let mut nodes = Vec::new();
        for n in 0..count {
            let name = format!("node-{n}");
            let own = [("API_KEY", KEY), ("NODE_ID", name.as_str())];
            let env: Vec<_> = own.iter().chain(env).copied().collect();
            nodes.push(Node::on_with(&redis, &env).await);
        }
        let company = Self {
            nodes,
            redis: Some(redis),
        };
        company.know(count).await;
        company
    }

    /// One node with the embedded broker.
    pub(crate) async fn alone() -> Self {
        let nodes = vec![Node::start(&[("API_KEY", KEY), ("NODE_ID", "node-0")]).await];
        let company = Self { nodes, redis: None };
        company.know(1).await;
        company
    }

    /// Waits until every node knows of so many.
    pub(crate) async fn know(&self, count: usize) {
        for node in &self.nodes {
            stats_become(node, "totalNodes", |stats| stats["totalNodes"] == count).await;
        }
    }
}

/// The stats as this node has them.
pub(crate) async fn stats(node: &Node) -> Value {
    OPERATOR.json(node, "/api/stats").await
}

/// Waits until the stats are so.
pub(crate) async fn stats_become(node: &Node, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let seen = std::cell::RefCell::new(Value::Null);
    let ask = || async {
        let response = OPERATOR.get(node, "/api/stats").await;
        let found = response.status == 200 && is_so(&response.json());
        *seen.borrow_mut() = serde_json::from_str(&response.body).unwrap();
        found
    };
    eventually(TOLD, what, ask).await;
    seen.into_inner()
}
