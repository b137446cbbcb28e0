//! `piazza check`: reads the configuration, tries the broker, and says what it found.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Failure, block_on, print, read_config};
use crate::broker;
use crate::config::{BrokerConfig, Config};

/// How long the broker has to answer.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Says what was found; 0 where a node would serve with it.
///
/// # Errors
/// A bad configuration, or a broker that can't be used.
pub fn run(dev: bool) -> Result<u8, Failure> {
    let config = read_config(dev)?;
    print(&summary(&config))?;
    let probe = async { tokio::time::timeout(PROBE_LIMIT, broker::probe(&config)).await };
    match block_on(tokio::runtime::Builder::new_current_thread(), probe)? {
        Ok(Ok(found)) => {
            print(&format!("found       {found}\n"))?;
            Ok(0)
        }
        Ok(Err(problem)) => Err(Failure::fault(format_args!("the broker: {problem}"))),
        Err(_) => Err(Failure::fault(format_args!(
            "the broker: no answer within {} s",
            PROBE_LIMIT.as_secs()
        ))),
    }
}

fn summary(config: &Config) -> String {
    let mut text = format!(
        "configured  listens on {}{}\n",
        SocketAddr::new(config.host, config.port),
        if config.tls.is_some() { ", TLS" } else { "" }
    );
    let keys = if config.jwt.previous_secret.is_some() {
        "JWT_SECRET and JWT_PREVIOUS_SECRET"
    } else {
        "JWT_SECRET"
    };
    // Writing to a String never fails.
    let _ = writeln!(text, "            tokens by {keys}, HS256");
    let _ = match &config.broker {
        BrokerConfig::Embedded => writeln!(
            text,
            "            the embedded broker: this node is alone (set REDIS_URL for more)"
        ),
        BrokerConfig::Redis(redis) => writeln!(
            text,
            "            Redis at {}{}, keys begin with {:?}",
            redis.address(),
            if redis.tls { " under TLS" } else { "" },
            redis.prefix
        ),
    };
    let _ = writeln!(
        text,
        "            {} messages a room, kept for {}",
        config.history_limit,
        humantime::format_duration(config.history_ttl)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_shows_no_secret() {
        let source = |name: &str| match name {
            "JWT_SECRET" => Some("hunter2".repeat(5)),
            "REDIS_URL" => Some("redis://me:hunter2@cache:7000/1".to_owned()),
            _ => None,
        };
        let text = summary(&Config::read(&source).unwrap());
        assert!(text.contains("Redis at cache:7000/1"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
