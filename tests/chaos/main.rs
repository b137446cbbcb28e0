//! Chaos: clients chat through nginx over three nodes and a Redis while all of these are struck by
//! faults; then a checker judges what every client was given by what protocol.md promises.
//!
//! ```text
//! cargo test --test chaos                                        what `cargo test` runs: two minutes, mixed
//! cargo test --test chaos -- --secs 1800 --seed 7                half an hour of faults that keep data
//! cargo test --test chaos -- --secs 600 --faults all             those that take data among them
//! cargo test --test chaos -- --faults redis-kill,node-freeze     these alone
//! cargo test --test chaos -- --secs 600 --presence               with a rest a minute, at which nodes are asked
//! cargo test --test chaos -- --each 10                           every fault alone, ten times
//! ```
//!
//! - [`fault`]: what there is to go wrong, drawn from a seed; [`edge`] and [`store`] do it
//! - [`member`], [`desk`], [`link`], [`wire`]: a client; [`history`]: what it writes down
//! - [`checker`], [`view`], [`verdict`]: the judgement, itself tested in `checker_tests.rs`
//! - [`sight`] judges who was said to be in a room, with a [`rest`] now and then; tested in `sight_tests.rs`
//! - [`run`] puts them together; [`report`] prints the table
//!
//! A run that fails keeps its seed, faults, history and logs under `target/chaos/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod checker;
mod desk;
mod dice;
mod edge;
mod fault;
mod history;
mod link;
mod member;
mod report;
mod rest;
mod run;
mod sight;
mod store;
mod verdict;
mod view;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use fault::{FAULTS, Fault};
use run::{Plan, run};

/// The promises hold while things break.
#[derive(Parser)]
struct Options {
    /// What the schedule of faults is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long faults strike; without it and without faults named, two minutes in all.
    #[arg(long)]
    secs: Option<u64>,
    /// Names parted by commas; `keeping` are all that keep what Redis has stored, `all` are all.
    #[arg(long)]
    faults: Option<String>,
    /// Every fault alone, so many times.
    #[arg(long)]
    each: Option<usize>,
    /// Messages a second.
    #[arg(long, default_value_t = 60)]
    rate: u32,
    /// Rest once a minute and at the end: some stay away, and every node has to say who is there.
    #[arg(long)]
    presence: bool,
    /// Keep the run's history and logs also where nothing is wrong.
    #[arg(long)]
    keep: bool,
    /// What the faults are called.
    #[arg(long)]
    list: bool,
    /// As for other test targets: where words are given and none is in `chaos`, nothing is run.
    words: Vec<String>,
    /// Taken for the sake of `cargo test -- --nocapture`.
    #[arg(long, hide = true)]
    nocapture: bool,
}

impl Options {
    fn plan(&self, secs: u64, faults: Vec<Fault>) -> Plan {
        Plan {
            seed: self.seed,
            time: Duration::from_secs(self.secs.unwrap_or(secs)),
            faults,
            times: usize::MAX,
            rate: self.rate,
            rests: self.presence || self.is_default(),
            keep: self.keep,
        }
    }

    /// Whether nothing was asked for.
    fn is_default(&self) -> bool {
        self.secs.is_none() && self.faults.is_none() && self.each.is_none()
    }

    /// The runs that are asked for.
    fn plans(&self) -> Result<Vec<Plan>, String> {
        if let Some(times) = self.each {
            let alone = |fault| Plan {
                times,
                ..self.plan(3_600, vec![fault])
            };
            let chosen = Fault::parse(self.faults.as_deref().unwrap_or("all"))?;
            return Ok(chosen.into_iter().map(alone).collect());
        }
        match (&self.faults, self.secs) {
            (Some(list), _) => Ok(vec![self.plan(60, Fault::parse(list)?)]),
            (None, Some(secs)) => Ok(vec![self.plan(secs, Fault::parse("keeping")?)]),
            (None, None) => Ok(vec![
                self.plan(80, Fault::parse("keeping")?),
                self.plan(40, Fault::parse("all")?),
            ]),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        FAULTS
            .iter()
            .for_each(|(_, name, _, what)| println!("{name}: {what}"));
        return ExitCode::SUCCESS;
    }
    if !options.words.is_empty()
        && !options
            .words
            .iter()
            .any(|word| "chaos".contains(word.as_str()))
    {
        return ExitCode::SUCCESS;
    }
    let plans = match options.plans() {
        Ok(plans) => plans,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    support::raise_nofile();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (mut is_kept, mut rows) = (true, Vec::new());
    for plan in &plans {
        let names: Vec<&str> = plan.faults.iter().map(|fault| fault.name()).collect();
        println!(
            "chaos: seed {}, {:?}, {}",
            plan.seed,
            plan.time,
            names.join(" ")
        );
        let outcome = runtime.block_on(run(plan));
        is_kept &= outcome.is_kept;
        rows.push(outcome.row);
    }
    if options.each.is_some() {
        println!("{}", report::table_of_each(&rows));
    }
    match is_kept {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
