//! What is measured: the brokers and the shapes of rooms.

/// Where the room's log lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    Embedded,
    Redis,
}

impl Broker {
    pub(crate) const ALL: [Self; 2] = [Self::Embedded, Self::Redis];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
        }
    }
}

/// Rooms of equal size with publishers spread evenly over them. Each publisher is a member too.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) rooms: usize,
    /// Per room.
    pub(crate) members: usize,
    /// Per room: its first members.
    pub(crate) publishers: usize,
    /// Messages that each publisher keeps in flight.
    pub(crate) window: usize,
}

impl Scenario {
    pub(crate) fn connections(&self) -> usize {
        self.rooms * self.members
    }

    /// Messages on their way to each connection at most.
    pub(crate) fn in_flight(&self) -> usize {
        self.publishers * self.window
    }
}

pub(crate) const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "1x100",
        title: "one room of 100",
        rooms: 1,
        members: 100,
        publishers: 10,
        window: 8,
    },
    Scenario {
        name: "1x1000",
        title: "one room of 1,000",
        rooms: 1,
        members: 1_000,
        publishers: 10,
        window: 4,
    },
    Scenario {
        name: "100x10",
        title: "100 rooms of 10",
        rooms: 100,
        members: 10,
        publishers: 1,
        window: 8,
    },
];

/// The name of the measurement of idle connections.
pub(crate) const IDLE: &str = "idle";

/// Members of each room of idle connections.
pub(crate) const IDLE_ROOM: usize = 10;
