//! Whether the node goes on, and who is still here.
//!
//! ```text
//!   Serving ──signal──► Draining ──nobody left──► exit 0
//!                          │  grace over ───────► exit 1
//!                          └─ second signal ────► exit 1
//! ```

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// A handle that every part may hold.
#[derive(Clone)]
pub struct Shutdown {
    draining: Arc<watch::Sender<bool>>,
    connections: TaskTracker,
    sockets: Arc<AtomicUsize>,
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
            draining: Arc::new(watch::Sender::new(false)),
            connections: TaskTracker::new(),
            sockets: Arc::default(),
        }
    }
}

impl Shutdown {
    /// Begins the drain.
    pub fn begin(&self) {
        self.draining.send_replace(true);
        self.connections.close();
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Runs a connection's task; the drain waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.connections.spawn(task);
    }

    /// Waits until the drain has begun and no connection is left.
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
