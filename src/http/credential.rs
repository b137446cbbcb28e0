//! The token of an upgrade, in whichever of three places it came.

use axum::extract::Query;
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
    let query = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map(|query| query.0);
    let in_query = query
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, token)| name == "token" && !token.is_empty());
    if let Some((_, token)) = only(in_query)? {
        return Ok(token);
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

fn only<T>(mut all: impl Iterator<Item = T>) -> Result<Option<T>, Denied> {
    let first = all.next();
    if all.next().is_some() {
        return Err(Denied::SEVERAL);
    }
    Ok(first)
}
