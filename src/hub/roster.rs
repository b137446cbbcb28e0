//! A room's roster on this node: what is published of it, what the members are told, and the task that
//! tells the broker who of this node is there.
//!
//! One such task runs per room, and makes one call at a time; what comes and goes meanwhile goes together
//! in the next, at most ten times a second. So one who enters is told of at once, and of a crowd that enters at
//! once each member hears in a few writes. Without a lease, or while the broker is away, the members of
//! this node hear of each other all the same. The task ends when the broker has everything, and what it
//! was told has come back; decided under the room's lock, so whatever comes at the same time
//! either is seen or starts another task.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Hub;
use super::peer::Person;
use super::room::{Asked, Room, State};
use super::tail::Reading;
use crate::broker::Unavailable;
use crate::broker::payload::{self, Payload};
use crate::clock::now_ms;
use crate::id::{Incarnation, Mark, RoomId};
use crate::presence::follow::{At, Step};
use crate::presence::members::Frame;
use crate::presence::nodes::Nodes;
use crate::presence::{Change, Presence, Roster};
use crate::protocol::event::Users;
use crate::protocol::request::RequestId;

/// From the beginning of one call to that of the next.
const SPACING: Duration = Duration::from_millis(100);
/// After a call that failed; doubling, up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

fn at(room: &RoomId) -> At<'_> {
    At {
        room,
        timestamp: now_ms(),
        now: Instant::now(),
    }
}

impl State {
    /// A connection enters. The others find it in the log; the room's task wakes them.
    pub(super) fn enter(&mut self, room: &RoomId, who: &Person) {
        let told = self.presence.enter(at(room), &who.user, &who.username);
        self.tell(told);
    }

    /// A connection leaves.
    pub(super) fn leave(&mut self, room: &RoomId, who: &Person, stays: bool) {
        let told = self.presence.leave(at(room), &who.user, stays);
        self.tell(told);
    }

    fn tell(&mut self, told: Option<Frame>) {
        if let Some(frame) = told {
            self.log.push_event(&frame);
            self.news = true;
        }
    }
}

impl Hub {
    /// Who is in a room, on all nodes: the payload of a `users` event, JSON. This node's copy tells, where it
    /// has one and is certain of it; else the broker's roster.
    ///
    /// # Errors
    /// Where the broker can't be reached, or it isn't known yet who lives.
    pub async fn users(&self, id: &RoomId) -> Result<Vec<u8>, Unavailable> {
        if !self.broker().health().up || self.nodes().own().is_none() {
            return Err(Unavailable);
        }
        let here = self.room_if_up(id.as_str()).and_then(|room| {
            room.look(|presence| {
                let certain = presence.is_certain();
                certain.then(|| json(&presence.members().users(id)))
            })
        });
        if let Some(here) = here {
            return Ok(here);
        }
        let _turn = self.roster_turn().await;
        let roster = self.broker().roster(id).await?;
        Ok(json(&roster.users(id, self.nodes())))
    }
}

fn json(users: &Users<'_>) -> Vec<u8> {
    // It has no key that is no string: it can't fail.
    serde_json::to_vec(users).unwrap_or_default()
}

impl Room {
    /// Copies what a member hasn't been given yet, and answers with who is here: then no event follows of
    /// what the list contains already. Gives the cursor after it, and whether events were skipped.
    pub fn users(
        &self,
        (cursor, missed): (u64, bool),
        id: Option<&RequestId>,
        out: &mut Vec<u8>,
    ) -> Asked<(u64, bool)> {
        let state = self.state();
        match state.log.tail().read_rest(cursor, missed, out) {
            Reading::Copied { after, skipped, .. } => {
                state.presence.members().put_users(&self.id, id, out);
                Asked::Done((after, skipped))
            }
            Reading::Behind(_) | Reading::Lost => Asked::Behind,
        }
    }

    /// Copies a `users` event for a member that missed events, if it has everything else: only then does
    /// no event follow that the list contains already.
    pub fn put_users_at(&self, cursor: u64, out: &mut Vec<u8>) -> bool {
        let state = self.state();
        let there = cursor == state.log.tail().end();
        if there {
            state.presence.members().put_users(&self.id, None, out);
        }
        there
    }

    /// Looks at who is here.
    pub fn look<T>(&self, look: impl FnOnce(&Presence) -> T) -> T {
        look(&self.state().presence)
    }

    /// Changes who is here, and tells the members of it.
    fn change(&self, change: impl FnOnce(&mut Presence, At<'_>) -> Vec<Frame>) {
        let mut state = self.state_mut();
        let told = change(&mut state.presence, at(&self.id));
        let any = !told.is_empty();
        told.iter().for_each(|frame| state.log.push_event(frame));
        drop(state);
        if any {
            self.wake_members();
        }
    }

    /// Takes what was published of the roster.
    pub(super) fn deliver_roster(self: &Arc<Room>, payload: &[u8], hub: &Hub) {
        self.take_roster(payload, hub.nodes());
        self.tell_roster(hub);
    }

    pub(super) fn take_roster(&self, payload: &[u8], nodes: &Nodes) {
        if let Some(Payload::Roster(published)) = payload::parse(payload) {
            self.change(|presence, at| presence.deliver(published, nodes.own(), nodes, at));
        } else {
            tracing::warn!(room = %self.id, "a change of a roster of unknown form");
            self.state_mut().presence.doubt();
        }
    }

    /// The roster has that version: whether this node's copy has another.
    pub(super) fn differs(&self, version: Option<Mark>) -> bool {
        self.look(|presence| presence.version() != version)
    }

    /// Notes something about the roster, and starts the task if there is work for it then.
    pub(super) fn on_roster(self: &Arc<Room>, hub: &Hub, note: impl FnOnce(&mut Presence)) {
        note(&mut self.state_mut().presence);
        self.tell_roster(hub);
    }

    /// Sees to it that the broker is told who of this node is here.
    pub fn tell_roster(self: &Arc<Room>, hub: &Hub) {
        let mut state = self.state_mut();
        let work = state.news || state.presence.has_work();
        if work && !std::mem::replace(&mut state.telling, true) {
            drop(state);
            // Connections leave also while the runtime ends; then there is nobody to tell.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(run(hub.clone(), self.clone()));
            }
        }
    }

    /// The room is being opened and its roster was read, or couldn't be: from now on its task may run. Two
    /// reads at once could let the older one come last.
    pub(super) fn begin_telling(self: &Arc<Room>, hub: &Hub) {
        self.state_mut().telling = false;
        self.tell_roster(hub);
    }

    pub(super) fn next_step(&self, own: Incarnation, now: Instant) -> Step {
        let mut state = self.state_mut();
        let step = state.presence.step(own, now);
        state.telling = state.news || !matches!(step, Step::Rest);
        if state.telling && matches!(step, Step::Rest) {
            return Step::Wait;
        }
        step
    }

    /// Wakes the members for what they were told of who comes and goes here.
    pub(super) fn spread_news(&self) {
        let news = std::mem::take(&mut self.state_mut().news);
        if news {
            self.wake_members();
        }
    }

    pub(super) async fn read_roster(&self, hub: &Hub) -> Result<(), Unavailable> {
        let roster = hub.broker().roster(&self.id).await?;
        self.roster_read(&roster, hub.nodes());
        Ok(())
    }

    pub(super) fn roster_read(&self, roster: &Roster, nodes: &Nodes) {
        self.change(|presence, at| presence.loaded(roster, nodes.own(), nodes, at));
    }

    pub(super) fn roster_told(&self, changes: Vec<Change>, version: Option<Mark>) {
        self.change(|presence, at| presence.told(changes, version, at));
    }

    async fn tell(
        &self,
        hub: &Hub,
        own: Incarnation,
        changes: Vec<Change>,
    ) -> Result<(), Unavailable> {
        match hub.broker().change_roster(&self.id, &changes, hub).await {
            Ok(version) => {
                self.roster_told(changes, version);
                Ok(())
            }
            Err(Unavailable) => {
                self.state_mut().presence.not_told(own, changes);
                Err(Unavailable)
            }
        }
    }
}

async fn run(hub: Hub, room: Arc<Room>) {
    let mut pause = PAUSE;
    loop {
        room.spread_news();
        let next = tokio::time::Instant::now() + SPACING;
        // An entry without a lease behind it would be nobody's.
        let Some(own) = hub.nodes().own() else {
            let _ = tokio::time::timeout(SPACING, hub.nodes().has_lease()).await;
            continue;
        };
        let outcome = match room.next_step(own, Instant::now()) {
            Step::Rest => return,
            Step::Wait => Ok(()),
            Step::Read => {
                let read = async {
                    let _turn = hub.turn().await;
                    room.read_roster(&hub).await
                };
                while_spreading_news(&room, read).await
            }
            Step::Tell(changes) => {
                let tell = async {
                    let _turn = hub.turn().await;
                    room.tell(&hub, own, changes).await
                };
                while_spreading_news(&room, tell).await
            }
        };
        if outcome.is_ok() {
            pause = PAUSE;
            tokio::time::sleep_until(next).await;
        } else {
            rest(&hub, &room, pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }
}

/// Makes a call. News of this node's own members doesn't wait for a broker that hangs.
async fn while_spreading_news<T>(room: &Room, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    loop {
        match tokio::time::timeout(SPACING, &mut call).await {
            Ok(outcome) => return outcome,
            Err(_) => room.spread_news(),
        }
    }
}

/// Rests after a failure, until the broker is back if it was away. News of this node's own members
/// doesn't wait for that.
async fn rest(hub: &Hub, room: &Room, pause: Duration) {
    let (away, end) = (!hub.broker().health().up, Instant::now() + pause);
    while Instant::now() < end {
        tokio::time::sleep(PAUSE).await;
        room.spread_news();
        if away && hub.broker().health().up {
            return;
        }
    }
}
