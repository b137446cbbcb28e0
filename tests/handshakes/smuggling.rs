//! nginx and a node must never disagree about where a request ends: else one client's bytes are taken for
//! another's request, or pass by what nginx holds back (`/metrics`).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::case::Head;
use crate::support::nginx::Nginx;
use crate::support::{Client, Node, SOON, within};

/// What is hidden: nginx answers it with 404, and a node with 200.
const HIDDEN: &str = "GET /metrics HTTP/1.1\r\nHost: chat.example\r\n\r\n";

fn tricks() -> Vec<(&'static str, Vec<u8>)> {
    let health = |headers: &[&str], behind: String| -> Vec<u8> {
        let head = headers
            .iter()
            .fold(Head::health(), |head, header| head.with(header));
        head.then(behind).into()
    };
    let chunked = format!("0\r\n\r\n{HIDDEN}");
    let length = format!("Content-Length: {}", chunked.len());
    let refused = |change: &str| Head::upgrade().instead(change).then(HIDDEN).into();
    vec![
        ("behind it", health(&[], HIDDEN.into())),
        (
            "as its body",
            health(
                &[&format!("Content-Length: {}", HIDDEN.len())],
                HIDDEN.into(),
            ),
        ),
        (
            "a length and chunks",
            health(&[&length, "Transfer-Encoding: chunked"], chunked.clone()),
        ),
        (
            "chunks and a length",
            health(&["Transfer-Encoding: chunked", &length], chunked.clone()),
        ),
        (
            "a short length and chunks",
            health(
                &["Content-Length: 4", "Transfer-Encoding: chunked"],
                chunked.clone(),
            ),
        ),
        (
            "chunks in capitals",
            health(&["Transfer-Encoding: CHUNKED"], chunked.clone()),
        ),
        (
            "chunks behind a tab",
            health(&["Transfer-Encoding:\tchunked"], chunked.clone()),
        ),
        (
            "chunks behind a vertical tab",
            health(&["Transfer-Encoding: \x0bchunked"], chunked.clone()),
        ),
        (
            "an unknown coding",
            health(&["Transfer-Encoding: xchunked", &length], chunked.clone()),
        ),
        (
            "two codings",
            health(
                &["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
                chunked.clone(),
            ),
        ),
        (
            "a space before the colon",
            health(&["Transfer-Encoding : chunked"], chunked.clone()),
        ),
        (
            "a folded coding",
            health(&["Transfer-Encoding:\r\n chunked"], chunked.clone()),
        ),
        (
            "a chunk with an extension",
            health(
                &["Transfer-Encoding: chunked"],
                format!("0;a=\"\n\"\r\n\r\n{HIDDEN}"),
            ),
        ),
        (
            "a chunk ended by a line feed",
            health(&["Transfer-Encoding: chunked"], format!("0\n\n{HIDDEN}")),
        ),
        (
            "a chunk with a sign",
            health(
                &["Transfer-Encoding: chunked"],
                format!("+0\r\n\r\n{HIDDEN}"),
            ),
        ),
        (
            "two lengths",
            health(&["Content-Length: 0", &length], chunked.clone()),
        ),
        (
            "an upgrade of version 8",
            refused("Sec-WebSocket-Version: 8"),
        ),
        ("an upgrade with a bad key", refused("Sec-WebSocket-Key: x")),
        (
            "an upgrade without a token",
            Head::anonymous().then(HIDDEN).into(),
        ),
        (
            "an upgrade with a body",
            Head::upgrade()
                .with(&format!("Content-Length: {}", HIDDEN.len()))
                .then(HIDDEN)
                .into(),
        ),
        (
            "an upgrade with chunks",
            Head::upgrade()
                .with("Transfer-Encoding: chunked")
                .then(chunked.clone())
                .into(),
        ),
        ("an upgrade to something else", refused("Upgrade: h2c")),
        (
            "an upgrade of a route that has none",
            Head::upgrade()
                .line("GET /health HTTP/1.1")
                .then(HIDDEN)
                .into(),
        ),
        (
            "a path that is made one",
            Head::health()
                .line("GET /health/../metrics HTTP/1.1")
                .into(),
        ),
        (
            "a path with an encoded letter",
            Head::health().line("GET /%6detrics HTTP/1.1").into(),
        ),
        (
            "a path with two slashes",
            Head::health().line("GET //metrics HTTP/1.1").into(),
        ),
        (
            "absolute form",
            Head::health()
                .line("GET http://chat.example/metrics HTTP/1.1")
                .into(),
        ),
        (
            "a path with a semicolon",
            Head::health().line("GET /metrics;x HTTP/1.1").into(),
        ),
        (
            "a path with a slash behind it",
            Head::health().line("GET /metrics/ HTTP/1.1").into(),
        ),
    ]
}

#[tokio::test]
async fn nothing_gets_past_nginx_hidden_in_something_else() {
    let nodes = [
        Node::embedded().await,
        Node::embedded().await,
        Node::embedded().await,
    ];
    let nginx = Nginx::start([0, 1, 2].map(|n: usize| nodes[n].addr.port())).await;
    for (what, request) in tricks() {
        let tcp = TcpStream::connect(nginx.addr).await.expect("a connection");
        let mut stream = nginx.over_tls(tcp).await;
        let _ = stream.write_all(&request).await;
        // What is asked last tells nginx that nothing more comes.
        let end = "GET /ready HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(end.as_bytes()).await;
        let mut answers = Vec::new();
        let _ = within(SOON * 2, what, stream.read_to_end(&mut answers)).await;
        let answers = String::from_utf8_lossy(&answers);
        assert!(!answers.contains("chat_rooms"), "{what}: {answers}");
        // A WebSocket by a good token, to whose node the hidden request is no frame, is no harm.
        assert!(answers.starts_with("HTTP/1.1 "), "{what}: {answers}");
    }
    for node in &nodes {
        Client::of(node, "ada").await.assert_alive().await;
    }
}

/// The numbers are there, or the test above could find nothing.
#[tokio::test]
async fn what_is_hidden_is_there() {
    let node = Node::embedded().await;
    let metrics = crate::support::http::get(node.addr, "/metrics").await;
    assert!(metrics.body.contains("chat_rooms"), "{metrics:?}");
}
