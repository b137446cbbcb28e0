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

/// How long from a fault's end until each member had been given something, if each has.
pub(crate) fn recovery(struck: &Struck, events: &[Event], members: usize) -> Option<Duration> {
    let mut served = HashSet::new();
    let start = events.partition_point(|event| event.at < struck.to);
    for event in &events[start..] {
        if matches!(event.what, What::Message(_)) {
            served.insert((event.client, event.room));
        }
        if served.len() == members {
            return Some(event.at - struck.to);
        }
    }
    None
}

/// The recovery times of one kind of fault.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    /// Median and longest.
    fn row(&mut self) -> String {
        self.0.sort();
        let seconds = |at: usize| self.0.get(at).map_or(0.0, Duration::as_secs_f64);
        let count = self.0.len();
        let (median, longest) = (seconds(count / 2), seconds(count.saturating_sub(1)));
        format!("{count} | {median:.1} s | {longest:.1} s")
    }
}

/// How long each kind of fault was felt, and all together. A fault after which a member was given
/// nothing more counts up to the end of the run.
fn times(struck: &[Struck], events: &[Event], members: usize) -> (BTreeMap<Fault, Times>, Times) {
    let end = events.last().map_or(Duration::ZERO, |event| event.at);
    let mut kinds: BTreeMap<Fault, Times> = BTreeMap::new();
    let mut all = Times::default();
    for act in struck {
        let never = end.saturating_sub(act.to);
        let time = recovery(act, events, members).unwrap_or(never);
        kinds.entry(act.fault).or_default().0.push(time);
        all.0.push(time);
    }
    (kinds, all)
}

/// The table of faults that struck alone: a row per fault.
pub(crate) fn table_of_each(rows: &[String]) -> String {
    let kinds = KINDS.map(|kind| format!(" {} |", format!("{kind:?}").to_lowercase()));
    let columns = 6 + kinds.len();
    format!(
        "| fault | times | all served again after (median) | at most | acked | deliveries |{} told | gone |\n|---|{}\n{}",
        kinds.concat(),
        "--:|".repeat(columns + 1),
        rows.concat(),
    )
}

/// The row of a fault that struck alone.
pub(crate) fn row(
    struck: &[Struck],
    events: &[Event],
    members: usize,
    verdict: &Verdict,
) -> String {
    let (mut kinds, _) = times(struck, events, members);
    let mut row = String::new();
    for (fault, times) in &mut kinds {
        let (acked, deliveries) = (verdict.acked, verdict.deliveries);
        let _ = write!(
            row,
            "| {} | {} | {acked} | {deliveries} |",
            fault.name(),
            times.row()
        );
        for kind in KINDS {
            let _ = write!(row, " {} |", verdict.count(kind));
        }
        let _ = writeln!(row, " {} | {} |", verdict.told, verdict.gone);
    }
    row
}

/// The table: what struck, and what came of it.
pub(crate) fn table(
    struck: &[Struck],
    events: &[Event],
    members: usize,
    verdict: &Verdict,
) -> String {
    let (mut kinds, mut all) = times(struck, events, members);
    let mut out = String::from(
        "| fault | times | all members served again after (median) | at most |\n|---|---|---|---|\n",
    );
    for (fault, times) in &mut kinds {
        let _ = writeln!(out, "| {} | {} |", fault.name(), times.row());
    }
    let _ = writeln!(out, "| all | {} |", all.row());
    let _ = writeln!(out);
    let _ = writeln!(out, "| messages acked | {} |\n|---|---|", verdict.acked);
    let _ = writeln!(out, "| refused with `error` | {} |", verdict.refused);
    let _ = writeln!(out, "| deliveries checked | {} |", verdict.deliveries);
    for kind in KINDS {
        let name = format!("{kind:?}").to_lowercase();
        let _ = writeln!(out, "| {name} | {} |", verdict.count(kind));
    }
    let _ = writeln!(out, "| resets told | {} |", verdict.told);
    let _ = writeln!(out, "| joins and leaves checked | {} |", verdict.turns);
    let _ = writeln!(
        out,
        "| lists of users checked at rest | {} |",
        verdict.sights
    );
    let _ = writeln!(
        out,
        "| gone with what was taken from Redis | {} |",
        verdict.gone
    );
    out
}

/// Keeps what is needed to look into a failing run of that name; says where.
pub(crate) fn keep(
    name: &str,
    findings: &[String],
    struck: &[Struck],
    events: &[Event],
    logs: &[(&str, String)],
) -> std::io::Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("chaos");
    let dir = folder.join(format!("{name}-{}", std::process::id()));
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
