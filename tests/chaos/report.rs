//! The table of a run, and the files that a failing run leaves behind.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::{Fault, Side};
use super::history::{Event, What};
use super::verdict::{KINDS, Verdict};

/// A fault as it happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Struck {
    pub(crate) fault: Fault,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// The room that it was about, if about one.
    pub(crate) room: Option<u8>,
}

/// How long from a fault's end until each member had been given something: the longest, up to the end of
/// the run where one wasn't.
fn recovery(struck: &Struck, events: &[Event], members: usize) -> Duration {
    let mut served = HashSet::new();
    let start = events.partition_point(|event| event.at < struck.to);
    for event in &events[start..] {
        if matches!(event.what, What::Message(_)) {
            served.insert((event.client, event.room));
        }
        if served.len() == members {
            return event.at - struck.to;
        }
    }
    let end = events.last().map_or(struck.to, |event| event.at);
    end.saturating_sub(struck.to)
}

/// The table: what struck, and what came of it.
pub(crate) fn table(struck: &[Struck], events: &[Event], verdict: &Verdict) -> String {
    let members: HashSet<_> = events
        .iter()
        .map(|event| (event.client, event.room))
        .collect();
    let mut kinds: BTreeMap<Fault, (usize, Duration)> = BTreeMap::new();
    for act in struck {
        let (count, longest) = kinds.entry(act.fault).or_default();
        *count += 1;
        *longest = recovery(act, events, members.len()).max(*longest);
    }
    let mut out =
        String::from("| fault | times | all members served again after at most |\n|---|---|---|\n");
    for (fault, (count, longest)) in &kinds {
        let _ = writeln!(
            out,
            "| {} | {count} | {:.1} s |",
            fault.name(),
            longest.as_secs_f64()
        );
    }
    let longest = kinds
        .values()
        .map(|(_, longest)| *longest)
        .max()
        .unwrap_or_default();
    let _ = writeln!(
        out,
        "| all | {} | {:.1} s |",
        struck.len(),
        longest.as_secs_f64()
    );
    let _ = writeln!(out);
    let _ = writeln!(out, "| messages acked | {} |\n|---|---|", verdict.acked);
    let _ = writeln!(out, "| refused with `error` | {} |", verdict.refused);
    let _ = writeln!(out, "| deliveries checked | {} |", verdict.deliveries);
    for kind in KINDS {
        let name = format!("{kind:?}").to_lowercase();
        let _ = writeln!(out, "| {name} | {} |", verdict.count(kind));
    }
    let _ = writeln!(out, "| resets told | {} |", verdict.told);
    let _ = writeln!(
        out,
        "| gone with what was taken from Redis | {} |",
        verdict.gone
    );
    out
}

/// Keeps what is needed to look into a failing run; says where.
pub(crate) fn keep(
    seed: u64,
    findings: &[String],
    struck: &[Struck],
    events: &[Event],
    logs: &[(&str, String)],
) -> std::io::Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("chaos");
    let dir = folder.join(format!("seed-{seed}-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut faults = String::new();
    for act in struck {
        let side = match act.fault.side() {
            Side::Edge => "edge",
            Side::Store => "store",
        };
        let (from, to) = (act.from.as_secs_f64(), act.to.as_secs_f64());
        let _ = writeln!(
            faults,
            "{from:.3} {to:.3} {side} {} {:?}",
            act.fault.name(),
            act.room
        );
    }
    let history: String = events.iter().map(|event| format!("{event}\n")).collect();
    std::fs::write(dir.join("findings.txt"), findings.join("\n"))?;
    std::fs::write(dir.join("faults.txt"), faults)?;
    std::fs::write(dir.join("history.txt"), history)?;
    for (name, text) in logs {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(dir)
}
