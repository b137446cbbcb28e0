//! What is refused, and how: nobody but the operator learns of these routes, and nothing that is
//! wrong is carried out.

use crate::caller::{Caller, KEY, OPERATOR};
use crate::company::Company;
use crate::support::token::{claims, in_seconds};
use crate::support::{Client, Node, Redis, SOON, eventually, json, token};

const OPERATORS: [(&str, &str); 4] = [
    ("GET", "/api/stats"),
    ("GET", "/api/users/online"),
    ("POST", "/api/broadcast"),
    ("POST", "/api/users/ada/disconnect"),
];
const SAID: &[u8] = b"{\"event\":\"e\",\"data\":1}";

#[tokio::test]
async fn without_a_key_set_the_operators_routes_are_not_there() {
    let node = Node::embedded().await;
    let mut ada = Client::of(&node, "ada").await;
    let user = token("ada");
    for (method, path) in OPERATORS {
        for caller in [None, Some(KEY), Some(""), Some(&*user)] {
            let answer = Caller(caller).send(&node, method, path, Some(SAID)).await;
            answer.assert_refusal(404, "NOT_FOUND");
        }
    }
    // Who is in a room is asked by users, too.
    let users = Caller(Some(&user))
        .json(&node, "/api/rooms/general/users")
        .await;
    assert_eq!(users, json!({"roomId": "general", "count": 0, "users": []}));
    let answer = OPERATOR.get(&node, "/api/rooms/general/users").await;
    answer.assert_refusal(401, "UNAUTHORIZED");
    ada.expect_no("broadcast").await;
}

#[tokio::test]
async fn only_the_key_itself_opens_the_operators_routes() {
    let company = Company::alone().await;
    let node = &company.nodes[0];
    let mut ada = Client::of(node, "ada").await;
    let admin = claims(&json!({"userId": "ada", "role": "admin", "exp": in_seconds(60)}));
    let wrong = [None, Some("a-key-of-the-test"), Some(""), Some(&*admin)];
    for (method, path) in OPERATORS {
        for caller in wrong {
            let answer = Caller(caller).send(node, method, path, Some(SAID)).await;
            answer.assert_refusal(401, "UNAUTHORIZED");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        let other = if method == "GET" { "POST" } else { "GET" };
        let answer = OPERATOR.send(node, other, path, None).await;
        answer.assert_refusal(405, "METHOD_NOT_ALLOWED");
        // A key in a URL would stand in logs.
        let in_query = format!("{path}?token={KEY}");
        let answer = Caller(None).send(node, method, &in_query, Some(SAID)).await;
        answer.assert_refusal(401, "UNAUTHORIZED");
    }
    for caller in [None, Some("nonsense")] {
        let answer = Caller(caller).get(node, "/api/rooms/general/users").await;
        answer.assert_refusal(401, "UNAUTHORIZED");
    }
    ada.expect_no("broadcast").await;
    ada.assert_alive().await;
}

#[tokio::test]
async fn a_bad_broadcast_is_refused_with_what_is_wrong_and_nobody_hears_it() {
    let company = Company::alone().await;
    let node = &company.nodes[0];
    let mut ada = Client::of(node, "ada").await;
    let long = format!("{{\"event\":\"{}\",\"data\":1}}", "é".repeat(33));
    for (body, code, names) in [
        ("", "INVALID_JSON", "no JSON"),
        ("{\"event\":\"e\",\"data\":}", "INVALID_JSON", "no JSON"),
        ("{\"event\":\"e\",\"data\":1}{}", "INVALID_JSON", "no JSON"),
        (
            "[\"e\",1]",
            "INVALID_PAYLOAD",
            "the body: must be an object",
        ),
        ("\"e\"", "INVALID_PAYLOAD", "the body: "),
        ("{\"data\":1}", "INVALID_PAYLOAD", "`event`"),
        ("{\"event\":\"e\"}", "INVALID_PAYLOAD", "`data`"),
        ("{\"event\":5,\"data\":1}", "INVALID_PAYLOAD", "event: "),
        ("{\"event\":null,\"data\":1}", "INVALID_PAYLOAD", "event: "),
        (
            "{\"event\":\"\",\"data\":1}",
            "INVALID_PAYLOAD",
            "event: must be 1 to 64 bytes",
        ),
        (&*long, "INVALID_PAYLOAD", "event: must be 1 to 64 bytes"),
    ] {
        let answer = OPERATOR
            .send(node, "POST", "/api/broadcast", Some(body.as_bytes()))
            .await;
        answer.assert_refusal(400, code);
        assert!(answer.body.contains(names), "{body}: {answer:?}");
    }
    let invalid = b"{\"event\":\"e\",\"data\":\"\xff\"}";
    let answer = OPERATOR
        .send(node, "POST", "/api/broadcast", Some(invalid))
        .await;
    assert_eq!(answer.status, 400, "{answer:?}");
    // One byte more than fits, and much more.
    for length in [64 * 1024 + 1, 300_000] {
        let frame = "{\"event\":\"e\",\"data\":\"\"}";
        let filler = "x".repeat(length - frame.len());
        let body = frame.replace("\"\"", &format!("\"{filler}\""));
        let answer = OPERATOR
            .send(node, "POST", "/api/broadcast", Some(body.as_bytes()))
            .await;
        answer.assert_refusal(413, "BODY_TOO_LARGE");
    }
    ada.expect_no("broadcast").await;
    let frame = "{\"event\":\"e\",\"data\":\"\"}";
    let filler = "x".repeat(64 * 1024 - frame.len());
    let body = frame.replace("\"\"", &format!("\"{filler}\""));
    let answer = OPERATOR
        .send(node, "POST", "/api/broadcast", Some(body.as_bytes()))
        .await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(ada.expect("broadcast").await["data"], filler);
    // Deeper than most parsers go down: nobody here parses it.
    let deep = format!(
        "{{\"event\":\"e\",\"data\":{}{}}}",
        "[".repeat(30_000),
        "]".repeat(30_000)
    );
    let answer = OPERATOR
        .send(node, "POST", "/api/broadcast", Some(deep.as_bytes()))
        .await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(OPERATOR.get(node, "/api/stats").await.status, 200);
}

#[tokio::test]
async fn bad_paths_and_cursors_are_refused_by_name() {
    let company = Company::alone().await;
    let node = &company.nodes[0];
    let long = "x".repeat(129);
    for user in ["%ff", &long, "%C3", ""] {
        let path = format!("/api/users/{user}/disconnect");
        let answer = OPERATOR.send(node, "POST", &path, None).await;
        answer.assert_refusal(400, "INVALID_PAYLOAD");
        assert!(answer.body.contains("user: "), "{answer:?}");
    }
    for room in ["%ff", &long, "a%20b", "%7Ba%7D", "a%0Ab", ""] {
        let answer = OPERATOR
            .get(node, &format!("/api/rooms/{room}/users"))
            .await;
        answer.assert_refusal(400, "INVALID_ROOM");
        assert!(answer.body.contains("room: "), "{answer:?}");
    }
    for path in [
        "/api",
        "/api/",
        "/api/rooms/general/users/",
        "/api/users/online/x",
    ] {
        let answer = OPERATOR.get(node, path).await;
        answer.assert_refusal(404, "NOT_FOUND");
    }
    let endless = format!("cursor={}", "A".repeat(8_000));
    for query in [
        "cursor=",
        "cursor=*",
        "cursor=null",
        "cursor=YQ&cursor=YQ",
        "cursor=%ff",
        &endless,
    ] {
        let answer = OPERATOR
            .get(node, &format!("/api/users/online?{query}"))
            .await;
        answer.assert_refusal(400, "INVALID_PAYLOAD");
        assert!(answer.body.contains("cursor: "), "{answer:?}");
        // Who isn't the operator isn't told.
        let answer = Caller(None)
            .get(node, &format!("/api/users/online?{query}"))
            .await;
        answer.assert_refusal(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn while_the_broker_is_away_nothing_is_made_up() {
    let mut company = Company::of(2).await;
    let mut ada = Client::in_room(&company.nodes[0], "ada", "general").await;
    company.redis.as_mut().unwrap().kill().await;
    let node = &company.nodes[0];
    let unready = || async { OPERATOR.get(node, "/ready").await.status == 503 };
    eventually(SOON, "the node to see that Redis is away", unready).await;
    for path in [
        "/api/users/online",
        "/api/rooms/general/users",
        "/api/rooms/other/users",
    ] {
        let answer = OPERATOR.get(node, path).await;
        answer.assert_refusal(503, "UNAVAILABLE");
        assert_eq!(answer.header("retry-after"), Some("2"), "{answer:?}");
    }
    for path in ["/api/broadcast", "/api/users/ada/disconnect"] {
        let answer = OPERATOR.send(node, "POST", path, Some(SAID)).await;
        answer.assert_refusal(503, "UNAVAILABLE");
    }
    // What was known of the nodes holds for a lease's time.
    let unknown = || async { OPERATOR.get(node, "/api/stats").await.status == 503 };
    eventually(2 * SOON, "the stats to be out of date", unknown).await;
    OPERATOR
        .get(node, "/api/stats")
        .await
        .assert_refusal(503, "UNAVAILABLE");
    ada.assert_alive().await;

    company.redis.as_mut().unwrap().start_again().await;
    company.know(2).await;
    ada.expect_no("broadcast").await;
}

#[tokio::test]
async fn a_node_that_has_met_nobody_yet_says_so() {
    // Nobody listens on that port.
    let redis = Redis::start().await;
    let url = redis.url();
    drop(redis);
    let node = Node::start(&[("API_KEY", KEY), ("REDIS_URL", &url)]).await;
    for path in [
        "/api/stats",
        "/api/users/online",
        "/api/rooms/general/users",
    ] {
        OPERATOR
            .get(&node, path)
            .await
            .assert_refusal(503, "UNAVAILABLE");
    }
    for path in ["/api/broadcast", "/api/users/ada/disconnect"] {
        let answer = OPERATOR.send(&node, "POST", path, Some(SAID)).await;
        answer.assert_refusal(503, "UNAVAILABLE");
    }
}
