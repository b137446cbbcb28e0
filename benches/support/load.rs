//! A load on a server: its clients, what they send, and the account of what they get.
//!
//! In a closed loop each publisher keeps its window full: a message is in flight until it was acked and
//! every member of its room has it. In an open loop a message is due at a fixed rate, whatever the
//! server does, and its time counts from when it was due: a late generator flatters nobody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Result;
use super::chat::{self, Event, Form};
use super::clients::{Arrival, Clients, PATIENCE, TURN};
use super::comeback::Roamers;
use super::histogram::Histogram;
use super::ledger::{Faults, Ledger};
use super::options::Common;
use super::shape::Shape;
use super::stack::Stack;
use super::usage::{Spent, Usage};
use super::websocket;

/// How long after the last send everything must have arrived.
const DRAIN: Duration = Duration::from_secs(5);

/// Connections in the making at once: few enough for any listen queue.
const OPENING: usize = 64;

/// What has arrived so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) deliveries: u64,
    /// Of the deliveries, on the wire.
    bytes: u64,
    /// Reads that brought a delivery.
    reads: u64,
}

/// When messages are due.
struct Schedule {
    begin: Instant,
    interval: Duration,
    sent: u32,
}

/// A running load. Connections beyond those of the shape belong to nobody's account: what comes to them
/// is handed to the caller, or passed over.
pub(crate) struct Load<'a> {
    pub(crate) shape: &'a Shape,
    addresses: Vec<SocketAddr>,
    pub(crate) clients: Clients,
    pub(crate) ledger: Ledger<'a>,
    /// Of deliveries to members that stay.
    pub(crate) latencies: Histogram,
    pub(crate) counts: Counts,
    pub(crate) roamers: Roamers,
    last_read: (usize, Option<Instant>),
    schedule: Option<Schedule>,
    pub(crate) form: Form,
    /// Frames that a publisher sends with one write.
    out: Vec<u8>,
}

/// What a measured time brought.
pub(crate) struct Measured {
    pub(crate) spent: Spent,
    /// Messages sent.
    pub(crate) messages: f64,
    pub(crate) deliveries: f64,
    /// Mean size of a delivery on the wire.
    pub(crate) frame_bytes: usize,
    /// Deliveries that a read of a client brought, on average.
    pub(crate) frames_per_read: f64,
    /// From just before a publisher's write, or from when it was due, to just after a member's read.
    pub(crate) latencies: Histogram,
}

impl Measured {
    /// Server CPU per delivery, in microseconds.
    pub(crate) fn cost(&self) -> f64 {
        self.spent.server * 1e6 / self.deliveries
    }

    /// Redis CPU per message, in microseconds; a cell of a table.
    pub(crate) fn redis_cost(&self) -> String {
        match self.spent.redis {
            0.0 => "–".to_owned(),
            redis => format!("{:.1}", redis * 1e6 / self.messages),
        }
    }
}

impl<'a> Load<'a> {
    /// Connects and joins all members.
    pub(crate) fn join(shape: &'a Shape, stack: &Stack) -> Result<Self> {
        let mut load = Self::new(shape, stack)?;
        for connection in 0..shape.connections() {
            load.open(connection)?;
        }
        load.settle()?;
        Ok(load)
    }

    /// Nobody is connected yet.
    pub(crate) fn new(shape: &'a Shape, stack: &Stack) -> Result<Self> {
        Ok(Self {
            shape,
            addresses: stack.nodes.iter().map(|node| node.address).collect(),
            clients: Clients::new()?,
            ledger: Ledger::new(shape),
            latencies: Histogram::new(),
            counts: Counts::default(),
            roamers: Roamers::default(),
            last_read: (usize::MAX, None),
            schedule: None,
            form: Form::short(!stack.limits_off),
            out: Vec::new(),
        })
    }

    /// The server of a member.
    pub(crate) fn address_of(&self, connection: usize) -> SocketAddr {
        self.addresses[self.shape.node_of(connection)]
    }

    /// Begins the next member's connection, as soon as few enough are in the making.
    fn open(&mut self, connection: usize) -> Result<()> {
        self.open_at(connection, self.address_of(connection))
    }

    /// The same by another way to the server.
    pub(crate) fn open_at(&mut self, connection: usize, address: SocketAddr) -> Result<()> {
        let joins: Vec<String> = self
            .shape
            .rooms_of(connection)
            .map(|room| chat::join(room, None))
            .collect();
        self.open_other(address, &joins)
    }

    /// Begins a connection that joins so.
    pub(crate) fn open_other(&mut self, address: SocketAddr, joins: &[String]) -> Result<()> {
        self.wait_for(OPENING - 1)?;
        self.clients.open(address, joins, joins.len())
    }

    /// Waits until all connections have the answers to their joins.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.wait_for(0)
    }

    fn wait_for(&mut self, opening: usize) -> Result<()> {
        // the others' presence events are read here too, before they fill the sockets
        let deadline = Instant::now() + PATIENCE;
        while self.clients.opening() > opening {
            if Instant::now() > deadline {
                return Err(format!("{} joins without an answer", self.clients.opening()).into());
            }
            self.turn(TURN, &mut |_| Ok(()))?;
        }
        Ok(())
    }

    /// From here on an open loop at this rate, over all publishers in turn.
    pub(crate) fn at_rate(&mut self, messages_per_second: f64) {
        self.schedule = Some(Schedule {
            begin: Instant::now(),
            interval: Duration::from_secs_f64(1.0 / messages_per_second),
            sent: 0,
        });
    }

    /// Goes on for so long.
    pub(crate) fn run(&mut self, time: Duration) -> Result<()> {
        self.run_with(time, &mut |_| Ok(()))
    }

    /// Goes on for so long; what comes to others than members is handed on.
    pub(crate) fn run_with(
        &mut self,
        time: Duration,
        others: &mut impl FnMut(Arrival<'_>) -> Result<()>,
    ) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let wait = self.publish()?;
            let rest = end.saturating_duration_since(Instant::now());
            self.turn(wait.min(rest), others)?;
        }
        Ok(())
    }

    /// Says nothing for so long, and takes what comes.
    pub(crate) fn rest(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let rest = end.saturating_duration_since(Instant::now());
            self.turn(rest.min(TURN), &mut |_| Ok(()))?;
        }
        Ok(())
    }

    /// Runs the warm-up and then the measured time.
    pub(crate) fn measure(&mut self, options: &Common, stack: &Stack) -> Result<Measured> {
        self.run(options.warm_up())?;
        self.measure_with(options.time(), stack, &mut |load, time| load.run(time))
    }

    /// What came during `run`, whose time begins now.
    pub(crate) fn measure_with(
        &mut self,
        time: Duration,
        stack: &Stack,
        run: &mut impl FnMut(&mut Self, Duration) -> Result<()>,
    ) -> Result<Measured> {
        self.latencies = Histogram::new();
        let (before, counts, sent) = (Usage::now(stack)?, self.counts, self.ledger.sent());
        run(self, time)?;
        let spent = Usage::now(stack)?.since(&before);
        let Counts {
            deliveries,
            bytes,
            reads,
        } = self.counts;
        let deliveries = deliveries - counts.deliveries;
        if deliveries == 0 {
            return Err(format!("no delivery in {:.1} s", spent.seconds).into());
        }
        Ok(Measured {
            spent,
            messages: (self.ledger.sent() - sent) as f64,
            deliveries: deliveries as f64,
            frame_bytes: ((bytes - counts.bytes) / deliveries) as usize,
            frames_per_read: deliveries as f64 / (reads - counts.reads).max(1) as f64,
            latencies: std::mem::replace(&mut self.latencies, Histogram::new()),
        })
    }

    /// Sends nothing more and waits for what is in flight. What doesn't come is lost.
    pub(crate) fn close(mut self) -> Result<Faults> {
        self.drain()?;
        Ok(self.ledger.close())
    }

    /// Waits for what is in flight.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.schedule = None;
        let deadline = Instant::now() + DRAIN;
        while self.ledger.in_flight() > 0 && Instant::now() < deadline {
            self.turn(TURN, &mut |_| Ok(()))?;
        }
        Ok(())
    }

    /// Sends what is due; the time until more is.
    pub(crate) fn publish(&mut self) -> Result<Duration> {
        if self.schedule.is_some() {
            return self.publish_due();
        }
        while let Some(publisher) = self.ledger.next_ready() {
            self.out.clear();
            let now = Instant::now();
            while let Some(sequence) = self.ledger.claim(publisher, now) {
                self.push(publisher, sequence);
            }
            self.flush(publisher)?;
        }
        Ok(TURN)
    }

    fn publish_due(&mut self) -> Result<Duration> {
        while let Some(schedule) = &mut self.schedule {
            let due = schedule.begin + schedule.interval * schedule.sent;
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return Ok(wait.min(TURN));
            }
            let publisher = schedule.sent as usize % self.shape.all_publishers();
            schedule.sent += 1;
            self.out.clear();
            let sequence = self.ledger.claim(publisher, due).ok_or_else(|| {
                let window = self.shape.window;
                format!("the server can't keep up: {window} messages of one publisher in flight")
            })?;
            self.push(publisher, sequence);
            self.flush(publisher)?;
        }
        Ok(TURN)
    }

    fn push(&mut self, publisher: usize, sequence: u32) {
        let (room, _) = self.shape.place_of(publisher);
        let message = chat::message(room, publisher, sequence, self.form);
        websocket::push_text(&mut self.out, &message);
    }

    fn flush(&self, publisher: usize) -> Result<()> {
        let connection = self.shape.connection_of(publisher);
        self.clients.send(connection, &self.out)
    }

    /// Takes what comes, waiting no longer than this.
    pub(crate) fn turn(
        &mut self,
        wait: Duration,
        others: &mut impl FnMut(Arrival<'_>) -> Result<()>,
    ) -> Result<()> {
        let Self {
            shape,
            clients,
            ledger,
            latencies,
            counts,
            roamers,
            last_read,
            ..
        } = self;
        let members = shape.connections();
        clients.turn(wait, &mut |arrival| {
            let Arrival { connection, at, .. } = arrival;
            if connection >= members {
                return others(arrival);
            }
            match arrival.event {
                Event::Message {
                    publisher,
                    sequence,
                    text,
                } => {
                    counts.deliveries += 1;
                    counts.bytes += arrival.length as u64;
                    if *last_read != (connection, Some(at)) {
                        *last_read = (connection, Some(at));
                        counts.reads += 1;
                    }
                    let latency = ledger.received(connection, publisher, sequence, at)?;
                    if roamers.is_one(connection) {
                        roamers.received(connection, text);
                    } else if let Some(latency) = latency {
                        latencies.record(latency);
                    }
                }
                Event::Ack { room } => ledger.acked(connection, room)?,
                Event::History(event) => {
                    let room = shape.rooms_of(connection).start;
                    roamers.history(connection, room, event, at, ledger)?;
                }
                Event::Ended => return others(arrival),
                Event::Other => {}
            }
            Ok(())
        })
    }
}
