//! Slow and fast together: in four of ten rooms of 40 there is one more reader, who first reads like the
//! others and then takes 1 KB/s, while far more is said. The others' latency of both times is compared, in turns
//! on one server, so that neither the machine's drift nor another server is in it.

use std::time::Duration;

use crate::support::chat::{self, Event};
use crate::support::clients::Arrival;
use crate::support::histogram::Histogram;
use crate::support::ledger::Faults;
use crate::support::load::Load;
use crate::support::report::thousands;
use crate::support::shape::Shape;
use crate::support::stack::Broker;
use crate::support::{Bench, Result};
use crate::{OPEN_WINDOW, SPREAD, spread};

const ROOMS: usize = 10;
const MEMBERS: usize = 40;

/// Slow readers, each in another room: 1 % of all.
const SLOW: usize = 4;

/// What a slow reader takes: so many bytes, once in this time.
const SIP: usize = 100;
const PACE: Duration = Duration::from_millis(100);

/// What a slow reader's kernel takes in ahead of it, in bytes.
const BUFFER: usize = 4_096;

/// Turns of each kind.
const TURNS: u32 = 2;

/// What a slow reader has seen: its room's messages without a hole, or it was told.
#[derive(Clone, Default)]
struct Watcher {
    seq: Option<u64>,
    faults: Faults,
    told: u64,
}

impl Watcher {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Message { text, .. } => {
                let seq = chat::place(text).map(|place| place.seq());
                let next = self.seq.map(|seq| seq + 1);
                if let (Some(seq), Some(next)) = (seq, next) {
                    self.faults.lost += seq.saturating_sub(next);
                    self.faults.doubled += u64::from(seq < next);
                }
                self.seq = seq;
            }
            Event::History(event) => {
                self.told += u64::from(self.seq.is_some());
                let newest = chat::history(event).and_then(|history| history.newest);
                self.seq = Some(newest.map_or(0, |place| place.seq()));
            }
            _ => {}
        }
    }
}

/// All slow readers; the first one's connection comes after the members'.
struct Watchers {
    first: usize,
    all: Vec<Watcher>,
}

impl Watchers {
    fn take(&mut self, arrival: &Arrival<'_>) {
        self.all[arrival.connection - self.first].take(&arrival.event);
    }
}

pub(crate) fn bench(bench: &mut Bench<'_>, rate: f64) -> Result<()> {
    let brokers = bench.brokers("slow");
    if brokers.is_empty() {
        return Ok(());
    }
    bench.report.table(&[
        "10 rooms of 40, 1 % more at 1 KB/s",
        "messages/s",
        &format!("all fast: {SPREAD}"),
        &format!("with slow ones: {SPREAD}"),
        "p99, with / without",
        "slow ones were told of a gap",
        "lost / doubled / disordered",
    ]);
    for broker in brokers {
        measure(bench, broker, rate)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench<'_>, broker: Broker, rate: f64) -> Result<()> {
    let shape = Shape {
        window: OPEN_WINDOW,
        ..Shape::rooms(ROOMS, MEMBERS)
    };
    let stack = bench.stack(broker, 1)?;
    let mut load = Load::join(&shape, &stack)?;
    let mut watchers = Watchers {
        first: load.clients.len(),
        all: vec![Watcher::default(); SLOW],
    };
    for room in 0..SLOW {
        let join = [chat::join(room, None)];
        load.clients
            .open_narrow(stack.nodes[0].address, &join, BUFFER)?;
    }
    load.settle()?;
    load.at_rate(rate);
    let (mut without, mut with) = (Histogram::new(), Histogram::new());
    let (warm_up, time) = (bench.options.warm_up(), bench.options.time());
    for _ in 0..TURNS {
        read(&mut load, &mut watchers, warm_up)?;
        load.latencies = Histogram::new();
        read(&mut load, &mut watchers, time)?;
        without.merge(&load.latencies);
        for at in 0..SLOW {
            load.clients.mute(watchers.first + at)?;
        }
        sip(&mut load, &mut watchers, warm_up)?;
        load.latencies = Histogram::new();
        sip(&mut load, &mut watchers, time)?;
        with.merge(&load.latencies);
        for at in 0..SLOW {
            load.clients.unmute(watchers.first + at)?;
        }
    }
    let mut faults = load.close()?;
    for watcher in &watchers.all {
        faults.lost += watcher.faults.lost;
        faults.doubled += watcher.faults.doubled;
    }
    let ratio = with.quantile(0.99).as_secs_f64() / without.quantile(0.99).as_secs_f64();
    let told: u64 = watchers.all.iter().map(|watcher| watcher.told).sum();
    let row = [
        broker.name().to_owned(),
        thousands(rate),
        spread(&without),
        spread(&with),
        format!("{ratio:.2}"),
        told.to_string(),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}

/// All read as fast as they can.
fn read(load: &mut Load<'_>, watchers: &mut Watchers, time: Duration) -> Result<()> {
    load.run_with(time, &mut |arrival| {
        watchers.take(&arrival);
        Ok(())
    })
}

/// The slow ones read a little now and then.
fn sip(load: &mut Load<'_>, watchers: &mut Watchers, time: Duration) -> Result<()> {
    for _ in 0..time.as_millis().div_ceil(PACE.as_millis()) {
        read(load, watchers, PACE)?;
        for at in 0..SLOW {
            let connection = watchers.first + at;
            load.clients.sip(connection, SIP, &mut |arrival| {
                watchers.take(&arrival);
                Ok(())
            })?;
        }
    }
    Ok(())
}
