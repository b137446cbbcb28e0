//! Those who want to bring a node down: sockets that say nothing, pings without end, rooms opened and left
//! without end, a reader of a byte a second. Meanwhile others talk as before, and after it the node has
//! what it had. How fast is printed and decides nothing; that everyone is heard within a second does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use support::raw::{PING, PONG, TEXT, frame};
use support::{
    Client, Connect, Node, Raw, SOON, eventually, http, json, raise_nofile, token, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How long somebody who talks may wait for what was said, whatever others do.
const HEARD: Duration = Duration::from_secs(1);
/// How long each of them goes on.
const ABUSE: Duration = Duration::from_secs(5);
/// Between two things that are said.
const PACE: Duration = Duration::from_millis(10);
/// What a node may have more after it than before, in bytes, for each socket and each room that there was: what its
/// allocator keeps for the next ones. And for anything else.
const A_SOCKET: u64 = 16 << 10;
const A_ROOM: u64 = 4 << 10;
const LEFT_OVER_ALL: u64 = 16 << 20;

/// A node whose limits are off: nobody is refused, so that what it bears is all that protects it.
async fn unlimited() -> Node {
    let env = [
        ("HANDSHAKE_TIMEOUT", "3s"),
        ("RATE_LIMIT_CONNECTS", "0"),
        ("RATE_LIMIT_REQUESTS", "0"),
        ("RATE_LIMIT_MESSAGES", "0"),
    ];
    Node::start(&env).await
}

/// Talks until it is told to stop; how long each thing took to be heard.
async fn talk(mut client: Client, stopped: watch::Receiver<bool>) -> (Client, Vec<Duration>) {
    let mut pace = tokio::time::interval(PACE);
    let mut took = Vec::new();
    while !*stopped.borrow() {
        pace.tick().await;
        let begin = Instant::now();
        client.say_and_hear("the-others", "is anybody there").await;
        took.push(begin.elapsed());
        client.forget();
    }
    (client, took)
}

/// What lasts while somebody talks; how long each thing took to be heard.
async fn while_talking<T>(
    client: Client,
    meanwhile: impl Future<Output = T>,
) -> (Client, Vec<Duration>, T) {
    let (stop, stopped) = watch::channel(false);
    let all = async {
        let out = meanwhile.await;
        let _ = stop.send(true);
        out
    };
    let ((client, took), out) = tokio::join!(talk(client, stopped), all);
    (client, took, out)
}

fn percentile(took: &mut [Duration], per_cent: usize) -> Duration {
    took.sort();
    took[(took.len() - 1) * per_cent / 100]
}

/// Looks at the others before and during it, and at the node before and after it. `abuse` gives how many bytes
/// its sockets and rooms may have left.
async fn bears(node: &Node, what: &str, abuse: impl Future<Output = u64>) {
    let client = Client::in_room(node, "somebody", "the-others").await;
    let pause = tokio::time::sleep(Duration::from_secs(2));
    let (client, mut before, ()) = while_talking(client, pause).await;
    let (files, memory) = (node.open_files(), node.memory());
    let (mut client, mut during, may_leave) = while_talking(client, abuse).await;
    let peak = node.memory().max(memory) - memory;
    eventually(SOON * 4, "every socket to be gone", || async {
        node.open_files() <= files
    })
    .await;
    eventually(SOON * 4, "every room to be gone", || async {
        rooms(node).await <= 1
    })
    .await;
    let left = node.memory().max(memory) - memory;
    let (p50, p99) = (percentile(&mut during, 50), percentile(&mut during, 99));
    let worst = percentile(&mut during, 100);
    println!(
        "{what}: p50 {p50:?}, p99 {p99:?} (before {:?}, {:?}), worst {worst:?}; {} KiB more, {} KiB left",
        percentile(&mut before, 50),
        percentile(&mut before, 99),
        peak >> 10,
        left >> 10
    );
    assert!(worst < HEARD, "{what}: somebody waited {worst:?}");
    assert!(
        left < LEFT_OVER_ALL + may_leave,
        "{what}: {left} bytes are left"
    );
    client.assert_alive().await;
}

/// How many rooms it holds.
async fn rooms(node: &Node) -> u64 {
    let metrics = http::get(node.addr, "/metrics").await.body;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("chat_rooms "));
    line.and_then(|count| count.parse().ok()).expect("a count")
}

async fn connect(node: &Node) -> TcpStream {
    let stream = within(SOON * 2, "a connection", TcpStream::connect(node.addr)).await;
    stream.expect("a connection")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes() {
    let node = unlimited().await;
    bears(&node, "200 half-open handshakes", async {
        let halves = join_all((0..200).map(|_| async {
            let mut stream = connect(&node).await;
            let half = b"GET /ws HTTP/1.1\r\nHost: a.example\r\nUpgrade: webs";
            stream.write_all(half).await.expect("sent");
            stream
        }));
        let mut halves = halves.await;
        // Those who come the right way get in meanwhile, and these are dropped.
        Client::of(&node, "ada").await.assert_alive().await;
        for half in &mut halves {
            let mut rest = Vec::new();
            let _ = within(SOON, "its end", half.read_to_end(&mut rest)).await;
            assert!(rest.is_empty());
        }
        200 * A_SOCKET
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_never_send() {
    raise_nofile();
    let node = unlimited().await;
    bears(&node, "10,000 idle sockets", async {
        let mut idle = Vec::new();
        for _ in 0..100 {
            idle.extend(join_all((0..100).map(|_| connect(&node))).await);
        }
        Client::of(&node, "ada").await.assert_alive().await;
        for stream in &mut idle {
            let _ = within(SOON, "its end", stream.read_u8()).await;
        }
        10_000 * A_SOCKET
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_without_end() {
    let node = unlimited().await;
    bears(&node, "pings in a tight loop", async {
        join_all((0..4).map(|n| flood_of_pings(&node, n))).await;
        4 * A_SOCKET
    })
    .await;
}

/// Sends pings as fast as they are taken, and reads what comes. The node may close it for that.
async fn flood_of_pings(node: &Node, n: usize) {
    let raw = Raw::open(node.addr, &token(&format!("pinger{n}"))).await;
    let (mut read, mut write) = raw.stream.into_split();
    let pings = frame(true, PING, b"again", Some([0; 4])).repeat(200);
    let sending = async { while write.write_all(&pings).await.is_ok() {} };
    let mut answers = 0_usize;
    let receiving = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = read.read(&mut buffer).await {
            answers += read;
        }
    };
    let _ = tokio::time::timeout(ABUSE, async { tokio::join!(sending, receiving) }).await;
    assert!(answers > 0, "no pong at all");
}

/// And who sends them without reading one answer is not read from any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_whose_answers_are_not_read() {
    let node = unlimited().await;
    bears(&node, "pings whose answers aren't read", async {
        let raw = Raw::open_with_buffer(node.addr, &token("deaf"), Some(4_096)).await;
        let (_read, mut write) = raw.stream.into_split();
        let pings = frame(true, PING, &[0; 125], Some([0; 4])).repeat(100);
        let sending = async { while write.write_all(&pings).await.is_ok() {} };
        let _ = tokio::time::timeout(ABUSE, sending).await;
        assert!(node.memory() < 256 << 20, "{} bytes", node.memory());
        A_SOCKET
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_opened_and_left_without_end() {
    let node = unlimited().await;
    bears(&node, "rooms opened and left in a loop", async {
        let begin = Instant::now();
        let mut client = Client::of(&node, "wanderer").await;
        let mut n = 0;
        while begin.elapsed() < ABUSE {
            let requests = (n..n + 50).flat_map(|room| {
                let payload = json!({"roomId": format!("room-{room}")});
                ["join", "leave"].map(|kind| json!({"type": kind, "payload": payload}).to_string())
            });
            client.send_all(requests).await;
            for _ in 0..50 {
                client.expect("history").await;
            }
            client.forget();
            n += 50;
        }
        println!("{n} rooms");
        n * A_ROOM
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_byte_a_second() {
    let node = unlimited().await;
    let loud = Client::in_room(&node, "loud", "loud").await;
    bears(&node, "a reader of a byte a second", async {
        let mut slow = Raw::open_with_buffer(node.addr, &token("slow"), Some(4_096)).await;
        let join = json!({"type": "join", "payload": {"roomId": "loud"}});
        slow.send_json(&join).await;
        let reading = async {
            for _ in 0..ABUSE.as_secs() {
                slow.stream.read_u8().await.expect("it stays");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (stop, stopped) = watch::channel(false);
        let shouting = shout(loud, stopped);
        let reading = async {
            reading.await;
            let _ = stop.send(true);
        };
        let (said, ()) = tokio::join!(shouting, reading);
        println!("{said} messages of a good kilobyte to the slow one");
        assert!(node.memory() < 256 << 20, "{} bytes", node.memory());
        2 * A_SOCKET
    })
    .await;
}

/// Says long things as fast as they are acked.
async fn shout(mut client: Client, stopped: watch::Receiver<bool>) -> usize {
    let mut said = 0;
    while !*stopped.borrow() {
        client.say("loud", &"loud ".repeat(250)).await;
        client.forget();
        said += 1;
    }
    said
}

/// RFC 6455, section 5.5.3: they are no error, and no answer is due.
#[tokio::test]
async fn pongs_that_nobody_asked_for() {
    let node = unlimited().await;
    let mut raw = Raw::open(node.addr, &token("ada")).await;
    for _ in 0..1_000 {
        raw.send(true, PONG, b"unasked").await;
    }
    raw.send_json(&json!({"type": "ping", "id": "1"})).await;
    loop {
        let (opcode, payload) = raw.recv(SOON).await.expect("it stays");
        if opcode == TEXT && payload.starts_with(b"{\"type\":\"pong\"") {
            break;
        }
    }
    Connect::to(&node).token(&token("ben")).open().await;
}
