//! This node among the others: it keeps its lease, judges whose has run out, and says things to all of
//! them. What a room's members see of it is the hub's and [`crate::presence`]'s.
//!
//! ```text
//!            first beat answered                 struck off by the others
//!   no lease ───────────────────► incarnation n ─────────────────────────► no lease, n + 1
//!      (nobody of this node is entered)   │
//!                                         └─ drained: a last lease, for those who come back elsewhere
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::broker::{Renewal, Unavailable};
use crate::clock::now_ms;
use crate::hub::Hub;
use crate::hub::command::Command;
use crate::id::{Incarnation, NodeId, UserId};
use crate::metrics::process::{cpu_seconds, resident_bytes};
use crate::presence::nodes::{BEAT, Beat, LEASE};
use crate::shutdown::Shutdown;

/// Who is on another node so long after a drained node closed the connection never left; and half a second
/// to set out.
const HAND_OVER: Duration = Duration::from_millis(8_500);
/// Users who came or went that go with one beat.
const MOVES: usize = 5_000;
/// After a beat that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// After a lease's end, before it is looked for.
const A_MOMENT: Duration = Duration::from_millis(20);
/// How long the last beat may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is known of the nodes holds so long: by then every lease that was held has been renewed or has run out.
const FRESH: Duration = LEASE;
/// Rates over less than that would tell of one burst.
const RATES_OVER: Duration = Duration::from_secs(1);

/// A handle to the cluster.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Hub,
    node: NodeId,
    started_at: u64,
    shutdown: Shutdown,
    /// The last beat is on its way, or was.
    left: AtomicBool,
    last: Mutex<Last>,
}

/// What the last beat left for the next, and for those who ask.
struct Last {
    /// Every node that has a lease, as it described itself.
    nodes: Vec<(Incarnation, About)>,
    /// When the beat went out that found them.
    found_at: Option<Instant>,
    strike: Vec<Incarnation>,
    /// When the rates were taken, of what, and what they were: messages per second, per cent of a core.
    at: Instant,
    stored: u64,
    cpu_seconds: f64,
    rates: (f64, f64),
}

/// What a node says of itself; http.md's `/api/stats`. Times are Unix milliseconds, `uptime` is seconds, the
/// rates are those of the last seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // named as on the wire
pub struct About {
    pub node_id: String,
    pub version: String,
    pub started_at: u64,
    pub uptime: u64,
    pub connections: usize,
    pub rooms: usize,
    /// Rooms in which it is the first that has somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms_led: Option<usize>,
    pub messages_per_second: f64,
    pub memory_bytes: u64,
    pub cpu_percent: f64,
    pub last_heartbeat: u64,
    pub draining: bool,
    /// It has ended: only its lease still lasts, for those who come back elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

/// All nodes together.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // named as on the wire
pub struct Stats {
    pub total_nodes: usize,
    pub total_connections: usize,
    /// Rooms with somebody in them, each counted once.
    pub total_rooms: usize,
    pub messages_per_second: f64,
    pub nodes: Vec<About>,
}

/// Not every node could be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAll;

/// An incarnation while it lasts.
struct Life {
    own: Incarnation,
    first: bool,
    /// All users must be told of anew.
    anew: bool,
}

impl Life {
    fn new() -> Life {
        Life {
            own: Incarnation::random(),
            first: true,
            anew: true,
        }
    }

    /// A beat may have been carried out, or not. One that was the first isn't made again under that name: the
    /// incarnation may have been on the list, and been given up, since then. And which users the others
    /// know isn't certain.
    fn failed(&mut self) {
        if self.first {
            *self = Life::new();
        }
        self.anew = true;
    }
}

impl Cluster {
    /// A node without a lease yet.
    pub fn new(hub: Hub, node: NodeId, shutdown: Shutdown) -> Cluster {
        let last = Last {
            nodes: Vec::new(),
            found_at: None,
            strike: Vec::new(),
            at: Instant::now(),
            stored: 0,
            cpu_seconds: cpu_seconds(),
            rates: (0.0, 0.0),
        };
        let inner = Inner {
            hub,
            node,
            started_at: now_ms(),
            shutdown,
            left: AtomicBool::new(false),
            last: Mutex::new(last),
        };
        Cluster {
            inner: Arc::new(inner),
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // Nothing under this lock panics half-way through a change.
        self.inner
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the lease, and judges the others; without end.
    pub async fn run(&self) {
        let mut life = Life::new();
        if let Some(own) = self.inner.hub.nodes().own() {
            // The embedded broker's one node needs no lease.
            life.own = own;
        }
        self.inner.hub.broker().up().await;
        loop {
            let pause = self.beat(&mut life).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// One beat; gives the time until the next.
    async fn beat(&self, life: &mut Life) -> Duration {
        let (hub, sent) = (&self.inner.hub, Instant::now());
        let anew = std::mem::take(&mut life.anew);
        if anew {
            hub.all_anew();
        }
        let (users, about) = (hub.moves(MOVES), self.describe(sent));
        let strike = std::mem::take(&mut self.last().strike);
        let renewal = Renewal {
            own: life.own,
            first: life.first,
            about: &about,
            lease: self.lease(),
            strike: &strike,
            anew,
            users: &users,
        };
        let answer = hub.broker().beat(&renewal).await;
        let now = Instant::now();
        let Ok(beat) = answer else {
            hub.nodes().fault(now);
            life.failed();
            return PAUSE;
        };
        if !beat.listed {
            self.given_up(life, now);
            return Duration::ZERO;
        }
        if std::mem::take(&mut life.first) {
            hub.nodes().begin(life.own, now);
            hub.assert_rosters();
        }
        // The list of users may have run out with the lease.
        life.anew = !beat.held;
        let more = self.judge(&beat, sent, now) || users.len() == MOVES;
        if more {
            A_MOMENT
        } else {
            until_next(&beat, now)
        }
    }

    /// The others gave this node up, or the broker has forgotten all nodes: another life begins, and
    /// enters its users again.
    fn given_up(&self, life: &mut Life, now: Instant) {
        tracing::warn!(incarnation = %life.own, "this node was given up by the others; it enters anew");
        self.inner.hub.nodes().given_up(now);
        *life = Life::new();
    }

    /// Whether more is to be told at once: who is to be struck off the list, or of rooms in which a dead node was
    /// the first.
    fn judge(&self, beat: &Beat, sent: Instant, now: Instant) -> bool {
        let hub = &self.inner.hub;
        let verdict = hub.nodes().judge(beat, sent, now);
        let living = beat.nodes.iter().filter(|(_, left, _)| left.is_some());
        let living =
            living.filter_map(|(of, _, about)| Some((*of, serde_json::from_slice(about).ok()?)));
        {
            let mut last = self.last();
            last.nodes = living.collect();
            last.found_at = Some(sent);
            last.strike.clone_from(&verdict.strike);
        }
        if !verdict.dead.is_empty() {
            tracing::warn!(nodes = ?verdict.dead, "given up: their leases have run out");
            hub.bury(&verdict.dead);
        }
        if verdict.read_again {
            hub.reconsider_rosters();
        }
        !verdict.dead.is_empty() || !verdict.strike.is_empty()
    }

    /// A draining node's lease lasts as long as the last one, whichever beat comes last.
    fn lease(&self) -> Duration {
        if self.inner.shutdown.is_draining() {
            HAND_OVER
        } else {
            LEASE
        }
    }

    /// Says goodbye: the lease is left to run out when those who were sent away have had the time to come
    /// back elsewhere.
    pub async fn farewell(&self) {
        let Some(own) = self.inner.hub.nodes().own() else {
            return;
        };
        // Whichever beat comes last says so, but for one that is being sent at this very moment.
        self.inner.left.store(true, Ordering::Relaxed);
        let about = self.describe(Instant::now());
        let renewal = Renewal {
            own,
            first: false,
            about: &about,
            lease: self.lease(),
            strike: &[],
            users: &[],
            anew: true,
        };
        let last = tokio::time::timeout(FAREWELL, self.inner.hub.broker().beat(&renewal)).await;
        if !matches!(last, Ok(Ok(_))) {
            tracing::warn!("couldn't take leave of the other nodes; they will find out");
        }
    }

    fn describe(&self, now: Instant) -> Vec<u8> {
        let (hub, cpu) = (&self.inner.hub, cpu_seconds());
        let mut last = self.last();
        last.take_rates(now, hub.metrics().publishes.get(), cpu);
        let about = About {
            node_id: self.inner.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.inner.started_at,
            uptime: now_ms().saturating_sub(self.inner.started_at) / 1_000,
            connections: hub.connection_count(),
            rooms: hub.room_count(),
            rooms_led: Some(hub.rooms_led()),
            messages_per_second: last.rates.0,
            memory_bytes: resident_bytes().unwrap_or_default(),
            cpu_percent: last.rates.1,
            last_heartbeat: now_ms(),
            draining: self.inner.shutdown.is_draining(),
            left: self.inner.left.load(Ordering::Relaxed),
        };
        // It has no key that is no string: it can't fail.
        serde_json::to_vec(&about).unwrap_or_default()
    }

    /// The nodes that live and serve, as [`FRESH`] ago at most.
    fn nodes(&self) -> Result<Vec<(Incarnation, About)>, Unavailable> {
        let last = self.last();
        let fresh = last.found_at.is_some_and(|at| at.elapsed() < FRESH);
        let serving = last.nodes.iter().filter(|(_, about)| !about.left);
        fresh.then(|| serving.cloned().collect()).ok_or(Unavailable)
    }

    /// All nodes that live, as they were some seconds ago at most.
    ///
    /// # Errors
    /// Where that isn't known, as the broker can't be reached.
    pub fn stats(&self) -> Result<Stats, Unavailable> {
        let nodes = self.nodes()?.into_iter();
        let mut nodes: Vec<About> = nodes.map(|(_, about)| about).collect();
        nodes.sort_by(|one, other| one.node_id.cmp(&other.node_id));
        let total_rooms = nodes
            .iter_mut()
            .filter_map(|node| node.rooms_led.take())
            .sum();
        Ok(Stats {
            total_nodes: nodes.len(),
            total_connections: nodes.iter().map(|node| node.connections).sum(),
            total_rooms,
            messages_per_second: rounded(nodes.iter().map(|node| node.messages_per_second).sum()),
            nodes,
        })
    }

    /// Users with a connection anywhere, as of some seconds ago: the next `max` after `after`.
    ///
    /// # Errors
    /// Where the broker can't be reached.
    pub async fn online(
        &self,
        after: Option<&UserId>,
        max: usize,
    ) -> Result<Vec<(UserId, Arc<str>)>, Unavailable> {
        let nodes: Vec<Incarnation> = self.nodes()?.iter().map(|(of, _)| *of).collect();
        self.inner.hub.broker().online(&nodes, after, max).await
    }

    /// Says something to every node that lives.
    ///
    /// # Errors
    /// Where one of them may not have heard it; others may have carried it out. Nothing is said where it isn't
    /// known who lives.
    pub async fn command(&self, command: &Command) -> Result<(), NotAll> {
        let living = self.nodes().map_err(|Unavailable| NotAll)?.len();
        let hub = &self.inner.hub;
        let heard = hub.broker().command(&command.to_bytes(), hub).await;
        match heard {
            Ok(heard) if heard >= living => Ok(()),
            _ => Err(NotAll),
        }
    }
}

impl Last {
    /// Beats may follow one another at once; the rates of the last longer time hold meanwhile.
    fn take_rates(&mut self, now: Instant, stored: u64, cpu_seconds: f64) {
        let passed = now.duration_since(self.at);
        if passed < RATES_OVER {
            return;
        }
        let per_second = |amount: f64| rounded(amount / passed.as_secs_f64());
        let messages = stored.saturating_sub(self.stored) as f64;
        let cpu = 100.0 * (cpu_seconds - self.cpu_seconds);
        self.rates = (per_second(messages), per_second(cpu));
        (self.at, self.stored, self.cpu_seconds) = (now, stored, cpu_seconds);
    }
}

/// The next beat is due in its time, or when a lease runs out, if that is earlier: so a death is noticed
/// at once.
fn until_next(beat: &Beat, now: Instant) -> Duration {
    let ends = beat.nodes.iter().filter_map(|(_, left, _)| *left);
    let first = ends.min().map_or(BEAT, |left| left + A_MOMENT);
    let due = BEAT.saturating_sub(now.elapsed());
    first.min(due).max(A_MOMENT)
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
