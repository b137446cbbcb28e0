//! A guard that counts instructions, not seconds: what the server does for a request, a message, a delivery,
//! a join. A count is the same on a busy machine and on an idle one, so it may decide a test.
//!
//! ```text
//!   judge (this process)                       valgrind --tool=callgrind
//!     for each group  ───────────────────────►   this binary with --work GROUP
//!     names, sizes, operations  ◄── stdout ───     counts between the marks of `work::meter`,
//!     counts  ◄──────────── one dump each ────     and nothing of what prepares it
//! ```
//!
//! - **Growth** ([`growth`]) is judged always, as no compiler makes a loop over all members out of one that
//!   isn't: what an operation costs with 10 and with 10,000 of something held.
//! - **Budgets** ([`budget`]) are numbers in `budgets.txt`, with the compiler that they were taken with.
//!
//! `cargo test --test guard` judges; with `-- --renew`, after a change that is meant to cost what it costs, it
//! writes `budgets.txt` anew. Work that needs a Redis gets a real one. What the kernel does isn't counted:
//! system calls are the benchmarks' to show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod budget;
mod callgrind;
mod growth;
mod work;

use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;

use callgrind::Point;
use support::Redis;

/// Instructions that may be spent.
#[derive(Parser)]
struct Options {
    /// Does the work of that group, for callgrind to count.
    #[arg(long, hide = true)]
    work: Option<String>,
    /// Writes the budgets anew, as they are now.
    #[arg(long)]
    renew: bool,
    /// As for other test targets: where words are given, groups whose names have none of them aren't judged.
    words: Vec<String>,
    /// Taken for the sake of `cargo test -- --nocapture`.
    #[arg(long, hide = true)]
    nocapture: bool,
    /// The groups.
    #[arg(long)]
    list: bool,
}

impl Options {
    fn wants(&self, group: &str) -> bool {
        let name = format!("guard::{group}");
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(group) = &options.work {
        work::run(group);
        return ExitCode::SUCCESS;
    }
    let groups = work::GROUPS.iter().map(|(name, _)| *name);
    let groups: Vec<&str> = groups.filter(|group| options.wants(group)).collect();
    if options.list {
        groups.iter().for_each(|group| println!("{group}: test"));
        return ExitCode::SUCCESS;
    }
    let points = count(&groups);
    let mut wrong = growth::judge(&points, &groups);
    if options.renew {
        budget::renew(&points);
    } else {
        wrong.extend(budget::judge(&points, &groups));
    }
    for one in &wrong {
        println!("\nWRONG: {one}");
    }
    if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Does the work of all groups, two at a time, and gives what was counted, in the groups' order.
fn count(groups: &[&str]) -> Vec<Point> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    // Here, as callgrind doesn't get over the start of a process.
    let redis = runtime.block_on(Redis::start());
    let left = Mutex::new(groups.iter().enumerate().rev().collect::<Vec<_>>());
    let counted: Mutex<Vec<(usize, Vec<Point>)>> = Mutex::default();
    let next = || left.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((nth, group)) = next() {
                    let points = callgrind::count(group, &redis.url());
                    counted.lock().unwrap().push((nth, points));
                }
            });
        }
    });
    let mut counted = counted.into_inner().unwrap();
    counted.sort_by_key(|(nth, _)| *nth);
    counted.into_iter().flat_map(|(_, points)| points).collect()
}
