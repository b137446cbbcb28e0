//! What a delivery costs the real server at full load, and what it would cost if the server did nothing
//! but write, as many frames a write as the load's clients got in one read: the floor of the same machine in the
//! same run.
//!
//! `cargo bench --bench throughput -- --help` lists the options. The load is a closed loop: a message is
//! in flight until its publisher has the ack and every member of its room has the message. With more
//! nodes than one, the CPU of all of them counts.

#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use clap::Parser;
use support::floor::{self, Order};
use support::load::{Load, Measured};
use support::options::Common;
use support::report::{milliseconds, thousands};
use support::shape::Shape;
use support::stack::Broker;
use support::{Bench, Result};

/// Deliveries per second and server CPU per delivery at full load, and what the kernel alone takes.
///
/// Parts: 1x100 (one room of 100), 1x1000, 100x10 (100 rooms of 10), 2x50x20 (two nodes on one Redis,
/// 50 rooms of 20, each room's members on both).
#[derive(Parser)]
#[command(name = "throughput", verbatim_doc_comment)]
struct Options {
    #[command(flatten)]
    common: Common,
}

struct Scenario {
    name: &'static str,
    title: &'static str,
    shape: Shape,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "1x100",
        title: "one room of 100",
        shape: Shape {
            publishers: 10,
            ..Shape::rooms(1, 100)
        },
    },
    Scenario {
        name: "1x1000",
        title: "one room of 1,000",
        shape: Shape {
            publishers: 10,
            window: 4,
            ..Shape::rooms(1, 1_000)
        },
    },
    Scenario {
        name: "100x10",
        title: "100 rooms of 10",
        shape: Shape::rooms(100, 10),
    },
    Scenario {
        name: "2x50x20",
        title: "two nodes, 50 rooms of 20",
        shape: Shape {
            nodes: 2,
            ..Shape::rooms(50, 20)
        },
    },
];

const COLUMNS: [&str; 11] = [
    "broker, rooms",
    "deliveries/s",
    "messages/s",
    "server CPU, µs per delivery",
    "frames a read",
    "floor, µs per frame, as many a write",
    "server / floor",
    "Redis CPU, µs per message",
    "p50 / p99 ms",
    "core: servers / Redis / load / others",
    "lost / doubled / disordered",
];

fn main() -> ExitCode {
    let options = Options::parse();
    let names = SCENARIOS.each_ref().map(|scenario| scenario.name);
    support::run("throughput", &names, &options.common, bench)
}

fn bench(bench: &mut Bench<'_>) -> Result<()> {
    bench.report.table(&COLUMNS);
    for broker in Broker::ALL {
        for scenario in &SCENARIOS {
            // nodes meet in Redis alone
            let possible = broker == Broker::Redis || scenario.shape.nodes == 1;
            if possible && bench.brokers(scenario.name).contains(&broker) {
                measure(bench, broker, scenario)?;
            }
        }
    }
    Ok(())
}

fn measure(bench: &mut Bench<'_>, broker: Broker, scenario: &Scenario) -> Result<()> {
    let shape = &scenario.shape;
    let stack = bench.stack(broker, shape.nodes)?;
    let mut load = Load::join(shape, &stack)?;
    let measured = load.measure(bench.options, &stack)?;
    let faults = load.close()?;
    drop(stack);
    let order = Order::like(shape, &measured, bench.options);
    let floor = floor::measure(&order, &bench.machine)?;
    let Measured {
        spent,
        deliveries,
        messages,
        latencies,
        ..
    } = &measured;
    let cost = measured.cost();
    let row = [
        format!("{}, {}", broker.name(), scenario.title),
        thousands(deliveries / spent.seconds),
        thousands(messages / spent.seconds),
        format!("{cost:.3}"),
        format!("{:.1}", measured.frames_per_read),
        format!("{floor:.3}"),
        format!("{:.2}", cost / floor),
        measured.redis_cost(),
        format!(
            "{} / {}",
            milliseconds(latencies.quantile(0.5)),
            milliseconds(latencies.quantile(0.99))
        ),
        bench.report.busy(spent),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}
