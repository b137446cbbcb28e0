//! The promises of a room, model-checked: the real room, gate, tail, cursors and page decisions run
//! through random interleavings of everything that can happen to them, and each client's bytes are held
//! against what the broker ever stored (`client`). `world` chooses the steps, `node` and `link` carry
//! them out, `broker` is the broker at its worst.
//!
//! `MODEL_CASES` sets how many cases run, `MODEL_SEED` with which seed they begin. A failing case is
//! shortened and printed.

mod broker;
mod client;
mod link;
mod node;
pub(super) mod random;
mod regressions;
mod roster;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::random::Random;
use self::world::{Met, Plan, World};

const CASES: u64 = 100_000;
const THREADS: u64 = 2;

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

fn run(plan: &Plan) -> Result<Met, String> {
    catch_unwind(AssertUnwindSafe(|| World::run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("?")))
    })
}

/// What was wrong, without where.
fn kind(why: &str) -> &str {
    let said = why.split_once(": ").map_or(why, |(_, said)| said);
    said.get(..14).unwrap_or(said)
}

/// Takes steps out as long as the case fails in the same way without them.
fn shortened(plan: &Plan, why: &str) -> Plan {
    let mut least = plan.clone();
    let mut size = least.steps.len().next_power_of_two();
    while size > 0 {
        let mut at = 0;
        while at < least.steps.len() {
            let mut shorter = least.clone();
            shorter.steps.drain(at..(at + size).min(least.steps.len()));
            if run(&shorter).is_err_and(|other| kind(&other) == kind(why)) {
                least = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    least
}

fn run_seeds(seeds: impl Iterator<Item = u64>) -> Met {
    let mut met = Met::default();
    for seed in seeds {
        let plan = Plan::random(&mut Random(seed));
        match run(&plan) {
            Ok(one) => met.add(one),
            Err(why) => {
                let least = shortened(&plan, &why);
                let short = run(&least).expect_err("it fails when shortened");
                panic!("MODEL_SEED={seed}: {why}\nshortened: {short}\n{least:?}");
            }
        }
    }
    met
}

#[test]
fn what_clients_are_given_is_right_whatever_happens() {
    let (first, cases) = (variable("MODEL_SEED", 1), variable("MODEL_CASES", CASES));
    let met = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                let seeds = (first + n..first + cases).step_by(THREADS as usize);
                scope.spawn(move || run_seeds(seeds))
            })
            .collect();
        let mut met = Met::default();
        for thread in threads {
            match thread.join() {
                Ok(one) => met.add(one),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        met
    });
    eprintln!("{met:?}");
    if cases >= CASES {
        let all = [
            met.messages,
            met.recovered,
            met.resets_by_trimming,
            met.unavailable,
        ];
        assert!(all.iter().all(|count| *count > 1_000), "{met:?}");
        assert!(met.resets > met.resets_by_trimming + 1_000, "{met:?}");
    }
}
