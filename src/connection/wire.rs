//! The socket and what is half-way through it. tungstenite reads (RFC 6455 framing, fragments, UTF-8,
//! control frames) from bytes that are in memory already, and its own answers, pongs and closes, go
//! into the connection's reply buffer; this file alone reads and writes the socket. So many frames go
//! in one `write`, an idle connection holds no buffer, and the codec is a well-kept library's (lent to
//! the connection while something is half-way: see `codec`).
//!
//! Bytes leave in this order: the rest of a frame of which the socket took a part, then replies, then
//! what the [`Outflow`] has. What the socket doesn't take of the latter isn't kept: the outflow's
//! cursors go back to it.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::codec::Codec;
use super::pipe::{Pipe, READ, give_back, take_input};
use super::stream::Stream;
use crate::protocol::close::Close;
use crate::protocol::{Metrics, frame};

/// Written to the socket in one call, about.
const WRITE: usize = 64 * 1024;
/// A fragment of one byte takes so many: its header of two, and a mask of four (RFC 6455, section 5.2).
const FRAGMENT: u64 = 7;
/// The thread's write buffer isn't kept when one long frame has made it larger than that.
const KEPT_OUTPUT: usize = 4 * WRITE;
/// Writes in one turn; then others have theirs.
const WRITES_A_TURN: usize = 4;

/// Where frames come from that are not this connection's own: the rooms.
pub trait Outflow {
    /// Copies whole frames into `out`, about `budget` bytes. Whether there is more.
    fn fill(&mut self, out: &mut Vec<u8>, budget: usize) -> bool;
    /// Of the bytes of the last `fill`, the socket took `taken`, and is `full` now or not (under TLS it may
    /// be though all was taken). What it didn't take comes again with the next `fill`, but for the rest
    /// of a frame that was begun: gives where that frame ends.
    fn settle(&mut self, filled: &[u8], taken: usize, full: bool) -> usize;
}

/// What a peer sends: a message, put together from its fragments, or a frame that carries none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Incoming<'a> {
    /// UTF-8.
    Text(&'a [u8]),
    /// Any bytes.
    Binary(&'a [u8]),
    /// A ping, which the codec answers, a pong, or fragments of which no message becomes.
    Control,
}

/// How far sending came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Everything is with the kernel.
    All,
    /// There is more to do, and the socket would take it.
    More,
    /// The socket is full. Whether it took anything before, bytes of a begun TLS record included.
    Blocked(bool),
}

thread_local! {
    // A thread works at one connection at a time, so this is shared by all of its connections.
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A WebSocket over TCP, plain or under TLS.
pub struct Wire {
    stream: Stream,
    pipe: Pipe,
    codec: Codec,
    /// The rest of a frame of which the socket took a part.
    rest: Vec<u8>,
    /// Whether reading ended because no more messages were wanted: then the codec may hold some, and
    /// the socket nothing that would say so.
    stopped: bool,
    /// Bytes of a frame of which the socket took a part that it has yet to take.
    begun: usize,
    /// Bytes read since the last message.
    quiet: u64,
    metrics: Arc<Metrics>,
}

impl Wire {
    /// Takes over a socket after the handshake; `read` is what was read beyond the handshake.
    pub fn new(
        stream: impl Into<Stream>,
        read: &[u8],
        max_frame: usize,
        metrics: Arc<Metrics>,
    ) -> Wire {
        let mut codec = Codec::new(max_frame);
        codec.expect(read);
        Wire {
            stream: stream.into(),
            pipe: Pipe::of(read),
            codec,
            rest: Vec::new(),
            stopped: false,
            begun: 0,
            quiet: 0,
            metrics,
        }
    }

    /// Puts bytes before all else that is sent: what is left of the handshake's answer, which is no frame.
    pub fn send_first(&mut self, answer: Vec<u8>) {
        self.begun = answer.len();
        self.rest = answer;
    }

    /// Where replies are put.
    pub fn replies(&mut self) -> &mut Vec<u8> {
        self.pipe.replies()
    }

    /// Bytes of replies that are not written yet.
    pub fn unwritten(&self) -> usize {
        self.pipe.unwritten().len()
    }

    /// Whether there is input that was read from the socket and not looked at.
    pub fn has_input(&self) -> bool {
        self.stopped || !self.pipe.unread().is_empty()
    }

    /// Whether the socket has input; wakes the task when it has.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_readable(cx)
    }

    /// Whether the socket takes output; wakes the task when it does.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_writable(cx)
    }

    /// Reads once from the socket and hands each message to `take`, until there is none or `take` says
    /// that it wants no more now; what is left then waits for the next call. Gives whether the peer
    /// showed itself.
    pub fn receive(
        &mut self,
        mut take: impl FnMut(Incoming<'_>, &mut Vec<u8>) -> bool,
    ) -> Result<bool, Close> {
        // Nothing is read while much is unwritten, so there is little to move.
        self.pipe.close_gap();
        if self.has_input() {
            let outcome = self.read_messages(&mut take);
            self.pipe.keep_unread();
            return outcome.map(|()| false);
        }
        let mut input = take_input();
        let read = match self.stream.try_read(&mut input) {
            Ok(read @ 1..) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            ended => {
                give_back(input);
                return Err(ended.map_or(Close::Broken, |_| Close::ByPeer));
            }
        };
        let pipe = &mut self.pipe;
        pipe.take_in(input, read);
        self.codec.expect(pipe.unread());
        self.quiet += read as u64;
        let outcome = self.read_messages(&mut take);
        give_back(self.pipe.keep_unread());
        // Fragments without end, of which the codec tells nothing: they aren't free either.
        if outcome.is_ok() && self.quiet > self.longest() {
            self.stopped |= !take(Incoming::Control, self.replies());
        }
        outcome.map(|()| read > 0)
    }

    /// How many bytes a message takes at most, in fragments of a byte each.
    fn longest(&self) -> u64 {
        FRAGMENT * self.codec.max_frame() as u64 + READ as u64
    }

    fn read_messages(
        &mut self,
        take: &mut impl FnMut(Incoming<'_>, &mut Vec<u8>) -> bool,
    ) -> Result<(), Close> {
        self.stopped = false;
        let mut received = 0;
        let outcome = loop {
            let message = match self.codec.read(&mut self.pipe) {
                Ok(message) => message,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.codec.rest();
                    break Ok(());
                }
                Err(error) => break Err(why(&error)),
            };
            received += u64::from(message.is_text() || message.is_binary());
            self.quiet = 0;
            let more = match message {
                Message::Text(text) => take(Incoming::Text(text.as_bytes()), self.replies()),
                Message::Binary(bytes) => take(Incoming::Binary(&bytes), self.replies()),
                Message::Ping(_) | Message::Pong(_) => take(Incoming::Control, self.replies()),
                _ => true,
            };
            if !more {
                self.stopped = true;
                break Ok(());
            }
        };
        self.metrics.received.inc_by(received);
        outcome
    }

    /// Puts a close frame into the replies, unless one was sent or answered already.
    pub fn say_close(&mut self, close: Close) {
        let Some(code) = close.code() else { return };
        if matches!(close, Close::Protocol | Close::NotUtf8 | Close::TooBig) {
            // The codec has lost its place in the stream: it reads and writes no more.
            return frame::put_close(self.replies(), code, close.reason());
        }
        let close_frame = CloseFrame {
            code: CloseCode::from(code),
            reason: close.reason().into(),
        };
        // Into memory; and where the codec refuses, the closing is under way already.
        let _ = self.codec.close(&mut self.pipe, close_frame);
    }

    /// Reads and drops what the peer still sends. `false` when it has ended.
    pub fn discard(&mut self) -> bool {
        // A codec that has lost its place looks at nothing any more: kept, this would be input for ever.
        self.pipe.keep_none();
        self.stopped = false;
        let mut input = take_input();
        let read = self.stream.try_read(&mut input);
        give_back(input);
        match read {
            Ok(read) => read > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Ends this side of the stream.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_finish(cx)
    }

    /// Says that this is the end, where the stream has a word for it: for one that is dropped next.
    pub fn say_end(&mut self) {
        self.stream.say_end();
    }

    /// Writes what there is, until the socket is full or a turn's share is done.
    pub fn send(&mut self, outflow: &mut impl Outflow) -> Result<Sent, Close> {
        let mut output = OUTPUT.take();
        let sent = self.send_through(&mut output, outflow);
        if output.capacity() <= KEPT_OUTPUT {
            OUTPUT.set(output);
        }
        sent
    }

    fn send_through(
        &mut self,
        output: &mut Vec<u8>,
        outflow: &mut impl Outflow,
    ) -> Result<Sent, Close> {
        let mut took = false;
        for _ in 0..WRITES_A_TURN {
            match self.send_once(outflow, output)? {
                Sent::More => took = true,
                Sent::Blocked(some) => return Ok(Sent::Blocked(took || some)),
                Sent::All => return Ok(Sent::All),
            }
        }
        Ok(Sent::More)
    }

    fn send_once(
        &mut self,
        outflow: &mut impl Outflow,
        output: &mut Vec<u8>,
    ) -> Result<Sent, Close> {
        output.clear();
        output.extend_from_slice(&self.rest);
        let replies = self.pipe.unwritten();
        let (now, later) = replies.split_at(replies.len().min(WRITE));
        output.extend_from_slice(now);
        let own = output.len();
        // Behind a frame that the socket took a part of, or replies that are still to come, nothing of
        // the rooms may stand; and nothing is fetched for a socket that may be full still.
        let last = later.is_empty() && self.rest.is_empty() && own < WRITE;
        let more = !last || outflow.fill(output, WRITE - own);
        let taken = self.write(output)?;
        // What a stream holds back is with nobody who sends it by himself: the socket is full.
        let behind = self.stream.is_behind();
        let moved = self.stream.has_moved(taken);
        if output.is_empty() && !behind {
            self.pipe.drop_replies(0);
            return Ok(Sent::All);
        }
        self.count(output, own, taken);
        let full = behind || taken < output.len();
        self.settle(outflow, output, own, (taken, full));
        Ok(match more {
            _ if full => Sent::Blocked(moved),
            true => Sent::More,
            false => Sent::All,
        })
    }

    /// Writes until all is written or the socket is full. Only a refusal tells the runtime that it is
    /// full, so a write that was taken in part is tried once more.
    fn write(&mut self, output: &[u8]) -> Result<usize, Close> {
        let mut taken = 0;
        if output.is_empty() {
            return match self.stream.try_flush() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(Close::Broken),
                _ => Ok(0),
            };
        }
        while let Some(rest) = output.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write(rest) {
                Ok(0) => return Err(Close::Broken),
                Ok(some) => taken += some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(Close::Broken),
            }
        }
        Ok(taken)
    }

    /// Counts the frames with data of which the socket took the first byte: a few nanoseconds a frame
    /// over bytes that were just copied, one atomic a write.
    fn count(&mut self, output: &[u8], own: usize, taken: usize) {
        let replies = self.pipe.unwritten();
        let mut frames = 0;
        let mut at = self.begun;
        while at < taken {
            // In `output` the replies may end anywhere, within a header even; where they lie, frames are whole.
            let reply = at
                .checked_sub(self.rest.len())
                .filter(|_| at < own)
                .and_then(|at| replies.get(at..));
            let frame = reply.or(output.get(at..)).unwrap_or_default();
            frames += u64::from(frame::is_data(frame));
            at += frame::frame_len(frame).unwrap_or(frame.len()).max(1);
        }
        self.begun = at - taken;
        self.metrics.sent.inc_by(frames);
    }

    /// Notes that the socket took the first `taken` bytes of `output`, of which `own` were the rest and
    /// the replies, and whether it is full now.
    fn settle(
        &mut self,
        outflow: &mut impl Outflow,
        output: &[u8],
        own: usize,
        (taken, full): (usize, bool),
    ) {
        let filled = output.get(own..).unwrap_or_default();
        if taken < own {
            let of_rest = taken.min(self.rest.len());
            self.rest.drain(..of_rest);
            self.pipe.drop_replies(taken - of_rest);
            outflow.settle(filled, 0, full);
            return;
        }
        let of_replies = own - self.rest.len();
        self.rest.clear();
        self.pipe.drop_replies(of_replies);
        let end = outflow.settle(filled, taken - own, full);
        self.rest
            .extend_from_slice(filled.get(taken - own..end).unwrap_or_default());
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
    }
}

/// What a codec's error means for the connection.
fn why(error: &Error) -> Close {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Close::ByPeer,
        Error::Utf8(_) => Close::NotUtf8,
        Error::Capacity(_) => Close::TooBig,
        Error::Protocol(_) => Close::Protocol,
        _ => Close::Broken,
    }
}
