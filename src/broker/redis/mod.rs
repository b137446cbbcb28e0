//! Redis as the broker: one list per room is its log, one script per append (`link` keeps the
//! connection, `append.lua` is the step), one subscription per node (`inbox`), one hash per room is its
//! roster (`roster`), one set holds the nodes (`nodes`).
//!
//! The client library's own retries are not used: a failed call is repeated by whoever sent it,
//! before anything behind it.

mod answer;
mod inbox;
mod keys;
mod link;
mod nodes;
mod places;
mod roster;
mod script;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::{
    Client, Cmd, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    RedisError, Value,
};
use tokio::sync::{mpsc, oneshot};

use self::inbox::{Inbox, Order};
use self::keys::Keys;
use self::link::{Link, Links, answered};
use self::script::Script;
use super::local::Keep;
use super::{
    AppendError, Appended, Deliver, Draft, Health, Known, MORE_LIFE, REMEMBERED, Unavailable,
    payload,
};
use crate::broker::toll::{Pays, Rate};
use crate::config::RedisConfig;
use crate::history::{Slice, Span};
use crate::id::{Mark, MessageId, NodeId, RoomId, Seq};
use crate::protocol::message;

/// Events that may wait to be published; more are dropped, as events that aren't kept may be.
const EVENTS: usize = 1_024;
/// Events that go in one call.
const EVENTS_A_CALL: usize = 64;
/// Most calls of scripts have no more arguments, and no more bytes of them: no buffer grows while one is made.
const USUAL_ARGUMENTS: usize = 24;
const USUAL_BYTES: usize = 2_048;

/// This node's way to Redis. All methods may be called from any task.
pub struct Redis {
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    events: mpsc::Sender<(RoomId, Vec<u8>)>,
}

/// What has to run for it.
pub struct Driver {
    shared: Arc<Shared>,
    client: Client,
    orders: mpsc::UnboundedReceiver<Order>,
    events: mpsc::Receiver<(RoomId, Vec<u8>)>,
}

struct Shared {
    keys: Keys,
    keep: Keep,
    rate: Option<Rate>,
    /// The channel of this node's probes.
    probe: String,
    /// The channel of what is said to all nodes.
    commands: String,
    links: Links,
    listening: AtomicBool,
    /// Something is published that doesn't come over the subscription, though probes do.
    silent: AtomicBool,
}

fn client(config: &RedisConfig) -> Result<Client, RedisError> {
    let mut login = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(config.db.into());
    if let Some(username) = &config.username {
        login = login.set_username(username);
    }
    if let Some(password) = &config.password {
        login = login.set_password(password.expose());
    }
    let (host, port) = (config.host.clone(), config.port);
    let address = if config.tls {
        // Trusts what the system trusts, or the file that SSL_CERT_FILE names, read anew at each connect.
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let info = address.into_connection_info()?;
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Client::open(info.set_tcp_settings(tcp).set_redis_settings(login))
}

/// The way to the configured Redis, and what has to run for it. Connects to nothing yet.
pub fn build(
    config: &RedisConfig,
    keep: Keep,
    rate: Option<Rate>,
    node: &NodeId,
) -> Result<(Redis, Driver), String> {
    let client = client(config).map_err(|error| error.to_string())?;
    let keys = Keys::new(&config.prefix);
    let (probe, commands) = (keys.probe(node), keys.commands());
    let shared = Arc::new(Shared {
        keys,
        keep,
        rate,
        probe,
        commands,
        links: Links::new(),
        listening: AtomicBool::new(false),
        silent: AtomicBool::new(false),
    });
    let (orders, orders_in) = mpsc::unbounded_channel();
    let (events, events_in) = mpsc::channel(EVENTS);
    let driver = Driver {
        shared: shared.clone(),
        client,
        orders: orders_in,
        events: events_in,
    };
    Ok((
        Redis {
            shared,
            orders,
            events,
        },
        driver,
    ))
}

/// Connects once and says what it found.
pub async fn probe(config: &RedisConfig) -> Result<String, String> {
    let failed = |error: RedisError| format!("Redis at {}: {error}", config.address());
    let client = client(config).map_err(failed)?;
    let settings = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(link::CONNECT_TIMEOUT))
        .set_response_timeout(Some(link::ANSWER_TIMEOUT));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&settings)
        .await
        .map_err(failed)?;
    let start = Instant::now();
    let info: String = redis::cmd("INFO")
        .query_async(&mut connection)
        .await
        .map_err(failed)?;
    let took = start.elapsed();
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or("unknown")
            .to_owned()
    };
    Ok(format!(
        "Redis {} at {} answers in {:.1} ms ({}, append-only file {}, eviction {})",
        field("redis_version"),
        config.address(),
        took.as_secs_f64() * 1e3,
        field("role"),
        if field("aof_enabled") == "1" {
            "on"
        } else {
            "off"
        },
        field("maxmemory_policy"),
    ))
}

impl Driver {
    /// Keeps both connections up and brings deliveries; runs until dropped.
    pub async fn run<D: Deliver + Clone>(self, up: D) {
        let Driver {
            shared,
            client,
            orders,
            events,
        } = self;
        let inbox = Inbox {
            shared: shared.clone(),
            client: client.clone(),
            orders,
            up,
            rooms: HashSet::new(),
        };
        tokio::join!(
            shared.links.keep(&client, &shared.probe),
            inbox.run(),
            publish_events(&shared, events)
        );
    }
}

async fn publish_events(shared: &Shared, mut events: mpsc::Receiver<(RoomId, Vec<u8>)>) {
    let mut batch = Vec::with_capacity(EVENTS_A_CALL);
    while events.recv_many(&mut batch, EVENTS_A_CALL).await > 0 {
        let mut call = redis::pipe();
        for (room, event) in batch.drain(..) {
            call.cmd("PUBLISH")
                .arg(shared.keys.channel(&room))
                .arg(payload::event(&event))
                .ignore();
        }
        if let Some(mut link) = shared.links.current() {
            let sent: Result<(), RedisError> = call.query_async(&mut link.connection).await;
            sent.unwrap_or_else(|error| shared.note(&link, &error));
        }
    }
}

impl Shared {
    /// Gives the link up where the error is its, and not Redis' own word.
    fn note(&self, link: &Link, error: &RedisError) {
        if !answered(error) {
            self.links.failed(link);
        }
    }

    /// Calls a script by its name; where Redis has forgotten it (and so has done nothing), by its text.
    /// `fill` adds the keys and arguments.
    async fn call(
        &self,
        link: &mut Link,
        script: Script,
        fill: impl Fn(&mut Cmd),
    ) -> Result<Value, RedisError> {
        let by = |verb: &str, script: &str| {
            let mut call = Cmd::with_capacity(USUAL_ARGUMENTS, USUAL_BYTES);
            call.arg(verb).arg(script);
            fill(&mut call);
            call
        };
        let call = by("EVALSHA", link.name(script));
        let answer = match call.query_async(&mut link.connection).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                let call = by("EVAL", script.text());
                call.query_async(&mut link.connection).await
            }
            answer => answer,
        };
        answer.inspect_err(|error| self.note(link, error))
    }
}

impl Redis {
    /// Calls a script over the current link.
    async fn call(&self, script: Script, fill: impl Fn(&mut Cmd)) -> Result<Value, RedisError> {
        match self.shared.links.current() {
            Some(mut link) => self.shared.call(&mut link, script, fill).await,
            None => Err((redis::ErrorKind::Io, "not connected").into()),
        }
    }

    /// See [`super::Broker::append`].
    pub async fn append(
        &self,
        room: &RoomId,
        drafts: &[Draft],
        known: Known,
    ) -> Result<Appended, AppendError> {
        let Some(mut link) = self.shared.links.current() else {
            return Err(AppendError::Unavailable);
        };
        let fill = |call: &mut Cmd| self.fill_append(call, room, drafts, known);
        match self.shared.call(&mut link, Script::Append, fill).await {
            Ok(answer) => answer::appended(&answer, drafts).ok_or_else(|| {
                AppendError::Refused("Redis gave an answer of unknown form".to_owned())
            }),
            Err(error) => Err(self.append_error(room, &error)),
        }
    }

    fn fill_append(&self, call: &mut Cmd, room: &RoomId, drafts: &[Draft], known: Known) {
        let keys = &self.shared.keys;
        let named: Vec<String> = drafts
            .iter()
            .filter_map(|draft| Some(keys.sent(room, &draft.user, draft.client_id.as_deref()?)))
            .collect();
        // Without a rate nobody pays, whatever a draft says.
        let rate = self.shared.rate;
        let pays = |draft: &&Draft| draft.pays != Pays::Nothing && rate.is_some();
        let paying = drafts.iter().filter(pays).count();
        call.arg(1 + named.len() + paying)
            .arg(keys.history(room))
            .arg(&named);
        for draft in drafts.iter().filter(pays) {
            call.arg(keys.rate(&draft.user));
        }
        let life = self.shared.keep.idle + MORE_LIFE;
        let life = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        call.arg(keys.channel(room))
            .arg(self.shared.keep.messages)
            .arg(if known.renews { life } else { -life })
            .arg(known.next.0)
            .arg(drafts.len());
        let mut entry = Vec::new();
        for (seq, draft) in (known.next.0..).map(Seq).zip(drafts) {
            entry.clear();
            message::put_entry(&mut entry, Mark { seq, id: draft.id }, &draft.body);
            call.arg(&entry[..]);
        }
        let is_special = |draft: &Draft| draft.client_id.is_some() || !draft.former.is_empty();
        if paying == 0 && !drafts.iter().any(is_special) {
            return;
        }
        call.arg(REMEMBERED.as_secs())
            .arg(known.base.map_or(0, |base| base.seq.0))
            .arg(known.base.as_ref().map_or("", |base| base.id.as_str()))
            .arg(
                drafts
                    .iter()
                    .filter(|draft| !draft.former.is_empty())
                    .count(),
            )
            .arg(paying);
        if let Some(rate) = rate.filter(|_| paying > 0) {
            call.arg(rate.limit).arg(millis(rate.window));
            let numbered = drafts.iter().enumerate();
            for (nth, draft) in numbered.filter(|(_, draft)| pays(draft)) {
                let with_block = draft.pays == Pays::WithBlock;
                call.arg(format!("{nth}{}", if with_block { "b" } else { "" }));
            }
        }
        let mut key = 1;
        let mut value = String::new();
        for (nth, draft) in (1..).zip(drafts).filter(|(_, draft)| is_special(draft)) {
            key += usize::from(draft.client_id.is_some());
            let former: Vec<&str> = draft.former.iter().map(MessageId::as_str).collect();
            value.clear();
            // A string takes all.
            let _ = write!(
                value,
                "{} {} {}",
                known.next.0 + nth - 1,
                draft.id,
                draft.timestamp
            );
            call.arg(nth)
                .arg(&value)
                .arg(draft.client_id.as_ref().map_or(0, |_| key))
                .arg(former.join(" "));
        }
    }

    fn append_error(&self, room: &RoomId, error: &RedisError) -> AppendError {
        if !answered(error) {
            return AppendError::Lost;
        }
        tracing::warn!(%room, %error, "Redis refused an append");
        match error.code() {
            Some("CORRUPT" | "WRONGTYPE") => AppendError::Refused(error.to_string()),
            _ => AppendError::Unavailable,
        }
    }

    /// See [`super::Broker::rate`].
    pub fn rate(&self) -> Option<Rate> {
        self.shared.rate
    }

    /// See [`super::Broker::read`].
    pub async fn read(&self, room: &RoomId, span: Span) -> Result<Slice, Unavailable> {
        let mut link = self.shared.links.current().ok_or(Unavailable)?;
        let (mode, from, max) = match span {
            Span::Newest(max) => ("newest", Seq::ZERO, max),
            Span::From(from, max) => ("from", from, max),
        };
        let fill = |call: &mut Cmd| {
            // Lua's numbers are exact up to 2^53; no list is as long as this bound.
            call.arg(1)
                .arg(self.shared.keys.history(room))
                .arg(mode)
                .arg(from.0)
                .arg(max.min(1 << 30));
        };
        let answer = self.shared.call(&mut link, Script::Read, fill).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%room, %error, "can't read a room's history");
            Unavailable
        })?;
        answer::slice(answer).ok_or_else(|| {
            tracing::error!(%room, "the room's list holds something that is no message");
            Unavailable
        })
    }

    /// See [`super::Broker::publish`].
    pub fn publish(&self, room: &RoomId, event: &[u8]) {
        let _ = self.events.try_send((room.clone(), event.to_vec()));
    }

    /// See [`super::Broker::open`].
    pub async fn open(&self, room: &RoomId) -> Result<(), Unavailable> {
        self.order(|done| Order::Open(room.clone(), done)).await
    }

    /// See [`super::Broker::open_again`].
    pub async fn open_again(&self, room: &RoomId) -> Result<(), Unavailable> {
        self.order(|done| Order::Again(room.clone(), done)).await
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), Unavailable>>) -> Order,
    ) -> Result<(), Unavailable> {
        let (done, answer) = oneshot::channel();
        self.orders.send(order(done)).map_err(|_| Unavailable)?;
        answer.await.unwrap_or(Err(Unavailable))
    }

    /// See [`super::Broker::listen_anew`].
    pub fn listen_anew(&self) {
        self.shared.silent.store(true, Ordering::Relaxed);
    }

    /// See [`super::Broker::close`].
    pub fn close(&self, room: &RoomId) {
        let _ = self.orders.send(Order::Close(room.clone()));
    }

    /// See [`super::Broker::up`].
    pub async fn up(&self) {
        self.shared.links.up().await;
    }

    /// See [`super::Broker::health`].
    pub fn health(&self) -> Health {
        let up =
            self.shared.links.current().is_some() && self.shared.listening.load(Ordering::Relaxed);
        Health {
            kind: "redis",
            up,
            lag_ms: self.shared.links.lag_ms(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
