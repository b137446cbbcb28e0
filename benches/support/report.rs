//! The tables, as Markdown for the README; and a line beside them as soon as a figure is there.

use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

use super::ledger::Faults;
use super::machine::Machine;
use super::usage::Spent;

/// Others' share of a core above which a line says so: times, latencies above all, are theirs then.
const DISTURBED: f64 = 0.1;

/// Collects the tables of a bench.
pub(crate) struct Report {
    text: String,
    /// Lines of the present table during which others took much, and how much of a core.
    disturbed: Vec<String>,
    /// Others' share of the line that comes next.
    others: f64,
    notes: Vec<String>,
    clean: bool,
}

impl Report {
    pub(crate) fn new(name: &str, machine: &Machine) -> Self {
        let arguments: Vec<String> = std::env::args()
            .skip(1)
            .filter(|argument| argument != "--bench")
            .collect();
        let separator = if arguments.is_empty() { "" } else { " -- " };
        let text = format!(
            "`cargo bench --bench {name}{separator}{}`, {}, {} cores: {}.\n",
            arguments.join(" "),
            machine.kind(),
            machine.cores,
            machine.placement(),
        );
        eprint!("{text}");
        Self {
            text,
            disturbed: Vec::new(),
            others: 0.0,
            notes: Vec::new(),
            clean: true,
        }
    }

    /// Begins the table that the next rows belong to.
    pub(crate) fn table(&mut self, columns: &[&str]) {
        self.text += &self.disturbance();
        self.disturbed.clear();
        self.text.push('\n');
        self.line(columns);
        self.text += "|---";
        self.text += &"|--:".repeat(columns.len().saturating_sub(1));
        self.text += "|\n";
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        let others = std::mem::take(&mut self.others);
        if others > DISTURBED {
            self.disturbed
                .push(format!("{} ({:.0} %)", cells[0], others * 100.0));
        }
        self.line(cells);
    }

    /// How busy all were during the line that comes next; as a cell of a table.
    pub(crate) fn busy(&mut self, spent: &Spent) -> String {
        self.others = spent.others / spent.seconds;
        spent.busy()
    }

    /// What stands below a table whose lines were disturbed.
    fn disturbance(&self) -> String {
        if self.disturbed.is_empty() {
            return String::new();
        }
        let lines = self.disturbed.join("; ");
        format!("\nOthers took more than 10 % of a core during: {lines}.\n")
    }

    fn line(&mut self, cells: &[impl AsRef<str>]) {
        let mut line = String::from("|");
        for cell in cells {
            let _ = write!(line, " {} |", cell.as_ref());
        }
        eprintln!("{line}");
        self.text += &line;
        self.text.push('\n');
    }

    /// What a reader of the tables has to know beside them, such as what was left out and why.
    pub(crate) fn note(&mut self, text: &str) {
        eprintln!("{text}");
        self.notes.push(text.to_owned());
    }

    /// Counts into the status of the run; as a cell of a table.
    pub(crate) fn judged(&mut self, faults: Faults) -> String {
        self.clean &= faults.none();
        faults.to_string()
    }

    /// False once anything was lost, doubled or out of order.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(&self.disturbance())?;
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

/// The median of ratios, and the least and the most.
pub(crate) fn median_and_range(ratios: impl Iterator<Item = f64>) -> String {
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    match ratios[..] {
        [] => "–".to_owned(),
        [least, .., most] => {
            let median = ratios[ratios.len() / 2];
            format!("{median:.2} ({least:.2} to {most:.2})")
        }
        [only] => format!("{only:.2}"),
    }
}

/// In milliseconds, with two decimals where that says something.
pub(crate) fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    format!("{milliseconds:.*}", if milliseconds < 10.0 { 2 } else { 1 })
}

/// Whole, with a comma before each group of three digits.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        let _ = grouped.write_char(digit);
    }
    grouped
}
