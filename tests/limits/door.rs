//! One who asks for a connection, seen as it goes over the wire, from any address of the loopback network.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::connect::Io;
use crate::support::http::{self, Response};
use crate::support::nginx::Nginx;
use crate::support::{Node, SOON, token, within};

/// Where most come from.
pub(crate) const HOME: [u8; 4] = [127, 0, 0, 1];

/// What was answered, and the connection: it lasts until it is dropped.
pub(crate) struct Asked {
    pub response: Response,
    _stream: Box<dyn Io>,
}

impl Asked {
    pub(crate) fn status(&self) -> u16 {
        self.response.status
    }

    /// That it was refused for a limit; seconds after which to come again.
    #[track_caller]
    pub(crate) fn assert_too_many(&self) -> u64 {
        self.response.assert_refusal(429, "TOO_MANY_CONNECTIONS");
        let seconds = self.response.header("retry-after");
        let seconds = seconds.and_then(|value| value.parse().ok());
        seconds.unwrap_or_else(|| panic!("no Retry-After in {:?}", self.response))
    }

    /// That it was let in.
    #[track_caller]
    pub(crate) fn assert_in(&self) {
        assert_eq!(self.status(), 101, "{:?}", self.response);
    }
}

/// Asks for a connection with this token.
pub(crate) async fn ask(to: SocketAddr, from: [u8; 4], token: &str) -> Asked {
    ask_with(to, from, token, &[]).await
}

/// The same with further headers.
pub(crate) async fn ask_with(
    to: SocketAddr,
    from: [u8; 4],
    token: &str,
    headers: &[(&str, &str)],
) -> Asked {
    let stream = Box::new(tcp(to, from).await);
    over(stream, token, headers).await
}

/// The same through nginx, over TLS.
pub(crate) async fn ask_nginx(
    nginx: &Nginx,
    from: [u8; 4],
    token: &str,
    headers: &[(&str, &str)],
) -> Asked {
    let stream = nginx.over_tls(tcp(nginx.addr, from).await).await;
    over(stream, token, headers).await
}

/// One of this user is let in.
pub(crate) async fn enter(node: &Node, user: &str) -> Asked {
    let asked = ask(node.addr, HOME, &token(user)).await;
    asked.assert_in();
    asked
}

async fn tcp(to: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Else an address has one port for all that it connects to.
    socket.set_reuseaddr(true).expect("an option");
    socket.bind((from, 0).into()).expect("a loopback address");
    let tcp = within(SOON, "a TCP connection", socket.connect(to)).await;
    tcp.unwrap_or_else(|e| panic!("can't connect to {to}: {e}"))
}

async fn over(mut stream: Box<dyn Io>, token: &str, headers: &[(&str, &str)]) -> Asked {
    let mut head = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {token}\r\n"
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let talk = async {
        stream.write_all((head + "\r\n").as_bytes()).await?;
        // What TLS has made of it may still lie in its buffer.
        stream.flush().await?;
        http::read_response(&mut stream).await
    };
    let response = within(4 * SOON, "the answer to an upgrade", talk).await;
    Asked {
        response: response.expect("an answer"),
        _stream: stream,
    }
}
