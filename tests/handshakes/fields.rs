//! RFC 9112: the request's headers, its body, and how large it may be.

use crate::case::Answer::{Refused, Status, Upgraded};
use crate::case::{Answer, Case, Head};
use crate::messages::UNREADABLE;

const BAD: Answer = Refused(400, "BAD_REQUEST");

pub(crate) fn cases() -> Vec<Case> {
    [headers(), bodies(), sizes()].concat()
}

fn headers() -> Vec<Case> {
    let with = |what, section, header: &str, answer| {
        Case::new(what, section, Head::upgrade().with(header), answer)
    };
    vec![
        with(
            "a space before the colon",
            "RFC 9112, 5.1",
            "X-Name : 1",
            UNREADABLE,
        ),
        with(
            "Host with a space before the colon",
            "RFC 9112, 5.1",
            "Host : other",
            UNREADABLE,
        ),
        with(
            "a name with a space",
            "RFC 9110, 5.1",
            "X Name: 1",
            UNREADABLE,
        ),
        with("no name", "RFC 9112, 5", ": 1", UNREADABLE),
        with("no colon", "RFC 9112, 5", "X-Name", UNREADABLE),
        with(
            "a folded line",
            "RFC 9112, 5.2",
            "X-Name: 1\r\n 2",
            UNREADABLE,
        ),
        with(
            "a folded Connection",
            "RFC 9112, 5.2",
            "Connection: close,\r\n\tUpgrade",
            UNREADABLE,
        ),
        with(
            "a NUL in a value",
            "RFC 9110, 5.5",
            "X-Name: a\0b",
            UNREADABLE,
        ),
        with(
            "a bare carriage return in a value",
            "RFC 9110, 5.5",
            "X-Name: a\rb",
            UNREADABLE,
        ),
        with(
            "a bell in a value",
            "RFC 9110, 5.5",
            "X-Name: a\x07b",
            UNREADABLE,
        ),
        with(
            "a name beyond ASCII",
            "RFC 9110, 5.1",
            "X-Zoë: 1",
            UNREADABLE,
        ),
        with(
            "space around a value",
            "RFC 9112, 5.1",
            "X-Name: \t 1 \t ",
            Upgraded,
        ),
        Case::new(
            "a space before the first header",
            "RFC 9112, 2.2",
            Head::upgrade().line("GET /ws?token={token} HTTP/1.1\r\n X-Name: 1"),
            UNREADABLE,
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let smuggled = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let upgrade = |what, section, header: &str, answer| {
        Case::new(
            what,
            section,
            Head::upgrade().with(header).then(smuggled),
            answer,
        )
    };
    let health = |what, section, headers: &[&str], answer| {
        let head = headers
            .iter()
            .fold(Head::health(), |head, header| head.with(header));
        Case::new(what, section, head.then(smuggled), answer)
    };
    vec![
        upgrade(
            "an upgrade with a body",
            "RFC 9110, 9.3.1",
            "Content-Length: 37",
            BAD,
        ),
        upgrade(
            "an upgrade with a chunked body",
            "RFC 9112, 6.1",
            "Transfer-Encoding: chunked",
            BAD,
        ),
        Case::new(
            "an upgrade that says it has no body",
            "RFC 9112, 6.2",
            Head::upgrade().with("Content-Length: 0"),
            Upgraded,
        ),
        health(
            "two lengths",
            "RFC 9112, 6.3 item 5",
            &["Content-Length: 1", "Content-Length: 37"],
            UNREADABLE,
        ),
        health(
            "two lengths in one",
            "RFC 9112, 6.3 item 5",
            &["Content-Length: 1, 37"],
            UNREADABLE,
        ),
        health(
            "a length with a sign",
            "RFC 9110, 8.6",
            &["Content-Length: +37"],
            UNREADABLE,
        ),
        health(
            "a length below nothing",
            "RFC 9110, 8.6",
            &["Content-Length: -1"],
            UNREADABLE,
        ),
        health(
            "a length in hexadecimal",
            "RFC 9110, 8.6",
            &["Content-Length: 0x25"],
            UNREADABLE,
        ),
        health(
            "a length beyond all numbers",
            "RFC 9110, 8.6",
            &["Content-Length: 99999999999999999999999"],
            UNREADABLE,
        ),
        health(
            "an empty length",
            "RFC 9110, 8.6",
            &["Content-Length:"],
            UNREADABLE,
        ),
        health(
            "a length and chunks",
            "RFC 9112, 6.1: the length is passed over and the connection closed",
            &["Content-Length: 3", "Transfer-Encoding: chunked"],
            Status(200),
        ),
        health(
            "chunks that aren't last",
            "RFC 9112, 6.3 item 4.3",
            &["Transfer-Encoding: chunked, identity"],
            UNREADABLE,
        ),
        health(
            "an unknown coding",
            "RFC 9112, 6.1",
            &["Transfer-Encoding: xchunked"],
            UNREADABLE,
        ),
        health(
            "an encoding that hides",
            "RFC 9112, 6.1",
            &["Transfer-Encoding: \x0bchunked"],
            UNREADABLE,
        ),
        Case::new(
            "chunks in HTTP/1.0",
            "RFC 9112, 6.1",
            Head::health()
                .line("GET /health HTTP/1.0")
                .with("Transfer-Encoding: chunked"),
            UNREADABLE,
        ),
        Case::new(
            "another request behind it",
            "RFC 9112, 9.6: closed after the first",
            Head::health().then(smuggled),
            Status(200),
        ),
        Case::new(
            "an upgrade behind another request",
            "RFC 9112, 9.6",
            Head::health().then(Vec::from(Head::upgrade())),
            Status(200),
        ),
        Case::new(
            "a request behind a refused upgrade",
            "RFC 9112, 9.6",
            Head::upgrade()
                .instead("Sec-WebSocket-Version: 8")
                .then(smuggled),
            Refused(426, "UPGRADE_REQUIRED"),
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let many = (0..101).fold(Head::upgrade(), |head, n| head.with(&format!("X-{n}: 1")));
    let filler = |len: usize| format!("X-Long: {}", "a".repeat(len));
    let target = |len: usize| format!("GET /ws?token={{token}}&x={} HTTP/1.1", "a".repeat(len));
    vec![
        Case::new(
            "a header of 16 KiB",
            "RFC 9112, 3",
            Head::upgrade().with(&filler(16 << 10)),
            Upgraded,
        ),
        Case::new(
            "a head of 64 KiB",
            "RFC 6585, 5",
            Head::upgrade().with(&filler(64 << 10)),
            Status(431),
        ),
        Case::new(
            "a target of 16 KiB",
            "RFC 9112, 3",
            Head::upgrade().line(&target(16 << 10)),
            Upgraded,
        ),
        Case::new(
            "a target of 70 KiB",
            "RFC 9110, 15.5.15",
            Head::upgrade().line(&target(70 << 10)),
            Status(431),
        ),
        Case::new("over 100 headers", "RFC 6585, 5", many, Status(431)),
    ]
}
