//! The token of an upgrade, in whichever of three places it came.

use std::borrow::Cow;

use axum::http::{Request, header};

use super::bearer;
use super::form::{self, Doubled, words};
use crate::auth::Denied;

/// What a subprotocol that carries the token begins with.
const BEARER_PROTOCOL: &str = "bearer.";

/// The token: from the query, else the `Authorization` header, else the subprotocols; the first place that
/// has one counts. Two in one place are refused: a proxy may have looked at the other one.
///
/// # Errors
/// There is none, or more than one in a place.
pub fn of_upgrade<B>(request: &Request<B>) -> Result<String, Denied> {
    let in_query = match request.uri().query() {
        Some(query) => only(tokens(query))?,
        None => None,
    };
    if let Some(token) = in_query {
        return Ok(token.into_owned());
    }
    let headers = request.headers();
    form::only(headers, header::AUTHORIZATION).map_err(|Doubled| Denied::SEVERAL)?;
    if let Some(token) = bearer::of(headers).and_then(|token| std::str::from_utf8(token).ok()) {
        return Ok(token.to_owned());
    }
    let offers = words(headers, header::SEC_WEBSOCKET_PROTOCOL);
    let token = only(offers.filter_map(|offer| offer.strip_prefix(BEARER_PROTOCOL)))?;
    token.map(str::to_owned).ok_or(Denied::MISSING)
}

/// The tokens of a query, which are not empty. A token's own characters are never escaped, and to look for what is
/// costs more than to verify it: so a query without any is only taken apart.
fn tokens(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let is_plain = !query.bytes().any(|byte| matches!(byte, b'%' | b'+'));
    let (plain, escaped) = if is_plain { (query, "") } else { ("", query) };
    let plain = plain.split('&').filter_map(|pair| pair.split_once('='));
    let plain = plain.map(|(name, token)| (name.into(), token.into()));
    let pairs = plain.chain(form_urlencoded::parse(escaped.as_bytes()));
    let tokens = pairs.filter(|(name, token)| name == "token" && !token.is_empty());
    tokens.map(|(_, token)| token)
}

fn only<T>(mut all: impl Iterator<Item = T>) -> Result<Option<T>, Denied> {
    let first = all.next();
    if all.next().is_some() {
        return Err(Denied::SEVERAL);
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_alike_whether_or_not_something_is_escaped() {
        let queries = [
            ("", ""),
            ("token", ""),
            ("token=", ""),
            ("token=a.b-c_d", "a.b-c_d"),
            ("x=1&token=a&", "a"),
            ("&&token=a=b", "a=b"),
            ("token=a&token=b&token=", "a b"),
            ("Token=a&tokens=b&=token&tok=en", ""),
        ];
        for (query, expected) in queries {
            for query in [query.to_owned(), format!("{query}&%41=+")] {
                let found: Vec<_> = tokens(&query).collect();
                assert_eq!(found.join(" "), expected, "{query}");
            }
        }
        let escaped: Vec<_> = tokens("%74oken=%61+b&token=%ff").collect();
        assert_eq!(escaped, ["a b", "\u{fffd}"]);
    }
}
