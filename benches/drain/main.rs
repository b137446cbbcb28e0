//! What it costs the others when one node of three is drained: how long it takes, whether anybody is
//! refused or misses a message, and how long a message between the two other nodes takes before and
//! during it. Members are those of `tests/drain`, so a hole, a double or a refusal ends the run.
//!
//! ```text
//!   members ──► node-a (drained) ─► node-b, node-c ◄── probes: says on one, hears on the other
//! ```
//!
//! `cargo bench --bench drain -- --help` lists the options. Everything shares the machine's cores: the
//! members' own work is in the figures.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "the figures are the output, and whatever fails ends the run; the parts are the tests'"
)]

#[path = "../../tests/drain/company.rs"]
mod company;
#[path = "../../tests/drain/member.rs"]
mod member;
mod probe;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use clap::Parser;
use company::{Cluster, Plan};
use probe::Probes;

/// One node of three is drained under its clients.
#[derive(Parser)]
#[command(name = "drain")]
struct Options {
    /// Clients of the node that is drained, up to the limit of open files
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// Through nginx with deploy/nginx.conf and TLS, instead of straight to the nodes
    #[arg(long)]
    through_nginx: bool,
    /// Seconds of measuring before the drain
    #[arg(long, default_value_t = 10)]
    secs: u64,
    /// Given by `cargo bench`, and of no meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    support::raise_nofile();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure(&options));
}

async fn measure(options: &Options) {
    let plan = Plan {
        clients: options.clients,
        through_nginx: options.through_nginx,
        pace: (Duration::from_secs(40), Duration::from_secs(4)),
    };
    let mut cluster = Cluster::start(plan.through_nginx).await;
    let probes = Probes::start([cluster.nodes[1].addr, cluster.nodes[2].addr]);
    let outcome = cluster
        .drain(&plan, tokio::time::sleep(Duration::from_secs(options.secs)))
        .await;
    let latencies = probes.end();
    let begin = outcome.begin;
    let before = begin - Duration::from_secs(options.secs);
    let back = outcome.moved.iter().flat_map(|story| &story.moves);
    let back = back.map(|there| there.back).max().expect("somebody moved");
    let moved = outcome.moved.len();
    let acked = |stories: &[member::Story]| stories.iter().map(|s| s.acked).sum::<usize>();

    println!("clients of the drained node         {moved}");
    println!("exit status                         {:?}", outcome.status);
    println!(
        "SIGTERM to the process's end        {:.2?}",
        outcome.duration
    );
    println!("SIGTERM to the last one's rejoin    {:.2?}", back - begin);
    println!(
        "away (reconnect to rejoin)          {}",
        spread(&outcome.away)
    );
    println!(
        "messages acked                      {}",
        acked(&outcome.moved) + acked(&outcome.stayed)
    );
    println!("refused, lost, doubled              none: one would have ended the run");
    println!(
        "others' message over nodes, before  {}",
        spread(&probe::between(&latencies, before, begin))
    );
    println!(
        "others' message over nodes, during  {}",
        spread(&probe::between(&latencies, begin, back))
    );
    assert_eq!(outcome.status, Some(0));
}

/// p50, p99 and the longest, of sorted times.
fn spread(times: &[Duration]) -> String {
    let at = |share: f64| {
        let at = (times.len() as f64 * share) as usize;
        times.get(at.min(times.len().saturating_sub(1))).copied()
    };
    let (half, most, all) = (at(0.5), at(0.99), at(1.0));
    let shown =
        |time: Option<Duration>| time.map_or("–".to_owned(), |time| format!("{time:.2?}"));
    format!(
        "p50 {}, p99 {}, longest {} ({} of them)",
        shown(half),
        shown(most),
        shown(all),
        times.len()
    )
}
