//! A codec that is lent, against one that its connection keeps: whatever frames come, cut anywhere, both say
//! the same, also where several connections take turns at the one of their thread.

use std::io;

use tokio_tungstenite::tungstenite::Error;

use super::*;
use crate::connection::model_tests::random::Random;

/// A connection's input that came and wasn't read, and its replies.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    replies: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = into.len().min(self.input.len());
        into[..len].copy_from_slice(&self.input[..len]);
        self.input.drain(..len);
        Ok(len)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a codec says of everything that is there.
fn read_all(mut read: impl FnMut() -> Result<Message>) -> (Vec<String>, bool) {
    let mut said = Vec::new();
    loop {
        match read() {
            Ok(message) => said.push(format!("{message:?}")),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (said, true);
            }
            Err(error) => {
                said.push(error.to_string());
                return (said, false);
            }
        }
    }
}

/// A masked frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; MASK]);
    bytes.extend_from_slice(payload);
    bytes
}

/// What a client may send: messages in any number of parts with pings between them, of all lengths; now and
/// then what none may send, or a close.
fn stream(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..40 {
        let parts = 1 + random.below(3);
        for part in 0..parts {
            let opcode = if part == 0 {
                1 + random.below(2) as u8
            } else {
                0
            };
            let last = if part + 1 == parts { 0x80 } else { 0 };
            let len = [0, 1, 125, 126, 700, 65_535, 70_000][random.below(7)];
            bytes.extend(frame(opcode | last, &vec![b'x'; len]));
            if random.below(4) == 0 {
                bytes.extend(frame(0x89, &vec![b'p'; random.below(126)]));
            }
        }
        if random.below(200) == 0 {
            let wrong = [(0x83, 1), (0x80, 1), (0x88, 0), (0xc1, 1), (0x82, 300_000)];
            let (first, len) = wrong[random.below(wrong.len())];
            bytes.extend(frame(first, &vec![b'w'; len]));
        }
    }
    bytes
}

/// A connection with a codec that is lent, and its double with one of its own.
struct Pair {
    stream: Vec<u8>,
    lent: (Codec, Pipe),
    own: (Box<WebSocketContext>, Pipe),
    open: bool,
}

impl Pair {
    fn new(random: &mut Random) -> Pair {
        let mut own = fresh();
        own.set_config(|config| {
            config.max_frame_size = Some(200_000);
            config.max_message_size = Some(200_000);
        });
        Pair {
            stream: stream(random),
            lent: (Codec::new(200_000), Pipe::default()),
            own: (own, Pipe::default()),
            open: true,
        }
    }

    /// Some bytes come.
    fn step(&mut self, random: &mut Random) {
        let most = [1, 3, 20, 1_000, 16_384][random.below(5)];
        let len = (1 + random.below(most)).min(self.stream.len());
        let some: Vec<u8> = self.stream.drain(..len).collect();
        let ((lent, pipe), (own, own_pipe)) = (&mut self.lent, &mut self.own);
        pipe.input.extend_from_slice(&some);
        own_pipe.input.extend_from_slice(&some);
        lent.expect(&some);
        let said = read_all(|| lent.read(pipe));
        assert_eq!(said, read_all(|| own.read(own_pipe)));
        assert_eq!(pipe.replies, own_pipe.replies);
        if said.1 {
            lent.rest();
        }
        self.open = said.1 && !self.stream.is_empty();
    }
}

#[test]
fn a_lent_codec_says_what_an_own_one_says() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut pairs: Vec<Pair> = (0..3).map(|_| Pair::new(&mut random)).collect();
        while let Some(nth) = pairs.iter().position(|pair| pair.open) {
            let others = pairs.len() - nth;
            let pair = &mut pairs[nth + random.below(others)];
            if pair.open {
                pair.step(&mut random);
            }
        }
    }
}

#[test]
fn between_messages_a_connection_has_no_codec() {
    let (mut codec, mut pipe) = (Codec::new(1_000), Pipe::default());
    let mut come = |bytes: &[u8]| {
        pipe.input.extend_from_slice(bytes);
        codec.expect(bytes);
        let (said, _) = read_all(|| codec.read(&mut pipe));
        codec.rest();
        (said.len(), codec.context.is_some())
    };
    let text = frame(0x81, b"hello");
    assert_eq!(come(&text), (1, false));
    assert_eq!(come(&text[..1]), (0, true));
    assert_eq!(come(&text[1..7]), (0, true));
    assert_eq!(come(&text[7..]), (1, false));
    assert_eq!(come(&frame(0x01, b"a part")), (0, true));
    assert_eq!(come(&frame(0x89, b"")), (1, true));
    assert_eq!(come(&frame(0x80, b"")), (1, false));
    assert_eq!(come(&[&text[..], &text, b"\x81"].concat()), (2, true));
    // What was closed stays so.
    let (mut codec, mut pipe) = (Codec::new(1_000), Pipe::default());
    let why = CloseFrame {
        code: 1000.into(),
        reason: "".into(),
    };
    codec.close(&mut pipe, why).unwrap();
    codec.rest();
    assert!(codec.context.is_some());
}

#[test]
fn a_long_frame_leaves_no_large_buffer_behind() {
    let (mut codec, mut pipe) = (Codec::new(100_000), Pipe::default());
    SPARE.set(None);
    for (len, kept) in [(50, true), (90_000, false), (50, true)] {
        let bytes = frame(0x82, &vec![0; len]);
        codec.expect(&bytes);
        pipe.input = bytes;
        assert_eq!(read_all(|| codec.read(&mut pipe)).0.len(), 1);
        codec.rest();
        let spare = SPARE.take();
        assert_eq!(spare.is_some(), kept, "after {len} bytes");
        SPARE.set(spare);
    }
}
