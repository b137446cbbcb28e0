//! A socket's way through HTTP: its one request comes in here. One that asks for a WebSocket is answered without the
//! route table, and who is let in is kept until the conversation has ended and the socket is there to go on with.
//!
//! One request a socket, unless it becomes a WebSocket: so a conversation has an end, and who takes no answer
//! holds a socket for a while at most.
//!
//! **The 101 waits for the first frame.** [`Cork`] holds it back, so that both leave in one write: a write costs
//! several microseconds of CPU, more than a token does. Nothing else is held back, and the 101 for no longer than it takes
//! to get to the first frame, which waits for nobody.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

use super::upgrade::{self, Entrant};
use super::{App, hygiene, routes};

/// How hyper begins an answer that makes a socket a WebSocket's.
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

/// What all sockets share.
pub struct Site {
    /// What the handlers work with.
    pub app: Arc<App>,
    routes: Router,
}

impl Site {
    /// The site of that node.
    pub fn new(app: Arc<App>) -> Site {
        Site {
            routes: routes(app.clone()),
            app,
        }
    }
}

/// One socket, until its conversation ends.
pub struct Socket {
    site: Arc<Site>,
    peer: SocketAddr,
    asked: AtomicBool,
    entrant: Mutex<Option<Entrant>>,
}

impl Socket {
    /// A socket from there, which has asked for nothing yet.
    pub fn new(site: Arc<Site>, peer: SocketAddr) -> Socket {
        Socket {
            site,
            peer,
            asked: AtomicBool::new(false),
            entrant: Mutex::default(),
        }
    }

    /// Answers its request.
    ///
    /// # Errors
    /// None.
    pub async fn answer(
        self: Arc<Socket>,
        request: Request<Incoming>,
    ) -> Result<Response, Infallible> {
        self.asked.store(true, Ordering::Relaxed);
        let mut response = if upgrade::is_asked(&request) {
            self.upgrade(&request).await
        } else {
            self.site.routes.clone().call(request).await?
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let close = HeaderValue::from_static("close");
            response.headers_mut().append(header::CONNECTION, close);
        }
        Ok(response)
    }

    async fn upgrade(&self, request: &Request<Incoming>) -> Response {
        let app = &*self.site.app;
        let (readers, answered) = hygiene::before(app, request);
        let response = match answered {
            Some(response) => response,
            None => match upgrade::enter(app, self.peer.ip(), request).await {
                Ok((entrant, response)) => {
                    *self.entrant() = Some(entrant);
                    response
                }
                Err(error) => error.into_response(),
            },
        };
        hygiene::after(app, readers, response)
    }

    fn entrant(&self) -> MutexGuard<'_, Option<Entrant>> {
        self.entrant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its request was heard.
    pub fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Who was let in, if anybody was.
    pub fn take_entrant(&self) -> Option<Entrant> {
        self.entrant().take()
    }
}

/// A stream that holds back the 101, if that is the first thing written.
pub struct Cork<S> {
    stream: S,
    held: Vec<u8>,
    /// Whether anything was written.
    begun: bool,
}

impl<S> Cork<S> {
    /// Nothing was written to the stream yet.
    pub fn new(stream: S) -> Cork<S> {
        Cork {
            stream,
            held: Vec::new(),
            begun: false,
        }
    }

    /// The stream, and what has yet to be written to it.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.held)
    }

    /// Keeps what is to be written, if that is the 101; hyper writes it whole, and nothing after it.
    fn keeps(&mut self, bytes: &[u8]) -> bool {
        let first = !std::mem::replace(&mut self.begun, true);
        let keeps = first && bytes.starts_with(SWITCHING);
        if keeps {
            self.held = bytes.to_vec();
        }
        keeps
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cork<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.keeps(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        if let Some(first) = first
            && self.keeps(first)
        {
            return Poll::Ready(Ok(first.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

    #[tokio::test]
    async fn only_the_101_is_held_back_and_only_as_the_first_of_all() {
        let (near, mut far) = tokio::io::duplex(1_024);
        let mut cork = Cork::new(near);
        cork.write_all(ANSWER).await.unwrap();
        cork.flush().await.unwrap();
        let (mut near, held) = cork.into_parts();
        assert_eq!(held, ANSWER);
        near.write_all(b"x").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');

        let mut cork = Cork::new(near);
        let parts: [&[u8]; 2] = [b"HTTP/1.1 200 OK\r\n\r\n", ANSWER];
        for part in parts {
            cork.write_all(part).await.unwrap();
        }
        assert_eq!(cork.into_parts().1, b"");
        let mut answer = String::new();
        far.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.as_bytes(), parts.concat());
    }
}
