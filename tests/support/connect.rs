//! How a client of the tests comes to its WebSocket: straight to a node or through nginx, from which
//! address, and with the token in which place.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use super::nginx::Nginx;
use super::tls::Trust;
use super::{Client, Node, SOON, within};

/// What a WebSocket can run over.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// How a client connects; nothing happens before [`Connect::open`].
pub struct Connect<'a> {
    addr: SocketAddr,
    tls: Option<&'a Trust>,
    path: String,
    headers: Vec<(String, String)>,
    source: Option<SocketAddr>,
}

impl<'a> Connect<'a> {
    /// To `/` of this node, without a token.
    pub fn to(node: &Node) -> Self {
        Self::at(node.addr)
    }

    /// To `/` of the node at this address, without a token.
    pub fn at(addr: SocketAddr) -> Self {
        Self {
            addr,
            tls: None,
            path: "/".into(),
            headers: vec![],
            source: None,
        }
    }

    /// To `/` of whatever node this nginx chooses, over TLS.
    pub fn through(nginx: &'a Nginx) -> Self {
        let addr = nginx.addr;
        Self {
            addr,
            tls: Some(&nginx.trust),
            path: "/".into(),
            headers: vec![],
            source: None,
        }
    }

    /// Over TLS of the node's own.
    pub fn over_tls(mut self, trust: &'a Trust) -> Self {
        self.tls = Some(trust);
        self
    }

    /// To this path and query.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// With `?token=`.
    pub fn token(self, token: &str) -> Self {
        self.path(format!("/?token={token}"))
    }

    /// With this header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// From this address of the loopback network.
    pub fn from(mut self, ip: [u8; 4]) -> Self {
        self.source = Some(SocketAddr::from((ip, 0)));
        self
    }

    /// Connects, and takes the `connected` event.
    pub async fn open(self) -> Client {
        let what = format!("a WebSocket at {}", self.addr);
        let (ws, response) = within(SOON, &what, self.upgrade()).await;
        Client::greeted(ws, &response).await
    }

    async fn upgrade(self) -> (WebSocketStream<Box<dyn Io>>, Response) {
        let tcp = self.tcp().await;
        let host = self.addr;
        let mut request = format!("ws://{host}{}", self.path)
            .into_client_request()
            .expect("a URL");
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().expect("a header name");
            request
                .headers_mut()
                .append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let stream: Box<dyn Io> = match self.tls {
            Some(trust) => trust.over(tcp).await,
            None => Box::new(tcp),
        };
        match tokio_tungstenite::client_async(request, stream).await {
            Ok(opened) => opened,
            Err(e) => panic!("no WebSocket at {host}{}: {e}", self.path),
        }
    }

    async fn tcp(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(source) = self.source {
            socket
                .bind(source)
                .expect("an address of the loopback network");
        }
        let tcp = socket.connect(self.addr).await;
        let tcp = tcp.unwrap_or_else(|e| panic!("can't connect to {}: {e}", self.addr));
        tcp.set_nodelay(true).expect("nodelay");
        tcp
    }
}
