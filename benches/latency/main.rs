//! How long a message takes at a rate that leaves the server room, what one message alone costs, and
//! what slow readers do to the others.
//!
//! `cargo bench --bench latency -- --help` lists the options. `open`: an open loop at a fixed rate; a
//! latency counts from the moment when its message was due. `lone`: one publisher with one message in
//! flight, so that nothing can be gathered: a delivery is a write of one frame, like the floor's. `slow`:
//! in `slow.rs`.

mod slow;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use support::floor::{self, Order};
use support::histogram::Histogram;
use support::load::{Load, Measured};
use support::options::Common;
use support::report::{median_and_range, milliseconds, thousands};
use support::shape::Shape;
use support::stack::{Broker, Stack};
use support::{Bench, Result};

/// Latency at a fixed rate, the cost of one message alone, and slow readers among fast ones.
///
/// Parts: open (50 rooms of 20; with Redis on two nodes, too), lone (one message at a time in a room of
/// 100 and of 1,000), slow (10 rooms of 40, and 1 % more readers who take 1 KB/s).
#[derive(Parser)]
#[command(name = "latency", verbatim_doc_comment)]
struct Options {
    /// Messages per second of the open loops, over all rooms
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    #[command(flatten)]
    common: Common,
}

/// Messages in flight of one publisher at most: seconds of them, for no server that keeps up.
const OPEN_WINDOW: usize = 1_024;

/// Turns of a line of `lone`.
const LONE_TURNS: usize = 5;

const SPREAD: &str = "p50 / p99 / p99.9 / longest, ms";

fn main() -> ExitCode {
    let options = Options::parse();
    let rate = f64::from(options.rate.max(1));
    support::run(
        "latency",
        &["open", "lone", "slow"],
        &options.common,
        |bench| {
            open(bench, rate)?;
            lone(bench)?;
            slow::bench(bench, rate)
        },
    )
}

fn open(bench: &mut Bench<'_>, rate: f64) -> Result<()> {
    let brokers = bench.brokers("open");
    if brokers.is_empty() {
        return Ok(());
    }
    bench.report.table(&[
        "open loop, 50 rooms of 20",
        "messages/s",
        "deliveries/s",
        SPREAD,
        "core: servers / Redis / load / others",
        "lost / doubled / disordered",
    ]);
    let bare = bench.bare()?;
    open_on(bench, "floor: a server that only answers", &bare, rate)?;
    drop(bare);
    for broker in brokers {
        let most = if broker == Broker::Redis { 2 } else { 1 };
        for nodes in 1..=most {
            let stack = bench.stack(broker, nodes)?;
            let title = format!("{}, {nodes} node{}", broker.name(), &"s"[..nodes - 1]);
            open_on(bench, &title, &stack, rate)?;
        }
    }
    Ok(())
}

fn open_on(bench: &mut Bench<'_>, title: &str, stack: &Stack, rate: f64) -> Result<()> {
    let shape = Shape {
        nodes: stack.nodes.len(),
        window: OPEN_WINDOW,
        ..Shape::rooms(50, 20)
    };
    let mut load = Load::join(&shape, stack)?;
    load.at_rate(rate);
    let measured = load.measure(bench.options, stack)?;
    let faults = load.close()?;
    let Measured {
        spent,
        messages,
        deliveries,
        latencies,
        ..
    } = measured;
    let row = [
        title.to_owned(),
        thousands(messages / spent.seconds),
        thousands(deliveries / spent.seconds),
        spread(&latencies),
        bench.report.busy(&spent),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}

fn lone(bench: &mut Bench<'_>) -> Result<()> {
    let brokers = bench.brokers("lone");
    if brokers.is_empty() {
        return Ok(());
    }
    bench.report.table(&[
        "one message at a time",
        "messages/s",
        "server CPU, µs per send",
        "floor: µs per send",
        "server / floor: median (range)",
        "Redis CPU, µs per message",
        SPREAD,
        "core: servers / Redis / load / others",
        "lost / doubled / disordered",
    ]);
    for broker in brokers {
        for members in [100, 1_000] {
            lone_in(bench, broker, members)?;
        }
    }
    Ok(())
}

/// Server and floor in turns, so that what disturbs one disturbs the other; the line is that of the turn with
/// the median ratio, except for the latencies, which are those of all.
fn lone_in(bench: &mut Bench<'_>, broker: Broker, members: usize) -> Result<()> {
    let shape = Shape {
        window: 1,
        ..Shape::rooms(1, members)
    };
    let stack = bench.stack(broker, 1)?;
    let mut load = Load::join(&shape, &stack)?;
    load.run(bench.options.warm_up())?;
    let mut turns = Vec::new();
    for _ in 0..bench.options.quickly(LONE_TURNS, 3) {
        turns.push(lone_turn(bench, &shape, &stack, &mut load)?);
    }
    let faults = load.close()?;
    let ratio = |(measured, floor): &(Measured, f64)| measured.cost() / floor;
    turns.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
    let range = median_and_range(turns.iter().map(ratio));
    let (measured, floor) = &turns[turns.len() / 2];
    let row = [
        format!("{}, room of {}", broker.name(), thousands(members as f64)),
        thousands(measured.messages / measured.spent.seconds),
        format!("{:.2}", measured.cost()),
        format!("{floor:.2}"),
        range,
        measured.redis_cost(),
        spread(&merged(turns.iter().map(|(measured, _)| measured))),
        bench.report.busy(&measured.spent),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}

/// The server, and its floor in microseconds per send.
fn lone_turn(
    bench: &Bench<'_>,
    shape: &Shape,
    stack: &Stack,
    load: &mut Load<'_>,
) -> Result<(Measured, f64)> {
    let time = (bench.options.time() / 8).max(Duration::from_millis(250));
    // what the floor before has cooled down
    load.run(time.min(Duration::from_millis(200)))?;
    let measured = load.measure_with(time, stack, &mut |load, time| load.run(time))?;
    load.drain()?;
    let order = Order {
        in_flight: 1,
        batch: 1,
        time: time.min(Duration::from_millis(500)),
        ..Order::like(shape, &measured, bench.options)
    };
    Ok((measured, floor::measure(&order, &bench.machine)?))
}

/// The latencies of several turns.
fn merged<'a>(turns: impl IntoIterator<Item = &'a Measured>) -> Histogram {
    let mut all = Histogram::new();
    for turn in turns {
        all.merge(&turn.latencies);
    }
    all
}

/// The figures of [`SPREAD`].
fn spread(latencies: &Histogram) -> String {
    let at = |share| milliseconds(latencies.quantile(share));
    format!("{} / {} / {} / {}", at(0.5), at(0.99), at(0.999), at(1.0))
}
