//! What a connection is told before its close frame: where a node lets it go, when to come back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeInclusive;

use crate::protocol::close::Close;
use crate::protocol::event::{self, Reconnect};

/// How long a client is asked to stay away, in milliseconds: chance spreads the return of those that
/// were let go together (a node with few lets them go within milliseconds) over about a second; and
/// everyone is back well within the 8 s in which they count as never gone.
const AWAY_MS: RangeInclusive<u64> = 100..=1_000;

/// Puts what is said to a connection that ends for that reason.
pub(super) fn put(why: Close, out: &mut Vec<u8>) {
    if why == Close::Leaving {
        let reconnect = Reconnect {
            reason: "draining",
            delay_ms: away_ms(),
        };
        event::put_event(out, &reconnect, None);
    }
}

fn away_ms() -> u64 {
    // Each `RandomState` has keys of its own: chance enough to spread clients.
    let chance = RandomState::new().build_hasher().finish();
    AWAY_MS.start() + chance % (AWAY_MS.end() - AWAY_MS.start() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absences_differ_and_stay_within_their_bounds() {
        let absences: Vec<u64> = (0..1_000).map(|_| away_ms()).collect();
        assert!(absences.iter().all(|ms| AWAY_MS.contains(ms)));
        let early = absences.iter().filter(|ms| **ms < 550).count();
        assert!((300..700).contains(&early), "{early} of 1000 early");
    }

    #[test]
    fn only_who_is_let_go_is_asked_back() {
        let mut out = Vec::new();
        put(Close::Expired, &mut out);
        assert!(out.is_empty());
        put(Close::Leaving, &mut out);
        let text = String::from_utf8_lossy(&out);
        let expected = r#"{"type":"reconnect","payload":{"reason":"draining","delayMs":"#;
        assert!(text.contains(expected), "{text}");
    }
}
