//! Tokens for the load's users.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;

use super::Result;

/// What the servers of this benchmark verify tokens with.
pub(crate) const SECRET: &str = "a secret for benchmarks and nothing else";

/// Longer than any run.
const TTL: Duration = Duration::from_secs(24 * 3600);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    user_id: &'a str,
    username: &'a str,
    exp: u64,
}

/// A JWT for this user.
pub(crate) fn issue(user: &str) -> Result<String> {
    let exp = (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + TTL).as_secs();
    let claims = Claims {
        user_id: user,
        username: user,
        exp,
    };
    Ok(encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )?)
}
