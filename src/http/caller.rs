//! Who calls: extractors that a handler takes before anything else of a request. A request that isn't
//! from such a caller is answered here, and the handler never runs.
//!
//! A user's requests are counted, on this node: one too many is answered 429. Operators may ask as often as they like.
//!
//! Both a user's JWT and the operator's key come as `Authorization: Bearer …`. Which one it is, is
//! decided by the key alone, as no JWT is accepted for being a key nor the other way round.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::App;
use super::bearer;
use super::error::HttpError;
use crate::auth::{Denied, Identity, Refused};

/// The operator: who shows the `API_KEY`. Otherwise 401; 404 where no key is set, as if there were no
/// such route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operator;

/// A user with a good token; otherwise 401, or 429 where it asks too often.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User(pub Identity);

/// Either of them; otherwise 401, or 429 for a user who asks too often.
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
        match bearer::of(&parts.headers) {
            Some(_) if is_operator(app, &parts.headers) => Ok(Operator),
            Some(_) => Err(HttpError::unauthorized("the key is wrong")),
            None => Err(HttpError::unauthorized("a key is needed")),
        }
    }
}

impl FromRequestParts<Arc<App>> for User {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<User, HttpError> {
        identity(app, bearer::of(&parts.headers)).await.map(User)
    }
}

impl FromRequestParts<Arc<App>> for UserOrOperator {
    type Rejection = HttpError;

    async fn from_request_parts(
        parts: &mut Parts,
        app: &Arc<App>,
    ) -> Result<UserOrOperator, HttpError> {
        if is_operator(app, &parts.headers) {
            return Ok(UserOrOperator::Operator);
        }
        let identity = identity(app, bearer::of(&parts.headers)).await?;
        Ok(UserOrOperator::User(identity))
    }
}

fn is_operator(app: &App, headers: &HeaderMap) -> bool {
    let key = app.config.api_key.as_ref();
    key.is_some_and(|key| bearer::is(headers, key))
}

async fn identity(app: &App, token: Option<&[u8]>) -> Result<Identity, HttpError> {
    // What isn't UTF-8 is no token: the empty one is refused for its form.
    let token = token.map(|token| std::str::from_utf8(token).unwrap_or_default());
    let token = token.ok_or(Refused::Denied(Denied::MISSING))?;
    let identity = app.verifier.verify(token).await?;
    match app.requests.take(&identity.user, Instant::now()) {
        Ok(()) => Ok(identity),
        Err(wait) => Err(HttpError::rate_limited(wait)),
    }
}

#[cfg(test)]
#[path = "caller_tests.rs"]
mod tests;
