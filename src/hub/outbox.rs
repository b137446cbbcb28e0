//! Sends on their way into a room's log. One append call per room is in flight from this node; what
//! comes meanwhile goes together in the next. That is the order of a connection's sends, and group
//! commit without a timer.
//!
//! A send whose fate isn't known (the broker went away under the call) is tried again, before anything
//! behind it, until the broker says what became of it: see [`Draft::retry`]. Nothing else is answered
//! out of turn, but who has nothing on its way hears at once that the broker is away.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Hub;
use super::peer::{Note, Peer};
use super::room::Room;
use crate::broker::{AppendError, Appended, Draft, Known, Outcome, RENEWED_WITHIN};
use crate::limits::messages::Allowance;
use crate::protocol::request::RequestId;

/// Messages, and bytes of them, in one call.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;
/// How long a send of unknown fate is tried again.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);
/// Between tries that the broker answers with "not now".
const PAUSE: Duration = Duration::from_millis(200);

/// The queue of a room. It is bounded by what each connection may have outstanding.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Sending>,
    /// Whether a task is at work on it.
    running: bool,
    /// Whether a batch of unknown fate stands before the queue.
    stuck: bool,
    /// When an append that renewed the log's life was called last.
    renewed: Option<Instant>,
}

/// A send on its way.
pub struct Sending {
    /// What is sent.
    pub draft: Draft,
    /// By whom.
    pub sender: Sender,
}

/// Who has a send on its way, and is told what became of it.
pub struct Sender {
    /// The connection.
    pub peer: Arc<Peer>,
    /// How much the sender may send; what the broker says of it goes there. `None`: any number.
    pub allowance: Option<Arc<Allowance>>,
    /// The sender's slot for this room.
    pub slot: usize,
    /// The request's id.
    pub id: Option<RequestId>,
    /// How many bytes the request counts as outstanding.
    pub weight: usize,
}

/// What became of a send.
pub struct Receipt {
    /// The sender's slot for the room.
    pub slot: usize,
    /// The request's id.
    pub id: Option<RequestId>,
    /// How many bytes the request counted as outstanding.
    pub weight: usize,
    /// The sender's own id for the message.
    pub client_id: Option<Box<str>>,
    /// When the node took it.
    pub timestamp: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The broker says.
    Known(Outcome),
    /// Nothing was stored: the broker is away.
    Unavailable,
    /// Nothing was stored: the broker refused.
    Refused,
}

impl Sender {
    fn tell(self, draft: Draft, fate: Fate) {
        self.peer.note(Note::Sent(Receipt {
            slot: self.slot,
            id: self.id,
            weight: self.weight,
            client_id: draft.client_id,
            timestamp: draft.timestamp,
            fate,
        }));
    }
}

impl Sending {
    fn tell(self, fate: Fate) {
        self.sender.tell(self.draft, fate);
    }
}

/// Sends that go together in one call.
struct Batch {
    drafts: Vec<Draft>,
    /// Of each draft.
    senders: Vec<Sender>,
}

impl Batch {
    /// Whether any of them was stored by the call that was answered so.
    fn stores_any(&self, outcomes: &[Outcome]) -> bool {
        let stored = outcomes
            .iter()
            .map(|outcome| outcome.stored().map(|mark| mark.id));
        stored
            .zip(&self.drafts)
            .any(|(id, draft)| id == Some(draft.id))
    }

    fn tell(self, fates: impl Iterator<Item = Fate>) {
        let all = self.senders.into_iter().zip(self.drafts).zip(fates);
        all.for_each(|((sender, draft), fate)| sender.tell(draft, fate));
    }
}

impl Room {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends into the room. `behind`: the connection has other sends on their way into this room, so
    /// this one must not be answered before them.
    pub fn send(self: &Arc<Room>, hub: &Hub, sending: Sending, behind: bool) {
        let mut outbox = self.outbox();
        if outbox.stuck && !behind {
            drop(outbox);
            return sending.tell(Fate::Unavailable);
        }
        outbox.queue.push_back(sending);
        if !std::mem::replace(&mut outbox.running, true) {
            drop(outbox);
            tokio::spawn(run(hub.clone(), self.clone()));
        }
    }

    /// What an append that is called now goes by.
    fn known(&self) -> Known {
        let base = self.head();
        // What was just acked may not have come back yet.
        let acked = self.state().log.newest_acked();
        let next = base.map_or(acked, |head| head.seq.max(acked)).next();
        let renewed = self.outbox().renewed;
        Known {
            base,
            next,
            renews: renewed.is_none_or(|at| at.elapsed() >= RENEWED_WITHIN),
        }
    }

    /// The next batch. Without one, the task at work is done: decided under the lock, so a send that
    /// comes at the same time either is in the batch or starts another task.
    fn next_batch(&self) -> Option<Batch> {
        let mut outbox = self.outbox();
        let mut bytes = 0;
        let fits = outbox.queue.iter().take(BATCH).take_while(|sending| {
            bytes += sending.draft.body.len();
            bytes <= BATCH_BYTES
        });
        let count = fits.count().max(1).min(outbox.queue.len());
        outbox.running = count > 0;
        let parts = outbox
            .queue
            .drain(..count)
            .map(|sending| (sending.draft, sending.sender));
        let (drafts, senders): (Vec<_>, Vec<_>) = parts.unzip();
        (count > 0).then_some(Batch { drafts, senders })
    }

    /// Notes that a batch is of unknown fate, or no longer. Who isn't behind it hears that the broker is away.
    fn set_stuck(&self, batch: Option<&Batch>) {
        let mut outbox = self.outbox();
        outbox.stuck = batch.is_some();
        let Some(batch) = batch else { return };
        let senders: HashSet<_> = batch.senders.iter().map(|of| of.peer.id).collect();
        let (behind, free) = std::mem::take(&mut outbox.queue)
            .into_iter()
            .partition(|sending| senders.contains(&sending.sender.peer.id));
        outbox.queue = behind;
        drop(outbox);
        let free: VecDeque<Sending> = free;
        free.into_iter()
            .for_each(|sending| sending.tell(Fate::Unavailable));
    }
}

async fn run(hub: Hub, room: Arc<Room>) {
    while let Some(batch) = room.next_batch() {
        append(&hub, &room, batch).await;
    }
}

async fn append(hub: &Hub, room: &Arc<Room>, mut batch: Batch) {
    let known = room.known();
    match append_once(hub, room, &batch, known).await {
        Ok(outcomes) => return tell_known(hub, room, batch, outcomes),
        Err(AppendError::Unavailable) => {
            return batch.tell(std::iter::repeat(Fate::Unavailable));
        }
        Err(AppendError::Refused(why)) => {
            tracing::error!(room = %room.id, why, "the broker refused an append");
            return batch.tell(std::iter::repeat(Fate::Refused));
        }
        Err(AppendError::Lost) => {}
    }
    tracing::warn!(room = %room.id, messages = batch.drafts.len(), "an append's answer was lost; finding out");
    room.set_stuck(Some(&batch));
    // The way out of here is long, and most appends never take it: they don't pay for what it holds.
    let outcomes = Box::pin(find_out(hub, room, &mut batch, known)).await;
    room.set_stuck(None);
    match outcomes {
        Some(outcomes) => tell_known(hub, room, batch, outcomes),
        None => batch.tell(std::iter::repeat(Fate::Known(Outcome::Unknowable))),
    }
}

/// Tries again until the broker says what became of a batch; `None` where it doesn't in all that time.
async fn find_out(hub: &Hub, room: &Room, batch: &mut Batch, known: Known) -> Option<Vec<Outcome>> {
    let since = Instant::now();
    // The first try may be minutes old by then.
    let known = Known {
        renews: true,
        ..known
    };
    batch.drafts.iter_mut().for_each(Draft::retry);
    while since.elapsed() < GIVE_UP_AFTER {
        // The new connection is shown only after the old one was killed: the former try is over.
        let left = GIVE_UP_AFTER.saturating_sub(since.elapsed());
        let _ = tokio::time::timeout(left, hub.broker().up()).await;
        match append_once(hub, room, batch, known).await {
            Ok(found) => return Some(found),
            Err(AppendError::Lost) => batch.drafts.iter_mut().for_each(Draft::retry),
            // It was not carried out: the same try, once more.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    None
}

/// One call of the broker, timed. What it says of the senders' allowances is noted.
async fn append_once(
    hub: &Hub,
    room: &Room,
    batch: &Batch,
    known: Known,
) -> Result<Vec<Outcome>, AppendError> {
    let start = Instant::now();
    let first = batch.drafts.first().map(|draft| draft.id);
    first.inspect(|id| room.echoes.expect(*id, start));
    let answer = hub
        .broker()
        .append(&room.id, &batch.drafts, known, hub)
        .await;
    let outcomes = answer.map(|appended| {
        let took = start.elapsed().as_secs_f64();
        hub.metrics().appends.observe(took);
        note_allowances(&batch.senders, &appended, start);
        appended.outcomes
    });
    match &outcomes {
        // What a former try stored renewed nothing now.
        Ok(outcomes) if known.renews && batch.stores_any(outcomes) => {
            room.outbox().renewed = Some(start);
        }
        Ok(_) => {}
        // A broker that was away may have come back with less.
        Err(_) => room.outbox().renewed = None,
    }
    // What isn't stored by this very try doesn't come back.
    let stored = outcomes.iter().flatten().find_map(Outcome::stored);
    if stored.map(|mark| mark.id) != first {
        first.inspect(|id| room.echoes.forget(*id));
    }
    outcomes
}

/// Notes what a call that was made then brought the senders: blocks to go on with, and who sent too many.
fn note_allowances(senders: &[Sender], appended: &Appended, called: Instant) {
    let now = Instant::now();
    let of = |nth: usize| senders.get(nth)?.allowance.as_ref();
    for block in &appended.blocks {
        if let Some(allowance) = of(block.nth) {
            allowance.grant(block.ahead, called, block.left, now);
        }
    }
    for (nth, outcome) in appended.outcomes.iter().enumerate() {
        if let (Outcome::Limited(left), Some(allowance)) = (outcome, of(nth)) {
            allowance.bar(called, *left, now);
        }
    }
}

fn tell_known(hub: &Hub, room: &Arc<Room>, batch: Batch, outcomes: Vec<Outcome>) {
    let stored = outcomes.iter().filter_map(Outcome::stored);
    let places = stored.map(|mark| mark.seq);
    hub.metrics()
        .publishes
        .inc_by(places.clone().count() as u64);
    if let Some(newest) = places.max() {
        hub.acked(room, newest);
    }
    batch.tell(outcomes.into_iter().map(Fate::Known));
}
