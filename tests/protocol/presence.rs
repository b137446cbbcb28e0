//! `user_joined` and `user_left`: about users, not sockets, and told to the others only.

use crate::support::{Client, json};
use crate::{Broker, assert_fields};

on_both_brokers! {
    joining_and_leaving_is_told_to_the_others,
    a_users_second_connection_is_no_news,
    a_lost_connection_is_a_leave_of_all_its_rooms,
}

async fn joining_and_leaving_is_told_to_the_others(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let mut ben = Client::in_room(&node, "ben", "general").await;
    let joined = ada.expect("user_joined").await;
    assert_fields(&joined, &["roomId", "userId", "username", "timestamp"]);
    assert_eq!(joined["roomId"], "general");
    assert_eq!(
        (&joined["userId"], &joined["username"]),
        (&json!("ben"), &json!("Ben"))
    );
    ben.expect_no("user_joined").await;

    ben.leave("general").await;
    let left = ada.expect("user_left").await;
    assert_fields(&left, &["roomId", "userId", "username", "timestamp"]);
    assert_eq!(
        (&left["roomId"], &left["userId"]),
        (&json!("general"), &json!("ben"))
    );
    ben.expect_no("user_left").await;
}

async fn a_users_second_connection_is_no_news(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let mut phone = Client::in_room(&node, "ben", "general").await;
    let mut laptop = Client::in_room(&node, "ben", "general").await;
    phone.leave("general").await;
    // Ben is still there. What ada is told in between is one join; eve's marks the end.
    let _eve = Client::in_room(&node, "eve", "general").await;
    assert_eq!(ada.expect("user_joined").await["userId"], "ben");
    assert_eq!(ada.expect("user_joined").await["userId"], "eve");
    ada.expect_no("user_left").await;
    laptop.leave("general").await;
    assert_eq!(ada.expect("user_left").await["userId"], "ben");
    ada.expect_no("user_left").await;
}

async fn a_lost_connection_is_a_leave_of_all_its_rooms(broker: Broker) {
    let node = broker.node().await;
    let mut ada = Client::in_room(&node, "ada", "one").await;
    ada.join("two").await;
    let mut ben = Client::in_room(&node, "ben", "one").await;
    ben.join("two").await;
    drop(ben);
    let mut rooms = [ada.expect("user_left").await, ada.expect("user_left").await]
        .map(|left| left["roomId"].as_str().unwrap().to_owned());
    rooms.sort();
    assert_eq!(rooms, ["one", "two"]);
    let users = ada.request("users", json!({"roomId": "one"})).await;
    assert_eq!(users["payload"]["count"], 1, "{users}");
}
