//! One handshake: the bytes that are sent, and the answer that they must get.

use std::net::SocketAddr;
use std::sync::LazyLock;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::raw::{PING, PONG};
use crate::support::{Raw, SOON, http, token};

/// RFC 6455, section 1.3: a key, and the answer to it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A good token, without which every refusal would be for want of one.
pub(crate) static TOKEN: LazyLock<String> = LazyLock::new(|| token("ada"));

/// What a request must be answered with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// A WebSocket, whose first frame is `connected`, and which then answers a ping.
    Upgraded,
    /// This status, and a body with this code.
    Refused(u16, &'static str),
    /// This status.
    Status(u16),
    /// Nothing: the connection ends.
    Cut,
}

/// A handshake.
#[derive(Clone)]
pub(crate) struct Case {
    what: &'static str,
    /// The section that asks for this answer.
    section: &'static str,
    request: Vec<u8>,
    answer: Answer,
}

impl Case {
    /// These bytes.
    pub(crate) fn new(
        what: &'static str,
        section: &'static str,
        request: impl Into<Vec<u8>>,
        answer: Answer,
    ) -> Case {
        Case {
            what,
            section,
            request: request.into(),
            answer,
        }
    }

    /// Sends it and looks at the answer; `Err`: what was wrong.
    pub(crate) async fn judge(&self, addr: SocketAddr) -> Result<(), String> {
        let talk = tokio::time::timeout(SOON * 2, self.talk(addr));
        let got = talk.await.unwrap_or(Err("no answer in time".to_owned()));
        got.map_err(|got| {
            let Case {
                what,
                section,
                answer,
                ..
            } = self;
            format!("- {what} ({section}): wanted {answer:?}, got {got}")
        })
    }

    async fn talk(&self, addr: SocketAddr) -> Result<(), String> {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        // It may be refused before all of it is taken.
        let _ = stream.write_all(&self.request).await;
        if self.request.starts_with(b"HEAD ") {
            return self.head_alone(stream).await;
        }
        let response = match (http::read_response(&mut stream).await, self.answer) {
            (Err(_), Answer::Cut) => return Ok(()),
            (Err(error), _) => return Err(format!("the end: {error}")),
            (Ok(response), _) => response,
        };
        let status = response.status;
        match self.answer {
            Answer::Upgraded if status == 101 => {
                check_101(&response)?;
                return is_a_websocket(stream).await;
            }
            Answer::Refused(wanted, code) if status == wanted => {
                response.assert_refusal(wanted, code);
            }
            Answer::Status(wanted) if status == wanted => {}
            _ => return Err(format!("{response:?}")),
        }
        // One request a connection: what stands behind it is answered by nobody.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        if rest.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "more behind it: {:?}",
                String::from_utf8_lossy(&rest)
            ))
        }
    }

    /// The answer to HEAD has the length of a body that isn't there (RFC 9110, section 9.3.2).
    async fn head_alone(&self, mut stream: TcpStream) -> Result<(), String> {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        let all = String::from_utf8_lossy(&all);
        let Answer::Status(wanted) = self.answer else {
            panic!("only a status is looked at");
        };
        let right = all.starts_with(&format!("HTTP/1.1 {wanted} ")) && all.ends_with("\r\n\r\n");
        right.then_some(()).ok_or_else(|| all.into_owned())
    }
}

/// RFC 6455, section 4.2.2, item 5.
fn check_101(response: &http::Response) -> Result<(), String> {
    let is = |name, value: &str| {
        response
            .header(name)
            .is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    let once = |name| {
        response
            .headers
            .iter()
            .filter(|(key, _)| key == name)
            .count()
            == 1
    };
    let right = is("upgrade", "websocket")
        && is("connection", "upgrade")
        && response.header("sec-websocket-accept") == Some(ACCEPT)
        && once("sec-websocket-accept")
        && response.header("sec-websocket-extensions").is_none()
        && response.header("content-length").is_none()
        && response.header("transfer-encoding").is_none();
    right.then_some(()).ok_or_else(|| format!("{response:?}"))
}

async fn is_a_websocket(stream: TcpStream) -> Result<(), String> {
    let mut raw = Raw { stream };
    let first = raw.recv(SOON).await;
    let is_greeting = |frame: &[u8]| frame.starts_with(b"{\"type\":\"connected\"");
    if !first.as_ref().is_some_and(|(_, frame)| is_greeting(frame)) {
        return Err(format!("a first frame {first:?}"));
    }
    raw.send(true, PING, b"").await;
    match raw.recv(SOON).await {
        Some((PONG, payload)) if payload.is_empty() => Ok(()),
        other => Err(format!("{other:?} instead of a pong")),
    }
}

/// A good request's head, to be made worse.
#[derive(Clone)]
pub(crate) struct Head {
    line: String,
    headers: Vec<String>,
    behind: Vec<u8>,
}

impl Head {
    /// A good upgrade, token in the query.
    pub(crate) fn upgrade() -> Head {
        let headers = [
            "Host: chat.example",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            &format!("Sec-WebSocket-Key: {KEY}"),
        ];
        Head {
            line: format!("GET /ws?token={} HTTP/1.1", *TOKEN),
            headers: headers.map(str::to_owned).to_vec(),
            behind: Vec::new(),
        }
    }

    /// The same without any token.
    pub(crate) fn anonymous() -> Head {
        Head::upgrade().line("GET /ws HTTP/1.1")
    }

    /// `GET /health`.
    pub(crate) fn health() -> Head {
        Head {
            line: "GET /health HTTP/1.1".to_owned(),
            headers: vec!["Host: chat.example".to_owned()],
            behind: Vec::new(),
        }
    }

    /// With this request line; `{token}` stands for a good one.
    pub(crate) fn line(mut self, line: &str) -> Head {
        self.line = line.replace("{token}", &TOKEN);
        self
    }

    /// With this line at the end; `{token}` stands for a good one.
    pub(crate) fn with(mut self, header: &str) -> Head {
        self.headers.push(header.replace("{token}", &TOKEN));
        self
    }

    /// Without that header.
    pub(crate) fn without(mut self, name: &str) -> Head {
        let before = self.headers.len();
        self.headers.retain(|header| !header.starts_with(name));
        assert!(self.headers.len() < before, "no {name} to leave out");
        self
    }

    /// With this line in the place of the header of its name.
    pub(crate) fn instead(self, header: &str) -> Head {
        let (name, _) = header.split_once(':').expect("a header");
        self.without(name).with(header)
    }

    /// With these bytes behind the head.
    pub(crate) fn then(mut self, behind: impl AsRef<[u8]>) -> Head {
        self.behind.extend_from_slice(behind.as_ref());
        self
    }

    /// The bytes, lines ended so.
    pub(crate) fn ended_by(&self, end: &str) -> Vec<u8> {
        let mut head = self.line.clone() + end;
        for header in &self.headers {
            head += &(header.clone() + end);
        }
        [(head + end).as_bytes(), &self.behind].concat()
    }
}

impl From<Head> for Vec<u8> {
    fn from(head: Head) -> Vec<u8> {
        head.ended_by("\r\n")
    }
}
