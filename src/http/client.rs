//! As whom a request counts: which headers are looked at. What they are worth is decided by
//! [`crate::limits::address`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderName;
use smallvec::SmallVec;

use super::App;
use crate::limits::address::{Claims, Source};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// As whom the client counts that this request came from.
pub fn source(app: &App, request: &Request) -> Source {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    // The server says it of every request; all of which it doesn't would share one limit.
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let peer = peer.map_or(unknown, |peer| peer.0.ip());
    let lines = request.headers().get_all(FORWARDED_FOR).iter();
    let forwarded: SmallVec<[&[u8]; 4]> = lines.map(|line| line.as_bytes()).collect();
    let real = request.headers().get_all(REAL_IP).iter().next_back();
    let claims = Claims {
        forwarded: &forwarded,
        real: real.map(|line| line.as_bytes()),
    };
    app.admission.source(peer, claims)
}
