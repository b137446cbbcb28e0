//! Messages over TLS: large ones, many small ones, clients that read slowly or not at all, closes, a drain.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::node_with;
use crate::support::raw::{BINARY, TEXT};
use crate::support::tls::Trust;
use crate::support::{Certificate, Client, Connect, Follow, Node, Raw, SOON, json, token, within};

/// A raw client whose socket takes little, so that the node soon can't write.
async fn narrow(node: &Node, trust: &Trust, user: &str) -> Raw<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let tcp = socket.connect(node.addr).await.unwrap();
    let stream = within(SOON, "TLS", trust.try_over(tcp)).await.unwrap();
    let mut raw = Raw::over(stream, &token(user)).await;
    raw.expect("connected").await;
    raw
}

async fn client(node: &Node, trust: &Trust, user: &str) -> Client {
    Connect::to(node)
        .over_tls(trust)
        .token(&token(user))
        .open()
        .await
}

/// Both ways, of every size around what a record and rustls' buffers hold.
#[tokio::test]
async fn messages_of_all_sizes_come_through_whole() {
    let certificate = Certificate::make().await;
    let env = [("MAX_FRAME_BYTES", "1MiB"), ("MAX_TEXT_LENGTH", "100000")];
    let node = node_with(&certificate, &env).await;
    for version in [&TLS12, &TLS13] {
        let trust = certificate.trusted_with(&[version], &[]);
        let mut ada = client(&node, &trust, "ada").await;
        let mut ben = client(&node, &trust, "ben").await;
        for room in [&mut ada, &mut ben] {
            room.join("general").await;
        }
        for length in [
            1, 4_000, 4_096, 16_300, 16_384, 16_400, 33_000, 65_536, 100_000,
        ] {
            let text: String = (0..length)
                .map(|i| char::from(b'a' + (i % 23) as u8))
                .collect();
            ada.say("general", &text).await;
            assert_eq!(ben.message().await["text"], text);
            assert_eq!(ada.message().await["text"], text);
        }
    }
}

/// Many requests in one write: rustls holds more of them than one read takes, and the socket has nothing
/// more to say about it.
#[tokio::test]
async fn what_comes_at_once_is_answered_without_another_word() {
    let certificate = Certificate::make().await;
    let node = node_with(
        &certificate,
        &[("RATE_LIMIT_REQUESTS", "0"), ("RATE_LIMIT_MESSAGES", "0")],
    )
    .await;
    let trust = certificate.trusted();
    let mut ada = client(&node, &trust, "ada").await;
    ada.join("general").await;
    for round in 0..5 {
        let pings =
            (0..2_000).map(|i| json!({"type": "ping", "id": format!("{round}.{i}")}).to_string());
        // Its answers are read beside it, or both sides would wait for the other.
        ada.send_all(pings.collect::<Vec<_>>()).await;
        for i in 0..2_000 {
            let pong = ada.next().await;
            assert_eq!(pong["id"], format!("{round}.{i}"), "{pong}");
        }
    }
}

/// A reader that falls behind, stops, trickles, and catches up: nothing lost, nothing twice, and nobody
/// else waits for it.
#[tokio::test]
async fn a_slow_reader_loses_nothing_and_gets_nothing_twice() {
    let certificate = Certificate::make().await;
    let env = [
        ("MESSAGE_HISTORY_LIMIT", "2000"),
        ("RATE_LIMIT_MESSAGES", "0"),
    ];
    let node = node_with(&certificate, &env).await;
    for version in [&TLS12, &TLS13] {
        let trust = certificate.trusted_with(&[version], &[]);
        let room = format!("slow{version:?}").replace(char::is_whitespace, "");
        let room = &room[..room.len().min(60)].replace(['{', '}'], "");
        let mut slow = narrow(&node, &trust, "eve").await;
        slow.send_json(&json!({"type": "join", "payload": {"roomId": room, "limit": 1}}))
            .await;
        slow.stream.flush().await.unwrap();
        let mut follow = Follow::new("the slow one");
        follow.history(&slow.expect("history").await);
        let mut ada = client(&node, &trust, "ada").await;
        ada.join(room).await;
        for i in 0..1_500_u32 {
            ada.say(room, &format!("{i} {}", "x".repeat(1_500))).await;
            ada.message().await;
        }
        for _ in 0..1_500 {
            follow.message(&slow.expect("message").await);
        }
        ada.say(room, "the last").await;
        let last = slow.expect("message").await;
        assert_eq!(last["text"], "the last");
        follow.message(&last);
    }
}

/// As over a thin line: far less than comes, but steadily. And one that takes nothing.
#[tokio::test]
async fn who_takes_a_little_stays_and_who_takes_nothing_goes() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let certificate = Certificate::make().await;
    let env = [
        ("SLOW_CLIENT_TIMEOUT", "4s"),
        ("RATE_LIMIT_MESSAGES", "0"),
        ("MESSAGE_HISTORY_LIMIT", "5000"),
    ];
    let node = node_with(&certificate, &env).await;
    let trust = certificate.trusted();
    let mut ada = client(&node, &trust, "ada").await;
    ada.join("general").await;
    let mut little = narrow(&node, &trust, "little").await;
    let mut nothing = narrow(&node, &trust, "nothing").await;
    for raw in [&mut little, &mut nothing] {
        let join = json!({"type": "join", "payload": {"roomId": "general"}});
        raw.send_json(&join).await;
        raw.stream.flush().await.unwrap();
        raw.expect("history").await;
    }
    let (stop, stopped) = watch::channel(false);
    let flood = async {
        while !*stopped.borrow() {
            ada.say("general", &"漢".repeat(2_000)).await;
            ada.forget();
        }
        ada.assert_alive().await;
    };
    let course = async {
        let begin = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_millis(500));
        while begin.elapsed() < 3 * TIMEOUT {
            pace.tick().await;
            for _ in 0..10 {
                little.expect("message").await;
            }
        }
        let _ = stop.send(true);
    };
    tokio::join!(flood, course);
    let why = node
        .log("who was let go", |line| !line["why"].is_null())
        .await;
    assert_eq!(
        (&why["user"], &why["why"]),
        (&json!("nothing"), &json!("slow"))
    );
    little.expect("message").await;
    let mut rest = Vec::new();
    let _ = within(SOON, "the end", nothing.stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn what_is_against_the_rules_is_closed_with_its_code() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[]).await;
    let trust = certificate.trusted();
    for (frames, code) in [
        (vec![(true, TEXT, vec![0xff, 0xfe])], 1007),
        (vec![(true, TEXT, vec![b'a'; 20_000])], 1009),
        (
            vec![
                (false, BINARY, vec![b'a'; 10_000]),
                (true, 0, vec![b'a'; 10_000]),
            ],
            1009,
        ),
        (vec![(true, 3, vec![])], 1002),
    ] {
        let mut raw = narrow(&node, &trust, "eve").await;
        for (is_final, opcode, payload) in frames {
            raw.send(is_final, opcode, &payload).await;
        }
        let _ = raw.stream.flush().await;
        assert_eq!(raw.close_code().await, Some(code));
        // It says that it has ended, too: no truncation.
        let mut rest = Vec::new();
        let end = within(SOON, "the end", raw.stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{code}: {end:?}");
    }
}

#[tokio::test]
async fn a_drain_lets_everyone_go_over_tls() {
    let certificate = Certificate::make().await;
    let mut node = node_with(&certificate, &[("DRAIN_SPREAD", "300ms")]).await;
    let trust = certificate.trusted();
    let mut all = Vec::new();
    for i in 0..50 {
        let mut one = client(&node, &trust, &format!("user{i}")).await;
        one.join("general").await;
        all.push(one);
    }
    let leaving = tokio::spawn(async move { node.stop().await });
    for one in &mut all {
        let reconnect = one.expect("reconnect").await;
        assert_eq!(reconnect["reason"], "draining");
        assert_eq!(one.closed(SOON).await, Some(1001));
    }
    assert!(leaving.await.unwrap().success());
}

/// A close handshake over TLS ends in a `close_notify`.
#[tokio::test]
async fn a_closed_connection_ends_without_truncation() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[]).await;
    let mut raw = narrow(&node, &certificate.trusted(), "ada").await;
    raw.send(true, 8, &1000_u16.to_be_bytes()).await;
    raw.stream.flush().await.unwrap();
    assert_eq!(raw.close_code().await, Some(1000));
    let mut rest = Vec::new();
    let end = within(SOON, "the end", raw.stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok() && rest.is_empty(), "{end:?}");
}

/// So does an answer, also one to somebody who asked for a WebSocket and gets none.
#[tokio::test]
async fn a_refused_handshake_ends_without_truncation() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[]).await;
    for path in ["/health", "/ws", "/ws?token=x"] {
        let tcp = TcpStream::connect(node.addr).await.unwrap();
        let trust = certificate.trusted();
        let mut stream = within(SOON, "TLS", trust.try_over(tcp)).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let end = within(SOON, "the end", stream.read_to_end(&mut answer)).await;
        assert!(
            end.is_ok() && answer.starts_with(b"HTTP/1.1 "),
            "{path}: {end:?}"
        );
    }
}
