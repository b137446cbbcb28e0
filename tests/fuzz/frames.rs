//! Behind the handshake: frames, whole and broken, and what stands in them.

use std::net::{Shutdown, SocketAddr};
use std::sync::LazyLock;

use serde_json::Value;

use crate::support::raw::{CLOSE, PING, PONG, TEXT};
use crate::support::token;
use crate::{connect, fuzz, read_head, read_to_end, write};

static UPGRADE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    format!(
        "GET /?token={} HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token("ada")
    )
    .into_bytes()
});

/// What the server may close with, when a client errs.
const CODES: [u16; 6] = [1000, 1002, 1007, 1009, 1001, 4029];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_frames_are_answered_in_whole_frames() {
    fuzz("frames", judge).await;
}

fn judge(addr: SocketAddr, input: &[u8]) {
    let mut stream = connect(addr);
    write(&mut stream, &[&UPGRADE[..], input].concat());
    let head = read_head(&mut stream);
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        head.escape_ascii()
    );
    let _ = stream.shutdown(Shutdown::Write);
    let answer = read_to_end(&mut stream);
    let mut rest = &answer[..];
    let mut closed = false;
    while let [first, second, behind @ ..] = rest {
        assert!(!closed, "something behind a close frame");
        let (len, behind) = match second {
            126 => (
                u16::from_be_bytes([behind[0], behind[1]]).into(),
                &behind[2..],
            ),
            127 => (
                u64::from_be_bytes(behind[..8].try_into().unwrap()) as usize,
                &behind[8..],
            ),
            short => (usize::from(*short), behind),
        };
        assert_eq!(first & 0xf0, 0x80, "a whole frame without extensions");
        let (payload, behind) = behind.split_at(len);
        closed = check(first & 0x0f, payload);
        rest = behind;
    }
    assert!(rest.is_empty(), "half a frame");
}

/// Looks at a frame of the server's; whether it is the last.
fn check(opcode: u8, payload: &[u8]) -> bool {
    match opcode {
        TEXT => {
            let event: Value = serde_json::from_slice(payload).expect("JSON");
            assert!(
                event["type"].is_string() && event["payload"].is_object(),
                "{event}"
            );
        }
        PING | PONG => assert!(payload.len() <= 125),
        CLOSE => {
            // The answer to a client's close is what the client said.
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            let client = code.is_none_or(|code| (1000..5000).contains(&code));
            assert!(client || CODES.contains(&code.unwrap()), "{code:?}");
            return true;
        }
        other => panic!("an opcode {other}"),
    }
    false
}
