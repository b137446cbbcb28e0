//! What the black-box tests stand on: the real server as a child process, a real Redis, a real nginx,
//! and clients. Ports are always free ones, every wait has a deadline, and a test that fails shows
//! what its clients received and what its nodes logged.

// Each test crate uses its own part of this; and a test may fail by panicking.
#![allow(dead_code, unused_imports, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

pub mod client;
pub mod connect;
pub mod follow;
pub mod http;
pub mod nginx;
pub mod node;
pub mod raw;
pub mod redis;
pub mod secrets;
pub mod tap;
pub mod tls;
pub mod token;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use self::redis::Redis;
pub use client::Client;
pub use connect::Connect;
pub use follow::Follow;
pub use node::Node;
pub use raw::Raw;
pub use serde_json::{Value, json};
pub use tap::Tap;
pub use tls::Certificate;
pub use token::token;

/// How long a test waits for one thing that should come at once.
pub const SOON: Duration = Duration::from_secs(5);

/// The result of `wait`, or a failure that says what was waited for.
pub async fn within<T>(limit: Duration, what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, wait).await {
        Ok(value) => value,
        Err(_) => panic!("{limit:?} passed waiting for {what}"),
    }
}

/// Asks again and again, for what announces itself to nobody (a port that opens, a file), until the
/// answer is yes.
pub async fn eventually<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    mut is_so: impl FnMut() -> F,
) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    within(limit, what, async {
        while !is_so().await {
            tick.tick().await;
        }
    })
    .await
}

/// A port that was free just now.
pub fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("its address").port()
}

/// Milliseconds since 1970, the protocol's clock.
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a clock after 1970").as_millis() as u64
}

/// As many open files for this process as it may have.
pub fn raise_nofile() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: hard,
            maximum: hard,
        },
    );
}

/// A folder of its own for one helper process, removed with it.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!(
            "{name}-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
