//! Slow and fast together: in four of ten rooms of 40 there is one more reader, who first reads like the
//! others and then takes 1 KB/s of some 170. The others' latency of both times is compared, in turns on one
//! server, so that neither the machine's drift nor another server is in it.
//!
//! A turn with slow readers begins when each of them is so far behind that no socket holds what it lacks; a turn
//! without begins when they have caught up. Texts are long, since kernels hide slow readers of short ones.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::support::chat::{self, Event};
use crate::support::clients::{Arrival, PATIENCE};
use crate::support::ledger::Faults;
use crate::support::load::{Load, Measured};
use crate::support::options::Common;
use crate::support::report::{median_and_range, thousands};
use crate::support::shape::Shape;
use crate::support::stack::{Broker, Stack};
use crate::support::usage::Spent;
use crate::support::{Bench, Result};
use crate::{OPEN_WINDOW, SPREAD, merged, spread};

const ROOMS: usize = 10;
const MEMBERS: usize = 40;

/// Slow readers, each in another room: 1 % of all.
const SLOW: usize = 4;

/// What a slow reader takes: so many bytes, once in this time.
const SIP: usize = 100;
const PACE: Duration = Duration::from_millis(100);

/// What a slow reader's kernel takes in ahead of it, in bytes.
const BUFFER: usize = 4_096;

/// Bytes that a slow reader lacks at least: the server lets 64 KiB lie unsent in a socket and then writes no more
/// than as much again, and the kernels have some on the way.
const BEHIND: usize = 192 * 1024;

/// Characters of a text.
const TEXT: usize = 1_500;

/// Messages that a reader may lack and count as one that reads like the others: what comes in 100 ms.
const CAUGHT_UP: u64 = 10;

/// Turns of each kind.
const TURNS: usize = 5;

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

/// All slow readers, each in the room of its number; the first one's connection comes after the members'.
struct Watchers {
    first: usize,
    all: Vec<Watcher>,
}

impl Watchers {
    fn open(load: &mut Load<'_>, stack: &Stack) -> Result<Self> {
        let first = load.clients.len();
        for room in 0..SLOW {
            let join = [chat::join(room, None)];
            load.clients
                .open_narrow(stack.nodes[0].address, &join, BUFFER)?;
        }
        let all = vec![Watcher::default(); SLOW];
        Ok(Self { first, all })
    }

    fn connections(&self) -> Range<usize> {
        self.first..self.first + SLOW
    }

    fn take(&mut self, arrival: &Arrival<'_>) {
        self.all[arrival.connection - self.first].take(&arrival.event);
    }

    /// Messages that each of them lacks. A room has one publisher, with the room's number.
    fn lags(&self, load: &Load<'_>) -> impl Iterator<Item = u64> {
        let lag = |(room, watcher): (usize, &Watcher)| {
            u64::from(load.ledger.sent_by(room)).saturating_sub(watcher.seq.unwrap_or(0))
        };
        self.all.iter().enumerate().map(lag)
    }

    /// All read as fast as they can.
    fn read(&mut self, load: &mut Load<'_>, time: Duration) -> Result<()> {
        load.run_with(time, &mut |arrival| {
            self.take(&arrival);
            Ok(())
        })
    }

    /// The slow ones read a little now and then.
    fn sip(&mut self, load: &mut Load<'_>, time: Duration) -> Result<()> {
        for _ in 0..time.as_millis().div_ceil(PACE.as_millis()) {
            self.read(load, PACE)?;
            for connection in self.connections() {
                load.clients.sip(connection, SIP, &mut |arrival| {
                    self.take(&arrival);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Goes on until all of them have caught up.
    fn catch_up(&mut self, load: &mut Load<'_>) -> Result<()> {
        for connection in self.connections() {
            load.clients.unmute(connection)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.lags(load).any(|lag| lag > CAUGHT_UP) {
            if Instant::now() > deadline {
                return Err("the slow readers never caught up".into());
            }
            self.read(load, PACE)?;
        }
        Ok(())
    }

    /// Goes on until all of them are behind.
    fn fall_behind(&mut self, load: &mut Load<'_>) -> Result<()> {
        for connection in self.connections() {
            load.clients.mute(connection)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.lags(load).any(|lag| (lag as usize) * TEXT < BEHIND) {
            if Instant::now() > deadline {
                let why = "the slow readers never lacked more than a socket holds: too few messages a second";
                return Err(why.into());
            }
            self.sip(load, PACE)?;
        }
        Ok(())
    }
}

/// Both kinds of turns.
#[derive(Default)]
struct Turns {
    without: Vec<Measured>,
    with: Vec<Measured>,
    /// Messages that the furthest behind of the slow ones lacked at the end of a turn.
    lag: u64,
}

pub(crate) fn bench(bench: &mut Bench<'_>, rate: f64) -> Result<()> {
    let brokers = bench.brokers("slow");
    if brokers.is_empty() {
        return Ok(());
    }
    bench.report.table(&[
        "10 rooms of 40, 1 % more at 1 KB/s, texts of 1,500",
        "messages/s",
        &format!("all fast: {SPREAD}"),
        &format!("with slow ones: {SPREAD}"),
        "p99 of a turn, with / without: median (range)",
        "slow ones behind, KiB",
        "slow ones were told of a gap",
        "core: servers / Redis / load / others",
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
    load.form.text = TEXT;
    let mut watchers = Watchers::open(&mut load, &stack)?;
    load.settle()?;
    load.at_rate(rate);
    watchers.read(&mut load, bench.options.warm_up())?;
    let turns = take_turns(bench.options, &stack, &mut load, &mut watchers)?;
    let mut faults = load.close()?;
    for watcher in &watchers.all {
        faults.lost += watcher.faults.lost;
        faults.doubled += watcher.faults.doubled;
    }
    let told: u64 = watchers.all.iter().map(|watcher| watcher.told).sum();
    let all = || turns.without.iter().chain(&turns.with);
    let spent = Spent::sum(all().map(|measured| &measured.spent));
    let messages: f64 = all().map(|measured| measured.messages).sum();
    let frame = turns.with.first().map_or(0, |m| m.frame_bytes) as f64;
    let row = [
        broker.name().to_owned(),
        thousands(messages / spent.seconds),
        spread(&merged(&turns.without)),
        spread(&merged(&turns.with)),
        ratios(&turns),
        thousands(turns.lag as f64 * frame / 1024.0),
        told.to_string(),
        bench.report.busy(&spent),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}

fn take_turns(
    options: &Common,
    stack: &Stack,
    load: &mut Load<'_>,
    watchers: &mut Watchers,
) -> Result<Turns> {
    let time = options.time() / 4;
    let mut turns = Turns::default();
    for _ in 0..options.quickly(TURNS, 3) {
        let fast = load.measure_with(time, stack, &mut |load, time| watchers.read(load, time))?;
        turns.without.push(fast);
        watchers.fall_behind(load)?;
        let slow = load.measure_with(time, stack, &mut |load, time| watchers.sip(load, time))?;
        turns.with.push(slow);
        turns.lag = watchers.lags(load).fold(turns.lag, u64::max);
        watchers.catch_up(load)?;
    }
    Ok(turns)
}

/// How much longer the 99th percentile was with slow readers than in the turn before.
fn ratios(turns: &Turns) -> String {
    let p99 = |turn: &Measured| turn.latencies.quantile(0.99).as_secs_f64();
    let pairs = turns.with.iter().zip(&turns.without);
    median_and_range(pairs.map(|(with, without)| p99(with) / p99(without)))
}
