//! Tokens for those who have none: signed with HS256 and the current secret.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::claims::Expected;
use super::token::{MAX_TOKEN, unix_seconds};
use crate::config::JwtConfig;
use crate::id::UserId;

const NO_SECRET: &str = "JWT_SECRET is not set, and tokens are made with it; \
    whoever holds the private keys makes the tokens here";

/// What a new token is to say.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    /// The user.
    pub user: &'a UserId,
    /// What the user is called, as [`super::check_username`] has it.
    pub username: Option<&'a str>,
    /// The rooms, or patterns with `*`, that the user may join; `None`: every room.
    pub rooms: Option<&'a [String]>,
    /// How long the token is valid.
    pub life: Duration,
}

/// Issues tokens that the [`super::Verifier`] of the same configuration accepts.
pub struct Issuer {
    key: EncodingKey,
    expected: Expected,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewClaims<'a> {
    user_id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    iat: u64,
    exp: u64,
}

impl Issuer {
    /// An issuer that signs with the current secret.
    ///
    /// # Errors
    /// There is none: tokens are verified with public keys alone.
    pub fn new(config: &JwtConfig) -> Result<Issuer, &'static str> {
        let secret = config.secret.as_ref().ok_or(NO_SECRET)?;
        Ok(Issuer {
            key: EncodingKey::from_secret(secret.expose().as_bytes()),
            expected: Expected {
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
            },
        })
    }

    /// A token that is valid from `now` on.
    ///
    /// # Errors
    /// The token would be longer than [`MAX_TOKEN`] (a very long list of rooms).
    pub fn issue(&self, token: &NewToken<'_>, now: SystemTime) -> Result<String, String> {
        let iat = unix_seconds(now);
        let claims = NewClaims {
            user_id: token.user,
            username: token.username,
            rooms: token.rooms,
            iss: self.expected.issuer.as_deref(),
            aud: self.expected.audience.as_deref(),
            iat,
            exp: iat.saturating_add(token.life.as_secs()),
        };
        let text = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key)
            .map_err(|error| format!("the token can't be made: {error}"))?;
        if text.len() > MAX_TOKEN {
            return Err("the token would be longer than 8 KiB: name fewer rooms".to_owned());
        }
        Ok(text)
    }
}
