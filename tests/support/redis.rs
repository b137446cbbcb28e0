//! A real Redis server of one test: empty, on a free port, its data in a folder of its own.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{SOON, TempDir, free_port, within};

/// How long one command may take.
const ANSWER: Duration = Duration::from_secs(20);

/// A running Redis. Dropping it kills it.
pub struct Redis {
    pub port: u16,
    options: Vec<String>,
    child: Child,
    dir: TempDir,
}

impl Redis {
    /// Without persistence: what it holds is gone with the process.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further options, e.g. `["--appendonly", "yes"]`.
    pub async fn start_with(options: &[&str]) -> Self {
        // Between looking for a free port and taking it, another test may have been quicker.
        for _ in 0..10 {
            if let Some(redis) = Self::start_on(free_port(), options).await {
                return redis;
            }
        }
        panic!("redis-server doesn't start; is it installed?");
    }

    /// On this very port; `None` if the port is taken.
    pub async fn start_on(port: u16, options: &[&str]) -> Option<Self> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let dir = TempDir::new("redis");
        let child = run(port, &options, &dir).await?;
        Some(Self {
            port,
            options,
            child,
            dir,
        })
    }

    /// The URL for `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Sends one command and returns the answer.
    pub async fn cli<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let ask = async {
            let client = redis::Client::open(self.url())?;
            // The library's own limits are half a second and less, which a busy machine exceeds.
            let limits = redis::AsyncConnectionConfig::new()
                .set_connection_timeout(Some(ANSWER))
                .set_response_timeout(Some(ANSWER));
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&limits)
                .await?;
            let mut words = redis::cmd(command[0]);
            words.arg(&command[1..]);
            words.query_async(&mut connection).await
        };
        let answer = within(ANSWER, &format!("Redis to answer {command:?}"), ask).await;
        answer.unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    /// Closes every connection of this type (`normal`, `pubsub`); how many there were.
    pub async fn kill_clients(&self, kind: &str) -> usize {
        self.cli(&["CLIENT", "KILL", "TYPE", kind]).await
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = within(SOON, "the end of Redis", self.child.wait()).await;
    }

    /// Starts it again on the same port with the same folder, after [`Redis::kill`].
    pub async fn start_again(&mut self) {
        let child = run(self.port, &self.options, &self.dir).await;
        self.child = child.expect("Redis starts again on its port");
    }

    /// SIGSTOP: it neither answers nor closes anything.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32));
        rustix::process::kill_process(pid.expect("Redis runs"), signal).expect("signal sent");
    }
}

/// Starts `redis-server` and waits for its word that it accepts connections.
async fn run(port: u16, options: &[String], dir: &TempDir) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ])
        .args(options)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains("eady to accept connections") {
                return true;
            }
        }
        false
    };
    let is_ready = within(ANSWER, "Redis to start", ready).await;
    // Its output has to go somewhere, or Redis would meet a closed pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    is_ready.then_some(child)
}
