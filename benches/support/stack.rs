//! Servers, and the Redis they share, on free ports, with limits that no load reaches, with nothing of this
//! process's environment: neither a stray variable nor a `.env` file decides what is measured.

use std::env;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Result;
use super::machine::Machine;
use super::process::{Running, anonymous_memory, cpu_time};
use super::token::SECRET;

/// How long a process may take until it listens and is ready.
const START: Duration = Duration::from_secs(10);

/// A load from one address passes, and all is counted and paid as it is by default. Each connection has a user
/// of its own, so that the limit of a user stays what it is.
const HIGH_LIMITS: [(&str, &str); 5] = [
    ("MAX_CONNECTIONS", "1000000"),
    ("MAX_CONNECTIONS_PER_IP", "1000000"),
    ("RATE_LIMIT_MESSAGES", "1000000"),
    ("RATE_LIMIT_REQUESTS", "1000000"),
    ("RATE_LIMIT_CONNECTS", "1000000"),
];

/// Nothing is counted: what the counting costs is the difference.
const NO_LIMITS: [(&str, &str); 6] = [
    ("MAX_CONNECTIONS", "1000000"),
    ("MAX_CONNECTIONS_PER_USER", "0"),
    ("MAX_CONNECTIONS_PER_IP", "0"),
    ("RATE_LIMIT_MESSAGES", "0"),
    ("RATE_LIMIT_REQUESTS", "0"),
    ("RATE_LIMIT_CONNECTS", "0"),
];

/// Where the room's log lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    Embedded,
    Redis,
}

impl Broker {
    pub(crate) const ALL: [Self; 2] = [Self::Embedded, Self::Redis];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
        }
    }
}

/// One server.
pub(crate) struct Node {
    process: Running,
    pub(crate) address: SocketAddr,
}

/// Fields end in this order: first the servers, then their Redis.
pub(crate) struct Stack {
    pub(crate) nodes: Vec<Node>,
    /// Whether nothing is counted, and messages have no key.
    pub(crate) limits_off: bool,
    redis: Option<Running>,
}

impl Stack {
    /// Starts all and waits until the servers take connections.
    pub(crate) fn start(
        broker: Broker,
        nodes: usize,
        server: &mut Command,
        machine: &Machine,
        limits_off: bool,
    ) -> Result<Self> {
        let redis = match broker {
            Broker::Embedded => None,
            Broker::Redis => Some(start_redis()?),
        };
        let (redis, at) = redis.unzip();
        let limits = if limits_off {
            &NO_LIMITS[..]
        } else {
            &HIGH_LIMITS[..]
        };
        let mut start = |_| machine.on_server_core(|| start_node(server, limits, at));
        Ok(Self {
            nodes: (0..nodes).map(&mut start).collect::<Result<_>>()?,
            limits_off,
            redis,
        })
    }

    /// CPU time of all servers so far.
    pub(crate) fn server_cpu(&self) -> Result<Duration> {
        self.nodes
            .iter()
            .map(|node| cpu_time(node.process.id))
            .sum()
    }

    /// CPU time of Redis so far.
    pub(crate) fn redis_cpu(&self) -> Result<Duration> {
        self.redis
            .as_ref()
            .map_or(Ok(Duration::ZERO), |redis| cpu_time(redis.id))
    }

    /// Anonymous memory of all servers, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.nodes
            .iter()
            .map(|node| anonymous_memory(node.process.id))
            .sum()
    }
}

fn start_node(
    command: &mut Command,
    limits: &[(&str, &str)],
    redis: Option<SocketAddr>,
) -> Result<Node> {
    let address = free_address()?;
    command
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .envs([
            ("JWT_SECRET", SECRET),
            ("HOST", "127.0.0.1"),
            ("LOG_LEVEL", "error"),
        ])
        .envs(limits.iter().copied())
        .env("PORT", address.port().to_string())
        .envs(redis.map(|address| ("REDIS_URL", format!("redis://{address}/"))));
    // its log goes where it doesn't mix with the table
    let log = io::stderr().as_fd().try_clone_to_owned()?;
    command
        .current_dir(env::temp_dir())
        .stdin(Stdio::null())
        .stdout(log);
    let process = Running::start(command)?;
    until("the server", &process, || is_ready(address))?;
    Ok(Node { process, address })
}

/// Whether the part with Redis can be measured here.
pub(crate) fn redis_is_installed() -> bool {
    let mut version = Command::new("redis-server");
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn start_redis() -> Result<(Running, SocketAddr)> {
    let address = free_address()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let redis = Running::start(&mut command)?;
    until("redis-server", &redis, || connect(address).is_ok())?;
    Ok((redis, address))
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn until(what: &str, process: &Running, mut ready: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + START;
    while !ready() {
        if process.has_ended() {
            return Err(format!("{what} ended at once").into());
        }
        if Instant::now() > deadline {
            return Err(format!("{what} was not ready within {START:?}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(stream)
}

/// Listens, and doesn't say that it isn't ready: a server that has no such route answers 404.
fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = connect(address)?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.starts_with(b"HTTP/1.1 ") && !status.ends_with(b"503"))
    };
    ask().unwrap_or(false)
}
