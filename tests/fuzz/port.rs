//! The port: requests of every route, and upgrades, taken apart and put together.

use std::net::{Shutdown, SocketAddr};
use std::sync::LazyLock;

use crate::support::token;
use crate::{KEY, connect, fuzz, read_to_end, write};

static TOKEN: LazyLock<String> = LazyLock::new(|| token("ada"));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_are_answered_in_http_or_with_the_end() {
    fuzz("port", judge).await;
}

fn judge(addr: SocketAddr, input: &[u8]) {
    let mut stream = connect(addr);
    write(&mut stream, &fill_in(input));
    // An upgrade lasts until its client goes, and a body is waited for; a head has its deadline.
    if lasts(input) {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let answer = read_to_end(&mut stream);
    let Some(rest) = answer.strip_prefix(b"HTTP/1.") else {
        assert!(answer.is_empty(), "{}", answer.escape_ascii());
        return;
    };
    let status = rest
        .get(2..5)
        .and_then(|status| std::str::from_utf8(status).ok());
    let status: u16 = status
        .and_then(|status| status.parse().ok())
        .expect("a status");
    assert!(
        (100..500).contains(&status) || status == 503,
        "{}",
        answer.escape_ascii()
    );
    assert!(
        answer.windows(4).any(|end| end == b"\r\n\r\n"),
        "a whole head"
    );
}

fn lasts(input: &[u8]) -> bool {
    let has = |word: &[u8]| {
        let mut places = input.windows(word.len());
        places.any(|found| found.eq_ignore_ascii_case(word))
    };
    has(b"websocket") || has(b"POST") || has(b"content-length") || has(b"chunked")
}

/// The input with a good token and a good key in their places.
fn fill_in(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() + 200);
    let mut rest = input;
    while let Some(first) = rest.first() {
        if let Some(behind) = rest.strip_prefix(b"{token}") {
            out.extend_from_slice(TOKEN.as_bytes());
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(b"{key}") {
            out.extend_from_slice(KEY.as_bytes());
            rest = behind;
        } else {
            out.push(*first);
            rest = &rest[1..];
        }
    }
    out
}
