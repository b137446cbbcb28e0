//! How much more an operation may cost with more of something held: nothing, within a margin. No compiler changes that.

use std::collections::BTreeMap;

use crate::callgrind::Point;

/// So many times as much as the cheapest smaller size: hash tables that grow, and what differs by chance.
const MARGIN: f64 = 1.25;
/// Rooms share 63 bits, so a connection in 100 rooms looks at two of them for one that has something, and finds
/// nothing in the other. That is a fifth more now, and more of whatever the rest will be cut down to.
const SHARED_BITS: f64 = 1.6;

/// What must not grow.
#[derive(Clone, Copy)]
enum Rule {
    /// The cost of one operation.
    Each,
    /// The cost of each further one of what the size counts: the operation is about all of them.
    Further,
}

/// One series: its group, its name, its sizes, and what must not grow in it.
struct Series {
    group: &'static str,
    name: &'static str,
    sizes: &'static [u64],
    rule: Rule,
    margin: f64,
}

const fn series(
    group: &'static str,
    name: &'static str,
    sizes: &'static [u64],
    rule: Rule,
) -> Series {
    Series {
        group,
        name,
        sizes,
        rule,
        margin: MARGIN,
    }
}

const DECADES: &[u64] = &[10, 100, 1_000, 10_000];

const TOLD: &[u64] = &[10, 100, 1_000];

const SERIES: [Series; 12] = [
    series("members", "message to a room of", DECADES, Rule::Further),
    series("presence", "join, told, a room of", TOLD, Rule::Each),
    series("presence", "leave, told, a room of", TOLD, Rule::Each),
    series("presence", "join, quiet, a room of", DECADES, Rule::Each),
    series("presence", "leave, quiet, a room of", DECADES, Rule::Each),
    Series {
        margin: SHARED_BITS,
        ..series(
            "rooms",
            "delivery to one of rooms",
            &[1, 10, 100],
            Rule::Each,
        )
    },
    series("rooms", "room opened beside", DECADES, Rule::Each),
    series(
        "connections",
        "connection beside",
        &[1, 100, 10_000],
        Rule::Each,
    ),
    series("resumes", "resume from the tail", &[1, 1_000], Rule::Each),
    series(
        "resumes",
        "resume from the history",
        &[1, 1_000],
        Rule::Each,
    ),
    series(
        "appends",
        "messages at once into one room",
        &[1, 8, 64],
        Rule::Further,
    ),
    series(
        "appends",
        "messages at once into rooms",
        &[1, 8, 64],
        Rule::Further,
    ),
];

/// Prints every series of these groups, and gives what is wrong.
pub(crate) fn judge(points: &[Point], groups: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for series in SERIES
        .iter()
        .filter(|series| groups.contains(&series.group))
    {
        let costs: BTreeMap<u64, f64> = points
            .iter()
            .filter(|point| point.name == series.name)
            .map(|point| (point.size, point.each()))
            .collect();
        let sizes: Vec<u64> = costs.keys().copied().collect();
        if sizes != series.sizes {
            wrong.push(format!("{}: counted at {sizes:?}", series.name));
            continue;
        }
        wrong.extend(series.judge(&costs));
    }
    wrong
}

impl Series {
    fn judge(&self, costs: &BTreeMap<u64, f64>) -> Option<String> {
        let judged: Vec<(u64, f64)> = match self.rule {
            Rule::Each => costs.iter().map(|(size, cost)| (*size, *cost)).collect(),
            Rule::Further => {
                let further = costs.iter().zip(costs.iter().skip(1));
                further
                    .map(|((less, before), (size, cost))| {
                        (*size, (cost - before) / (size - less) as f64)
                    })
                    .collect()
            }
        };
        let what = match self.rule {
            Rule::Each => "an operation",
            Rule::Further => "each further one",
        };
        let shown: Vec<String> = judged
            .iter()
            .map(|(size, cost)| format!("{size}: {cost:.0}"))
            .collect();
        println!("growth  {:34} {what:17} {}", self.name, shown.join("   "));
        let margin = self.margin;
        grows(&judged, margin).map(|(size, times)| {
            format!(
                "`{}` grows: {what} costs {times:.2} times as many instructions at {size} as at the cheapest \
                 smaller size, and {margin} times are allowed ({})",
                self.name,
                shown.join(", ")
            )
        })
    }
}

/// The first size that costs more than any smaller one allows, and how many times as much as that.
fn grows(judged: &[(u64, f64)], margin: f64) -> Option<(u64, f64)> {
    let mut least = f64::INFINITY;
    for (size, cost) in judged {
        if *cost > least * margin {
            return Some((*size, cost / least));
        }
        least = least.min(*cost);
    }
    None
}
