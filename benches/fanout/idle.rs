//! Connections that have joined a room of ten and say nothing: the server's memory for each.

use std::time::{Duration, Instant};

use crate::Result;
use crate::clients::Clients;
use crate::options::Options;
use crate::process::anonymous_memory;
use crate::scenario::IDLE_ROOM;
use crate::stack::Stack;

/// What idle connections cost.
pub(crate) struct Idle {
    pub(crate) connections: usize,
    /// The server's anonymous resident memory per connection, in KiB. What the kernel keeps for the
    /// sockets isn't in it.
    pub(crate) kib: f64,
}

/// Fills a fresh server with so many connections.
pub(crate) fn measure(connections: usize, stack: &Stack, options: &Options) -> Result<Idle> {
    let before = anonymous_memory(stack.server.id)?;
    let rooms = (0..connections).map(|connection| format!("r{}", connection / IDLE_ROOM));
    let mut clients = Clients::join(stack.address, rooms)?;
    // what was under way is read, and a connection that the server ends is an error
    let end = Instant::now() + options.warm_up().max(Duration::from_secs(1));
    while Instant::now() < end {
        clients.turn(&mut |_| Ok(()))?;
    }
    let after = anonymous_memory(stack.server.id)?;
    let kib = (after as f64 - before as f64) / 1024.0 / connections.max(1) as f64;
    Ok(Idle { connections, kib })
}
