//! From a token to an [`Identity`], and tokens for those who have none.
//!
//! The one door of the `jsonwebtoken` crate, which does the cryptography here; `token` takes a JWT
//! apart and `claims` says what its claims must be. Both are our own: the clock is handed in, every
//! refusal has a sentence for the client, and no number in a claim can overflow. A refusal never
//! repeats any part of the token.

mod claims;
mod grants;
mod token;

use std::fmt;
use std::sync::Arc;

use crate::id::UserId;

pub use claims::check_username;
pub use grants::Grants;
pub use token::{Issuer, MAX_TOKEN, NewToken, Verifier};

/// Longest username, in bytes.
pub const MAX_USERNAME: usize = 128;

/// Who a connection belongs to, as a verified token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// What the user is called: 1 to [`MAX_USERNAME`] bytes without control characters.
    pub username: Arc<str>,
    /// When the token ends, in Unix seconds; at most the end of the year 9999.
    pub expires_at: u64,
    /// The rooms that the user may enter.
    pub grants: Grants,
}

impl Identity {
    /// When the token ends, in Unix milliseconds; below 2^53.
    pub fn expires_at_ms(&self) -> u64 {
        self.expires_at.saturating_mul(1000)
    }
}

/// Why a token was refused: a sentence that the client may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied(&'static str);

impl Denied {
    /// No token came at all.
    pub const MISSING: Denied = Denied("a token is needed");
    /// More than one came where there should be one.
    pub const SEVERAL: Denied = Denied("more than one token came");

    /// The sentence, without a full stop.
    pub fn message(&self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Denied {}
