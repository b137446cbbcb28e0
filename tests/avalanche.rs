//! 5,000 clients of 50 rooms, on three nodes behind nginx, are cut off at once and come back at once,
//! each with `since`: all are recovered, nothing is lost, and Redis is asked once per room and node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use support::connect::Io;
use support::nginx::Nginx;
use support::{Client, Follow, Node, Redis, SOON, Value, eventually, json, token, within};
use tokio::net::TcpSocket;
use tokio::sync::Barrier;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const CLIENTS: usize = 5_000;
const ROOMS: usize = 50;
/// Networks that they come from, so that nginx spreads them over the nodes.
const NETWORKS: usize = 100;
/// Messages in each room before, and from each cut on, half of them while everybody is away.
const BEFORE: u64 = 5;
const MEANWHILE: u64 = 20;
/// First they come back at once, to rooms that are still up; then to rooms that two nodes have let go.
const ROUNDS: u64 = 2;
/// How long all of them may take to be back, each trying on: a bound for the test, not a promise.
const LIMIT: Duration = Duration::from_secs(90);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(30);
/// How many connect at the same time in the beginning.
const AT_ONCE: usize = 64;

fn room(n: usize) -> String {
    format!("room-{}", n % ROOMS)
}

/// One client: its connection, and what it has seen.
struct Member {
    n: usize,
    ws: Option<WebSocketStream<Box<dyn Io>>>,
    node: String,
    follow: Follow,
    tries: usize,
    /// How long it took to be back, each round.
    took: Vec<Duration>,
}

impl Member {
    fn new(n: usize) -> Self {
        Self {
            n,
            ws: None,
            node: String::new(),
            follow: Follow::new(format!("user{n}")),
            tries: 0,
            took: Vec::new(),
        }
    }

    /// Connects, from an address of its network.
    async fn connect(&mut self, nginx: &Nginx, token: &str) -> Option<()> {
        self.tries += 1;
        let socket = TcpSocket::new_v4().unwrap();
        let network = (self.n / ROOMS % NETWORKS) as u8 + 1;
        socket.bind(([127, 0, network, 1], 0).into()).ok()?;
        let tcp = socket.connect(nginx.addr).await.ok()?;
        tcp.set_nodelay(true).ok()?;
        let tls = nginx.try_over_tls(tcp).await.ok()?;
        let url = format!("ws://localhost/?token={token}");
        let (ws, _) = tokio_tungstenite::client_async(url, tls).await.ok()?;
        self.ws = Some(ws);
        let hello = self.next().await?;
        self.node = hello["payload"]["nodeId"].as_str()?.to_owned();
        Some(())
    }

    /// The next event; `None` if the connection ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match self.ws.as_mut()?.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).ok(),
                Some(Ok(Message::Ping(_))) => {}
                _ => return None,
            }
        }
    }

    /// Joins, and takes the answer.
    async fn join(&mut self, since: Option<Value>) -> Option<Value> {
        let mut payload = json!({"roomId": room(self.n)});
        if let Some(since) = since {
            payload["since"] = since;
        }
        let join = json!({"type": "join", "payload": payload}).to_string();
        self.ws.as_mut()?.send(Message::text(join)).await.ok()?;
        loop {
            let event = self.next().await?;
            match event["type"].as_str() {
                Some("history") => return Some(event["payload"].clone()),
                Some("error") => panic!("user{} can't join: {event}", self.n),
                _ => {}
            }
        }
    }

    /// Comes for the first time.
    async fn arrive(mut self, nginx: &Nginx) -> Self {
        let token = token(&format!("user{}", self.n));
        let arrive = async {
            self.connect(nginx, &token).await.expect("a connection");
            self.join(None).await.expect("a history")
        };
        let history = within(4 * SOON, "the first join", arrive).await;
        self.follow.history(&history);
        self
    }

    /// Reads until it has so many messages.
    async fn read_to(&mut self, seq: u64) {
        let name = room(self.n);
        while self.follow.seq < Some(seq) {
            let event = self.next().await;
            let event = event.unwrap_or_else(|| panic!("user{} was cut off", self.n));
            assert_ne!(event["payload"]["recovered"], false, "{event}");
            self.follow.event(&event, &name);
        }
    }

    /// Comes back with the last message it has, trying on as a client does; the answer is its resume.
    async fn come_back(&mut self, nginx: &Nginx, token: &str) -> Value {
        let last = self.follow.seq.unwrap();
        let since = json!({"seq": last, "id": self.follow.seen[&last].0});
        let mut pause = Duration::from_millis(100);
        loop {
            let attempt = async {
                self.connect(nginx, token).await?;
                self.join(Some(since.clone())).await
            };
            if let Ok(Some(history)) = tokio::time::timeout(ATTEMPT, attempt).await {
                return history;
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(Duration::from_secs(2));
        }
    }
}

/// A line of Redis' slow log: number, time, microseconds, the command, who sent it, its name.
type Logged = (i64, i64, i64, Vec<String>, String, String);

/// Which rooms' histories were read since the log was reset, and how often by which connection; each
/// node has one for commands. Redis notes every command as slow, which disturbs none of them.
async fn reads(redis: &Redis) -> BTreeMap<(String, String), usize> {
    let log: Vec<Logged> = redis.cli(&["SLOWLOG", "GET", "-1"]).await;
    let mut reads = BTreeMap::new();
    for (_, _, _, command, from, _) in log {
        // EVALSHA, script, 1, key, mode, place, most: the reading script alone has a mode there. The
        // minute's comparison of the newest reads no message.
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        if let [
            "EVALSHA" | "EVAL",
            _,
            "1",
            key,
            mode @ ("from" | "newest"),
            _,
            most,
        ] = words[..]
            && !(mode == "newest" && most == "0")
        {
            *reads.entry((key.to_owned(), from)).or_default() += 1;
        }
    }
    reads
}

async fn start_nodes(redis: &Redis) -> Vec<Node> {
    let start = |name: &'static str| async move {
        let env = [
            ("NODE_ID", name),
            ("MESSAGE_HISTORY_LIMIT", "1000"),
            ("RATE_LIMIT_MESSAGES", "0"),
            ("RATE_LIMIT_CONNECTS", "0"),
        ];
        Node::on_with(redis, &env).await
    };
    join_all(["node-a", "node-b", "node-c"].map(start)).await
}

/// Says so many things in each room, by a client that isn't one of the many.
async fn talk(speaker: &mut Client, count: u64) {
    for _ in 0..count {
        for n in 0..ROOMS {
            speaker.say(&room(n), "hello").await;
        }
        speaker.forget();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_come_back_at_once_and_miss_nothing() {
    support::raise_nofile();
    let slow = ["--slowlog-log-slower-than", "0"];
    let all = ["--slowlog-max-len", "1000000"];
    let redis = Redis::start_with(&[slow, all].concat()).await;
    let nodes = start_nodes(&redis).await;
    let ports: Vec<u16> = nodes.iter().map(|node| node.addr.port()).collect();
    let nginx = Arc::new(Nginx::start([ports[0], ports[1], ports[2]]).await);
    let mut speaker = Client::of(&nodes[0], "speaker").await;
    for n in 0..ROOMS {
        speaker.join(&room(n)).await;
    }
    let begin = Instant::now();
    let arriving = (0..CLIENTS).map(|n| {
        let nginx = nginx.clone();
        tokio::spawn(async move { Member::new(n).arrive(&nginx).await })
    });
    let members: Vec<Member> = stream::iter(arriving)
        .buffered(AT_ONCE)
        .map(|member| member.expect("it arrived"))
        .collect()
        .await;
    println!("{CLIENTS} arrived in {:?}", begin.elapsed());
    let first = reads(&redis).await;
    assert_eq!(
        first.len(),
        ROOMS * nodes.len(),
        "each was opened: {first:?}"
    );
    talk(&mut speaker, BEFORE).await;

    let gate = Arc::new(Barrier::new(CLIENTS + 1));
    let courses: Vec<_> = members
        .into_iter()
        .map(|member| tokio::spawn(course(member, nginx.clone(), gate.clone())))
        .collect();
    for round in 0..ROUNDS {
        within(LIMIT, "everybody to have been cut off", gate.wait()).await;
        if round > 0 {
            rooms_are_gone(&redis).await;
        }
        talk(&mut speaker, MEANWHILE / 2).await;
        redis.cli::<String>(&["SLOWLOG", "RESET"]).await;
        within(LIMIT, "the avalanche to begin", gate.wait()).await;
        // The other half is said while they come.
        talk(&mut speaker, MEANWHILE - MEANWHILE / 2).await;
        within(LIMIT, "everybody to be back", gate.wait()).await;
        let reads = reads(&redis).await;
        println!(
            "round {round}: {} reads of histories",
            reads.values().sum::<usize>()
        );
        // In sum: a room that was mended for another reason meanwhile is read for that, too.
        let sum: usize = reads.values().sum();
        assert!(sum <= ROOMS * nodes.len(), "{sum} reads: {reads:?}");
    }
    let mut done = Vec::new();
    for course in courses {
        done.push(course.await.expect("it came back"));
    }
    report(&done);
    for member in &done {
        assert_eq!(member.follow.seen.len() as u64, BEFORE + ROUNDS * MEANWHILE);
        assert_eq!(member.follow.seen, done[member.n % ROOMS].follow.seen);
    }
}

/// What one client goes through: as soon as it has everything it is cut off together with all others,
/// and together they come back.
async fn course(mut member: Member, nginx: Arc<Nginx>, gate: Arc<Barrier>) -> Member {
    let token = token(&format!("user{}", member.n));
    for round in 0..ROUNDS {
        let said = BEFORE + round * MEANWHILE;
        within(LIMIT, "what was said before", member.read_to(said)).await;
        gate.wait().await;
        member.ws = None;
        gate.wait().await;
        let cut = Instant::now();
        let coming = member.come_back(&nginx, &token);
        let history = within(LIMIT, "its coming back", coming).await;
        assert_eq!(history["recovered"], true, "user{}: {history}", member.n);
        member.follow.history(&history);
        member.took.push(cut.elapsed());
        within(LIMIT, "the rest", member.read_to(said + MEANWHILE)).await;
        gate.wait().await;
    }
    member
}

/// Waits until no node but the speaker's listens to a room: the others have let go of them.
async fn rooms_are_gone(redis: &Redis) {
    let channels: Vec<String> = (0..ROOMS)
        .map(|n| format!("chat:room:{{{}}}", room(n)))
        .collect();
    let ask = [
        vec!["PUBSUB", "NUMSUB"],
        channels.iter().map(String::as_str).collect(),
    ]
    .concat();
    eventually(4 * SOON, "the rooms to be let go", || async {
        let counts: Vec<(String, u64)> = redis.cli(&ask).await;
        counts.iter().all(|(_, count)| *count == 1)
    })
    .await;
}

fn report(done: &[Member]) {
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for member in done {
        *held.entry(&member.node).or_default() += 1;
    }
    let tries: usize = done.iter().map(|member| member.tries).sum();
    let failed = tries - CLIENTS * (1 + ROUNDS as usize);
    println!("{failed} attempts failed; per node: {held:?}");
    for round in 0..ROUNDS as usize {
        let mut took: Vec<Duration> = done.iter().map(|member| member.took[round]).collect();
        took.sort_unstable();
        let (half, all) = (took[took.len() / 2], took[took.len() - 1]);
        println!("round {round}: half were back after {half:?}, all after {all:?}");
    }
    assert_eq!(held.len(), 3, "a node got nobody: {held:?}");
}
