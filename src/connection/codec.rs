//! tungstenite's side of a connection, which has it only while something is half-way: an idle connection
//! holds neither a codec nor a buffer of one. Between two messages a codec knows nothing of the connection
//! that it read for, so the next one of the thread takes it over, and nothing is allocated for a message.
//!
//! Whether it is between two messages tungstenite doesn't say. [`Place`] says it: it counts along what the
//! headers of the frames announce (RFC 6455 section 5.2), and judges nothing. A codec that has said or heard
//! a close, or failed, stays with its connection, which is about to end.

use std::cell::Cell;
use std::io::{Read, Write};

use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, Role, WebSocketConfig, WebSocketContext,
};
use tokio_tungstenite::tungstenite::{Message, Result};

/// A codec's own buffer: one short frame. A longer frame gets its room when its header is read.
const BUFFER: usize = 256;
/// A codec isn't kept for the next one after a frame of more than that, as its buffer is as large.
const KEPT: u64 = 4 * 1024;
/// The longest header of a frame that a client writes.
const MAX_HEADER: usize = 14;
/// Bytes of a frame's mask.
const MASK: usize = 4;

thread_local! {
    // A thread works at one connection at a time, so one is enough.
    static SPARE: Cell<Option<Box<WebSocketContext>>> = const { Cell::new(None) };
}

/// Reads a connection's frames, and answers those that are the protocol's own.
pub(super) struct Codec {
    context: Option<Box<WebSocketContext>>,
    place: Place,
    max_frame: usize,
}

impl Codec {
    /// Frames and messages of more than `max_frame` bytes are an error.
    pub(super) fn new(max_frame: usize) -> Codec {
        Codec {
            context: None,
            place: Place::default(),
            max_frame,
        }
    }

    /// How long a frame, or a message, may be.
    pub(super) fn max_frame(&self) -> usize {
        self.max_frame
    }

    fn context(&mut self) -> &mut WebSocketContext {
        let max_frame = self.max_frame;
        self.context.get_or_insert_with(|| {
            let mut context = SPARE.take().unwrap_or_else(fresh);
            context.set_config(|config| {
                config.max_frame_size = Some(max_frame);
                config.max_message_size = Some(max_frame);
            });
            context
        })
    }

    /// These bytes are what `pipe` gives next.
    pub(super) fn expect(&mut self, bytes: &[u8]) {
        self.place.pass(bytes);
    }

    /// The next message or control frame; see [`WebSocketContext::read`].
    pub(super) fn read(&mut self, pipe: &mut (impl Read + Write)) -> Result<Message> {
        self.context().read(pipe)
    }

    /// Says goodbye; see [`WebSocketContext::close`].
    pub(super) fn close(&mut self, pipe: &mut (impl Read + Write), why: CloseFrame) -> Result<()> {
        self.context().close(pipe, Some(why))
    }

    /// All that was to be expected was read, and there is nothing more now.
    pub(super) fn rest(&mut self) {
        if !self.place.is_between_messages() {
            return;
        }
        // One that is closing remembers that.
        let context = self.context.take_if(|context| context.can_write());
        if context.is_some() && std::mem::take(&mut self.place.longest) <= KEPT {
            SPARE.set(context);
        }
    }
}

fn fresh() -> Box<WebSocketContext> {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0);
    Box::new(WebSocketContext::new(Role::Server, Some(config)))
}

/// Where a stream of a client's frames stands.
#[derive(Default)]
struct Place {
    /// What came of a header that isn't whole yet.
    header: [u8; MAX_HEADER],
    header_len: u8,
    /// Whether the last part of a message is still to come.
    in_message: bool,
    /// Bytes of a frame that are still to come.
    left: u64,
    /// The longest frame since that was asked.
    longest: u64,
}

impl Place {
    fn is_between_messages(&self) -> bool {
        self.left == 0 && self.header_len == 0 && !self.in_message
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            let skip = usize::try_from(self.left).unwrap_or(usize::MAX);
            let skip = skip.min(bytes.len());
            self.left -= skip as u64;
            let Some((next, rest)) = bytes.get(skip..).and_then(<[u8]>::split_first) else {
                return;
            };
            bytes = rest;
            self.pass_header(*next);
        }
    }

    fn pass_header(&mut self, byte: u8) {
        if let Some(slot) = self.header.get_mut(usize::from(self.header_len)) {
            *slot = byte;
            self.header_len += 1;
        }
        let header = self.header.get(..usize::from(self.header_len));
        let Some((first, payload)) = header.and_then(announced) else {
            return;
        };
        self.header_len = 0;
        self.left = payload;
        self.longest = self.longest.max(payload);
        let (is_last, is_control) = (first & 0x80 != 0, first & 0x08 != 0);
        if !is_control {
            self.in_message = !is_last;
        }
    }
}

/// The first byte of a header, and how long the payload is; `None` where the header isn't whole.
fn announced(header: &[u8]) -> Option<(u8, u64)> {
    let (first, second) = (*header.first()?, *header.get(1)?);
    let (len, payload) = match second & 0x7f {
        126 => (
            4,
            u16::from_be_bytes(header.get(2..4)?.try_into().ok()?).into(),
        ),
        127 => (10, u64::from_be_bytes(header.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let mask = if second & 0x80 == 0 { 0 } else { MASK };
    (header.len() >= len + mask).then_some((first, payload))
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
