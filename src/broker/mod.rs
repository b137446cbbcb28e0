//! The broker holds the log of every room and tells the nodes what is appended. There are two:
//! [`local`], in this process, for one node; and [`redis`], where many nodes meet. A closed set, so an
//! enum; `tests/broker.rs` holds both to this contract:
//!
//! - **append** takes drafts of one room in order and stores each once, or not at all. A draft whose
//!   `clientId` the same user used in that room within [`REMEMBERED`] is answered with the first one's
//!   mark and stores nothing. All that is stored gets the next places without holes, is trimmed to the
//!   history limit, and is published in the same atomic step: whoever reads the history and whoever
//!   listens can't see different logs.
//! - A draft that **pays** counts into its user's window of sends, over all rooms and nodes, in the same step: see
//!   [`toll`]. Where the window is used up it is [`Outcome::Limited`], stores nothing, and those around it go on.
//!   A send pays once, however often it is tried: one that a former try stored pays nothing. A `clientId` that
//!   is known already costs what any send does.
//! - What is **delivered** for a room comes in the order of its places, as one [`payload`] per append.
//!   A delivery can be missing (a connection broke, a queue was full); then [`Deliver::mend`] is called
//!   before anything later is delivered, or the gap shows in the next payload's `prev`.
//! - **open** returns when every later append will be delivered. What was appended before is read.
//! - **read** sees every append that was answered before it was called.
//! - A room's **roster** holds who is in it: entries set and removed absolutely. A call's changes that have an
//!   effect make the roster's next version and are published with it in the same atomic step; others
//!   make none. See [`crate::presence`].
//! - A **beat** puts an incarnation on the list of nodes and renews its lease. One that was struck off
//!   isn't put on again, and none is struck off whose lease is held.
//! - Who may **enter** is said over all nodes; see [`places`].
//! - A **command** is given to every node that listens, once or not at all.
//! - An error tells which it was: nothing was stored ([`AppendError::Unavailable`],
//!   [`AppendError::Refused`]), or it isn't known ([`AppendError::Lost`]). After `Lost` the same drafts are
//!   tried again with [`Draft::retry`], before anything behind them; the broker then finds out.

pub mod local;
mod online;
pub mod payload;
pub mod places;
pub mod redis;
pub mod toll;

use std::sync::Arc;
use std::time::Duration;

use self::places::{Ask, Entry, Number};
use self::toll::{Block, Pays, Rate};
use crate::config::{BrokerConfig, Config};
use crate::history::{Slice, Span};
use crate::id::{Incarnation, Mark, MessageId, RoomId, Seq, UserId};
use crate::presence::nodes::Beat;
use crate::presence::{Change, Roster};

/// How long a `clientId` is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(600);

/// A node renews a log's life with its first append, and with one whenever the last that did so is that long ago.
pub const RENEWED_WITHIN: Duration = Duration::from_secs(60);

/// So much longer than it is to live idle a log lives after it was renewed: what comes before the next renewal, and
/// gets there late, must live as long as it is to.
pub const MORE_LIFE: Duration = Duration::from_secs(2 * RENEWED_WITHIN.as_secs());

/// A message on its way into the log.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The id of the try under way: an id belongs to one execution of an append.
    pub id: MessageId,
    /// The ids of the tries before, whose answers were lost.
    pub former: Vec<MessageId>,
    /// The sender.
    pub user: UserId,
    /// The sender's own id for it, which makes the send idempotent.
    pub client_id: Option<Box<str>>,
    /// When the node took it, Unix milliseconds.
    pub timestamp: u64,
    /// The envelope from the place on, see [`crate::protocol::message`].
    pub body: Vec<u8>,
    /// What it costs its user now; nothing where it was paid from a block, see [`toll`].
    pub pays: Pays,
}

/// What a node knows of a room that it appends to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The newest message that was known before the first try.
    pub base: Option<Mark>,
    /// The place that the next message probably gets. A wrong one costs a little time and nothing else.
    pub next: Seq,
    /// Whether the log's life is to be renewed; else one that isn't empty lives as long as it would anyway.
    pub renews: bool,
}

impl From<Option<Mark>> for Known {
    /// Where nothing but the newest message is known.
    fn from(base: Option<Mark>) -> Known {
        Known {
            base,
            next: base.map_or(Seq(1), |base| base.seq.next()),
            renews: true,
        }
    }
}

impl Draft {
    /// Makes it ready for another try.
    pub fn retry(&mut self) {
        self.former
            .push(std::mem::replace(&mut self.id, MessageId::random()));
    }
}

/// What became of a draft.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is in the log and was published; by this try or by one before.
    Stored(Mark),
    /// Its `clientId` is known: the first one's mark and timestamp.
    Duplicate(Mark, u64),
    /// Whether a former try stored it can't be known any more.
    Unknowable,
    /// Its user has sent too many: nothing was stored. The window lasts that long still.
    Limited(Duration),
}

impl Outcome {
    /// Where it is in the log, if it is.
    pub fn stored(&self) -> Option<Mark> {
        match self {
            Outcome::Stored(mark) => Some(*mark),
            Outcome::Duplicate(..) | Outcome::Unknowable | Outcome::Limited(_) => None,
        }
    }
}

/// What became of an append's drafts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Of each draft, in order.
    pub outcomes: Vec<Outcome>,
    /// What the drafts that paid brought their users; one for a user at most.
    pub blocks: Vec<Block>,
}

/// Why an append has no outcomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// The broker can't be reached, or takes no writes now: nothing was stored.
    Unavailable,
    /// The broker refused for a reason that trying again won't mend (say, the room's key holds
    /// something else): nothing was stored.
    Refused(String),
    /// The call was sent and no answer came.
    Lost,
}

/// The broker can't be reached now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unavailable;

/// Whom a broker tells. Calls come from one task per subscription and must not block.
pub trait Deliver: Send + Sync + 'static {
    /// What was published to a room; see [`payload`].
    fn deliver(&self, room: &str, payload: &[u8]);
    /// Deliveries may be missing: of one room, or of all.
    fn mend(&self, room: Option<&str>);
    /// What was said to all nodes.
    fn command(&self, command: &[u8]);
}

/// A node's beat.
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// Its incarnation.
    pub own: Incarnation,
    /// Whether it is the incarnation's first.
    pub first: bool,
    /// What the node says of itself, JSON.
    pub about: &'a [u8],
    /// How long the lease lasts from now.
    pub lease: Duration,
    /// Who is dead and to be struck off the list, where their leases have run out.
    pub strike: &'a [Incarnation],
    /// Who came (`true`) and went since the last beat.
    pub users: &'a [(UserId, Arc<str>, bool)],
    /// Whether `users` are all there are.
    pub anew: bool,
}

/// How the broker is, for `/health` and `/ready`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    /// `redis` or `embedded`.
    pub kind: &'static str,
    /// Whether it can be reached.
    pub up: bool,
    /// Age of the last probe that went out through the broker and came back by this node's own
    /// subscription, milliseconds; 0 with the embedded broker.
    pub lag_ms: u64,
}

/// The broker of this node.
pub enum Broker {
    /// In this process.
    Local(local::Local),
    /// Redis.
    Redis(redis::Redis),
}

impl Broker {
    /// Appends drafts of one room.
    pub async fn append(
        &self,
        room: &RoomId,
        drafts: &[Draft],
        known: impl Into<Known>,
        up: &impl Deliver,
    ) -> Result<Appended, AppendError> {
        match self {
            Broker::Local(local) => Ok(local.append(room, drafts, up)),
            Broker::Redis(redis) => redis.append(room, drafts, known.into()).await,
        }
    }

    /// How many messages a user may send; `None`: any number.
    pub fn rate(&self) -> Option<Rate> {
        match self {
            Broker::Local(local) => local.rate(),
            Broker::Redis(redis) => redis.rate(),
        }
    }

    /// Reads a room's history.
    pub async fn read(&self, room: &RoomId, span: Span) -> Result<Slice, Unavailable> {
        match self {
            Broker::Local(local) => Ok(local.read(room, span)),
            Broker::Redis(redis) => redis.read(room, span).await,
        }
    }

    /// Publishes an event that isn't kept. It is dropped where the broker can't be reached. An empty one is
    /// for no client: see [`payload::Payload::Probe`].
    pub fn publish(&self, room: &RoomId, event: &[u8], up: &impl Deliver) {
        match self {
            Broker::Local(_) => up.deliver(room.as_str(), &payload::event(event)),
            Broker::Redis(redis) => redis.publish(room, event),
        }
    }

    /// Changes a room's roster; gives the version that it has after it. The changes are carried out, or not, or
    /// nobody knows: then they are simply made again.
    pub async fn change_roster(
        &self,
        room: &RoomId,
        changes: &[Change],
        up: &impl Deliver,
    ) -> Result<Option<Mark>, Unavailable> {
        match self {
            Broker::Local(local) => Ok(local.change_roster(room, changes, up)),
            Broker::Redis(redis) => redis.change_roster(room, changes).await,
        }
    }

    /// Reads a room's roster.
    pub async fn roster(&self, room: &RoomId) -> Result<Roster, Unavailable> {
        match self {
            Broker::Local(local) => Ok(local.roster(room)),
            Broker::Redis(redis) => redis.roster(room).await,
        }
    }

    /// Renews this node's lease.
    pub async fn beat(&self, renewal: &Renewal<'_>) -> Result<Beat, Unavailable> {
        match self {
            Broker::Local(local) => Ok(local.beat(renewal)),
            Broker::Redis(redis) => redis.beat(renewal).await,
        }
    }

    /// Says something to all nodes; gives how many heard it.
    pub async fn command(&self, command: &[u8], up: &impl Deliver) -> Result<usize, Unavailable> {
        match self {
            Broker::Local(_) => {
                up.command(command);
                Ok(1)
            }
            Broker::Redis(redis) => redis.command(command).await,
        }
    }

    /// Who is connected to those nodes, with their names, each once: the next `max` after `after`, in an order
    /// that stays the same.
    pub async fn online(
        &self,
        nodes: &[Incarnation],
        after: Option<&UserId>,
        max: usize,
    ) -> Result<Vec<(UserId, Arc<str>)>, Unavailable> {
        match self {
            Broker::Local(local) => Ok(local.online(after, max)),
            Broker::Redis(redis) => redis.online(nodes, after, max).await,
        }
    }

    /// Whether other nodes may meet this one here.
    pub fn is_shared(&self) -> bool {
        matches!(self, Broker::Redis(_))
    }

    /// Asks whether they may enter, one after another in one call; see [`places`]. Where nobody else is, they may. An
    /// error of one: whether it is counted and has its places isn't known; the others were judged.
    pub async fn enter(
        &self,
        asks: &[Ask<'_>],
    ) -> Result<Vec<Result<Entry, Unavailable>>, Unavailable> {
        match self {
            Broker::Local(_) => Ok(asks.iter().map(|_| Ok(Entry::ALONE)).collect()),
            Broker::Redis(redis) => redis.enter(asks).await,
        }
    }

    /// Sets numbers of connections; gives who else has some there: the number's place in `numbers`, and whose.
    pub async fn set_numbers(
        &self,
        numbers: &[Number<'_>],
    ) -> Result<Vec<(usize, Incarnation)>, Unavailable> {
        match self {
            Broker::Local(_) => Ok(Vec::new()),
            Broker::Redis(redis) => redis.set_numbers(numbers).await,
        }
    }

    /// Begins to listen to a room.
    pub async fn open(&self, room: &RoomId) -> Result<(), Unavailable> {
        match self {
            Broker::Local(_) => Ok(()),
            Broker::Redis(redis) => redis.open(room).await,
        }
    }

    /// Listens once more to a room of which nothing comes. Does nothing where it was closed meanwhile.
    pub async fn open_again(&self, room: &RoomId) -> Result<(), Unavailable> {
        match self {
            Broker::Local(_) => Ok(()),
            Broker::Redis(redis) => redis.open_again(room).await,
        }
    }

    /// Listens to all rooms anew: of one nothing comes, even after [`Broker::open_again`]. Then
    /// [`Deliver::mend`] is called for all.
    pub fn listen_anew(&self) {
        match self {
            Broker::Local(_) => {}
            Broker::Redis(redis) => redis.listen_anew(),
        }
    }

    /// Stops listening to a room. `open` and `close` take effect in the order of their calls.
    pub fn close(&self, room: &RoomId) {
        match self {
            Broker::Local(_) => {}
            Broker::Redis(redis) => redis.close(room),
        }
    }

    /// Waits until the broker can be reached.
    pub async fn up(&self) {
        match self {
            Broker::Local(_) => {}
            Broker::Redis(redis) => redis.up().await,
        }
    }

    /// How it is.
    pub fn health(&self) -> Health {
        match self {
            Broker::Local(_) => Health {
                kind: "embedded",
                up: true,
                lag_ms: 0,
            },
            Broker::Redis(redis) => redis.health(),
        }
    }
}

/// What has to run for a broker to work: keeps connections up, brings deliveries. Runs until dropped.
pub enum Driver {
    /// Forgets rooms and `clientId`s whose time has come.
    Local,
    /// Connects, reconnects, listens.
    Redis(Box<redis::Driver>),
}

impl Driver {
    /// Runs it for the node that `up` is.
    pub async fn run<D: Deliver + Clone>(self, broker: &Broker, up: D) {
        match (self, broker) {
            (Driver::Redis(driver), _) => driver.run(up).await,
            (Driver::Local, Broker::Local(local)) => local.sweep().await,
            (Driver::Local, Broker::Redis(_)) => {}
        }
    }
}

/// The broker that the configuration asks for, and what has to run for it.
pub fn build(config: &Config) -> Result<(Broker, Driver), String> {
    let keep = local::Keep {
        messages: config.history_limit,
        idle: config.history_ttl,
    };
    let rate = Rate::new(config.rate_limit_messages, config.rate_limit_window);
    match &config.broker {
        BrokerConfig::Embedded => {
            let local = local::Local::new(keep).limited(rate);
            Ok((Broker::Local(local), Driver::Local))
        }
        BrokerConfig::Redis(redis) => {
            let (redis, driver) = redis::build(redis, keep, rate, &config.node_id)?;
            Ok((Broker::Redis(redis), Driver::Redis(Box::new(driver))))
        }
    }
}

/// Tries the configured broker once and says what it found; for `piazza check`.
pub async fn probe(config: &Config) -> Result<String, String> {
    match &config.broker {
        BrokerConfig::Embedded => Ok("embedded broker: this node is alone".to_owned()),
        BrokerConfig::Redis(redis) => redis::probe(redis).await,
    }
}
