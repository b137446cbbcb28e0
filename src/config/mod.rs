//! The whole configuration, read from a source and checked before anything binds.
//!
//! [`variables`](VARIABLES) names every variable once, `reader` takes one of them and words the
//! errors, `jwt` and `redis` put together how tokens are verified and where Redis is, `source` is the real environment. A source is any
//! `Fn(&str) -> Option<String>`, so tests read from a map. An empty value counts as unset.

mod admission;
mod jwt;
mod origins;
mod reader;
mod redis;
mod source;
mod tls;
mod variables;

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

pub use admission::AdmissionConfig;
pub use jwt::{JwksUrl, JwtConfig};
pub use origins::{Origin, Origins};
pub use reader::{ConfigError, Secret, parse_duration};
pub use redis::RedisConfig;
pub use source::environment;
pub use variables::{VARIABLES, Variable};

pub use crate::telemetry::{LogFormat, LogLevel};
pub use crate::tls::TlsFiles;

use crate::id::NodeId;
use reader::Reader;
use variables as var;

/// Shortest HS256 secret, in bytes: the hash's own length, as RFC 7518, section 3.2 asks for.
pub const MIN_SECRET: usize = 32;
/// Shortest key of an operator, in bytes: drawn at random from letters it has 95 bits.
pub const MIN_API_KEY: usize = 16;
/// What the life of a token may be.
pub const TOKEN_LIFE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3650 * DAY);

const DAY: u64 = 86_400;
/// The time limits of connections: short enough to test with, long enough for any line.
const WAITS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const SPREADS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const TTLS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3650 * DAY);

/// Everything a node can be told. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address it listens on.
    pub host: IpAddr,
    /// Port it listens on; 0 takes any free one.
    pub port: u16,
    /// How tokens are verified and issued.
    pub jwt: JwtConfig,
    /// Where nodes meet.
    pub broker: BrokerConfig,
    /// Messages kept per room, 1 to 10,000.
    pub history_limit: usize,
    /// An idle room's history goes after that long, at least 1 s.
    pub history_ttl: Duration,
    /// Longest text of a message, 1 to 100,000 UTF-16 units; never more than `max_frame`.
    pub max_text: usize,
    /// Largest WebSocket frame and message, 1 KiB to 16 MiB, in bytes.
    pub max_frame: usize,
    /// Time between pings, 100 ms to 1 h.
    pub heartbeat: Duration,
    /// A TLS handshake and a request head must be complete after that long, 100 ms to 1 h.
    pub handshake_timeout: Duration,
    /// A stopping node ends what is still open after that long, 100 ms to 1 h.
    pub shutdown_grace: Duration,
    /// A stopping node lets its connections go over that long at most, up to 1 h.
    pub drain_spread: Duration,
    /// A client that takes no byte for so long is closed, 100 ms to 1 h.
    pub slow_client_timeout: Duration,
    /// Rooms of more users get no presence events, 0 to 1,000,000.
    pub presence_events_max: usize,
    /// Connections at once, up to 10,000,000; 0 is off.
    pub max_connections: usize,
    /// Rooms of one connection, up to 100,000; 0 is off.
    pub max_rooms_per_connection: usize,
    /// From which web pages a browser may come.
    pub allowed_origins: Origins,
    /// The certificate and key of TLS on its own port; looked at, and good. `None`: plain.
    pub tls: Option<TlsFiles>,
    /// Who gets a connection.
    pub admission: AdmissionConfig,
    /// Messages that a user may send in one window, over all nodes, up to 1,000,000; 0 is off.
    pub rate_limit_messages: u32,
    /// The window that messages and other requests are counted in, 100 ms to 1 h.
    pub rate_limit_window: Duration,
    /// Other requests of one connection in one window, up to 1,000,000; 0 is off.
    pub rate_limit_requests: u32,
    /// What an operator shows, [`MIN_API_KEY`] to 256 visible ASCII characters; without one there are no operator's routes.
    pub api_key: Option<Secret>,
    /// What a reader of `/metrics` must bring, 1 to 256 visible ASCII characters; `None`: anyone may.
    pub metrics_token: Option<Secret>,
    /// This node's name.
    pub node_id: NodeId,
    /// What is logged.
    pub log_level: LogLevel,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// Where nodes meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrokerConfig {
    /// In this process: one node alone.
    Embedded,
    /// In Redis.
    Redis(RedisConfig),
}

impl Config {
    /// Reads all variables.
    ///
    /// # Errors
    /// The first variable that is wrong or missing.
    pub fn read(source: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        Config::with(&Reader::new(source), None)
    }

    /// As [`Config::read`], for one node to try: it listens on 127.0.0.1 alone whatever `HOST` says,
    /// and draws a random `JWT_SECRET` where none is set.
    ///
    /// # Errors
    /// The first variable that is wrong.
    pub fn dev(source: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let draw = || Secret::new(nanoid::nanoid!(43));
        let mut config = Config::with(&Reader::new(source), Some(draw))?;
        config.host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Ok(config)
    }

    /// With a secret that is drawn so, where one is to be and none is set.
    fn with(reader: &Reader<'_>, draw: Option<fn() -> Secret>) -> Result<Config, ConfigError> {
        refuse_what_is_not_there_yet(reader)?;
        let config = Config {
            host: reader.required(var::HOST, "an IPv4 or IPv6 address", |value| {
                value.parse().ok()
            })?,
            port: reader.whole(var::PORT, 0..=u16::MAX)?,
            jwt: JwtConfig::read(reader, draw)?,
            broker: RedisConfig::read(reader)?.map_or(BrokerConfig::Embedded, BrokerConfig::Redis),
            history_limit: reader.whole(var::MESSAGE_HISTORY_LIMIT, 1..=10_000)?,
            history_ttl: reader.duration(var::HISTORY_TTL, TTLS)?,
            max_text: reader.whole(var::MAX_TEXT_LENGTH, 1..=100_000)?,
            max_frame: reader.size(var::MAX_FRAME_BYTES, 1 << 10..=16 << 20)?,
            heartbeat: reader.duration(var::HEARTBEAT_INTERVAL, WAITS)?,
            handshake_timeout: reader.duration(var::HANDSHAKE_TIMEOUT, WAITS)?,
            shutdown_grace: reader.duration(var::SHUTDOWN_GRACE, WAITS)?,
            drain_spread: reader.duration(var::DRAIN_SPREAD, SPREADS)?,
            slow_client_timeout: reader.duration(var::SLOW_CLIENT_TIMEOUT, WAITS)?,
            presence_events_max: reader.whole(var::PRESENCE_EVENTS_MAX, 0..=1_000_000)?,
            max_connections: reader.whole(var::MAX_CONNECTIONS, 0..=10_000_000)?,
            max_rooms_per_connection: reader.whole(var::MAX_ROOMS_PER_CONNECTION, 0..=100_000)?,
            allowed_origins: origins::read(reader)?,
            tls: tls::read(reader)?,
            admission: AdmissionConfig::read(reader)?,
            rate_limit_messages: reader.whole(var::RATE_LIMIT_MESSAGES, 0..=1_000_000)?,
            rate_limit_window: reader.duration(var::RATE_LIMIT_WINDOW, WAITS)?,
            rate_limit_requests: reader.whole(var::RATE_LIMIT_REQUESTS, 0..=1_000_000)?,
            api_key: reader.bearer(var::API_KEY, MIN_API_KEY)?,
            metrics_token: reader.bearer(var::METRICS_TOKEN, 1)?,
            node_id: node_id(reader)?,
            log_level: log_level(reader)?,
            log_format: log_format(reader)?,
        };
        // A UTF-16 unit takes a byte at least: such a text could never arrive.
        if config.max_text > config.max_frame {
            return Err(ConfigError::new(
                var::MAX_TEXT_LENGTH.name,
                format_args!(
                    "holds \"{}\"; it takes at most MAX_FRAME_BYTES, {} here",
                    config.max_text, config.max_frame
                ),
            ));
        }
        Ok(config)
    }
}

fn refuse_what_is_not_there_yet(reader: &Reader<'_>) -> Result<(), ConfigError> {
    match var::NOT_YET.iter().find(|name| reader.set(name).is_some()) {
        Some(name) => Err(ConfigError::new(
            name,
            "is set (value not shown), but is not supported by this version; leave it unset",
        )),
        None => Ok(()),
    }
}

fn node_id(reader: &Reader<'_>) -> Result<NodeId, ConfigError> {
    let takes = "1 to 64 letters, digits, '-', '_' and '.'";
    let set = reader.optional(var::NODE_ID, takes, |value| NodeId::parse(value).ok())?;
    Ok(set.unwrap_or_else(NodeId::random))
}

fn log_level(reader: &Reader<'_>) -> Result<LogLevel, ConfigError> {
    reader.required(var::LOG_LEVEL, var::LOG_LEVEL.meaning, |value| {
        Some(match value.to_ascii_lowercase().as_str() {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => return None,
        })
    })
}

fn log_format(reader: &Reader<'_>) -> Result<LogFormat, ConfigError> {
    if reader.set(var::LOG_FORMAT.name).is_none() && std::io::stdout().is_terminal() {
        return Ok(LogFormat::Pretty);
    }
    reader.required(var::LOG_FORMAT, "json or pretty", |value| {
        Some(match value.to_ascii_lowercase().as_str() {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            _ => return None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn dev_draws_a_secret_and_stays_at_home() {
        let source = |name: &str| (name == "HOST").then(|| "0.0.0.0".to_owned());
        let (one, two) = (Config::dev(&source).unwrap(), Config::dev(&source).unwrap());
        assert!(one.host.is_loopback());
        let drawn = one.jwt.secret.unwrap();
        assert!(drawn.expose().len() >= MIN_SECRET);
        assert_ne!(Some(drawn), two.jwt.secret);
        assert_ne!(one.node_id, two.node_id);
    }

    #[test]
    fn dev_takes_a_secret_that_is_set() {
        let source = |name: &str| (name == "JWT_SECRET").then(|| SECRET.to_owned());
        let config = Config::dev(&source).unwrap();
        assert_eq!(config.jwt.secret.unwrap().expose(), SECRET);
        assert!(Config::dev(&|_| Some("short".to_owned())).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let source = |name: &str| match name {
            "JWT_SECRET"
            | "JWT_PREVIOUS_SECRET"
            | "REDIS_PASSWORD"
            | "API_KEY"
            | "METRICS_TOKEN" => Some(SECRET.to_owned()),
            _ => None,
        };
        let shown = format!("{:?}", Config::read(&source).unwrap());
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
