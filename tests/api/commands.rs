//! What the operator tells all nodes: each connection gets a broadcast once, and a user who is to go
//! goes everywhere.

use std::time::Duration;

use crate::caller::OPERATOR;
use crate::company::Company;
use crate::support::raw::TEXT;
use crate::support::{Client, Node, Raw, SOON, Value, eventually, json, now_ms, token};

async fn broadcast(node: &Node, event: &str, data: &str) {
    let body = format!("{{\"event\":{},\"data\":{data},\"more\":1}}", json!(event));
    let path = "/api/broadcast";
    let answer = OPERATOR.send(node, "POST", path, Some(body.as_bytes()));
    let answer = answer.await;
    assert_eq!((answer.status, &*answer.body), (204, ""), "{answer:?}");
}

async fn disconnect(node: &Node, user: &str) {
    let path = format!("/api/users/{user}/disconnect");
    let answer = OPERATOR.send(node, "POST", &path, None).await;
    assert_eq!((answer.status, &*answer.body), (204, ""), "{answer:?}");
}

#[tokio::test]
async fn a_broadcast_reaches_every_connection_of_three_nodes_once() {
    everyone_hears(&Company::of(3).await).await;
}

#[tokio::test]
async fn a_broadcast_reaches_every_connection_of_one_node_once() {
    everyone_hears(&Company::alone().await).await;
}

/// Two connections of one user and one of another on each node, in many rooms, in one, and in none.
async fn everyone_hears(company: &Company) {
    let mut clients = Vec::new();
    for node in &company.nodes {
        clients.push(Client::in_room(node, "ada", "general").await);
        let mut many = Client::of(node, "ada").await;
        for room in ["one", "two", "general"] {
            many.join(room).await;
        }
        clients.push(many);
        clients.push(Client::of(node, "ben").await);
    }
    let long = "x".repeat(60_000);
    let said = [
        (
            "notice",
            r#"{"text":"<b>\"hi\" ä✓","n":12345678901234567890.25}"#,
        ),
        ("n", "null"),
        ("größe", "[1,\n 2]"),
        ("long", &format!("\"{long}\"")),
    ];
    for (n, (event, data)) in said.iter().enumerate() {
        let (node, before) = (&company.nodes[n % company.nodes.len()], now_ms());
        broadcast(node, event, data).await;
        for client in &mut clients {
            let got = client.expect("broadcast").await;
            let fields: Vec<&String> = got.as_object().unwrap().keys().collect();
            assert_eq!(fields, ["data", "event", "timestamp"]);
            assert_eq!(got["event"], *event);
            assert_eq!(got["data"], serde_json::from_str::<Value>(data).unwrap());
            let at = got["timestamp"].as_u64().unwrap();
            assert!((before..=now_ms()).contains(&at), "{at}");
        }
    }
    for client in &mut clients {
        client.expect_no("broadcast").await;
    }
}

#[tokio::test]
async fn what_is_broadcast_goes_out_as_it_was_sent() {
    let company = Company::alone().await;
    let mut raw = Raw::open(company.nodes[0].addr, &token("ada")).await;
    raw.expect("connected").await;
    let data = r#"{"n":12345678901234567890.250,"b":1,"a":1e999}"#;
    broadcast(&company.nodes[0], "exact", data).await;
    let (opcode, text) = raw.recv(SOON).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(opcode, TEXT);
    let start =
        format!(r#"{{"type":"broadcast","payload":{{"event":"exact","data":{data},"timestamp":"#);
    assert!(text.starts_with(&start), "{text}");
}

#[tokio::test]
async fn who_is_disconnected_goes_from_all_nodes_and_leaves_once() {
    goes(&Company::of(3).await, "a%2Fb%20%C3%A4", "a/b ä").await;
}

#[tokio::test]
async fn who_is_disconnected_goes_from_the_one_node() {
    goes(&Company::alone().await, "ada", "ada").await;
}

async fn goes(company: &Company, path: &str, user: &str) {
    let mut others = Vec::new();
    for (n, node) in company.nodes.iter().enumerate() {
        others.push(Client::in_room(node, &format!("other{n}"), "general").await);
    }
    let mut going = Vec::new();
    for node in company.nodes.iter().chain(&company.nodes) {
        going.push(Client::in_room(node, user, "general").await);
    }
    going.push(Client::of(&company.nodes[0], user).await);
    // This one answers no close, and takes it all the same.
    let mut mute = Raw::open(company.nodes[0].addr, &token(user)).await;
    mute.expect("connected").await;
    // A user of whose id the other's is a part.
    let mut alike = Client::of(&company.nodes[0], &format!("{user}2")).await;
    for other in &mut others {
        let joined = other.expect("user_joined").await;
        let joined = if joined["userId"] == user {
            joined
        } else {
            other.joined(user).await
        };
        assert_eq!(joined["userId"], user);
    }
    let last = company.nodes.last().unwrap();
    disconnect(last, path).await;
    for client in &mut going {
        assert_eq!(client.closed(SOON).await, Some(4002));
    }
    assert_eq!(mute.close_code().await, Some(4002));
    mute.ended(SOON).await;
    for other in &mut others {
        assert_eq!(other.expect("user_left").await["userId"], user);
    }
    alike.assert_alive().await;
    // Nobody minds it a second time, and she may come back.
    disconnect(last, path).await;
    let mut back = Client::in_room(last, user, "general").await;
    back.assert_alive().await;
    for other in &mut others {
        assert_eq!(other.joined(user).await["userId"], user);
        other.expect_no("user_left").await;
        other.assert_alive().await;
    }
}

/// Joins of others may come first.
trait Joined {
    async fn joined(&mut self, user: &str) -> Value;
}

impl Joined for Client {
    async fn joined(&mut self, user: &str) -> Value {
        loop {
            let joined = self.expect("user_joined").await;
            if joined["userId"] == user {
                return joined;
            }
        }
    }
}

#[tokio::test]
async fn a_command_that_a_living_node_may_have_missed_is_not_called_done() {
    let mut company = Company::of(2).await;
    let mut ada = Client::of(&company.nodes[0], "ada").await;
    company.nodes[1].kill().await;
    let said = json!({"event": "notice", "data": 1});
    // As long as its lease lasts the dead node counts as living. Who is here hears it all the same.
    let refused = OPERATOR
        .post(&company.nodes[0], "/api/broadcast", &said)
        .await;
    refused.assert_refusal(503, "UNAVAILABLE");
    assert_eq!(refused.header("retry-after"), Some("2"));
    assert!(refused.body.contains("some may have"), "{refused:?}");
    assert_eq!(ada.expect("broadcast").await["event"], "notice");
    let path = "/api/users/nobody/disconnect";
    let refused = OPERATOR.send(&company.nodes[0], "POST", path, None).await;
    refused.assert_refusal(503, "UNAVAILABLE");

    let node = &company.nodes[0];
    let told = || async { OPERATOR.post(node, "/api/broadcast", &said).await.status == 204 };
    eventually(
        Duration::from_secs(10),
        "the dead node to be given up",
        told,
    )
    .await;
}

#[tokio::test]
async fn a_node_that_has_drained_is_not_waited_for() {
    let mut company = Company::of(2).await;
    assert_eq!(company.nodes[1].stop().await.code(), Some(0));
    let node = &company.nodes[0];
    let said = json!({"event": "notice", "data": 1});
    let told = || async { OPERATOR.post(node, "/api/broadcast", &said).await.status == 204 };
    // Its lease lasts 8.5 s, for those who come back elsewhere; that it has left is known with the next beat.
    eventually(Duration::from_secs(5), "the next beat", told).await;
    assert_eq!(crate::company::stats(node).await["totalNodes"], 1);
}
