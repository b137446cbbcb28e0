//! RFC 6455, section 4: the WebSocket's own headers.

use crate::case::Answer::{Refused, Status, Upgraded};
use crate::case::{Answer, Case, Head, KEY};

const UPGRADE_REQUIRED: Answer = Refused(426, "UPGRADE_REQUIRED");
const BAD: Answer = Refused(400, "BAD_REQUEST");
const METHOD: Answer = Refused(405, "METHOD_NOT_ALLOWED");

pub(crate) fn cases() -> Vec<Case> {
    [
        methods(),
        upgrade_and_connection(),
        versions(),
        keys(),
        offers(),
    ]
    .concat()
}

fn methods() -> Vec<Case> {
    let other =
        |method: &str| Head::upgrade().line(&format!("{method} /ws?token={{token}} HTTP/1.1"));
    let case = |what, head, answer| Case::new(what, "RFC 6455, 4.2.1 item 1", head, answer);
    vec![
        case("a good handshake", Head::upgrade(), Upgraded),
        case(
            "on the root",
            Head::upgrade().line("GET /?token={token} HTTP/1.1"),
            Upgraded,
        ),
        case("POST", other("POST"), METHOD),
        case("PUT", other("PUT"), METHOD),
        case("DELETE", other("DELETE"), METHOD),
        case("OPTIONS", other("OPTIONS"), METHOD),
        case("HEAD", other("HEAD"), Status(405)),
        case("an unknown method", other("BREW"), METHOD),
        case("get: methods have a case", other("get"), METHOD),
        case(
            "HTTP/1.0",
            Head::upgrade().line("GET /ws?token={token} HTTP/1.0"),
            BAD,
        ),
        case(
            "elsewhere",
            Head::upgrade().line("GET /health?token={token} HTTP/1.1"),
            Status(200),
        ),
        case(
            "where there is nothing",
            Head::upgrade().line("GET /nothing?token={token} HTTP/1.1"),
            Refused(404, "NOT_FOUND"),
        ),
    ]
}

fn upgrade_and_connection() -> Vec<Case> {
    let upgrade = |what, value: &str, answer| {
        let head = Head::upgrade().instead(&format!("Upgrade: {value}"));
        Case::new(what, "RFC 6455, 4.2.1 item 3", head, answer)
    };
    let connection = |what, value: &str, answer| {
        let head = Head::upgrade().instead(&format!("Connection: {value}"));
        Case::new(what, "RFC 6455, 4.2.1 item 4", head, answer)
    };
    vec![
        upgrade("Upgrade in capitals", "WebSocket", Upgraded),
        upgrade("Upgrade as one of several", "h2c, websocket", Upgraded),
        upgrade(
            "Upgrade in a list without spaces",
            "h2c,websocket",
            Upgraded,
        ),
        upgrade("Upgrade to something else", "h2c", UPGRADE_REQUIRED),
        upgrade("Upgrade that is empty", "", UPGRADE_REQUIRED),
        upgrade("Upgrade with a version", "websocket/13", UPGRADE_REQUIRED),
        upgrade("Upgrade with two words", "web socket", UPGRADE_REQUIRED),
        upgrade("Upgrade longer than it is", "websockets", UPGRADE_REQUIRED),
        Case::new(
            "no Upgrade",
            "RFC 6455, 4.2.1 item 3",
            Head::upgrade().without("Upgrade"),
            UPGRADE_REQUIRED,
        ),
        Case::new(
            "Upgrade over two lines",
            "RFC 9110, 5.3",
            Head::upgrade()
                .instead("Upgrade: h2c")
                .with("Upgrade: websocket"),
            Upgraded,
        ),
        connection("Connection in capitals", "UPGRADE", Upgraded),
        connection(
            "Connection as Firefox has it",
            "keep-alive, Upgrade",
            Upgraded,
        ),
        connection("Connection with empty words", ", ,Upgrade,", Upgraded),
        connection("Connection: close", "close", UPGRADE_REQUIRED),
        connection("Connection: keep-alive", "keep-alive", UPGRADE_REQUIRED),
        connection("Connection that is empty", "", UPGRADE_REQUIRED),
        connection(
            "Connection with the wrong name",
            "websocket",
            UPGRADE_REQUIRED,
        ),
        Case::new(
            "no Connection",
            "RFC 6455, 4.2.1 item 4",
            Head::upgrade().without("Connection"),
            UPGRADE_REQUIRED,
        ),
        Case::new(
            "Connection over two lines",
            "RFC 9110, 5.3",
            Head::upgrade()
                .instead("Connection: keep-alive")
                .with("Connection: Upgrade"),
            Upgraded,
        ),
        Case::new(
            "neither: the root has nothing yet",
            "RFC 9110, 15.5.5",
            Head::upgrade().line("GET / HTTP/1.1").without("Upgrade"),
            Refused(404, "NOT_FOUND"),
        ),
    ]
}

fn versions() -> Vec<Case> {
    let version = |what, value: &str, answer| {
        let head = Head::upgrade().instead(&format!("Sec-WebSocket-Version: {value}"));
        Case::new(what, "RFC 6455, 4.2.1 item 6 and 4.4", head, answer)
    };
    vec![
        version("version with space around it", "  13\t", Upgraded),
        version("version 8", "8", UPGRADE_REQUIRED),
        version("version 0", "0", UPGRADE_REQUIRED),
        version("version 14", "14", UPGRADE_REQUIRED),
        version("version 130", "130", UPGRADE_REQUIRED),
        version("version 013", "013", UPGRADE_REQUIRED),
        version("version 13.0", "13.0", UPGRADE_REQUIRED),
        version("version -13", "-13", UPGRADE_REQUIRED),
        version("two versions in one", "13, 8", UPGRADE_REQUIRED),
        version("no number", "thirteen", UPGRADE_REQUIRED),
        version("empty", "", UPGRADE_REQUIRED),
        Case::new(
            "no version",
            "RFC 6455, 4.2.1 item 6",
            Head::upgrade().without("Sec-WebSocket-Version"),
            UPGRADE_REQUIRED,
        ),
        Case::new(
            "the version twice",
            "RFC 6455, 11.3.5",
            Head::upgrade().with("Sec-WebSocket-Version: 13"),
            BAD,
        ),
        Case::new(
            "two versions over two lines",
            "RFC 6455, 11.3.5",
            Head::upgrade().with("Sec-WebSocket-Version: 8"),
            BAD,
        ),
    ]
}

fn keys() -> Vec<Case> {
    let key = |what, value: &str| {
        let head = Head::upgrade().instead(&format!("Sec-WebSocket-Key: {value}"));
        Case::new(what, "RFC 6455, 4.2.1 item 5", head, BAD)
    };
    vec![
        key("an empty key", ""),
        key("a key of 15 bytes", "dGhlIHNhbXBsZSBub25j"),
        key("a key of 17 bytes", "dGhlIHNhbXBsZSBub25jZWU="),
        key("a key of 16 letters", "abcdefghijklmnop"),
        key("a key without its padding", "dGhlIHNhbXBsZSBub25jZQ"),
        key("a key with too much padding", "dGhlIHNhbXBsZSBub25jZQ==="),
        key("a key whose last bits are set", "dGhlIHNhbXBsZSBub25jZR=="),
        key("a key in the alphabet of URLs", "-_hlIHNhbXBsZSBub25jZQ=="),
        key("a key with a space inside", "dGhlIHNhbXBs ZSBub25jZQ=="),
        key("a key with another behind it", &format!("{KEY}, {KEY}")),
        key("a key in quotes", &format!("\"{KEY}\"")),
        key("a key of 8 KiB", &"A".repeat(8192)),
        Case::new(
            "no key",
            "RFC 6455, 4.2.1 item 5",
            Head::upgrade().without("Sec-WebSocket-Key"),
            BAD,
        ),
        Case::new(
            "two keys",
            "RFC 6455, 11.3.1",
            Head::upgrade().with("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
            BAD,
        ),
        Case::new(
            "the same key twice",
            "RFC 6455, 11.3.1",
            Head::upgrade().with(&format!("Sec-WebSocket-Key: {KEY}")),
            BAD,
        ),
    ]
}

/// What may be there and changes nothing.
fn offers() -> Vec<Case> {
    let with = |what, section, header: &str| {
        Case::new(what, section, Head::upgrade().with(header), Upgraded)
    };
    vec![
        with(
            "extensions, of which none is taken",
            "RFC 6455, 4.2.2 item 5.6",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        ),
        with(
            "extensions of no form",
            "RFC 6455, 9.1: none is taken",
            "Sec-WebSocket-Extensions: ;;=,\"",
        ),
        with(
            "a subprotocol that nobody knows",
            "RFC 6455, 4.2.2 item 5.5",
            "Sec-WebSocket-Protocol: soap",
        ),
        with(
            "an accept, which is the server's to send",
            "RFC 6455, 11.3.3",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ),
        with("an unknown header", "RFC 9110, 5.1", "X-Whatever: 1"),
        with(
            "a header of bytes beyond ASCII",
            "RFC 9110, 5.5",
            "X-Name: Zoë",
        ),
        with("an empty header", "RFC 9110, 5.5", "X-Empty:"),
        with("cookies", "RFC 6455, 4.2.1 item 10", "Cookie: a=b; c=d"),
        with(
            "an HTTP/2 setting",
            "RFC 9113, 3.1",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
        ),
        Case::new(
            "no Origin: it is no browser",
            "RFC 6455, 4.2.1 item 7",
            Head::upgrade().with("User-Agent: none"),
            Upgraded,
        ),
        Case::new(
            "frames in the same packet",
            "RFC 6455, 4.1: none before the answer, but they may have been sent",
            Head::upgrade().then([0x8a, 0x80, 0, 0, 0, 0]),
            Upgraded,
        ),
    ]
}
