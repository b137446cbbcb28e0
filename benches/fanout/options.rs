//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::scenario::{Broker, IDLE, SCENARIOS};

/// Fan-out benchmark: deliveries per second, server CPU per delivery, latency, memory per idle
/// connection, and beside them what the kernel alone takes.
#[derive(Debug, Parser)]
#[command(name = "fanout")]
pub(crate) struct Options {
    /// Measured seconds of each scenario, after a warm-up of two
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) secs: Duration,
    /// Another server than this package's: a program, or a script that ends in `exec`
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_piazza"), hide_default_value = true)]
    pub(crate) server: PathBuf,
    /// Only this: a scenario (1x100, 1x1000, 100x10, idle), a broker (embedded, redis), or BROKER/SCENARIO
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, value_parser = selection)]
    only: String,
    /// Idle connections; fewer, and said so, where the limit of open files is lower
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) idle: usize,
    /// To see that it works: one second each, 1,000 idle connections
    #[arg(long)]
    quick: bool,
    /// Be the writer of the floor: port, connections, bytes of a frame, milliseconds, frames in flight
    #[arg(long, hide = true, num_args = 5)]
    pub(crate) floor_child: Option<Vec<usize>>,
    /// What cargo adds to the command line of every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// From the command line of this process, with what `--quick` lowers.
    pub(crate) fn read() -> Self {
        let mut options = Self::parse();
        // the server runs in another directory than this process
        options.server = std::path::absolute(&options.server).unwrap_or(options.server);
        if options.quick {
            options.secs = options.secs.min(Duration::from_secs(1));
            options.idle = options.idle.min(1_000);
        }
        options
    }

    /// Whether `--only` leaves this scenario in.
    pub(crate) fn wants(&self, broker: Broker, scenario: &str) -> bool {
        words(&self.only).all(|word| word == broker.name() || word == scenario)
    }

    /// Whether `--only` leaves anything of this broker in.
    pub(crate) fn wants_any(&self, broker: Broker) -> bool {
        let mut names = SCENARIOS.iter().map(|s| s.name).chain([IDLE]);
        names.any(|name| self.wants(broker, name))
    }

    /// Time for the server to reach its stride before anything counts.
    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_millis(if self.quick { 300 } else { 2_000 })
    }
}

fn words(only: &str) -> impl Iterator<Item = &str> {
    only.split('/').filter(|word| !word.is_empty())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let secs: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    if !(0.1..=3_600.0).contains(&secs) {
        return Err("between 0.1 and 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(secs))
}

fn selection(text: &str) -> Result<String, String> {
    let known = |word: &str| {
        word == IDLE
            || SCENARIOS.iter().any(|s| s.name == word)
            || Broker::ALL.iter().any(|b| b.name() == word)
    };
    match words(text).find(|word| !known(word)) {
        Some(word) => Err(format!("neither a scenario nor a broker: {word}")),
        None => Ok(text.to_owned()),
    }
}
