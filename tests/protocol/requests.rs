//! Each request with its replies and events, field by field.

use crate::support::token::{claims, in_seconds};
use crate::support::{Client, Connect, json, now_ms, token};
use crate::{Broker, assert_error, assert_fields, texts};

on_both_brokers! {
    joining_an_empty_room,
    a_message_reaches_everyone_and_is_acked,
    text_is_data,
    join_and_message_in_one_go,
    two_hundred_pipelined_messages_keep_their_order,
    rooms_do_not_hear_each_other,
    an_answer_names_what_it_answers,
    typing_goes_to_the_sender_too,
    leaving_with_and_without_an_id,
    after_leaving_nothing_comes,
    joining_again_sends_only_the_history,
    users_lists_each_user_once,
    ping_is_answered,
    the_id_is_echoed_as_it_came,
    what_needs_membership_says_so,
    private_rooms_are_forbidden,
    a_token_may_grant_some_rooms_alone,
    too_many_rooms,
}

async fn joining_an_empty_room(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    let reply = ada.request("join", json!({"roomId": "general"})).await;
    assert_fields(&reply, &["type", "id", "payload"]);
    assert_eq!(
        reply["payload"],
        json!({"roomId": "general", "messages": [], "seq": 0, "lastId": null, "hasMore": false})
    );
}

async fn a_message_reaches_everyone_and_is_acked(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let mut ben = Client::in_room(&node, "ben", "general").await;

    let ack = ada
        .request("message", json!({"roomId": "general", "text": "Ciao"}))
        .await;
    assert_fields(&ack, &["type", "id", "payload"]);
    let ack = &ack["payload"];
    assert_fields(ack, &["messageId", "roomId", "seq", "timestamp"]);
    assert_eq!(ack["roomId"], "general");
    assert_eq!(ack["seq"], 1);
    let id = ack["messageId"].as_str().unwrap();
    assert_eq!(id.len(), 12, "a nanoid of 12: {id}");
    assert!(
        id.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
        "{id}"
    );

    let expected = json!({
        "id": id, "seq": 1, "roomId": "general", "userId": "ada", "username": "Ada",
        "text": "Ciao", "timestamp": ack["timestamp"],
    });
    assert_eq!(
        ada.message().await,
        expected,
        "the sender is a member like the others"
    );
    assert_eq!(ben.message().await, expected);
    assert!(
        now_ms().abs_diff(ack["timestamp"].as_u64().unwrap()) < 5000,
        "{ack}"
    );

    let mut late = Client::of(&node, "eve").await;
    let history = late.join("general").await;
    assert_eq!(
        history["messages"],
        json!([{"type": "message", "payload": expected}])
    );
    assert_eq!(history["seq"], 1);
    assert_eq!(history["lastId"], id);
}

async fn text_is_data(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let pairs = "😀".repeat(1000);
    for (sent, stored) in [
        ("<b>&amp;</b>\"'\\", "<b>&amp;</b>\"'\\"),
        ("  \t\u{feff}\u{a0}trimmed\u{2003}\r\n\u{feff}", "trimmed"),
        ("zwischen  drin \n bleibt", "zwischen  drin \n bleibt"),
        (
            "\u{0}\u{1}\u{7f}\u{2028}",
            "\u{0}\u{1}\u{7f}\u{2028}".trim_end(),
        ),
        ("日本語 🇮🇹 e\u{301}", "日本語 🇮🇹 e\u{301}"),
        // 1,000 characters outside the basic plane are 2,000 units: as many as may be.
        (&pairs, &pairs),
    ] {
        ada.say("general", sent).await;
        assert_eq!(ada.message().await["text"], stored, "of {sent:?}");
    }
    let again = ada.join("general").await;
    assert_eq!(
        texts(&again)[0],
        "<b>&amp;</b>\"'\\",
        "and the history holds the same"
    );
}

async fn join_and_message_in_one_go(broker: Broker) {
    let node = broker.node().await;
    for round in 0..20 {
        let room = format!("fresh-{round}");
        let mut ada = Client::of(&node, "ada").await;
        ada.send_all([
            json!({"type": "join", "id": "j", "payload": {"roomId": room}}).to_string(),
            json!({"type": "message", "id": "m", "payload": {"roomId": room, "text": "at once"}})
                .to_string(),
        ])
        .await;
        let history = ada.next().await;
        assert_eq!(
            (&history["type"], &history["id"]),
            (&json!("history"), &json!("j"))
        );
        assert_eq!(
            history["payload"]["seq"], 0,
            "joined before the message: {history}"
        );
        let ack = ada.expect("ack").await;
        assert_eq!(ack["seq"], 1);
        assert_eq!(ada.message().await["text"], "at once");
    }
}

async fn two_hundred_pipelined_messages_keep_their_order(broker: Broker) {
    let node = broker.node().await;
    let mut ben = Client::in_room(&node, "ben", "general").await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let send = |n: u64| {
        let payload = json!({"roomId": "general", "text": format!("number {n}")});
        json!({"type": "message", "id": n.to_string(), "payload": payload}).to_string()
    };
    ada.send_all((1..=200).map(send)).await;
    for n in 1..=200u64 {
        let message = ben.message().await;
        assert_eq!(
            (&message["seq"], &message["text"]),
            (&json!(n), &json!(format!("number {n}")))
        );
    }
    let mut acked = 0;
    let mut heard = 0;
    while acked < 200 || heard < 200 {
        let event = ada.next().await;
        match event["type"].as_str() {
            Some("ack") => {
                acked += 1;
                assert_eq!(
                    event["id"],
                    acked.to_string(),
                    "acks come in the order of sending"
                );
                assert_eq!(event["payload"]["seq"], acked);
            }
            Some("message") => {
                heard += 1;
                assert_eq!(event["payload"]["seq"], heard);
            }
            _ => assert_eq!(event["type"], "user_joined", "{event}"),
        }
    }
}

async fn rooms_do_not_hear_each_other(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "one").await;
    let mut ben = Client::in_room(&node, "ben", "two").await;
    ada.join("two").await;
    ben.expect("user_joined").await;
    ada.say("one", "in one").await;
    ada.say("two", "in two").await;
    assert_eq!(ben.message().await["roomId"], "two");
    ben.expect_no("message").await;
    let (first, second) = (ada.message().await, ada.message().await);
    assert_ne!(first["roomId"], second["roomId"]);
    assert_eq!(
        (&first["seq"], &second["seq"]),
        (&json!(1), &json!(1)),
        "each room counts by itself"
    );
}

async fn an_answer_names_what_it_answers(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let first = ada.say("general", "a question").await;
    ada.message().await;
    let answer = json!({"roomId": "general", "text": "an answer", "replyTo": first["messageId"]});
    ada.send("message", answer).await;
    assert_eq!(ada.message().await["replyTo"], first["messageId"]);
    let history = ada.join("general").await;
    assert_eq!(history["messages"][0]["payload"].get("replyTo"), None);
    assert_eq!(
        history["messages"][1]["payload"]["replyTo"],
        first["messageId"]
    );
}

async fn typing_goes_to_the_sender_too(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let mut ben = Client::in_room(&node, "ben", "general").await;
    for is_typing in [true, false] {
        ada.send(
            "typing",
            json!({"roomId": "general", "isTyping": is_typing}),
        )
        .await;
        for client in [&mut ada, &mut ben] {
            let event = client.expect("typing").await;
            assert_fields(
                &event,
                &["roomId", "userId", "username", "isTyping", "timestamp"],
            );
            assert_eq!(event["roomId"], "general");
            assert_eq!(
                (&event["userId"], &event["username"]),
                (&json!("ada"), &json!("Ada"))
            );
            assert_eq!(event["isTyping"], is_typing);
        }
    }
    let history = ben.join("general").await;
    assert_eq!(history["seq"], 0, "typing is no message");
    // For a room one isn't in, it is ignored.
    ada.send("typing", json!({"roomId": "elsewhere", "isTyping": true}))
        .await;
    ada.expect_no("error").await;
}

async fn leaving_with_and_without_an_id(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let ack = ada.request("leave", json!({"roomId": "general"})).await;
    assert_eq!(ack["type"], "ack", "{ack}");
    assert_eq!(ack["payload"]["roomId"], "general");

    ada.join("general").await;
    ada.send("leave", json!({"roomId": "general"})).await;
    ada.expect_no("ack").await;
    let refused = ada
        .request("message", json!({"roomId": "general", "text": "still?"}))
        .await;
    assert_error(&refused, "NOT_IN_ROOM", "");

    // A room one isn't in: ignored.
    ada.send("leave", json!({"roomId": "elsewhere"})).await;
    ada.expect_no("error").await;
}

async fn after_leaving_nothing_comes(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let mut ben = Client::in_room(&node, "ben", "general").await;
    let mut eve = Client::in_room(&node, "eve", "general").await;
    ben.leave("general").await;
    ada.say("general", "ben is gone").await;
    assert_eq!(eve.message().await["text"], "ben is gone");
    ben.expect_no("message").await;
    let history = ben.join("general").await;
    assert_eq!(texts(&history), ["ben is gone"], "the room kept it for him");
    ada.say("general", "ben is back").await;
    assert_eq!(ben.message().await["text"], "ben is back");
}

async fn joining_again_sends_only_the_history(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let mut ben = Client::in_room(&node, "ben", "general").await;
    ada.expect("user_joined").await;
    assert_eq!(ben.join("general").await["seq"], 0);
    ada.say("general", "once").await;
    assert_eq!(ben.message().await["seq"], 1);
    ben.expect_no("message").await;
    ada.expect_no("user_joined").await;
}

async fn users_lists_each_user_once(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let _second = Client::in_room(&node, "ada", "general").await;
    let _ben = Client::in_room(&node, "ben", "general").await;
    let _other = Client::in_room(&node, "eve", "elsewhere").await;

    let reply = ada.request("users", json!({"roomId": "general"})).await;
    assert_eq!(reply["type"], "users", "{reply}");
    let payload = &reply["payload"];
    assert_fields(payload, &["roomId", "count", "users"]);
    assert_eq!(
        (&payload["roomId"], &payload["count"]),
        (&json!("general"), &json!(2))
    );
    let mut users = payload["users"].as_array().unwrap().clone();
    users.sort_by_key(|user| user["userId"].to_string());
    let expected = json!([
        {"userId": "ada", "username": "Ada"},
        {"userId": "ben", "username": "Ben"},
    ]);
    assert_eq!(json!(users), expected);
}

async fn ping_is_answered(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    for request in [
        r#"{"type":"ping","id":"p"}"#,
        r#"{"type":"ping","id":"p","payload":{}}"#,
    ] {
        ada.send_text(request).await;
        let pong = ada.next().await;
        assert_fields(&pong, &["type", "id", "payload"]);
        assert_eq!((&pong["type"], &pong["id"]), (&json!("pong"), &json!("p")));
        assert_fields(&pong["payload"], &["timestamp"]);
    }
}

async fn the_id_is_echoed_as_it_came(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    let longest = "i".repeat(64);
    for id in ["1", "a \"quoted\" \\ id", "ünï😀", longest.as_str()] {
        let ping = json!({"type": "ping", "id": id, "payload": {}, "unknown": [1, {"x": null}]});
        ada.send_text(ping.to_string()).await;
        let pong = ada.next().await;
        assert_eq!((&pong["type"], &pong["id"]), (&json!("pong"), &json!(id)));

        let bad = json!({"type": "join", "id": id, "payload": {"roomId": 5}});
        ada.send_text(bad.to_string()).await;
        assert_eq!(ada.next().await["id"], id, "an error carries it too");
    }
    ada.send_text(r#"{"type":"ping"}"#).await;
    assert_eq!(ada.next().await.get("id"), None, "none where none was sent");
}

async fn what_needs_membership_says_so(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    for (kind, payload) in [
        ("message", json!({"roomId": "general", "text": "hello?"})),
        ("history", json!({"roomId": "general"})),
    ] {
        let reply = ada.request(kind, payload).await;
        assert_error(&reply, "NOT_IN_ROOM", "");
        assert_eq!(reply["payload"]["roomId"], "general", "{reply}");
    }
    let mut ben = Client::of(&node, "ben").await;
    assert_eq!(ben.join("general").await["seq"], 0, "nothing was stored");
}

async fn private_rooms_are_forbidden(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::of(&node, "ada").await;
    for (kind, payload) in [
        ("join", json!({"roomId": "dm:x"})),
        ("message", json!({"roomId": "dm:x", "text": "hi"})),
        ("history", json!({"roomId": "dm:x"})),
        ("users", json!({"roomId": "dm:x"})),
    ] {
        let reply = ada.request(kind, payload).await;
        assert_error(&reply, "FORBIDDEN", "");
        assert_eq!(reply["payload"]["roomId"], "dm:x");
    }
    // Not every id with these letters is a private room's.
    ada.join("dmx").await;
    ada.join("DM:x").await;
}

async fn a_token_may_grant_some_rooms_alone(broker: Broker) {
    let node = broker.node().await;
    let rooms = json!(["general", "team-*"]);
    let bearer = claims(&json!({"userId": "ada", "exp": in_seconds(60), "rooms": rooms}));
    let mut ada = Connect::to(&node).token(&bearer).open().await;
    ada.join("general").await;
    ada.join("team-1").await;
    for kind in ["join", "history", "users", "message"] {
        let payload = json!({"roomId": "other", "text": "hi"});
        let refused = ada.request(kind, payload).await;
        assert_error(&refused, "FORBIDDEN", "roomId");
        assert_eq!(refused["payload"]["roomId"], "other");
    }
    // As in any room that one isn't in.
    let left = ada.request("leave", json!({"roomId": "other"})).await;
    assert_eq!(left["type"], "ack");
}

async fn too_many_rooms(broker: Broker) {
    let node = broker.node_with(&[("MAX_ROOMS_PER_CONNECTION", "3")]).await;
    let mut ada = Connect::to(&node).token(&token("ada")).open().await;
    for room in ["one", "two", "three"] {
        ada.join(room).await;
    }
    let refused = ada.request("join", json!({"roomId": "four"})).await;
    assert_error(&refused, "TOO_MANY_ROOMS", "");
    assert_eq!(refused["payload"]["roomId"], "four");
    ada.join("two").await;
    ada.leave("one").await;
    ada.join("four").await;
    let mut second = Client::of(&node, "ada").await;
    second.join("one").await;
}
