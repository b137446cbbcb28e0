//! Who gets a TLS connection, who doesn't, and how soon that is over.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{HandshakeKind, ProtocolVersion};

use crate::node_with;
use crate::support::{Certificate, Connect, Node, Raw, SOON, eventually, http, token, within};

/// How long the nodes of these tests wait for a handshake.
const HANDSHAKE: Duration = Duration::from_millis(1_500);
const HANDSHAKE_TIMEOUT: (&str, &str) = ("HANDSHAKE_TIMEOUT", "1500ms");

/// What `openssl s_client` says of a handshake with these options.
async fn s_client(node: &Node, options: &[&str]) -> String {
    let run = Command::new("openssl")
        .args(["s_client", "-connect", &node.addr.to_string()])
        // Old versions are off in openssl itself unless it is told that nothing matters.
        .args(["-cipher", "ALL:@SECLEVEL=0"])
        .args(options)
        .stdin(Stdio::null())
        .output();
    let end = within(SOON, "openssl", run).await.expect("openssl runs");
    [end.stdout, end.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat()
}

#[tokio::test]
async fn versions_1_2_and_1_3_are_spoken_and_older_ones_are_not() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[]).await;
    for (version, name) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let trust = certificate.trusted_with(&[version], &["h2", "http/1.1"]);
        let mut stream = trust.to(node.addr).await;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(name));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let health = http::get_with(&mut stream, "/health", &[]).await;
        assert_eq!(health.status, 200, "{health:?}");

        let mut ada = Connect::to(&node).over_tls(&trust).token(&token("ada"));
        ada = ada.header("Origin", format!("https://{}", node.addr));
        ada.open().await.assert_alive().await;
    }
    for old in ["-tls1", "-tls1_1"] {
        let said = s_client(&node, &[old]).await;
        assert!(said.contains("SSL alert number"), "{old}: {said}");
        assert!(
            said.contains("no peer certificate available"),
            "{old}: {said}"
        );
    }
    for good in ["-tls1_2", "-tls1_3"] {
        let said = s_client(&node, &[good]).await;
        assert!(said.contains("BEGIN CERTIFICATE"), "{good}: {said}");
    }
}

#[tokio::test]
async fn http_2_alone_is_refused_in_the_handshake() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[]).await;
    let said = s_client(&node, &["-alpn", "h2"]).await;
    assert!(said.contains("no application protocol"), "{said}");
    let said = s_client(&node, &["-alpn", "h2,http/1.1"]).await;
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
}

#[tokio::test]
async fn who_comes_back_goes_on_with_a_ticket() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[]).await;
    for version in [&TLS12, &TLS13] {
        let trust = certificate.trusted_with(&[version], &[]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = trust.to(node.addr).await;
            // A ticket comes after the handshake, before the answer.
            let health = http::get_with(&mut stream, "/health", &[]).await;
            assert_eq!(health.status, 200);
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        }
    }
}

#[tokio::test]
async fn plain_http_on_the_tls_port_ends_at_once_without_an_answer() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[]).await;
    let begin = Instant::now();
    let mut stream = TcpStream::connect(node.addr).await.unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let end = within(SOON, "the end", stream.read_to_end(&mut answer)).await;
    end.expect("no reset");
    // A TLS alert and nothing else: type 21, 7 bytes.
    assert_eq!((answer.first(), answer.len()), (Some(&21), 7), "{answer:?}");
    assert!(begin.elapsed() < SOON);
    // And TLS on a plain port.
    let plain = Node::embedded().await;
    let stream = TcpStream::connect(plain.addr).await.unwrap();
    let tls = certificate.trusted();
    let outcome = within(SOON, "the end of the handshake", tls.try_over(stream)).await;
    assert!(outcome.is_err());
}

#[tokio::test]
async fn a_handshake_that_is_not_done_in_time_is_dropped() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[HANDSHAKE_TIMEOUT]).await;
    // Nothing; half a record's header; a client hello that never goes on.
    for begun in [
        &b""[..],
        b"\x16\x03\x01",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ] {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(node.addr).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut answer = Vec::new();
        let end = within(SOON, "the end", stream.read_to_end(&mut answer)).await;
        assert!(end.is_ok() && answer.is_empty(), "{end:?} {answer:?}");
        let took = begin.elapsed();
        assert!(took >= HANDSHAKE && took < HANDSHAKE + SOON, "{took:?}");
    }
}

/// The handshake and the head have one limit together, not one each.
#[tokio::test]
async fn a_head_that_is_not_there_in_time_is_dropped() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[HANDSHAKE_TIMEOUT]).await;
    let begin = Instant::now();
    let tcp = TcpStream::connect(node.addr).await.unwrap();
    // Two thirds of the time pass before the handshake.
    tokio::time::sleep(HANDSHAKE * 2 / 3).await;
    let mut stream = certificate.trusted().try_over(tcp).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    let _ = within(SOON, "the end", stream.read_to_end(&mut answer)).await;
    let took = begin.elapsed();
    // Two limits would be 5/3 of one at least.
    assert!(took >= HANDSHAKE, "{took:?}");
    assert!(took < HANDSHAKE * 3 / 2, "{took:?}");
}

/// Unfinished handshakes are sockets like others: at the cap they keep upgrades out, until they are dropped.
#[tokio::test]
async fn unfinished_handshakes_count_and_are_given_back() {
    let certificate = Certificate::make().await;
    let cap = [HANDSHAKE_TIMEOUT, ("MAX_CONNECTIONS", "20")];
    let node = node_with(&certificate, &cap).await;
    let trust = certificate.trusted();
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(node.addr).await.unwrap();
        stream.write_all(b"\x16\x03\x01").await.unwrap();
        stuck.push(stream);
    }
    let path = format!("/?token={}", token("ada"));
    let mut stream = trust.to(node.addr).await;
    let answer = http::upgrade_over(&mut stream, "localhost", &path, &[]).await;
    answer.assert_refusal(503, "AT_CAPACITY");
    for stream in &mut stuck {
        let mut answer = Vec::new();
        let end = within(SOON, "the end", stream.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "{end:?}");
    }
    eventually(SOON, "room for one more", || async {
        let mut stream = trust.to(node.addr).await;
        http::upgrade_over(&mut stream, "localhost", &path, &[])
            .await
            .status
            == 101
    })
    .await;
}

/// A peer that breaks TLS in the middle of a conversation costs its own connection and nothing else.
#[tokio::test]
async fn garbage_in_a_begun_conversation_ends_it() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[]).await;
    let trust = certificate.trusted();
    let mut witness = Connect::to(&node)
        .over_tls(&trust)
        .token(&token("ada"))
        .open()
        .await;
    witness.join("general").await;
    for (n, garbage) in [
        // A record that can't be decrypted, one that is too long, none at all, and the bare end.
        &b"\x17\x03\x03\x00\x20AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"[..],
        b"\x17\x03\x03\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
    ]
    .into_iter()
    .enumerate()
    {
        let stream = trust.to(node.addr).await;
        let mut raw = Raw::over(stream, &token(&format!("eve{n}"))).await;
        raw.expect("connected").await;
        let join = serde_json::json!({"type": "join", "payload": {"roomId": "general"}});
        raw.send_json(&join).await;
        raw.stream.flush().await.unwrap();
        raw.expect("history").await;
        witness.expect("user_joined").await;
        let (mut tcp, _) = raw.stream.into_inner();
        tcp.write_all(garbage).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = within(SOON, "the end", tcp.read_to_end(&mut rest)).await;
        witness.expect("user_left").await;
    }
    witness.assert_alive().await;
}
