//! The side that clients see: nodes, nginx and the clients themselves, and what strikes them.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::dice::Dice;
use super::fault::{Act, Fault};
use super::member::{Handle, Order, World};
use super::support::{Node, eventually, http};

/// How soon every node has to be ready after the last fault.
const READY: Duration = Duration::from_secs(30);
/// Longer than any client here reads nothing, so that a node drops for its silence only who has
/// vanished: after two of these at most.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What is in front of Redis.
pub(crate) struct Edge {
    pub(crate) nodes: Vec<Node>,
    redis_url: String,
    /// What nodes logged that are no more.
    past_logs: Vec<String>,
    pub(crate) world: Arc<World>,
    pub(crate) clients: Arc<Vec<Handle>>,
}

/// A node on that port, whether Redis can be reached or not.
pub(crate) async fn node(port: u16, redis_url: &str, limit: u64) -> Node {
    Node::start(&[
        ("PORT", &port.to_string()),
        ("REDIS_URL", redis_url),
        ("MESSAGE_HISTORY_LIMIT", &limit.to_string()),
        ("RATE_LIMIT_MESSAGES", "0"),
        ("RATE_LIMIT_REQUESTS", "0"),
        ("RATE_LIMIT_CONNECTS", "0"),
        ("DRAIN_SPREAD", "1s"),
        ("HEARTBEAT_INTERVAL", &format!("{}s", HEARTBEAT.as_secs())),
        ("SLOW_CLIENT_TIMEOUT", "20s"),
        ("NODE_ID", &format!("node-{port}")),
    ])
    .await
}

/// Gives an order to the clients that the dice choose, one in so many.
pub(crate) fn order_some(clients: &[Handle], one_in: usize, draw: u64, order: Order) {
    let mut dice = Dice::new(draw, 0);
    for client in clients {
        if dice.below(one_in) == 0 {
            let _ = client.orders.send(order);
        }
    }
}

impl Edge {
    pub(crate) fn new(
        nodes: Vec<Node>,
        redis_url: String,
        world: Arc<World>,
        clients: Arc<Vec<Handle>>,
    ) -> Edge {
        Edge {
            nodes,
            redis_url,
            past_logs: Vec::new(),
            world,
            clients,
        }
    }

    /// Lets a fault strike, and returns when it is over.
    pub(crate) async fn strike(&mut self, act: &Act, limit: u64) {
        let mut dice = Dice::new(act.draw, 1);
        let hit = dice.below(self.nodes.len());
        let some = |one_in, order| order_some(&self.clients, one_in, act.draw, order);
        match act.fault {
            Fault::ClientDrop => some(2, Order::Drop),
            Fault::ClientMove => some(2, Order::Move),
            Fault::ClientVanish => some(3, Order::Vanish),
            Fault::ClientStall => {
                let time = dice.millis(1_000, 6_000);
                some(2, Order::Stall(time));
                tokio::time::sleep(time).await;
            }
            Fault::ClientChoke => {
                let time = dice.millis(6_000, 9_000);
                some(3, Order::Stall(time));
                // More than all buffers on the way hold, less than the history does.
                for _ in 0..4 {
                    some(1, Order::Shout(44));
                    tokio::time::sleep(time / 4).await;
                }
            }
            Fault::ClientSlow => {
                let time = dice.millis(1_000, 5_000);
                some(2, Order::Slow(time));
                tokio::time::sleep(time).await;
            }
            Fault::NodeKill => {
                self.die(hit, &mut dice, limit).await;
            }
            Fault::NodeFreeze => {
                self.nodes[hit].signal(Signal::STOP);
                tokio::time::sleep(dice.millis(3_000, 15_000)).await;
                self.nodes[hit].signal(Signal::CONT);
            }
            Fault::NodesRolling => {
                for n in 0..self.nodes.len() {
                    self.nodes[n].stop().await;
                    self.replace(n, limit).await;
                }
            }
            Fault::NginxReload => self.world.nginx.reload(),
            other => unreachable!("{other:?} is not of this side"),
        }
    }

    /// Kills any node, and starts it again.
    pub(crate) async fn kill_one(&mut self, dice: &mut Dice, limit: u64) {
        let hit = dice.below(self.nodes.len());
        self.die(hit, dice, limit).await;
    }

    async fn die(&mut self, hit: usize, dice: &mut Dice, limit: u64) {
        self.nodes[hit].kill().await;
        tokio::time::sleep(dice.millis(0, 2_000)).await;
        self.replace(hit, limit).await;
    }

    async fn replace(&mut self, n: usize, limit: u64) {
        let port = self.nodes[n].addr.port();
        let next = node(port, &self.redis_url, limit).await;
        let gone = std::mem::replace(&mut self.nodes[n], next);
        self.past_logs.extend(gone.logs());
    }

    /// Waits until every node is ready.
    pub(crate) async fn is_ready(&self) {
        for node in &self.nodes {
            eventually(READY, "every node to be ready", || async {
                let answer = http::try_request(node.addr, "/ready", &[]).await;
                answer.is_ok_and(|answer| answer.status == 200)
            })
            .await;
        }
    }

    /// Connections that the nodes hold: sockets of theirs that they haven't closed.
    pub(crate) fn held(&self) -> usize {
        let ports: Vec<u16> = self.nodes.iter().map(|node| node.addr.port()).collect();
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's socket table");
        let is_held = |line: &&str| {
            let mut words = line.split_whitespace().skip(1);
            let (local, _, state) = (words.next(), words.next(), words.next());
            let port = local.and_then(|addr| addr.rsplit_once(':'));
            let port = port.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            // ESTABLISHED, or closed by the other end alone.
            port.is_some_and(|port| ports.contains(&port))
                && state.is_some_and(|state| state == "01" || state == "08")
        };
        sockets.lines().filter(is_held).count()
    }

    /// All that all nodes ever logged.
    pub(crate) fn logs(&self) -> String {
        let now = self.nodes.iter().flat_map(Node::logs);
        let all: Vec<String> = self.past_logs.iter().cloned().chain(now).collect();
        all.join("\n")
    }
}
