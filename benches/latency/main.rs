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

use clap::Parser;
use support::floor::{self, Order};
use support::histogram::Histogram;
use support::load::{Load, Measured};
use support::options::Common;
use support::report::{milliseconds, thousands};
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
        "server / floor",
        "Redis CPU, µs per message",
        SPREAD,
        "lost / doubled / disordered",
    ]);
    for broker in brokers {
        for members in [100, 1_000] {
            lone_in(bench, broker, members)?;
        }
    }
    Ok(())
}

fn lone_in(bench: &mut Bench<'_>, broker: Broker, members: usize) -> Result<()> {
    let shape = Shape {
        window: 1,
        ..Shape::rooms(1, members)
    };
    let stack = bench.stack(broker, 1)?;
    let mut load = Load::join(&shape, &stack)?;
    let measured = load.measure(bench.options, &stack)?;
    let faults = load.close()?;
    drop(stack);
    let order = Order {
        in_flight: 1,
        batch: 1,
        ..Order::like(&shape, &measured, bench.options)
    };
    let floor = floor::measure(&order, &bench.machine)?;
    let cost = measured.cost();
    let row = [
        format!("{}, room of {}", broker.name(), thousands(members as f64)),
        thousands(measured.messages / measured.spent.seconds),
        format!("{cost:.2}"),
        format!("{floor:.2}"),
        format!("{:.2}", cost / floor),
        measured.redis_cost(),
        spread(&measured.latencies),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}

/// The figures of [`SPREAD`].
fn spread(latencies: &Histogram) -> String {
    let at = |share| milliseconds(latencies.quantile(share));
    format!("{} / {} / {} / {}", at(0.5), at(0.99), at(0.999), at(1.0))
}
