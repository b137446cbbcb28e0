//! A proxy restarts, a switch goes down: nearly all clients of a node lose their connections at once and
//! all come back at once, with a new handshake and a join `since` their last message, while the rest
//! chats on.
//!
//! `cargo bench --bench avalanche -- --help` lists the options. In each room of 20 the publisher and one
//! member more stay; the load is an open loop. The CPU of a comeback is what server and Redis took until
//! the last one was back, the ends of the old connections included, less what the load alone takes in
//! that time: a comeback's cost is that of the handshake and the join, of the old connection's end, and of
//! the replay of what was missed. The floor is what a connect and a join take of a server that only answers.
//!
//! One thread is all clients: while it makes handshakes it reads nobody, so its own work is in the others' p99.

#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use support::clients::TURN;
use support::comeback::Roamers;
use support::histogram::Histogram;
use support::load::Load;
use support::options::Common;
use support::report::{milliseconds, thousands};
use support::shape::Shape;
use support::stack::Broker;
use support::usage::Usage;
use support::{Bench, Result};

/// Nearly all clients come back at once, with resume, while the others chat on.
///
/// Parts: rooms (rooms of 20, of whom 18 go and come back).
#[derive(Parser)]
#[command(name = "avalanche", verbatim_doc_comment)]
struct Options {
    /// Connections, 18 of 20 of which are lost; fewer where the limit of open files is lower
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Messages per second over all rooms
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Connections in the making at once
    #[arg(long, default_value_t = 512)]
    at_once: usize,
    #[command(flatten)]
    common: Common,
}

const MEMBERS: usize = 20;

/// Members of each room that stay: its publisher and another one.
const STAY: usize = 2;

/// Messages in flight of one publisher at most.
const WINDOW: usize = 256;

/// Nobody is away longer.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let options = Options::parse();
    support::run("avalanche", &["rooms"], &options.common, |bench| {
        bench.report.table(&[
            "all come back at once",
            "clients",
            "until half / all are back, s",
            "comebacks/s",
            "CPU, µs per comeback: server / Redis",
            "floor, µs",
            "core: servers / Redis / load / others",
            "`recovered: false`",
            "the others' p99, ms: before / meanwhile",
            "lost / doubled / disordered",
        ]);
        let floor = floor(bench)?;
        for broker in bench.brokers("rooms") {
            measure(bench, broker, &options, floor)?;
        }
        bench.report.note(
            "A comeback's CPU includes the end of the old connection and the replay; the floor is a connect and a \
             join alone. The others' p99 includes the load's own work: one thread is all clients.",
        );
        Ok(())
    })
}

/// Server CPU of a connect and a join at least, in microseconds.
fn floor(bench: &Bench<'_>) -> Result<f64> {
    let shape = Shape::rooms(bench.options.quickly(100, 20), MEMBERS);
    let stack = bench.bare()?;
    let before = Usage::now(&stack)?;
    let load = Load::join(&shape, &stack)?;
    let spent = Usage::now(&stack)?.since(&before);
    drop(load);
    Ok(spent.server * 1e6 / shape.connections() as f64)
}

fn measure(bench: &mut Bench<'_>, broker: Broker, options: &Options, floor: f64) -> Result<()> {
    let connections = bench.options.quickly(options.connections, 1_000);
    let rooms = bench.connections(connections, 1) / MEMBERS;
    let shape = Shape {
        window: WINDOW,
        ..Shape::rooms(rooms, MEMBERS)
    };
    let stack = bench.stack(broker, 1)?;
    let mut load = Load::join(&shape, &stack)?;
    load.roamers = Roamers::new(&shape, |connection| connection % MEMBERS >= STAY);
    load.at_rate(f64::from(options.rate.max(1)));
    let quiet = load.measure(bench.options, &stack)?;

    let all = load.roamers.all();
    let begin = Usage::now(&stack)?;
    let (half, whole) = come_back(&mut load, &all, options.at_once.max(1))?;
    let spent = Usage::now(&stack)?.since(&begin);
    let meanwhile = std::mem::replace(&mut load.latencies, Histogram::new());
    load.run(Duration::from_secs(1))?;
    load.drain()?;
    let (resumed, unrecovered) = load.roamers.resumed();
    let faults = load.close()?;
    if resumed < all.len() {
        return Err(format!("{resumed} of {} came back", all.len()).into());
    }
    // what the load alone takes in as much time
    let share = spent.seconds / quiet.spent.seconds;
    let each = |all_of_it: f64, load_alone: f64| {
        ((all_of_it - load_alone * share) * 1e6 / resumed as f64).max(0.0)
    };
    let row = [
        broker.name().to_owned(),
        thousands(resumed as f64),
        format!("{:.2} / {:.2}", half.as_secs_f64(), whole.as_secs_f64()),
        thousands(resumed as f64 / whole.as_secs_f64()),
        format!(
            "{:.0} / {:.0}",
            each(spent.server, quiet.spent.server),
            each(spent.redis, quiet.spent.redis)
        ),
        format!("{floor:.0}"),
        bench.report.busy(&spent),
        unrecovered.to_string(),
        format!(
            "{} / {}",
            milliseconds(quiet.latencies.quantile(0.99)),
            milliseconds(meanwhile.quantile(0.99))
        ),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}

/// Cuts all of these and brings them back; the time until half of them were back, and until all.
fn come_back(load: &mut Load<'_>, all: &[usize], at_once: usize) -> Result<(Duration, Duration)> {
    let begin = Instant::now();
    for &connection in all {
        load.clients.cut(connection);
    }
    let mut away = all.iter();
    let mut left = all.len();
    let mut half = None;
    while left > 0 || load.clients.opening() > 0 {
        if begin.elapsed() > LIMIT {
            return Err(format!("{left} are still away after {LIMIT:?}").into());
        }
        // a few at a time, so that the load goes on meanwhile
        for _ in 0..16 {
            if load.clients.opening() >= at_once {
                break;
            }
            let Some(&connection) = away.next() else {
                break;
            };
            left -= 1;
            let room = load.shape.rooms_of(connection).start;
            let rejoin = load.roamers.rejoin(connection, room);
            let address = load.address_of(connection);
            load.clients.reopen(connection, address, &[rejoin])?;
        }
        let wait = load.publish()?;
        let wait = if left > 0 && load.clients.opening() < at_once {
            Duration::ZERO
        } else {
            wait.min(TURN)
        };
        load.turn(wait, &mut |_| Ok(()))?;
        if half.is_none() && left + load.clients.opening() <= all.len() / 2 {
            half = Some(begin.elapsed());
        }
    }
    let whole = begin.elapsed();
    Ok((half.unwrap_or(whole), whole))
}
