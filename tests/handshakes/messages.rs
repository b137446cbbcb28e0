//! RFC 9112: the request's line and its host. What comes behind it is in `fields`.

use crate::case::Answer::{Cut, Refused, Status, Upgraded};
use crate::case::{Answer, Case, Head};

const BAD: Answer = Refused(400, "BAD_REQUEST");
/// What hyper refuses before there is a request: no body, the connection ends.
pub(crate) const UNREADABLE: Answer = Status(400);

pub(crate) fn cases() -> Vec<Case> {
    [lines(), targets(), hosts()].concat()
}

fn lines() -> Vec<Case> {
    let line = |what, section, line: &str, answer| {
        Case::new(what, section, Head::upgrade().line(line), answer)
    };
    let version = |what, version: &str, answer| {
        let head = Head::upgrade().line(&format!("GET /ws?token={{token}} {version}"));
        Case::new(what, "RFC 9112, 2.3", head, answer)
    };
    let good: Vec<u8> = Head::upgrade().into();
    vec![
        version("HTTP/1.2", "HTTP/1.2", UNREADABLE),
        version("HTTP/2.0", "HTTP/2.0", UNREADABLE),
        version("HTTP/11", "HTTP/11", UNREADABLE),
        version("HTTP/1.", "HTTP/1.", UNREADABLE),
        version("http/1.1", "http/1.1", UNREADABLE),
        version("no version", "", UNREADABLE),
        line(
            "HTTP/0.9",
            "RFC 9112, 2.3",
            "GET /ws?token={token}",
            UNREADABLE,
        ),
        line(
            "two spaces",
            "RFC 9112, 3",
            "GET  /ws?token={token} HTTP/1.1",
            UNREADABLE,
        ),
        line(
            "a tab",
            "RFC 9112, 3",
            "GET\t/ws?token={token} HTTP/1.1",
            UNREADABLE,
        ),
        line(
            "a space before it",
            "RFC 9112, 3",
            " GET /ws?token={token} HTTP/1.1",
            UNREADABLE,
        ),
        line(
            "a space behind it",
            "RFC 9112, 3",
            "GET /ws?token={token} HTTP/1.1 ",
            UNREADABLE,
        ),
        line("no target", "RFC 9112, 3", "GET HTTP/1.1", UNREADABLE),
        line(
            "no method",
            "RFC 9112, 3",
            "/ws?token={token} HTTP/1.1",
            UNREADABLE,
        ),
        line(
            "a method with a control character",
            "RFC 9110, 5.6.2",
            "G\x01T / HTTP/1.1",
            UNREADABLE,
        ),
        line(
            "a method in brackets",
            "RFC 9110, 5.6.2",
            "(GET) / HTTP/1.1",
            UNREADABLE,
        ),
        Case::new(
            "an empty line before it",
            "RFC 9112, 2.2",
            [b"\r\n", &good[..]].concat(),
            Upgraded,
        ),
        Case::new(
            "bare line feeds",
            "RFC 9112, 2.2: may be taken",
            Head::upgrade().ended_by("\n"),
            Upgraded,
        ),
        Case::new(
            "bare carriage returns",
            "RFC 9112, 2.2",
            Head::upgrade().ended_by("\r"),
            UNREADABLE,
        ),
        Case::new(
            "a doubled carriage return",
            "RFC 9112, 2.2",
            Head::upgrade().ended_by("\r\r\n"),
            UNREADABLE,
        ),
        Case::new("NUL bytes", "RFC 9112, 2.2", vec![0; 64], UNREADABLE),
        Case::new(
            "a byte order mark",
            "RFC 9112, 2.2",
            [b"\xef\xbb\xbf", &good[..]].concat(),
            UNREADABLE,
        ),
        Case::new(
            "a TLS hello",
            "RFC 9112, 2.2",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            UNREADABLE,
        ),
        Case::new(
            "HTTP/2 without asking",
            "RFC 9113, 3.3",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            Cut,
        ),
        Case::new(
            "a response",
            "RFC 9112, 2.1",
            b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            UNREADABLE,
        ),
        Case::new(
            "half a head",
            "config.md, HANDSHAKE_TIMEOUT",
            good[..good.len() - 2].to_vec(),
            Cut,
        ),
        Case::new("nothing", "config.md, HANDSHAKE_TIMEOUT", Vec::new(), Cut),
    ]
}

fn targets() -> Vec<Case> {
    let target = |what, section, target: &str, answer| {
        let head = Head::upgrade().line(&format!("GET {target} HTTP/1.1"));
        Case::new(what, section, head, answer)
    };
    let (absolute, missing) = ("RFC 9112, 3.2.2", Refused(404, "NOT_FOUND"));
    vec![
        target(
            "absolute form",
            absolute,
            "http://chat.example/ws?token={token}",
            Upgraded,
        ),
        target(
            "absolute form with another scheme",
            absolute,
            "https://chat.example/ws?token={token}",
            Upgraded,
        ),
        target(
            "absolute form with ws",
            absolute,
            "ws://chat.example/ws?token={token}",
            Upgraded,
        ),
        target(
            "absolute form of another host",
            absolute,
            "http://other.example/ws?token={token}",
            Upgraded,
        ),
        target(
            "absolute form without a path",
            absolute,
            "http://chat.example?token={token}",
            Upgraded,
        ),
        target(
            "absolute form without a host",
            absolute,
            "http:///ws?token={token}",
            UNREADABLE,
        ),
        target(
            "authority form",
            "RFC 9112, 3.2.3",
            "chat.example:80",
            Status(404),
        ),
        target("asterisk form", "RFC 9112, 3.2.4", "*", missing),
        target(
            "no slash",
            "RFC 9112, 3.2.1",
            "ws?token={token}",
            UNREADABLE,
        ),
        target(
            "a fragment",
            "RFC 9112, 3.2: none is sent",
            "/ws?token={token}#x",
            Upgraded,
        ),
        target(
            "a space inside",
            "RFC 9112, 3.2",
            "/ws ?token={token}",
            UNREADABLE,
        ),
        target(
            "a control character",
            "RFC 9112, 3.2",
            "/ws\x01?token={token}",
            UNREADABLE,
        ),
        target(
            "a slash at the end",
            "RFC 3986, 6.2.3",
            "/ws/?token={token}",
            missing,
        ),
        target(
            "two slashes",
            "RFC 3986, 3.3",
            "//ws?token={token}",
            missing,
        ),
        target(
            "in capitals",
            "RFC 3986, 6.2.2.1",
            "/WS?token={token}",
            missing,
        ),
        target(
            "up and down again",
            "RFC 3986, 6.2.2.3",
            "/x/../ws?token={token}",
            missing,
        ),
        target(
            "a NUL, encoded",
            "RFC 3986, 2.1",
            "/ws%00?token={token}",
            missing,
        ),
        target(
            "encoded twice",
            "RFC 3986, 2.4",
            "/%2577s?token={token}",
            missing,
        ),
        target(
            "a percent sign alone",
            "RFC 3986, 2.1",
            "/ws%?token={token}",
            missing,
        ),
    ]
}

fn hosts() -> Vec<Case> {
    let host = |what, value: &str, answer| {
        let head = Head::upgrade().instead(&format!("Host: {value}"));
        Case::new(what, "RFC 9112, 3.2", head, answer)
    };
    vec![
        host("a host with a port", "chat.example:8443", Upgraded),
        host("an IPv6 host", "[::1]:8080", Upgraded),
        host("an empty host", "", Upgraded),
        host("a host with a space", "chat example", BAD),
        host("two hosts in one", "chat.example, other.example", BAD),
        host("a host with a path", "chat.example/ws", BAD),
        host("a host with a user", "me@chat.example", BAD),
        host("a host with a scheme", "http://chat.example", BAD),
        Case::new(
            "no host",
            "RFC 9112, 3.2",
            Head::upgrade().without("Host"),
            BAD,
        ),
        Case::new(
            "no host, no upgrade",
            "RFC 9112, 3.2",
            Head::health().without("Host"),
            BAD,
        ),
        Case::new(
            "two hosts",
            "RFC 9112, 3.2",
            Head::upgrade().with("Host: other.example"),
            BAD,
        ),
        Case::new(
            "the same host twice",
            "RFC 9112, 3.2",
            Head::health().with("Host: chat.example"),
            BAD,
        ),
        Case::new(
            "no host in HTTP/1.0",
            "RFC 9112, 3.2: asked of HTTP/1.1 alone",
            Head::health().line("GET /health HTTP/1.0").without("Host"),
            Status(200),
        ),
    ]
}
