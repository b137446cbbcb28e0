//! A TCP proxy between a node and its Redis that keeps pushed messages back: connections look alive,
//! commands are answered, and yet nothing that is published comes. The connection for commands gets no
//! pushes, so it is never touched.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Redis;

/// A running proxy. Dropping it cuts all that goes through it.
pub struct Tap {
    port: u16,
    rules: Arc<Rules>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Rules {
    /// Connections so far.
    opened: AtomicU64,
    /// Connections up to this one get no pushes, the answers to SUBSCRIBE among them.
    deaf_up_to: AtomicU64,
    /// Channels by their beginnings.
    lost: Mutex<HashMap<String, Loss>>,
}

/// How a channel is lost.
#[derive(Clone, Copy)]
struct Loss {
    /// On connections up to this one.
    up_to: u64,
    /// Until it is subscribed to once more.
    until_subscribed: bool,
}

impl Tap {
    /// In front of this Redis, letting everything through.
    pub async fn on(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let rules = Arc::new(Rules::default());
        let mut task = JoinSet::new();
        task.spawn(accept(listener, redis.port, rules.clone()));
        Self {
            port,
            rules,
            _task: task,
        }
    }

    /// The URL for `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// How many connections were made through it.
    pub fn opened(&self) -> u64 {
        self.rules.opened.load(Ordering::SeqCst)
    }

    /// From now on nothing is pushed over the connections that there are; new ones are as they should be.
    pub fn deafen(&self) {
        self.rules.deaf_up_to.store(self.opened(), Ordering::SeqCst);
    }

    /// The same for every connection to come, until [`Tap::deafen`] sets an end to it.
    pub fn deafen_all(&self) {
        self.rules.deaf_up_to.store(u64::MAX, Ordering::SeqCst);
    }

    /// Nothing more comes over channels whose names begin so, until they are subscribed to once more: as
    /// if they had been unsubscribed from behind the node's back.
    pub fn unsubscribe(&self, channel: &str) {
        self.lose(channel, true);
    }

    /// Nothing more comes over channels whose names begin so, on the connections that there are.
    pub fn swallow(&self, channel: &str) {
        self.lose(channel, false);
    }

    fn lose(&self, channel: &str, until_subscribed: bool) {
        let up_to = self.opened();
        let loss = Loss {
            up_to,
            until_subscribed,
        };
        let mut lost = self.rules.lost.lock().expect("no panic");
        lost.insert(channel.to_owned(), loss);
    }
}

impl Rules {
    /// Whether the node gets this frame over that connection.
    fn pass(&self, connection: u64, frame: &[u8]) -> bool {
        if frame.first() != Some(&b'>') {
            return true;
        }
        if connection <= self.deaf_up_to.load(Ordering::SeqCst) {
            return false;
        }
        let (kind, channel) = push(frame);
        let mut lost = self.lost.lock().expect("no panic");
        let found = lost
            .iter()
            .find(|(name, loss)| connection <= loss.up_to && channel.starts_with(name.as_str()));
        let Some((name, loss)) = found.map(|(name, loss)| (name.clone(), *loss)) else {
            return true;
        };
        if kind == "subscribe" && loss.until_subscribed {
            lost.remove(&name);
        }
        kind != "message"
    }
}

async fn accept(listener: TcpListener, redis: u16, rules: Arc<Rules>) {
    let mut connections = JoinSet::new();
    while let Ok((node, _)) = listener.accept().await {
        let number = rules.opened.fetch_add(1, Ordering::SeqCst) + 1;
        // Where Redis is away, the node's connection ends at once.
        let Ok(redis) = TcpStream::connect(("127.0.0.1", redis)).await else {
            continue;
        };
        let rules = rules.clone();
        connections.spawn(async move {
            let ((mut from_node, to_node), (from_redis, mut to_redis)) =
                (node.into_split(), redis.into_split());
            tokio::select! {
                _ = tokio::io::copy(&mut from_node, &mut to_redis) => {}
                _ = bring_back(from_redis, to_node, number, &rules) => {}
            }
        });
    }
}

/// Brings what Redis says, whole frames at a time.
async fn bring_back(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    rules: &Rules,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while from.read_buf(&mut buffer).await? > 0 {
        let (mut start, mut out) = (0, Vec::new());
        while let Some(len) = frame_len(&buffer[start..]) {
            let frame = &buffer[start..start + len];
            if rules.pass(number, frame) {
                out.extend_from_slice(frame);
            }
            start += len;
        }
        buffer.drain(..start);
        to.write_all(&out).await?;
    }
    Ok(())
}

/// The length of the RESP3 value at the beginning, if all of it is there.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let count = || -> i64 {
        let digits = std::str::from_utf8(&bytes[1..line - 2]).expect("a number");
        digits.parse().expect("a number")
    };
    let values = match bytes[0] {
        b'$' | b'=' | b'!' => {
            let len = usize::try_from(count()).map_or(line, |len| line + len + 2);
            return (bytes.len() >= len).then_some(len);
        }
        b'*' | b'>' | b'~' => count(),
        b'%' => 2 * count(),
        _ => 0,
    };
    let mut end = line;
    for _ in 0..values {
        end += frame_len(&bytes[end..])?;
    }
    Some(end)
}

/// What kind of push it is, and of which channel.
fn push(frame: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(frame);
    let mut lines = text.split("\r\n").skip(2).step_by(2);
    let mut next = || lines.next().unwrap_or_default().to_owned();
    (next(), next())
}
