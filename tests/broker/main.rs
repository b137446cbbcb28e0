//! The contract of `piazza::broker`, held by both brokers: logs, rosters, and nodes; and what is Redis'
//! alone: sends of unknown fate, leases of several nodes, and keys that hold what isn't ours.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

/// Each promise is a function here and a test on either broker.
macro_rules! on_both_brokers {
    ($($promise:ident,)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() { super::$promise(super::Bench::embedded().await).await })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() { super::$promise(super::Bench::redis().await).await })*
        }
    };
}

mod appends;
mod contract;
mod nodes;
mod places;
mod rates;
mod roster;
mod unknown_fate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use piazza::broker::toll::Pays;
use piazza::broker::{self, Broker, Deliver, Draft};
use piazza::config::Config;
use piazza::id::{MessageId, RoomId, UserId};
use piazza::protocol::message::Content;
use support::{Redis, SOON, eventually};

/// A broker with what it needs to run, and what it delivered.
struct Bench {
    broker: Arc<Broker>,
    heard: Heard,
    driver: tokio::task::JoinHandle<()>,
    /// Kept up as long as the broker is in use.
    redis: Option<Redis>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Everything that was delivered: the room and the payload.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Delivery>>>);

/// A room and a payload.
type Delivery = (String, Vec<u8>);

impl Deliver for Heard {
    fn deliver(&self, room: &str, payload: &[u8]) {
        self.0
            .lock()
            .unwrap()
            .push((room.to_owned(), payload.to_vec()));
    }

    fn mend(&self, _: Option<&str>) {}

    fn command(&self, command: &[u8]) {
        self.deliver("", command);
    }
}

impl Heard {
    /// Waits until so many payloads came for a room, and gives them as text.
    async fn payloads(&self, room: &RoomId, count: usize) -> Vec<String> {
        let of_room = || {
            let heard = self.0.lock().unwrap();
            let payloads = heard.iter().filter(|(of, _)| of == room.as_str());
            payloads
                .map(|(_, payload)| String::from_utf8(payload.clone()).unwrap())
                .collect::<Vec<_>>()
        };
        eventually(SOON, "payloads", || async { of_room().len() >= count }).await;
        of_room()
    }
}

impl Bench {
    /// The embedded broker, keeping five messages a room.
    async fn embedded() -> Bench {
        Bench::start(&[], None).await
    }

    /// A broker on a Redis of its own, keeping five messages a room.
    async fn redis() -> Bench {
        let redis = Redis::start().await;
        let port = redis.port.to_string();
        let bench = Bench::start(&[("REDIS_PORT", &port)], Some(redis)).await;
        eventually(SOON, "Redis to be up", || async {
            bench.broker.health().up
        })
        .await;
        bench
    }

    async fn start(variables: &[(&str, &str)], redis: Option<Redis>) -> Bench {
        let mut source: HashMap<&str, &str> = variables.iter().copied().collect();
        source.insert("JWT_SECRET", "a secret of more than thirty-two bytes");
        source.insert("MESSAGE_HISTORY_LIMIT", "5");
        source.insert("RATE_LIMIT_MESSAGES", rates::LIMIT);
        source.insert("RATE_LIMIT_WINDOW", rates::WINDOW);
        let config =
            Config::read(&|name: &str| source.get(name).map(|&value| value.to_owned())).unwrap();
        let (broker, driver) = broker::build(&config).unwrap();
        let (broker, heard) = (Arc::new(broker), Heard::default());
        let driver = {
            let (broker, heard) = (broker.clone(), heard.clone());
            tokio::spawn(async move { driver.run(&broker, heard).await })
        };
        Bench {
            broker,
            heard,
            driver,
            redis,
        }
    }

    /// Another node's way to the same Redis.
    async fn second(&self) -> Bench {
        let port = self.redis.as_ref().unwrap().port.to_string();
        let bench = Bench::start(&[("REDIS_PORT", &port)], None).await;
        eventually(SOON, "Redis to be up", || async {
            bench.broker.health().up
        })
        .await;
        bench
    }

    async fn append(&self, room: &RoomId, drafts: &[Draft]) -> Vec<broker::Outcome> {
        self.broker
            .append(room, drafts, None, &self.heard)
            .await
            .expect("an answer")
            .outcomes
    }
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

/// A draft of a text.
fn draft(room: &RoomId, user: &str, text: &str, client_id: Option<&str>) -> Draft {
    let user = UserId::parse(user).unwrap();
    let content = Content {
        room_id: room,
        user_id: &user,
        username: "Ada",
        text,
        timestamp: 7,
        client_id,
        reply_to: None,
    };
    let body = content.body();
    Draft {
        id: MessageId::random(),
        former: Vec::new(),
        user,
        client_id: client_id.map(Into::into),
        timestamp: 7,
        body,
        pays: Pays::Nothing,
    }
}
