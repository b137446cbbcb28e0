//! One server, and the Redis it uses, on free ports, without limits, with nothing of this process's
//! environment: neither a stray variable nor a `.env` file decides what is measured.

use std::env;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::Machine;
use crate::options::Options;
use crate::process::Running;
use crate::scenario::Broker;
use crate::token::SECRET;

/// How long a process may take until it listens and is ready.
const START: Duration = Duration::from_secs(10);

/// All limits that would stand in the way of a load from one address.
const UNLIMITED: [(&str, &str); 6] = [
    ("MAX_CONNECTIONS", "1000000"),
    ("MAX_CONNECTIONS_PER_USER", "0"),
    ("MAX_CONNECTIONS_PER_IP", "0"),
    ("RATE_LIMIT_MESSAGES", "0"),
    ("RATE_LIMIT_REQUESTS", "0"),
    ("RATE_LIMIT_CONNECTS", "0"),
];

/// Fields end in this order: first the server, then its Redis.
pub(crate) struct Stack {
    pub(crate) server: Running,
    pub(crate) redis: Option<Running>,
    pub(crate) address: SocketAddr,
}

impl Stack {
    /// Starts both and waits until the server takes connections.
    pub(crate) fn start(broker: Broker, options: &Options, machine: &Machine) -> Result<Self> {
        let redis = match broker {
            Broker::Embedded => None,
            Broker::Redis => Some(start_redis()?),
        };
        let address = free_address()?;
        let mut command = Command::new(&options.server);
        command
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)));
        command
            .envs([
                ("JWT_SECRET", SECRET),
                ("HOST", "127.0.0.1"),
                ("LOG_LEVEL", "error"),
            ])
            .envs(UNLIMITED);
        command.env("PORT", address.port().to_string());
        if let Some((_, address)) = &redis {
            command.env("REDIS_URL", format!("redis://{address}/"));
        }
        // its log goes where it doesn't mix with the table
        let log = io::stderr().as_fd().try_clone_to_owned()?;
        command
            .current_dir(env::temp_dir())
            .stdin(Stdio::null())
            .stdout(log);
        let server = machine.on_server_core(|| Running::start(&mut command))?;
        until("the server", &server, || is_ready(address))?;
        Ok(Self {
            server,
            redis: redis.map(|(process, _)| process),
            address,
        })
    }
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
