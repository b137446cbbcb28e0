//! A chat client on tungstenite's client side: another codec than a hand-made one, and the same for
//! all tests. It keeps what it received and nobody has asked for yet.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::Response;

use super::connect::Io;
use super::{Connect, Node, SOON, secrets, token, within};

/// A connected client.
pub struct Client {
    /// The payload of its `connected` event.
    pub connected: Value,
    /// What the server selected of the offered subprotocols.
    pub subprotocol: Option<String>,
    /// Pings of the server so far, each answered.
    pub pings: usize,
    name: String,
    ws: WebSocketStream<Box<dyn Io>>,
    unread: VecDeque<Value>,
    received: VecDeque<String>,
    requests: usize,
    closed: Option<Option<u16>>,
}

impl Client {
    /// A client on this WebSocket, once it has the `connected` event.
    pub async fn greeted(ws: WebSocketStream<Box<dyn Io>>, response: &Response) -> Self {
        let selected = response.headers().get("sec-websocket-protocol");
        let mut client = Self {
            connected: Value::Null,
            subprotocol: selected.map(|value| value.to_str().expect("text").to_owned()),
            pings: 0,
            name: "a client".into(),
            ws,
            unread: VecDeque::new(),
            received: VecDeque::new(),
            requests: 0,
            closed: None,
        };
        let hello = client.next().await;
        assert_eq!(hello["type"], "connected", "the first event: {hello}");
        client.connected = hello["payload"].clone();
        client.name = client.connected["userId"].to_string();
        client
    }

    /// Connects as this user, with `?token=`.
    pub async fn of(node: &Node, user: &str) -> Self {
        Connect::to(node).token(&token(user)).open().await
    }

    /// The same, and joins the room.
    pub async fn in_room(node: &Node, user: &str, room: &str) -> Self {
        let mut client = Self::of(node, user).await;
        client.join(room).await;
        client
    }

    /// Its user's id.
    pub fn user(&self) -> &str {
        self.connected["userId"].as_str().expect("a userId")
    }

    /// The id of the node that it is on.
    pub fn node_id(&self) -> &str {
        self.connected["nodeId"].as_str().expect("a nodeId")
    }

    /// Sends an envelope without an `id`.
    pub async fn send(&mut self, kind: &str, payload: Value) {
        self.send_text(json!({"type": kind, "payload": payload}).to_string())
            .await;
    }

    /// Sends this very text in a text frame.
    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.send_frame(Message::text(text.into())).await;
    }

    /// Sends this very WebSocket message, or frame.
    pub async fn send_frame(&mut self, frame: Message) {
        if let Message::Text(text) = &frame {
            secrets::note_text_of(text);
        }
        let sent = within(SOON, &format!("{} to send", self.name), self.ws.send(frame)).await;
        sent.unwrap_or_else(|e| panic!("{} can't send: {e}\n{}", self.name, self.transcript()));
    }

    /// Sends, unless the connection is gone by now; whether it could.
    pub async fn try_send(&mut self, kind: &str, payload: Value) -> bool {
        let text = json!({"type": kind, "payload": payload}).to_string();
        secrets::note_text_of(&text);
        let sent = tokio::time::timeout(SOON, self.ws.send(Message::text(text))).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Sends many texts with one write.
    pub async fn send_all(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            secrets::note_text_of(&text);
            let fed = within(SOON, "room to write", self.ws.feed(Message::text(text))).await;
            fed.unwrap_or_else(|e| panic!("{} can't send: {e}", self.name));
        }
        within(SOON, "the flush", self.ws.flush())
            .await
            .expect("flushed");
    }

    /// Sends a request with an `id` and returns the reply that carries it: the whole envelope.
    pub async fn request(&mut self, kind: &str, payload: Value) -> Value {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        self.send_text(json!({"type": kind, "id": id, "payload": payload}).to_string())
            .await;
        self.find(SOON, &format!("the reply {id} to {kind}"), |event| {
            event["id"] == id
        })
        .await
    }

    /// Joins, and returns the payload of the `history` reply.
    #[allow(clippy::should_implement_trait)]
    pub async fn join(&mut self, room: &str) -> Value {
        let reply = self.request("join", json!({"roomId": room})).await;
        assert_eq!(
            reply["type"], "history",
            "{} joins {room}: {reply}",
            self.name
        );
        reply["payload"].clone()
    }

    /// Leaves, with the server's word that it is done.
    pub async fn leave(&mut self, room: &str) {
        let reply = self.request("leave", json!({"roomId": room})).await;
        assert_eq!(reply["type"], "ack", "{} leaves {room}: {reply}", self.name);
    }

    /// Sends a message, and returns the payload of the `ack`.
    pub async fn say(&mut self, room: &str, text: &str) -> Value {
        let reply = self
            .request("message", json!({"roomId": room, "text": text}))
            .await;
        assert_eq!(
            reply["type"], "ack",
            "{} says {text:?} in {room}: {reply}",
            self.name
        );
        reply["payload"].clone()
    }

    /// Says it and waits until it has come back as a `message`: then this node's members have it, and
    /// not only the broker. The `ack`.
    pub async fn say_and_hear(&mut self, room: &str, text: &str) -> Value {
        let ack = self.say(room, text).await;
        let what = format!("its own message {}", ack["seq"]);
        let id = &ack["messageId"];
        self.find(SOON, &what, |event| event["payload"]["id"] == *id)
            .await;
        ack
    }

    /// The payload of the next event of this type, received already or to come within 5 s. What comes
    /// before it stays for later.
    pub async fn expect(&mut self, kind: &str) -> Value {
        self.expect_within(SOON, kind).await
    }

    /// The same with another deadline.
    pub async fn expect_within(&mut self, limit: Duration, kind: &str) -> Value {
        let event = self
            .find(limit, &format!("`{kind}`"), |event| event["type"] == kind)
            .await;
        event["payload"].clone()
    }

    /// The next `message` event; its payload.
    pub async fn message(&mut self) -> Value {
        self.expect("message").await
    }

    /// The next event, whatever it is.
    pub async fn next(&mut self) -> Value {
        match self.unread.pop_front() {
            Some(event) => event,
            None => self.receive(SOON, "any event").await,
        }
    }

    /// The next event whatever it is, or `None` once the connection is closed.
    pub async fn next_or_close(&mut self, limit: Duration) -> Option<Value> {
        if let Some(event) = self.unread.pop_front() {
            return Some(event);
        }
        self.read(limit, "an event or the end").await
    }

    /// That nothing of this type was received up to the answer to a ping that is sent now. To be called
    /// once an event has come that was caused after what should not come.
    pub async fn expect_no(&mut self, kind: &str) {
        let pong = self.request("ping", json!({})).await;
        assert_eq!(pong["type"], "pong");
        let found = self.unread.iter().find(|event| event["type"] == kind);
        assert!(
            found.is_none(),
            "{} got {found:?}\n{}",
            self.name,
            self.transcript()
        );
    }

    /// That the connection works: a ping is answered.
    pub async fn assert_alive(&mut self) {
        let pong = self.request("ping", json!({})).await;
        assert_eq!(pong["type"], "pong", "{pong}");
    }

    /// Reads until the server has sent so many pings in all.
    pub async fn pinged(&mut self, count: usize) {
        while self.pings < count {
            match within(SOON, "a ping of the server", self.ws.next()).await {
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                Some(Ok(Message::Text(text))) => {
                    self.unread
                        .push_back(serde_json::from_str(&text).expect("JSON"));
                }
                other => panic!("{} waited for a ping and got {other:?}", self.name),
            }
        }
    }

    /// Reads until the server ends the connection; its close code, `None` where it sent none.
    pub async fn closed(&mut self, limit: Duration) -> Option<u16> {
        let deadline = tokio::time::Instant::now() + limit;
        while self.closed.is_none() {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if let Some(event) = self.read(left, "the server to close").await {
                self.unread.push_back(event);
            }
        }
        self.closed.flatten()
    }

    /// Hands out all that was received and asked for by nobody.
    pub fn forget(&mut self) -> Vec<Value> {
        self.unread.drain(..).collect()
    }

    /// Whether the server, or the network, has ended the connection, as far as was read.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Closes from this side, and waits until the server has answered.
    pub async fn close(mut self) {
        let closed = within(SOON, "the close to be sent", self.ws.close(None)).await;
        closed.unwrap_or_else(|e| panic!("{} can't close: {e}", self.name));
        self.closed(SOON).await;
    }

    async fn find(&mut self, limit: Duration, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.unread.iter().position(&is_it) {
            return self.unread.remove(place).expect("it is there");
        }
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let event = self.receive(left, what).await;
            if is_it(&event) {
                return event;
            }
            self.unread.push_back(event);
        }
    }

    async fn receive(&mut self, limit: Duration, what: &str) -> Value {
        match self.read(limit, what).await {
            Some(event) => event,
            None => panic!(
                "{}'s connection was closed ({:?}) while it waited for {what}\n{}",
                self.name,
                self.closed,
                self.transcript()
            ),
        }
    }

    async fn read(&mut self, limit: Duration, what: &str) -> Option<Value> {
        while self.closed.is_none() {
            let Ok(next) = tokio::time::timeout(limit, self.ws.next()).await else {
                panic!(
                    "{} waited {limit:?} in vain for {what}\n{}",
                    self.name,
                    self.transcript()
                );
            };
            match next {
                Some(Ok(Message::Text(text))) => {
                    let event = serde_json::from_str(&text);
                    self.remember(text.to_string());
                    return Some(event.unwrap_or_else(|e| panic!("{e} in {text}")));
                }
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                Some(Ok(Message::Close(frame))) => {
                    self.closed = Some(frame.map(|frame| frame.code.into()));
                    // The answer goes out, then the server closes the stream.
                    while let Ok(Some(Ok(_))) = tokio::time::timeout(limit, self.ws.next()).await {}
                }
                Some(Ok(other)) => panic!("{} got {other:?}", self.name),
                Some(Err(_)) | None => self.closed = Some(None),
            }
        }
        None
    }

    fn remember(&mut self, text: String) {
        self.received.push_back(text);
        if self.received.len() > 20 {
            self.received.pop_front();
        }
    }

    /// What it received last, for a failure.
    fn transcript(&self) -> String {
        let lines = self.received.iter().map(|line| format!("    {line}\n"));
        format!(
            "{} received last:\n{}",
            self.name,
            lines.collect::<String>()
        )
    }
}
