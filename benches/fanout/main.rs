//! What a delivery and an idle connection cost the real server, and what they would cost if the
//! server did nothing but write: the floor of the same machine in the same run.
//!
//! ```text
//!   core of the server                     core of the load
//!   ┌────────────────────────┐  loopback   ┌──────────────────────────────────┐
//!   │ piazza                 │ ◄─────────► │ this process: one thread, epoll  │
//!   │ or the floor's child   │             │ redis-server                     │
//!   └────────────────────────┘             └──────────────────────────────────┘
//! ```
//!
//! `cargo bench --bench fanout -- --help` lists the options. Each line of the table begins with a
//! fresh server (and a fresh Redis), so that no scenario inherits another's memory or history. The
//! load is a closed loop: a message is in flight until its publisher has the ack and every member of
//! its room has the message. The status is 1 if anything was lost, doubled or out of order.
//!
//! `options` what to run · `scenario` the rooms · `machine` cores and limits · `process` children and
//! what they use · `stack` server and broker · `websocket`, `chat`, `clients` the client side ·
//! `ledger` who has what · `fanout`, `idle`, `floor` the measurements · `histogram`, `report`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the output, progress goes beside it"
)]

mod chat;
mod clients;
mod fanout;
mod floor;
mod histogram;
mod idle;
mod ledger;
mod machine;
mod options;
mod process;
mod report;
mod scenario;
mod stack;
mod token;
mod websocket;

use std::process::ExitCode;

use machine::Machine;
use options::Options;
use report::Report;
use scenario::{Broker, IDLE, SCENARIOS};
use stack::Stack;

/// Whatever goes wrong ends the run with one line that says what it was.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let options = Options::read();
    let outcome = match &options.floor_child {
        Some(order) => floor::child(order).map(|()| true),
        None => bench(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fanout: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the options select and prints the tables; whether every message came exactly once.
fn bench(options: &Options) -> Result<bool> {
    process::end_all_on_signal()?;
    let machine = Machine::prepare()?;
    let mut report = Report::new(options, &machine);
    for broker in Broker::ALL.into_iter().filter(|b| options.wants_any(*b)) {
        if broker == Broker::Redis && !stack::redis_is_installed() {
            report.skip("`redis-server` isn't installed: everything with Redis was left out");
            continue;
        }
        for scenario in SCENARIOS.iter().filter(|s| options.wants(broker, s.name)) {
            let stack = Stack::start(broker, options, &machine)?;
            let measured = fanout::measure(scenario, &stack, options)?;
            drop(stack);
            let floor = floor::measure(scenario, measured.frame_bytes, options, &machine)?;
            report.fanout(broker, scenario, &measured, &floor);
        }
        if options.wants(broker, IDLE) {
            let connections = machine.idle_connections(options.idle);
            let stack = Stack::start(broker, options, &machine)?;
            let idle = idle::measure(connections, &stack, options)?;
            report.idle(broker, options.idle, &idle);
        }
    }
    print!("{report}");
    Ok(report.is_clean())
}
