//! A client as protocol.md wants it: it talks, follows its room, and when it is told to reconnect it
//! comes back once, with `since`, and sends again what was not acked. Whatever a drain may not do to
//! it fails here: a refused handshake, a hole, a double, a close without a word.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::support::connect::Io;
use crate::support::nginx::Nginx;
use crate::support::{Follow, token, within};

/// No single step takes longer, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How clients come to the nodes.
pub(crate) enum Way {
    /// nginx chooses.
    Nginx(Box<Nginx>),
    /// Straight to one of these, as a balancer does that asks `/ready`.
    Direct([SocketAddr; 3]),
}

/// Who a member is and how much it says.
#[derive(Clone)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) room: String,
    /// The address that it connects from.
    pub(crate) from: [u8; 4],
    /// The node that it goes to first, and the one after that; where nginx chooses, nobody asks.
    pub(crate) nodes: [usize; 2],
    /// Between two of its messages, and before the first one.
    pub(crate) pace: (Duration, Duration),
}

/// What the whole company shall do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Talk,
    /// No new messages; what was sent is to be acked.
    Quiet,
    /// Hold what was seen against the room, and end.
    Finish,
}

/// A move to another node.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) told: Instant,
    pub(crate) back: Instant,
    pub(crate) to: String,
}

/// What became of a member.
pub(crate) struct Story {
    pub(crate) first_node: String,
    pub(crate) moves: Vec<Move>,
    pub(crate) acked: usize,
    pub(crate) seen: usize,
}

/// How many members have come how far.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Progress {
    pub(crate) joined: usize,
    pub(crate) moved: usize,
    pub(crate) quiet: usize,
    /// One that failed ends the wait for all.
    pub(crate) failed: usize,
}

/// Says that a member has failed, if it does.
struct Watched(watch::Sender<Progress>);

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send_modify(|progress| progress.failed += 1);
        }
    }
}

/// A connected member.
pub(crate) struct Member {
    profile: Profile,
    way: Arc<Way>,
    ws: WebSocketStream<Box<dyn Io>>,
    node: String,
    follow: Follow,
    unacked: VecDeque<String>,
    sent: usize,
    moves: Vec<Move>,
}

impl Member {
    /// Connects and joins; then does as it is ordered until the end.
    pub(crate) async fn live(
        profile: Profile,
        way: Arc<Way>,
        mut orders: watch::Receiver<Order>,
        progress: watch::Sender<Progress>,
    ) -> Story {
        let _watched = Watched(progress.clone());
        let (ws, node) = connect(&profile, &way, 0).await;
        let follow = Follow::new(&profile.name);
        let mut member = Self {
            profile,
            way,
            ws,
            node,
            follow,
            unacked: VecDeque::new(),
            sent: 0,
            moves: vec![],
        };
        let first_node = member.node.clone();
        member.join(&json!({})).await;
        progress.send_modify(|progress| progress.joined += 1);
        member.talk(&mut orders, &progress).await;
        progress.send_modify(|progress| progress.quiet += 1);
        member.finish(&mut orders).await;
        Story {
            first_node,
            moves: member.moves,
            acked: member.sent,
            seen: member.follow.seen.len(),
        }
    }

    /// Talks until it is told to be quiet and all that it said is acked.
    async fn talk(
        &mut self,
        orders: &mut watch::Receiver<Order>,
        progress: &watch::Sender<Progress>,
    ) {
        let (pace, first) = self.profile.pace;
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + first, pace);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let give_up = Instant::now() + 4 * PATIENCE;
        while *orders.borrow() == Order::Talk || !self.unacked.is_empty() {
            assert!(Instant::now() < give_up, "{}: no end", self.profile.name);
            let talks = *orders.borrow() == Order::Talk;
            tokio::select! {
                event = self.ws.next() => {
                    let moves = self.moves.len();
                    self.take(event).await;
                    progress.send_if_modified(|progress| {
                        progress.moved += self.moves.len() - moves;
                        self.moves.len() > moves
                    });
                }
                _ = tick.tick(), if talks => {
                    let text = format!("{} says {}", self.profile.name, self.sent);
                    self.sent += 1;
                    self.unacked.push_back(text.clone());
                    self.say(&text).await;
                }
                _ = orders.changed(), if talks => {}
            }
        }
    }

    /// Waits for the others, and then asks for the room's newest message: everything up to it was given.
    async fn finish(&mut self, orders: &mut watch::Receiver<Order>) {
        let what = format!("{}: everybody to be quiet", self.profile.name);
        let everyone = within(4 * PATIENCE, &what, async {
            while *orders.borrow() != Order::Finish {
                tokio::select! {
                    event = self.ws.next() => self.take(event).await,
                    _ = orders.changed() => {}
                }
            }
        });
        everyone.await;
        let payload = json!({"roomId": self.profile.room, "limit": 1});
        self.send(&json!({"type": "history", "id": "end", "payload": payload}))
            .await;
        let newest = loop {
            let event = self.event().await;
            if event["id"] == "end" {
                break event["payload"]["seq"].as_u64();
            }
            self.follow.event(&event, &self.profile.room);
        };
        let name = &self.profile.name;
        assert_eq!(self.follow.seq, newest, "{name} misses messages");
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        let own = format!("{name} says ");
        let texts = self.follow.seen.values().map(|(_, text)| text.as_str());
        for text in texts.filter(|text| text.starts_with(&own)) {
            *times.entry(text).or_default() += 1;
        }
        assert_eq!(times.len(), self.sent, "{name}: acked, and not in the room");
        assert!(times.values().all(|n| *n == 1), "{name}: doubled {times:?}");
    }

    async fn take(&mut self, event: Option<Result<Message, impl std::fmt::Display>>) {
        let name = &self.profile.name;
        let event = match event {
            Some(Ok(Message::Text(text))) => serde_json::from_str::<Value>(&text).expect("JSON"),
            Some(Ok(Message::Ping(_))) => return,
            Some(Ok(other)) => panic!("{name} got {other:?} without a word before it"),
            Some(Err(why)) => panic!("{name}'s connection broke: {why}"),
            None => panic!("{name}'s connection ended without a word"),
        };
        match event["type"].as_str() {
            Some("ack") => {
                let id = event["payload"]["clientId"].as_str().expect("a clientId");
                let at = self.unacked.iter().position(|text| text == id);
                self.unacked.remove(at.expect("one ack for each"));
            }
            Some("reconnect") => self.come_back(&event["payload"]).await,
            Some("error") => panic!("{name}: {event}"),
            _ => self.follow.event(&event, &self.profile.room),
        }
    }

    /// It was let go: to another node, once, and on from where it was.
    async fn come_back(&mut self, payload: &Value) {
        let told = Instant::now();
        let name = self.profile.name.clone();
        assert_eq!(payload["reason"], "draining", "{name}");
        let away = payload["delayMs"].as_u64().expect("a delayMs");
        assert!((100..=1_000).contains(&away), "{name}: {away} ms");
        match within(PATIENCE, "the close", self.ws.next()).await {
            Some(Ok(Message::Close(Some(close)))) => assert_eq!(u16::from(close.code), 1001),
            other => panic!("{name}: {other:?} after `reconnect`"),
        }
        // The answer goes out, and the server ends the stream.
        let end = within(PATIENCE, "the end of the stream", self.ws.next()).await;
        assert!(!matches!(end, Some(Ok(_))), "{name}: {end:?}");
        tokio::time::sleep(Duration::from_millis(away)).await;

        let attempt = self.moves.len() + 1;
        let (ws, node) = connect(&self.profile, &self.way, attempt).await;
        assert_ne!(node, self.node, "{name} came back to the draining node");
        (self.ws, self.node) = (ws, node);
        let seq = self.follow.seq.expect("it had joined");
        let last = self.follow.seen.get(&seq).map(|(id, _)| id.clone());
        let recovered = self.join(&json!({"since": {"seq": seq, "id": last}})).await;
        assert_eq!(recovered["recovered"], true, "{name} missed something");
        self.moves.push(Move {
            told,
            back: Instant::now(),
            to: self.node.clone(),
        });
        for text in self.unacked.clone() {
            self.say(&text).await;
        }
    }

    async fn join(&mut self, more: &Value) -> Value {
        let mut payload = json!({"roomId": self.profile.room});
        if let Some(since) = more.get("since") {
            payload["since"] = since.clone();
        }
        self.send(&json!({"type": "join", "id": "join", "payload": payload}))
            .await;
        loop {
            let event = self.event().await;
            assert_ne!(event["type"], "error", "{}: {event}", self.profile.name);
            if event["id"] == "join" {
                self.follow.history(&event["payload"]);
                return event["payload"].clone();
            }
        }
    }

    async fn say(&mut self, text: &str) {
        let payload = json!({"roomId": self.profile.room, "text": text, "clientId": text});
        self.send(&json!({"type": "message", "payload": payload}))
            .await;
    }

    async fn send(&mut self, envelope: &Value) {
        let sent = self.ws.send(Message::text(envelope.to_string()));
        // One that is being let go may find its connection gone; what comes next says whether it was.
        let _ = within(PATIENCE, "a frame to leave", sent).await;
    }

    async fn event(&mut self) -> Value {
        loop {
            match within(PATIENCE, "an event", self.ws.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("JSON"),
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("{}: {other:?}", self.profile.name),
            }
        }
    }
}

/// The `attempt`th connection of a member, at its first try; and the node it is on.
async fn connect(
    profile: &Profile,
    way: &Way,
    attempt: usize,
) -> (WebSocketStream<Box<dyn Io>>, String) {
    let name = &profile.name;
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0);
    let opening = async {
        let addr = match way {
            Way::Nginx(nginx) => nginx.addr,
            Way::Direct(nodes) => nodes[profile.nodes[attempt % 2]],
        };
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from((profile.from, 0)))
            .expect("a loopback address");
        let tcp = socket.connect(addr).await.expect("a TCP connection");
        tcp.set_nodelay(true).expect("nodelay");
        let stream: Box<dyn Io> = match way {
            Way::Nginx(nginx) => nginx.try_over_tls(tcp).await.expect("TLS with nginx"),
            Way::Direct(_) => Box::new(tcp),
        };
        let request = format!("ws://{addr}/?token={}", token(name)).into_client_request();
        let request = request.expect("a URL");
        tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await
    };
    let (mut ws, _) = match within(PATIENCE, "a connection", opening).await {
        Ok(opened) => opened,
        Err(why) => panic!("{name} was refused at attempt {attempt}: {why}"),
    };
    let hello = match within(PATIENCE, "`connected`", ws.next()).await {
        Some(Ok(Message::Text(text))) => serde_json::from_str::<Value>(&text).expect("JSON"),
        other => panic!("{name} got {other:?} first"),
    };
    assert_eq!(hello["type"], "connected", "{name}");
    let node = hello["payload"]["nodeId"].as_str().expect("a nodeId");
    (ws, node.to_owned())
}
