//! `clientId`: the same send again is the same message.

use crate::Broker;
use crate::support::{Client, Value, json};

on_both_brokers! {
    the_same_send_again_is_a_duplicate,
    also_from_another_connection_of_the_user,
    not_of_another_user_nor_in_another_room,
    a_duplicate_in_one_go,
}

fn send(room: &str, client_id: &str) -> Value {
    json!({"roomId": room, "text": "once", "clientId": client_id})
}

async fn the_same_send_again_is_a_duplicate(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let first = ada.request("message", send("general", "c1")).await;
    let first = &first["payload"];
    assert_eq!(first["clientId"], "c1");
    assert_eq!(first.get("duplicate"), None, "{first}");
    assert_eq!(ada.message().await["clientId"], "c1");

    let second = ada.request("message", send("general", "c1")).await;
    let mut expected = first.clone();
    expected["duplicate"] = json!(true);
    assert_eq!(second["payload"], expected, "the first one's ack again");

    ada.say("general", "after").await;
    let next = ada.message().await;
    assert_eq!(
        (&next["text"], &next["seq"]),
        (&json!("after"), &json!(2)),
        "the room got nothing"
    );
}

async fn also_from_another_connection_of_the_user(broker: Broker) {
    let node = broker.node().await;
    let mut phone = Client::in_room(&node, "ada", "general").await;
    let first = phone.request("message", send("general", "c1")).await;
    phone.message().await;
    phone.close().await;
    let mut laptop = Client::in_room(&node, "ada", "general").await;
    let second = laptop.request("message", send("general", "c1")).await;
    assert_eq!(second["payload"]["duplicate"], true, "{second}");
    assert_eq!(
        second["payload"]["messageId"],
        first["payload"]["messageId"]
    );
    assert_eq!(laptop.join("general").await["seq"], 1);
}

async fn not_of_another_user_nor_in_another_room(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let mut ben = Client::in_room(&node, "ben", "general").await;
    ada.join("other").await;
    for (client, room, seq) in [(&mut ada, "general", 1), (&mut ben, "general", 2)] {
        let ack = client.request("message", send(room, "c1")).await;
        assert_eq!(ack["payload"]["seq"], seq, "{ack}");
        assert_eq!(ack["payload"].get("duplicate"), None, "{ack}");
    }
    let elsewhere = ada.request("message", send("other", "c1")).await;
    assert_eq!(elsewhere["payload"].get("duplicate"), None, "{elsewhere}");
}

async fn a_duplicate_in_one_go(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let request = json!({"type": "message", "payload": send("general", "c1")}).to_string();
    ada.send_all(vec![request; 5]).await;
    let first = ada.expect("ack").await;
    assert_eq!(first.get("duplicate"), None, "{first}");
    for _ in 1..5 {
        let again = ada.expect("ack").await;
        assert_eq!(again["duplicate"], true, "{again}");
        assert_eq!(again["messageId"], first["messageId"]);
    }
    ada.message().await;
    assert_eq!(ada.join("general").await["seq"], 1);
}
