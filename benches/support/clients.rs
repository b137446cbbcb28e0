//! The load's connections: one user each, all served by one thread with epoll, handshakes too.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use super::Result;
use super::chat::{Event, Reader};
use super::token;
use super::websocket::{self, Frame};

/// Longer than any single answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long one wait for events lasts where nothing else is due.
pub(crate) const TURN: Duration = Duration::from_millis(50);

/// What came to one connection.
pub(crate) struct Arrival<'a> {
    pub(crate) connection: usize,
    /// Just after the read that brought it: the same for all that came with it.
    pub(crate) at: Instant,
    /// Bytes of the frame on the wire.
    pub(crate) length: usize,
    pub(crate) event: Event<'a>,
}

#[derive(Default)]
struct Connection {
    /// `None` once it has ended.
    stream: Option<TcpStream>,
    /// The beginning of a frame, or of the response to the upgrade, whose end hasn't come yet.
    partial: Vec<u8>,
    /// Frames to send as soon as the upgrade is through; `None` from then on.
    greeting: Option<Vec<u8>>,
    /// Joins of the greeting that aren't answered yet.
    joins: usize,
    /// Whether it may end before its client wants that.
    may_end: bool,
}

impl Connection {
    /// Whether it awaits the answer to its upgrade or to a join of its greeting.
    fn is_opening(&self) -> bool {
        self.greeting.is_some() || self.joins > 0
    }
}

/// All connections of a run.
pub(crate) struct Clients {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    connections: Vec<Connection>,
    /// Those whose greeting isn't answered yet.
    opening: usize,
    buffer: Vec<u8>,
    reader: Reader,
}

impl Clients {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(1024),
            connections: Vec::new(),
            opening: 0,
            buffer: vec![0; 64 * 1024],
            reader: Reader::default(),
        })
    }

    /// Connections so far, ended ones too. The next one gets this number.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Connections whose joins aren't all answered yet.
    pub(crate) fn opening(&self) -> usize {
        self.opening
    }

    /// Begins a connection that sends these requests as soon as it is upgraded, so many of them joins.
    pub(crate) fn open(
        &mut self,
        address: SocketAddr,
        requests: &[String],
        joins: usize,
    ) -> Result<()> {
        self.connections.push(Connection::default());
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        self.begin(self.connections.len() - 1, stream, requests, joins)
    }

    /// A connection like the others that takes in only so many bytes ahead of its reads.
    pub(crate) fn open_narrow(
        &mut self,
        address: SocketAddr,
        joins: &[String],
        bytes: usize,
    ) -> Result<()> {
        self.connections.push(Connection::default());
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(bytes)?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        self.begin(
            self.connections.len() - 1,
            socket.into(),
            joins,
            joins.len(),
        )
    }

    /// The same user comes back after its connection has ended.
    pub(crate) fn reopen(
        &mut self,
        at: usize,
        address: SocketAddr,
        requests: &[String],
    ) -> Result<()> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        self.begin(at, stream, requests, requests.len())
    }

    fn begin(
        &mut self,
        at: usize,
        stream: TcpStream,
        requests: &[String],
        joins: usize,
    ) -> Result<()> {
        stream.set_nodelay(true)?;
        (&stream).write_all(websocket::request(&token::issue(&user(at))?).as_bytes())?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(at as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        let mut greeting = Vec::new();
        for request in requests {
            websocket::push_text(&mut greeting, request);
        }
        self.opening += 1;
        self.connections[at] = Connection {
            stream: Some(stream),
            partial: Vec::new(),
            greeting: Some(greeting),
            joins,
            may_end: false,
        };
        Ok(())
    }

    /// From here on the end of this connection is an event, not an error.
    pub(crate) fn let_end(&mut self, at: usize) {
        self.connections[at].may_end = true;
    }

    /// Ends a connection without a word, as a lost network does.
    pub(crate) fn cut(&mut self, at: usize) {
        let connection = mem::take(&mut self.connections[at]);
        self.opening -= usize::from(connection.is_opening());
    }

    /// From here on this connection is read by [`sip`](Self::sip) alone.
    pub(crate) fn mute(&self, at: usize) -> Result<()> {
        if let Some(stream) = &self.connections[at].stream {
            epoll::delete(&self.epoll, stream)?;
        }
        Ok(())
    }

    /// From here on this muted connection is read like the others.
    pub(crate) fn unmute(&self, at: usize) -> Result<()> {
        if let Some(stream) = &self.connections[at].stream {
            let data = epoll::EventData::new_u64(at as u64);
            epoll::add(&self.epoll, stream, data, epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    /// Reads this many bytes at most of a muted connection.
    pub(crate) fn sip(
        &mut self,
        at: usize,
        bytes: usize,
        each: &mut impl FnMut(Arrival<'_>) -> Result<()>,
    ) -> Result<()> {
        self.take(at, bytes, each)
    }

    /// Writes frames with one call. A full socket is an error, not a wait: a load has less in flight than
    /// the smallest socket buffer holds.
    pub(crate) fn send(&self, connection: usize, frames: &[u8]) -> Result<()> {
        let stream = self.connections[connection].stream.as_ref();
        Ok(stream.ok_or("no connection")?.write_all(frames)?)
    }

    /// Waits for what comes, no longer than this, and hands each event on.
    ///
    /// # Errors
    /// A connection that the server ended, bytes against the protocol, an `error` event.
    pub(crate) fn turn(
        &mut self,
        limit: Duration,
        each: &mut impl FnMut(Arrival<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut ready = mem::take(&mut self.ready);
        let waited = wait(&self.epoll, &mut ready, limit);
        let mut outcome = waited;
        for event in &ready {
            if outcome.is_err() {
                break;
            }
            outcome = self.take(event.data.u64() as usize, usize::MAX, each);
        }
        self.ready = ready;
        outcome
    }

    /// Reads a connection once, as much as the buffer or `limit` holds.
    fn take(
        &mut self,
        at: usize,
        limit: usize,
        each: &mut impl FnMut(Arrival<'_>) -> Result<()>,
    ) -> Result<()> {
        let connection = &mut self.connections[at];
        // cut since it became ready
        let Some(stream) = &connection.stream else {
            return Ok(());
        };
        let limit = limit.min(self.buffer.len());
        let length = match (&*stream).read(&mut self.buffer[..limit]) {
            Ok(0) if connection.may_end => return self.ended(at, each),
            Ok(0) => return Err(format!("the server ended connection {at}").into()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) if connection.may_end => return self.ended(at, each),
            Err(e) => return Err(e.into()),
        };
        let now = Instant::now();
        let fresh = &self.buffer[..length];
        let joined = (!connection.partial.is_empty()).then(|| {
            connection.partial.extend_from_slice(fresh);
            mem::take(&mut connection.partial)
        });
        let mut rest = joined.as_deref().unwrap_or(fresh);
        if let Some(greeting) = &connection.greeting {
            let Some(head) = websocket::upgraded(rest)? else {
                connection.partial.extend_from_slice(rest);
                return Ok(());
            };
            (&*stream).write_all(greeting)?;
            connection.greeting = None;
            self.opening -= usize::from(connection.joins == 0);
            rest = &rest[head..];
        }
        while let Some((frame, length)) = websocket::first(rest)? {
            match frame {
                Frame::Text(text) => {
                    let event = self.reader.read(text)?;
                    if connection.joins > 0 && matches!(event, Event::History(_)) {
                        connection.joins -= 1;
                        self.opening -= usize::from(connection.joins == 0);
                    }
                    each(Arrival {
                        connection: at,
                        at: now,
                        length,
                        event,
                    })?;
                }
                Frame::Ping(pong) => (&*stream).write_all(&pong)?,
                Frame::Other => {}
            }
            rest = &rest[length..];
        }
        connection.partial.extend_from_slice(rest);
        Ok(())
    }

    fn ended(&mut self, at: usize, each: &mut impl FnMut(Arrival<'_>) -> Result<()>) -> Result<()> {
        self.cut(at);
        each(Arrival {
            connection: at,
            at: Instant::now(),
            length: 0,
            event: Event::Ended,
        })
    }
}

/// The user of a connection.
fn user(connection: usize) -> String {
    format!("u{connection:05}")
}

/// Waits for what is ready, no longer than this; less by a part of a millisecond at most.
pub(crate) fn wait(epoll: &OwnedFd, ready: &mut Vec<epoll::Event>, limit: Duration) -> Result<()> {
    ready.clear();
    let whole = Duration::from_millis(u64::try_from(limit.as_millis())?);
    // epoll rounds its limit up to milliseconds: shorter ones are poll's
    let outcome = if whole.is_zero() && !limit.is_zero() {
        let limit = Timespec::try_from(limit)?;
        let epoll = PollFd::from_borrowed_fd(epoll.as_fd(), PollFlags::IN);
        poll(&mut [epoll], Some(&limit)).map(|_| ())
    } else {
        Ok(())
    };
    let outcome = outcome.and_then(|()| {
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: whole.min(TURN).as_nanos() as _,
        };
        epoll::wait(epoll, spare_capacity(ready), Some(&limit)).map(|_| ())
    });
    match outcome {
        Ok(()) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(io::Error::from(e).into()),
    }
}
