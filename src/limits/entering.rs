//! One who enters: takes its places at this node, asks the broker ([`super::calls`]), and gives them back where that
//! says no. When it is tried again, and what a refusal leads to, is `admission`'s.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use super::address::Source;
use super::admission::{DEADLINE, Inner, Slot, Wanted};
use super::calls::Question;
use super::held::{Count, Fate, Held, Place};
use crate::broker::places::{Entry, Verdict};
use crate::id::{Incarnation, UserId};
use crate::metrics::Refusal;
use crate::presence::nodes::Standing;

/// What came of one try to enter.
pub(super) enum Attempt {
    In(Slot),
    TooFast(Duration),
    /// That place was full.
    Full(usize),
}

/// One who is entering, over its tries.
pub(super) struct Entering<'a> {
    inner: &'a Inner,
    source: Source,
    deadline: Instant,
    /// The connect has yet to be counted over all nodes.
    uncounted: bool,
    /// The place that the broker found full, and who of its holders is dead.
    full: Option<(usize, Vec<Incarnation>)>,
}

/// Numbers that are on their way to the broker. Whoever has this when their fate is known drops it.
pub(super) struct OnTheWay {
    pub(super) held: Arc<Held>,
    pub(super) sent: SmallVec<[(Place, Count); 2]>,
    pub(super) fate: Fate,
}

impl OnTheWay {
    /// No numbers so far, and nothing was sent.
    fn of(held: &Arc<Held>) -> OnTheWay {
        OnTheWay {
            held: held.clone(),
            sent: SmallVec::new(),
            fate: Fate::Refused,
        }
    }

    /// They go no further.
    pub(super) fn let_go(&mut self) {
        for (place, count) in std::mem::take(&mut self.sent) {
            self.held.answered(&place, count, self.fate);
        }
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl<'a> Entering<'a> {
    pub(super) fn new(inner: &'a Inner, source: Source) -> Entering<'a> {
        Entering {
            inner,
            source,
            deadline: Instant::now() + DEADLINE,
            uncounted: inner.limits.connects > 0 && inner.hub.broker().is_shared(),
            full: None,
        }
    }

    /// Whether the broker found that place full, and some of its holders are dead.
    pub(super) fn has_dead(&self, place: usize) -> bool {
        let full = self.full.as_ref();
        full.is_some_and(|(full, dead)| *full == place && !dead.is_empty())
    }

    /// Tries once.
    pub(super) async fn attempt(&mut self, wanted: &Wanted) -> Attempt {
        let inner = self.inner;
        // Dropped before the slot: the end of the call sees what has become of the place by then.
        let (slot, sent) = match inner.take(wanted) {
            Ok(taken) => taken,
            Err(full) => return self.only_count().await.unwrap_or(Attempt::Full(full)),
        };
        if !inner.hub.broker().is_shared() || (wanted.is_empty() && !self.uncounted) {
            return Attempt::In(slot);
        }
        let Some((entry, sent)) = self.ask(wanted, sent).await else {
            // The broker's last word holds, where it had one; else this node's own numbers do.
            return match &self.full {
                Some((full, _)) => Attempt::Full(*full),
                None => Attempt::In(slot),
            };
        };
        self.keep_in_step(&entry);
        match entry.verdict {
            Verdict::In => Attempt::In(slot),
            Verdict::TooFast => {
                let left = entry.left.unwrap_or(inner.limits.window);
                refuse(slot, sent, Attempt::TooFast(left))
            }
            Verdict::Full(full, holders) => {
                self.full = Some((full, inner.dead_of(holders)));
                refuse(slot, sent, Attempt::Full(full))
            }
        }
    }

    /// It has no place at this node, but has connected all the same.
    async fn only_count(&mut self) -> Option<Attempt> {
        let sent = OnTheWay::of(&self.inner.held);
        let (entry, _) = self.ask(&Wanted::new(), sent).await?;
        self.keep_in_step(&entry);
        let left = entry.left.filter(|_| entry.verdict == Verdict::TooFast);
        left.map(Attempt::TooFast)
    }

    /// The connect was counted over all nodes: this node's window keeps in step with theirs.
    fn keep_in_step(&self, entry: &Entry) {
        if let Some(left) = entry.left {
            let (closed, now) = (entry.verdict == Verdict::TooFast, Instant::now());
            let connects = &self.inner.connects;
            connects.told(self.source, left, closed, now.into_std());
        }
    }

    /// Asks the broker, where it can be reached and answers in time. Of places it is asked in the name of this
    /// node's incarnation; without one they are this node's own matter, and are told later. The numbers are the
    /// question's until it is answered: who gives up waiting leaves them to it.
    async fn ask(&mut self, wanted: &Wanted, sent: OnTheWay) -> Option<(Entry, OnTheWay)> {
        // Read after the numbers were drawn: should it end now, all that were drawn until then are told anew.
        let own = if wanted.is_empty() {
            None
        } else {
            self.inner.own(self.deadline).await
        };
        if own.is_none() && !self.uncounted {
            return None;
        }
        // Counted once, whether or not the answer comes in time.
        let uncounted = std::mem::take(&mut self.uncounted);
        let (question, answer) = Question::new(
            uncounted.then_some(self.source),
            own.map(|own| (own, wanted.clone())),
            self.full.clone(),
            sent,
        );
        self.inner.calls.ask(question);
        timeout_at(self.deadline, answer).await.ok()?.ok()
    }
}

/// Gives the places back before it is said what became of the numbers: then nothing is left to be told.
fn refuse(slot: Slot, sent: OnTheWay, why: Attempt) -> Attempt {
    drop(slot);
    drop(sent);
    why
}

impl Inner {
    /// What one needs.
    pub(super) fn wanted(&self, user: &UserId, source: Source) -> Wanted {
        let mut wanted = Wanted::new();
        if self.limits.per_user > 0 {
            let place = Place::from(format!("user:{user}"));
            wanted.push((place, Refusal::User, self.limits.per_user));
        }
        if self.limits.per_address > 0 {
            let place = Place::from(format!("ip:{source}"));
            wanted.push((place, Refusal::Address, self.limits.per_address));
        }
        wanted
    }

    /// Takes all places at this node, or says which is full.
    fn take(&self, wanted: &Wanted) -> Result<(Slot, OnTheWay), usize> {
        let mut slot = Slot {
            held: self.held.clone(),
            places: SmallVec::new(),
        };
        let mut sent = OnTheWay::of(&self.held);
        for (nth, (place, _, most)) in wanted.iter().enumerate() {
            let Some(count) = self.held.take(place, *most) else {
                drop(slot);
                return Err(nth);
            };
            slot.places.push(place.clone());
            sent.sent.push((place.clone(), count));
        }
        Ok((slot, sent))
    }

    /// This node's incarnation. Just after the start, or after it was given up, it is a moment away.
    async fn own(&self, deadline: Instant) -> Option<Incarnation> {
        let nodes = self.hub.nodes();
        if nodes.own().is_none() && self.hub.broker().health().up {
            let _ = timeout_at(deadline, nodes.has_lease()).await;
        }
        nodes.own()
    }

    /// Who of them is dead. Who isn't known is looked out for.
    pub(super) fn dead_of(&self, holders: Vec<Incarnation>) -> Vec<Incarnation> {
        let nodes = self.hub.nodes();
        let mut dead = holders;
        dead.retain(|of| match nodes.standing(*of) {
            Standing::Alive => false,
            Standing::Dead => true,
            Standing::Unknown => {
                nodes.suspect(*of, std::time::Instant::now());
                false
            }
        });
        dead
    }
}
