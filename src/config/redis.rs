//! Where Redis is: `REDIS_URL`, or its pieces in variables of their own. Where both speak, the URL
//! wins for what it says and the others add the rest. The URL is read here, without the client
//! library, so that an error can say what is wrong with it and never shows the password in it.

use std::net::Ipv6Addr;

use super::reader::{ConfigError, Reader, Secret};
use super::variables as var;

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 6379;
const URL_TAKES: &str = "redis://[[user]:password@]host[:port][/db], or rediss:// for TLS";
/// Largest number of a database.
const MAX_DB: u32 = i32::MAX.cast_unsigned();

/// How to reach Redis, and what its keys begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisConfig {
    /// Name or address of the host; an IPv6 address without brackets.
    pub host: String,
    /// Whether it is spoken to under TLS, by what the system trusts.
    pub tls: bool,
    /// TCP port, never 0.
    pub port: u16,
    /// The ACL user; only ever there with a password.
    pub username: Option<String>,
    /// Its password, or that of the default user.
    pub password: Option<Secret>,
    /// Number of the database.
    pub db: u32,
    /// In front of every key and channel: 1 to 64 bytes without white space, control characters,
    /// `{` or `}`.
    pub prefix: String,
}

impl RedisConfig {
    /// `host:port/db`, for logs: without user and password.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}/{}", self.host, self.port, self.db)
        } else {
            format!("{}:{}/{}", self.host, self.port, self.db)
        }
    }

    /// Reads the variables; `None` where none is set.
    pub(super) fn read(reader: &Reader<'_>) -> Result<Option<RedisConfig>, ConfigError> {
        let prefix = reader.required(
            var::REDIS_PREFIX,
            "1 to 64 bytes without white space, control characters, '{' or '}'",
            prefix,
        )?;
        let pieces = Pieces {
            host: reader.optional(var::REDIS_HOST, "a host name or an IP address", host)?,
            tls: false,
            port: reader.optional(var::REDIS_PORT, "a port from 1 to 65535", port)?,
            username: reader.text(var::REDIS_USERNAME, 512)?,
            password: reader.secret(var::REDIS_PASSWORD, 1)?,
            db: reader.optional(
                var::REDIS_DB,
                format_args!("a whole number from 0 to {MAX_DB}"),
                db,
            )?,
        };
        let said = match reader.set(var::REDIS_URL.name) {
            Some(url) => Pieces::of_url(&url)
                .map_err(|problem| ConfigError::new(var::REDIS_URL.name, problem))?
                .or(pieces),
            None if pieces == Pieces::default() => return Ok(None),
            None => pieces,
        };
        if said.username.is_some() && said.password.is_none() {
            // Without a password Redis clients don't log in at all, and would be the default user.
            return Err(ConfigError::new(
                var::REDIS_USERNAME.name,
                "is set (or the user in REDIS_URL) without a password; it takes REDIS_PASSWORD beside it",
            ));
        }
        Ok(Some(RedisConfig {
            host: said.host.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
            tls: said.tls,
            port: said.port.unwrap_or(DEFAULT_PORT),
            username: said.username,
            password: said.password,
            db: said.db.unwrap_or(0),
            prefix,
        }))
    }
}

/// What was said about where Redis is.
#[derive(Default, PartialEq, Eq, Debug)]
struct Pieces {
    host: Option<String>,
    /// Only a URL says so.
    tls: bool,
    port: Option<u16>,
    username: Option<String>,
    password: Option<Secret>,
    db: Option<u32>,
}

impl Pieces {
    /// These, and from `other` what they don't say. User and password go together: another user's
    /// password would be the wrong one.
    fn or(self, other: Pieces) -> Pieces {
        let (username, password) = match (self.username, self.password) {
            (None, None) => (other.username, other.password),
            (Some(username), None) if other.username.as_ref().is_none_or(|u| *u == username) => {
                (Some(username), other.password)
            }
            both => both,
        };
        Pieces {
            host: self.host.or(other.host),
            tls: self.tls || other.tls,
            port: self.port.or(other.port),
            username,
            password,
            db: self.db.or(other.db),
        }
    }

    /// Reads a URL; the error never repeats more of it than its scheme.
    fn of_url(url: &str) -> Result<Pieces, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("a value without redis://"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(wrong("a URL of another scheme")),
        };
        if rest.contains(['?', '#']) {
            return Err(wrong(
                "a URL with '?' or '#', of which none is read (in a password: %3F, %23)",
            ));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (user, place),
            None => ("", authority),
        };
        let (username, password) = user.split_once(':').unwrap_or((user, ""));
        let (name, port_text) = split_port(place)?;
        Ok(Pieces {
            host: Some(host(name).ok_or_else(|| wrong("a URL without a proper host"))?),
            tls,
            port: non_empty(port_text)
                .map(|text| port(text).ok_or_else(|| wrong("a URL whose port is none")))
                .transpose()?,
            username: non_empty(username).map(decode).transpose()?,
            password: non_empty(password)
                .map(decode)
                .transpose()?
                .map(Secret::new),
            db: non_empty(path)
                .map(|text| db(text).ok_or_else(|| wrong("a URL whose database is no number")))
                .transpose()?,
        })
    }
}

fn wrong(held: &str) -> String {
    format!("holds {held}; it takes {URL_TAKES}")
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`, as host (brackets and all) and port, which may be empty.
fn split_port(place: &str) -> Result<(&str, &str), String> {
    let Some(end) = place.find(']') else {
        return Ok(place.split_once(':').unwrap_or((place, "")));
    };
    let (name, rest) = place
        .split_at_checked(end + 1)
        .ok_or_else(|| wrong("a URL without a proper host"))?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((name, port)),
        None if rest.is_empty() => Ok((name, "")),
        None => Err(wrong("a URL without a proper host")),
    }
}

/// A host name or address; an IPv6 address with or without its brackets.
fn host(text: &str) -> Option<String> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    if let Some(inner) = bracketed {
        return inner.parse::<Ipv6Addr>().ok().map(|v6| v6.to_string());
    }
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        return Some(v6.to_string());
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (!text.is_empty() && text.len() <= 253 && text.bytes().all(plain)).then(|| text.to_owned())
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

fn db(text: &str) -> Option<u32> {
    text.parse().ok().filter(|db| *db <= MAX_DB)
}

fn prefix(text: &str) -> Option<String> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || c == '{' || c == '}';
    (text.len() <= 64 && !text.contains(bad)).then(|| text.to_owned())
}

/// Undoes percent-encoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.extend(u8::try_from(high * 16 + low)),
            _ => return Err(wrong("a URL with a '%' that encodes nothing")),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong("a URL whose user or password is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<RedisConfig>, ConfigError> {
        let source = |name: &str| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        RedisConfig::read(&Reader::new(&source))
    }

    fn url(url: &str) -> RedisConfig {
        read(&[("REDIS_URL", url)]).unwrap().unwrap()
    }

    #[test]
    fn urls() {
        assert_eq!(url("redis://127.0.0.1:7000/").address(), "127.0.0.1:7000/0");
        assert_eq!(url("redis://cache").address(), "cache:6379/0");
        assert_eq!(url("redis://[::1]:7000/3").address(), "[::1]:7000/3");
        assert_eq!(url("REDIS://[::1]").host, "::1");
        assert!(!url("redis://cache").tls);
        let secure = url("Rediss://:pw@cache:7000/1");
        assert!(secure.tls);
        assert_eq!(secure.address(), "cache:7000/1");
        let full = url("redis://me:p%40ss:%C3%A9@h");
        assert_eq!(full.username.as_deref(), Some("me"));
        assert_eq!(full.password, Some(Secret::new("p@ss:é")));
        let no_user = url("redis://:a@b@h");
        assert_eq!(no_user.username, None);
        assert_eq!(no_user.password, Some(Secret::new("a@b")));
    }

    #[test]
    fn none_set_is_no_redis_and_one_is_enough() {
        assert_eq!(read(&[("REDIS_PREFIX", "x:"), ("REDIS_URL", "")]), Ok(None));
        let one = read(&[("REDIS_PORT", "7000")]).unwrap().unwrap();
        assert_eq!(one.address(), "127.0.0.1:7000/0");
        assert_eq!(one.prefix, "chat:");
    }

    #[test]
    fn the_url_wins_for_what_it_says() {
        let both = read(&[
            ("REDIS_URL", "redis://a:1"),
            ("REDIS_HOST", "b"),
            ("REDIS_PORT", "2"),
            ("REDIS_DB", "3"),
            ("REDIS_PASSWORD", "pw"),
        ]);
        let both = both.unwrap().unwrap();
        assert_eq!(both.address(), "a:1/3");
        assert_eq!(both.password, Some(Secret::new("pw")));
        let users = read(&[
            ("REDIS_URL", "redis://:theirs@a"),
            ("REDIS_USERNAME", "me"),
            ("REDIS_PASSWORD", "mine"),
        ]);
        assert_eq!(users.unwrap().unwrap().username, None);
    }

    #[test]
    fn bad_urls_are_refused_without_their_password() {
        for bad in [
            "hunter2",
            "redis://",
            "redis://:hunter2@",
            "redis://:hunter2@/0",
            "redis://:hunter2@h:0",
            "redis://:hunter2@h:70000",
            "redis://:hunter2",
            "redis://:hunter2@h/x",
            "redis://:hunter2/@h",
            "redis://:hunter2@h?x=1",
            "redis://:hunter2@[::1]x",
            "redis://:hunter2@[h]",
            "redis://:hunter2@]",
            "redis://:hunter2%@h",
            "redis://:hunter2%f@h",
            "redis://:hunter2%ff@h",
            "redis://hunter2@h",
            "rediss://:hunter2@h?x=1",
            "unix:///hunter2",
        ] {
            let line = read(&[("REDIS_URL", bad)]).unwrap_err().to_string();
            assert!(line.starts_with("REDIS_"), "{bad}: {line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }
}
