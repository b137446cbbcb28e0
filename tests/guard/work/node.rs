//! A node without sockets: its hub, and sessions that are given what clients would say, and asked for what
//! clients would be given, as the task of a connection does.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use piazza::auth::{Identity, Verifier};
use piazza::broker::payload;
use piazza::broker::toll::Pays;
use piazza::broker::{self, Broker, Draft};
use piazza::config::Config;
use piazza::connection::Handler;
use piazza::connection::refresh::Pass;
use piazza::connection::session::{Bounds, Session};
use piazza::connection::wire::{Incoming, Outflow};
use piazza::hub::Hub;
use piazza::hub::peer::Peer;
use piazza::id::{Incarnation, Mark, MessageId, RoomId, Seq, UserId};
use piazza::protocol::request::Limits;
use piazza::protocol::{Metrics, message};
use tokio::runtime::Runtime;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes that are copied for one write.
const WRITE: usize = 64 * 1024;
/// What somebody says.
pub(crate) const TEXT: &str = "Good morning! Is the room free at ten?";
/// Bytes of the answer to a join, at least.
const JOINED: usize = 80;

/// A node.
pub(crate) struct Node {
    pub(crate) runtime: Runtime,
    pub(crate) hub: Hub,
    verifier: Verifier,
    bounds: Arc<Bounds>,
}

impl Node {
    /// A node that is alone. In rooms of more than `told` users, joins and leaves aren't told.
    pub(crate) fn alone(told: usize) -> Node {
        Node::new(told, None)
    }

    /// One with that Redis, ready.
    pub(crate) fn with_redis(url: &str) -> Node {
        let node = Node::new(500, Some(url));
        node.wait(async {
            while !node.hub.broker().health().up {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        node
    }

    fn new(told: usize, redis: Option<&str>) -> Node {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = Config::read(&|name| match name {
            "RATE_LIMIT_MESSAGES" => Some("0".to_owned()),
            "JWT_SECRET" => Some("a secret of at least 32 bytes, for tests".to_owned()),
            "REDIS_URL" => redis.map(str::to_owned),
            _ => None,
        });
        let config = config.unwrap();
        let (broker, driver) = broker::build(&config).unwrap();
        assert_eq!(matches!(broker, Broker::Redis(_)), redis.is_some());
        let metrics = Arc::new(Metrics::new().unwrap());
        let hub = Hub::new(broker, metrics, config.history_limit, told);
        if redis.is_some() {
            // No beats: nobody else is there, and they would be counted now and then.
            hub.nodes().begin(Incarnation::random(), Instant::now());
            let hub = hub.clone();
            runtime.spawn(async move { driver.run(hub.broker(), hub.clone()).await });
        }
        Node {
            runtime,
            hub,
            verifier: Verifier::new(&config.jwt),
            bounds: Arc::new(Bounds {
                request: Limits {
                    max_text: config.max_text,
                    history: config.history_limit,
                },
                rooms: 200,
                rate: None,
            }),
        }
    }

    /// Lets the node's tasks run until that is done.
    pub(crate) fn wait<T>(&self, done: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(LIMIT, done).await };
        self.runtime.block_on(limited).expect("it takes too long")
    }

    /// Lets the tasks that tell of comings and goings do all they have.
    pub(crate) fn settle(&self, rooms: &[RoomId]) {
        self.wait(async {
            for room in rooms {
                let busy = || {
                    let room = self.hub.room_if_up(room.as_str());
                    room.is_some_and(|room| room.look(|presence| presence.has_work()))
                };
                tokio::task::yield_now().await;
                while busy() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
    }

    /// A connection of user `nth`.
    pub(crate) fn connect(&self, nth: usize) -> Client {
        let identity = Identity {
            user: UserId::parse(&format!("user-{nth}")).unwrap(),
            username: "Somebody".into(),
            expires_at: 4_000_000_000,
            grants: Default::default(),
            role: Default::default(),
        };
        let peer = Arc::new(Peer::new(&identity));
        let pass = Pass::new(identity, self.verifier.clone());
        Client {
            session: Session::new(self.hub.clone(), peer, pass, self.bounds.clone()),
        }
    }

    /// So many connections, from that user on, all in these rooms.
    pub(crate) fn members(&self, from: usize, count: usize, rooms: &[RoomId]) -> Vec<Client> {
        let mut out = Vec::new();
        let join = |nth| {
            let mut client = self.connect(nth);
            rooms.iter().for_each(|room| client.join(room, &mut out));
            self.wait(client.joined(rooms.len(), &mut out));
            client
        };
        let members = (from..from + count).map(join).collect();
        self.settle(rooms);
        members
    }
}

/// A connection without a socket.
pub(crate) struct Client {
    session: Session,
}

impl Client {
    /// It says something.
    pub(crate) fn say(&mut self, request: &str, out: &mut Vec<u8>) {
        let request = Incoming::Text(request.as_bytes());
        self.session.message(request, out);
    }

    pub(crate) fn join(&mut self, room: &RoomId, out: &mut Vec<u8>) {
        let join = format!(r#"{{"type":"join","payload":{{"roomId":"{room}"}}}}"#);
        self.say(&join, out);
    }

    /// Takes what there is for it, as a socket that takes everything. How many bytes that were.
    pub(crate) fn take(&mut self, out: &mut Vec<u8>) -> usize {
        let bits = self.session.dirty(Waker::noop());
        self.turn(bits, out)
    }

    fn turn(&mut self, bits: u64, out: &mut Vec<u8>) -> usize {
        let mut taken = 0;
        assert!(self.session.woken(bits).is_none());
        loop {
            while self.session.has_work() {
                assert!(self.session.work(out).is_none());
            }
            let replies = out.len();
            let more = self.session.fill(out, WRITE);
            let filled = out.len() - replies;
            self.session.settle(&out[replies..], filled, false);
            taken += out.len();
            out.clear();
            if !more && !self.session.has_work() {
                return taken;
            }
        }
    }

    /// Waits until it is woken, and takes what there is.
    pub(crate) async fn hear(&mut self, out: &mut Vec<u8>) -> usize {
        let bits = poll_fn(|cx| match self.session.dirty(cx.waker()) {
            0 => Poll::Pending,
            bits => Poll::Ready(bits),
        });
        let bits = bits.await;
        self.turn(bits, out)
    }

    /// Waits until it was answered that it is in so many rooms more.
    pub(crate) async fn joined(&mut self, rooms: usize, out: &mut Vec<u8>) {
        self.given(rooms * JOINED, out).await;
    }

    /// Waits until it was given so many bytes and all its sends are answered.
    pub(crate) async fn given(&mut self, bytes: usize, out: &mut Vec<u8>) -> usize {
        let mut taken = self.take(out);
        // What was answered at once is in `out`, and taken with the rest.
        while taken < bytes || self.session.is_owed() {
            taken += self.hear(out).await;
        }
        taken
    }
}

/// A room of that name.
pub(crate) fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

/// The rooms `0..count` of a kind.
pub(crate) fn rooms(kind: &str, count: usize) -> Vec<RoomId> {
    (0..count)
        .map(|nth| room(&format!("{kind}-{nth}")))
        .collect()
}

/// What follows the place in a message of ordinary length.
pub(crate) fn body(room: &RoomId, text: &str) -> Vec<u8> {
    let user = UserId::parse("user-1").unwrap();
    let content = message::Content {
        room_id: room,
        user_id: &user,
        username: "Somebody",
        text,
        timestamp: 1_700_000_000_000,
        client_id: None,
        reply_to: None,
    };
    content.body()
}

/// A message of that text on its way into a room.
pub(crate) fn draft(room: &RoomId, text: &str) -> Draft {
    Draft {
        id: MessageId::random(),
        former: Vec::new(),
        user: UserId::parse("user-1").unwrap(),
        client_id: None,
        timestamp: 1_700_000_000_000,
        body: body(room, text),
        pays: Pays::Nothing,
    }
}

/// A broker's log of one room, as its payloads.
pub(crate) struct Source {
    head: Option<Mark>,
    body: Vec<u8>,
}

impl Source {
    pub(crate) fn new(room: &RoomId) -> Source {
        Source {
            head: None,
            body: body(room, TEXT),
        }
    }

    /// The next message as it is stored.
    pub(crate) fn entry(&mut self) -> Vec<u8> {
        let seq = self.head.map_or(Seq(1), |head| head.seq.next());
        let mark = Mark {
            seq,
            id: MessageId::random(),
        };
        self.head = Some(mark);
        message::entry(mark, &self.body)
    }

    /// The payload of an append of so many.
    pub(crate) fn batch(&mut self, count: usize) -> Vec<u8> {
        let prev = self.head.map(|head| head.id);
        let entries: Vec<Vec<u8>> = (0..count).map(|_| self.entry()).collect();
        payload::messages(prev, entries.iter().map(|entry| &entry[..]))
    }

    /// The next payload.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        self.batch(1)
    }

    pub(crate) fn payloads(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.next()).collect()
    }
}
