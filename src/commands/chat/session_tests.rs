//! The session against a server that is played line by line.

use super::*;

struct Played(Session, Instant);

impl Played {
    fn new() -> Played {
        let clock = Clock::utc();
        let mut session = Session::new(RoomId::parse("r").unwrap(), clock);
        session.new_connection();
        Played(session, Instant::now())
    }

    fn hears(&mut self, event: &Value) -> Vec<String> {
        self.0.hear(&event.to_string(), self.1);
        self.0.take_output()
    }

    fn sends(&mut self) -> Vec<Value> {
        let frames = std::iter::from_fn(|| self.0.next_frame(self.1));
        frames.map(|f| serde_json::from_str(&f).unwrap()).collect()
    }

    fn greeted(&mut self) {
        self.hears(&json!({"type": "connected", "payload": {
            "username": "me", "maxFrameBytes": 1024, "heartbeatMs": 5000,
        }}));
    }

    /// Greeted, and joined to an empty room.
    fn joined() -> Played {
        let mut played = Played::new();
        played.greeted();
        let join = played.sends();
        assert_eq!(join.len(), 1);
        assert_eq!(join[0]["type"], "join");
        assert!(join[0]["payload"].get("since").is_none());
        played.hears(&history(
            Some("join"),
            json!({"messages": [], "seq": 0, "lastId": null}),
        ));
        played
    }
}

fn history(id: Option<&str>, mut payload: Value) -> Value {
    payload["roomId"] = json!("r");
    json!({"type": "history", "id": id, "payload": payload})
}

fn message(seq: u64, text: &str) -> Value {
    json!({"type": "message", "payload": {
        "id": format!("id{seq}"), "seq": seq, "roomId": "r", "userId": "a", "username": "ann\u{7}",
        "text": text, "timestamp": 60_000,
    }})
}

#[test]
fn nothing_is_sent_before_the_greeting_and_no_line_before_the_join() {
    let mut played = Played::new();
    played.0.say("early");
    assert!(played.sends().is_empty());
    played.greeted();
    assert_eq!(played.sends()[0]["type"], "join");
    assert!(played.sends().is_empty());
    played.hears(&history(
        Some("join"),
        json!({"messages": [], "seq": 0, "lastId": null}),
    ));
    let sent = played.sends();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["payload"]["text"], "early");
}

#[test]
fn what_others_say_is_shown_once_and_harmless() {
    let mut played = Played::joined();
    let shown = played.hears(&message(1, "hi\u{1b}[2J"));
    assert_eq!(shown, ["00:01 ann\\u{7}: hi\\u{1b}[2J"]);
    assert!(played.hears(&message(1, "hi")).is_empty());
}

#[test]
fn a_lost_line_is_sent_again_with_the_same_client_id_and_the_join_says_since() {
    let mut played = Played::joined();
    played.hears(&message(1, "one"));
    played.0.say("mine");
    let first = played.sends();
    played.0.new_connection();
    played.greeted();
    let join = played.sends();
    assert_eq!(join[0]["payload"]["since"], json!({"seq": 1, "id": "id1"}));
    let missed = json!({
        "messages": [message(2, "two")], "seq": 2, "lastId": "id2", "recovered": true,
    });
    let shown = played.hears(&history(Some("join"), missed));
    assert_eq!(shown, ["00:01 ann\\u{7}: two"]);
    assert_eq!(played.sends(), first);
    let client_id = &first[0]["payload"]["clientId"];
    played.hears(&json!({"type": "ack", "payload": {"roomId": "r", "clientId": client_id}}));
    assert_eq!(played.0.waiting(), 0);
}

#[test]
fn a_hole_that_stays_is_told_of() {
    let mut played = Played::joined();
    played.hears(&message(9, "nine"));
    let other = json!({
        "messages": [message(3, "new")], "seq": 3, "lastId": "id3", "recovered": false,
    });
    let shown = played.hears(&history(None, other));
    assert_eq!(shown.len(), 2);
    assert!(shown[0].contains("can't be had any more"), "{shown:?}");
    assert!(shown[1].ends_with("new"), "{shown:?}");
    assert_eq!(played.hears(&message(4, "next")).len(), 1);
}

#[test]
fn a_refused_line_is_dropped_or_sent_again_later() {
    let mut played = Played::joined();
    for (code, kept) in [("MESSAGE_TOO_LONG", 0), ("UNAVAILABLE", 1)] {
        played.0.say("text");
        let id = played.sends()[0]["id"].clone();
        let shown = played.hears(&json!({
            "type": "error", "id": id, "payload": {"code": code, "message": "why"},
        }));
        assert_eq!(shown.len(), 1);
        assert_eq!(played.0.waiting(), kept, "{code}");
    }
    assert!(played.sends().is_empty());
    played.1 += RETRY_AFTER;
    assert_eq!(played.sends().len(), 1);
}

#[test]
fn a_join_that_is_refused_for_good_ends_the_chat() {
    let mut played = Played::new();
    played.greeted();
    played.sends();
    let error = |code: &str| json!({"type": "error", "id": "join", "payload": {"code": code, "message": "no"}});
    played.hears(&error("UNAVAILABLE"));
    assert_eq!(played.0.fatal(), None);
    played.1 += RETRY_AFTER;
    assert_eq!(played.sends()[0]["type"], "join");
    played.hears(&error("FORBIDDEN"));
    assert_eq!(played.0.fatal(), Some("can't join r: no"));
}

#[test]
fn few_lines_are_on_the_way_at_once_and_too_long_ones_never() {
    let mut played = Played::joined();
    played.0.say(&"x".repeat(1024));
    for _ in 0..100 {
        played.0.say("x");
    }
    assert_eq!(played.sends().len(), MAX_ON_THE_WAY);
    assert_eq!(played.0.take_output().len(), 1);
    assert_eq!(played.0.waiting(), 100);
}

#[test]
fn what_makes_no_sense_is_ignored() {
    let mut played = Played::joined();
    for odd in [
        "",
        "null",
        "[]",
        "{\"type\":5}",
        "{\"type\":\"message\",\"payload\":[]}",
    ] {
        played.0.hear(odd, played.1);
    }
    played.hears(&json!({"type": "reconnect", "payload": {"delayMs": u64::MAX}}));
    assert_eq!(played.0.come_back_after(), Some(LONGEST_WAIT));
    assert!(played.0.take_output().is_empty());
}

#[test]
fn who_is_let_go_sends_nothing_more_until_it_is_back() {
    let mut played = Played::joined();
    assert_eq!(played.0.come_back_after(), None);
    let payload = json!({"reason": "draining", "delayMs": 400});
    played.hears(&json!({"type": "reconnect", "payload": payload}));
    let asked = Some(Duration::from_millis(400));
    assert_eq!(played.0.come_back_after(), asked);
    played.0.say("meanwhile");
    assert!(played.sends().is_empty());
    played.0.new_connection();
    assert_eq!(played.0.come_back_after(), None);
    played.greeted();
    assert_eq!(played.sends()[0]["type"], "join");
}
