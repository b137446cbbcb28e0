//! What the benches share: they run the built server as a process of its own, with a real Redis, and are
//! its clients.
//!
//! ```text
//!   core of the server                     core of the load
//!   ┌────────────────────────┐  loopback   ┌──────────────────────────────────┐
//!   │ piazza, one or more    │ ◄─────────► │ this process: one thread, epoll  │
//!   │ or the floor's child   │             │ redis-server                     │
//!   └────────────────────────┘             └──────────────────────────────────┘
//! ```
//!
//! Each line of a table begins with a fresh server (and a fresh Redis) unless it says otherwise, so that
//! no run inherits another's memory or history. The status is 1 if anything was lost, doubled or out of
//! order.
//!
//! `options` the command line · `machine` cores and limits · `process` children and what they use ·
//! `stack` servers and broker · `usage` what all of them took · `shape` rooms, members, publishers ·
//! `websocket`, `chat`, `token`, `clients` the client side · `ledger` who has what · `load` keeps it
//! going · `comeback` those who lose their connection · `floor`, `bare` what the kernel alone takes ·
//! `histogram`, `report`.
#![allow(
    dead_code,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "each bench takes what it needs; the table is the output, progress goes beside it"
)]

pub(crate) mod bare;
pub(crate) mod chat;
pub(crate) mod clients;
pub(crate) mod comeback;
pub(crate) mod floor;
pub(crate) mod histogram;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod options;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod shape;
pub(crate) mod stack;
pub(crate) mod token;
pub(crate) mod usage;
pub(crate) mod websocket;

use std::process::{Command, ExitCode};

use machine::Machine;
use options::Common;
use report::Report;
use stack::{Broker, Stack};

/// Whatever goes wrong ends the run with one line that says what it was.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What a bench works with.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Common,
    pub(crate) machine: Machine,
    pub(crate) report: Report,
    redis: bool,
}

impl Bench<'_> {
    /// The brokers that can be measured here and that `--only` leaves in for this part.
    pub(crate) fn brokers(&self, part: &str) -> Vec<Broker> {
        let wanted = |broker: &Broker| {
            (self.redis || *broker == Broker::Embedded) && self.options.wants(*broker, part)
        };
        Broker::ALL.into_iter().filter(wanted).collect()
    }

    /// A fresh server, and a fresh Redis where the broker is one.
    pub(crate) fn stack(&self, broker: Broker, nodes: usize) -> Result<Stack> {
        let mut server = Command::new(&self.options.server);
        let off = self.options.limits_off;
        Stack::start(broker, nodes, &mut server, &self.machine, off)
    }

    /// The floor: in the server's place one that only answers.
    pub(crate) fn bare(&self) -> Result<Stack> {
        let mut server = Command::new(std::env::current_exe()?);
        server.arg("--bare");
        let off = self.options.limits_off;
        Stack::start(Broker::Embedded, 1, &mut server, &self.machine, off)
    }

    /// As many connections as asked for, or as the limit of open files allows; a note says so.
    pub(crate) fn connections(&mut self, wanted: usize, files_each: usize) -> usize {
        let most = self.machine.most_connections(files_each);
        if most < wanted {
            self.report.note(&format!(
                "{wanted} connections were asked for; the hard limit of open files allows {most}."
            ));
        }
        wanted.min(most)
    }
}

/// Runs a bench of this name, whose parts `--only` may choose from, and prints its tables.
pub(crate) fn run(
    name: &str,
    parts: &[&str],
    options: &Common,
    bench: impl FnOnce(&mut Bench<'_>) -> Result<()>,
) -> ExitCode {
    let outcome = match &options.floor_child {
        Some(order) => floor::child(order).map(|()| true),
        None if options.bare => bare::serve().map(|()| true),
        None => measure(name, parts, options, bench),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every message came exactly once.
fn measure(
    name: &str,
    parts: &[&str],
    options: &Common,
    run: impl FnOnce(&mut Bench<'_>) -> Result<()>,
) -> Result<bool> {
    options.check(parts)?;
    process::end_all_on_signal()?;
    let machine = Machine::prepare()?;
    let report = Report::new(name, &machine);
    let redis = stack::redis_is_installed();
    let mut bench = Bench {
        options,
        machine,
        report,
        redis,
    };
    if !redis {
        bench
            .report
            .note("`redis-server` isn't installed: everything with Redis was left out.");
    }
    // what was measured before something went wrong is worth seeing, too
    let outcome = run(&mut bench);
    print!("{}", bench.report);
    outcome.map(|()| bench.report.is_clean())
}
