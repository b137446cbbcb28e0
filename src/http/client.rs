//! As whom a request counts: which headers are looked at. What they are worth is decided by
//! [`crate::limits::address`].

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use super::App;
use crate::limits::address::{Claims, Source};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// As whom the client counts whose request came from `peer`, with these headers.
pub fn source(app: &App, peer: IpAddr, headers: &HeaderMap) -> Source {
    let lines = headers.get_all(FORWARDED_FOR).iter();
    let forwarded: SmallVec<[&[u8]; 4]> = lines.map(|line| line.as_bytes()).collect();
    let real = headers.get_all(REAL_IP).iter().next_back();
    let claims = Claims {
        forwarded: &forwarded,
        real: real.map(|line| line.as_bytes()),
    };
    app.admission.source(peer, claims)
}
