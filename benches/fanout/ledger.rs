//! Who has been given what: the closed loop's window, and what was lost, doubled or out of order.
//!
//! Publishers number their messages from 0. Each member must get each publisher's messages one after
//! another, and all members of a room the same messages in the same order.

use std::time::{Duration, Instant};

use crate::Result;
use crate::scenario::Scenario;

/// A place in a publisher's window. Message n takes place n modulo the window.
#[derive(Clone)]
struct Slot {
    /// The ack and the members' receipts that are still to come; 0 when free.
    missing: usize,
    sent_at: Instant,
}

struct Publisher {
    sent: u32,
    acked: u32,
    window: Vec<Slot>,
}

impl Publisher {
    fn slot(&mut self, sequence: u32) -> &mut Slot {
        let at = sequence as usize % self.window.len();
        &mut self.window[at]
    }
}

/// What went wrong in a run; all zero is the promise.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Deliveries and acks that never came.
    pub(crate) lost: u64,
    /// Deliveries that came again, or after a later one.
    pub(crate) duplicated: u64,
    /// Rooms whose members don't all have the same messages in the same order.
    pub(crate) disordered: u64,
}

impl Faults {
    pub(crate) fn none(self) -> bool {
        self.lost + self.duplicated + self.disordered == 0
    }
}

/// Connections are numbered room by room; the first ones of each room publish.
pub(crate) struct Ledger<'a> {
    scenario: &'a Scenario,
    publishers: Vec<Publisher>,
    /// The number that each connection awaits from each publisher of its room.
    next: Vec<u32>,
    /// A hash of what each connection got, in its order.
    order: Vec<u64>,
    /// Publishers whose next place in the window is free.
    ready: Vec<usize>,
    in_flight: usize,
    faults: Faults,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let publishers = scenario.rooms * scenario.publishers;
        let free = Slot {
            missing: 0,
            sent_at: Instant::now(),
        };
        let window = || vec![free.clone(); scenario.window];
        Self {
            scenario,
            publishers: (0..publishers)
                .map(|_| Publisher {
                    sent: 0,
                    acked: 0,
                    window: window(),
                })
                .collect(),
            next: vec![0; scenario.connections() * scenario.publishers],
            order: vec![0; scenario.connections()],
            ready: (0..publishers).collect(),
            in_flight: 0,
            faults: Faults::default(),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A publisher that may send, once.
    pub(crate) fn next_ready(&mut self) -> Option<usize> {
        self.ready.pop()
    }

    /// The room and the connection of a publisher.
    pub(crate) fn seat(&self, publisher: usize) -> (usize, usize) {
        let room = publisher / self.scenario.publishers;
        (
            room,
            room * self.scenario.members + publisher % self.scenario.publishers,
        )
    }

    /// Puts the publisher's next message in flight, if its window has a place.
    pub(crate) fn claim(&mut self, publisher: usize, now: Instant) -> Option<u32> {
        let publisher = &mut self.publishers[publisher];
        let sequence = publisher.sent;
        let slot = publisher.slot(sequence);
        if slot.missing > 0 {
            return None;
        }
        *slot = Slot {
            missing: self.scenario.members + 1,
            sent_at: now,
        };
        publisher.sent += 1;
        self.in_flight += 1;
        Some(sequence)
    }

    /// A connection got a message: how long that took, if it is the awaited one.
    #[inline]
    pub(crate) fn received(
        &mut self,
        connection: usize,
        publisher: usize,
        sequence: u32,
        now: Instant,
    ) -> Result<Option<Duration>> {
        let Scenario {
            members,
            publishers,
            ..
        } = *self.scenario;
        if connection / members != publisher / publishers
            || sequence >= self.publishers[publisher].sent
        {
            return Err(format!(
                "connection {connection} got message {sequence} of publisher {publisher}"
            )
            .into());
        }
        let next = &mut self.next[connection * publishers + publisher % publishers];
        if sequence < *next {
            self.faults.duplicated += 1;
            return Ok(None);
        }
        self.faults.lost += u64::from(sequence - *next);
        *next = sequence + 1;
        let token = (publisher as u64) << 32 | u64::from(sequence);
        self.order[connection] = (self.order[connection] ^ token)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
        let latency = now.duration_since(self.publishers[publisher].slot(sequence).sent_at);
        self.settle(publisher, sequence);
        Ok(Some(latency))
    }

    /// A connection got an ack. Acks come in the order of the messages.
    pub(crate) fn acked(&mut self, connection: usize) -> Result<()> {
        let Scenario {
            members,
            publishers,
            ..
        } = *self.scenario;
        let (room, member) = (connection / members, connection % members);
        let publisher = room * publishers + member;
        let sequence = self.publishers[publisher].acked;
        if member >= publishers || sequence >= self.publishers[publisher].sent {
            return Err(format!("connection {connection} got an ack for nothing").into());
        }
        self.publishers[publisher].acked += 1;
        self.settle(publisher, sequence);
        Ok(())
    }

    #[inline]
    fn settle(&mut self, at: usize, sequence: u32) {
        let publisher = &mut self.publishers[at];
        let slot = publisher.slot(sequence);
        slot.missing -= 1;
        if slot.missing > 0 {
            return;
        }
        self.in_flight -= 1;
        // only the place of the next message lets the publisher go on
        if publisher.sent as usize % publisher.window.len()
            == sequence as usize % publisher.window.len()
        {
            self.ready.push(at);
        }
    }

    /// The account at the end: what is still in flight is lost.
    pub(crate) fn close(self) -> Faults {
        let Scenario {
            members,
            publishers,
            ..
        } = *self.scenario;
        let mut faults = self.faults;
        for (connection, awaited) in self.next.chunks(publishers).enumerate() {
            let first = connection / members * publishers;
            let sent = self.publishers[first..first + publishers]
                .iter()
                .map(|publisher| publisher.sent);
            faults.lost += sent
                .zip(awaited)
                .map(|(sent, next)| u64::from(sent - next))
                .sum::<u64>();
        }
        faults.lost += self
            .publishers
            .iter()
            .map(|publisher| u64::from(publisher.sent - publisher.acked))
            .sum::<u64>();
        let differ = |room: &&[u64]| room.iter().any(|order| *order != room[0]);
        faults.disordered = self.order.chunks(members).filter(differ).count() as u64;
        faults
    }
}
