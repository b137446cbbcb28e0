//! The load's connections: one user each, in one room each, all served by one thread with epoll.

use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::Result;
use crate::chat::{self, Event, Reader};
use crate::token;
use crate::websocket::{self, Frame};

/// Longer than any single answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections in the making at once: few enough for any listen queue.
const BATCH: usize = 64;

/// How long one wait for events lasts at most.
const TURN: Duration = Duration::from_millis(50);

/// What came to one connection.
pub(crate) struct Arrival {
    pub(crate) connection: usize,
    /// Just after the read that brought it.
    pub(crate) at: Instant,
    /// Bytes of the frame on the wire.
    pub(crate) length: usize,
    pub(crate) event: Event,
}

struct Connection {
    stream: TcpStream,
    /// The beginning of a frame whose end hasn't come yet.
    partial: Vec<u8>,
}

/// All connections of a scenario.
pub(crate) struct Clients {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    reader: Reader,
}

impl Clients {
    /// One connection for each room named, each with the answer to its join.
    pub(crate) fn join(address: SocketAddr, rooms: impl Iterator<Item = String>) -> Result<Self> {
        let mut clients = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(1024),
            connections: Vec::new(),
            buffer: vec![0; 64 * 1024],
            reader: Reader::default(),
        };
        let mut rooms = rooms.peekable();
        let mut joined = 0;
        while rooms.peek().is_some() {
            for room in rooms.by_ref().take(BATCH) {
                clients.connect(address, &room)?;
            }
            // the others' presence events are read here too, before they fill the sockets
            let deadline = Instant::now() + PATIENCE;
            while joined < clients.connections.len() {
                if Instant::now() > deadline {
                    return Err(format!(
                        "{joined} of {} joins answered",
                        clients.connections.len()
                    )
                    .into());
                }
                clients.turn(&mut |arrival| {
                    joined += usize::from(matches!(arrival.event, Event::History));
                    Ok(())
                })?;
            }
        }
        Ok(clients)
    }

    fn connect(&mut self, address: SocketAddr, room: &str) -> Result<()> {
        let at = self.connections.len();
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let partial = websocket::upgrade(&mut stream, &token::issue(&format!("u{at:05}"))?)?;
        stream.set_nonblocking(true)?;
        epoll::add(
            &self.epoll,
            &stream,
            epoll::EventData::new_u64(at as u64),
            epoll::EventFlags::IN,
        )?;
        self.connections.push(Connection { stream, partial });
        let mut frame = Vec::new();
        websocket::push_text(&mut frame, &chat::join(room));
        self.send(at, &frame)
    }

    /// Writes frames with one call. A full socket is an error, not a wait: a closed loop has less in
    /// flight than the smallest socket buffer holds.
    pub(crate) fn send(&self, connection: usize, frames: &[u8]) -> Result<()> {
        Ok((&self.connections[connection].stream).write_all(frames)?)
    }

    /// Waits for what comes, 50 ms at most, and hands each event on.
    ///
    /// # Errors
    /// A connection that the server ended, bytes against the protocol, an `error` event.
    pub(crate) fn turn(&mut self, each: &mut impl FnMut(Arrival) -> Result<()>) -> Result<()> {
        wait(&self.epoll, &mut self.ready)?;
        for ready in &self.ready {
            let connection = ready.data.u64() as usize;
            let Connection { stream, partial } = &mut self.connections[connection];
            let fresh = match (&*stream).read(&mut self.buffer) {
                Ok(0) => return Err("the server ended a connection".into()),
                Ok(n) => &self.buffer[..n],
                Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
                Err(e) => return Err(e.into()),
            };
            let at = Instant::now();
            let joined = (!partial.is_empty()).then(|| {
                partial.extend_from_slice(fresh);
                mem::take(partial)
            });
            let mut rest = joined.as_deref().unwrap_or(fresh);
            while let Some((frame, length)) = websocket::first(rest)? {
                match frame {
                    Frame::Text(text) => {
                        each(Arrival {
                            connection,
                            at,
                            length,
                            event: self.reader.read(text)?,
                        })?;
                    }
                    Frame::Ping(pong) => (&*stream).write_all(&pong)?,
                    Frame::Other => {}
                }
                rest = &rest[length..];
            }
            partial.extend_from_slice(rest);
        }
        Ok(())
    }
}

/// Waits for what is ready, 50 ms at most.
pub(crate) fn wait(epoll: &OwnedFd, ready: &mut Vec<epoll::Event>) -> Result<()> {
    ready.clear();
    let limit = Timespec::try_from(TURN)?;
    match epoll::wait(epoll, spare_capacity(ready), Some(&limit)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
