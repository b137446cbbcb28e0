//! The clocks of a connection: pings, the token's end, a socket that takes nothing, a close that
//! doesn't get through. They are looked at when the earliest is due; nothing is reset on traffic.

use std::time::{Duration, Instant};

use crate::protocol::close::Close;

/// How long a close frame may take to get through and be answered.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The farthest a clock is set: a token may live for years.
const FARTHEST: Duration = Duration::from_secs(86_400);

/// The clocks of one connection.
pub struct Heartbeat {
    interval: Millis,
    slow: Millis,
    /// When the next ping is due, or the last one's answer overdue.
    beat: Instant,
    /// Whether a ping is out and nothing came since.
    waiting: bool,
    expires: Instant,
    /// Since when the socket has taken nothing though there is something to send.
    blocked: Option<Instant>,
}

/// Milliseconds, up to 49 days: every idle connection has some.
#[derive(Clone, Copy)]
struct Millis(u32);

impl Millis {
    fn of(duration: Duration) -> Millis {
        Millis(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX))
    }

    fn get(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A ping.
    Ping,
    /// The connection's end.
    End(Close),
}

impl Heartbeat {
    /// Begins. `life`: how long the token is good for.
    pub fn new(now: Instant, interval: Duration, slow: Duration, life: Duration) -> Heartbeat {
        Heartbeat {
            interval: Millis::of(interval),
            slow: Millis::of(slow),
            beat: now + interval,
            waiting: false,
            expires: end_of(life, now),
            blocked: None,
        }
    }

    /// Another token came, which is good for so long.
    pub fn renew(&mut self, now: Instant, life: Duration) {
        self.expires = end_of(life, now);
    }

    /// The peer showed itself.
    pub fn alive(&mut self) {
        self.waiting = false;
    }

    /// The socket is full; `took`: it took something before.
    pub fn blocked(&mut self, now: Instant, took: bool) {
        if took {
            self.waiting = false;
            self.blocked = Some(now);
        } else {
            self.blocked.get_or_insert(now);
        }
    }

    /// The socket takes everything.
    pub fn unblocked(&mut self) {
        if self.blocked.take().is_some() {
            self.waiting = false;
        }
    }

    /// When to look next.
    pub fn next(&self, now: Instant) -> Instant {
        let slow = self
            .blocked
            .map_or(now + FARTHEST, |since| since + self.slow.get());
        self.beat.min(self.expires).min(slow).min(now + FARTHEST)
    }

    /// What is due now. `deaf`: the connection isn't reading, by its own choice, so a silence says nothing.
    pub fn due(&mut self, now: Instant, deaf: bool) -> Due {
        if now >= self.expires {
            return Due::End(Close::Expired);
        }
        if self
            .blocked
            .is_some_and(|since| now >= since + self.slow.get())
        {
            return Due::End(Close::Slow);
        }
        if now < self.beat {
            return Due::Nothing;
        }
        self.beat = now + self.interval.get();
        // A full socket couldn't take a ping: then the slow client's clock decides.
        if self.blocked.is_some() || deaf {
            return Due::Nothing;
        }
        if std::mem::replace(&mut self.waiting, true) {
            return Due::End(Close::Silent);
        }
        Due::Ping
    }
}

/// A token may last longer than an `Instant` can say.
fn end_of(life: Duration, now: Instant) -> Instant {
    now + life.min(FARTHEST * 365 * 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn clocks(now: Instant) -> Heartbeat {
        Heartbeat::new(now, 30 * SECOND, 10 * SECOND, 1_000 * SECOND)
    }

    #[test]
    fn who_answers_no_ping_ends_an_interval_later() {
        let now = Instant::now();
        let mut clocks = clocks(now);
        assert_eq!(clocks.due(now + 29 * SECOND, false), Due::Nothing);
        assert_eq!(clocks.due(now + 30 * SECOND, false), Due::Ping);
        assert_eq!(clocks.due(now + 31 * SECOND, false), Due::Nothing);
        clocks.alive();
        assert_eq!(clocks.due(now + 60 * SECOND, false), Due::Ping);
        assert_eq!(
            clocks.due(now + 90 * SECOND, false),
            Due::End(Close::Silent)
        );
    }

    #[test]
    fn a_full_socket_has_its_own_clock() {
        let now = Instant::now();
        let mut clocks = clocks(now);
        clocks.blocked(now + 25 * SECOND, true);
        assert_eq!(clocks.due(now + 30 * SECOND, false), Due::Nothing);
        clocks.blocked(now + 34 * SECOND, true);
        assert_eq!(clocks.due(now + 36 * SECOND, false), Due::Nothing);
        clocks.blocked(now + 37 * SECOND, false);
        assert_eq!(clocks.next(now + 37 * SECOND), now + 44 * SECOND);
        assert_eq!(clocks.due(now + 44 * SECOND, false), Due::End(Close::Slow));
        clocks.unblocked();
        assert_eq!(clocks.due(now + 45 * SECOND, false), Due::Nothing);
    }

    #[test]
    fn the_token_ends_it() {
        let now = Instant::now();
        assert_eq!(
            clocks(now).due(now + 1_000 * SECOND, false),
            Due::End(Close::Expired)
        );
        let mut renewed = clocks(now);
        renewed.renew(now + 999 * SECOND, 1_000 * SECOND);
        assert_ne!(
            renewed.due(now + 1_998 * SECOND, false),
            Due::End(Close::Expired)
        );
        renewed.renew(now + 1_998 * SECOND, Duration::ZERO);
        assert_eq!(renewed.next(now + 1_998 * SECOND), now + 1_998 * SECOND);
        assert_eq!(
            renewed.due(now + 1_998 * SECOND, false),
            Due::End(Close::Expired)
        );
        let far = Heartbeat::new(now, SECOND * 30, SECOND, Duration::MAX);
        assert_eq!(far.next(now), now + 30 * SECOND);
    }
}
