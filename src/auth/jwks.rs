//! The keys behind `JWT_JWKS_URL`: fetched at start and once an hour, and when a token calls for a key that
//! isn't known; the last good set is kept while the source is away or answers nonsense. A set that could be
//! read replaces the one before it whole: what isn't in it any more is no longer good.
//!
//! ```text
//!            asked, or due                 begun
//!   Idle ──────────────────► Asked ─────────────────► Fetching
//!     ▲                                                  │
//!     └──────────── answered, refused, too late ─────────┘
//! ```
//!
//! One task alone fetches ([`Jwks::follow`]), so one fetch is in flight at most. Who asks decides, under the
//! lock of the phase, between three things: a fetch is asked for or in flight, and it waits for that one;
//! the last one began less than [`SPACING`] ago, and what is known must do; else it asks, and waits. So
//! however many ask at once, they cost one fetch, and none of them can miss its end: the count of fetches
//! that ended is taken in the same step.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::fetch;
use super::ring::Ring;
use crate::config::JwksUrl;
use crate::keys::jwk;

/// From the beginning of one fetch to that of the next, at least.
const SPACING: Duration = Duration::from_secs(10);
/// Until the next one, where nobody asks: after a good one, and after another.
const REGULAR: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(30);
/// How long somebody waits for a fetch: a little longer than one may take.
const PATIENCE: Duration = fetch::LIMIT.saturating_add(Duration::from_millis(500));

/// A handle to the keys.
#[derive(Clone)]
pub(super) struct Jwks(Arc<Shared>);

struct Shared {
    /// `None` until a set was read.
    ring: RwLock<Option<Arc<Ring>>>,
    state: watch::Sender<State>,
    pace: Pace,
}

/// How often it may fetch.
#[derive(Clone, Copy)]
struct Pace {
    spacing: Duration,
    regular: Duration,
    retry: Duration,
    patience: Duration,
}

#[derive(Clone, Copy)]
struct State {
    phase: Phase,
    /// When the last fetch began.
    began: Option<Instant>,
    /// How many have ended.
    ended: u64,
    /// Whether the last one that ended brought a set.
    good: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Asked,
    Fetching,
}

impl Jwks {
    pub(super) fn new() -> Jwks {
        Jwks::at_pace(Pace {
            spacing: SPACING,
            regular: REGULAR,
            retry: RETRY,
            patience: PATIENCE,
        })
    }

    fn at_pace(pace: Pace) -> Jwks {
        Jwks(Arc::new(Shared {
            ring: RwLock::new(None),
            state: watch::Sender::new(State {
                phase: Phase::Idle,
                began: None,
                ended: 0,
                good: false,
            }),
            pace,
        }))
    }

    /// The keys; `None` where none were ever read.
    pub(super) fn ring(&self) -> Option<Arc<Ring>> {
        let ring = self.0.ring.read();
        ring.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sees to it that the keys are as new as they may be, waiting for a fetch where one is in flight or may
    /// begin. Whether the last fetch brought a set, so that a key which isn't there now isn't one.
    pub(super) async fn renew(&self) -> bool {
        let mut ended = None;
        self.0.state.send_if_modified(|state| {
            let asks = state.phase == Phase::Idle && self.may_begin(state);
            if asks {
                state.phase = Phase::Asked;
            }
            ended = (state.phase != Phase::Idle).then_some(state.ended);
            asks
        });
        let mut states = self.0.state.subscribe();
        let Some(ended) = ended else {
            return states.borrow().good;
        };
        // The sender lives in `self`.
        let waited = states.wait_for(|state| state.ended > ended);
        match tokio::time::timeout(self.0.pace.patience, waited).await {
            Ok(Ok(state)) => state.good,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn may_begin(&self, state: &State) -> bool {
        state
            .began
            .is_none_or(|began| began.elapsed() >= self.0.pace.spacing)
    }

    /// Fetches at once, when it is due and when somebody asks, without end. To be run once.
    pub(super) async fn follow<F>(&self, source: &JwksUrl, fetch: impl Fn() -> F)
    where
        F: Future<Output = Result<Bytes, String>>,
    {
        let mut due = Instant::now();
        let mut states = self.0.state.subscribe();
        loop {
            let asked = states.wait_for(|state| state.phase == Phase::Asked);
            let _ = tokio::time::timeout_at(due.into(), asked).await;
            let began = Instant::now();
            self.0.state.send_modify(|state| {
                state.phase = Phase::Fetching;
                state.began = Some(began);
            });
            let good = match fetch().await {
                Ok(answer) => self.take(source, &answer),
                Err(why) => {
                    tracing::warn!(%source, why, "can't fetch the keys of tokens; those known stay");
                    false
                }
            };
            self.0.state.send_modify(|state| {
                state.phase = Phase::Idle;
                state.ended += 1;
                state.good = good;
            });
            let pace = &self.0.pace;
            due = began + if good { pace.regular } else { pace.retry };
        }
    }

    fn take(&self, source: &JwksUrl, answer: &[u8]) -> bool {
        let set = match jwk::read(answer) {
            Ok(set) => set,
            Err(why) => {
                tracing::warn!(%source, why, "no keys of tokens were fetched; those known stay");
                return false;
            }
        };
        for (number, why) in &set.warnings {
            tracing::warn!(%source, number, why, "a key of the set is passed over");
        }
        let ring = Arc::new(Ring::of_set(&set));
        if ring.len() == 0 {
            tracing::warn!(%source, "the set holds no key that tokens can be verified with");
        }
        tracing::debug!(%source, keys = ring.len(), "fetched the keys of tokens");
        let mut known = self.0.ring.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(ring);
        true
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
