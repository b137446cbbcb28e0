//! From which web pages a browser may come: before the WebSocket, at a node, behind nginx on another port,
//! and under TLS of the node's own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::nginx::Nginx;
use support::{Certificate, Connect, Node, SOON, http, node, token, within};
use tokio::net::TcpStream;

/// The status of an upgrade with these headers and a good token: 101, or 403 `ORIGIN_NOT_ALLOWED`.
async fn status(node: &Node, headers: &[(&str, &str)]) -> u16 {
    let path = format!("/ws?token={}", token("ada"));
    let response = http::upgrade(node.addr, &path, headers).await;
    if response.status != 101 {
        response.assert_refusal(403, "ORIGIN_NOT_ALLOWED");
    }
    response.status
}

#[tokio::test]
async fn by_default_a_page_may_come_from_the_same_host_and_port() {
    let node = Node::embedded().await;
    let here = node.addr.to_string();
    let (own, upper) = (format!("http://{here}"), format!("HTTP://{here}"));
    let (port, userinfo) = (node.addr.port(), format!("http://{here}@evil.example"));
    let other_host = format!("http://localhost:{port}");
    let other_port = format!("http://127.0.0.1:{}", port ^ 1);
    assert_eq!(status(&node, &[]).await, 101);
    for good in [&own, &upper, &format!("https://{here}")] {
        assert_eq!(status(&node, &[("Origin", good)]).await, 101, "{good}");
    }
    let path = format!("{own}/");
    for bad in [
        "http://evil.example",
        "http://127.0.0.1",
        "null",
        "",
        "*",
        &here,
        &path,
        &userinfo,
        &other_host,
        &other_port,
    ] {
        assert_eq!(status(&node, &[("Origin", bad)]).await, 403, "{bad}");
    }
    let twice = [("Origin", &*own), ("Origin", &*own)];
    assert_eq!(status(&node, &twice).await, 403);
}

#[tokio::test]
async fn a_list_is_what_counts_where_there_is_one() {
    let list = "https://chat.example, http://localhost:3000,app://desk,https://[2001:db8::1]";
    let node = Node::start(&[("ALLOWED_ORIGINS", list)]).await;
    for good in [
        "https://chat.example",
        "https://chat.example:443",
        "HTTPS://Chat.Example",
        "http://localhost:3000",
        "app://desk",
        "https://[2001:DB8:0::1]:443",
    ] {
        assert_eq!(status(&node, &[("Origin", good)]).await, 101, "{good}");
    }
    let own = format!("http://{}", node.addr);
    for bad in [
        "http://chat.example",
        "https://chat.example:8443",
        "https://a.chat.example",
        "http://localhost",
        "null",
        &own,
    ] {
        assert_eq!(status(&node, &[("Origin", bad)]).await, 403, "{bad}");
    }
    assert_eq!(status(&node, &[]).await, 101, "who is no browser passes");
}

#[tokio::test]
async fn a_star_is_for_everyone() {
    let node = Node::start(&[("ALLOWED_ORIGINS", "*")]).await;
    for origin in ["https://evil.example", "null", "garbage"] {
        assert_eq!(status(&node, &[("Origin", origin)]).await, 101, "{origin}");
    }
}

/// A page of another site learns nothing about a token; and what can't become a WebSocket at all is told so
/// first.
#[tokio::test]
async fn it_is_judged_after_the_form_and_before_the_token() {
    let node = Node::embedded().await;
    let evil = ("Origin", "https://evil.example");
    for path in ["/ws", "/ws?token=garbage"] {
        let answer = http::upgrade(node.addr, path, &[evil]).await;
        answer.assert_refusal(403, "ORIGIN_NOT_ALLOWED");
    }
    let bad_form = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "8"),
        evil,
    ];
    let answer = http::try_request(node.addr, "/ws", &bad_form).await;
    answer.unwrap().assert_refusal(426, "UPGRADE_REQUIRED");
}

#[tokio::test]
async fn behind_nginx_on_another_port_a_page_of_nginx_may_come() {
    let node = Node::embedded().await;
    let port = node.addr.port();
    let nginx = Nginx::start([port, port, port]).await;
    let page = format!("https://127.0.0.1:{}", nginx.addr.port());
    let through = || Connect::through(&nginx).token(&token("ada"));
    let mut ada = through().header("Origin", page).open().await;
    ada.assert_alive().await;
    // The node's own address is another origin there, and so is nginx' name without its port.
    for origin in [format!("http://{}", node.addr), "https://127.0.0.1".into()] {
        let tcp = TcpStream::connect(nginx.addr).await.unwrap();
        let mut stream = nginx.over_tls(tcp).await;
        let path = format!("/?token={}", token("ada"));
        let host = nginx.addr.to_string();
        let answer = http::upgrade_over(&mut stream, &host, &path, &[("Origin", &origin)]).await;
        answer.assert_refusal(403, "ORIGIN_NOT_ALLOWED");
    }
    // As a browser has it on nginx' usual port: neither names it.
    let tcp = TcpStream::connect(nginx.addr).await.unwrap();
    let mut stream = nginx.over_tls(tcp).await;
    let path = format!("/?token={}", token("ada"));
    let origin = [("Origin", "https://chat.example")];
    let answer = http::upgrade_over(&mut stream, "chat.example", &path, &origin).await;
    assert_eq!(answer.status, 101, "{answer:?}");
}

#[tokio::test]
async fn under_tls_of_its_own_a_host_without_a_port_is_at_443() {
    let certificate = Certificate::make().await;
    let (file, key) = (certificate.file(), certificate.key());
    let node = Node::start(&[("TLS_CERT_FILE", &file), ("TLS_KEY_FILE", &key)]).await;
    let trust = certificate.trusted();
    let path = format!("/?token={}", token("ada"));
    for (host, origin, status) in [
        ("chat.example", "https://chat.example", 101),
        ("chat.example", "http://chat.example", 403),
        ("chat.example:8443", "https://chat.example:8443", 101),
    ] {
        let mut stream = trust.to(node.addr).await;
        let answer = http::upgrade_over(&mut stream, host, &path, &[("Origin", origin)]).await;
        assert_eq!(answer.status, status, "{host} {origin}: {answer:?}");
    }
}

#[tokio::test]
async fn a_list_that_is_none_ends_the_start() {
    for bad in [
        "chat.example",
        "https://chat.example/",
        "https://chat.example,",
        "null",
        "*,https://chat.example",
        "https://*.example",
    ] {
        let env = [
            ("JWT_SECRET", support::token::SECRET),
            ("ALLOWED_ORIGINS", bad),
        ];
        let (status, _, stderr) = within(SOON, "the end", node::run_to_end(&[], &env)).await;
        assert_eq!(status, Some(2), "{bad}: {stderr}");
        let names = stderr.starts_with("piazza: ALLOWED_ORIGINS ") && stderr.contains(bad);
        assert!(names && stderr.contains("comma list"), "{bad}: {stderr}");
    }
}
