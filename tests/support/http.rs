//! Plain HTTP by hand, so that a refusal is seen exactly as it goes over the wire.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{SOON, within};

/// One HTTP response. Header names are in lower case.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The value of a header, if the response has it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body, which has to be JSON and to say so.
    pub fn json(&self) -> Value {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(
            kind.starts_with("application/json"),
            "not labelled as JSON: {self:?}"
        );
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    /// That this is a refusal with this status and code, as `{"code", "message"}`.
    #[track_caller]
    pub fn assert_refusal(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "wanted {status} {code}: {self:?}");
        let body = self.json();
        assert_eq!(body["code"], code, "{self:?}");
        assert!(
            body["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{self:?}"
        );
        assert_eq!(self.header("sec-websocket-accept"), None, "{self:?}");
    }
}

/// `GET path`.
pub async fn get(addr: SocketAddr, path: &str) -> Response {
    request(addr, path, &[]).await
}

/// The status of `GET path` over an open connection.
pub async fn get_over(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, path: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    within(SOON, &format!("the response to GET {path}"), async {
        stream.write_all(request.as_bytes()).await.expect("sent");
        let response = read_response(&mut stream).await;
        response.expect("a response").status
    })
    .await
}

/// What a WebSocket handshake has.
const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A WebSocket upgrade on `path`, of which a response is expected that is no WebSocket (or its head
/// alone, where it is one).
pub async fn upgrade(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    let all = [&UPGRADE[..], headers].concat();
    request(addr, path, &all).await
}

/// `GET path` with these headers, or what went wrong on the connection.
pub async fn try_request(
    addr: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> std::io::Result<Response> {
    within(SOON, &format!("the response to GET {path}"), async {
        let mut stream = TcpStream::connect(addr).await?;
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all((head + "\r\n").as_bytes()).await?;
        read_response(&mut stream).await
    })
    .await
}

async fn request(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    let response = try_request(addr, path, headers).await;
    response.unwrap_or_else(|e| panic!("GET {path} at {addr}: {e}"))
}

/// Reads a response: its head, and as much body as `Content-Length` says.
pub async fn read_response<S: AsyncReadExt + Unpin>(stream: &mut S) -> std::io::Result<Response> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap_or(0))];
    stream.read_exact(&mut body).await?;
    let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
    Ok(Response {
        status,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Any request, with a body where one is given.
pub async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Response {
    let what = format!("{method} {path} at {addr}");
    let talk = async {
        let mut stream = TcpStream::connect(addr).await?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let request = [(head + "\r\n").as_bytes(), body.unwrap_or_default()].concat();
        stream.write_all(&request).await?;
        read_response(&mut stream).await
    };
    let response = within(SOON * 2, &what, talk).await;
    response.unwrap_or_else(|e| panic!("{what}: {e}"))
}

/// `GET path` over this stream, with these headers.
pub async fn get_with(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    get_of(stream, "localhost", path, headers).await
}

/// A WebSocket upgrade over this stream, of this host; its response, or its head where it is a WebSocket.
pub async fn upgrade_over(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    get_of(stream, host, path, &[&UPGRADE[..], headers].concat()).await
}

async fn get_of(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    within(SOON, &format!("the response to GET {path}"), async {
        let sent = stream.write_all((head + "\r\n").as_bytes()).await;
        sent.expect("sent");
        stream.flush().await.expect("sent");
        read_response(stream).await.expect("a response")
    })
    .await
}
