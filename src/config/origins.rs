//! `ALLOWED_ORIGINS`: from which web pages a browser may come. An origin is a scheme, a host and a port
//! (RFC 6454, section 4); it is written without a path. Scheme and host are compared in lower case, an IPv6
//! address by its value, and a port that is the scheme's own may be left out. A host in Punycode is taken as
//! it is written, as browsers send it so.

use std::net::Ipv6Addr;

use super::reader::{ConfigError, Reader};
use super::variables as var;

/// Longest host in bytes.
const MAX_HOST: usize = 255;
/// Longest scheme in bytes.
const MAX_SCHEME: usize = 32;
/// Most origins of a list.
const MAX_ORIGINS: usize = 1_000;

/// One origin, in the form in which two that are the same are equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    scheme: String,
    host: String,
    /// `None` where the scheme has no port of its own and none is named.
    port: Option<u16>,
}

/// Which origins are allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origins {
    /// Where host and port are those that the request is for.
    Same,
    /// These.
    Listed(Vec<Origin>),
    /// Any, and what is none.
    Any,
}

impl Origin {
    /// Reads what a browser sends as `Origin`; `None` for what isn't one origin, `null` among it.
    pub fn parse(text: &str) -> Option<Origin> {
        let (scheme, place) = text.split_once("://")?;
        let scheme = (scheme.len() <= MAX_SCHEME && is_scheme(scheme)).then_some(scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split(place)?;
        let port = match port {
            Some(port) => Some(number(port)?),
            None => default_port(&scheme),
        };
        Some(Origin { scheme, host, port })
    }

    /// Whether host and port are those of `authority`, which is what `Host` holds. A port that isn't named
    /// there is `default`, else the one of the origin's own scheme: who ends TLS in front of this node
    /// leaves 443 out, and the node itself can't know that there is TLS at all.
    pub fn is_at(&self, authority: &str, default: Option<u16>) -> bool {
        let Some((host, port)) = split(authority) else {
            return false;
        };
        let port = match port {
            None | Some("") => default.or_else(|| default_port(&self.scheme)),
            Some(port) => number(port),
        };
        port.is_some() && port == self.port && host == self.host
    }
}

/// The port that a scheme has where none is named.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

fn is_scheme(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(rest)
}

/// `host` or `host:port` as a host in its one form, and the port as it is written.
fn split(place: &str) -> Option<(String, Option<&str>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            port => Some(port?),
        };
        return Some((format!("[{address}]"), port));
    }
    let (host, port) = match place.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    };
    // What a registered name may be made of (RFC 3986, section 3.2.2), less what no host has.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let is_host = !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(plain);
    is_host.then(|| (host.to_ascii_lowercase(), port))
}

fn number(port: &str) -> Option<u16> {
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    port.parse().ok().filter(|_| digits)
}

/// Reads the variable.
pub(super) fn read(reader: &Reader<'_>) -> Result<Origins, ConfigError> {
    let takes = "* for any, or a comma list of origins such as https://chat.example:8443";
    let read = reader.optional(var::ALLOWED_ORIGINS, takes, list)?;
    Ok(read.unwrap_or(Origins::Same))
}

fn list(text: &str) -> Option<Origins> {
    if text.trim() == "*" {
        return Some(Origins::Any);
    }
    let origins: Option<Vec<Origin>> = text
        .split(',')
        .map(|origin| Origin::parse(origin.trim()))
        .collect();
    let origins = origins.filter(|origins| origins.len() <= MAX_ORIGINS)?;
    Some(Origins::Listed(origins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_to_write_an_origin_are_one() {
        for (one, other) in [
            ("https://a.example", "HTTPS://A.Example:443"),
            ("http://a", "http://a:80"),
            ("http://a", "http://a:00080"),
            ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080"),
            ("http://[2001:DB8::a]", "http://[2001:db8:0::A]:80"),
        ] {
            assert_eq!(Origin::parse(one).unwrap(), Origin::parse(other).unwrap());
        }
        for (one, other) in [
            ("https://a", "http://a"),
            ("https://a", "https://a:8443"),
            ("https://a", "https://b"),
            ("https://a", "https://a."),
            ("https://xn--mnchen-3ya.example", "https://munchen.example"),
            ("app://a", "app://a:80"),
        ] {
            assert_ne!(Origin::parse(one).unwrap(), Origin::parse(other).unwrap());
        }
    }

    #[test]
    fn what_is_no_origin() {
        for text in [
            "",
            "null",
            "*",
            "a",
            "a:80",
            "//a",
            "://a",
            "1a://b",
            "https:a",
            "https:/a",
            "https://",
            "https://a/",
            "https://a/b",
            "https://a?b",
            "https://a#b",
            "https://u@a",
            "https://a b",
            "https://a https://b",
            "https://a,https://b",
            "https://a:",
            "https://a:x",
            "https://a:+80",
            "https://a:65536",
            "https://a:80:80",
            "https://[::1",
            "https://[::1]x",
            "https://[a]",
            "https://::1",
            "https://ä",
            "https://a\\b",
            "https://*.a",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
        let long = format!("https://{}", "a".repeat(MAX_HOST + 1));
        assert_eq!(Origin::parse(&long), None);
    }

    #[test]
    fn lists() {
        assert_eq!(list(" * "), Some(Origins::Any));
        let two = list("https://a, app://localhost").unwrap();
        let origins = ["https://a:443", "app://localhost"].map(|o| Origin::parse(o).unwrap());
        assert_eq!(two, Origins::Listed(origins.into()));
        for bad in [
            "null",
            "https://a,",
            "https://a/",
            "*,https://a",
            "a.example",
        ] {
            assert_eq!(list(bad), None, "{bad}");
        }
    }
}
