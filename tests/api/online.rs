//! `/api/users/online`: everyone who is connected anywhere, once, page by page.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use crate::caller::OPERATOR;
use crate::company::{Company, TOLD};
use crate::support::token::{claims, in_seconds};
use crate::support::{Client, Connect, Node, Value, eventually, json, raise_nofile};

/// All pages: how many users each had, and every user's name.
async fn all(node: &Node) -> (Vec<usize>, BTreeMap<String, String>) {
    let (mut sizes, mut found) = (Vec::new(), BTreeMap::new());
    let mut path = "/api/users/online".to_owned();
    loop {
        let page = OPERATOR.json(node, &path).await;
        assert_eq!(page.as_object().unwrap().len(), 2, "{page}");
        let users = page["users"].as_array().unwrap();
        sizes.push(users.len());
        for user in users {
            let text = |field: &str| user[field].as_str().unwrap().to_owned();
            let before = found.insert(text("userId"), text("username"));
            assert_eq!(before, None, "twice: {user}");
            assert_eq!(user.as_object().unwrap().len(), 2, "{user}");
        }
        let Value::String(cursor) = &page["nextCursor"] else {
            assert_eq!(page["nextCursor"], Value::Null);
            return (sizes, found);
        };
        path = format!("/api/users/online?cursor={cursor}");
    }
}

async fn become_all(node: &Node, expected: &BTreeMap<String, String>) -> Vec<usize> {
    let sizes = std::cell::RefCell::new(Vec::new());
    let is_so = || async {
        let (pages, found) = all(node).await;
        *sizes.borrow_mut() = pages;
        found == *expected
    };
    eventually(TOLD, "exactly those who are connected", is_so).await;
    sizes.into_inner()
}

#[tokio::test]
async fn twenty_five_hundred_users_of_two_nodes_are_listed_once_each() {
    const USERS: usize = 2_500;
    raise_nofile();
    let company = Company::of(2).await;
    // Every fifth is on both nodes.
    let name = |n: usize| format!("u\"{n}, ä");
    let connect = async |node: usize, n: usize, username: String| {
        let user =
            claims(&json!({"userId": name(n), "username": username, "exp": in_seconds(600)}));
        Connect::to(&company.nodes[node]).token(&user).open().await
    };
    let mut clients = Vec::new();
    for from in (0..USERS).step_by(100) {
        let some = (from..from + 100).map(|n| connect(n % 2, n, format!("U{n}")));
        clients.extend(join_all(some).await);
        let again = (from..from + 100)
            .step_by(5)
            .map(|n| connect(1 - n % 2, n, format!("U{n}")));
        clients.extend(join_all(again).await);
    }
    let mut expected: BTreeMap<String, String> =
        (0..USERS).map(|n| (name(n), format!("U{n}"))).collect();
    for node in &company.nodes {
        assert_eq!(become_all(node, &expected).await, [1_000, 1_000, 500]);
    }

    // Of the first 250 one connection each ends: the fifty who are on both nodes stay.
    let mut seen = BTreeSet::new();
    let (gone, stay): (Vec<_>, Vec<_>) = clients.into_iter().partition(|client| {
        let n: usize = expected[client.user()][1..].parse().unwrap();
        n < 250 && seen.insert(n)
    });
    for client in &gone {
        let n: usize = expected[client.user()][1..].parse().unwrap();
        if !n.is_multiple_of(5) {
            expected.remove(client.user());
        }
    }
    assert_eq!(expected.len(), 2_300);
    join_all(gone.into_iter().map(Client::close)).await;
    assert_eq!(
        become_all(&company.nodes[0], &expected).await,
        [1_000, 1_000, 300]
    );
    drop(stay);
}

#[tokio::test]
async fn a_page_that_is_just_full_is_the_last() {
    raise_nofile();
    let company = Company::alone().await;
    let node = &company.nodes[0];
    assert_eq!(all(node).await, (vec![0], BTreeMap::new()));
    let open = (0..1_001).map(|n| async move { Client::of(node, &format!("u{n:04}")).await });
    let mut clients = join_all(open).await;
    let mut expected: BTreeMap<String, String> = (0..1_001)
        .map(|n| (format!("u{n:04}"), format!("U{n:04}")))
        .collect();
    assert_eq!(become_all(node, &expected).await, [1_000, 1]);
    let last = clients.pop().unwrap();
    expected.remove(last.user());
    last.close().await;
    // It may be told between two pages that the last one left.
    become_all(node, &expected).await;
    assert_eq!(all(node).await.0, [1_000]);
    // A page goes on behind a user who has left meanwhile.
    let behind = OPERATOR
        .json(node, "/api/users/online?cursor=dTA5OTk")
        .await;
    assert_eq!(behind, json!({"users": [], "nextCursor": null}));
}

#[tokio::test]
async fn who_was_on_a_killed_node_is_no_longer_listed() {
    let mut company = Company::of(2).await;
    let _ada = Client::of(&company.nodes[0], "ada").await;
    let _both = [
        Client::of(&company.nodes[0], "ben").await,
        Client::of(&company.nodes[1], "ben").await,
    ];
    let _gone = Client::of(&company.nodes[1], "cem").await;
    let people = |ids: &[&str]| -> BTreeMap<String, String> {
        ids.iter()
            .map(|id| ((*id).to_owned(), id[..1].to_uppercase() + &id[1..]))
            .collect()
    };
    become_all(&company.nodes[0], &people(&["ada", "ben", "cem"])).await;
    company.nodes[1].kill().await;
    let is_so = || async { all(&company.nodes[0]).await.1 == people(&["ada", "ben"]) };
    eventually(
        std::time::Duration::from_secs(10),
        "the killed node's user to go",
        is_so,
    )
    .await;
}
