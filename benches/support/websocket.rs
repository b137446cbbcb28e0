//! The client side of RFC 6455, as much of it as a load needs: whole frames, up to 64 KiB to the server and
//! 16 MiB from it.

use super::Result;

/// The sample key of RFC 6455, section 1.3, and the answer to it. A server has no say in either.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a server answers to the request, where it agrees.
pub(crate) const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Any will do, except zero: a server may skip the unmasking then.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The first byte of a frame that is whole: FIN and the opcode.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// The longest frame that a server may send.
const MOST: usize = 16 << 20;

/// The request that upgrades a fresh connection.
pub(crate) fn request(token: &str) -> String {
    format!(
        "GET /?token={token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// The length of the response's head, once it is whole.
///
/// # Errors
/// A refusal, by its first line.
pub(crate) fn upgraded(response: &[u8]) -> Result<Option<usize>> {
    let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&response[..end]);
    if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
        return Err(format!("no upgrade: {}", head.lines().next().unwrap_or_default()).into());
    }
    Ok(Some(end + 4))
}

/// Appends a text frame.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    push(out, TEXT, text.as_bytes());
}

fn push(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(kind);
    match u16::try_from(payload.len()) {
        Ok(n) if n < 126 => out.push(0x80 | n as u8),
        Ok(n) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Err(_) => unreachable!("a load has no frame over 64 KiB"),
    }
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

/// A frame of the server, as far as the load cares.
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    /// The pong that answers it, ready to send.
    Ping(Vec<u8>),
    Other,
}

/// The first frame of `bytes` and its length there; `None` while it isn't whole.
#[inline]
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let (header, length) = match *bytes {
        [_, length @ 0..=125, ..] => (2, usize::from(length)),
        [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 127, a, b, c, d, e, f, g, h, ..] => {
            let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            (10, usize::try_from(length)?)
        }
        [_, 128..=255, ..] => return Err("a masked frame".into()),
        _ => return Ok(None),
    };
    if length > MOST {
        return Err("a frame over 16 MiB".into());
    }
    let Some(payload) = bytes.get(header..header + length) else {
        return Ok(None);
    };
    let frame = match bytes[0] {
        TEXT => Frame::Text(payload),
        PING => {
            let mut pong = Vec::new();
            push(&mut pong, PONG, payload);
            Frame::Ping(pong)
        }
        CLOSE => {
            return Err(format!(
                "the server closed a connection: {}",
                String::from_utf8_lossy(payload)
            )
            .into());
        }
        _ => Frame::Other,
    };
    Ok(Some((frame, header + length)))
}

/// Appends a server's text frame, of up to 64 KiB.
pub(crate) fn push_event(out: &mut Vec<u8>, text: &str) {
    out.push(TEXT);
    match u16::try_from(text.len()) {
        Ok(n) if n < 126 => out.push(n as u8),
        Ok(n) => {
            out.push(126);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Err(_) => unreachable!("a bare server has no frame over 64 KiB"),
    }
    out.extend_from_slice(text.as_bytes());
}

/// The text of the first frame of a client in `bytes`, and its length there; `None` while it isn't whole.
pub(crate) fn request_in(bytes: &[u8]) -> Result<Option<(String, usize)>> {
    let (header, length) = match *bytes {
        [TEXT, length @ 0x80..=0xfd, ..] => (2, usize::from(length & 0x7f)),
        [TEXT, 0xfe, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [TEXT] | [] => return Ok(None),
        [TEXT, 0xfe, ..] => return Ok(None),
        _ => return Err("not a masked text frame of up to 64 KiB".into()),
    };
    let whole = header + MASK.len() + length;
    let Some(frame) = bytes.get(header..whole) else {
        return Ok(None);
    };
    let (mask, payload) = frame.split_at(MASK.len());
    let text = payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m);
    Ok(Some((String::from_utf8(text.collect())?, whole)))
}
