//! Every metric of a node once: its name, what it says, and the handle that moves it. `GET /metrics`
//! shows them as Prometheus' text format has it.
//!
//! One [`Metrics`] is built by the server and handed down. What happens per write or per append moves a
//! plain atomic by a handle that was looked up when the node started; what is known anyway
//! (connections, rooms, the process) is asked for when somebody reads. No label ever holds a room or
//! a user, so the number of series is fixed.
//!
//! The labels' values are enums of the protocol, which lies above this file: so they come as the
//! parameters `E` (why a request was refused) and `C` (why a connection ended), which
//! [`crate::protocol`] names once.

pub mod process;

use std::marker::PhantomData;
use std::sync::Arc;

pub use prometheus::Error;
use prometheus::core::{Collector, GenericCounter};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::process::Process;

/// The media type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Upper bounds of the buckets of all times, in seconds.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// A closed set of values that a label can have.
pub trait Label: Copy + 'static {
    /// All of them, each at its [`Label::index`].
    const ALL: &'static [Self];
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
    /// As the label shows it.
    fn value(self) -> &'static str;
}

/// Counters of one name, one for each value of its label; all are shown from the start.
pub struct Family<L> {
    all: IntCounterVec,
    /// Those of [`Label::ALL`], so that nothing is looked up when one is counted.
    counters: Box<[IntCounter]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Family<L> {
    fn new(all: IntCounterVec) -> Result<Family<L>, Error> {
        let of = |label: &L| all.get_metric_with_label_values(&[label.value()]);
        Ok(Family {
            counters: L::ALL.iter().map(of).collect::<Result<_, _>>()?,
            all,
            label: PhantomData,
        })
    }

    /// Counts one of that value. One that [`Label::ALL`] lacks is counted, too, if more slowly.
    pub fn inc(&self, label: L) {
        match self.counters.get(label.index()) {
            Some(counter) => counter.inc(),
            None => self.all.with_label_values(&[label.value()]).inc(),
        }
    }
}

/// Why somebody got no connection though the node could take one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Too many connects from its address.
    ConnectRate,
    /// Its user has as many connections as one may have.
    User,
    /// Its address has as many as one may have.
    Address,
}

impl Label for Refusal {
    const ALL: &'static [Refusal] = &[Refusal::ConnectRate, Refusal::User, Refusal::Address];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Refusal::ConnectRate => "connect_rate",
            Refusal::User => "user",
            Refusal::Address => "address",
        }
    }
}

/// What a node counts and times. Times are in seconds.
pub struct Metrics<E, C> {
    registry: Registry,
    connections: IntGauge,
    rooms: IntGauge,
    process: Process,
    turn: Arc<Semaphore>,
    /// Messages in WebSocket frames with data, put together from their fragments, that were read.
    pub received: IntCounter,
    /// Frames with data of which the socket took the first byte.
    pub sent: IntCounter,
    /// Messages of this node's clients that were appended.
    pub publishes: IntCounter,
    /// `error` replies.
    pub errors: Family<E>,
    /// Connections that ended.
    pub closes: Family<C>,
    /// Connects that a limit refused.
    pub refusals: Family<Refusal>,
    /// Appends that the broker answered, from call to answer.
    pub appends: Histogram,
    /// Reads that the broker answered, from call to answer.
    pub reads: Histogram,
    /// Appends from the call until they were delivered to this node's members.
    pub deliveries: Histogram,
    /// Rooms that had to be read again.
    pub mends: IntCounter,
    /// Rooms whose members had to begin anew.
    pub resets: IntCounter,
}

/// What is asked for when somebody reads.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Connections of this node.
    pub connections: usize,
    /// Rooms that are up on this node.
    pub rooms: usize,
}

/// The right to render: one at a time, as everybody may ask.
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl<E: Label, C: Label> Metrics<E, C> {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// A name that is there twice or that Prometheus doesn't allow: a defect of this file.
    pub fn new() -> Result<Metrics<E, C>, Error> {
        let registry = Registry::new();
        let new = New(&registry);
        let trips = new.add(HistogramVec::new(
            HistogramOpts::new(
                "chat_broker_round_trip_seconds",
                "time from calling the broker for a room's log to its answer, by call; calls \
                    without an answer aren't in it",
            )
            .buckets(SECONDS.into()),
            &["call"],
        )?)?;
        let info = new.add(IntGaugeVec::new(
            Opts::new("chat_build_info", "always 1; the version that runs"),
            &["version"],
        )?)?;
        info.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?
            .set(1);
        Ok(Metrics {
            connections: new.gauge(
                "websocket_connections",
                "open WebSocket connections of this node",
            )?,
            received: new.counter(
                "websocket_messages_received_total",
                "messages that clients sent: text and binary, put together from their fragments",
            )?,
            sent: new.counter(
                "websocket_messages_sent_total",
                "messages written to clients' sockets, deliveries and replies alike",
            )?,
            rooms: new.gauge(
                "chat_rooms",
                "rooms that this node follows: those with members here, and some seconds longer",
            )?,
            publishes: new.counter(
                "chat_publishes_total",
                "messages of this node's clients that the broker stored; repeated sends that \
                stored nothing aren't in it",
            )?,
            errors: new.family(
                "chat_errors_total",
                "code",
                "error replies to requests, by code",
            )?,
            closes: new.family(
                "chat_closes_total",
                "reason",
                "connections that ended, by reason",
            )?,
            refusals: new.family(
                "chat_connects_refused_total",
                "reason",
                "connects that got 429, by the limit that they met",
            )?,
            appends: trips.get_metric_with_label_values(&["append"])?,
            reads: trips.get_metric_with_label_values(&["read"])?,
            deliveries: new.add(Histogram::with_opts(
                HistogramOpts::new(
                    "chat_delivery_seconds",
                    "time from calling the broker to append messages until they came back by \
                        this node's own subscription and its members were woken; appends that \
                        were lost on the way back aren't in it",
                )
                .buckets(SECONDS.into()),
            )?)?,
            mends: new.counter(
                "chat_mends_total",
                "times that a room was read again, as something may have been missed",
            )?,
            resets: new.counter(
                "chat_resets_total",
                "times that a room's members had to begin anew, as the history no longer held \
                what they had",
            )?,
            process: Process::new(&new)?,
            turn: Arc::new(Semaphore::new(1)),
            registry,
        })
    }

    /// Waits until nobody else renders. `None`: never.
    pub async fn turn(&self) -> Option<Turn> {
        let _permit = self.turn.clone().acquire_owned().await.ok()?;
        Some(Turn { _permit })
    }

    /// All metrics as text. Reads a few files of `/proc`, so it blocks.
    ///
    /// # Errors
    /// What can't be written in that format: a defect of this file.
    pub fn render(&self, now: Now, _turn: &Turn) -> Result<String, Error> {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.connections.set(number(now.connections));
        self.rooms.set(number(now.rooms));
        self.process.look();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Makes metrics that are shown.
struct New<'a>(&'a Registry);

impl New<'_> {
    fn add<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add(IntGauge::new(name, help)?)
    }

    fn counter<P: prometheus::core::Atomic + 'static>(
        &self,
        name: &str,
        help: &str,
    ) -> Result<GenericCounter<P>, Error> {
        self.add(GenericCounter::new(name, help)?)
    }

    fn family<L: Label>(&self, name: &str, label: &str, help: &str) -> Result<Family<L>, Error> {
        Family::new(self.add(IntCounterVec::new(Opts::new(name, help), &[label])?)?)
    }
}
