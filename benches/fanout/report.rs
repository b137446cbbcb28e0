//! The tables, as Markdown for the README; and a line beside them as soon as a figure is there.

use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

use crate::fanout::Measured;
use crate::floor::Floor;
use crate::idle::Idle;
use crate::machine::Machine;
use crate::options::Options;
use crate::scenario::{Broker, Scenario};

/// Collects the lines of both tables.
pub(crate) struct Report {
    head: String,
    fanout: String,
    idle: String,
    notes: Vec<String>,
    clean: bool,
}

impl Report {
    pub(crate) fn new(options: &Options, machine: &Machine) -> Self {
        let arguments: Vec<String> = std::env::args()
            .skip(1)
            .filter(|argument| argument != "--bench")
            .collect();
        let separator = if arguments.is_empty() { "" } else { " -- " };
        let head = format!(
            "`cargo bench --bench fanout{separator}{}`, {} cores: {}. Closed loop, {} s each.\n",
            arguments.join(" "),
            machine.cores,
            machine.placement(),
            options.secs.as_secs_f64(),
        );
        eprint!("{head}");
        Self {
            head,
            fanout: String::new(),
            idle: String::new(),
            notes: Vec::new(),
            clean: true,
        }
    }

    /// False once anything was lost, doubled or out of order.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }

    /// Something that was not measured, and why.
    pub(crate) fn skip(&mut self, why: &str) {
        eprintln!("{why}");
        self.notes.push(why.to_owned());
    }

    pub(crate) fn fanout(
        &mut self,
        broker: Broker,
        scenario: &Scenario,
        measured: &Measured,
        floor: &Floor,
    ) {
        let Measured {
            cost,
            frame_bytes,
            faults,
            busy,
            ..
        } = measured;
        let [one, many] = floor.cost;
        let [server, redis, load, others] =
            [busy.server, busy.redis, busy.load, busy.others].map(|cpus| (cpus * 100.0).round());
        let row = format!(
            "| {}, {} | {} | {cost:.3} | {one:.3} / {many:.3} | {:.2} / {:.2} | {} / {} \
             | {server} / {redis} / {load} / {others} % | {frame_bytes} | {} / {} / {} |",
            broker.name(),
            scenario.title,
            thousands(measured.deliveries_per_second),
            cost / one,
            cost / many,
            milliseconds(measured.p50),
            milliseconds(measured.p99),
            faults.lost,
            faults.duplicated,
            faults.disordered,
        );
        eprintln!("{row}");
        self.fanout += &row;
        self.fanout.push('\n');
        self.clean &= faults.none();
    }

    pub(crate) fn idle(&mut self, broker: Broker, wanted: usize, idle: &Idle) {
        if idle.connections < wanted {
            self.skip(&format!(
                "{wanted} idle connections were asked for; the hard limit of open files allows {}",
                idle.connections
            ));
        }
        let row = format!(
            "| {} | {} | {:.2} |",
            broker.name(),
            thousands(idle.connections as f64),
            idle.kib
        );
        eprintln!("{row}");
        self.idle += &row;
        self.idle.push('\n');
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        if !self.fanout.is_empty() {
            f.write_str(
                "\n| broker, rooms | deliveries/s | server CPU µs per delivery | floor: 1 / 16 frames a write, µs per frame \
                 | server / floor | p50 / p99 ms | core: server / Redis / load / others | bytes of a frame | lost / doubled / disordered |\n\
                 |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            )?;
            f.write_str(&self.fanout)?;
        }
        if !self.idle.is_empty() {
            f.write_str("\n| broker | idle connections, rooms of 10 | server memory, KiB per connection |\n|---|--:|--:|\n")?;
            f.write_str(&self.idle)?;
        }
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    format!("{milliseconds:.*}", if milliseconds < 10.0 { 2 } else { 1 })
}

/// Whole, with a comma before each group of three digits.
fn thousands(number: f64) -> String {
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
