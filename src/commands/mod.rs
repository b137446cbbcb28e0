//! What the program does when it is called: one file a command. Each returns an exit status, or the
//! [`Failure`] that becomes one line on standard error.

pub mod chat;
pub mod check;
pub mod serve;
pub mod token;

use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::{self, Config};

/// Why a command ended without doing what it should.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    status: u8,
    line: String,
}

impl Failure {
    /// The command line or the configuration is wrong: status 2.
    pub fn usage(line: impl fmt::Display) -> Failure {
        Failure {
            status: 2,
            line: line.to_string(),
        }
    }

    /// It couldn't be done: status 1.
    pub fn fault(line: impl fmt::Display) -> Failure {
        Failure {
            status: 1,
            line: line.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    /// One line, whatever was put in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chat::clean(&self.line))
    }
}

/// Says on standard error why a command failed, and gives its exit status.
pub fn report(failure: &Failure) -> ExitCode {
    // Where standard error is closed, too, the status alone has to do.
    let _ = writeln!(io::stderr(), "piazza: {failure}");
    ExitCode::from(failure.status)
}

/// Reads the configuration from the environment and `.env`.
fn read_config(dev: bool) -> Result<Config, Failure> {
    let source = config::environment().map_err(Failure::usage)?;
    let read = if dev { Config::dev } else { Config::read };
    read(&source).map_err(Failure::usage)
}

/// Writes to standard output, all of it. (`println!` panics where that is closed.)
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::fault(format_args!("can't write to standard output: {error}")))
}

/// Runs `future` to its end on a runtime of its own. What is left on that runtime then is abandoned:
/// a thread that waits for standard input would never come back.
fn block_on<T>(
    mut builder: tokio::runtime::Builder,
    future: impl Future<Output = T>,
) -> Result<T, Failure> {
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::fault(format_args!("can't start the runtime: {error}")))?;
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::usage("a\nb\u{1b}[2J");
        assert_eq!(failure.to_string(), "a\\nb\\u{1b}[2J");
        assert_eq!(failure.status, 2);
    }
}
