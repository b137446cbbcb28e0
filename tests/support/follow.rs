//! A checker for the promises "one order" and "no holes, no doubles": fed with what a member
//! receives of one room, it fails at the first event that breaks one.

use std::collections::HashMap;

use serde_json::Value;

/// What one member has seen of one room.
#[derive(Default)]
pub struct Follow {
    who: String,
    /// `seq` of the newest message it was given; `None` before the first `history`.
    pub seq: Option<u64>,
    /// Every message it was given, `seq` to `(id, text)`, from the last history that replaced it.
    pub seen: HashMap<u64, (String, String)>,
    /// How many messages came as events, after a `history`.
    pub live: usize,
}

impl Follow {
    /// A checker that names this member in a failure.
    pub fn new(who: impl Into<String>) -> Self {
        Self {
            who: who.into(),
            ..Self::default()
        }
    }

    /// Takes the payload of a `history` reply: from here on it goes on with the next `seq`.
    #[track_caller]
    pub fn history(&mut self, payload: &Value) {
        if payload["recovered"] != true {
            self.seen.clear();
        }
        let newest = payload["seq"].as_u64().expect("a history has a seq");
        let messages = payload["messages"]
            .as_array()
            .expect("a history has messages");
        let first = (newest + 1).checked_sub(messages.len() as u64);
        let first =
            first.unwrap_or_else(|| panic!("{}: more messages than seq: {payload}", self.who));
        for (message, seq) in messages.iter().zip(first..) {
            assert_eq!(message["type"], "message", "{}: {message}", self.who);
            assert_eq!(
                message["payload"]["seq"], seq,
                "{}: a hole in {payload}",
                self.who
            );
            self.note(seq, &message["payload"]);
        }
        match messages.last() {
            Some(last) => assert_eq!(last["payload"]["id"], payload["lastId"], "{}", self.who),
            None => assert!(
                newest > 0 || payload["lastId"].is_null(),
                "{}: {payload}",
                self.who
            ),
        }
        self.seq = Some(newest);
    }

    /// Takes the payload of a `message` event: it has to be the next one.
    #[track_caller]
    pub fn message(&mut self, payload: &Value) {
        let last = self
            .seq
            .unwrap_or_else(|| panic!("{}: before any history: {payload}", self.who));
        let seq = payload["seq"].as_u64().expect("a message has a seq");
        assert_eq!(
            seq,
            last + 1,
            "{}: a hole or a double after {last}: {payload}",
            self.who
        );
        self.note(seq, payload);
        self.seq = Some(seq);
        self.live += 1;
    }

    /// Takes any event; what isn't `history` or `message` of this room is passed over.
    #[track_caller]
    pub fn event(&mut self, event: &Value, room: &str) {
        if event["payload"]["roomId"] != room {
            return;
        }
        match event["type"].as_str() {
            Some("message") => self.message(&event["payload"]),
            Some("history") => self.history(&event["payload"]),
            _ => {}
        }
    }

    fn note(&mut self, seq: u64, payload: &Value) {
        let text = |field: &str| payload[field].as_str().expect("a text").to_owned();
        let before = self.seen.insert(seq, (text("id"), text("text")));
        if let Some((id, _)) = before {
            assert_eq!(
                id, payload["id"],
                "{}: another message at seq {seq}",
                self.who
            );
        }
    }
}
