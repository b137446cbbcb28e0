//! Whether each room's channel brings what is said in it. A subscription can be lost while its
//! connection looks alive; then the rooms that it was for are read, and it is made anew:
//!
//! ```text
//!   an own append didn't come back, or the history has more ──► the room is read
//!       and its channel brought nothing meanwhile ──► it is subscribed to again, and read once more
//!           and still nothing by the next time ──► the whole subscription is made anew
//! ```
//!
//! That nothing at all comes any more is the broker's to find out: it sends itself probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::room::Room;
use super::{Hub, lock};
use crate::history::Span;
use crate::id::Seq;
use crate::presence::Presence;

/// In so many seconds every open room is compared with the broker's history once.
pub(super) const SECONDS: u8 = 60;
/// What was published and hasn't come by then was missed.
const OVERDUE: Duration = Duration::from_secs(1);

/// What a room's channel brought, counted.
#[derive(Default)]
pub(super) struct Ear {
    /// Deliveries so far.
    heard: AtomicU64,
    /// `heard` and one when it was last subscribed to again; 0 before.
    subscribed_at: AtomicU64,
    /// A task subscribes to it again.
    subscribing: AtomicBool,
}

impl Ear {
    /// Notes a delivery.
    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Deliveries so far.
    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Notes that it is subscribed to again; whether anything came since the last time.
    fn note_subscribing(&self) -> bool {
        let now = self.heard() + 1;
        self.subscribed_at.swap(now, Ordering::Relaxed) != now
    }
}

impl Hub {
    /// Compares every room's newest message with the history's, each at its own second of the minute,
    /// without end: what is lost of a quiet room shows by nothing else.
    pub async fn compare(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        for second in (0..SECONDS).cycle() {
            ticks.tick().await;
            let due: Vec<Arc<Room>> = lock(&self.inner.rooms)
                .values()
                .filter(|room| room.second == second)
                .cloned()
                .collect();
            for room in due {
                self.compare_one(&room).await;
            }
        }
    }

    /// What is just on its way makes a difference, too; then the room is read once more.
    async fn compare_one(&self, room: &Arc<Room>) {
        let heard = room.ear.heard();
        // A roster that nobody touches is forgotten after some minutes.
        let touched = self.inner.broker.change_roster(&room.id, &[], self).await;
        if touched.is_ok_and(|version| room.differs(version)) {
            room.on_roster(self, Presence::doubt);
            self.listen_again(room, heard, OVERDUE);
        }
        let Ok(slice) = self.read(&room.id, Span::Newest(0)).await else {
            return;
        };
        if slice.head != room.head() && room.distrust() {
            self.start_mending(room.clone());
            self.listen_again(room, heard, OVERDUE);
        }
    }

    /// Notes that an append of this node got that place, and sees to it that the room's tail gets there.
    pub(super) fn acked(&self, room: &Arc<Room>, seq: Seq) {
        if room.acked(seq) {
            let (hub, room) = (self.clone(), room.clone());
            tokio::spawn(async move { hub.watch(room, seq).await });
        }
    }

    async fn watch(&self, room: Arc<Room>, mut target: Seq) {
        loop {
            let heard = room.ear.heard();
            tokio::time::sleep(OVERDUE).await;
            let Some((overdue, acked)) = room.overdue(target) else {
                return;
            };
            if overdue && room.distrust() {
                tracing::warn!(room = %room.id, "an append didn't come back; mending the room");
                self.start_mending(room.clone());
                self.listen_again(&room, heard, Duration::ZERO);
            }
            target = acked;
        }
    }

    /// Sees, after a while, whether a room's channel brought anything since it had brought so much; if it
    /// didn't, its subscription is renewed. At most one such task runs per room.
    fn listen_again(&self, room: &Arc<Room>, heard: u64, after: Duration) {
        if room.ear.subscribing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (hub, room) = (self.clone(), room.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if room.ear.heard() == heard {
                hub.subscribe_again(&room).await;
            }
            room.ear.subscribing.store(false, Ordering::Release);
        });
    }

    async fn subscribe_again(&self, room: &Arc<Room>) {
        if !room.ear.note_subscribing() {
            tracing::warn!(room = %room.id, "its channel stays silent; listening to all rooms anew");
            return self.inner.broker.listen_anew();
        }
        tracing::warn!(room = %room.id, "its channel brought nothing of that; subscribing to it again");
        // Read after it, so that nothing falls in between.
        if self.inner.broker.open_again(&room.id).await.is_ok() && room.distrust() {
            self.start_mending(room.clone());
        }
    }
}
