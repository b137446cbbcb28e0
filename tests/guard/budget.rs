//! What one operation may cost. The numbers are in `budgets.txt`, with the compiler that they were taken with.
//!
//! With that compiler, a number may be exceeded by [`MARGIN`]. Another compiler, or another kind of machine, makes other
//! instructions of the same text: then it may be [`FOREIGN`], which still finds what is done twice. A number
//! that fell far is no failure; it is said, so that somebody renews it and the next growth shows.

use std::fmt::Write as _;
use std::process::Command;

use crate::callgrind::Point;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guard/budgets.txt");
/// With the recorded compiler.
const MARGIN: f64 = 1.20;
/// With another one.
const FOREIGN: f64 = 1.60;
/// Below that it is time to renew.
const FALLEN: f64 = 0.80;

/// A budget: its group, its name, and the size at which it is taken.
const BUDGETS: [(&str, &str, u64); 14] = [
    ("parts", "request, message", 1),
    ("parts", "request, join", 1),
    ("parts", "message put together and published", 1),
    ("parts", "frame", 1),
    ("parts", "message through the gate", 1),
    ("parts", "delivery drained", 1),
    ("parts", "token verified", 1),
    ("members", "message to a room of", 1_000),
    ("presence", "join, quiet, a room of", 1_000),
    ("presence", "leave, quiet, a room of", 1_000),
    ("connections", "connection beside", 10_000),
    ("rooms", "room opened beside", 1_000),
    ("appends", "messages at once into one room", 1),
    ("appends", "messages at once into one room", 64),
];

/// What numbers depend on beside the text: compiler and machine.
fn compiler() -> String {
    let about = Command::new("rustc").arg("-vV").output().expect("rustc");
    let about = String::from_utf8(about.stdout).expect("UTF-8");
    let line = |name: &str| {
        let found = about.lines().find_map(|line| line.strip_prefix(name));
        found.expect("rustc says it").to_owned()
    };
    format!("{} {}", line("release: "), line("host: "))
}

fn find<'a>(points: &'a [Point], name: &str, size: u64) -> Option<&'a Point> {
    points
        .iter()
        .find(|point| point.name == name && point.size == size)
}

/// Compares what was counted with what is recorded, and gives what is wrong.
pub(crate) fn judge(points: &[Point], groups: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(FILE).expect("budgets.txt");
    let (own, mut wrong) = (compiler(), Vec::new());
    let recorded_with = text
        .lines()
        .find_map(|line| line.strip_prefix("compiler\t"));
    let same = recorded_with == Some(&own);
    let margin = if same { MARGIN } else { FOREIGN };
    for (group, name, size) in BUDGETS {
        if !groups.contains(&group) {
            continue;
        }
        let key = format!("{name}\t{size}\t");
        let recorded = text.lines().find_map(|line| line.strip_prefix(&key));
        let recorded: Option<f64> = recorded.and_then(|number| number.parse().ok());
        let counted = find(points, name, size).map(Point::each);
        let (Some(recorded), Some(counted)) = (recorded, counted) else {
            wrong.push(format!(
                "`{name}` at {size}: recorded {recorded:?}, counted {counted:?}; if a budget was added or \
                 renamed: cargo test --test guard -- --renew"
            ));
            continue;
        };
        let times = counted / recorded;
        let note = if times < FALLEN {
            "   fallen: renew it"
        } else {
            ""
        };
        println!("budget  {name:34} {size:6}   {counted:9.0} of {recorded:9.0}   {times:.2}{note}");
        if times > margin {
            wrong.push(format!(
                "`{name}` at {size} costs {counted:.0} instructions; {recorded:.0} are recorded ({}), and \
                 {margin:.2} times as many are allowed with {own}. What was changed costs that much more in this \
                 place: `valgrind --tool=callgrind` on the guard's own binary with `--work {group}` shows where. \
                 If it is meant to{}: cargo test --test guard -- --renew, and commit budgets.txt with the reason",
                recorded_with.unwrap_or("no compiler"),
                if same {
                    ""
                } else {
                    ", or if the same text without the change fails here too (then the compiler makes the difference)"
                },
            ));
        }
    }
    wrong
}

/// Writes the numbers as they are now.
pub(crate) fn renew(points: &[Point]) {
    let mut text = String::from(
        "# Instructions per operation, as callgrind counts them in the dev profile; what each is: tests/guard/work.\n\
         # Written by `cargo test --test guard -- --renew`: a change of a number is a decision, and says why.\n",
    );
    writeln!(text, "compiler\t{}", compiler()).expect("a string takes everything");
    for (_, name, size) in BUDGETS {
        let point = find(points, name, size);
        let point = point.unwrap_or_else(|| {
            panic!("`{name}` at {size} wasn't counted: renew all groups at once")
        });
        writeln!(text, "{name}\t{size}\t{:.0}", point.each()).expect("a string takes everything");
    }
    std::fs::write(FILE, text).expect("budgets.txt is written");
    println!("{FILE} is written");
}
