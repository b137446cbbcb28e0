//! Pairs of clients on the nodes that stay: one says something, the other hears it on another node. They
//! have a thread of their own, so that they don't wait behind the members.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::support::{Connect, token};

/// How many pairs, each in a room of its own.
const PAIRS: usize = 4;
/// Between two messages of a pair.
const PACE: Duration = Duration::from_millis(10);

/// When each message was sent, and how long it took to the other node.
pub(crate) type Latencies = Vec<(Instant, Duration)>;

/// Running pairs.
pub(crate) struct Probes {
    thread: JoinHandle<Latencies>,
    end: Arc<AtomicBool>,
}

impl Probes {
    pub(crate) fn start(nodes: [SocketAddr; 2]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let until = end.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let pairs = (0..PAIRS).map(|pair| talk(pair, nodes, &until));
            runtime.block_on(join_all(pairs)).concat()
        });
        Self { thread, end }
    }

    pub(crate) fn end(self) -> Latencies {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().expect("no probe failed")
    }
}

async fn talk(pair: usize, nodes: [SocketAddr; 2], end: &AtomicBool) -> Latencies {
    let room = format!("probe-{pair}");
    let user = |side| token(&format!("probe-{pair}-{side}"));
    let mut says = Connect::at(nodes[pair % 2])
        .token(&user("says"))
        .open()
        .await;
    let mut hears = Connect::at(nodes[1 - pair % 2])
        .token(&user("hears"))
        .open()
        .await;
    says.join(&room).await;
    hears.join(&room).await;
    let mut latencies = Vec::new();
    while !end.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let text = latencies.len().to_string();
        let (_, heard) = tokio::join!(says.say(&room, &text), hears.message());
        let took = sent.elapsed();
        assert_eq!(heard["text"], text.as_str());
        latencies.push((sent, took));
        says.forget();
        tokio::time::sleep(PACE).await;
    }
    latencies
}

/// The latencies of what was sent in between, sorted.
pub(crate) fn between(latencies: &Latencies, from: Instant, to: Instant) -> Vec<Duration> {
    let within = |(sent, _): &&(Instant, Duration)| (from..to).contains(sent);
    let mut times: Vec<_> = latencies
        .iter()
        .filter(within)
        .map(|(_, took)| *took)
        .collect();
    times.sort();
    times
}
