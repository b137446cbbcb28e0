//! A WebSocket client by hand: it sends what no library would, and stays silent where each would
//! answer.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{SOON, http, secrets, within};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A connection past its handshake, on which nothing happens by itself.
pub struct Raw<S = TcpStream> {
    pub stream: S,
}

impl Raw {
    /// Connects with `?token=`; the `connected` event is still to be read.
    pub async fn open(addr: SocketAddr, token: &str) -> Self {
        Self::open_with_buffer(addr, token, None).await
    }

    /// The same with a receive buffer of so many bytes, so that the server soon can't write.
    pub async fn open_with_buffer(addr: SocketAddr, token: &str, buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes).expect("a buffer size");
        }
        let stream = socket.connect(addr).await.expect("a TCP connection");
        Self::over(stream, token).await
    }

    /// Tries to connect to a node that may be ending: `None` where it says that it is draining, an error
    /// where nobody answers. A 101 is never followed by silence, or what reads on fails.
    pub async fn try_open(addr: SocketAddr, path: &str) -> std::io::Result<Option<Self>> {
        let mut stream = TcpStream::connect(addr).await?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let response = within(SOON, "the upgrade", http::read_response(&mut stream)).await?;
        match response.status {
            101 => Ok(Some(Self { stream })),
            503 => Ok(None),
            _ => panic!("{response:?}"),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Over this stream, with `?token=`.
    pub async fn over(mut stream: S, token: &str) -> Self {
        let head = format!(
            "GET /?token={token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream
            .write_all(head.as_bytes())
            .await
            .expect("the request is sent");
        let response = within(SOON, "the upgrade", http::read_response(&mut stream)).await;
        let response = response.expect("a response");
        assert_eq!(response.status, 101, "{response:?}");
        // RFC 6455, section 1.3: the answer to this very key.
        assert_eq!(
            response.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        Self { stream }
    }

    /// Sends one masked frame.
    pub async fn send(&mut self, is_final: bool, opcode: u8, payload: &[u8]) {
        secrets::note_text_of(&String::from_utf8_lossy(payload));
        let bytes = frame(is_final, opcode, payload, Some([1, 2, 3, 4]));
        self.write(&bytes).await;
    }

    /// Sends an envelope in one text frame.
    pub async fn send_json(&mut self, envelope: &Value) {
        self.send(true, TEXT, envelope.to_string().as_bytes()).await;
    }

    /// Sends these very bytes. A server that has closed already is no failure here.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = within(SOON, "the bytes to be sent", self.stream.write_all(bytes)).await;
    }

    /// The next frame, opcode and payload; `None` once the server has ended the stream.
    pub async fn recv(&mut self, limit: Duration) -> Option<(u8, Vec<u8>)> {
        within(limit, "a frame or the end", async {
            let first = self.stream.read_u8().await.ok()?;
            let second = self.stream.read_u8().await.ok()?;
            assert_eq!(
                first & 0xf0,
                0x80,
                "a whole frame without extensions: {first:#x}"
            );
            assert_eq!(second & 0x80, 0, "a server's frames are not masked");
            let length = match second {
                126 => self.stream.read_u16().await.ok()?.into(),
                127 => self.stream.read_u64().await.ok()?,
                short => short.into(),
            };
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some((first & 0x0f, payload))
        })
        .await
    }

    /// Reads on to the close frame; its code. `None` if the stream ended without one.
    pub async fn close_code(&mut self) -> Option<u16> {
        let mut received = Vec::new();
        loop {
            let next = tokio::time::timeout(SOON, self.recv(SOON * 2)).await;
            let Ok(next) = next else {
                panic!("no close frame within {SOON:?}, but {received:?}");
            };
            let (opcode, payload) = next?;
            if opcode == CLOSE {
                let code = payload.get(..2).expect("a close frame with a code");
                return Some(u16::from_be_bytes([code[0], code[1]]));
            }
            received.push(String::from_utf8_lossy(&payload).into_owned());
        }
    }

    /// The next text frame as JSON, passing over pings; panics at the end of the stream.
    pub async fn event(&mut self) -> Value {
        loop {
            let (opcode, payload) = self.recv(SOON).await.expect("the stream goes on");
            if opcode == TEXT {
                return serde_json::from_slice(&payload).expect("JSON");
            }
            assert_eq!(opcode, PING, "{payload:?}");
        }
    }

    /// Reads on to the next event of this type; its payload.
    pub async fn expect(&mut self, kind: &str) -> Value {
        loop {
            let mut event = self.event().await;
            if event["type"] == kind {
                return event["payload"].take();
            }
        }
    }

    /// Reads and throws away whatever comes, answering nothing, until the server ends the stream.
    pub async fn ended(&mut self, limit: Duration) {
        while self.recv(limit).await.is_some() {}
    }
}

/// The bytes of one frame (RFC 6455, section 5.2).
pub fn frame(is_final: bool, opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![if is_final { 0x80 } else { 0 } | opcode];
    match payload.len() {
        short @ 0..126 => bytes.push(mask_bit | short as u8),
        medium @ 126..65_536 => {
            bytes.push(mask_bit | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(mask_bit | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    let key = mask.unwrap_or_default();
    bytes.extend(mask.iter().flatten());
    bytes.extend(
        payload
            .iter()
            .enumerate()
            .map(|(i, byte)| byte ^ key[i % 4]),
    );
    bytes
}
