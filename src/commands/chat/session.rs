//! What the chat client knows, apart from any socket: the room's last message seen, the lines that
//! wait for their ack, and what each frame from the server means for both. It decides; `mod` does.
//!
//! One connection after another goes through
//!
//! ```text
//! new_connection ─► greeted (`connected` came) ─► joined (`history` came) ─► … lost ─► new_connection
//!        nothing is sent        join is sent             lines are sent
//! ```
//!
//! A line keeps its `clientId` over all connections, so that sending it again stores it once.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::screen::{Clock, clean};
use crate::id::{RoomId, ShortId};

/// Lines that may wait for their ack; more are not read from the terminal.
pub(super) const MAX_WAITING: usize = 1000;
/// Lines on the way at once: few enough that a server which stops reading us, because we don't read
/// it, is never reached.
const MAX_ON_THE_WAY: usize = 32;
/// Requests other than lines that may wait to be sent.
const MAX_ASKED: usize = 8;
/// The request id of `join`.
const JOIN: &str = "join";
/// How long to wait after a refusal that says nothing better.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A line of ours that is not acked yet.
struct Line {
    client_id: String,
    text: String,
    on_the_way: bool,
}

/// The state of the client.
pub(super) struct Session {
    room: RoomId,
    clock: Clock,
    greeted: bool,
    join_sent: bool,
    joined: bool,
    /// The room's newest message that was shown, as `since` has it; `None` before the first history.
    last: Option<(u64, Value)>,
    waiting: VecDeque<Line>,
    asked: VecDeque<&'static str>,
    /// After a refusal nothing is sent before this.
    hold_until: Option<Instant>,
    max_frame: usize,
    heartbeat: Duration,
    /// The server lets us go and asked us to come back after that long, to it or to another one. Nothing
    /// more is sent on this connection: it would have to be sent again.
    come_back_after: Option<Duration>,
    out: Vec<String>,
    fatal: Option<String>,
}

impl Session {
    pub(super) fn new(room: RoomId, clock: Clock) -> Session {
        Session {
            room,
            clock,
            greeted: false,
            join_sent: false,
            joined: false,
            last: None,
            waiting: VecDeque::new(),
            asked: VecDeque::new(),
            hold_until: None,
            max_frame: usize::MAX,
            heartbeat: Duration::from_secs(30),
            come_back_after: None,
            out: Vec::new(),
            fatal: None,
        }
    }

    /// A connection begins: all that was under way on the one before it has to be sent again.
    pub(super) fn new_connection(&mut self) {
        self.greeted = false;
        self.join_sent = false;
        self.joined = false;
        self.hold_until = None;
        self.come_back_after = None;
        for line in &mut self.waiting {
            line.on_the_way = false;
        }
    }

    /// Takes a line that the user typed, to be sent when it can be.
    pub(super) fn say(&mut self, text: &str) {
        self.waiting.push_back(Line {
            client_id: ShortId::random().as_str().to_owned(),
            text: text.to_owned(),
            on_the_way: false,
        });
    }

    /// Takes the user's wish to see who is there.
    pub(super) fn ask_users(&mut self) {
        if self.asked.len() < MAX_ASKED {
            self.asked.push_back("users");
        }
    }

    /// The next frame that can be sent now, if there is one.
    pub(super) fn next_frame(&mut self, now: Instant) -> Option<String> {
        if !self.greeted || self.come_back_after.is_some() {
            return None;
        }
        if self.hold_until.is_some_and(|until| until > now) {
            return None;
        }
        self.hold_until = None;
        if !self.join_sent {
            self.join_sent = true;
            let since = self.last.as_ref();
            let since = since.map(|(seq, id)| json!({"seq": seq, "id": id}));
            let mut payload = json!({"roomId": self.room, "limit": 50});
            if let Some(since) = since {
                payload["since"] = since;
            }
            return Some(request("join", JOIN, &payload));
        }
        if !self.joined {
            return None;
        }
        if let Some(kind) = self.asked.pop_front() {
            return Some(request(kind, kind, &json!({"roomId": self.room})));
        }
        self.next_line()
    }

    fn next_line(&mut self) -> Option<String> {
        loop {
            let under_way = self.waiting.iter().filter(|line| line.on_the_way).count();
            if under_way >= MAX_ON_THE_WAY {
                return None;
            }
            let at = self.waiting.iter().position(|line| !line.on_the_way)?;
            let line = self.waiting.get_mut(at)?;
            let payload = json!({
                "roomId": self.room, "text": line.text, "clientId": line.client_id,
            });
            let frame = request("message", &line.client_id, &payload);
            if frame.len() <= self.max_frame {
                line.on_the_way = true;
                return Some(frame);
            }
            // The server would close the connection for it, again and again.
            self.waiting.remove(at);
            self.note("not sent: the line is too long for this server");
        }
    }

    /// Takes a frame from the server. What is none is ignored, as is what is of no concern here.
    pub(super) fn hear(&mut self, frame: &str, now: Instant) {
        let Ok(event) = serde_json::from_str::<Value>(frame) else {
            return;
        };
        let payload = &event["payload"];
        match event["type"].as_str().unwrap_or_default() {
            "connected" => self.connected(payload),
            "reconnect" => self.come_back_after = Some(wait(&payload["delayMs"], Duration::ZERO)),
            "error" => self.refused(&event, now),
            _ if payload["roomId"].as_str() != Some(self.room.as_str()) => {}
            "history" => self.history(&event),
            "message" => self.message(payload),
            "ack" => self.acked(payload["clientId"].as_str().or(event["id"].as_str())),
            "user_joined" => self.note(&format!("{} is here", name(payload))),
            "user_left" => self.note(&format!("{} has left", name(payload))),
            // One without an id only corrects who is there, for clients that show it.
            "users" if event["id"].is_string() => self.users(payload),
            _ => {}
        }
    }

    fn connected(&mut self, payload: &Value) {
        self.greeted = true;
        if let Some(bytes) = payload["maxFrameBytes"].as_u64() {
            self.max_frame = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        if let Some(ms) = payload["heartbeatMs"].as_u64() {
            self.heartbeat = Duration::from_millis(ms.clamp(1000, 3_600_000));
        }
        if self.last.is_none() {
            let name = name(payload);
            self.note(&format!(
                "you are {name} in {}; /users, /quit",
                clean(self.room.as_str())
            ));
        } else {
            self.note("connected again");
        }
    }

    /// The reply to `join`, or one that the server sends where it can't go on without a hole. Either
    /// holds all up to the room's newest message.
    fn history(&mut self, event: &Value) {
        let payload = &event["payload"];
        if event["id"].as_str() == Some(JOIN) {
            self.joined = true;
        }
        let mut after = self.last.as_ref().map_or(0, |(seq, _)| *seq);
        if self.last.is_some() && payload["recovered"] == false {
            self.note("what came in between can't be had any more; the room now goes:");
            after = 0;
        }
        for message in payload["messages"].as_array().into_iter().flatten() {
            let message = &message["payload"];
            if message["seq"].as_u64().unwrap_or(0) > after {
                self.show(message);
            }
        }
        if let Some(seq) = payload["seq"].as_u64() {
            self.last = Some((seq, payload["lastId"].clone()));
        }
    }

    fn message(&mut self, payload: &Value) {
        if let Some(seq) = payload["seq"].as_u64() {
            if self.last.as_ref().is_some_and(|(last, _)| seq <= *last) {
                return;
            }
            self.last = Some((seq, payload["id"].clone()));
        }
        self.show(payload);
    }

    fn show(&mut self, message: &Value) {
        let time = self.clock.time(message["timestamp"].as_i64().unwrap_or(0));
        let text = clean(message["text"].as_str().unwrap_or_default());
        self.out.push(format!("{time} {}: {text}", name(message)));
    }

    fn users(&mut self, payload: &Value) {
        let users = payload["users"].as_array();
        let names: Vec<String> = users.into_iter().flatten().map(name).collect();
        let count = payload["count"].as_u64().unwrap_or(names.len() as u64);
        self.note(&format!("{count} here: {}", names.join(", ")));
    }

    fn acked(&mut self, client_id: Option<&str>) {
        self.waiting
            .retain(|line| Some(line.client_id.as_str()) != client_id);
    }

    /// An `error`: to be tried again later, or final for the line (or for the whole chat, where it
    /// is about the `join`).
    fn refused(&mut self, event: &Value, now: Instant) {
        let payload = &event["payload"];
        let code = payload["code"].as_str().unwrap_or("INTERNAL_ERROR");
        let why = clean(payload["message"].as_str().unwrap_or(code));
        let id = event["id"].as_str();
        let again = matches!(code, "UNAVAILABLE" | "RATE_LIMITED" | "INTERNAL_ERROR");
        if again {
            self.hold_until = Some(now + wait(&payload["retryAfterMs"], RETRY_AFTER));
        }
        if id == Some(JOIN) {
            if again {
                self.join_sent = false;
                self.note(&format!("can't join yet: {why}"));
            } else {
                self.fatal = Some(format!("can't join {}: {why}", self.room));
            }
            return;
        }
        let line = self
            .waiting
            .iter()
            .position(|line| Some(line.client_id.as_str()) == id);
        match line.and_then(|at| self.waiting.get_mut(at).map(|line| (at, line))) {
            Some((_, line)) if again => {
                line.on_the_way = false;
                self.note(&format!("not stored yet, will be sent again: {why}"));
            }
            Some((at, line)) => {
                let text = clean(&line.text);
                self.waiting.remove(at);
                self.note(&format!("not sent: {why}: {text}"));
            }
            None => self.note(&why),
        }
    }

    /// Says something of the client's own. What comes from others is cleaned before.
    pub(super) fn note(&mut self, text: &str) {
        self.out.push(format!("* {text}"));
    }

    /// The lines to show, which are taken away.
    pub(super) fn take_output(&mut self) -> Vec<String> {
        std::mem::take(&mut self.out)
    }

    /// Why the chat can't go on, if it can't.
    pub(super) fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    /// Whether the room was joined on this connection.
    pub(super) fn joined(&self) -> bool {
        self.joined
    }

    /// Lines that are not acked yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When something that is held back can be sent.
    pub(super) fn hold_until(&self) -> Option<Instant> {
        self.hold_until
    }

    /// The time between the server's pings.
    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// How long the server asked to stay away before the next connection, if it did.
    pub(super) fn come_back_after(&self) -> Option<Duration> {
        self.come_back_after
    }
}

fn request(kind: &str, id: &str, payload: &Value) -> String {
    json!({"type": kind, "id": id, "payload": payload}).to_string()
}

fn name(payload: &Value) -> String {
    clean(payload["username"].as_str().unwrap_or("?"))
}

/// Milliseconds from the server, within bounds.
fn wait(ms: &Value, otherwise: Duration) -> Duration {
    ms.as_u64()
        .map_or(otherwise, Duration::from_millis)
        .min(LONGEST_WAIT)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
