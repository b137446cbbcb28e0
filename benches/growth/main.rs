//! Whether anything grows faster than what it serves: the costs of a publish and of a delivery over rooms of
//! any size, many rooms, many rooms per connection and many nodes (`fit.rs`); connects while many are
//! held (`connects.rs`); joins and leaves in large rooms (`churn.rs`).
//!
//! `cargo bench --bench growth -- --help` lists the options.

mod churn;
mod connects;
mod fit;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use clap::Parser;
use support::options::Common;

/// Costs per publish, delivery, connect and join, as rooms, connections and nodes grow.
///
/// Parts: members (rooms of 10 to 10,000), rooms (up to 10,000, mostly quiet), each (1 to 100 rooms per
/// connection), nodes (1 to 4), connects (with up to 15,000 held), churn (joins and leaves).
#[derive(Parser)]
#[command(name = "growth", verbatim_doc_comment)]
struct Options {
    #[command(flatten)]
    common: Common,
}

const PARTS: [&str; 6] = ["members", "rooms", "each", "nodes", "connects", "churn"];

fn main() -> ExitCode {
    let options = Options::parse();
    support::run("growth", &PARTS, &options.common, |bench| {
        fit::bench(bench)?;
        connects::bench(bench)?;
        churn::bench(bench)
    })
}
