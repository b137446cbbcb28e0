//! What connections cost that say nothing: memory before and after a load has passed over them, the CPU
//! of the node, and what it still holds after all of them went away.
//!
//! `cargo bench --bench idle -- --help` lists the options. Memory is the server's anonymous resident
//! memory, above what it held without connections; what the kernel keeps for the sockets isn't in it. The
//! floor is a process with as many sockets and nothing else: no anonymous memory and no CPU. The CPU is
//! measured over a whole heartbeat, since all were pinged together; beside it is that of the node before
//! anybody came.

#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use support::load::Load;
use support::options::Common;
use support::report::thousands;
use support::shape::Shape;
use support::stack::{Broker, Stack};
use support::{Bench, Result};

/// Memory and CPU of idle connections, and what is left of them a minute after they went.
///
/// Parts: one (all in one room), ten (rooms of ten).
#[derive(Parser)]
#[command(name = "idle", verbatim_doc_comment)]
struct Options {
    /// Connections; fewer, and said so, where the limit of open files is lower
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Seconds of measuring the CPU: a heartbeat interval
    #[arg(long, default_value = "30", value_parser = support::options::seconds)]
    cpu_secs: Duration,
    /// Seconds that the server gets to return memory; less where it has returned nearly all
    #[arg(long, default_value = "60", value_parser = support::options::seconds)]
    gone_secs: Duration,
    #[command(flatten)]
    common: Common,
}

/// What was under way is over after that.
const SETTLING: Duration = Duration::from_secs(1);

/// Once no more than this share of the most is held, it counts as returned.
const RETURNED: f64 = 0.05;

fn main() -> ExitCode {
    let options = Options::parse();
    support::run("idle", &["one", "ten"], &options.common, |bench| {
        bench.report.table(&[
            "broker, rooms",
            "connections",
            "idle, KiB each",
            "after a load, KiB each",
            "CPU idle, % of a core: with them / without",
            "held after they went, KiB each",
            "after",
            "lost / doubled / disordered",
        ]);
        for part in ["one", "ten"] {
            for broker in bench.brokers(part) {
                measure(bench, broker, part, &options)?;
            }
        }
        Ok(())
    })
}

fn shape(part: &str, connections: usize) -> Shape {
    match part {
        "one" => Shape {
            publishers: 10,
            window: 4,
            ..Shape::rooms(1, connections)
        },
        _ => Shape::rooms(connections / 10, 10),
    }
}

fn measure(bench: &mut Bench<'_>, broker: Broker, part: &str, options: &Options) -> Result<()> {
    let common = bench.options;
    let connections = common.quickly(options.connections, 1_000);
    let shape = shape(part, bench.connections(connections, 1));
    let cpu_time = common.quickly(options.cpu_secs, Duration::from_secs(1));
    let stack = bench.stack(broker, 1)?;
    let before = stack.memory()?;
    let cpu_without = cpu(&stack, cpu_time.min(Duration::from_secs(5)), |time| {
        std::thread::sleep(time);
        Ok(())
    })?;
    let each =
        |memory: u64| (memory as f64 - before as f64) / 1024.0 / shape.connections().max(1) as f64;
    let mut load = Load::join(&shape, &stack)?;
    load.rest(SETTLING)?;
    let idle = each(stack.memory()?);
    let cpu_with = cpu(&stack, cpu_time, |time| load.rest(time))?;
    load.run(common.time())?;
    load.drain()?;
    load.rest(SETTLING)?;
    let after_load = stack.memory()?;
    let faults = load.close()?;
    let wait = common.quickly(options.gone_secs, Duration::from_secs(10));
    let (held, after) = gone(&stack, before, after_load, wait)?;
    let row = [
        format!(
            "{}, {}",
            broker.name(),
            if part == "one" {
                "one room"
            } else {
                "rooms of 10"
            }
        ),
        thousands(shape.connections() as f64),
        format!("{idle:.2}"),
        format!("{:.2}", each(after_load)),
        format!("{cpu_with:.2} / {cpu_without:.2}"),
        format!("{:.2}", each(held)),
        format!("{:.0} s", after.as_secs_f64()),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}

/// The server's CPU while this goes on, in percent of a core.
fn cpu(stack: &Stack, time: Duration, go_on: impl FnOnce(Duration) -> Result<()>) -> Result<f64> {
    let (begin, before) = (Instant::now(), stack.server_cpu()?);
    go_on(time)?;
    let used = stack.server_cpu()?.saturating_sub(before);
    Ok(used.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0)
}

/// What the server holds once it has returned nearly all, or at the end of the time that it gets.
fn gone(stack: &Stack, before: u64, most: u64, limit: Duration) -> Result<(u64, Duration)> {
    let begin = Instant::now();
    loop {
        let held = stack.memory()?;
        let share = held.saturating_sub(before) as f64 / most.saturating_sub(before).max(1) as f64;
        if share <= RETURNED || begin.elapsed() >= limit {
            return Ok((held, begin.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
