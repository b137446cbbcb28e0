//! The shape of a load: rooms of equal size, members in one room or in several, publishers spread evenly.

use std::ops::Range;

/// Rooms of equal size. Connections come in groups of `members`; all of a group are in the same
/// `rooms_each` rooms. Members of a room are numbered from 0, like the connections of its group.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) rooms: usize,
    /// Per room.
    pub(crate) members: usize,
    /// Rooms of each connection; divides `rooms`.
    pub(crate) rooms_each: usize,
    /// Per room, members themselves.
    pub(crate) publishers: usize,
    /// Messages that each publisher keeps in flight at most.
    pub(crate) window: usize,
    /// Messages of all publishers in flight at most.
    pub(crate) in_flight: usize,
    /// Servers that the members of each room are spread over.
    pub(crate) nodes: usize,
}

impl Shape {
    /// Rooms of so many members on one node, each connection in one room, one publisher in each room.
    pub(crate) const fn rooms(rooms: usize, members: usize) -> Self {
        Self {
            rooms,
            members,
            rooms_each: 1,
            publishers: 1,
            window: 8,
            in_flight: usize::MAX,
            nodes: 1,
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.rooms / self.rooms_each * self.members
    }

    pub(crate) fn all_publishers(&self) -> usize {
        self.rooms * self.publishers
    }

    /// The rooms of a connection.
    pub(crate) fn rooms_of(&self, connection: usize) -> Range<usize> {
        let first = connection / self.members * self.rooms_each;
        first..first + self.rooms_each
    }

    /// The room of a publisher and its number among the publishers there.
    pub(crate) fn place_of(&self, publisher: usize) -> (usize, usize) {
        (publisher / self.publishers, publisher % self.publishers)
    }

    /// The connection of a publisher. In a group each room has other ones, as long as there are others.
    pub(crate) fn connection_of(&self, publisher: usize) -> usize {
        let (room, number) = self.place_of(publisher);
        let (group, nth) = (room / self.rooms_each, room % self.rooms_each);
        group * self.members + (nth * self.publishers + number) % self.members
    }

    /// The publisher that a connection is in a room, if it is one there.
    pub(crate) fn publisher_at(&self, connection: usize, room: usize) -> Option<usize> {
        let first = room * self.publishers;
        (first..first + self.publishers).find(|&p| self.connection_of(p) == connection)
    }

    /// Number of a connection's membership in a room; `None` where it isn't in there.
    pub(crate) fn seat(&self, connection: usize, room: usize) -> Option<usize> {
        let in_group = connection / self.members == room / self.rooms_each;
        in_group.then(|| room * self.members + connection % self.members)
    }

    /// Memberships of all connections.
    pub(crate) fn seats(&self) -> usize {
        self.rooms * self.members
    }

    /// Messages on their way to each connection at most.
    pub(crate) fn in_flight_each(&self) -> usize {
        (self.rooms_each * self.publishers * self.window).min(self.in_flight)
    }

    /// The server of a connection. A room's members are on all nodes, its publisher on any.
    pub(crate) fn node_of(&self, connection: usize) -> usize {
        (connection % self.members + connection / self.members) % self.nodes
    }
}

/// The name of a room.
pub(crate) fn room_name(number: usize) -> String {
    format!("r{number}")
}
