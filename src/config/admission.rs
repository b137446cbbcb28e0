//! Who gets a connection: how often an address may come, how many connections it and a user may have, and which
//! proxies are believed about addresses.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::reader::{ConfigError, Reader};
use super::variables as var;

/// How long a window of connects may be.
const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const MOST: RangeInclusive<u32> = 0..=1_000_000;
/// Networks in `TRUSTED_PROXIES`: each is looked at for each connect.
const MAX_NETWORKS: usize = 256;

/// The limits at the door, over all nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdmissionConfig {
    /// Connects of an address in one window, up to 1,000,000; 0 is off.
    pub connects: u32,
    /// The window, 1 s to 1 h.
    pub window: Duration,
    /// Connections of a user at once, up to 1,000,000; 0 is off.
    pub per_user: u32,
    /// Connections of an address at once, up to 1,000,000; 0 is off.
    pub per_address: u32,
    /// Proxies whose word on the client's address counts, 256 networks at most.
    pub trusted_proxies: Vec<IpNet>,
}

impl AdmissionConfig {
    pub(super) fn read(reader: &Reader<'_>) -> Result<AdmissionConfig, ConfigError> {
        let takes =
            "up to 256 addresses or networks such as 10.0.0.0/8 or ::1, with commas between them";
        let trusted = reader.optional(var::TRUSTED_PROXIES, takes, networks)?;
        Ok(AdmissionConfig {
            connects: reader.whole(var::RATE_LIMIT_CONNECTS, MOST)?,
            window: reader.duration(var::RATE_LIMIT_CONNECTS_WINDOW, WINDOWS)?,
            per_user: reader.whole(var::MAX_CONNECTIONS_PER_USER, MOST)?,
            per_address: reader.whole(var::MAX_CONNECTIONS_PER_IP, MOST)?,
            trusted_proxies: trusted.unwrap_or_default(),
        })
    }
}

fn networks(list: &str) -> Option<Vec<IpNet>> {
    let networks: Option<Vec<IpNet>> = list.split(',').map(|one| network(one.trim())).collect();
    networks.filter(|networks| networks.len() <= MAX_NETWORKS)
}

/// One of IPv4 that is written as one of IPv6 is one of IPv4, as the addresses are that it is compared with.
fn network(text: &str) -> Option<IpNet> {
    let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse::<IpNet>().ok().or_else(alone)?;
    let mapped = || match network.addr().to_canonical() {
        IpAddr::V4(address) if network.addr().is_ipv6() => {
            let bits = network.prefix_len().checked_sub(96)?;
            Some(IpNet::V4(Ipv4Net::new(address, bits).ok()?))
        }
        _ => None,
    };
    Some(mapped().unwrap_or(network).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_they_are_meant() {
        let read = |list: &str| {
            let networks = networks(list)?;
            let names = networks.iter().map(IpNet::to_string);
            Some(names.collect::<Vec<_>>().join(" "))
        };
        for (list, expected) in [
            ("127.0.0.1", Some("127.0.0.1/32")),
            ("127.0.0.1,::1", Some("127.0.0.1/32 ::1/128")),
            (" 10.1.2.3/8 , fd00::/8 ", Some("10.0.0.0/8 fd00::/8")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:10.0.0.1", Some("10.0.0.1/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/", None),
            ("10.0.0", None),
            ("nginx", None),
            ("127.0.0.1,", None),
            ("127.0.0.1 ::1", None),
        ] {
            assert_eq!(read(list).as_deref(), expected, "{list}");
        }
        assert!(networks(&vec!["::1"; 256].join(",")).is_some());
        assert!(networks(&vec!["::1"; 257].join(",")).is_none());
    }
}
