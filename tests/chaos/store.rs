//! Redis, and what strikes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::desk::{self, Desk};
use super::dice::Dice;
use super::edge::order_some;
use super::fault::{Act, Fault};
use super::history::Entry;
use super::member::{Handle, Order};
use super::support::{Redis, Value};

/// What Redis is started with: nothing that it answered for is lost with it.
const OPTIONS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
/// Redis' own limits for subscribers.
const BUFFERS: &str = "pubsub 33554432 8388608 60";

/// The store of a run.
pub(crate) struct Store {
    pub(crate) redis: Redis,
    pub(crate) clients: Arc<Vec<Handle>>,
    pub(crate) rooms: u8,
}

impl Store {
    /// A Redis on that port.
    pub(crate) async fn redis(port: u16) -> Redis {
        let redis = Redis::start_on(port, &OPTIONS).await;
        redis.expect("redis-server starts on a free port")
    }

    /// Lets a fault strike, and returns when it is over. The room it was about, if about one.
    pub(crate) async fn strike(&mut self, act: &Act) -> Option<u8> {
        let mut dice = Dice::new(act.draw, 2);
        match act.fault {
            Fault::RedisKill => self.die(&mut dice).await,
            Fault::RedisEverysec => {
                self.set("appendfsync", "everysec").await;
                tokio::time::sleep(dice.millis(1_000, 2_500)).await;
                self.die(&mut dice).await;
            }
            Fault::RedisRollback => {
                // From here on it writes nothing down, so this is as it comes back.
                self.set("appendonly", "no").await;
                tokio::time::sleep(dice.millis(300, 2_000)).await;
                self.die(&mut dice).await;
            }
            Fault::RedisFreeze => {
                self.redis.freeze();
                tokio::time::sleep(dice.millis(1_000, 8_000)).await;
                self.redis.thaw();
            }
            Fault::RedisCutCommands => drop(self.redis.kill_clients("normal").await),
            Fault::RedisCutSubscriptions => drop(self.redis.kill_clients("pubsub").await),
            Fault::RedisPause => {
                let time = dice.millis(300, 3_000);
                let mode = ["ALL", "WRITE"][dice.below(2)];
                let millis = time.as_millis().to_string();
                let _: Answer = self.redis.cli(&["CLIENT", "PAUSE", &millis, mode]).await;
                tokio::time::sleep(time).await;
            }
            Fault::RedisTinyBuffers => {
                self.set("client-output-buffer-limit", "pubsub 1 0 0").await;
                for _ in 0..4 {
                    order_some(&self.clients, 1, act.draw, Order::Burst(8));
                    tokio::time::sleep(dice.millis(200, 500)).await;
                }
                self.set("client-output-buffer-limit", BUFFERS).await;
            }
            Fault::RedisFull => {
                self.set("maxmemory", "1").await;
                tokio::time::sleep(dice.millis(500, 3_000)).await;
                self.set("maxmemory", "0").await;
            }
            Fault::RedisFlush => drop(self.redis.cli::<Answer>(&["FLUSHALL"]).await),
            Fault::RedisDelete => {
                let room = dice.below(usize::from(self.rooms)) as u8;
                let _: Answer = self.redis.cli(&["DEL", &key(room)]).await;
                return Some(room);
            }
            other => unreachable!("{other:?} is not of this side"),
        }
        None
    }

    async fn set(&self, name: &str, value: &str) {
        let _: Answer = self.redis.cli(&["CONFIG", "SET", name, value]).await;
    }

    async fn die(&mut self, dice: &mut Dice) {
        self.redis.kill().await;
        tokio::time::sleep(dice.millis(0, 2_000)).await;
        self.redis.start_again().await;
    }

    /// What it holds of every room.
    pub(crate) async fn stored(&self) -> BTreeMap<u8, Vec<Entry>> {
        let mut stored = BTreeMap::new();
        for room in 0..self.rooms {
            let list: Vec<String> = self.redis.cli(&["LRANGE", &key(room), "0", "-1"]).await;
            let parse = |line: &String| {
                let message: Value = serde_json::from_str(line).ok()?;
                desk::entry(&message["payload"])
            };
            let entries: Option<Vec<Entry>> = list.iter().map(parse).collect();
            stored.insert(room, entries.expect("Redis holds messages alone"));
        }
        stored
    }
}

type Answer = ::redis::Value;

fn key(room: u8) -> String {
    format!("chat:history:{{{}}}", Desk::room_id(room))
}
