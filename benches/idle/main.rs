//! What connections cost that say nothing: memory before and after a load has passed over them, the CPU
//! of the node, and what it still holds after all of them went away.
//!
//! `cargo bench --bench idle -- --help` lists the options. Memory is the server's anonymous resident
//! memory, above what it held without connections. What the kernel holds for the sockets, of both ends as both
//! are on this machine, is what `Slab` and the pages of TCP grew by. The floor is a server that only answers,
//! with as many connections. The CPU is measured over a whole heartbeat, since all were pinged together; beside
//! it is that of the node before anybody came.

#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use support::load::Load;
use support::options::Common;
use support::process::kernel_memory;
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

/// Measured seconds of the CPU where there is no heartbeat.
const CPU_WITHOUT: Duration = Duration::from_secs(5);

/// Once no more than this share of the most is held, it counts as returned.
const RETURNED: f64 = 0.05;

fn main() -> ExitCode {
    let options = Options::parse();
    support::run("idle", &["one", "ten"], &options.common, |bench| {
        bench.report.table(&[
            "broker, rooms",
            "connections",
            "idle, KiB each",
            "kernel, both ends, KiB each",
            "after a load, KiB each",
            "CPU idle, % of a core: with them / without",
            "held after they went, KiB each",
            "after",
            "lost / doubled / disordered",
        ]);
        floor(bench, &options)?;
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
    let shape = shape(part, connections(bench, options));
    let stack = bench.stack(broker, 1)?;
    let (mut load, held) = hold(bench.options, &shape, &stack, options.cpu_secs)?;
    let before = held.memory_before;
    load.run(bench.options.time())?;
    load.drain()?;
    load.rest(SETTLING)?;
    let after_load = stack.memory()?;
    let faults = load.close()?;
    let wait = bench
        .options
        .quickly(options.gone_secs, Duration::from_secs(10));
    let (left, after) = gone(&stack, before, after_load, wait)?;
    let rooms = if part == "one" {
        "one room"
    } else {
        "rooms of 10"
    };
    let row = [
        format!("{}, {rooms}", broker.name()),
        thousands(shape.connections() as f64),
        each(&shape, before, held.memory),
        each(&shape, held.kernel_before, held.kernel),
        each(&shape, before, after_load),
        format!("{:.2} / {:.2}", held.cpu, held.cpu_before),
        each(&shape, before, left),
        format!("{:.0} s", after.as_secs_f64()),
        bench.report.judged(faults),
    ];
    bench.report.row(&row);
    Ok(())
}

/// As many connections of a server that only answers: what nobody can save.
fn floor(bench: &mut Bench<'_>, options: &Options) -> Result<()> {
    let shape = shape("ten", connections(bench, options));
    let stack = bench.bare()?;
    // it says nothing to those who are silent, so that one time is like any other
    let (load, held) = hold(bench.options, &shape, &stack, CPU_WITHOUT)?;
    drop(load);
    let row = [
        "floor: a server that only answers".to_owned(),
        thousands(shape.connections() as f64),
        each(&shape, held.memory_before, held.memory),
        each(&shape, held.kernel_before, held.kernel),
        "–".to_owned(),
        format!("{:.2} / {:.2}", held.cpu, held.cpu_before),
        "–".to_owned(),
        "–".to_owned(),
        "–".to_owned(),
    ];
    bench.report.row(&row);
    Ok(())
}

fn connections(bench: &mut Bench<'_>, options: &Options) -> usize {
    let wanted = bench.options.quickly(options.connections, 1_000);
    bench.connections(wanted, 1)
}

/// What was there without connections and with them: bytes, and percent of a core.
struct Held {
    memory_before: u64,
    memory: u64,
    kernel_before: u64,
    kernel: u64,
    cpu_before: f64,
    cpu: f64,
}

/// Connects all, and measures before, then, and the CPU for so long.
fn hold<'a>(
    common: &Common,
    shape: &'a Shape,
    stack: &Stack,
    cpu_time: Duration,
) -> Result<(Load<'a>, Held)> {
    let cpu_time = common.quickly(cpu_time, Duration::from_secs(1));
    let memory_before = stack.memory()?;
    let cpu_before = cpu(stack, cpu_time.min(CPU_WITHOUT), |time| {
        std::thread::sleep(time);
        Ok(())
    })?;
    let kernel_before = kernel_memory()?;
    let mut load = Load::join(shape, stack)?;
    load.rest(SETTLING)?;
    let (memory, kernel) = (stack.memory()?, kernel_memory()?);
    let cpu = cpu(stack, cpu_time, |time| load.rest(time))?;
    let held = Held {
        memory_before,
        memory,
        kernel_before,
        kernel,
        cpu_before,
        cpu,
    };
    Ok((load, held))
}

/// KiB for each connection above what was there before.
fn each(shape: &Shape, before: u64, now: u64) -> String {
    let more = (now as f64 - before as f64) / 1024.0;
    format!("{:.2}", more / shape.connections().max(1) as f64)
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
