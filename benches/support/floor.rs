//! The floor: what the kernel takes from the server's core when somebody writes the same bytes to as
//! many connections, and does nothing else.
//!
//! The writer is a child process in the server's place, on the server's core, so that its CPU time
//! is counted like the server's; this process reads, as it does for the server. What the kernel does
//! on loopback to hand a segment to the receiver is charged to the sender in both. It is a closed
//! loop as well, with as many frames in flight as in the scenario: without it the sockets would fill
//! up, and the figure would be that of waiting for the reader.

use std::env;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::Result;
use super::clients::{TURN, wait};
use super::load::Measured;
use super::machine::Machine;
use super::options::Common;
use super::process::{Running, cpu_time};
use super::shape::Shape;

/// The reader's receipts (a byte each) for one window of frames in flight.
const RECEIPTS: usize = 4;

const WARM_UP: Duration = Duration::from_millis(300);

/// No write and no start takes so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the writer does.
pub(crate) struct Order {
    pub(crate) connections: usize,
    /// Bytes of a frame.
    pub(crate) frame: usize,
    /// Frames that may be on their way to each connection.
    pub(crate) in_flight: usize,
    /// Frames in one write, no more than those in flight.
    pub(crate) batch: usize,
    pub(crate) time: Duration,
}

impl Order {
    /// Frames of the load's size, as many a write as the load's clients got in one read. A read brings no fewer
    /// than a write had, so that the floor is never one of smaller writes than the server's. As many are in
    /// flight as in the load, but no fewer than two writes.
    pub(crate) fn like(shape: &Shape, measured: &Measured, options: &Common) -> Self {
        let batch = (measured.frames_per_read.round() as usize).clamp(1, MOST_A_WRITE);
        Self {
            connections: shape.connections(),
            frame: measured.frame_bytes,
            in_flight: shape.in_flight_each().max(2 * batch),
            batch,
            time: options.time().min(Duration::from_secs(1)),
        }
    }
}

/// Frames of one write that the floor is measured with at most.
const MOST_A_WRITE: usize = 64;

/// The writer's CPU per frame in microseconds.
pub(crate) fn measure(order: &Order, machine: &Machine) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let &Order {
        connections,
        frame,
        in_flight,
        batch,
        time,
    } = order;
    let numbers = [
        usize::from(listener.local_addr()?.port()),
        connections,
        frame,
        usize::try_from(time.as_millis())?,
        in_flight,
        batch,
    ];
    let mut command = Command::new(env::current_exe()?);
    command
        .arg("--floor-child")
        .args(numbers.map(|number| number.to_string()));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut writer = machine.on_server_core(|| Running::start(&mut command))?;
    let step = connections * frame * (in_flight / RECEIPTS).max(1);
    let mut reader = Reader::new(listener, connections, step)?;
    reader.drain(&writer, time + WARM_UP + PATIENCE)?;
    let mut said = String::new();
    writer
        .stdout
        .take()
        .ok_or("the floor's writer has no output")?
        .read_to_string(&mut said)?;
    let cost = said.trim().parse();
    Ok(cost.map_err(|_| format!("the floor's writer said {said:?}"))?)
}

/// Takes the writer's connections and reads them empty.
struct Reader {
    listener: TcpListener,
    epoll: OwnedFd,
    expected: usize,
    streams: Vec<TcpStream>,
    buffer: Vec<u8>,
    /// Bytes since the last receipt, and how many call for one.
    unconfirmed: usize,
    step: usize,
    ended: usize,
}

impl Reader {
    const LISTENER: u64 = u64::MAX;

    fn new(listener: TcpListener, expected: usize, step: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(Self::LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        let (streams, buffer) = (Vec::new(), vec![0; 64 * 1024]);
        Ok(Self {
            listener,
            epoll,
            expected,
            streams,
            buffer,
            unconfirmed: 0,
            step,
            ended: 0,
        })
    }

    /// Reads until the writer has closed all its connections.
    fn drain(&mut self, writer: &Running, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut ready = Vec::with_capacity(1024);
        while self.ended < self.expected {
            if Instant::now() > deadline
                || (self.streams.len() < self.expected && writer.has_ended())
            {
                return Err("the floor's writer didn't finish".into());
            }
            wait(&self.epoll, &mut ready, TURN)?;
            for event in &ready {
                match event.data.u64() {
                    Self::LISTENER => self.accept()?,
                    at => self.read(at as usize)?,
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let data = epoll::EventData::new_u64(self.streams.len() as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        self.streams.push(stream);
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<()> {
        let mut stream = &self.streams[at];
        match stream.read(&mut self.buffer) {
            Ok(n) if n > 0 => self.unconfirmed += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            // a close with receipts unread is a reset
            Err(e) if e.kind() != ErrorKind::ConnectionReset => return Err(e.into()),
            Ok(_) | Err(_) => {
                epoll::delete(&self.epoll, stream)?;
                self.ended += 1;
            }
        }
        while self.unconfirmed >= self.step {
            self.unconfirmed -= self.step;
            // the writer may be gone already when the last receipts are due
            let _ = (&self.streams[0]).write(b".");
        }
        Ok(())
    }
}

/// The writer: `order` is the reader's port, connections, bytes of a frame, milliseconds, frames in
/// flight, and frames of a write. Prints its CPU per frame in microseconds.
pub(crate) fn child(order: &[usize]) -> Result<()> {
    let &[port, connections, frame, milliseconds, in_flight, batch] = order else {
        return Err("six numbers".into());
    };
    let address = (Ipv4Addr::LOCALHOST, u16::try_from(port)?).into();
    let connect = |_| -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let streams = (0..connections).map(connect).collect::<Result<_>>()?;
    let mut writer = Writer {
        streams,
        in_flight,
        written: 0,
        confirmed: 0,
    };
    let time = Duration::from_millis(u64::try_from(milliseconds)?);
    let bytes = vec![b'.'; frame * batch];
    writer.write_for(WARM_UP, batch, &bytes)?;
    let before = cpu_time(std::process::id())?;
    let frames = writer.write_for(time, batch, &bytes)?;
    let used = cpu_time(std::process::id())?.saturating_sub(before);
    println!("{}", used.as_secs_f64() * 1e6 / frames as f64);
    Ok(())
}

struct Writer {
    streams: Vec<TcpStream>,
    /// Frames that may be on their way to each connection.
    in_flight: usize,
    /// Frames to each connection so far, and those that the reader has confirmed.
    written: usize,
    confirmed: usize,
}

impl Writer {
    /// Goes round the connections for so long; how many frames it wrote.
    fn write_for(&mut self, time: Duration, batch: usize, bytes: &[u8]) -> Result<usize> {
        let end = Instant::now() + time;
        let first = self.written;
        while Instant::now() < end {
            while self.written + batch - self.confirmed > self.in_flight {
                let mut receipts = [0; 64];
                let n = (&self.streams[0]).read(&mut receipts)?;
                self.confirmed += n * (self.in_flight / RECEIPTS).max(1);
            }
            for mut stream in &self.streams {
                stream.write_all(bytes)?;
            }
            self.written += batch;
        }
        Ok((self.written - first) * self.streams.len())
    }
}
