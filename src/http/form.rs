//! What every request must be, whatever it asks for, and what a WebSocket's opening handshake must be
//! besides. What hyper refuses by itself (a head that can't be read) never comes here.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::HttpError;

/// What a request must be before anything else of it is looked at: of HTTP/1.1 it has one `Host`, which is
/// one (RFC 9112, section 3.2). Two readers of a request with two hosts may see two requests.
///
/// # Errors
/// 400.
pub fn check<B>(request: &Request<B>) -> Result<(), HttpError> {
    match only(request.headers(), header::HOST) {
        Ok(None) if request.version() < Version::HTTP_11 => Ok(()),
        Ok(None) => Err(HttpError::bad_request("the Host header is missing")),
        Ok(Some(host)) if is_host(host) => Ok(()),
        Ok(Some(_)) => Err(HttpError::bad_request("the Host header is no host")),
        Err(Doubled) => Err(HttpError::bad_request("there is more than one Host header")),
    }
}

/// An empty one is allowed, where the target has no host (RFC 9110, section 7.2).
fn is_host(host: &HeaderValue) -> bool {
    let authority = || Authority::try_from(host.as_bytes());
    host.is_empty() || authority().is_ok_and(|authority| !authority.as_str().contains('@'))
}

/// Whether it asks for a WebSocket (RFC 6455, section 4.2.1, items 3 and 4).
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    words(headers, header::UPGRADE).any(|word| word.eq_ignore_ascii_case("websocket"))
        && words(headers, header::CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade"))
}

/// Checks the other items of RFC 6455, section 4.2.1; gives the client's key.
///
/// # Errors
/// 405 for another method, 426 for another version, 400 otherwise.
pub fn check_upgrade<B>(request: &Request<B>) -> Result<&[u8], HttpError> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(HttpError::METHOD_NOT_ALLOWED);
    }
    if request.version() < Version::HTTP_11 {
        return Err(HttpError::bad_request("a WebSocket needs HTTP/1.1"));
    }
    // Its bytes would be taken for frames, by this server or by a proxy before it.
    if has_body(headers) {
        return Err(HttpError::bad_request("a WebSocket's request has no body"));
    }
    match only(headers, header::SEC_WEBSOCKET_VERSION) {
        Ok(Some(version)) if version == "13" => {}
        Ok(_) => return Err(HttpError::UPGRADE_REQUIRED),
        Err(Doubled) => {
            return Err(HttpError::bad_request(
                "there is more than one Sec-WebSocket-Version",
            ));
        }
    }
    let Ok(key) = only(headers, header::SEC_WEBSOCKET_KEY) else {
        return Err(HttpError::bad_request(
            "there is more than one Sec-WebSocket-Key",
        ));
    };
    let key = key.map_or(&b""[..], HeaderValue::as_bytes);
    if STANDARD.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
        return Err(HttpError::bad_request(
            "Sec-WebSocket-Key must be 16 bytes in base64",
        ));
    }
    Ok(key)
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| length != "0")
}

/// A header that may be there once is there twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doubled;

/// The one header of that name, if there is any.
///
/// # Errors
/// There are several, of which none can be meant.
pub fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, Doubled> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(Doubled),
    }
}

/// The words of a header that is a comma list, over all of its lines.
pub fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}
