//! What every answer says to a browser, which pages may read it, and what has a deadline beside the head.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use support::http::{self, Response};
use support::nginx::Nginx;
use support::{Node, SOON, token, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KEY: &str = "an-operators-key-of-the-tests";

async fn node(env: &[(&str, &str)]) -> Node {
    let all: Vec<_> = env.iter().copied().chain([("API_KEY", KEY)]).collect();
    Node::start(&all).await
}

fn values<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    let all = response.headers.iter().filter(|(key, _)| key == name);
    all.map(|(_, value)| value.as_str()).collect()
}

/// That it may be rendered by no browser, kept by no cache, and tells its address to nobody; each header once.
#[track_caller]
fn assert_harmless(response: &Response) {
    assert_eq!(response.header("server"), None, "{response:?}");
    assert_guarded(response);
}

/// The same for what came through a proxy, which may name itself.
#[track_caller]
fn assert_guarded(response: &Response) {
    let policy = values(response, "content-security-policy");
    assert_eq!(policy.len(), 1, "{response:?}");
    assert!(policy[0].contains("default-src 'none'"), "{response:?}");
    assert!(policy[0].contains("frame-ancestors 'none'"), "{response:?}");
    assert!(!policy[0].contains("unsafe"), "{response:?}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(values(response, name), [value], "{name}: {response:?}");
    }
    for name in ["x-powered-by", "access-control-allow-credentials"] {
        assert_eq!(response.header(name), None, "{response:?}");
    }
    // The version is in /health, whose spec asks for it, and nowhere else.
    let version = env!("CARGO_PKG_VERSION");
    let heads = response.headers.iter();
    assert!(heads.clone().all(|(_, value)| !value.contains(version)));
    // A body without a type would be guessed at.
    let typed = response.header("content-type").is_some();
    assert!(typed || response.body.is_empty(), "{response:?}");
}

#[tokio::test]
async fn every_answer_but_a_101_says_what_a_browser_may_not_do() {
    let node = node(&[]).await;
    let bearer = format!("Bearer {KEY}");
    let operator = [("Authorization", &*bearer)];
    let said = br#"{"event":"e","data":1}"#;
    for (method, path, headers, body, status) in [
        ("GET", "/health", &[][..], None, 200),
        ("HEAD", "/health", &[], None, 200),
        ("POST", "/health", &[], None, 405),
        ("OPTIONS", "/health", &[], None, 405),
        ("GET", "/ready", &[], None, 200),
        ("GET", "/metrics", &[], None, 200),
        ("GET", "/ws", &[], None, 426),
        ("GET", "/", &[], None, 404),
        ("GET", "/nothing/here", &[], None, 404),
        ("DELETE", "/%00/%3Cscript%3E", &[], None, 404),
        ("GET", "/api/stats", &[], None, 401),
        ("GET", "/api/stats", &operator, None, 200),
        ("PUT", "/api/stats", &operator, None, 405),
        ("POST", "/api/broadcast", &operator, Some(&said[..]), 204),
        ("POST", "/api/broadcast", &operator, Some(b"{"), 400),
        ("GET", "/api/rooms/a/users", &[], None, 401),
    ] {
        // What a HEAD's answer says of a body isn't followed by one.
        if method == "HEAD" {
            let answer = head_of(&node, path).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.to_lowercase().contains("nosniff") && answer.ends_with("\r\n\r\n"));
            continue;
        }
        let response = http::send(node.addr, method, path, headers, body).await;
        assert_eq!(response.status, status, "{method} {path}: {response:?}");
        assert_harmless(&response);
        if status == 405 {
            let allows = response.header("allow");
            assert!(allows.is_some_and(|list| !list.is_empty()), "{response:?}");
        }
    }
    for (path, status) in [("/ws", 401), ("/ws?token=x", 401)] {
        let response = http::upgrade(node.addr, path, &[]).await;
        assert_eq!(response.status, status);
        assert_harmless(&response);
    }
    let path = format!("/ws?token={}", token("ada"));
    let upgraded = http::upgrade(node.addr, &path, &[]).await;
    assert_eq!(upgraded.status, 101);
    assert_eq!(upgraded.header("content-security-policy"), None);
    assert_eq!(upgraded.header("server"), None);
}

/// What isn't HTTP is answered before there is any route: with a status, and nothing to render.
#[tokio::test]
async fn what_is_no_http_is_answered_with_an_empty_body() {
    let node = node(&[]).await;
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    for (request, status) in [
        ("GET /<script> HTTP/1.1\r\n\r\n", "400"),
        ("garbage\r\n\r\n", "400"),
        (&*long, "431"),
    ] {
        let answer = all_of(&node, request).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert_eq!(body, "", "{head}");
        assert!(!head.to_lowercase().contains("server:"), "{head}");
    }
}

/// nginx neither takes anything of it away nor adds to it, and hides its own version.
#[tokio::test]
async fn through_nginx_it_is_the_same() {
    let node = node(&[("ALLOWED_ORIGINS", "https://chat.example")]).await;
    let port = node.addr.port();
    let nginx = Nginx::start([port, port, port]).await;
    let friend = [("Origin", "https://chat.example")];
    for (path, status) in [("/health", 200), ("/nothing", 404), ("/api/stats", 401)] {
        let tcp = TcpStream::connect(nginx.addr).await.unwrap();
        let mut stream = nginx.over_tls(tcp).await;
        let answer = http::get_with(&mut stream, path, &friend).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_guarded(&answer);
        let readable_by = values(&answer, "access-control-allow-origin");
        assert_eq!(readable_by, ["https://chat.example"]);
        assert_eq!(answer.header("server"), Some("nginx"));
    }
}

/// All that is answered to a HEAD.
async fn head_of(node: &Node, path: &str) -> String {
    all_of(node, &format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await
}

/// All that is answered to these bytes.
async fn all_of(node: &Node, request: &str) -> String {
    let mut stream = TcpStream::connect(node.addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = within(SOON, "the answer", stream.read_to_string(&mut answer)).await;
    read.unwrap();
    answer
}

fn preflight(origin: &str) -> [(&str, &str); 3] {
    [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        (
            "Access-Control-Request-Headers",
            "authorization,content-type",
        ),
    ]
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_and_others_may_not() {
    const FRIEND: &str = "https://chat.example";
    let node = node(&[("ALLOWED_ORIGINS", "https://chat.example,http://b")]).await;
    for path in ["/health", "/api/stats", "/nothing"] {
        let asked = http::send(node.addr, "OPTIONS", path, &preflight(FRIEND), None).await;
        assert_eq!(asked.status, 204, "{asked:?}");
        assert_harmless(&asked);
        assert_eq!(values(&asked, "access-control-allow-origin"), [FRIEND]);
        assert_eq!(values(&asked, "vary"), ["Origin"]);
        let may = asked.header("access-control-allow-headers").unwrap();
        assert_eq!(may, "Authorization, Content-Type");
        let may = asked.header("access-control-allow-methods").unwrap();
        assert!(may.contains("POST") && may.contains("DELETE"), "{may}");

        let answer = http::send(node.addr, "GET", path, &[("Origin", FRIEND)], None).await;
        assert_eq!(values(&answer, "access-control-allow-origin"), [FRIEND]);
        assert_eq!(values(&answer, "vary"), ["Origin"]);
        assert_harmless(&answer);
    }
    for stranger in ["https://evil.example", "null", "http://chat.example", "*"] {
        let asked = http::send(
            node.addr,
            "OPTIONS",
            "/api/stats",
            &preflight(stranger),
            None,
        )
        .await;
        asked.assert_refusal(403, "ORIGIN_NOT_ALLOWED");
        let answer = http::send(node.addr, "GET", "/health", &[("Origin", stranger)], None).await;
        assert_eq!(answer.status, 200);
        for response in [&asked, &answer] {
            let cors = |(name, _): &&(String, String)| name.starts_with("access-control");
            assert_eq!(response.headers.iter().find(cors), None, "{response:?}");
            assert_eq!(values(response, "vary"), ["Origin"]);
            assert_harmless(response);
        }
    }
    let nobody = http::get(node.addr, "/health").await;
    assert_eq!(nobody.header("access-control-allow-origin"), None);
    assert_eq!(values(&nobody, "vary"), ["Origin"], "a cache must know");
}

#[tokio::test]
async fn with_a_star_all_pages_may_read_and_with_nothing_the_nodes_own() {
    let open = node(&[("ALLOWED_ORIGINS", "*")]).await;
    let asked = http::send(open.addr, "OPTIONS", "/api/stats", &preflight("null"), None).await;
    assert_eq!(asked.status, 204);
    let answer = http::send(
        open.addr,
        "GET",
        "/health",
        &[("Origin", "https://a")],
        None,
    )
    .await;
    for response in [&asked, &answer] {
        assert_eq!(values(response, "access-control-allow-origin"), ["*"]);
        assert_eq!(values(response, "vary"), [""; 0]);
        assert_harmless(response);
    }
    let own = node(&[]).await;
    let here = format!("http://{}", own.addr);
    let answer = http::send(own.addr, "GET", "/health", &[("Origin", &here)], None).await;
    assert_eq!(values(&answer, "access-control-allow-origin"), [&*here]);
    let answer = http::send(own.addr, "GET", "/health", &[("Origin", "https://a")], None).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

/// A body that trickles gets 408 after 10 s, however much it is said to have; one that stops, too.
#[tokio::test]
async fn a_body_that_does_not_come_gets_408() {
    let node = node(&[]).await;
    let trickle = async |sends: bool| {
        let begin = Instant::now();
        let stream = TcpStream::connect(node.addr).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let head = format!(
            "POST /api/broadcast HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Length: 60000\r\n\r\n{{\"event\""
        );
        writer.write_all(head.as_bytes()).await.unwrap();
        let sending = async {
            let mut pace = tokio::time::interval(Duration::from_millis(200));
            loop {
                pace.tick().await;
                if sends && writer.write_all(b" ").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let answer = within(4 * SOON, "the answer", http::read_response(&mut reader));
        let answer = tokio::select! {
            answer = answer => answer.expect("an answer"),
            () = sending => unreachable!(),
        };
        answer.assert_refusal(408, "REQUEST_TIMEOUT");
        assert_harmless(&answer);
        assert_eq!(answer.header("connection"), Some("close"));
        let took = begin.elapsed();
        assert!(took >= Duration::from_secs(10), "{took:?}");
        assert!(took < Duration::from_secs(10) + SOON, "{took:?}");
    };
    tokio::join!(trickle(true), trickle(false));
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_413() {
    let node = node(&[]).await;
    let bearer = format!("Bearer {KEY}");
    let headers = [("Authorization", &*bearer)];
    let large = vec![b' '; 64 * 1024 + 1];
    let answer = http::send(node.addr, "POST", "/api/broadcast", &headers, Some(&large)).await;
    answer.assert_refusal(413, "BODY_TOO_LARGE");
    assert_harmless(&answer);
}
