//! The network of a part of the clients fails for some seconds while everybody chats. For half of them it
//! goes on then, and what was held back comes through; the others' connections end, and they come back
//! at once and resume with `since`. In the end everybody must have every message once, or was told.
//!
//! ```text
//!   members that stay ─────────────────────────────► piazza
//!   members that wait ──► proxy: stands, then flows ──►
//!   members that return ─► proxy: stands, then ends; they come back straight ──►
//! ```
//!
//! `cargo bench --bench jitter -- --help` lists the options. The floor is the loss itself: a member can
//! have what was said meanwhile no sooner than the network lets it through.

mod proxy;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use proxy::Proxy;
use support::clients::{PATIENCE, TURN};
use support::comeback::Roamers;
use support::histogram::Histogram;
use support::load::Load;
use support::options::Common;
use support::report::{milliseconds, thousands};
use support::shape::Shape;
use support::stack::Broker;
use support::usage::Usage;
use support::{Bench, Result};

/// Seconds of network loss for a part of the clients: who has what in the end, and how soon.
///
/// Parts: members (50 rooms of 20; in each room two wait for the network and two come back anew).
#[derive(Parser)]
#[command(name = "jitter", verbatim_doc_comment)]
struct Options {
    /// Messages per second over all rooms
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Seconds of loss. A room's history (MESSAGE_HISTORY_LIMIT, 100) bounds what can be resumed
    #[arg(long, default_value = "2", value_parser = support::options::seconds)]
    loss: Duration,
    #[command(flatten)]
    common: Common,
}

const ROOMS: usize = 50;
const MEMBERS: usize = 20;

/// Members of each room whose network fails; half of them wait until it is back.
const AWAY: usize = 4;

/// Messages in flight of one publisher at most: of the loss, and as much again.
const WINDOW: usize = 4_096;

/// What becomes of a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Waits,
    Returns,
}

impl Fate {
    /// A room's last members are those whose network fails.
    fn of(connection: usize) -> Self {
        match MEMBERS - 1 - connection % MEMBERS {
            last if last < AWAY / 2 => Self::Waits,
            last if last < AWAY => Self::Returns,
            _ => Self::Stays,
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    support::run("jitter", &["members"], &options.common, |bench| {
        bench.report.table(&[
            &format!("{} s of loss", options.loss.as_secs_f64()),
            "away: waited / returned",
            "messages said meanwhile in each room",
            "of what was said meanwhile, delivered to them",
            "`recovered: false`",
            "has all, after the loss: median / last, ms: waited",
            "returned",
            "the others' p99, ms: before / meanwhile",
            "core: servers / Redis / load / others",
            "lost / doubled / disordered",
        ]);
        for broker in bench.brokers("members") {
            measure(bench, broker, &options)?;
        }
        Ok(())
    })
}

fn measure(bench: &mut Bench<'_>, broker: Broker, options: &Options) -> Result<()> {
    let shape = Shape {
        window: WINDOW,
        ..Shape::rooms(ROOMS, MEMBERS)
    };
    let stack = bench.stack(broker, 1)?;
    let server = stack.nodes[0].address;
    let (waits, returns) = (Proxy::start(server)?, Proxy::start(server)?);
    let mut load = Load::new(&shape, &stack)?;
    load.roamers = Roamers::new(&shape, |c| Fate::of(c) != Fate::Stays);
    for connection in 0..shape.connections() {
        let address = match Fate::of(connection) {
            Fate::Stays => server,
            Fate::Waits => waits.address,
            Fate::Returns => returns.address,
        };
        load.open_at(connection, address)?;
    }
    load.settle()?;
    load.at_rate(f64::from(options.rate.max(1)));
    let before = load.measure(bench.options, &stack)?.latencies;

    let begin = Usage::now(&stack)?;
    let at_loss = load.ledger.sent();
    waits.stand();
    returns.stand();
    load.run(options.loss)?;
    let mut absence = Absence::new(&load);
    waits.flow();
    returns.end();
    for &connection in absence.all(Fate::Returns) {
        load.clients.let_end(connection);
    }
    absence.watch(&mut load)?;
    let spent = Usage::now(&stack)?.since(&begin);
    let meanwhile = std::mem::replace(&mut load.latencies, Histogram::new());
    load.run(Duration::from_secs(1))?;

    let away = (ROOMS * AWAY) as f64;
    let said = (absence.said.iter().map(|n| u64::from(*n)).sum::<u64>() - at_loss) as f64;
    load.drain()?;
    let (resumed, unrecovered) = load.roamers.resumed();
    // the loss alone: what came before and after it would make any hole look small
    let due = said * AWAY as f64;
    let told = load.ledger.told() as f64;
    let faults = load.close()?;
    let share = (due - told - faults.lost as f64) / due * 100.0;
    let row = [
        broker.name().to_owned(),
        format!("{} / {resumed}", thousands(away - resumed as f64)),
        thousands(said / ROOMS as f64),
        format!("{share:.3} %"),
        unrecovered.to_string(),
        absence.spread(Fate::Waits),
        absence.spread(Fate::Returns),
        format!(
            "{} / {}",
            milliseconds(before.quantile(0.99)),
            milliseconds(meanwhile.quantile(0.99))
        ),
        bench.report.busy(&spent),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}

/// Those who were away, from the end of the loss on.
struct Absence {
    end: Instant,
    /// Messages that each publisher had sent by then.
    said: Vec<u32>,
    waits: Vec<usize>,
    returns: Vec<usize>,
    /// Who had all of those, and when.
    whole: Vec<(usize, Duration)>,
}

impl Absence {
    fn new(load: &Load<'_>) -> Self {
        let publishers = 0..load.shape.all_publishers();
        let of = |fate| {
            let all = load.roamers.all();
            all.into_iter().filter(|&c| Fate::of(c) == fate).collect()
        };
        Self {
            end: Instant::now(),
            said: publishers.map(|p| load.ledger.sent_by(p)).collect(),
            waits: of(Fate::Waits),
            returns: of(Fate::Returns),
            whole: Vec::new(),
        }
    }

    fn all(&self, fate: Fate) -> &[usize] {
        match fate {
            Fate::Waits => &self.waits,
            _ => &self.returns,
        }
    }

    /// Brings back whoever's connection has ended, until everybody has all that was said meanwhile.
    fn watch(&mut self, load: &mut Load<'_>) -> Result<()> {
        let mut missing: Vec<usize> = [&self.waits[..], &self.returns[..]].concat();
        while !missing.is_empty() {
            if self.end.elapsed() > PATIENCE {
                return Err(format!("{} members aren't served again", missing.len()).into());
            }
            let wait = load.publish()?;
            let mut ended = Vec::new();
            load.turn(wait.min(TURN), &mut |arrival| {
                ended.push(arrival.connection);
                Ok(())
            })?;
            for connection in ended {
                let room = load.shape.rooms_of(connection).start;
                let rejoin = load.roamers.rejoin(connection, room);
                let address = load.address_of(connection);
                load.clients.reopen(connection, address, &[rejoin])?;
            }
            let elapsed = self.end.elapsed();
            missing.retain(|&connection| {
                let room = load.shape.rooms_of(connection).start;
                // each room has one publisher
                let whole = load.ledger.has(connection, room, self.said[room]);
                if whole {
                    self.whole.push((connection, elapsed));
                }
                !whole
            });
        }
        Ok(())
    }

    /// Median and last.
    fn spread(&self, fate: Fate) -> String {
        let mut times: Vec<Duration> = self
            .whole
            .iter()
            .filter(|(connection, _)| Fate::of(*connection) == fate)
            .map(|(_, time)| *time)
            .collect();
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let last = times.last().copied().unwrap_or_default();
        format!("{} / {}", milliseconds(median), milliseconds(last))
    }
}
