//! By which address a client counts. That is the peer's, unless the peer is a proxy that is trusted to say whom
//! it speaks for. Pure: what the headers hold is handed in.
//!
//! A header is believed only as far as trusted machines wrote it: each proxy adds the address of its own peer at
//! the right end of `X-Forwarded-For`, so the walk goes from there to the left, over those that are trusted
//! themselves, and ends with the first that isn't. What stands further left is that client's own claim.
//! `X-Real-IP` counts only where the other says nothing: it is one value that each proxy replaces or lets pass.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Proxies that a request may have come through; who claims more is taken for the last of these.
const MAX_PROXIES: usize = 32;
/// Bits of an IPv6 address that name a network of one customer; the rest is drawn anew at will.
const NETWORK_BITS: u32 = 64;

/// As whom a client counts: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Source(IpAddr);

impl Source {
    /// The one that this address belongs to.
    pub fn of(address: IpAddr) -> Source {
        Source(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::MAX << (128 - NETWORK_BITS);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & network))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a request says of where it came from.
#[derive(Clone, Copy, Default, Debug)]
pub struct Claims<'a> {
    /// The lines of `X-Forwarded-For`, in order.
    pub forwarded: &'a [&'a [u8]],
    /// The last line of `X-Real-IP`.
    pub real: Option<&'a [u8]>,
}

impl Claims<'_> {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.forwarded.is_empty() && self.real.is_none()
    }
}

/// Whether `address` is one of the proxies that are believed.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// The client's address, where `peer` is who the socket leads to.
pub fn client(peer: IpAddr, claims: Claims<'_>, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, trusted) {
        return peer;
    }
    forwarded(claims.forwarded, trusted)
        .or_else(|| claims.real.and_then(address))
        .unwrap_or(peer)
}

/// Whom `X-Forwarded-For` names: the first from the right that isn't trusted, or else the last that can be
/// read. `None` where that is none.
fn forwarded(lines: &[&[u8]], trusted: &[IpNet]) -> Option<IpAddr> {
    let entries = lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(|b| *b == b','));
    // A list may have empty elements (RFC 9110, section 5.6.1).
    let entries = entries
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty());
    let mut last = None;
    for entry in entries.take(MAX_PROXIES) {
        let Some(address) = address(entry) else { break };
        last = Some(address);
        if !is_trusted(address, trusted) {
            break;
        }
    }
    last
}

/// An address as proxies write it: bare, in brackets, with a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    Some(address?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    /// Peer, lines of X-Forwarded-For, X-Real-IP, and who it is, with 127.0.0.1, ::1 and 10.0.0.0/8 trusted.
    const TABLE: &[(&str, &[&str], Option<&str>, &str)] = &[
        // Nobody claims anything.
        ("203.0.113.9", &[], None, "203.0.113.9"),
        ("127.0.0.1", &[], None, "127.0.0.1"),
        ("::ffff:203.0.113.9", &[], None, "203.0.113.9"),
        // A stranger's claims count for nothing.
        ("203.0.113.9", &["198.51.100.1"], None, "203.0.113.9"),
        (
            "203.0.113.9",
            &["127.0.0.1, 10.0.0.1"],
            Some("198.51.100.1"),
            "203.0.113.9",
        ),
        (
            "127.0.0.2",
            &["198.51.100.1"],
            Some("198.51.100.1"),
            "127.0.0.2",
        ),
        // One proxy.
        ("127.0.0.1", &["198.51.100.1"], None, "198.51.100.1"),
        ("::1", &["198.51.100.1"], None, "198.51.100.1"),
        ("::ffff:127.0.0.1", &["198.51.100.1"], None, "198.51.100.1"),
        (
            "127.0.0.1",
            &["198.51.100.1"],
            Some("203.0.113.1"),
            "198.51.100.1",
        ),
        ("127.0.0.1", &[], Some("203.0.113.1"), "203.0.113.1"),
        // What the client itself sent stands left of what the proxy added.
        (
            "127.0.0.1",
            &["6.6.6.6, 198.51.100.1"],
            None,
            "198.51.100.1",
        ),
        (
            "127.0.0.1",
            &["6.6.6.6", "198.51.100.1"],
            None,
            "198.51.100.1",
        ),
        (
            "127.0.0.1",
            &["127.0.0.1, 10.1.1.1, 198.51.100.1"],
            None,
            "198.51.100.1",
        ),
        (
            "127.0.0.1",
            &["rubbish, 198.51.100.1"],
            None,
            "198.51.100.1",
        ),
        // Several proxies.
        (
            "127.0.0.1",
            &["6.6.6.6, 198.51.100.1, 10.1.1.1, 10.2.2.2"],
            None,
            "198.51.100.1",
        ),
        (
            "127.0.0.1",
            &["6.6.6.6, 198.51.100.1", "10.1.1.1", "10.2.2.2"],
            None,
            "198.51.100.1",
        ),
        // All of them are trusted: it began at the leftmost.
        ("127.0.0.1", &["10.1.1.1, 10.2.2.2"], None, "10.1.1.1"),
        // What can't be read ends the walk.
        (
            "127.0.0.1",
            &["198.51.100.1, unknown, 10.2.2.2"],
            None,
            "10.2.2.2",
        ),
        ("127.0.0.1", &["198.51.100.1, unknown"], None, "127.0.0.1"),
        (
            "127.0.0.1",
            &["198.51.100.1, unknown"],
            Some("203.0.113.1"),
            "203.0.113.1",
        ),
        (
            "127.0.0.1",
            &["198.51.100.1, _hidden"],
            Some("?"),
            "127.0.0.1",
        ),
        ("127.0.0.1", &["", " , ,"], None, "127.0.0.1"),
        ("127.0.0.1", &["198.51.100.1,, ,"], None, "198.51.100.1"),
        ("127.0.0.1", &["1.2.3.4.5"], None, "127.0.0.1"),
        ("127.0.0.1", &["1.2.3.256"], None, "127.0.0.1"),
        ("127.0.0.1", &["010.0.0.1"], None, "127.0.0.1"),
        ("127.0.0.1", &["fe80::1%eth0"], None, "127.0.0.1"),
        ("127.0.0.1", &["ß"], None, "127.0.0.1"),
        // Ports and brackets.
        ("127.0.0.1", &["198.51.100.1:4711"], None, "198.51.100.1"),
        ("127.0.0.1", &["[2001:db8::7]:4711"], None, "2001:db8::7"),
        ("127.0.0.1", &["[2001:db8::7]"], None, "2001:db8::7"),
        ("127.0.0.1", &["2001:db8::7"], None, "2001:db8::7"),
        ("127.0.0.1", &["::ffff:198.51.100.1"], None, "198.51.100.1"),
        (
            "127.0.0.1",
            &["[::ffff:198.51.100.1]:80, 10.0.0.1:80"],
            None,
            "198.51.100.1",
        ),
        ("127.0.0.1", &["198.51.100.1:99999"], None, "127.0.0.1"),
        ("127.0.0.1", &[], Some("[2001:db8::7]:1"), "2001:db8::7"),
    ];

    #[test]
    fn the_client_is_whom_trusted_machines_name() {
        let trusted = nets(&["127.0.0.1/32", "::1/128", "10.0.0.0/8"]);
        for (peer, lines, real, expected) in TABLE {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let claims = Claims {
                forwarded: &lines,
                real: real.map(str::as_bytes),
            };
            let found = client(ip(peer), claims, &trusted);
            assert_eq!(found, ip(expected), "{peer} with {lines:?} and {real:?}");
        }
    }

    #[test]
    fn without_trusted_proxies_the_peer_is_the_client() {
        for (peer, lines, real, _) in TABLE {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let claims = Claims {
                forwarded: &lines,
                real: real.map(str::as_bytes),
            };
            assert_eq!(client(ip(peer), claims, &[]), ip(peer).to_canonical());
        }
    }

    #[test]
    fn no_more_than_so_many_proxies_are_looked_at() {
        let trusted = nets(&["10.0.0.0/8"]);
        let chain = |proxies: usize| {
            let proxies = (1..=proxies).map(|n| format!(", 10.0.0.{n}"));
            "198.51.100.1".to_owned() + &proxies.rev().collect::<String>()
        };
        let found = |chain: &str| {
            let claims = Claims {
                forwarded: &[chain.as_bytes()],
                real: None,
            };
            client(ip("10.0.0.0"), claims, &trusted)
        };
        assert_eq!(found(&chain(MAX_PROXIES - 1)), ip("198.51.100.1"));
        assert_eq!(found(&chain(MAX_PROXIES)), ip("10.0.0.32"));
        assert_eq!(found(&chain(200)), ip("10.0.0.32"));
    }

    #[test]
    fn what_is_no_text_is_no_address() {
        let claims = Claims {
            forwarded: &[b"198.51.100.1, \xff\xfe"],
            real: Some(b"\xff"),
        };
        let trusted = nets(&["127.0.0.1/32"]);
        assert_eq!(client(ip("127.0.0.1"), claims, &trusted), ip("127.0.0.1"));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let source = |text: &str| Source::of(ip(text));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:1.2.3.4"), source("1.2.3.4"));
        assert_ne!(source("1.2.3.4"), source("1.2.3.5"));
        assert_eq!(source("2001:db8:1:2:3:4:5:6").to_string(), "2001:db8:1:2::");
    }
}
