//! The `piazza` program: reads the command line, runs one command, and makes of its outcome an exit
//! status: 0 done, 1 it failed, 2 the command line or the configuration is wrong. An error is one
//! line on standard error.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use piazza::commands::{self, chat, check, serve, token};
use tikv_jemallocator::Jemalloc;

/// Memory goes back to the system within seconds after a crowd has left, by a thread of its own, so also in a
/// process that has nothing to do. Of 10,000 connections that went away the C library kept all that they had
/// taken, for good; mimalloc takes more for each connection, and begins with 8 MB. How soon it is given back is
/// said in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A chat server that people run themselves: WebSocket in front, Redis behind.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// One node to try, on 127.0.0.1: a random secret where none is set, and ready tokens
    #[arg(long, global = true)]
    dev: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (what happens without a command, too)
    Serve,
    /// Print a token
    Token(token::Args),
    /// Read the configuration, try the broker, and say what was found
    Check,
    /// Chat in a room from this terminal, line by line
    Chat(chat::Args),
}

fn main() -> ExitCode {
    let program = std::env::args_os().next().map_or_else(
        || "piazza".into(),
        |name| name.to_string_lossy().into_owned(),
    );
    let cli = Cli::parse();
    let outcome = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(cli.dev, &program),
        Command::Token(args) => token::run(&args),
        Command::Check => check::run(cli.dev),
        Command::Chat(args) => chat::run(args, std::env::var("PIAZZA_TOKEN").ok()),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(failure) => commands::report(&failure),
    }
}
