//! Before the WebSocket: who gets in, who is refused and how, what has a deadline.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, Header};
use support::token::{SECRET, claims, in_seconds, mislabelled, signed, token, unsigned};
use support::{Client, Connect, Node, SOON, Value, http, json, now_ms, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_token_comes_by_query_header_or_subprotocol() {
    let node = Node::embedded().await;

    let query = Connect::to(&node)
        .path(format!("/?token={}", token("ada")))
        .open()
        .await;
    assert_eq!(query.user(), "ada");
    assert_eq!(query.subprotocol, None);

    let header = format!("Bearer {}", token("ben"));
    let header = Connect::to(&node)
        .path("/ws")
        .header("Authorization", header)
        .open()
        .await;
    assert_eq!(header.user(), "ben");

    let list = format!("chat.v1, bearer.{}", token("eve"));
    let list = Connect::to(&node)
        .path("/ws")
        .header("Sec-WebSocket-Protocol", list)
        .open()
        .await;
    assert_eq!(list.user(), "eve");
    assert_eq!(
        list.subprotocol.as_deref(),
        Some("chat.v1"),
        "and never the token"
    );
}

#[tokio::test]
async fn the_query_goes_before_the_header_and_the_header_before_the_subprotocol() {
    let node = Node::embedded().await;
    let protocols = format!("chat.v1, bearer.{}", token("subprotocol"));
    let all = Connect::to(&node)
        .token(&token("query"))
        .header("Authorization", format!("Bearer {}", token("header")))
        .header("Sec-WebSocket-Protocol", protocols.clone());
    assert_eq!(all.open().await.user(), "query");

    let two = Connect::to(&node)
        .header("Authorization", format!("Bearer {}", token("header")))
        .header("Sec-WebSocket-Protocol", protocols);
    assert_eq!(two.open().await.user(), "header");
}

#[tokio::test]
async fn the_first_event_says_who_and_where_one_is() {
    let node = Node::start(&[
        ("NODE_ID", "node-seven"),
        ("HEARTBEAT_INTERVAL", "20s"),
        ("MAX_TEXT_LENGTH", "1000"),
        ("MAX_FRAME_BYTES", "8KiB"),
    ])
    .await;
    let expiry = in_seconds(600);
    let one = claims(&json!({"userId": "ada", "username": "Ada", "exp": expiry}));
    let (one, other) = (
        Connect::to(&node).token(&one).open().await,
        Client::of(&node, "ada").await,
    );

    let hello = &one.connected;
    assert_eq!(hello["userId"], "ada");
    assert_eq!(hello["username"], "Ada");
    assert_eq!(hello["nodeId"], "node-seven");
    assert_eq!(hello["heartbeatMs"], 20_000);
    assert_eq!(hello["expiresAt"], expiry * 1000);
    assert_eq!(hello["maxTextLength"], 1000);
    assert_eq!(hello["maxFrameBytes"], 8192);
    assert_eq!(hello["rooms"], json!([]));
    let age = now_ms().abs_diff(hello["timestamp"].as_u64().unwrap());
    assert!(age < 5000, "timestamp is {age} ms off");
    let id = hello["connectionId"].as_str().unwrap();
    assert!(!id.is_empty());
    assert_ne!(
        id, other.connected["connectionId"],
        "each connection has its own id"
    );

    let names: BTreeSet<&str> = hello
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "connectionId",
        "expiresAt",
        "heartbeatMs",
        "maxFrameBytes",
        "maxTextLength",
        "nodeId",
        "rooms",
        "timestamp",
        "userId",
        "username",
    ];
    assert_eq!(names, BTreeSet::from(expected));
}

#[tokio::test]
async fn claims_name_the_user() {
    let node = Node::embedded().await;
    let longest = "u".repeat(128);
    let exp = in_seconds(60);
    for (claimed, user, name) in [
        (
            json!({"userId": "ada", "username": "Ada", "exp": exp}),
            "ada",
            "Ada",
        ),
        (
            json!({"userId": "ada", "name": "Countess", "exp": exp}),
            "ada",
            "Countess",
        ),
        (json!({"userId": "ada", "exp": exp}), "ada", "user_ada"),
        (json!({"userId": 42, "exp": exp}), "42", "user_42"),
        (json!({"userId": -7, "exp": exp}), "-7", "user_-7"),
        (
            json!({"sub": "ada", "username": "Ada", "exp": exp}),
            "ada",
            "Ada",
        ),
        (
            json!({"sub": "no", "userId": "yes", "exp": exp}),
            "yes",
            "user_yes",
        ),
        (
            json!({"userId": longest, "username": "x", "exp": exp}),
            &longest,
            "x",
        ),
        (
            json!({"userId": "ada", "nbf": in_seconds(-10), "exp": exp}),
            "ada",
            "user_ada",
        ),
    ] {
        let client = Connect::to(&node).token(&claims(&claimed)).open().await;
        assert_eq!(client.connected["userId"], user, "{claimed}");
        assert_eq!(client.connected["username"], name, "{claimed}");
    }
}

#[tokio::test]
async fn a_bad_token_is_a_401_before_the_upgrade() {
    let node = Node::embedded().await;
    let exp = in_seconds(60);
    let good = json!({"userId": "ada", "exp": exp});
    let other_secret = "another-secret-0123456789-0123456789";
    let (head_and_claims, _) = token("ada").rsplit_once('.').map(owned).unwrap();
    let cases = [
        ("no JWT", "nonsense".to_owned()),
        ("only dots", "..".to_owned()),
        ("empty", String::new()),
        (
            "signed by someone else",
            signed(&Header::default(), &good, other_secret),
        ),
        ("no signature", format!("{head_and_claims}.")),
        ("alg none", unsigned(&good)),
        ("alg none with a signature", mislabelled("none", &good)),
        ("labelled RS256", mislabelled("RS256", &good)),
        ("labelled HS512", mislabelled("HS512", &good)),
        (
            "HS384 with the right secret",
            signed(&Header::new(Algorithm::HS384), &good, SECRET),
        ),
        (
            "expired",
            claims(&json!({"userId": "ada", "exp": in_seconds(-5)})),
        ),
        (
            "not yet valid",
            claims(&json!({"userId": "ada", "exp": exp, "nbf": in_seconds(50)})),
        ),
        ("no exp", claims(&json!({"userId": "ada"}))),
        (
            "exp is text",
            claims(&json!({"userId": "ada", "exp": "tomorrow"})),
        ),
        ("no userId", claims(&json!({"username": "Ada", "exp": exp}))),
        ("empty userId", claims(&json!({"userId": "", "exp": exp}))),
        (
            "userId of 129 bytes",
            claims(&json!({"userId": "u".repeat(129), "exp": exp})),
        ),
        ("userId 1.5", claims(&json!({"userId": 1.5, "exp": exp}))),
        ("userId true", claims(&json!({"userId": true, "exp": exp}))),
        (
            "userId an object",
            claims(&json!({"userId": {}, "exp": exp})),
        ),
        ("claims no object", claims(&json!(["ada"]))),
        ("username of 129 bytes", {
            claims(&json!({"userId": "ada", "username": "n".repeat(129), "exp": exp}))
        }),
    ];
    for (what, token) in cases {
        let by_query = http::upgrade(node.addr, &format!("/?token={token}"), &[]).await;
        assert_eq!(by_query.status, 401, "{what}, by query: {by_query:?}");
        by_query.assert_refusal(401, "UNAUTHORIZED");
        assert!(
            token.is_empty() || !by_query.body.contains(&token),
            "{what}: {by_query:?}"
        );

        let header = format!("Bearer {token}");
        let by_header = http::upgrade(node.addr, "/ws", &[("Authorization", &header)]).await;
        assert_eq!(by_header.status, 401, "{what}, by header: {by_header:?}");
        let list = format!("chat.v1, bearer.{token}");
        let by_list = http::upgrade(node.addr, "/ws", &[("Sec-WebSocket-Protocol", &list)]).await;
        assert_eq!(by_list.status, 401, "{what}, by subprotocol: {by_list:?}");
    }
    // None of them took anything from those who come after.
    Client::of(&node, "ada").await.assert_alive().await;
}

#[tokio::test]
async fn no_token_is_a_401() {
    let node = Node::embedded().await;
    for path in ["/", "/ws", "/?token=", "/ws?other=1"] {
        http::upgrade(node.addr, path, &[])
            .await
            .assert_refusal(401, "UNAUTHORIZED");
    }
    for header in ["", "Bearer", "Bearer ", "Basic YTpi", "Token abc"] {
        let refused = http::upgrade(node.addr, "/", &[("Authorization", header)]).await;
        refused.assert_refusal(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn what_is_no_upgrade_is_answered_with_json() {
    let node = Node::embedded().await;
    http::get(node.addr, "/ws")
        .await
        .assert_refusal(426, "UPGRADE_REQUIRED");
    for path in ["/nothing", "/ws/", "/health/x", "/%00", "/../etc/passwd"] {
        let response = http::get(node.addr, path).await;
        assert_eq!(response.status, 404, "{path}: {response:?}");
        assert!(response.json()["code"].is_string(), "{path}: {response:?}");
    }
    // Upgrades happen on `/` and `/ws` only, also for those with a good token.
    let elsewhere = format!("/nothing?token={}", token("ada"));
    assert_eq!(http::upgrade(node.addr, &elsewhere, &[]).await.status, 404);
}

#[tokio::test]
async fn health_and_readiness_of_a_lone_node() {
    let node = Node::start(&[("NODE_ID", "node-one")]).await;
    let health = http::get(node.addr, "/health").await;
    assert_eq!(health.status, 200, "{health:?}");
    let body = health.json();
    assert_eq!(body["status"], "ok");
    assert_eq!(body["nodeId"], "node-one");
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        body["broker"],
        json!({"kind": "embedded", "state": "up", "lagMs": 0})
    );
    assert!(
        now_ms().abs_diff(body["timestamp"].as_u64().unwrap()) < 5000,
        "{body}"
    );
    assert_eq!(http::get(node.addr, "/ready").await.status, 200);
}

#[tokio::test]
async fn a_broken_upgrade_is_refused_and_the_node_goes_on() {
    let node = Node::embedded().await;
    let path = format!("/?token={}", token("ada"));
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (what, headers) in [
        ("no key", vec![("Sec-WebSocket-Version", "13")]),
        ("no version", vec![key]),
        ("version 8", vec![key, ("Sec-WebSocket-Version", "8")]),
    ] {
        let all: Vec<_> = upgrade.into_iter().chain(headers).collect();
        let response = http::try_request(node.addr, &path, &all)
            .await
            .expect("a response");
        assert!(
            (400..500).contains(&response.status),
            "{what}: {response:?}"
        );
    }
    for garbage in [
        "\r\n\r\n",
        "GET\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(node.addr).await.expect("a connection");
        let _ = stream.write_all(garbage.as_bytes()).await;
        // Some are answered, some only dropped; after a bare line a client may still go on.
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = within(SOON, "the end", stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP/1.1 101"), "{garbage:?}");
    }
    Client::of(&node, "ada").await.assert_alive().await;
}

#[tokio::test]
async fn an_unfinished_head_is_dropped_at_the_handshake_timeout() {
    let node = Node::start(&[("HANDSHAKE_TIMEOUT", "1s")]).await;
    for (what, start) in [
        ("nothing at all", ""),
        ("half a line", "GET /ws HT"),
        (
            "half a head",
            "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: webs",
        ),
    ] {
        let mut stream = TcpStream::connect(node.addr).await.expect("a connection");
        let begin = Instant::now();
        stream.write_all(start.as_bytes()).await.expect("sent");
        let mut rest = Vec::new();
        let _ = within(
            SOON,
            &format!("the end after {what}"),
            stream.read_to_end(&mut rest),
        )
        .await;
        let after = begin.elapsed();
        assert!(
            after >= Duration::from_millis(900),
            "{what}: dropped after {after:?} already"
        );
        assert!(
            after < Duration::from_secs(4),
            "{what}: dropped only after {after:?}"
        );
    }
    // Those who are through the handshake have no such deadline: this one outlives it.
    let mut client = Client::of(&node, "ada").await;
    let mut idle = TcpStream::connect(node.addr).await.expect("a connection");
    let _ = within(SOON, "the idle one's end", idle.read_u8()).await;
    client.assert_alive().await;
}

#[tokio::test]
async fn a_head_that_trickles_in_has_the_same_deadline() {
    let node = Node::start(&[("HANDSHAKE_TIMEOUT", "1s")]).await;
    let (mut read, mut write) = TcpStream::connect(node.addr)
        .await
        .expect("a connection")
        .into_split();
    let begin = Instant::now();
    let trickle = async {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        write.write_all(b"GET /ws HTTP/1.1\r\nX-Long: ").await?;
        loop {
            tick.tick().await;
            write.write_all(b"a").await?;
        }
    };
    let mut rest = Vec::new();
    let ended = async {
        tokio::select! {
            _ = read.read_to_end(&mut rest) => {}
            _ = async { let _: std::io::Result<()> = trickle.await; } => {}
        }
    };
    within(SOON, "the end of the trickle", ended).await;
    let after = begin.elapsed();
    assert!(
        after < Duration::from_secs(4),
        "dropped only after {after:?}"
    );
}

fn owned((left, right): (&str, &str)) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

/// The claims that the tests make have to be readable, or every refusal would be for that reason.
#[test]
fn the_tests_own_tokens_are_well_formed() {
    let parts: Vec<String> = token("ada").split('.').map(str::to_owned).collect();
    assert_eq!(parts.len(), 3);
    let decoded = {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(&parts[1])
            .unwrap()
    };
    let claims: Value = serde_json::from_slice(&decoded).unwrap();
    assert_eq!(claims["userId"], "ada");
}
