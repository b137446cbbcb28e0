//! This node's rooms and connections. A room is opened when somebody joins it and let go some seconds
//! after the last one left; in between it follows the broker's log.
//!
//! - [`room`]: a room's members, its log, what joining and leaving mean
//! - [`log`]: the gate that keeps the log in order; [`tail`]: the bytes behind it
//! - [`outbox`]: sends into the log; [`catchup`]: reads from before the tail
//! - [`roster`]: who is in a room, told to the broker and to the members
//! - [`peer`]: how a connection is woken; `people`: who is connected; [`command`]: what all nodes are told;
//!   `echoes`: how long appends take to come back
//! - `hearing`: whether a room's channel brings what is said in it
//!
//! Lock order: the map of rooms before anything of a room. A room leaves the map only while nobody
//! else holds it, which is exact under the map's lock: new holders come from there alone. So a joiner
//! can't be lost between "nobody is in it" and "let it go".

pub mod catchup;
pub mod command;
#[cfg(test)]
pub(crate) mod driver;
mod echoes;
mod hearing;
pub mod log;
pub mod outbox;
pub mod peer;
mod people;
pub mod room;
pub mod roster;
pub mod tail;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use self::hearing::SECONDS;
use self::peer::Peer;
pub use self::people::Move;
use self::people::People;
use self::room::Room;
use crate::broker::toll::Rate;
use crate::broker::{Broker, Deliver, Unavailable, payload};
use crate::history::{Slice, Span};
use crate::id::{Incarnation, RoomId, UserId};
use crate::limits::messages::{Allowance, Allowances};
use crate::maps;
use crate::presence::Presence;
use crate::presence::nodes::Nodes;
use crate::protocol::Metrics;

/// How long a room without members is kept up.
const LINGER: Duration = Duration::from_secs(5);
/// How often rooms to be let go are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// Rooms that are opened or mended at once.
const LOADS: usize = 64;
/// Rosters that are read at once for who only looks: each may be of a hundred thousand users.
const LOOKS: usize = 4;
/// Between tries to mend a room; doubling, up to the longest.
const MEND_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A handle to this node's rooms and connections.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    metrics: Arc<Metrics>,
    history_limit: usize,
    presence_max: usize,
    rooms: Mutex<HashMap<RoomId, Arc<Room>>>,
    people: Mutex<People>,
    /// How much users may send; `None`: any number.
    allowances: Option<Allowances>,
    nodes: Nodes,
    /// Rooms that lost their last member then, oldest first; each at most once.
    idle: Mutex<VecDeque<(Instant, RoomId)>>,
    /// What was told to the broker is to be told anew; how often so far.
    anew: watch::Sender<u64>,
    loads: Semaphore,
    looks: Semaphore,
    /// Bytes that were read for questions and are kept for others, in all rooms.
    kept: AtomicUsize,
    /// Rooms opened so far: spreads their comparisons over the minute.
    opened: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub without rooms.
    pub fn new(
        broker: Broker,
        metrics: Arc<Metrics>,
        history_limit: usize,
        presence_max: usize,
    ) -> Hub {
        let nodes = match broker {
            Broker::Local(_) => Nodes::alone(),
            Broker::Redis(_) => Nodes::new(),
        };
        Hub {
            inner: Arc::new(Inner {
                allowances: broker.rate().map(Allowances::new),
                broker,
                nodes,
                metrics,
                history_limit,
                presence_max,
                rooms: Mutex::default(),
                people: Mutex::default(),
                idle: Mutex::default(),
                anew: watch::Sender::new(0),
                loads: Semaphore::new(LOADS),
                looks: Semaphore::new(LOOKS),
                kept: AtomicUsize::new(0),
                opened: AtomicUsize::new(0),
            }),
        }
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    /// What is counted and timed.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Reads a room's history, and times it.
    async fn read(&self, room: &RoomId, span: Span) -> Result<Slice, Unavailable> {
        let start = Instant::now();
        let read = self.inner.broker.read(room, span).await?;
        let took = start.elapsed().as_secs_f64();
        self.inner.metrics.reads.observe(took);
        Ok(read)
    }

    /// How many rooms are up.
    pub fn room_count(&self) -> usize {
        lock(&self.inner.rooms).len()
    }

    /// Which nodes live.
    pub fn nodes(&self) -> &Nodes {
        &self.inner.nodes
    }

    fn people(&self) -> MutexGuard<'_, People> {
        lock(&self.inner.people)
    }

    /// How many connections there are.
    pub fn connection_count(&self) -> usize {
        self.people().count()
    }

    /// Enters a connection.
    pub fn connect(&self, peer: Arc<Peer>) {
        self.people().enter(peer);
    }

    /// Removes a connection.
    pub fn disconnect(&self, peer: &Peer) {
        self.people().leave(peer);
    }

    /// Users who came and went since the last call, `max` at most.
    pub fn moves(&self, max: usize) -> Vec<Move> {
        self.people().moves(max)
    }

    /// All users have come anew.
    pub fn all_anew(&self) {
        self.people().all_anew();
    }

    /// How much all nodes let a user send; `None`: any number.
    pub fn rate(&self) -> Option<Rate> {
        self.inner.allowances.as_ref().map(Allowances::rate)
    }

    /// What this node may let that user send; for whoever sends for it, who holds it meanwhile.
    pub fn allowance(&self, user: &UserId) -> Option<Arc<Allowance>> {
        let allowances = self.inner.allowances.as_ref()?;
        Some(allowances.of(user))
    }

    /// The connections that there are, in no order.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.people().peers()
    }

    /// A turn among those that open, mend or tell.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore lives in `self`, and nobody closes it.
        self.inner.loads.acquire().await.ok()
    }

    /// A turn among those that look at rosters of rooms that aren't up here.
    async fn roster_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.looks.acquire().await.ok()
    }

    fn rooms(&self) -> Vec<Arc<Room>> {
        lock(&self.inner.rooms).values().cloned().collect()
    }

    /// Of how many rooms this node is the first that has somebody in them: added up over all nodes, that
    /// counts each room once.
    pub fn rooms_led(&self) -> usize {
        let Some(own) = self.nodes().own() else {
            return 0;
        };
        let leads = |room: &&Arc<Room>| {
            room.look(|presence| presence.members().is_led_by(own, self.nodes()))
        };
        self.rooms().iter().filter(leads).count()
    }

    /// Removes what the dead left.
    pub fn bury(&self, dead: &[Incarnation]) {
        for room in self.rooms() {
            room.on_roster(self, |presence| {
                dead.iter().for_each(|dead| presence.bury(*dead));
            });
        }
    }

    /// More is known of who lives: reads the rosters again that it matters for.
    pub fn reconsider_rosters(&self) {
        for room in self.rooms() {
            room.on_roster(self, Presence::reconsider);
        }
    }

    /// Changes whenever the broker may have lost what this node told it, or counts it for nobody any more.
    pub fn anew(&self) -> watch::Receiver<u64> {
        self.inner.anew.subscribe()
    }

    fn tell_anew(&self) {
        self.inner.anew.send_modify(|times| *times += 1);
    }

    /// Asserts everything in all rosters again.
    pub fn assert_rosters(&self) {
        self.tell_anew();
        for room in self.rooms() {
            room.on_roster(self, Presence::assert);
        }
    }

    /// The room of that id; begins to open it if it isn't up.
    pub fn room(&self, id: &RoomId) -> Arc<Room> {
        let mut rooms = lock(&self.inner.rooms);
        if let Some(room) = rooms.get(id) {
            return room.clone();
        }
        let inner = &self.inner;
        let nth = inner.opened.fetch_add(1, Ordering::Relaxed);
        let second = (nth % usize::from(SECONDS)) as u8;
        let (limit, presence_max) = (inner.history_limit, inner.presence_max);
        let room = Arc::new(Room::new(id.clone(), limit, presence_max, second));
        rooms.insert(id.clone(), room.clone());
        drop(rooms);
        tokio::spawn(open(self.clone(), room.clone()));
        room
    }

    /// The room of that id, if it is up.
    pub fn room_if_up(&self, id: &str) -> Option<Arc<Room>> {
        lock(&self.inner.rooms).get(id).cloned()
    }

    /// Notes that nobody is left in a room.
    pub fn emptied(&self, room: &Room) {
        if !room.may_go.swap(true, Ordering::AcqRel) {
            lock(&self.inner.idle).push_back((Instant::now(), room.id.clone()));
        }
    }

    /// Lets go of rooms without members and of users who are gone, once a second and without end.
    pub async fn sweep(&self) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            if let Some(allowances) = &self.inner.allowances {
                allowances.sweep(Instant::now());
            }
            while let Some(id) = self.next_idle() {
                self.let_go(&id);
            }
        }
    }

    fn next_idle(&self) -> Option<RoomId> {
        let mut idle = lock(&self.inner.idle);
        let due = idle
            .front()
            .is_some_and(|(since, _)| since.elapsed() >= LINGER);
        if due {
            let next = idle.pop_front().map(|(_, id)| id);
            if idle.is_empty() {
                *idle = VecDeque::new();
            }
            next
        } else {
            None
        }
    }

    fn let_go(&self, id: &RoomId) {
        let mut rooms = lock(&self.inner.rooms);
        let Some(room) = rooms.get(id) else { return };
        // Cleared before looking: who empties it from now on puts it on the list again.
        room.may_go.store(false, Ordering::Release);
        if !room.is_empty() {
            return;
        }
        if Arc::strong_count(room) > 1 {
            // Somebody joins just now, or something is still on its way: look again later.
            self.emptied(room);
            return;
        }
        self.take_out(&mut rooms, id);
    }

    /// Takes a room out of the map. Under its lock, so that the closing can't overtake the opening of the next room
    /// of that id.
    fn take_out(&self, rooms: &mut HashMap<RoomId, Arc<Room>>, id: &RoomId) {
        rooms.remove(id);
        maps::fit(rooms);
        self.inner.broker.close(id);
    }

    /// Takes a room that couldn't be opened out of the map, if it is still that one.
    fn discard(&self, room: &Arc<Room>) {
        let mut rooms = lock(&self.inner.rooms);
        if rooms
            .get(&room.id)
            .is_some_and(|current| Arc::ptr_eq(current, room))
        {
            self.take_out(&mut rooms, &room.id);
        }
        drop(rooms);
        room.fail();
    }

    /// Lets go of a room that can't be mended and that nobody is in: the next one opens it anew. Only the
    /// map and the mending task hold it, which is exact under the map's lock; so nobody joins it meanwhile.
    fn let_go_unmended(&self, room: &Arc<Room>) -> bool {
        let mut rooms = lock(&self.inner.rooms);
        let unused = Arc::strong_count(room) == 2 && room.is_empty();
        if unused {
            self.take_out(&mut rooms, &room.id);
        }
        unused
    }

    fn start_mending(&self, room: Arc<Room>) {
        self.inner.metrics.mends.inc();
        let hub = self.clone();
        tokio::spawn(async move { hub.load(&room).await });
    }

    /// Reads a room's history until its log is whole. One such task runs per room: the gate says when
    /// one must start, and no other starts before it says that it is whole again.
    async fn load(&self, room: &Arc<Room>) {
        let mut pause = MEND_PAUSE;
        loop {
            let turn = self.turn().await;
            // Nobody else moves the gate while it waits for what is read: a room that is up is read from
            // its newest on only where its log can't go on from what it has.
            let (opening, span) = (room.is_opening(), room.wanted());
            let anew = !opening && matches!(span, Span::Newest(_));
            let read = self.read(&room.id, span).await;
            drop(turn);
            match read {
                Ok(slice) => {
                    self.inner.metrics.resets.inc_by(anew.into());
                    if room.loaded(&slice) {
                        return;
                    }
                }
                Err(_) if room.is_opening() => return self.discard(room),
                Err(_) if self.let_go_unmended(room) => return,
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    self.inner.broker.up().await;
                }
            }
        }
    }
}

/// Listens first and reads then, so that nothing falls in between.
async fn open(hub: Hub, room: Arc<Room>) {
    match hub.broker().open(&room.id).await {
        Ok(()) => {
            // Whoever joins shall find the others. Where it can't be read now, it is read as soon as it can.
            let turn = hub.turn().await;
            let _ = room.read_roster(&hub).await;
            drop(turn);
            room.begin_telling(&hub);
            hub.load(&room).await;
        }
        Err(_) => hub.discard(&room),
    }
    // Whoever asked for it may be gone by now.
    if room.is_empty() {
        hub.emptied(&room);
    }
}

impl Deliver for Hub {
    fn deliver(&self, room: &str, payload: &[u8]) {
        let Some(room) = self.room_if_up(room) else {
            return;
        };
        room.ear.hear();
        if payload::is_roster(payload) {
            return room.deliver_roster(payload, self);
        }
        let mend = room.deliver(payload);
        if let Some(took) = room.echoes.came(payload) {
            self.inner.metrics.deliveries.observe(took.as_secs_f64());
        }
        if mend {
            self.start_mending(room);
        }
    }

    fn command(&self, command: &[u8]) {
        self.carry_out(command);
    }

    fn mend(&self, room: Option<&str>) {
        let rooms: Vec<Arc<Room>> = match room {
            Some(id) => self.room_if_up(id).into_iter().collect(),
            None => {
                // The broker may have forgotten what the others entered; they will enter it again.
                self.nodes().fault(Instant::now());
                self.tell_anew();
                self.rooms()
            }
        };
        for room in rooms {
            if room.distrust() {
                self.start_mending(room.clone());
            }
            room.on_roster(self, Presence::assert);
        }
    }
}
