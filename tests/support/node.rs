//! A node: the real binary as a child process on a free port.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::token::SECRET;
use super::{Redis, SOON, TempDir, eventually, http, secrets, within};

/// A running node, with no rates of connects, messages and requests unless a test sets them: they are tested by
/// `tests/limits`, and other tests ask as fast as they can.
///
/// Dropping it kills it; if the test is failing then, its last log lines are shown, else all of them are searched
/// for secrets.
pub struct Node {
    pub addr: SocketAddr,
    child: Child,
    logs: Logs,
    _dir: TempDir,
}

impl Node {
    /// A node with the embedded broker.
    pub async fn embedded() -> Self {
        Self::start(&[]).await
    }

    /// A node on this Redis, once it is ready.
    pub async fn on(redis: &Redis) -> Self {
        Self::on_with(redis, &[]).await
    }

    /// The same with further variables.
    pub async fn on_with(redis: &Redis, env: &[(&str, &str)]) -> Self {
        let url = redis.url();
        let env: Vec<_> = env
            .iter()
            .copied()
            .chain([("REDIS_URL", url.as_str())])
            .collect();
        let node = Self::start(&env).await;
        let is_ready = || async { http::get(node.addr, "/ready").await.status == 200 };
        eventually(SOON, "the node to reach Redis", is_ready).await;
        node
    }

    /// A node with these variables besides the usual ones, once it listens (which it does also while
    /// its Redis can't be reached).
    pub async fn start(env: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_piazza")), env).await
    }

    /// The same, where the node is started through a shell that first runs `before` (`ulimit …`).
    pub async fn start_after(before: &str, env: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{before} && exec \"$0\"")]);
        shell.arg(env!("CARGO_BIN_EXE_piazza"));
        Self::spawn(shell, env).await
    }

    async fn spawn(mut command: Command, env: &[(&str, &str)]) -> Self {
        let dir = TempDir::new("node");
        env.iter()
            .for_each(|(name, value)| secrets::note_variable(name, value));
        let mut child = command
            .current_dir(dir.path())
            .env_clear()
            .envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("JWT_SECRET", SECRET)])
            // Every log is searched for secrets, so it is to say all that it ever may.
            .envs([("LOG_FORMAT", "json"), ("LOG_LEVEL", "debug")])
            .envs([
                ("RATE_LIMIT_CONNECTS", "0"),
                ("RATE_LIMIT_MESSAGES", "0"),
                ("RATE_LIMIT_REQUESTS", "0"),
            ])
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let logs = Logs::default();
        logs.collect(child.stdout.take().expect("piped"));
        logs.collect(child.stderr.take().expect("piped"));
        let line = logs
            .wait_for(4 * SOON, "listening", |line| {
                field(line, "message") == "listening"
            })
            .await;
        let addr = field(&line, "address")
            .as_str()
            .and_then(|addr| addr.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("no address in {line}"));
        Self {
            addr,
            child,
            logs,
            _dir: dir,
        }
    }

    /// Everything it has logged, line by line.
    pub fn logs(&self) -> Vec<String> {
        self.logs.0.borrow().iter().cloned().collect()
    }

    /// The first log line, past or to come, that satisfies `is_it`.
    pub async fn log(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.logs.wait_for(SOON, what, is_it).await
    }

    /// The most memory that it has had at once, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that it has now, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// What of it is its own, and no file's, in bytes.
    pub fn anonymous_memory(&self) -> u64 {
        self.status("RssAnon:")
    }

    fn status(&self, name: &str) -> u64 {
        let pid = self.child.id().expect("the node is still running");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        1024 * kib.expect("a figure in kB")
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        let pid = self.child.id().expect("the node is still running");
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
        files.expect("its files").count()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32));
        let pid = pid.expect("the node is still running");
        rustix::process::kill_process(pid, signal).expect("the signal is sent");
    }

    /// Waits for its end.
    pub async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let ended = within(limit, "the node's end", self.child.wait()).await;
        ended.expect("its status")
    }

    /// SIGTERM, and how it ended.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit(Duration::from_secs(15)).await
    }

    /// SIGKILL: it is gone without a word.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.exit(SOON).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.logs();
            let last = lines.len().saturating_sub(30);
            eprintln!("--- the last log lines of the node at {}:", self.addr);
            lines[last..]
                .iter()
                .for_each(|line| eprintln!("    {line}"));
        } else {
            secrets::assert_none_in(&*self.logs.0.borrow());
        }
    }
}

/// A value of a log line, flat or below `fields`.
pub fn field<'a>(line: &'a Value, name: &str) -> &'a Value {
    line.get(name).unwrap_or(&line["fields"][name])
}

/// How the server ends that is started with these variables alone: status, stdout, stderr. For what
/// doesn't come to listening.
pub async fn run_to_end(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let dir = TempDir::new("run");
    let run = Command::new(env!("CARGO_BIN_EXE_piazza"))
        .args(args)
        .current_dir(dir.path())
        .env_clear()
        .envs([("HOST", "127.0.0.1"), ("PORT", "0")])
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let end = within(SOON, &format!("the end of a start with {env:?}"), run)
        .await
        .expect("it ran");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (end.status.code(), text(&end.stdout), text(&end.stderr))
}

/// Lines collected from the child's outputs, with a signal for each new one.
#[derive(Clone)]
struct Logs(Arc<watch::Sender<VecDeque<String>>>);

impl Default for Logs {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(VecDeque::new())))
    }
}

impl Logs {
    fn collect(&self, output: impl AsyncRead + Unpin + Send + 'static) {
        let lines = self.0.clone();
        tokio::spawn(async move {
            let mut from = BufReader::new(output).lines();
            while let Ok(Some(line)) = from.next_line().await {
                lines.send_modify(|lines| {
                    lines.push_back(line);
                    if lines.len() > 100_000 {
                        lines.pop_front();
                    }
                });
            }
        });
    }

    async fn wait_for(&self, limit: Duration, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let found = Mutex::new(None);
        let mut lines = self.0.subscribe();
        let search = lines.wait_for(|lines| {
            let parsed = lines
                .iter()
                .filter_map(|line| serde_json::from_str(line).ok());
            let hit = parsed.into_iter().find(|line| is_it(line));
            let is_found = hit.is_some();
            *found.lock().expect("no panic") = hit;
            is_found
        });
        if tokio::time::timeout(limit, search).await.is_err() {
            panic!(
                "no log line `{what}` within {limit:?}; logged: {:#?}",
                self.0.borrow()
            );
        }
        let line = found.lock().expect("no panic").take();
        line.unwrap_or_else(|| panic!("the log ended before `{what}`"))
    }
}
