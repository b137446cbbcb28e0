//! The connection that commands go over: kept up, watched, and replaced when it fails.
//!
//! ```text
//!          connect, load scripts, kill the old one
//!   down ───────────────────────────────────────────► up (generation n)
//!     ▲                                                │
//!     └── a call or a probe failed: failed(n) ─────────┘
//! ```
//!
//! An append whose answer was lost may still stand in the old connection's input when Redis goes on
//! (seen with a stopped Redis). So a new link is shown to nobody before Redis has killed the old
//! connection: whatever is tried again after [`Links::up`] can't be overtaken by its former try.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisError};
use tokio::sync::watch;

use super::script::Script;

/// How long a connection may take to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long any answer may take; after that the link counts as lost.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a probe goes out.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A node is deaf when probes went out and none has come back for so long.
pub(super) const DEAF_AFTER: Duration = Duration::from_secs(5);
/// The same where something else came meanwhile: probes may stand behind much of it, but not for so long.
const LOST_AFTER: Duration = Duration::from_secs(6);

/// A command connection, ready for use.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    generation: u64,
    /// SHA-1 names of the scripts.
    names: Arc<[String; Script::ALL.len()]>,
}

impl Link {
    /// The name by which Redis knows a script.
    pub(super) fn name(&self, script: Script) -> &str {
        &self.names[script as usize]
    }
}

/// Which connection it was, so that it can be killed.
struct Session {
    /// Of the Redis process: another process has no connections of ours.
    run_id: String,
    client_id: i64,
}

/// The current link.
pub(super) struct Links {
    current: watch::Sender<Option<Link>>,
    generation: AtomicU64,
    /// Milliseconds from `start`: when the first probe went out since anything was heard (0: none did),
    /// when the first since a probe was heard, and when the last came back.
    probe_out: AtomicU64,
    unanswered: AtomicU64,
    probe_back: AtomicU64,
    start: Instant,
}

impl Links {
    pub(super) fn new() -> Links {
        Links {
            current: watch::Sender::new(None),
            generation: AtomicU64::new(0),
            probe_out: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            probe_back: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    /// The link, where there is one.
    pub(super) fn current(&self) -> Option<Link> {
        self.current.borrow().clone()
    }

    /// Waits until there is one.
    pub(super) async fn up(&self) {
        // The sender lives in `self`, so the wait can't end in an error.
        let _ = self.current.subscribe().wait_for(Option::is_some).await;
    }

    /// Gives a link up, unless it has been replaced already.
    pub(super) fn failed(&self, link: &Link) {
        give_up(&self.current, link.generation);
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// A probe came back by this node's own subscription.
    pub(super) fn heard(&self) {
        self.begin();
        self.probe_back.store(self.now(), Ordering::Relaxed);
    }

    /// The subscription is new: no probe is owed to it.
    pub(super) fn begin(&self) {
        self.not_deaf();
        self.unanswered.store(0, Ordering::Relaxed);
    }

    /// The subscription lives, even if the probes come late: something else came over it.
    pub(super) fn not_deaf(&self) {
        self.probe_out.store(0, Ordering::Relaxed);
    }

    fn sent_probe(&self) {
        let now = self.now().max(1);
        for first in [&self.probe_out, &self.unanswered] {
            // Where another one is out already, that one counts.
            let _ = first.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Age of the last probe that came back, milliseconds.
    pub(super) fn lag_ms(&self) -> u64 {
        self.now()
            .saturating_sub(self.probe_back.load(Ordering::Relaxed))
    }

    /// Whether probes go out and none comes back. The probes' own channel can be lost, too: then rooms
    /// are heard, and the node would be deaf by its own word for as long as they are.
    pub(super) fn deaf(&self) -> bool {
        let late = |first: &AtomicU64, limit: Duration| {
            let out = first.load(Ordering::Relaxed);
            out != 0 && self.now().saturating_sub(out) > limit.as_millis() as u64
        };
        late(&self.probe_out, DEAF_AFTER) || late(&self.unanswered, LOST_AFTER)
    }

    /// Keeps a link up; runs until dropped. `probe` is the channel of this node's probes.
    pub(super) async fn keep(&self, client: &Client, probe: &str) {
        let mut backoff = Backoff::default();
        let mut old = None;
        loop {
            match self.connect(client, old.as_ref()).await {
                Ok((link, session)) => {
                    tracing::info!("connected to Redis");
                    backoff = Backoff::default();
                    old = Some(session);
                    self.current.send_replace(Some(link.clone()));
                    self.watch(link, probe).await;
                    tracing::warn!("lost the connection to Redis");
                }
                Err(error) => {
                    if backoff.is_fresh() {
                        tracing::warn!(%error, "can't reach Redis; will go on trying");
                    }
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn connect(
        &self,
        client: &Client,
        old: Option<&Session>,
    ) -> Result<(Link, Session), RedisError> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let current = self.current.clone();
        // The library says at once when a connection breaks; a call would find out only when it is made.
        let broken = move |info: PushInfo| -> Result<(), Infallible> {
            if info.kind == PushKind::Disconnection {
                give_up(&current, generation);
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_push_sender(broken);
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await?;
        let run_id = info
            .lines()
            .find_map(|line| line.strip_prefix("run_id:"))
            .unwrap_or_default()
            .to_owned();
        let client_id = redis::cmd("CLIENT")
            .arg("ID")
            .query_async(&mut connection)
            .await?;
        // Another process, or one that doesn't say who it is, has no connection of ours to kill.
        if let Some(old) = old.filter(|old| !run_id.is_empty() && old.run_id == run_id) {
            let mut kill = redis::cmd("CLIENT");
            let _: i64 = kill
                .arg("KILL")
                .arg("ID")
                .arg(old.client_id)
                .query_async(&mut connection)
                .await?;
        }
        let mut names = [const { String::new() }; Script::ALL.len()];
        for (name, script) in names.iter_mut().zip(Script::ALL) {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script.text());
            *name = load.query_async(&mut connection).await?;
        }
        let link = Link {
            connection,
            generation,
            names: Arc::new(names),
        };
        Ok((link, Session { run_id, client_id }))
    }

    /// Sends a probe a second over the link, until somebody gives it up.
    async fn watch(&self, mut link: Link, probe: &str) {
        let mut current = self.current.subscribe();
        let mut ticks = tokio::time::interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let probes = async {
            loop {
                ticks.tick().await;
                let mut publish = redis::cmd("PUBLISH");
                let sent: Result<i64, RedisError> = publish
                    .arg(probe)
                    .arg("p")
                    .query_async(&mut link.connection)
                    .await;
                match sent {
                    Ok(_) => self.sent_probe(),
                    Err(error) if answered(&error) => {
                        tracing::warn!(%error, "Redis refused a probe")
                    }
                    Err(_) => self.failed(&link),
                }
            }
        };
        tokio::select! {
            () = probes => {}
            _ = current.wait_for(Option::is_none) => {}
        }
    }
}

fn give_up(current: &watch::Sender<Option<Link>>, generation: u64) {
    current.send_if_modified(|current| {
        current
            .take_if(|current| current.generation == generation)
            .is_some()
    });
}

/// Whether Redis itself answered with that error: then the command was not carried out. Every other
/// error leaves that open.
pub(super) fn answered(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        redis::ErrorKind::Server(_) | redis::ErrorKind::Extension
    )
}

/// Waits between tries: 50 ms, doubling, 2 s at most.
#[derive(Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Whether there was no wait yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.tries == 0
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let wait = Duration::from_millis(50 << self.tries.min(6));
        self.tries += 1;
        wait.min(Duration::from_secs(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_two_seconds() {
        let mut backoff = Backoff::default();
        assert!(backoff.is_fresh());
        let waits: Vec<u64> = (0..8).map(|_| backoff.next().as_millis() as u64).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }
}
