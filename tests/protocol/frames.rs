//! Below the envelope: fragments, binary frames, frames too long, bytes that are no UTF-8.

use crate::Broker;
use crate::support::raw::{BINARY, CLOSE, PING, PONG, Raw, TEXT, frame};
use crate::support::{SOON, http, json, token};

on_both_brokers! {
    fragments_are_put_together,
    a_binary_frame_is_read_like_text,
    the_longest_frame_is_taken,
    a_frame_over_the_limit_closes_with_1009,
    fragments_over_the_limit_close_with_1009,
    text_that_is_not_utf8_closes_with_1007,
    a_binary_frame_that_is_not_utf8_is_no_json,
    an_unmasked_frame_ends_the_connection,
    who_breaks_the_rules_and_stays_holds_no_thread,
    a_close_is_answered,
    many_frames_in_one_packet,
    a_frame_byte_by_byte,
}

const PING_REQUEST: &[u8] = br#"{"type":"ping","id":"p"}"#;

async fn greeted(broker: &Broker) -> (crate::support::Node, Raw) {
    let node = broker.node().await;
    let mut raw = Raw::open(node.addr, &token("ada")).await;
    raw.expect("connected").await;
    (node, raw)
}

async fn fragments_are_put_together(broker: Broker) {
    let (_node, mut raw) = greeted(&broker).await;
    raw.send(false, TEXT, &PING_REQUEST[..5]).await;
    raw.send(false, 0, &PING_REQUEST[5..6]).await;
    // A control frame may come in between.
    raw.send(true, PING, b"between").await;
    raw.send(false, 0, b"").await;
    raw.send(true, 0, &PING_REQUEST[6..]).await;
    assert_eq!(raw.recv(SOON).await, Some((PONG, b"between".to_vec())));
    assert_eq!(raw.event().await["id"], "p");

    // A character may be cut in the middle.
    let request = json!({"type": "ping", "id": "é😀"})
        .to_string()
        .into_bytes();
    for cut in 1..request.len() {
        raw.send(false, TEXT, &request[..cut]).await;
        raw.send(true, 0, &request[cut..]).await;
        assert_eq!(raw.event().await["id"], "é😀", "cut at {cut}");
    }
}

async fn a_binary_frame_is_read_like_text(broker: Broker) {
    let (_node, mut raw) = greeted(&broker).await;
    raw.send(true, BINARY, PING_REQUEST).await;
    assert_eq!(
        raw.event().await["type"],
        "pong",
        "and the answer is a text frame"
    );
    raw.send(false, BINARY, &PING_REQUEST[..9]).await;
    raw.send(true, 0, &PING_REQUEST[9..]).await;
    assert_eq!(raw.event().await["type"], "pong");
    raw.send(true, BINARY, b"hello").await;
    assert_eq!(raw.event().await["payload"]["code"], "INVALID_JSON");
    raw.send(true, BINARY, PING_REQUEST).await;
    assert_eq!(raw.event().await["type"], "pong");
}

async fn the_longest_frame_is_taken(broker: Broker) {
    let (_node, mut raw) = greeted(&broker).await;
    let mut request = PING_REQUEST.to_vec();
    request.resize(16 * 1024, b' ');
    raw.send(true, TEXT, &request).await;
    assert_eq!(raw.event().await["id"], "p");
}

async fn a_frame_over_the_limit_closes_with_1009(broker: Broker) {
    for length in [16 * 1024 + 1, 100 * 1024] {
        let (_node, mut raw) = greeted(&broker).await;
        raw.send(true, TEXT, &vec![b' '; length]).await;
        assert_eq!(raw.close_code().await, Some(1009), "{length} bytes");
    }
    // The head alone is enough: nothing that long is waited for.
    let (_node, mut raw) = greeted(&broker).await;
    raw.write(&[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4])
        .await;
    assert_eq!(raw.close_code().await, Some(1009));
}

async fn fragments_over_the_limit_close_with_1009(broker: Broker) {
    let (_node, mut raw) = greeted(&broker).await;
    raw.send(false, TEXT, &[b' '; 10_000]).await;
    raw.send(false, 0, &[b' '; 10_000]).await;
    assert_eq!(raw.close_code().await, Some(1009));
}

const NOT_UTF8: [&[u8]; 5] = [
    b"{\"type\":\"\xff\"}",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b"\xe2\x82",
];

async fn text_that_is_not_utf8_closes_with_1007(broker: Broker) {
    for bad in NOT_UTF8 {
        let (_node, mut raw) = greeted(&broker).await;
        raw.send(true, TEXT, bad).await;
        assert_eq!(raw.close_code().await, Some(1007), "{bad:?}");
    }
    let (_node, mut raw) = greeted(&broker).await;
    raw.send(false, TEXT, b"{\xe2\x82").await;
    raw.send(true, 0, b"\xff}").await;
    assert_eq!(raw.close_code().await, Some(1007), "in fragments");
}

/// RFC 6455 lets a binary frame hold anything; only the JSON that it should hold is UTF-8.
async fn a_binary_frame_that_is_not_utf8_is_no_json(broker: Broker) {
    let (_node, mut raw) = greeted(&broker).await;
    for bad in NOT_UTF8 {
        raw.send(true, BINARY, bad).await;
        assert_eq!(
            raw.event().await["payload"]["code"],
            "INVALID_JSON",
            "{bad:?}"
        );
    }
    raw.send(true, BINARY, PING_REQUEST).await;
    assert_eq!(raw.event().await["type"], "pong");
}

async fn an_unmasked_frame_ends_the_connection(broker: Broker) {
    let (_node, mut raw) = greeted(&broker).await;
    raw.write(&frame(true, TEXT, PING_REQUEST, None)).await;
    let code = raw.close_code().await;
    assert!(matches!(code, None | Some(1002)), "closed with {code:?}");
}

/// A frame that is too long, all of it, so that the server has input left that nobody looks at; and then
/// silence on an open socket. One such connection once kept a thread busy until the client went, and
/// with it the whole node.
async fn who_breaks_the_rules_and_stays_holds_no_thread(broker: Broker) {
    let node = broker.node().await;
    let mut raws = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::open(node.addr, &token("ada")).await;
        raw.expect("connected").await;
        raw.send(true, TEXT, &[b'x'; 20_000]).await;
        raws.push(raw);
    }
    for _ in 0..8 {
        assert_eq!(http::get(node.addr, "/health").await.status, 200);
    }
    // They are let go after the 2 s that a close may take, though none of them has gone.
    for mut raw in raws {
        assert_eq!(raw.close_code().await, Some(1009));
        raw.ended(SOON).await;
    }
}

async fn a_close_is_answered(broker: Broker) {
    let (_node, mut raw) = greeted(&broker).await;
    raw.send(true, CLOSE, &1000u16.to_be_bytes()).await;
    assert_eq!(raw.close_code().await, Some(1000));
    assert_eq!(
        raw.recv(SOON).await,
        None,
        "then the server ends the stream"
    );
}

async fn many_frames_in_one_packet(broker: Broker) {
    let (_node, mut raw) = greeted(&broker).await;
    let pings = (0..500).map(|n| json!({"type": "ping", "id": n.to_string()}).to_string());
    let bytes: Vec<u8> = pings
        .flat_map(|ping| frame(true, TEXT, ping.as_bytes(), Some([9, 8, 7, 6])))
        .collect();
    raw.write(&bytes).await;
    for n in 0..500 {
        assert_eq!(raw.event().await["id"], n.to_string());
    }
}

async fn a_frame_byte_by_byte(broker: Broker) {
    let (_node, mut raw) = greeted(&broker).await;
    raw.stream.set_nodelay(true).expect("nodelay");
    for byte in frame(true, TEXT, PING_REQUEST, Some([9, 8, 7, 6])) {
        raw.write(&[byte]).await;
    }
    assert_eq!(raw.event().await["id"], "p");
}
