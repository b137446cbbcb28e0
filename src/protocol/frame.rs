//! WebSocket frames as a server writes them (RFC 6455 section 5.2): final, unmasked. Reading is
//! tungstenite's; writing is here, since a room's frames are encoded once and shared as bytes.

const FINAL: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// The longest header of a frame that a server writes, in bytes.
pub const MAX_HEADER: usize = 10;
/// Longest reason in a close frame, in bytes: a control frame holds 125, the code takes two.
const MAX_REASON: usize = 123;

/// How long the header of a frame with that many bytes of payload is.
pub fn header_len(payload: usize) -> usize {
    match payload {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => MAX_HEADER,
    }
}

fn put_header(out: &mut Vec<u8>, opcode: u8, payload: usize) {
    out.push(FINAL | opcode);
    match header_len(payload) {
        2 => out.push(payload as u8),
        4 => {
            out.push(126);
            out.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
}

fn put_data(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.reserve(MAX_HEADER + payload.len());
    put_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a text frame.
pub fn put_text(out: &mut Vec<u8>, payload: &[u8]) {
    put_data(out, TEXT, payload);
}

/// Appends a binary frame.
pub fn put_binary(out: &mut Vec<u8>, payload: &[u8]) {
    put_data(out, BINARY, payload);
}

/// Appends a ping without payload.
pub fn put_ping(out: &mut Vec<u8>) {
    put_header(out, PING, 0);
}

/// Appends a close frame; a reason over 123 bytes is cut.
pub fn put_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let fits = (0..=MAX_REASON.min(reason.len()))
        .rev()
        .find(|end| reason.is_char_boundary(*end));
    let reason = &reason[..fits.unwrap_or_default()];
    put_header(out, CLOSE, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// The payload of the frame that `bytes` begins with; `None` where it isn't whole.
pub fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let len = frame_len(bytes)?;
    let header = match bytes.get(1)? {
        127 => MAX_HEADER,
        126 => 4,
        _ => 2,
    };
    bytes.get(header..len)
}

/// The length of the frame, header included, that `bytes` begins with; `None` where even its header
/// isn't whole.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let payload = match *bytes.get(1)? {
        126 => u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize,
        127 => usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
        short => short as usize,
    };
    Some(header_len(payload) + payload)
}

/// Whether the frame that `bytes` begins with is one of text or binary data.
pub fn is_data(bytes: &[u8]) -> bool {
    bytes
        .first()
        .is_some_and(|first| matches!(first & 0x0f, TEXT | BINARY))
}

/// Where the last frame that begins before `limit` ends, in bytes that hold whole frames: at least
/// one frame is passed, so that a frame longer than the limit goes through too.
pub fn boundary_after(frames: &[u8], limit: usize) -> usize {
    let mut end = 0;
    while end < frames.len() && (end == 0 || end < limit) {
        match frame_len(&frames[end..]) {
            Some(len) => end += len,
            None => return frames.len(),
        }
    }
    end.min(frames.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_around_the_header_sizes() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let mut out = Vec::new();
            put_text(&mut out, &vec![b'x'; len]);
            assert_eq!(out.len(), header_len(len) + len);
            assert_eq!(frame_len(&out), Some(out.len()));
            assert_eq!(frame_len(&out[..header_len(len) - 1]), None);
        }
    }

    #[test]
    fn boundaries_lie_between_frames() {
        let mut out = Vec::new();
        for len in [10, 200, 0] {
            put_text(&mut out, &vec![b'x'; len]);
        }
        assert_eq!(boundary_after(&out, 1), 12);
        assert_eq!(boundary_after(&out, 12), 12);
        assert_eq!(boundary_after(&out, 13), 216);
        assert_eq!(boundary_after(&out, 1_000), 218);
        assert_eq!(boundary_after(&[], 5), 0);
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        put_close(&mut out, 1001, &"é".repeat(100));
        assert_eq!(out[..4], [0x88, 124, 0x03, 0xe9]);
        assert_eq!(out.len(), 2 + 124);
    }
}
