//! What a room keeps: pages back through it, and resuming after a gap.

use crate::support::{Client, Node, Value, json};
use crate::{Broker, assert_fields, texts};

on_both_brokers! {
    a_page_has_the_newest_messages,
    pages_lead_back_to_the_beginning,
    the_limit_is_clamped,
    the_room_keeps_its_newest,
    what_was_acked_is_in_the_next_history,
    resuming_brings_what_was_missed,
    resuming_brings_more_than_the_limit,
    resuming_from_the_newest_brings_nothing,
    resuming_from_another_history_starts_afresh,
    resuming_from_what_was_trimmed_starts_afresh,
    resuming_with_nothing,
    questions_in_many_rooms_at_once_are_all_answered,
}

/// A room where `1`, `2`, … were said; the acks' payloads.
async fn filled(node: &Node, count: u64) -> (Client, Vec<Value>) {
    let mut ada = Client::in_room(node, "ada", "general").await;
    let send = |n| {
        let payload = json!({"roomId": "general", "text": format!("{n}")});
        json!({"type": "message", "payload": payload}).to_string()
    };
    ada.send_all((1..=count).map(send)).await;
    let mut acks = Vec::new();
    for _ in 0..count {
        acks.push(ada.expect("ack").await);
    }
    for _ in 0..count {
        ada.message().await;
    }
    (ada, acks)
}

/// `from`, …, `to` as texts.
fn numbers(from: u64, to: u64) -> Vec<String> {
    (from..=to).map(|n| n.to_string()).collect()
}

async fn join(client: &mut Client, payload: Value) -> Value {
    let reply = client.request("join", payload).await;
    assert_eq!(reply["type"], "history", "{reply}");
    reply["payload"].clone()
}

async fn a_page_has_the_newest_messages(broker: Broker) {
    let node = broker.node().await;
    let (mut ada, acks) = filled(&node, 60).await;
    let reply = ada.request("history", json!({"roomId": "general"})).await;
    assert_eq!(reply["type"], "history", "{reply}");
    let page = &reply["payload"];
    assert_fields(page, &["roomId", "messages", "seq", "lastId", "hasMore"]);
    assert_eq!(texts(page), numbers(11, 60), "50 where no limit is given");
    assert_eq!(page["seq"], 60);
    assert_eq!(page["lastId"], acks[59]["messageId"]);
    assert_eq!(page["hasMore"], true);

    let mut ben = Client::of(&node, "ben").await;
    let joined = join(&mut ben, json!({"roomId": "general", "limit": 3})).await;
    assert_eq!(texts(&joined), ["58", "59", "60"]);
    assert_eq!(
        (&joined["seq"], &joined["hasMore"]),
        (&json!(60), &json!(true))
    );
    let all = join(&mut ben, json!({"roomId": "general", "limit": 60})).await;
    assert_eq!(texts(&all), numbers(1, 60));
    assert_eq!(all["hasMore"], false);
}

async fn pages_lead_back_to_the_beginning(broker: Broker) {
    let node = broker.node().await;
    let (mut ada, _) = filled(&node, 25).await;
    let mut before = 26;
    let mut read = Vec::new();
    loop {
        let request = json!({"roomId": "general", "limit": 10, "before": before});
        let reply = ada.request("history", request).await;
        let page = &reply["payload"];
        assert_eq!(page["seq"], 25, "the room's newest, on every page: {page}");
        let mut part: Vec<String> = texts(page).iter().map(|&text| text.to_owned()).collect();
        part.append(&mut read);
        read = part;
        before = page["messages"][0]["payload"]["seq"]
            .as_u64()
            .expect("a page with messages");
        if page["hasMore"] == false {
            break;
        }
    }
    assert_eq!(read, numbers(1, 25));
    let nothing = ada
        .request("history", json!({"roomId": "general", "before": 1}))
        .await;
    assert_eq!(nothing["payload"]["messages"], json!([]));
    assert_eq!(nothing["payload"]["hasMore"], false);
    let future = ada
        .request("history", json!({"roomId": "general", "before": 1000}))
        .await;
    assert_eq!(texts(&future["payload"]), numbers(1, 25));
}

async fn the_limit_is_clamped(broker: Broker) {
    let node = broker.node_with(&[("MESSAGE_HISTORY_LIMIT", "20")]).await;
    let (mut ada, _) = filled(&node, 30).await;
    for (limit, first) in [
        (json!(0), 30),
        (json!(1), 30),
        (json!(20), 11),
        (json!(4_000_000_000u64), 11),
    ] {
        for kind in ["history", "join"] {
            let request = json!({"roomId": "general", "limit": limit});
            let reply = ada.request(kind, request).await;
            assert_eq!(
                texts(&reply["payload"]),
                numbers(first, 30),
                "{kind} with limit {limit}"
            );
        }
    }
}

async fn the_room_keeps_its_newest(broker: Broker) {
    let node = broker.node_with(&[("MESSAGE_HISTORY_LIMIT", "10")]).await;
    let (mut ada, acks) = filled(&node, 25).await;
    assert_eq!(
        acks[24]["seq"], 25,
        "what is trimmed doesn't set the count back"
    );
    let page = ada.join("general").await;
    assert_eq!(texts(&page), numbers(16, 25));
    assert_eq!(page["hasMore"], false, "what is gone is no more to be had");
    let older = ada
        .request("history", json!({"roomId": "general", "before": 18}))
        .await;
    assert_eq!(texts(&older["payload"]), ["16", "17"]);
}

/// An ack means stored, so whoever asks after it is given it,
/// also on a node to which the message itself is still on its way.
async fn what_was_acked_is_in_the_next_history(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    for n in 1..=200u64 {
        ada.say("general", &n.to_string()).await;
        let page = ada
            .request("history", json!({"roomId": "general", "limit": 1}))
            .await;
        assert_eq!(page["payload"]["seq"], n, "{page}");
    }
}

async fn resuming_brings_what_was_missed(broker: Broker) {
    let node = broker.node().await;
    let (mut ada, acks) = filled(&node, 10).await;
    let mut ben = Client::of(&node, "ben").await;
    let since = json!({"seq": 7, "id": acks[6]["messageId"]});
    let resumed = join(&mut ben, json!({"roomId": "general", "since": since})).await;
    assert_fields(
        &resumed,
        &[
            "roomId",
            "messages",
            "seq",
            "lastId",
            "recovered",
            "hasMore",
        ],
    );
    assert_eq!(resumed["recovered"], true);
    assert_eq!(texts(&resumed), ["8", "9", "10"]);
    assert_eq!(
        (&resumed["seq"], &resumed["lastId"]),
        (&json!(10), &acks[9]["messageId"])
    );
    ada.say_and_hear("general", "11").await;
    assert_eq!(ben.message().await["seq"], 11, "and goes on from there");
}

async fn resuming_brings_more_than_the_limit(broker: Broker) {
    let node = broker.node().await;
    let (_ada, acks) = filled(&node, 80).await;
    let mut ben = Client::of(&node, "ben").await;
    let since = json!({"seq": 5, "id": acks[4]["messageId"]});
    let resumed = join(
        &mut ben,
        json!({"roomId": "general", "limit": 2, "since": since}),
    )
    .await;
    assert_eq!(resumed["recovered"], true);
    assert_eq!(texts(&resumed), numbers(6, 80));
}

async fn resuming_from_the_newest_brings_nothing(broker: Broker) {
    let node = broker.node().await;
    let (_ada, acks) = filled(&node, 3).await;
    let mut ben = Client::of(&node, "ben").await;
    let since = json!({"seq": 3, "id": acks[2]["messageId"]});
    let resumed = join(&mut ben, json!({"roomId": "general", "since": since})).await;
    assert_eq!(
        (&resumed["recovered"], &resumed["messages"]),
        (&json!(true), &json!([]))
    );
    assert_eq!(
        (&resumed["seq"], &resumed["lastId"]),
        (&json!(3), &acks[2]["messageId"])
    );
}

async fn resuming_from_another_history_starts_afresh(broker: Broker) {
    let node = broker.node().await;
    let (_ada, acks) = filled(&node, 5).await;
    let mut ben = Client::of(&node, "ben").await;
    for since in [
        json!({"seq": 3, "id": "another-id--"}),
        json!({"seq": 4, "id": acks[2]["messageId"]}),
        json!({"seq": 0, "id": acks[2]["messageId"]}),
        json!({"seq": 99, "id": acks[2]["messageId"]}),
    ] {
        let request = json!({"roomId": "general", "limit": 2, "since": since});
        let resumed = join(&mut ben, request).await;
        assert_eq!(resumed["recovered"], false, "since {since}: {resumed}");
        assert_eq!(
            texts(&resumed),
            ["4", "5"],
            "as in a fresh join, since {since}"
        );
    }
}

async fn resuming_from_what_was_trimmed_starts_afresh(broker: Broker) {
    let node = broker.node_with(&[("MESSAGE_HISTORY_LIMIT", "10")]).await;
    let (_ada, acks) = filled(&node, 20).await;
    let mut ben = Client::of(&node, "ben").await;
    // 11 to 20 are left. Whoever has 11 can be told the rest; 10 itself is gone.
    for (last, recovered) in [(11usize, true), (10, false), (1, false)] {
        let since = json!({"seq": last, "id": acks[last - 1]["messageId"]});
        let resumed = join(&mut ben, json!({"roomId": "general", "since": since})).await;
        assert_eq!(resumed["recovered"], recovered, "since {last}: {resumed}");
    }
}

async fn resuming_with_nothing(broker: Broker) {
    let node = broker.node_with(&[("MESSAGE_HISTORY_LIMIT", "10")]).await;
    let (mut ada, _) = filled(&node, 10).await;
    let mut ben = Client::of(&node, "ben").await;
    let nothing = json!({"roomId": "general", "limit": 1, "since": {"seq": 0, "id": null}});
    let resumed = join(&mut ben, nothing.clone()).await;
    assert_eq!(
        resumed["recovered"], true,
        "the first message is still there: {resumed}"
    );
    assert_eq!(texts(&resumed), numbers(1, 10));
    ada.say_and_hear("general", "11").await;
    let resumed = join(&mut ben, nothing).await;
    assert_eq!(
        resumed["recovered"], false,
        "the first message is gone: {resumed}"
    );
    assert_eq!(texts(&resumed), ["11"]);
}

/// Each needs older messages than a node has at hand, and more of them wait than are read for at once.
async fn questions_in_many_rooms_at_once_are_all_answered(broker: Broker) {
    const ROOMS: usize = 12;
    const SAID: usize = 300;
    let node = broker.node_with(&[("MESSAGE_HISTORY_LIMIT", "1000")]).await;
    let mut ada = Client::of(&node, "ada").await;
    let mut first = Vec::new();
    for room in 0..ROOMS {
        let room = format!("r{room}");
        ada.join(&room).await;
        let long = "x".repeat(1_000);
        let said =
            json!({"type": "message", "payload": {"roomId": room, "text": long}}).to_string();
        ada.send_all(std::iter::repeat_n(said, SAID)).await;
        first.push(ada.expect("ack").await);
        for _ in 1..SAID {
            ada.expect("ack").await;
        }
        ada.leave(&room).await;
        ada.forget();
    }
    let mut ben = Client::of(&node, "ben").await;
    let requests = (0..ROOMS).flat_map(|room| {
        let since = json!({"seq": 1, "id": first[room]["messageId"]});
        let room = format!("r{room}");
        let page = json!({"roomId": room, "before": 4, "limit": 2});
        [
            json!({"type": "join", "payload": {"roomId": room, "since": since}}).to_string(),
            json!({"type": "history", "payload": page}).to_string(),
        ]
    });
    ben.send_all(requests).await;
    let mut answers = vec![Vec::new(); ROOMS];
    for _ in 0..2 * ROOMS {
        let page = ben.expect("history").await;
        let room = page["roomId"]
            .as_str()
            .and_then(|room| room[1..].parse().ok());
        let room: usize = room.expect("a room of the test");
        let places = page["messages"].as_array().expect("messages").iter();
        let places = places.map(|message| message["payload"]["seq"].as_u64().expect("a place"));
        answers[room].push((page["recovered"].clone(), places.collect::<Vec<_>>()));
    }
    let resumed = (json!(true), (2..=SAID as u64).collect());
    let answered = vec![resumed, (Value::Null, vec![2, 3])];
    assert_eq!(answers, vec![answered; ROOMS]);
}
