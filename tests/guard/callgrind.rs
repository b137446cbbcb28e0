//! Runs this binary's work under callgrind and reads what was counted. Callgrind writes a dump whenever
//! [`crate::work::meter`] sets a mark, which it does before and after each piece of work: so every second dump is
//! what one piece took, and those between are what prepared it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::TempDir;

/// The function that is called as a mark, as a pattern for its name.
const MARK: &str = "*guard*meter*mark*";
/// How long the work of a group may take; about thirty times what it takes on an idle machine.
const LIMIT: Duration = Duration::from_secs(600);

/// What was counted of one piece of work.
pub(crate) struct Point {
    /// What was done.
    pub(crate) name: String,
    /// How many of what it is judged by were there.
    pub(crate) size: u64,
    /// How often it was done.
    pub(crate) operations: u64,
    /// Instructions of all of it.
    pub(crate) instructions: u64,
}

impl Point {
    /// Instructions of one operation.
    pub(crate) fn each(&self) -> f64 {
        self.instructions as f64 / self.operations as f64
    }
}

/// Does the work of a group, which may use that Redis, and counts.
pub(crate) fn count(group: &str, redis: &str) -> Vec<Point> {
    let dir = TempDir::new("guard");
    let out = dir.path().join("out");
    let said = std::fs::File::create(dir.path().join("said")).unwrap();
    let own = std::env::current_exe().unwrap();
    let child = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--dump-line=no"])
        .arg(format!("--log-file={}", dir.path().join("log").display()))
        .arg(format!("--dump-before={MARK}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .args(["--work", group])
        .env("REDIS_URL", redis)
        .stdout(said)
        .stdin(Stdio::null())
        .spawn();
    let mut child = child.expect("valgrind starts; is it installed?");
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if since.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{group}: {LIMIT:?} passed");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{group}: {status}");
    let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
    let points: Vec<Point> = said
        .lines()
        .enumerate()
        .map(|(nth, line)| point(line, dumped(dir.path(), 2 * (nth + 1))))
        .collect();
    assert!(!points.is_empty(), "{group} measured nothing");
    println!("counted {group} in {:.0?}", since.elapsed());
    points
}

/// What the work says of itself: its name, size, and operations.
fn point(line: &str, instructions: u64) -> Point {
    let [name, size, operations] = line.split('\t').collect::<Vec<_>>()[..] else {
        panic!("the work said {line:?}");
    };
    let point = Point {
        name: name.to_owned(),
        size: size.parse().unwrap(),
        operations: operations.parse().unwrap(),
        instructions,
    };
    assert!(point.each() >= 1.0, "{name}: nothing was counted");
    point
}

/// The sum of a dump.
fn dumped(dir: &Path, nth: usize) -> u64 {
    let path = dir.join(format!("out.{nth}"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("dump {nth}: {e}"));
    let trigger = text
        .lines()
        .find_map(|line| line.strip_prefix("desc: Trigger: --dump-before="));
    assert!(
        trigger.is_some_and(|name| name.ends_with("mark")),
        "dump {nth} is of {trigger:?}"
    );
    let sums = text.lines().filter_map(|line| {
        let sum = line.strip_prefix("totals: ")?;
        sum.trim().parse::<u64>().ok()
    });
    sums.sum()
}
