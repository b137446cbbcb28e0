//! The faults there are, and the schedule that a seed draws of them.

use std::time::Duration;

use super::dice::Dice;

/// Where a fault strikes. Each side has one fault at a time; the two sides overlap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Clients, nodes, nginx.
    Edge,
    /// Redis.
    Store,
}

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    ClientDrop,
    ClientMove,
    ClientStall,
    ClientSlow,
    ClientVanish,
    ClientChoke,
    NodeKill,
    NodeFreeze,
    NodesRolling,
    NginxReload,
    RedisKill,
    RedisFreeze,
    RedisCutCommands,
    RedisCutSubscriptions,
    RedisPause,
    RedisTinyBuffers,
    RedisFull,
    RedisEverysec,
    RedisFlush,
    RedisDelete,
    RedisRollback,
}

/// Every fault: its name, its side, and what it does.
pub(crate) const FAULTS: [(Fault, &str, Side, &str); 21] = {
    use Fault::*;
    use Side::*;
    [
        (
            ClientDrop,
            "client-drop",
            Edge,
            "half of the clients drop their TCP connection",
        ),
        (
            ClientMove,
            "client-move",
            Edge,
            "half of the clients come from another address",
        ),
        (
            ClientStall,
            "client-stall",
            Edge,
            "half of the clients read nothing for 1 to 6 s",
        ),
        (
            ClientSlow,
            "client-slow",
            Edge,
            "half of the clients read 25 events a second",
        ),
        (
            ClientVanish,
            "client-vanish",
            Edge,
            "the packets of a third vanish both ways; they come back, their connections stay",
        ),
        (
            ClientChoke,
            "client-choke",
            Edge,
            "a third read nothing for 6 to 9 s while the others shout 8 MB for each of them",
        ),
        (
            NodeKill,
            "node-kill",
            Edge,
            "SIGKILL to a node; it starts again on its port",
        ),
        (
            NodeFreeze,
            "node-freeze",
            Edge,
            "SIGSTOP to a node for 3 to 15 s",
        ),
        (
            NodesRolling,
            "nodes-rolling",
            Edge,
            "SIGTERM to one node after another, each started again",
        ),
        (NginxReload, "nginx-reload", Edge, "SIGHUP to nginx"),
        (
            RedisKill,
            "redis-kill",
            Store,
            "SIGKILL to Redis (appendfsync always), started again",
        ),
        (
            RedisFreeze,
            "redis-freeze",
            Store,
            "SIGSTOP to Redis for 1 to 8 s",
        ),
        (
            RedisCutCommands,
            "redis-cut-commands",
            Store,
            "CLIENT KILL TYPE normal",
        ),
        (
            RedisCutSubscriptions,
            "redis-cut-subscriptions",
            Store,
            "CLIENT KILL TYPE pubsub",
        ),
        (
            RedisPause,
            "redis-pause",
            Store,
            "CLIENT PAUSE for 0.3 to 3 s, of all or of writes",
        ),
        (
            RedisTinyBuffers,
            "redis-tiny-buffers",
            Store,
            "client-output-buffer-limit pubsub of 1 byte, and bursts",
        ),
        (
            RedisFull,
            "redis-full",
            Store,
            "maxmemory reached for 0.5 to 3 s: writes are refused",
        ),
        (
            RedisEverysec,
            "redis-everysec",
            Store,
            "appendfsync everysec, then SIGKILL to Redis",
        ),
        (RedisFlush, "redis-flush", Store, "FLUSHALL"),
        (RedisDelete, "redis-delete", Store, "DEL of one room's list"),
        (
            RedisRollback,
            "redis-rollback",
            Store,
            "Redis dies and comes back as it was 0.3 to 2 s before",
        ),
    ]
};

impl Fault {
    fn row(self) -> &'static (Fault, &'static str, Side, &'static str) {
        &FAULTS[self as usize]
    }

    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    pub(crate) fn side(self) -> Side {
        self.row().2
    }

    /// Whether it may take what Redis has stored.
    pub(crate) fn takes(self) -> bool {
        self >= Fault::RedisEverysec
    }

    /// The faults of a list of names; `keeping` are those that take nothing, `all` are all.
    pub(crate) fn parse(list: &str) -> Result<Vec<Fault>, String> {
        let all = || FAULTS.iter().map(|row| row.0);
        match list {
            "all" => return Ok(all().collect()),
            "keeping" => return Ok(all().filter(|fault| !fault.takes()).collect()),
            _ => {}
        }
        let find = |name: &str| all().find(|fault| fault.name() == name.trim());
        let known = |name: &str| find(name).ok_or(format!("no fault is called `{name}`"));
        list.split(',').map(known).collect()
    }
}

/// One fault of a schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    pub(crate) fault: Fault,
    /// How long after the one before it.
    pub(crate) pause: Duration,
    /// Which client, node or room, and how long: for each fault in its own way.
    pub(crate) draw: u64,
}

/// The faults of one side, drawn from a seed without end.
pub(crate) struct Schedule {
    dice: Dice,
    faults: Vec<Fault>,
}

impl Schedule {
    pub(crate) fn new(seed: u64, side: Side, faults: &[Fault]) -> Schedule {
        let of_side = faults.iter().copied().filter(|fault| fault.side() == side);
        Schedule {
            dice: Dice::new(seed, side as u64 + 1),
            faults: of_side.collect(),
        }
    }
}

impl Iterator for Schedule {
    type Item = Act;

    fn next(&mut self) -> Option<Act> {
        let fault = *self.faults.get(self.dice.below(self.faults.len()))?;
        Some(Act {
            fault,
            pause: self.dice.millis(200, 2_500),
            draw: self.dice.throw(),
        })
    }
}
