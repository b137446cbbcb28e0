//! Who calls: extractors that a handler takes before anything else of a request. A request that isn't
//! from such a caller is answered here, and the handler never runs.
//!
//! Both a user's JWT and the operator's key come as `Authorization: Bearer …`. Which one it is, is
//! decided by the key alone, as no JWT is accepted for being a key nor the other way round.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

use super::App;
use super::error::HttpError;
use crate::auth::{Denied, Identity};

/// The operator: who shows the `API_KEY`. Otherwise 401; 404 where no key is set, as if there were no
/// such route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operator;

/// A user with a good token; otherwise 401.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User(pub Identity);

/// Either of them; otherwise 401.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UserOrOperator {
    /// A user, with what the token grants.
    User(Identity),
    /// The operator, who may do everything.
    Operator,
}

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Operator, HttpError> {
        if app.config.api_key.is_none() {
            return Err(HttpError::NOT_FOUND);
        }
        match bearer(&parts.headers) {
            Some(key) if is_api_key(app, key) => Ok(Operator),
            Some(_) => Err(HttpError::unauthorized("the key is wrong")),
            None => Err(HttpError::unauthorized("a key is needed")),
        }
    }
}

impl FromRequestParts<Arc<App>> for User {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<User, HttpError> {
        identity(app, bearer(&parts.headers)).map(User)
    }
}

impl FromRequestParts<Arc<App>> for UserOrOperator {
    type Rejection = HttpError;

    async fn from_request_parts(
        parts: &mut Parts,
        app: &Arc<App>,
    ) -> Result<UserOrOperator, HttpError> {
        let shown = bearer(&parts.headers);
        if shown.is_some_and(|key| is_api_key(app, key)) {
            return Ok(UserOrOperator::Operator);
        }
        identity(app, shown).map(UserOrOperator::User)
    }
}

/// What stands behind `Authorization: Bearer`, without white space around it; `None` where there is
/// nothing, or more than one such header, of which none can be meant.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (all.next()?.as_bytes(), all.next()) else {
        return None;
    };
    let space = value.iter().position(u8::is_ascii_whitespace)?;
    let (scheme, shown) = value.split_at_checked(space)?;
    let shown = shown.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !shown.is_empty()).then_some(shown)
}

/// Compares in a time that says nothing of how much of the key is right; only its length shows.
fn is_api_key(app: &App, shown: &[u8]) -> bool {
    let key = app.config.api_key.as_ref();
    key.is_some_and(|key| key.expose().as_bytes().ct_eq(shown).into())
}

fn identity(app: &App, token: Option<&[u8]>) -> Result<Identity, HttpError> {
    // What isn't UTF-8 is no token: the empty one is refused for its form.
    let token = token.map(|token| std::str::from_utf8(token).unwrap_or_default());
    token
        .ok_or(Denied::MISSING)
        .and_then(|token| app.verifier.verify(token, SystemTime::now()))
        .map_err(|denied| HttpError::unauthorized(denied.message()))
}

#[cfg(test)]
#[path = "caller_tests.rs"]
mod tests;
