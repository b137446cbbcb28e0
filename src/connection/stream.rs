//! A socket, plain or under TLS, driven by readiness: nothing here waits, and what would is said to be
//! `WouldBlock` after the task was put down for a wake-up. The handshake, and HTTP before the upgrade, are
//! tokio-rustls'; then its parts, the socket and rustls' state, are taken over here, so that reading and
//! writing stay what they are on a plain socket: one call, buffers of the thread, no task in between.
//!
//! Under TLS three things lie between the connection and the socket, and each could hide from it:
//!
//! - **Plaintext that rustls holds already.** The socket says nothing of it, so [`Stream::poll_readable`]
//!   asks rustls first. The peer's word that no more comes is input, too.
//! - **Ciphertext that the socket hasn't taken.** It leaves before any more plaintext is taken, one record at
//!   a time, so a slow client holds one record here, and its cursors stay where they are. While there is some
//!   ([`Stream::is_behind`]) the stream counts as full, or nobody would wait for the socket.
//! - **Progress.** A socket that takes a part of a record takes no plaintext. Whether a client takes anything
//!   is said by bytes that the socket took ([`Stream::has_moved`]), in whatever shape: so one that reads a
//!   byte a second is as alive under TLS as it is without, and one that reads nothing isn't, even if rustls
//!   has just taken a record.
//!
//! A read never needs a write to go on, nor a write a read: rustls answers a key update with the next
//! record that is written (RFC 8446, section 4.6.3 asks for no more), and there is no renegotiation.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConnection;
use tokio_rustls::server::TlsStream;

/// Plaintext that is taken at once, in bytes: what a record holds at most (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;
/// Reads from the socket in one call. What rustls reads at once (4 KiB) may be a part of a record, or
/// records without data, of which a peer could send any number.
const READS: usize = 16;

/// A connected socket.
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Under TLS; boxed, so that a plain connection doesn't pay for it.
    Tls(Box<Tls>),
}

/// A socket and the TLS of it.
pub struct Tls {
    socket: TcpStream,
    session: ServerConnection,
    /// Whether the socket took anything since this was asked.
    moved: bool,
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Stream {
        Stream::Plain(socket)
    }
}

impl From<TlsStream<TcpStream>> for Stream {
    /// After the handshake. What was read and not asked for, or taken and not sent, goes along.
    fn from(stream: TlsStream<TcpStream>) -> Stream {
        let (socket, mut session) = stream.into_inner();
        session.set_buffer_limit(Some(RECORD));
        Stream::Tls(Box::new(Tls {
            socket,
            session,
            moved: false,
        }))
    }
}

impl Stream {
    /// Whether there is input, or its end; wakes the task when there is.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Stream::Plain(socket) => socket.poll_read_ready(cx).map(drop),
            // It holds plaintext, or the peer's word that no more comes.
            Stream::Tls(tls) if !tls.session.wants_read() => Poll::Ready(()),
            Stream::Tls(tls) => tls.socket.poll_read_ready(cx).map(drop),
        }
    }

    /// Whether the socket takes output; wakes the task when it does.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket().poll_write_ready(cx).map(drop)
    }

    /// Reads what there is; 0 at the end of the input.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing; `UnexpectedEof` where a TLS stream ends without saying so, which
    /// anybody on the way can make it do (RFC 8446, section 6.1); else the stream is of no use any more.
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => read(socket, into),
            Stream::Tls(tls) => tls.try_read(into),
        }
    }

    /// Takes some bytes to be sent, one at least.
    ///
    /// # Errors
    /// `WouldBlock` where the socket is full; else the stream is of no use any more.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.try_write(bytes),
            Stream::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// Sends what was taken already.
    ///
    /// # Errors
    /// As [`Stream::try_write`].
    pub fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(tls) => tls.push(),
        }
    }

    /// Whether bytes were taken that the socket hasn't.
    pub fn is_behind(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.session.wants_write(),
        }
    }

    /// Whether the socket took anything since the last call; `taken`: bytes that were taken since.
    pub fn has_moved(&mut self, taken: usize) -> bool {
        match self {
            Stream::Plain(_) => taken > 0,
            Stream::Tls(tls) => std::mem::take(&mut tls.moved),
        }
    }

    /// Says under TLS that no more comes, as far as the socket takes it now. For a stream that is let go:
    /// its peer needn't take the end for a break.
    pub fn say_end(&mut self) {
        if let Stream::Tls(tls) = self {
            tls.session.send_close_notify();
            let _ = tls.push();
        }
    }

    /// Ends this side of the stream.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Stream::Tls(tls) = self {
            // Said once, however often this is polled.
            tls.session.send_close_notify();
            while let Err(error) = tls.push() {
                if error.kind() != ErrorKind::WouldBlock
                    || ready!(tls.socket.poll_write_ready(cx)).is_err()
                {
                    return Poll::Ready(());
                }
            }
        }
        Pin::new(self.socket_mut()).poll_shutdown(cx).map(drop)
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &tls.socket,
        }
    }

    fn socket_mut(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &mut tls.socket,
        }
    }
}

impl Tls {
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for _ in 0..READS {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            let mut socket = Socket::of(&self.socket, &mut self.moved);
            self.session.read_tls(&mut socket)?;
            if let Err(error) = self.session.process_new_packets() {
                // What is wrong is in an alert to the peer, which may get it.
                let _ = self.push();
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
        // Others have their turn; the socket still counts as readable.
        Err(ErrorKind::WouldBlock.into())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push()?;
        let taken = self.session.writer().write(bytes)?;
        match self.push() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Gives the socket what it takes of the ciphertext; `WouldBlock` where it doesn't take all.
    fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            let mut socket = Socket::of(&self.socket, &mut self.moved);
            if self.session.write_tls(&mut socket)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

/// Reads what there is. Less than was asked for means that the socket is empty: the runtime is told so here, as by
/// a refusal, and spares the call that would be refused (its own `poll_read` does the same). What comes
/// meanwhile says so itself: the runtime forgets nothing that it heard after the read began.
fn read(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    let outcome = socket.try_io(Interest::READABLE, || {
        read = (&*SockRef::from(socket)).read(into)?;
        if read == 0 || read == into.len() {
            return Ok(());
        }
        Err(ErrorKind::WouldBlock.into())
    });
    match outcome {
        Err(error) if read == 0 => Err(error),
        _ => Ok(read),
    }
}

/// The socket as rustls wants it.
struct Socket<'a> {
    socket: &'a TcpStream,
    moved: &'a mut bool,
}

impl<'a> Socket<'a> {
    fn of(socket: &'a TcpStream, moved: &'a mut bool) -> Socket<'a> {
        Socket { socket, moved }
    }

    fn note(&mut self, taken: io::Result<usize>) -> io::Result<usize> {
        *self.moved |= matches!(taken, Ok(1..));
        taken
    }
}

impl Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read(self.socket, into)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.socket.try_write(bytes);
        self.note(taken)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = self.socket.try_write_vectored(slices);
        self.note(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
