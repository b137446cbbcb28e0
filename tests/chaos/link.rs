//! A client's connection: through nginx, from an address of its choice. Unlike the clients of the other
//! tests it expects everything to fail.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpSocket;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::support::connect::Io;
use super::support::nginx::Nginx;
use super::support::{Value, token};
use super::wire::{Knife, Limbo, Wire};

/// How long a connection may take to be made. A frozen node accepts and says nothing.
const CONNECT: Duration = Duration::from_secs(4);
/// How long a write may take.
const WRITE: Duration = Duration::from_secs(10);

/// Bytes that the kernel takes in for a client that doesn't read.
const RECEIVE: u32 = 32 * 1024;

/// A connection is gone, for whatever reason.
#[derive(Debug)]
pub(crate) struct Gone;

/// A connection.
pub(crate) struct Link {
    ws: WebSocketStream<Box<dyn Io>>,
    knife: Knife,
}

impl Link {
    /// Connects from `127.0.street.1`; nginx chooses the node by the street.
    pub(crate) async fn open(
        nginx: &Nginx,
        limbo: &Limbo,
        street: u8,
        user: &str,
    ) -> Result<Link, Gone> {
        let open = async {
            let socket = TcpSocket::new_v4()?;
            // Small, so that who reads nothing is felt by the node before its history is over.
            socket.set_recv_buffer_size(RECEIVE)?;
            socket.bind(SocketAddr::from(([127, 0, street, 1], 0)))?;
            let tcp = socket.connect(nginx.addr).await?;
            tcp.set_nodelay(true)?;
            let (wire, knife) = Wire::new(tcp, limbo.clone());
            Ok((nginx.try_over_tls(wire).await?, knife))
        };
        let opened: std::io::Result<_> = tokio::time::timeout(CONNECT, open)
            .await
            .map_err(|_| Gone)?;
        let (stream, knife) = opened.map_err(|_| Gone)?;
        let url = format!("ws://localhost/?token={}", token(user));
        let upgrade = tokio_tungstenite::client_async(url, stream);
        match tokio::time::timeout(CONNECT, upgrade).await {
            Ok(Ok((ws, _))) => Ok(Link { ws, knife }),
            _ => Err(Gone),
        }
    }

    /// From now on nothing that is sent arrives, and nothing comes.
    pub(crate) fn vanish(&self) {
        self.knife.cut();
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, request: &Value) -> Result<(), Gone> {
        let send = self.ws.send(Message::text(request.to_string()));
        match tokio::time::timeout(WRITE, send).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }

    /// The next event. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<Value, Gone> {
        loop {
            match self.ws.next().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).map_err(|_| Gone);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                Some(Ok(_)) => {}
            }
        }
    }
}
