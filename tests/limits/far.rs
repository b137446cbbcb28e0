//! A Redis that is far away: limits hold as long as it answers within the second that a visitor waits.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::door::{HOME, ask};
use crate::support::{Node, Redis, SOON, eventually, token};

/// On the way there and on the way back.
const ONE_WAY: Duration = Duration::from_millis(200);

/// What comes goes on as long after it came; in order.
async fn delay(
    mut from: impl AsyncReadExt + Unpin + Send + 'static,
    mut to: impl AsyncWriteExt + Unpin,
) {
    let (sender, mut late) = mpsc::unbounded_channel();
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let bytes = buffer[..read].to_vec();
            if sender.send((Instant::now() + ONE_WAY, bytes)).is_err() {
                return;
            }
        }
    };
    let writing = async {
        while let Some((due, bytes)) = late.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// A port from which that Redis is far away, as long as the tasks live.
async fn far(redis: &Redis) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, target) = (listener.local_addr().unwrap().port(), redis.port);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            connections.spawn(delay(near_in, far_out));
            connections.spawn(delay(far_in, near_out));
        }
    });
    (port, tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_twice_while_the_answers_are_long_under_way() {
    let redis = Redis::start().await;
    let one = [("MAX_CONNECTIONS_PER_USER", "1")];
    let (port, _tasks) = far(&redis).await;
    let url = format!("redis://127.0.0.1:{port}/0");
    let far = [("REDIS_URL", &*url), one[0]];
    let (near, far) = tokio::join!(Node::on_with(&redis, &one), Node::start(&far));
    let users: Vec<String> = (0..300).map(|n| token(&format!("u{n}"))).collect();
    let held = join_all(users.iter().map(|user| ask(near.addr, HOME, user))).await;
    held.iter().for_each(|one| one.assert_in());
    // A node that has no lease yet goes by its own numbers.
    eventually(2 * SOON, "the far node to have its lease", || async {
        ask(far.addr, HOME, &users[0]).await.status() == 429
    })
    .await;
    // Many more than one call takes, over several times of the way there and back.
    let late = users.iter().enumerate().map(async |(nth, user)| {
        sleep(Duration::from_millis(4 * nth as u64)).await;
        ask(far.addr, HOME, user).await
    });
    let late = join_all(late).await;
    for one in &late {
        one.assert_too_many();
    }
}
