//! Who has been given what: the windows of the publishers, and what was lost, doubled or out of order.
//!
//! Publishers number their messages from 0. Each member must get each publisher's messages one after
//! another, and all members of a room the same messages in the same order.

use std::collections::VecDeque;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use super::Result;
use super::shape::Shape;

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
    pub(crate) doubled: u64,
    /// Rooms whose members don't all have the same messages in the same order.
    pub(crate) disordered: u64,
}

impl Faults {
    pub(crate) fn none(self) -> bool {
        self.lost + self.doubled + self.disordered == 0
    }
}

impl Display for Faults {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            doubled,
            disordered,
        } = self;
        write!(f, "{lost} / {doubled} / {disordered}")
    }
}

/// A membership: what one connection gets of one room.
#[derive(Clone, Copy, Default)]
struct Seat {
    /// A hash of what it got, in its order.
    order: u64,
    /// Whether it was ever told that something is gone: then it has another order than the others.
    excused: bool,
}

/// The account of a run.
pub(crate) struct Ledger<'a> {
    shape: &'a Shape,
    publishers: Vec<Publisher>,
    seats: Vec<Seat>,
    /// The number that each seat awaits from each publisher of its room, and whether what is missing
    /// before the next one was told to be gone.
    next: Vec<(u32, bool)>,
    /// Publishers whose next place in the window is free; those that waited longest go first.
    ready: VecDeque<usize>,
    in_flight: usize,
    faults: Faults,
    told: u64,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(shape: &'a Shape) -> Self {
        let free = Slot {
            missing: 0,
            sent_at: Instant::now(),
        };
        let publisher = |_| Publisher {
            sent: 0,
            acked: 0,
            window: vec![free.clone(); shape.window],
        };
        let publishers = shape.all_publishers();
        Self {
            shape,
            publishers: (0..publishers).map(publisher).collect(),
            seats: vec![Seat::default(); shape.seats()],
            next: vec![(0, false); shape.seats() * shape.publishers],
            ready: (0..publishers).collect(),
            in_flight: 0,
            faults: Faults::default(),
            told: 0,
        }
    }

    /// Messages without their ack, or that some member hasn't got yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Deliveries that members were told to be gone (`recovered: false`).
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.publishers.iter().map(|p| u64::from(p.sent)).sum()
    }

    /// A publisher that may send, once.
    pub(crate) fn next_ready(&mut self) -> Option<usize> {
        if self.in_flight >= self.shape.in_flight {
            return None;
        }
        self.ready.pop_front()
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
            missing: self.shape.members + 1,
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
        let (room, number) = self.shape.place_of(publisher);
        let known = self.publishers.get(publisher);
        let known = known.is_some_and(|publisher| sequence < publisher.sent);
        let Some(seat) = self.shape.seat(connection, room).filter(|_| known) else {
            return Err(format!(
                "connection {connection} got message {sequence} of publisher {publisher}"
            )
            .into());
        };
        let next = &mut self.next[seat * self.shape.publishers + number];
        let (awaited, excused) = *next;
        if sequence < awaited {
            self.faults.doubled += 1;
            return Ok(None);
        }
        *next = (sequence + 1, false);
        let gap = u64::from(sequence - awaited);
        if excused {
            self.told += gap;
            for gone in awaited..sequence {
                self.settle(publisher, gone);
            }
        } else {
            self.faults.lost += gap;
        }
        let token = (publisher as u64) << 32 | u64::from(sequence);
        let order = &mut self.seats[seat].order;
        *order = (*order ^ token)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
        let latency = now.duration_since(self.publishers[publisher].slot(sequence).sent_at);
        self.settle(publisher, sequence);
        Ok(Some(latency))
    }

    /// A connection was told that it can't be given what comes before the next message in this room.
    pub(crate) fn excuse(&mut self, connection: usize, room: usize) -> Result<()> {
        let seat = self.shape.seat(connection, room).ok_or("not a member")?;
        self.seats[seat].excused = true;
        let first = seat * self.shape.publishers;
        for (_, excused) in &mut self.next[first..first + self.shape.publishers] {
            *excused = true;
        }
        Ok(())
    }

    /// A connection got an ack. Acks of a room come in the order of the messages.
    pub(crate) fn acked(&mut self, connection: usize, room: usize) -> Result<()> {
        let awaited = self
            .shape
            .publisher_at(connection, room)
            .map(|at| (at, self.publishers[at].acked, self.publishers[at].sent));
        match awaited {
            Some((at, acked, sent)) if acked < sent => {
                self.publishers[at].acked += 1;
                self.settle(at, acked);
                Ok(())
            }
            _ => Err(format!("connection {connection} got an ack for nothing").into()),
        }
    }

    #[inline]
    fn settle(&mut self, at: usize, sequence: u32) {
        let publisher = &mut self.publishers[at];
        let slot = publisher.slot(sequence);
        // a place whose message was lost is free already
        slot.missing = slot.missing.saturating_sub(1);
        if slot.missing > 0 {
            return;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        // only the place of the next message lets the publisher go on
        if publisher.sent as usize % publisher.window.len()
            == sequence as usize % publisher.window.len()
        {
            self.ready.push_back(at);
        }
    }

    /// Messages that a publisher has sent.
    pub(crate) fn sent_by(&self, publisher: usize) -> u32 {
        self.publishers[publisher].sent
    }

    /// Whether a member has a publisher's messages up to this number, or was told about them.
    pub(crate) fn has(&self, connection: usize, publisher: usize, below: u32) -> bool {
        let (room, number) = self.shape.place_of(publisher);
        let seat = self.shape.seat(connection, room);
        seat.is_some_and(|seat| self.next[seat * self.shape.publishers + number].0 >= below)
    }

    /// The account at the end: what is still in flight is lost.
    pub(crate) fn close(self) -> Faults {
        let each = self.shape.publishers;
        let mut faults = self.faults;
        for (seat, awaited) in self.next.chunks(each).enumerate() {
            let first = seat / self.shape.members * each;
            let sent = self.publishers[first..first + each].iter().map(|p| p.sent);
            let missing = sent.zip(awaited).map(|(sent, (next, _))| sent - next);
            faults.lost += missing.map(u64::from).sum::<u64>();
        }
        let unanswered = self.publishers.iter().map(|p| u64::from(p.sent - p.acked));
        faults.lost += unanswered.sum::<u64>();
        let differ = |room: &&[Seat]| {
            let mut orders = room.iter().filter(|s| !s.excused).map(|seat| seat.order);
            let first = orders.next();
            orders.any(|order| Some(order) != first)
        };
        faults.disordered = self.seats.chunks(self.shape.members).filter(differ).count() as u64;
        faults
    }
}
