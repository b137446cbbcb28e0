//! What a terminal shows: text of others made harmless, and the time of day.

use std::process::{Command, Stdio};

/// The text with what could steer a terminal, or turn the direction of a line, shown as an escape.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || steers(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Line separators and the characters that turn the direction of writing (Unicode, annex 9).
fn steers(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Turns Unix milliseconds into a time of day.
pub(super) struct Clock {
    /// How far local time is ahead of UTC, in minutes.
    ahead: i64,
}

impl Clock {
    /// A clock at this place, or in UTC where its zone can't be found out.
    ///
    /// The standard library doesn't know the local zone; `date` does, and is asked once.
    pub(super) fn local() -> Clock {
        let asked = Command::new("date")
            .arg("+%z")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let answer = asked.map(|output| output.stdout).unwrap_or_default();
        Clock {
            ahead: minutes(&String::from_utf8_lossy(&answer)).unwrap_or(0),
        }
    }

    /// A clock in UTC.
    #[cfg(test)]
    pub(super) fn utc() -> Clock {
        Clock { ahead: 0 }
    }

    /// `12:34`
    pub(super) fn time(&self, unix_ms: i64) -> String {
        let minutes = unix_ms.div_euclid(60_000).saturating_add(self.ahead);
        let of_day = minutes.rem_euclid(24 * 60);
        format!("{:02}:{:02}", of_day / 60, of_day % 60)
    }
}

/// Reads `+0130` as 90.
fn minutes(zone: &str) -> Option<i64> {
    let zone = zone.trim();
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+')?),
    };
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    Some(sign * (number / 100 * 60 + number % 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        let cleaned = clean("hi\u{1b}[2J\r\n\u{9b}31m\u{202e}x\u{2028}é 🎉");
        assert_eq!(
            cleaned,
            "hi\\u{1b}[2J\\r\\n\\u{9b}31m\\u{202e}x\\u{2028}é 🎉"
        );
    }

    #[test]
    fn the_time_of_day_knows_its_zone() {
        assert_eq!(minutes("+0130\n"), Some(90));
        assert_eq!(minutes("-0500"), Some(-300));
        for odd in ["", "UTC", "+1", "+01:30", "++130"] {
            assert_eq!(minutes(odd), None);
        }
        assert_eq!(Clock { ahead: 90 }.time(0), "01:30");
        assert_eq!(Clock { ahead: -300 }.time(59_999), "19:00");
        assert_eq!(Clock { ahead: 0 }.time(i64::MIN).len(), 5);
        assert_eq!(Clock { ahead: 0 }.time(i64::MAX).len(), 5);
    }
}
