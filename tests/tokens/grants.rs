//! A new token with other grants: rooms that it doesn't grant are left at once, whatever is on its way.

use crate::support::token::{claims, in_seconds};
use crate::support::{Client, Connect, Node, Redis, SOON, Value, json, within};

fn granting(user: &str, rooms: Value) -> String {
    claims(&json!({
        "userId": user, "username": format!("{user}'s other name"),
        "exp": in_seconds(3600), "rooms": rooms
    }))
}

async fn refresh(client: &mut Client, token: &str) {
    let reply = client.request("refresh", json!({ "token": token })).await;
    assert_eq!(reply["type"], "refreshed", "{reply}");
}

#[track_caller]
fn assert_forbidden(error: &Value, room: &str) {
    assert_eq!(error["code"], "FORBIDDEN", "{error}");
    assert_eq!(error["roomId"], room, "{error}");
}

#[tokio::test]
async fn rooms_that_are_no_longer_granted_are_left_on_every_node() {
    let redis = Redis::start().await;
    let (one, two) = (Node::on(&redis).await, Node::on(&redis).await);
    let mut ada = Client::of(&one, "ada").await;
    let mut eve = Client::of(&two, "eve").await;
    for room in ["a", "b-1"] {
        eve.join(room).await;
        ada.join(room).await;
        assert_eq!(eve.expect("user_joined").await["userId"], "ada");
    }
    ada.forget();
    refresh(&mut ada, &granting("ada", json!(["b-*", "c"]))).await;
    assert_forbidden(&ada.expect("error").await, "a");
    let left = eve.expect("user_left").await;
    assert_eq!(
        (&left["userId"], &left["roomId"]),
        (&json!("ada"), &json!("a"))
    );
    // The name that others know stays.
    assert_eq!(left["username"], "Ada");

    eve.say_and_hear("a", "she doesn't hear this").await;
    eve.say("b-1", "but this").await;
    let heard = ada.message().await;
    assert_eq!(
        (&heard["text"], &heard["roomId"]),
        (&json!("but this"), &json!("b-1"))
    );
    ada.expect_no("message").await;
    for (kind, room) in [
        ("join", "a"),
        ("history", "a"),
        ("message", "a"),
        ("users", "d"),
    ] {
        let payload = json!({"roomId": room, "text": "t"});
        assert_forbidden(&ada.request(kind, payload).await["payload"], room);
    }
    ada.join("c").await;

    refresh(&mut ada, &granting("ada", json!([]))).await;
    let mut lost = vec![];
    for _ in 0..2 {
        let error = ada.expect("error").await;
        lost.push(error["roomId"].as_str().unwrap().to_owned());
    }
    lost.sort();
    assert_eq!(lost, ["b-1", "c"]);
    assert_eq!(eve.expect("user_left").await["roomId"], "b-1");

    refresh(&mut ada, &granting("ada", json!(["*"]))).await;
    assert_eq!(ada.join("a").await["seq"], 1);
    assert_eq!(eve.expect("user_joined").await["username"], "Ada");
    ada.say_and_hear("a", "back").await;
}

/// The broker stands still, so a send, a question behind it and a join are on their way when the grants
/// go.
#[tokio::test]
async fn what_is_on_its_way_is_answered_and_nobody_slips_in() {
    let redis = Redis::start().await;
    let (one, two) = (Node::on(&redis).await, Node::on(&redis).await);
    let mut ada = Client::in_room(&one, "ada", "a").await;
    let mut eve = Client::in_room(&two, "eve", "a").await;
    ada.expect("user_joined").await;
    // Whom the other node was never told of, it never sees leave.
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    within(SOON, "eve's node to know of ada", async {
        while eve.request("users", json!({"roomId": "a"})).await["payload"]["count"] != 2 {
            tick.tick().await;
        }
    })
    .await;
    eve.join("c").await;
    redis.freeze();
    let ask = |kind: &str, id: &str, room: &str| {
        let payload = json!({"roomId": room, "text": "taken before"});
        json!({"type": kind, "id": id, "payload": payload}).to_string()
    };
    ada.send_all([
        ask("message", "sent", "a"),
        ask("history", "asked", "a"),
        ask("message", "later", "a"),
        ask("join", "joined", "c"),
        ask("message", "into c", "c"),
    ])
    .await;
    refresh(&mut ada, &granting("ada", json!(["b"]))).await;
    assert_forbidden(&ada.expect("error").await, "a");
    redis.thaw();
    let mut answers = vec![];
    for _ in 0..5 {
        let reply = ada.next().await;
        answers.push((reply["id"].clone(), reply["payload"]["code"].clone()));
    }
    answers.sort_by_key(|(id, _)| id.to_string());
    let forbidden = |id: &str| (json!(id), json!("FORBIDDEN"));
    let expected = [
        forbidden("asked"),
        forbidden("into c"),
        forbidden("joined"),
        forbidden("later"),
        (json!("sent"), Value::Null),
    ];
    assert_eq!(answers, expected);
    assert_eq!(eve.message().await["text"], "taken before");

    // She is nowhere, and hears nothing.
    assert_eq!(eve.expect("user_left").await["roomId"], "a");
    for room in ["a", "c"] {
        let there = eve.request("users", json!({ "roomId": room })).await;
        assert_eq!(
            there["payload"]["users"],
            json!([{"userId": "eve", "username": "Eve"}])
        );
        eve.say_and_hear(room, "alone").await;
    }
    ada.expect_no("message").await;
    // The places are free again: with the grants back, all is as for a newcomer.
    refresh(&mut ada, &granting("ada", json!(["*"]))).await;
    assert_eq!(ada.join("a").await["seq"], 2);
    assert_eq!(ada.join("c").await["seq"], 1);
    ada.say_and_hear("c", "in").await;
}

/// A join that waits for its room while the grants go and come back goes on.
#[tokio::test]
async fn grants_that_come_back_in_time_let_a_join_go_on() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let mut ada = Connect::to(&node)
        .token(&granting("ada", json!(["c"])))
        .open()
        .await;
    redis.freeze();
    ada.send_text(json!({"type": "join", "id": "j", "payload": {"roomId": "c"}}).to_string())
        .await;
    refresh(&mut ada, &granting("ada", json!([]))).await;
    refresh(&mut ada, &granting("ada", json!(["c"]))).await;
    redis.thaw();
    let reply = ada.next().await;
    assert_eq!(
        (&reply["type"], &reply["id"]),
        (&json!("history"), &json!("j"))
    );
    ada.say_and_hear("c", "in").await;
}

/// A withdrawn room stays until what was on its way there is answered, also where the answer is that it was
/// one too many.
#[tokio::test]
async fn a_withdrawn_room_goes_when_its_last_send_was_refused() {
    let redis = Redis::start().await;
    let env = [
        ("RATE_LIMIT_MESSAGES", "1"),
        ("RATE_LIMIT_WINDOW", "10m"),
        ("MAX_ROOMS_PER_CONNECTION", "1"),
    ];
    let node = Node::on_with(&redis, &env).await;
    let mut ada = Client::in_room(&node, "ada", "a").await;
    let message = json!({"type": "message", "payload": {"roomId": "a", "text": "at once"}});
    let payload = json!({ "token": granting("ada", json!(["b"])) });
    let refresh = json!({"type": "refresh", "payload": payload});
    ada.send_all([&message, &message, &refresh].map(Value::to_string))
        .await;
    ada.expect("refreshed").await;
    let mut codes = vec![];
    for _ in 0..2 {
        codes.push(
            ada.expect("error").await["code"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    codes.sort();
    assert_eq!(codes, ["FORBIDDEN", "RATE_LIMITED"]);
    // There is a place for another room again.
    ada.join("b").await;
}
