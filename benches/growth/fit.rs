//! CPU = a · publishes + b · deliveries. Each line of the table is two runs that differ in the ratio of the
//! two alone: a narrow one, in rooms of one member, and a wide one. `b` depends on how many frames leave in
//! one write, and so does the floor; therefore it is taken as a multiple of the floor at as many
//! connections and frames a write, which both runs share:
//!
//! ```text
//!   CPU per publish, narrow = a + c · floor(narrow) · 1
//!   CPU per publish, wide   = a + c · floor(wide) · members        b = c · floor(wide)
//! ```
//!
//! How many frames a write has is what the clients' reads brought on average: no fewer.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::chat;
use crate::support::floor::{self, Order};
use crate::support::load::Load;
use crate::support::report::thousands;
use crate::support::shape::Shape;
use crate::support::stack::Broker;
use crate::support::{Bench, Result};

/// Connections of the wide runs, where a room doesn't have more by itself.
const WIDE: usize = 1_000;

/// Rooms of the narrow runs.
const NARROW: usize = 100;

/// Members of a room of the wide runs, and messages in flight over all rooms.
const MEMBERS: usize = 100;
const IN_FLIGHT: usize = 80;

/// Rooms that each holder of quiet rooms is in.
const QUIET_EACH: usize = 100;

/// The first of them; no speaking room has such a number.
const QUIET: usize = 1_000_000;

/// What a line of the table varies.
struct Line {
    part: &'static str,
    title: String,
    narrow: Shape,
    wide: Shape,
    /// Rooms that somebody is in and nobody says anything.
    quiet: usize,
}

/// One run, per publish.
#[derive(Clone, Copy)]
struct Point {
    /// Server CPU in microseconds.
    cost: f64,
    deliveries: f64,
    frames_per_read: f64,
    /// Microseconds per frame.
    floor: f64,
}

/// Measured floors by connections and frames a write: each is measured once.
type Floors = HashMap<(usize, usize), f64>;

pub(crate) fn bench(bench: &mut Bench<'_>) -> Result<()> {
    let lines = lines(
        bench.machine.most_connections(1).min(10_000),
        bench.options.quick,
    );
    let wanted = lines
        .iter()
        .any(|line| !bench.brokers(line.part).is_empty());
    if !wanted {
        return Ok(());
    }
    bench.report.table(&[
        "CPU = a · publishes + b · deliveries",
        "a, µs",
        "b, µs",
        "frames a read",
        "floor, µs",
        "b / floor",
        "publish to a further node, µs",
        "lost / doubled / disordered",
    ]);
    let mut floors = Floors::new();
    for broker in Broker::ALL {
        // the runs of the plain shape serve several lines
        let mut known = HashMap::new();
        for line in &lines {
            let possible = broker == Broker::Redis || line.wide.nodes == 1;
            if possible && bench.brokers(line.part).contains(&broker) {
                measure(bench, broker, line, &mut floors, &mut known)?;
            }
        }
    }
    Ok(())
}

/// All lines; rooms have so many members at most.
fn lines(most: usize, quick: bool) -> Vec<Line> {
    let narrow = Shape {
        in_flight: NARROW * Shape::rooms(NARROW, 1).window,
        ..Shape::rooms(NARROW, 1)
    };
    let wide = Shape {
        in_flight: IN_FLIGHT,
        ..Shape::rooms(WIDE / MEMBERS, MEMBERS)
    };
    let line = |part, title: String| Line {
        part,
        title,
        narrow: narrow.clone(),
        wide: wide.clone(),
        quiet: 0,
    };
    let large = |number: usize| !quick || number <= 1_000;
    let mut lines = Vec::new();
    for members in [10, 100, 1_000, most].into_iter().filter(|n| large(*n)) {
        let rooms = (WIDE / members).max(1);
        let title = format!("rooms of {}", thousands(members as f64));
        lines.push(Line {
            wide: Shape {
                in_flight: IN_FLIGHT,
                ..Shape::rooms(rooms, members)
            },
            ..line("members", title)
        });
    }
    for quiet in [0, 1_000, 10_000].into_iter().filter(|n| large(*n)) {
        let title = format!("{} quiet rooms beside", thousands(quiet as f64));
        lines.push(Line {
            quiet,
            ..line("rooms", title)
        });
    }
    for rooms_each in [1, 10, 100].into_iter().filter(|n| !quick || *n <= 10) {
        let mut line = line("each", format!("{rooms_each} rooms per connection"));
        for shape in [&mut line.narrow, &mut line.wide] {
            shape.rooms *= rooms_each;
            shape.rooms_each = rooms_each;
        }
        lines.push(line);
    }
    for nodes in [1, 2, 4] {
        let mut line = line("nodes", format!("{nodes} nodes"));
        line.narrow.nodes = nodes;
        line.wide.nodes = nodes;
        lines.push(line);
    }
    lines
}

fn measure(
    bench: &mut Bench<'_>,
    broker: Broker,
    line: &Line,
    floors: &mut Floors,
    known: &mut HashMap<String, Point>,
) -> Result<()> {
    let mut points = Vec::new();
    let further = (line.wide.nodes > 1).then(|| Shape {
        members: line.wide.nodes,
        ..line.narrow.clone()
    });
    let shapes = [&line.narrow, &line.wide].into_iter().chain(&further);
    let mut faults = Vec::new();
    for shape in shapes {
        let key = format!("{shape:?} {}", line.quiet);
        if !known.contains_key(&key) {
            let (point, verdict) = point(bench, broker, shape, line.quiet, floors)?;
            faults.push(bench.report.judged(verdict));
            known.insert(key.clone(), point);
        }
        points.extend(known.get(&key).copied());
    }
    let [narrow, wide, further @ ..] = &points[..] else {
        return Err("two points make a line".into());
    };
    let (n, w) = (
        narrow.deliveries * narrow.floor,
        wide.deliveries * wide.floor,
    );
    let c = (wide.cost - narrow.cost) / (w - n);
    let a = narrow.cost - c * n;
    let further = further.first().map_or("–".to_owned(), |both| {
        let rest = both.cost - a - c * both.floor * both.deliveries;
        format!("{:.2}", rest / (both.deliveries - 1.0))
    });
    let row = [
        format!("{}, {}", broker.name(), line.title),
        format!("{a:.2}"),
        format!("{:.3}", c * wide.floor),
        format!("{:.1}", wide.frames_per_read),
        format!("{:.3}", wide.floor),
        format!("{c:.2}"),
        further,
        faults.last().map_or("as above".to_owned(), String::clone),
    ];
    bench.report.row(&row);
    Ok(())
}

fn point(
    bench: &Bench<'_>,
    broker: Broker,
    shape: &Shape,
    quiet: usize,
    floors: &mut Floors,
) -> Result<(Point, crate::support::ledger::Faults)> {
    let stack = bench.stack(broker, shape.nodes)?;
    let mut load = Load::join(shape, &stack)?;
    for first in (QUIET..QUIET + quiet).step_by(QUIET_EACH) {
        let joins: Vec<String> = (first..first + QUIET_EACH)
            .map(|room| chat::join(room, None))
            .collect();
        load.open_other(stack.nodes[0].address, &joins)?;
    }
    load.settle()?;
    let time = bench.options.time().min(Duration::from_millis(1_500));
    load.run(Duration::from_millis(500))?;
    let measured = load.measure_with(time, &stack, &mut |load, time| load.run(time))?;
    let faults = load.close()?;
    drop(stack);
    let like = Order::like(shape, &measured, bench.options);
    let order = Order {
        in_flight: (2 * like.batch).max(32),
        time: Duration::from_millis(500),
        ..like
    };
    let floor = match floors.get(&(order.connections, order.batch)) {
        Some(floor) => *floor,
        None => floor::measure(&order, &bench.machine)?,
    };
    floors.insert((order.connections, order.batch), floor);
    let point = Point {
        cost: measured.spent.server * 1e6 / measured.messages,
        deliveries: measured.deliveries / measured.messages,
        frames_per_read: measured.frames_per_read,
        floor,
    };
    Ok((point, faults))
}
