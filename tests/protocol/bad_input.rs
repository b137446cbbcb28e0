//! Everything a client can get wrong in an envelope. Each is answered as the protocol says, names
//! what is wrong, and leaves the connection as it was.

use crate::support::{Client, Value, json};
use crate::{Broker, assert_error};

on_both_brokers! {
    what_is_no_json,
    what_is_no_envelope,
    unknown_types,
    bad_room_ids,
    bad_fields,
    texts_at_the_limit,
    the_first_fault_counts,
    deep_nesting,
    numbers_beyond_all_bounds,
    a_bad_request_id,
}

/// Sends `text` and returns the answer, after which the connection has to work still.
async fn answer(client: &mut Client, text: impl Into<String>) -> Value {
    client.send_text(text).await;
    let answer = client.next().await;
    client.assert_alive().await;
    answer
}

async fn what_is_no_json(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    for text in [
        "",
        " ",
        "hello",
        "{",
        "{\"type\":\"ping\"",
        "{'type':'ping'}",
        "{\"type\":\"ping\",}",
        "{\"type\":\"ping\"} x",
        "{\"type\":\"ping\"}{\"type\":\"ping\"}",
        "{\"type\":\"pi\nng\"}",
        "NaN",
        "\u{feff}{\"type\":\"ping\"}",
    ] {
        let reply = answer(&mut ada, text).await;
        assert_eq!(
            reply["payload"]["code"], "INVALID_JSON",
            "{text:?}: {reply}"
        );
    }
}

async fn what_is_no_envelope(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    for text in [
        "[]",
        "1",
        "\"ping\"",
        "null",
        "true",
        "[{\"type\":\"ping\"}]",
    ] {
        let reply = answer(&mut ada, text).await;
        assert_eq!(
            reply["payload"]["code"], "INVALID_PAYLOAD",
            "{text}: {reply}"
        );
    }
    for payload in ["[]", "1", "\"x\"", "true"] {
        let text = format!(r#"{{"type":"join","payload":{payload}}}"#);
        assert_error(&answer(&mut ada, text).await, "INVALID_PAYLOAD", "payload");
    }
}

async fn unknown_types(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    for text in [
        "{}",
        r#"{"payload":{}}"#,
        r#"{"type":5}"#,
        r#"{"type":null}"#,
        r#"{"type":["ping"]}"#,
        r#"{"type":""}"#,
        r#"{"type":"nope"}"#,
        r#"{"type":"Ping"}"#,
        r#"{"type":"constructor"}"#,
        r#"{"type":"history "}"#,
    ] {
        assert_error(&answer(&mut ada, text).await, "UNKNOWN_TYPE", "type");
    }
}

async fn bad_room_ids(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    let long = "r".repeat(129);
    let long_in_bytes = "é".repeat(65);
    let bad = [
        json!(5),
        json!(null),
        json!({}),
        json!(long),
        json!(long_in_bytes),
        json!("two words"),
        json!("tab\t"),
        json!("line\nbreak"),
        json!("no\u{a0}break"),
        json!("nul\u{0}"),
        json!("escape\u{1b}"),
        json!("c1\u{85}"),
        json!("{braces}"),
        json!("one}"),
    ];
    for room in &bad {
        for kind in ["join", "leave", "typing", "history", "users", "message"] {
            if kind == "message" && room.is_null() {
                continue; // There a missing room is an INVALID_PAYLOAD, and `null` is as good as none.
            }
            let payload = json!({"roomId": room, "text": "x", "isTyping": true});
            let reply = ada.request(kind, payload).await;
            assert_error(&reply, "INVALID_ROOM", "roomId");
        }
    }
    for kind in ["join", "leave", "typing", "history", "users"] {
        let reply = ada.request(kind, json!({"isTyping": true})).await;
        assert_error(&reply, "INVALID_ROOM", "roomId");
        let reply = ada
            .request(kind, json!({"roomId": "", "isTyping": true}))
            .await;
        assert_error(&reply, "INVALID_ROOM", "roomId");
    }
    let reply = ada.request("message", json!({"text": "x"})).await;
    assert_error(&reply, "INVALID_PAYLOAD", "roomId");
    // And what is unusual but good.
    for room in [
        "r".repeat(128),
        "é".repeat(64),
        "a/b:c#d?e&f*".into(),
        "日本語".into(),
    ] {
        ada.join(&room).await;
    }
}

async fn bad_fields(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let long = "c".repeat(65);
    for (kind, fields, named) in [
        ("message", json!({}), "text"),
        ("message", json!({"text": 5}), "text"),
        ("message", json!({"text": null}), "text"),
        ("message", json!({"text": ["x"]}), "text"),
        ("message", json!({"text": ""}), "text"),
        ("message", json!({"text": "   "}), "text"),
        ("message", json!({"text": "\u{feff}\u{2003}\n"}), "text"),
        ("message", json!({"text": "x", "clientId": 7}), "clientId"),
        (
            "message",
            json!({"text": "x", "clientId": long}),
            "clientId",
        ),
        ("message", json!({"text": "x", "replyTo": 7}), "replyTo"),
        ("join", json!({"limit": "ten"}), "limit"),
        ("join", json!({"limit": {}}), "limit"),
        ("join", json!({"since": 5}), "since"),
        ("join", json!({"since": {}}), "since"),
        ("join", json!({"since": {"seq": "1", "id": null}}), "since"),
        ("join", json!({"since": {"seq": -1, "id": null}}), "since"),
        ("join", json!({"since": {"seq": 1, "id": 5}}), "since"),
        ("history", json!({"limit": []}), "limit"),
        ("history", json!({"before": "now"}), "before"),
        ("history", json!({"before": {}}), "before"),
        ("typing", json!({}), "isTyping"),
        ("typing", json!({"isTyping": "yes"}), "isTyping"),
    ] {
        let mut payload = fields.clone();
        payload["roomId"] = json!("general");
        let reply = ada.request(kind, payload).await;
        assert_error(&reply, "INVALID_PAYLOAD", named);
        assert_eq!(
            reply["payload"]["roomId"], "general",
            "{kind} {fields}: {reply}"
        );
    }
    assert_eq!(ada.join("general").await["seq"], 0, "nothing was stored");
}

async fn texts_at_the_limit(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    for (text, is_good) in [
        ("x".repeat(2000), true),
        ("x".repeat(2001), false),
        ("😀".repeat(1000), true),
        (format!("{}x", "😀".repeat(1000)), false),
        ("😀".repeat(1001), false),
        ("漢".repeat(2000), true),
        // Counted before it is trimmed.
        (format!("{}x ", " ".repeat(1998)), true),
        (format!("{}x ", " ".repeat(1999)), false),
    ] {
        let reply = ada
            .request("message", json!({"roomId": "general", "text": text}))
            .await;
        if is_good {
            assert_eq!(
                reply["type"],
                "ack",
                "{} units: {reply}",
                text.encode_utf16().count()
            );
        } else {
            assert_error(&reply, "MESSAGE_TOO_LONG", "text");
            assert_eq!(reply["payload"]["roomId"], "general");
        }
    }
}

async fn the_first_fault_counts(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    let long = "x".repeat(2001);
    for (envelope, code) in [
        (json!({"type": "nope", "payload": []}), "INVALID_PAYLOAD"),
        (
            json!({"type": "nope", "payload": {"roomId": 5}}),
            "UNKNOWN_TYPE",
        ),
        (
            json!({"type": "message", "payload": {"roomId": "a b", "text": 5}}),
            "INVALID_ROOM",
        ),
        (
            json!({"type": "message", "payload": {"roomId": "dm:x", "text": 5}}),
            "INVALID_PAYLOAD",
        ),
        (
            json!({"type": "message", "payload": {"roomId": "dm:x", "text": long}}),
            "MESSAGE_TOO_LONG",
        ),
        (
            json!({"type": "message", "payload": {"roomId": "dm:x", "text": "x"}}),
            "FORBIDDEN",
        ),
        (
            json!({"type": "message", "payload": {"roomId": "a", "text": long, "clientId": 5}}),
            "INVALID_PAYLOAD",
        ),
        (
            json!({"type": "message", "payload": {"roomId": "a", "text": long}}),
            "MESSAGE_TOO_LONG",
        ),
        (
            json!({"type": "message", "payload": {"roomId": "a", "text": "x"}}),
            "NOT_IN_ROOM",
        ),
    ] {
        let reply = answer(&mut ada, envelope.to_string()).await;
        assert_eq!(reply["payload"]["code"], code, "{envelope}: {reply}");
    }
}

async fn deep_nesting(broker: Broker) {
    let node = broker.node_with(&[("MAX_FRAME_BYTES", "64KiB")]).await;
    let mut ada = Client::of(&node, "ada").await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(8_000), "}".repeat(8_000));
    for text in [
        "[".repeat(10_000),
        "{\"a\":".repeat(10_000),
        deep.clone(),
        format!(r#"{{"type":"ping","extra":{deep}}}"#),
        format!(r#"{{"type":"ping","extra":{objects}}}"#),
        format!(r#"{{"type":"join","payload":{{"roomId":{deep}}}}}"#),
        format!(r#"{{"type":"join","payload":{deep}}}"#),
    ] {
        let reply = answer(&mut ada, text.as_str()).await;
        let is_error = reply["type"] == "error" && reply["payload"]["code"].is_string();
        let is_ignored = text.contains("extra") && reply["type"] == "pong";
        assert!(is_error || is_ignored, "{}…: {reply}", &text[..40]);
    }
}

async fn numbers_beyond_all_bounds(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    for number in [
        "1e400",
        "-1e400",
        "1e-400",
        "1.5",
        "18446744073709551616",
        "9".repeat(500).as_str(),
    ] {
        for field in [
            format!(r#""limit":{number}"#),
            format!(r#""before":{number}"#),
            format!(r#""unknown":{number}"#),
        ] {
            let text = format!(r#"{{"type":"history","payload":{{"roomId":"general",{field}}}}}"#);
            let reply = answer(&mut ada, text).await;
            let code = reply["payload"]["code"].as_str();
            let is_refused = matches!(code, Some("INVALID_JSON" | "INVALID_PAYLOAD"));
            assert!(is_refused || reply["type"] == "history", "{field}: {reply}");
        }
    }
}

async fn a_bad_request_id(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    for id in [json!(5), json!({}), json!("i".repeat(65))] {
        let reply = answer(&mut ada, json!({"type": "ping", "id": id}).to_string()).await;
        assert_error(&reply, "INVALID_PAYLOAD", "id");
        assert_eq!(
            reply.get("id"),
            None,
            "what can't be an id isn't sent back: {reply}"
        );
    }
}
