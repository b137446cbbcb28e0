//! `piazza check`: reads the configuration, tries the broker, and says what it found.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Failure, block_on, print, read_config};
use crate::broker;
use crate::config::{BrokerConfig, Config, JwtConfig};

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
    // Writing to a String never fails.
    for way in ways_to_verify(&config.jwt) {
        let _ = writeln!(text, "            tokens by {way}");
    }
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

/// What tokens may be signed with, and where that comes from.
fn ways_to_verify(jwt: &JwtConfig) -> Vec<String> {
    let mut ways = Vec::new();
    for (name, secret) in [
        ("JWT_SECRET", &jwt.secret),
        ("JWT_PREVIOUS_SECRET", &jwt.previous_secret),
    ] {
        if secret.is_some() {
            ways.push(format!("{name}, HS256"));
        }
    }
    if !jwt.public_keys.is_empty() {
        let keys = jwt.public_keys.iter();
        let names: Vec<&str> = keys.map(|key| key.algorithm().name()).collect();
        ways.push(format!("JWT_PUBLIC_KEY_FILE, {}", names.join(", ")));
    }
    if let Some(url) = &jwt.jwks_url {
        ways.push(format!(
            "JWT_JWKS_URL, RS256, ES256 and EdDSA as {url} has them"
        ));
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_shows_no_secret() {
        let source = |name: &str| match name {
            "JWT_SECRET" => Some("hunter2".repeat(5)),
            "JWT_JWKS_URL" => Some("https://keys/?key=hunter2".to_owned()),
            "REDIS_URL" => Some("redis://me:hunter2@cache:7000/1".to_owned()),
            _ => None,
        };
        let text = summary(&Config::read(&source).unwrap());
        assert!(text.contains("Redis at cache:7000/1"), "{text}");
        assert!(text.contains("tokens by JWT_SECRET, HS256\n"), "{text}");
        assert!(text.contains("as https://keys/ has them\n"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
