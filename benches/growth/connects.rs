//! Connects per second while many connections are held, from the TCP handshake to the answer to a join into
//! a room of ten.

use crate::support::load::Load;
use crate::support::report::thousands;
use crate::support::shape::Shape;
use crate::support::stack::Stack;
use crate::support::usage::Usage;
use crate::support::{Bench, Result};

/// Connections held before each measurement, and those that are measured.
const HELD: [usize; 4] = [0, 5_000, 10_000, 15_000];
const SLICE: usize = 1_000;

const MEMBERS: usize = 10;

pub(crate) fn bench(bench: &mut Bench<'_>) -> Result<()> {
    let brokers = bench.brokers("connects");
    if brokers.is_empty() {
        return Ok(());
    }
    bench.report.table(&[
        "connect and join",
        "connections held",
        "connects/s",
        "CPU, µs per connect: server / Redis",
        "core: servers / Redis / load / others",
    ]);
    let bare = bench.bare()?;
    measure(bench, "floor: a server that only answers", &bare)?;
    drop(bare);
    for broker in brokers {
        let stack = bench.stack(broker, 1)?;
        measure(bench, broker.name(), &stack)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench<'_>, title: &str, stack: &Stack) -> Result<()> {
    let wanted = bench.options.quickly(HELD[3] + SLICE, SLICE);
    let most = bench.connections(wanted, 1);
    let shape = Shape::rooms(most / MEMBERS, MEMBERS);
    let mut load = Load::new(&shape, stack)?;
    for held in HELD.into_iter().filter(|held| held + SLICE <= most) {
        connect(&mut load, held)?;
        let before = Usage::now(stack)?;
        connect(&mut load, held + SLICE)?;
        row(bench, title, held, stack, &before)?;
    }
    Ok(())
}

/// Until there are so many, all of them joined.
fn connect(load: &mut Load<'_>, number: usize) -> Result<()> {
    for connection in load.clients.len()..number {
        let address = load.address_of(connection);
        load.open_at(connection, address)?;
    }
    load.settle()
}

fn row(
    bench: &mut Bench<'_>,
    title: &str,
    held: usize,
    stack: &Stack,
    before: &Usage,
) -> Result<()> {
    let spent = Usage::now(stack)?.since(before);
    let each = |cpu: f64| cpu * 1e6 / SLICE as f64;
    let row = [
        title.to_owned(),
        thousands(held as f64),
        thousands(SLICE as f64 / spent.seconds),
        format!("{:.0} / {:.0}", each(spent.server), each(spent.redis)),
        bench.report.busy(&spent),
    ];
    bench.report.row(&row);
    Ok(())
}
