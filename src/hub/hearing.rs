//! Whether each room's channel brings what is said in it. A subscription can be lost while its
//! connection looks alive; then the rooms that it was for are read, and it is made anew:
//!
//! ```text
//!   an own append didn't come back, or the history has more ──► the room is read, its channel is probed
//!       and the probe doesn't come ──► it is subscribed to again, read once more, and probed
//!           and still nothing ──► the whole subscription is made anew
//! ```
//!
//! That nothing at all comes any more is the broker's to find out: it sends itself probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::room::Room;
use super::{Hub, lock};
use crate::history::Span;
use crate::id::Seq;
use crate::presence::Presence;

/// In so many seconds every open room is compared with the broker's history once.
pub(super) const SECONDS: u8 = 60;
/// Rooms that are compared at once: two round trips each, so with 1 ms for one a minute is enough for 240,000.
const COMPARED: usize = 8;
/// What was published and hasn't come by then was missed.
const OVERDUE: Duration = Duration::from_secs(1);

/// What a room's channel brought.
#[derive(Default)]
pub(super) struct Ear {
    /// Deliveries so far; it may begin anew.
    heard: AtomicU32,
    /// A task looks whether anything comes.
    listening: AtomicBool,
}

impl Ear {
    /// Notes a delivery.
    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Deliveries so far.
    fn heard(&self) -> u32 {
        self.heard.load(Ordering::Relaxed)
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
            stream::iter(due)
                .for_each_concurrent(COMPARED, async |room| self.compare_one(&room).await)
                .await;
        }
    }

    /// What is just on its way makes a difference, too; then the room is read once more.
    async fn compare_one(&self, room: &Arc<Room>) {
        // A roster that nobody touches is forgotten after some minutes.
        let touched = self.inner.broker.change_roster(&room.id, &[], self).await;
        if touched.is_ok_and(|version| room.differs(version)) {
            room.on_roster(self, Presence::doubt);
            self.listen(room);
        }
        let Ok(slice) = self.read(&room.id, Span::Newest(0)).await else {
            return;
        };
        if slice.head != room.head() && room.distrust() {
            self.start_mending(room.clone());
            self.listen(room);
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
            tokio::time::sleep(OVERDUE).await;
            let Some((overdue, acked)) = room.overdue(target) else {
                return;
            };
            if overdue && room.distrust() {
                tracing::warn!(room = %room.id, "an append didn't come back; mending the room");
                self.start_mending(room.clone());
                self.listen(&room);
            }
            target = acked;
        }
    }

    /// Sees to it that a room's channel brings what is said in it. At most one such task runs per room, and
    /// as it holds the room, the room isn't let go of (and its channel with it) meanwhile.
    fn listen(&self, room: &Arc<Room>) {
        if room.ear.listening.swap(true, Ordering::AcqRel) {
            return;
        }
        let (hub, room) = (self.clone(), room.clone());
        tokio::spawn(async move {
            if !hub.hears(&room).await
                && hub.subscribe_again(&room).await
                && !hub.hears(&room).await
            {
                tracing::warn!(room = %room.id, "its channel stays silent; listening to all rooms anew");
                hub.inner.broker.listen_anew();
            }
            room.ear.listening.store(false, Ordering::Release);
        });
    }

    /// Whether anything comes when something is said. What was said before it may come instead: that
    /// shows the same.
    async fn hears(&self, room: &Room) -> bool {
        let heard = room.ear.heard();
        self.inner.broker.publish(&room.id, &[], self);
        tokio::time::sleep(OVERDUE).await;
        room.ear.heard() != heard
    }

    /// Subscribes to a room's channel again. Whether it is.
    async fn subscribe_again(&self, room: &Arc<Room>) -> bool {
        tracing::warn!(room = %room.id, "its channel brings nothing; subscribing to it again");
        let subscribed = self.inner.broker.open_again(&room.id).await.is_ok();
        // Read after it, so that nothing falls in between.
        if subscribed && room.distrust() {
            self.start_mending(room.clone());
        }
        subscribed
    }
}
