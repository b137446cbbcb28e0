//! The lines of standard input, read by a thread of their own (a read of a terminal can't be called
//! off), at most a few ahead of who takes them.

use std::io::{self, BufRead, Read};
use std::thread;

use tokio::sync::mpsc;

/// Longest line in bytes; the rest of a longer one is dropped.
const MAX_LINE: usize = 64 * 1024;
/// Lines read ahead.
const AHEAD: usize = 16;

/// Starts reading. The channel closes at the end of the input.
pub(super) fn lines() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(AHEAD);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = next_line(&mut input) {
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The next line without its end, cut to [`MAX_LINE`]; `None` at the end, or where reading fails.
fn next_line(input: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let most = MAX_LINE as u64;
    input
        .by_ref()
        .take(most)
        .read_until(b'\n', &mut line)
        .ok()?;
    if line.is_empty() {
        return None;
    }
    if line.len() == MAX_LINE && line.last() != Some(&b'\n') {
        input.skip_until(b'\n').ok()?;
    }
    let text = String::from_utf8_lossy(&line);
    Some(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded() {
        let text = format!("one\r\n\n{}\nlast", "x".repeat(3 * MAX_LINE));
        let mut input = text.as_bytes();
        assert_eq!(next_line(&mut input).unwrap(), "one");
        assert_eq!(next_line(&mut input).unwrap(), "");
        assert_eq!(next_line(&mut input).unwrap().len(), MAX_LINE);
        assert_eq!(next_line(&mut input).unwrap(), "last");
        assert_eq!(next_line(&mut input), None);
    }
}
