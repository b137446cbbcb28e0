//! The end of a token is the end of its connection, unless another token came.

use std::time::Duration;

use jsonwebtoken::Header;

use crate::ada;
use crate::keys::Pair;
use crate::source::{Answer, Source, set};
use crate::support::token::{claims, in_seconds, signed, token};
use crate::support::{Client, Connect, Node, SOON, Value, json, now_ms};

/// A token of this user that ends in so many seconds.
fn lasting(user: &str, seconds: i64) -> String {
    claims(&json!({"userId": user, "exp": in_seconds(seconds)}))
}

async fn refresh(client: &mut Client, token: &str) -> Value {
    client.request("refresh", json!({ "token": token })).await
}

#[track_caller]
fn assert_refused(reply: &Value, code: &str, said: &str) {
    assert_eq!(reply["type"], "error", "{reply}");
    assert_eq!(reply["payload"]["code"], code, "{reply}");
    let message = reply["payload"]["message"].as_str().unwrap();
    assert!(
        message.contains("`token`") && message.contains(said),
        "{reply}"
    );
}

/// Its connection ends with 4001 when this token of it does, and not before.
async fn ends_at(client: &mut Client, expires_at: u64) {
    assert_eq!(client.closed(2 * SOON).await, Some(4001));
    let now = now_ms();
    assert!(now >= expires_at, "{} ms too early", expires_at - now);
    assert!(now < expires_at + 4000, "{} ms too late", now - expires_at);
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let node = Node::embedded().await;
    let mut client = Connect::to(&node).token(&lasting("ada", 2)).open().await;
    let expires_at = client.connected["expiresAt"].as_u64().unwrap();
    client.join("r").await;
    ends_at(&mut client, expires_at).await;
}

#[tokio::test]
async fn the_token_that_came_last_counts() {
    let node = Node::embedded().await;
    let mut longer = Connect::to(&node).token(&lasting("ada", 2)).open().await;
    let first = longer.connected["expiresAt"].as_u64().unwrap();
    longer.join("r").await;
    let reply = refresh(&mut longer, &lasting("ada", 6)).await;
    assert_eq!(reply["type"], "refreshed", "{reply}");
    let second = reply["payload"]["expiresAt"].as_u64().unwrap();
    assert_eq!(reply["payload"], json!({ "expiresAt": second }));
    assert!(second >= first + 3000, "{first} {second}");
    let mut shorter = Client::of(&node, "ben").await;
    let sooner = refresh(&mut shorter, &lasting("ben", 3)).await["payload"]["expiresAt"].clone();
    let longer_lives = async {
        while now_ms() < first + 1000 {
            longer.say("r", "still here").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        ends_at(&mut longer, second).await;
    };
    tokio::join!(
        longer_lives,
        ends_at(&mut shorter, sooner.as_u64().unwrap())
    );
}

/// Whoever hears `refreshed` isn't ended by the token before, however close its end was.
#[tokio::test]
async fn at_the_very_end_of_a_token_either_it_or_the_next_one_counts() {
    let node = Node::embedded().await;
    let (mut renewed, mut ended) = (0, 0);
    let mut tasks = tokio::task::JoinSet::new();
    let expires = in_seconds(3);
    for n in 0..80_i64 {
        let user = format!("u{n}");
        let short = claims(&json!({"userId": user, "exp": expires}));
        let mut client = Connect::to(&node).token(&short).open().await;
        tasks.spawn(async move {
            let until = u64::try_from(expires).unwrap() * 1000;
            let left = (until + n as u64 % 40).saturating_sub(now_ms() + 20);
            tokio::time::sleep(Duration::from_millis(left)).await;
            client
                .try_send("refresh", json!({"token": lasting(&user, 600)}))
                .await;
            let Some(event) = client.next_or_close(SOON).await else {
                assert_eq!(client.closed(SOON).await, Some(4001));
                return false;
            };
            // It was told that it goes on, so it does.
            assert_eq!(event["type"], "refreshed", "{event}");
            let left = Duration::from_millis((until + 1500).saturating_sub(now_ms()));
            tokio::time::sleep(left).await;
            client.assert_alive().await;
            true
        });
    }
    while let Some(done) = tasks.join_next().await {
        *(if done.unwrap() {
            &mut renewed
        } else {
            &mut ended
        }) += 1;
    }
    assert_eq!(renewed + ended, 80);
}

#[tokio::test]
async fn a_token_that_does_not_hold_changes_nothing() {
    let node = Node::embedded().await;
    let mut ada = Client::in_room(&node, "ada", "r").await;
    let strange = signed(
        &Header::default(),
        &crate::ada(),
        "another secret of enough bytes!!",
    );
    for (bad, said) in [
        (token("ben"), "another user's"),
        (lasting("ada", -1), "expired"),
        (strange, "signature"),
        ("no token".into(), "no JWT"),
        ("x".repeat(9000), "8 KiB"),
    ] {
        assert_refused(&refresh(&mut ada, &bad).await, "UNAUTHORIZED", said);
    }
    for payload in [
        json!({}),
        json!({"token": 7}),
        json!({"token": ""}),
        json!({"token": null}),
    ] {
        let reply = ada.request("refresh", payload).await;
        assert_refused(&reply, "INVALID_PAYLOAD", "string");
    }
    ada.say_and_hear("r", "as it was").await;
}

#[tokio::test]
async fn a_token_whose_key_is_fetched_first_keeps_nothing_waiting_but_the_next_one() {
    let pair = Pair::ec("P-256");
    let source = Source::start(Answer::Hold).await;
    let node = Node::start(&[("JWT_JWKS_URL", &source.url())]).await;
    source.asked(1).await;
    let mut client = Client::in_room(&node, "ada", "r").await;
    let texts = [
        json!({"type": "refresh", "id": "a", "payload": {"token": pair.token_of("k", &ada())}}),
        json!({"type": "refresh", "id": "b", "payload": {"token": "x"}}),
        json!({"type": "refresh", "id": "c", "payload": {"token": lasting("ada", 600)}}),
    ];
    client.send_all(texts.map(|text| text.to_string())).await;
    client.say_and_hear("r", "nobody waits").await;
    client.assert_alive().await;
    assert_eq!(client.forget(), [] as [Value; 0]);
    source.says(set(&[pair.jwk("k")]));
    let mut answers = vec![];
    for _ in 0..3 {
        let reply = client.next().await;
        answers.push((reply["id"].clone(), reply["type"].clone()));
    }
    let expected = [("a", "refreshed"), ("b", "error"), ("c", "refreshed")];
    assert_eq!(answers, expected.map(|(id, kind)| (json!(id), json!(kind))));
    client.assert_alive().await;
}

#[tokio::test]
async fn a_token_that_can_not_be_judged_now_changes_nothing() {
    let pair = Pair::ed25519();
    let source = Source::start(Answer::Head("500 Oh".into())).await;
    let node = Node::start(&[("JWT_JWKS_URL", &source.url())]).await;
    source.asked(1).await;
    let mut client = Client::in_room(&node, "ada", "r").await;
    let reply = refresh(&mut client, &pair.token_of("k", &ada())).await;
    assert_refused(&reply, "UNAVAILABLE", "try again");
    client.say_and_hear("r", "as it was").await;
    // One who leaves while it is judged leaves nothing behind.
    source.says(Answer::Hold);
    client
        .send("refresh", json!({"token": pair.token_of("k", &ada())}))
        .await;
    client.close().await;
}
