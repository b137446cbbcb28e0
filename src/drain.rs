//! How a node lets its connections go: one after another, evenly, so that the other nodes get them back
//! at a rate that they bear. Phases and the count of who is still here are `shutdown`'s; what a
//! connection says when it goes, and what it is given before, is `connection`'s.
//!
//! No connection is forgotten. The drain tells those that the hub knows once the end has begun; who
//! comes to the hub later looks for the end itself, after it was entered there, and then goes at once.
//! And nobody is missed by the wait: see [`Shutdown::enter`].

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::hub::Hub;
use crate::hub::peer::Note;
use crate::protocol::close::Close;
use crate::shutdown::Shutdown;

/// A connection is let go each so often, or faster where `DRAIN_SPREAD` asks for it.
const EACH: Duration = Duration::from_millis(1);

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Nobody is left.
    AllGone,
    /// The grace was over with somebody still here.
    GraceOver,
    /// It was told to end at once.
    AtOnce,
}

impl Ended {
    /// The process's exit status.
    pub fn status(self) -> u8 {
        match self {
            Ended::AllGone => 0,
            Ended::GraceOver | Ended::AtOnce => 1,
        }
    }
}

/// The longest time over which connections are let go: half of the grace at most, as the last of them
/// must have the time to answer. Warns where that cuts `spread`.
pub fn spread_within(spread: Duration, grace: Duration) -> Duration {
    let longest = grace / 2;
    if spread > longest {
        let (spread, longest) = (spread.as_millis(), longest.as_millis());
        tracing::warn!(
            drain_spread_ms = spread as u64,
            used_ms = longest as u64,
            "DRAIN_SPREAD is longer than half of SHUTDOWN_GRACE and is cut to that"
        );
    }
    spread.min(longest)
}

/// Lets everyone go over `spread` or a millisecond each, whichever is shorter, and waits until they are
/// gone; ends after `grace` in any case, and at once when `hurry` is done.
pub async fn run(
    hub: &Hub,
    shutdown: &Shutdown,
    spread: Duration,
    grace: Duration,
    hurry: impl Future<Output = ()>,
) -> Ended {
    let over = Instant::now() + grace;
    shutdown.begin();
    let everyone_gone = async {
        let_go(hub, spread).await;
        shutdown.all_told();
        shutdown.all_gone().await;
    };
    let ended = tokio::select! {
        () = everyone_gone => Ended::AllGone,
        () = sleep_until(over) => Ended::GraceOver,
        () = hurry => Ended::AtOnce,
    };
    let connections = hub.connection_count();
    match ended {
        Ended::AllGone => tracing::info!("all connections are closed"),
        Ended::GraceOver => tracing::warn!(connections, "ended with connections still open"),
        Ended::AtOnce => tracing::warn!(connections, "ended at once by a second signal"),
    }
    ended
}

/// Tells all connections that there are, one after another; one that has left by itself meanwhile
/// doesn't look at its note any more.
async fn let_go(hub: &Hub, spread: Duration) {
    let peers = hub.peers();
    let count = peers.len();
    let spread = spread.min(EACH.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)));
    tracing::info!(
        connections = count,
        over_ms = spread.as_millis() as u64,
        "letting connections go"
    );
    let begin = Instant::now();
    for (nth, peer) in peers.into_iter().enumerate() {
        // Measured from the beginning, so that late timers don't add up; what is due already goes now.
        let at = begin + moment(nth, count, spread);
        let left = at.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            sleep(left).await;
        }
        peer.note(Note::Close(Close::Leaving));
    }
}

/// When the `nth` of `count` connections is let go.
fn moment(nth: usize, count: usize, spread: Duration) -> Duration {
    spread.mul_f64(nth as f64 / count.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_even_and_within_the_spread() {
        let spread = Duration::from_secs(5);
        let moments: Vec<_> = (0..10_000).map(|n| moment(n, 10_000, spread)).collect();
        assert_eq!(moments[0], Duration::ZERO);
        for pair in moments.windows(2) {
            let step = pair[1] - pair[0];
            assert!(step.abs_diff(Duration::from_micros(500)) < Duration::from_micros(1));
        }
        assert!(moments.last().is_some_and(|last| *last < spread));
        assert_eq!(moment(0, 0, spread), Duration::ZERO);
    }

    #[test]
    fn the_spread_leaves_half_of_the_grace() {
        let second = Duration::from_secs(1);
        assert_eq!(spread_within(5 * second, 10 * second), 5 * second);
        assert_eq!(spread_within(5 * second, 4 * second), 2 * second);
        assert_eq!(spread_within(Duration::ZERO, 4 * second), Duration::ZERO);
    }

    #[test]
    fn only_a_drain_that_everyone_left_is_a_success() {
        let all = [Ended::AllGone, Ended::GraceOver, Ended::AtOnce];
        assert_eq!(all.map(Ended::status), [0, 1, 1]);
    }
}
