//! Whether the node goes on, and who is still here. How it lets its connections go is `drain`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How far the node's end has come.
///
/// ```text
///   Serving ──signal──► LettingGo ──everyone told──► Waiting ──nobody left──► exit 0
///                          │                            │
///                          ├──────── grace over ────────┴──────────────────► exit 1
///                          └──────── second signal ─────┴──────────────────► exit 1
/// ```
///
/// From `LettingGo` on the node is not ready and takes nobody new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Everyone is welcome.
    Serving,
    /// Connections are told to go, one after another; who hasn't been told is served as before.
    LettingGo,
    /// All were told; those that haven't gone are waited for.
    Waiting,
}

/// A handle that every part may hold.
#[derive(Clone)]
pub struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
    connections: TaskTracker,
    sockets: Arc<AtomicUsize>,
}

/// A connection, from before its handshake is answered to its very end; the drain waits until this is
/// dropped.
#[must_use = "the drain waits for a connection only while this is held"]
pub struct Present {
    _token: TaskTrackerToken,
}

/// A socket that is open; it is counted until this is dropped.
pub struct SocketCount(Arc<AtomicUsize>);

impl Drop for SocketCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown {
            phase: Arc::new(watch::Sender::new(Phase::Serving)),
            connections: TaskTracker::new(),
            sockets: Arc::default(),
        }
    }
}

impl Shutdown {
    /// Begins the end: from here on nobody enters.
    pub fn begin(&self) {
        self.phase.send_replace(Phase::LettingGo);
        self.connections.close();
    }

    /// Every connection was told to go.
    pub fn all_told(&self) {
        self.phase.send_replace(Phase::Waiting);
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the end has begun.
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// Waits until the end has begun.
    pub async fn begun(&self) {
        let mut phases = self.phase.subscribe();
        // The sender lives in `self`.
        let _ = phases.wait_for(|phase| *phase != Phase::Serving).await;
    }

    /// Lets a connection in, unless the end has begun. It counts first and looks then, and the end is
    /// written before anyone is counted: so of two that meet, either the newcomer sees the end, or the
    /// end sees the newcomer and waits for it. (The lock of the phase orders the two, so that the
    /// count needs no order of its own.)
    pub fn enter(&self) -> Option<Present> {
        let present = Present {
            _token: self.connections.token(),
        };
        (!self.is_draining()).then_some(present)
    }

    /// Waits until the end has begun and no connection is left.
    pub async fn all_gone(&self) {
        self.connections.wait().await;
    }

    /// Counts a socket, whatever it becomes.
    pub fn count_socket(&self) -> SocketCount {
        self.sockets.fetch_add(1, Ordering::Relaxed);
        SocketCount(self.sockets.clone())
    }

    /// How many sockets are open.
    pub fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_was_let_in_is_waited_for_and_nobody_enters_after_the_end_began() {
        let shutdown = Shutdown::default();
        let present = shutdown.enter().unwrap();
        assert!(shutdown.all_gone().now_or_never().is_none());
        shutdown.begin();
        assert!(shutdown.is_draining());
        assert!(shutdown.enter().is_none());
        assert!(shutdown.all_gone().now_or_never().is_none());
        shutdown.all_told();
        assert_eq!(shutdown.phase(), Phase::Waiting);
        drop(present);
        assert!(shutdown.all_gone().now_or_never().is_some());
    }

    /// Whoever gets in while the end begins is seen by it: nobody is inside once all are gone.
    #[test]
    fn an_end_that_meets_newcomers_forgets_none() {
        for _ in 0..1_000 {
            let (shutdown, gone) = (Shutdown::default(), AtomicBool::new(false));
            let together = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    together.wait();
                    while let Some(present) = shutdown.enter() {
                        assert!(!gone.load(Ordering::SeqCst), "it was forgotten");
                        drop(present);
                    }
                });
                together.wait();
                shutdown.begin();
                while shutdown.all_gone().now_or_never().is_none() {
                    std::hint::spin_loop();
                }
                gone.store(true, Ordering::SeqCst);
            });
        }
    }
}
