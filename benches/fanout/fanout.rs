//! One scenario of the closed loop: warm-up, the measured time, and then until all is settled.

use std::time::{Duration, Instant};

use crate::Result;
use crate::chat::{self, Event};
use crate::clients::{Arrival, Clients};
use crate::histogram::Histogram;
use crate::ledger::{Faults, Ledger};
use crate::options::Options;
use crate::process::{cpu_time, machine_time};
use crate::scenario::Scenario;
use crate::stack::Stack;
use crate::websocket;

/// How long after the last send everything must have arrived.
const DRAIN: Duration = Duration::from_secs(5);

/// What a scenario cost.
pub(crate) struct Measured {
    pub(crate) deliveries_per_second: f64,
    /// Server CPU per delivery, in microseconds.
    pub(crate) cost: f64,
    pub(crate) busy: Busy,
    /// From just before a publisher's write to just after a member's read.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Mean size of a delivery on the wire.
    pub(crate) frame_bytes: usize,
    /// Of the whole run, warm-up included.
    pub(crate) faults: Faults,
}

/// CPUs that each kept busy. A server below 1 waited for somebody; others above 0 disturbed it.
pub(crate) struct Busy {
    pub(crate) server: f64,
    pub(crate) redis: f64,
    pub(crate) load: f64,
    pub(crate) others: f64,
}

/// Counters at one moment.
struct Snapshot {
    at: Instant,
    server: Duration,
    redis: Duration,
    load: Duration,
    machine: Duration,
    deliveries: u64,
    bytes: u64,
}

struct Load<'a> {
    clients: Clients,
    ledger: Ledger<'a>,
    latencies: Histogram,
    deliveries: u64,
    bytes: u64,
    /// Frames that a publisher sends with one write.
    out: Vec<u8>,
}

/// Runs the scenario against a fresh server.
pub(crate) fn measure(scenario: &Scenario, stack: &Stack, options: &Options) -> Result<Measured> {
    let rooms = (0..scenario.connections()).map(|connection| room(connection / scenario.members));
    let mut load = Load {
        clients: Clients::join(stack.address, rooms)?,
        ledger: Ledger::new(scenario),
        latencies: Histogram::new(),
        deliveries: 0,
        bytes: 0,
        out: Vec::new(),
    };
    load.run(options.warm_up())?;
    load.latencies = Histogram::new();
    let before = load.snapshot(stack)?;
    load.run(options.secs)?;
    let after = load.snapshot(stack)?;
    let (p50, p99) = (load.latencies.quantile(0.5), load.latencies.quantile(0.99));
    load.drain()?;

    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let deliveries = after.deliveries - before.deliveries;
    if deliveries == 0 {
        return Err(format!("no delivery in {seconds:.1} s").into());
    }
    let server = after.server.saturating_sub(before.server).as_secs_f64();
    Ok(Measured {
        deliveries_per_second: deliveries as f64 / seconds,
        cost: server * 1e6 / deliveries as f64,
        busy: Busy::between(&before, &after),
        p50,
        p99,
        frame_bytes: ((after.bytes - before.bytes) / deliveries) as usize,
        faults: load.ledger.close(),
    })
}

impl Busy {
    fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let seconds = (after.at - before.at).as_secs_f64();
        let share = |of: fn(&Snapshot) -> Duration| {
            of(after).saturating_sub(of(before)).as_secs_f64() / seconds
        };
        let (server, redis, load) = (share(|s| s.server), share(|s| s.redis), share(|s| s.load));
        Self {
            server,
            redis,
            load,
            others: (share(|s| s.machine) - server - redis - load).max(0.0),
        }
    }
}

fn room(number: usize) -> String {
    format!("r{number}")
}

impl Load<'_> {
    /// Keeps every window full for so long.
    fn run(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.publish()?;
            self.turn()?;
        }
        Ok(())
    }

    /// Sends nothing more and waits for what is in flight. What doesn't come is lost.
    fn drain(&mut self) -> Result<()> {
        let deadline = Instant::now() + DRAIN;
        while self.ledger.in_flight() > 0 && Instant::now() < deadline {
            self.turn()?;
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        while let Some(publisher) = self.ledger.next_ready() {
            let (number, connection) = self.ledger.seat(publisher);
            self.out.clear();
            let now = Instant::now();
            while let Some(sequence) = self.ledger.claim(publisher, now) {
                websocket::push_text(
                    &mut self.out,
                    &chat::message(&room(number), publisher, sequence),
                );
            }
            self.clients.send(connection, &self.out)?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<()> {
        let Self {
            clients,
            ledger,
            latencies,
            deliveries,
            bytes,
            ..
        } = self;
        clients.turn(&mut |arrival| {
            let Arrival { connection, at, .. } = arrival;
            match arrival.event {
                Event::Message {
                    publisher,
                    sequence,
                } => {
                    *deliveries += 1;
                    *bytes += arrival.length as u64;
                    if let Some(latency) = ledger.received(connection, publisher, sequence, at)? {
                        latencies.record(latency);
                    }
                }
                Event::Ack => ledger.acked(connection)?,
                Event::History | Event::Other => {}
            }
            Ok(())
        })
    }

    fn snapshot(&self, stack: &Stack) -> Result<Snapshot> {
        Ok(Snapshot {
            at: Instant::now(),
            server: cpu_time(stack.server.id)?,
            redis: stack
                .redis
                .as_ref()
                .map_or(Ok(Duration::ZERO), |redis| cpu_time(redis.id))?,
            load: cpu_time(std::process::id())?,
            machine: machine_time()?,
            deliveries: self.deliveries,
            bytes: self.bytes,
        })
    }
}
