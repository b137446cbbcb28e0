//! The bytes between the socket and the codec: input that was read and not looked at, and replies that the socket
//! hasn't taken. An idle connection holds neither: buffers are the thread's, lent while something is half-way.

use std::cell::RefCell;
use std::io::{self, Read, Write};

/// Read from the socket in one call at most.
pub(super) const READ: usize = 16 * 1024;
/// A reply buffer of more than that isn't kept for the next one.
const KEPT_REPLIES: usize = 4 * 1024;

thread_local! {
    // A thread works at one connection at a time, so these are shared by all of its connections.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static REPLIES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The thread's read buffer; whoever takes it gives it back.
pub(super) fn take_input() -> Vec<u8> {
    let mut input = INPUT.take();
    input.resize(READ, 0);
    input
}

/// Gives the thread's read buffer back.
pub(super) fn give_back(input: Vec<u8>) {
    INPUT.set(input);
}

/// What is on its way in and out.
#[derive(Default)]
pub(super) struct Pipe {
    /// Input lies in `input[read..end]`.
    input: Vec<u8>,
    read: usize,
    end: usize,
    /// Replies wait in `replies[gone..]`.
    replies: Vec<u8>,
    gone: usize,
}

impl Pipe {
    /// With that as its input.
    pub(super) fn of(read: &[u8]) -> Pipe {
        let mut pipe = Pipe::default();
        pipe.take_in(read.to_vec(), read.len());
        pipe
    }

    /// Takes a buffer in of which the first `end` bytes were read.
    pub(super) fn take_in(&mut self, input: Vec<u8>, end: usize) {
        (self.input, self.read, self.end) = (input, 0, end);
    }

    /// Where replies are put.
    pub(super) fn replies(&mut self) -> &mut Vec<u8> {
        if self.replies.capacity() == 0 {
            self.replies = REPLIES.take();
        }
        &mut self.replies
    }

    /// Replies that the socket hasn't taken.
    pub(super) fn unwritten(&self) -> &[u8] {
        self.replies.get(self.gone..).unwrap_or_default()
    }

    /// Drops the first replies, which the socket took. Those behind them are moved only when they are the fewer: a
    /// long one goes out in many writes. An idle connection holds no buffer of them: it goes to the thread's next one.
    pub(super) fn drop_replies(&mut self, count: usize) {
        self.gone += count;
        if self.gone == self.replies.len() {
            self.gone = 0;
            let mut buffer = std::mem::take(&mut self.replies);
            if (1..=KEPT_REPLIES).contains(&buffer.capacity()) {
                buffer.clear();
                REPLIES.set(buffer);
            }
        } else if self.gone > self.replies.len() / 2 {
            self.close_gap();
        }
    }

    /// Moves the replies to where their buffer begins.
    pub(super) fn close_gap(&mut self) {
        self.replies.drain(..self.gone);
        self.gone = 0;
    }

    /// Input that wasn't looked at.
    pub(super) fn unread(&self) -> &[u8] {
        self.input.get(self.read..self.end).unwrap_or_default()
    }

    /// Keeps what isn't read yet in a buffer of its own, and gives the buffer it was in.
    pub(super) fn keep_unread(&mut self) -> Vec<u8> {
        let unread = self.unread().to_vec();
        (self.read, self.end) = (0, unread.len());
        std::mem::replace(&mut self.input, unread)
    }

    /// Drops what isn't read yet.
    pub(super) fn keep_none(&mut self) {
        (self.input, self.read, self.end) = (Vec::new(), 0, 0);
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.unread();
        if rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = rest.read(into)?;
        self.read += read;
        Ok(read)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_pieces_and_in_order() {
        let mut pipe = Pipe::default();
        pipe.replies().extend_from_slice(b"abcdefgh");
        let mut left = Vec::new();
        for count in [1, 2, 3, 0, 2, 4] {
            left.extend_from_slice(&pipe.unwritten()[..count]);
            pipe.drop_replies(count);
            // What comes meanwhile goes behind.
            pipe.replies()
                .extend_from_slice(if count == 1 { b"ijkl" } else { b"" });
        }
        assert_eq!(left, b"abcdefghijkl");
        assert!(pipe.unwritten().is_empty());
        pipe.replies().push(b'm');
        assert_eq!(pipe.unwritten(), b"m");
    }
}
