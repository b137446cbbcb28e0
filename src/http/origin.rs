//! From which web pages a browser may come. A page of another site can open a WebSocket to anywhere and
//! says itself where it is from (cross-site WebSocket hijacking): browsers name it in `Origin`, and no page
//! can change that. Who sends no `Origin` is no browser and passes.
//!
//! Same origin means that the `Origin`'s host and port are those that the request is for (RFC 6454, section
//! 5, but for the scheme, which a node behind a proxy doesn't know). A port that `Host` doesn't name is 443
//! where this node ends TLS itself. Elsewhere it is that of the `Origin`'s scheme: behind a proxy that ends
//! TLS, `Origin: https://chat.example` comes with `Host: chat.example`. That lets
//! `http://chat.example` in with the same `Host`: the same host, whose plain pages are either its own or
//! made by who can read and change its plain traffic anyway.

use axum::http::{HeaderMap, HeaderValue, Uri, header};

use super::form;
use crate::config::{Origin, Origins};

/// What a request says about where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// It names no origin.
    NoBrowser,
    /// It may come from there.
    Allowed(&'a HeaderValue),
    /// It may not; or it names several origins, or what is none.
    Refused,
}

/// Judges a request. `tls`: this node ends TLS itself.
pub fn judge<'a>(allowed: &Origins, tls: bool, uri: &Uri, headers: &'a HeaderMap) -> Verdict<'a> {
    let mut named = headers.get_all(header::ORIGIN).iter();
    let Some(first) = named.next() else {
        return Verdict::NoBrowser;
    };
    let one = named.next().is_none().then_some(first);
    let origin = || Origin::parse(one?.to_str().ok()?);
    let is_allowed = match allowed {
        Origins::Any => true,
        Origins::Listed(list) => origin().is_some_and(|origin| list.contains(&origin)),
        Origins::Same => origin()
            .zip(authority(uri, headers))
            .is_some_and(|(origin, place)| origin.is_at(place, tls.then_some(443))),
    };
    if is_allowed {
        Verdict::Allowed(first)
    } else {
        Verdict::Refused
    }
}

/// What the request is for: a target with an authority goes before `Host` (RFC 9112, section 3.2.2), and of
/// several `Host`s none counts.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str());
    }
    let host = form::only(headers, header::HOST).ok()??;
    host.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict, as a letter: `-` no browser, `+` allowed, `x` refused.
    fn verdict(allowed: &Origins, tls: bool, target: &str, hosts: &[&str], from: &[&str]) -> char {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        for origin in from {
            let value = HeaderValue::from_bytes(origin.as_bytes()).unwrap();
            headers.append(header::ORIGIN, value);
        }
        match judge(allowed, tls, &target.parse().unwrap(), &headers) {
            Verdict::NoBrowser => '-',
            Verdict::Allowed(_) => '+',
            Verdict::Refused => 'x',
        }
    }

    fn same(tls: bool, host: &str, origin: &str) -> char {
        verdict(&Origins::Same, tls, "/ws", &[host], &[origin])
    }

    #[test]
    fn the_same_origin() {
        for (host, origin, plain, tls) in [
            ("chat.example", "https://chat.example", '+', '+'),
            ("chat.example", "http://chat.example", '+', 'x'),
            ("chat.example", "HTTPS://CHAT.example:443", '+', '+'),
            ("CHAT.example", "https://chat.example", '+', '+'),
            ("chat.example:443", "https://chat.example", '+', '+'),
            ("chat.example:", "https://chat.example", '+', '+'),
            ("chat.example:80", "http://chat.example", '+', '+'),
            ("chat.example:80", "https://chat.example", 'x', 'x'),
            ("chat.example:443", "http://chat.example", 'x', 'x'),
            ("chat.example:8443", "https://chat.example:8443", '+', '+'),
            ("chat.example:8443", "https://chat.example", 'x', 'x'),
            ("chat.example", "https://chat.example:8443", 'x', 'x'),
            ("chat.example", "https://evil.example", 'x', 'x'),
            (
                "chat.example",
                "https://chat.example.evil.example",
                'x',
                'x',
            ),
            ("chat.example", "https://evil-chat.example", 'x', 'x'),
            ("chat.example", "https://a.chat.example", 'x', 'x'),
            ("chat.example", "https://chat.example.", 'x', 'x'),
            (
                "chat.example",
                "https://chat.example@evil.example",
                'x',
                'x',
            ),
            ("chat.example", "https://chat.example/", 'x', 'x'),
            ("chat.example", "chat.example", 'x', 'x'),
            ("chat.example", "null", 'x', 'x'),
            ("chat.example", "", 'x', 'x'),
            ("chat.example", "https://chat.exämple", 'x', 'x'),
            ("chat.example", "app://chat.example", 'x', 'x'),
            ("[::1]:8080", "http://[::1]:8080", '+', '+'),
            ("[::1]:8080", "http://[0:0::1]:8080", '+', '+'),
            ("127.0.0.1:8080", "http://localhost:8080", 'x', 'x'),
            ("xn--a.example", "https://xn--A.example", '+', '+'),
        ] {
            assert_eq!(same(false, host, origin), plain, "{origin} for {host}");
            assert_eq!(same(true, host, origin), tls, "{origin} for {host}, TLS");
        }
    }

    #[test]
    fn who_names_none_passes_and_who_names_two_does_not() {
        let here = "https://a";
        let listed = Origins::Listed(vec![Origin::parse(here).unwrap()]);
        for (allowed, two, none) in [
            (Origins::Same, 'x', 'x'),
            (listed, 'x', 'x'),
            (Origins::Any, '+', '+'),
        ] {
            assert_eq!(verdict(&allowed, false, "/", &["a"], &[]), '-');
            assert_eq!(verdict(&allowed, false, "/", &["a"], &[here]), '+');
            assert_eq!(verdict(&allowed, false, "/", &["a"], &[here, here]), two);
            assert_eq!(verdict(&allowed, false, "/", &["a"], &["null"]), none);
        }
    }

    #[test]
    fn a_list_is_what_it_says() {
        let origins = ["https://a", "http://b:8080"].map(|o| Origin::parse(o).unwrap());
        let listed = Origins::Listed(origins.into());
        for (origin, outcome) in [
            ("https://a:443", '+'),
            ("https://A", '+'),
            ("http://b:8080", '+'),
            ("http://a", 'x'),
            ("https://b:8080", 'x'),
            // Its own host isn't in the list.
            ("https://here", 'x'),
        ] {
            let found = verdict(&listed, false, "/", &["here"], &[origin]);
            assert_eq!(found, outcome, "{origin}");
        }
    }

    #[test]
    fn the_target_goes_before_host_and_one_host_must_be_there() {
        let judged =
            |target, hosts: &[&str]| verdict(&Origins::Same, false, target, hosts, &["http://a"]);
        assert_eq!(judged("http://a/ws", &["b"]), '+');
        assert_eq!(judged("http://b/ws", &["a"]), 'x');
        assert_eq!(judged("/ws", &[]), 'x');
        assert_eq!(judged("/ws", &["a", "a"]), 'x');
    }
}
