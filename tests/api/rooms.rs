//! `/api/rooms/{room}/users`: who is in a room, asked of a node that has it and of one that hasn't.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use crate::caller::{Caller, OPERATOR};
use crate::company::{Company, TOLD};
use crate::support::token::{claims, in_seconds};
use crate::support::{Client, Node, Value, eventually, json, raise_nofile, token};

fn path(room: &str) -> String {
    format!("/api/rooms/{room}/users")
}

/// The users as a set of ids and names, after a look at the form.
fn listed(answer: &Value, room: &str) -> (u64, BTreeSet<(String, String)>) {
    let fields: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["count", "roomId", "users"]);
    assert_eq!(answer["roomId"], room);
    let users = answer["users"].as_array().unwrap();
    let text = |user: &Value, field: &str| user[field].as_str().unwrap().to_owned();
    let set: BTreeSet<_> = users
        .iter()
        .map(|user| (text(user, "userId"), text(user, "username")))
        .collect();
    assert_eq!(set.len(), users.len(), "a user is listed twice: {answer}");
    (answer["count"].as_u64().unwrap(), set)
}

fn people(ids: &[&str]) -> (u64, BTreeSet<(String, String)>) {
    let named = |id: &&str| ((*id).to_owned(), id[..1].to_uppercase() + &id[1..]);
    (ids.len() as u64, ids.iter().map(named).collect())
}

async fn becomes(node: &Node, room: &str, ids: &[&str]) {
    let is_so = || async { listed(&OPERATOR.json(node, &path(room)).await, room) == people(ids) };
    eventually(TOLD, &format!("{ids:?} in {room}"), is_so).await;
}

#[tokio::test]
async fn everyone_in_a_room_is_seen_from_every_node() {
    let mut company = Company::of(3).await;
    let room = "größe/1";
    let in_path = "gr%C3%B6%C3%9Fe%2F1";
    let becomes = async |company: &Company, n: usize, ids: &[&str]| {
        let node = &company.nodes[n];
        let is_so =
            || async { listed(&OPERATOR.json(node, &path(in_path)).await, room) == people(ids) };
        eventually(TOLD, &format!("{ids:?} as node {n} sees it"), is_so).await;
    };
    let mut ada = Client::in_room(&company.nodes[0], "ada", room).await;
    let again = Client::in_room(&company.nodes[1], "ada", room).await;
    let ben = Client::in_room(&company.nodes[1], "ben", room).await;
    // The third node hasn't the room; the others have.
    for n in 0..3 {
        becomes(&company, n, &["ada", "ben"]).await;
    }
    // The same as over the WebSocket.
    let over_ws = ada.request("users", json!({"roomId": room})).await;
    assert_eq!(listed(&over_ws["payload"], room), people(&["ada", "ben"]));
    ben.close().await;
    for n in 0..3 {
        becomes(&company, n, &["ada"]).await;
    }
    let _ben = Client::in_room(&company.nodes[1], "ben", room).await;
    becomes(&company, 2, &["ada", "ben"]).await;
    // A dead node's entries count for nobody, whether somebody removes them or not.
    company.nodes[1].kill().await;
    drop(again);
    becomes(&company, 0, &["ada"]).await;
    becomes(&company, 2, &["ada"]).await;
}

#[tokio::test]
async fn what_a_dead_node_left_in_a_room_that_nobody_else_has_does_not_count() {
    let mut company = Company::of(2).await;
    let _ada = Client::in_room(&company.nodes[1], "ada", "lonely").await;
    becomes(&company.nodes[0], "lonely", &["ada"]).await;
    company.nodes[1].kill().await;
    becomes(&company.nodes[0], "lonely", &[]).await;
    let left: usize = company
        .redis
        .as_ref()
        .unwrap()
        .cli(&["HLEN", "chat:roster:{lonely}"])
        .await;
    assert_eq!(
        left, 2,
        "the entry itself is still there, and the roster's version"
    );
}

#[tokio::test]
async fn at_most_a_thousand_are_listed_and_all_are_counted() {
    raise_nofile();
    let company = Company::of(2).await;
    let node = &company.nodes[1];
    let open = |n: usize| async move { Client::in_room(node, &format!("u{n}"), "large").await };
    let mut clients = Vec::new();
    for from in (0..1_100).step_by(100) {
        clients.extend(join_all((from..from + 100).map(open)).await);
    }
    for node in &company.nodes {
        let is_so = || async {
            let answer = OPERATOR.json(node, &path("large")).await;
            let (count, listed) = listed(&answer, "large");
            (count, listed.len()) == (1_100, 1_000)
        };
        eventually(TOLD, "1,100 users, of whom 1,000 are listed", is_so).await;
    }
}

#[tokio::test]
async fn a_user_sees_the_rooms_that_the_token_grants() {
    let company = Company::alone().await;
    let node = &company.nodes[0];
    let _ada = Client::in_room(node, "ada", "team-1").await;
    let some =
        claims(&json!({"userId": "ben", "rooms": ["team-*", "dm:*"], "exp": in_seconds(60)}));
    let (all, some) = (token("ben"), some);
    for (caller, room, expected) in [
        (Caller(Some(&all)), "team-1", Ok(&["ada"][..])),
        (Caller(Some(&some)), "team-1", Ok(&["ada"])),
        (Caller(Some(&some)), "team-2", Ok(&[])),
        (Caller(Some(&some)), "general", Err(())),
        // A private room is its two users' alone, whatever a token says; nobody has opened one yet.
        (Caller(Some(&some)), "dm:x", Err(())),
        (Caller(Some(&all)), "dm:x", Err(())),
        (OPERATOR, "dm:x", Ok(&[])),
        (OPERATOR, "team-1", Ok(&["ada"])),
    ] {
        let answer = caller.get(node, &path(room)).await;
        match expected {
            Ok(ids) => assert_eq!(listed(&answer.json(), room), people(ids), "{answer:?}"),
            Err(()) => answer.assert_refusal(403, "FORBIDDEN"),
        }
    }
    let expired = claims(&json!({"userId": "ben", "exp": in_seconds(-60)}));
    let answer = Caller(Some(&expired)).get(node, &path("team-1")).await;
    answer.assert_refusal(401, "UNAUTHORIZED");
}
