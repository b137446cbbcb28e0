//! The part of the command line that all benches have.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Result;
use super::stack::Broker;

/// Options of every bench.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Measured seconds of each run, after a warm-up of one
    #[arg(long, default_value = "4", value_parser = seconds)]
    secs: Duration,
    /// Another server than this package's: a program, or a script that ends in `exec`
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_piazza"), hide_default_value = true, value_parser = absolute)]
    pub(crate) server: PathBuf,
    /// Only this: a part (they are named above), a broker (embedded, redis), or BROKER/PART
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    only: String,
    /// To see that it works: short runs with few connections
    #[arg(long)]
    pub(crate) quick: bool,
    /// No limit of the server counts anything and no message has a `clientId`, to see what both cost
    #[arg(long)]
    pub(crate) limits_off: bool,
    /// Be the writer of the floor: port, connections, bytes of a frame, milliseconds, frames in
    /// flight, and the frames of a write
    #[arg(long, hide = true, num_args = 6)]
    pub(crate) floor_child: Option<Vec<usize>>,
    /// Be the bare server that shows the floor of a round trip
    #[arg(long, hide = true)]
    pub(crate) bare: bool,
    /// What cargo adds to the command line of every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Common {
    /// # Errors
    /// `--only` names what isn't there.
    pub(crate) fn check(&self, parts: &[&str]) -> Result<()> {
        let known = |word: &&str| {
            parts.contains(word) || Broker::ALL.iter().any(|broker| broker.name() == *word)
        };
        match self.words().find(|word| !known(word)) {
            Some(word) => Err(format!(
                "--only {word}: neither a broker nor a part: {}",
                parts.join(", ")
            )
            .into()),
            None => Ok(()),
        }
    }

    /// Whether `--only` leaves this in.
    pub(crate) fn wants(&self, broker: Broker, part: &str) -> bool {
        self.words()
            .all(|word| word == broker.name() || word == part)
    }

    /// Measured time of each run.
    pub(crate) fn time(&self) -> Duration {
        self.quickly(self.secs, Duration::from_secs(1))
    }

    /// Time for the server to reach its stride before anything counts.
    pub(crate) fn warm_up(&self) -> Duration {
        self.quickly(Duration::from_secs(1), Duration::from_millis(300))
    }

    /// The first, or with `--quick` the second where that is less.
    pub(crate) fn quickly<T: Ord>(&self, usual: T, quick: T) -> T {
        if self.quick { usual.min(quick) } else { usual }
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.only.split('/').filter(|word| !word.is_empty())
    }
}

/// The server runs in another directory than this process.
fn absolute(path: &str) -> std::result::Result<PathBuf, String> {
    std::path::absolute(path).map_err(|e| e.to_string())
}

/// Seconds as a number, 0.1 to 600.
pub(crate) fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let secs: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    if !(0.1..=600.0).contains(&secs) {
        return Err("between 0.1 and 600".to_owned());
    }
    Ok(Duration::from_secs_f64(secs))
}
