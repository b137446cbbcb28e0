//! The wire between a client and nginx, which can go dead: from then on nothing passes in either
//! direction and nobody is told. What the client writes vanishes; what nginx sends is acknowledged by
//! the kernel and read by no one, until that is full, too; and the socket is not closed when the
//! client goes, so there is neither FIN nor RST: whoever holds the other end has to find out alone.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The sockets of dead wires, open and unread until the run is over.
#[derive(Clone, Default)]
pub(crate) struct Limbo(Arc<Mutex<Vec<TcpStream>>>);

/// Cuts a wire.
pub(crate) struct Knife(Arc<AtomicBool>);

impl Knife {
    /// From now on nothing passes.
    pub(crate) fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A TCP connection that can go dead.
pub(crate) struct Wire {
    /// There until it is dropped.
    tcp: Option<TcpStream>,
    is_dead: Arc<AtomicBool>,
    limbo: Limbo,
}

impl Wire {
    /// A wire that is alive, and what cuts it.
    pub(crate) fn new(tcp: TcpStream, limbo: Limbo) -> (Wire, Knife) {
        let is_dead = Arc::<AtomicBool>::default();
        let wire = Wire {
            tcp: Some(tcp),
            is_dead: is_dead.clone(),
            limbo,
        };
        (wire, Knife(is_dead))
    }

    /// The socket, while something passes.
    fn alive(&mut self) -> Option<Pin<&mut TcpStream>> {
        let is_dead = self.is_dead.load(Ordering::Acquire);
        self.tcp.as_mut().filter(|_| !is_dead).map(Pin::new)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.alive() {
            Some(tcp) => tcp.poll_read(cx, buf),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.alive() {
            Some(tcp) => tcp.poll_write(cx, bytes),
            None => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.alive() {
            Some(tcp) => tcp.poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.alive() {
            Some(tcp) => tcp.poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.is_dead.load(Ordering::Acquire) {
            let mut limbo = self.limbo.0.lock().unwrap_or_else(PoisonError::into_inner);
            limbo.extend(self.tcp.take());
        }
    }
}
