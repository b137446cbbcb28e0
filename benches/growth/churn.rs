//! Joins and leaves in one room, by a few clients who do nothing else, while many are in it. Each join goes
//! with its leave, and most such pairs are over before presence has told Redis of them: what is
//! measured is the room's own bookkeeping.

use std::time::{Duration, Instant};

use crate::support::chat::{self, Event};
use crate::support::clients::TURN;
use crate::support::load::Load;
use crate::support::report::thousands;
use crate::support::shape::Shape;
use crate::support::stack::Broker;
use crate::support::usage::Usage;
use crate::support::websocket;
use crate::support::{Bench, Result};

/// Members of the room meanwhile.
const MEMBERS: [usize; 3] = [10, 1_000, 10_000];

/// Clients that join and leave, each with one pair of requests on its way.
const CHURNERS: usize = 10;

/// The room.
const ROOM: usize = 0;

pub(crate) fn bench(bench: &mut Bench<'_>) -> Result<()> {
    let brokers = bench.brokers("churn");
    if brokers.is_empty() {
        return Ok(());
    }
    bench.report.table(&[
        "join and leave one room",
        "members of the room",
        "joins and leaves/s",
        "CPU, µs per join and leave: server / Redis",
        "core: servers / Redis / load / others",
    ]);
    for broker in brokers {
        for members in MEMBERS {
            if members <= bench.options.quickly(members, 1_000) {
                let members = bench.connections(members, 1);
                measure(bench, broker, members)?;
            }
        }
    }
    Ok(())
}

fn measure(bench: &mut Bench<'_>, broker: Broker, members: usize) -> Result<()> {
    let shape = Shape::rooms(1, members);
    let stack = bench.stack(broker, 1)?;
    let mut load = Load::join(&shape, &stack)?;
    for _ in 0..CHURNERS {
        load.open_other(stack.nodes[0].address, &[])?;
    }
    load.settle()?;
    let mut pair = Vec::new();
    websocket::push_text(&mut pair, &chat::join(ROOM, None));
    websocket::push_text(&mut pair, &chat::leave(ROOM));
    for churner in members..members + CHURNERS {
        load.clients.send(churner, &pair)?;
    }
    let time = bench.options.time().min(Duration::from_secs(2));
    churn(&mut load, &pair, bench.options.warm_up())?;
    let before = Usage::now(&stack)?;
    let pairs = churn(&mut load, &pair, time)? as f64;
    let spent = Usage::now(&stack)?.since(&before);
    if pairs == 0.0 {
        return Err("nobody could join and leave".into());
    }
    let row = [
        broker.name().to_owned(),
        thousands(members as f64),
        thousands(2.0 * pairs / spent.seconds),
        format!(
            "{:.1} / {:.1}",
            spent.server * 1e6 / pairs,
            spent.redis * 1e6 / pairs
        ),
        bench.report.busy(&spent),
    ];
    bench.report.row(&row);
    Ok(())
}

/// Goes on for so long; how many times somebody had joined and left.
fn churn(load: &mut Load<'_>, pair: &[u8], time: Duration) -> Result<u64> {
    let end = Instant::now() + time;
    let mut pairs = 0;
    let mut left = Vec::new();
    while Instant::now() < end {
        load.turn(TURN, &mut |arrival| {
            if let Event::Ack { .. } = arrival.event {
                left.push(arrival.connection);
            }
            Ok(())
        })?;
        pairs += left.len() as u64;
        for churner in left.drain(..) {
            load.clients.send(churner, pair)?;
        }
    }
    Ok(pairs)
}
