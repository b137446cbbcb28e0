//! From a token to an [`Identity`], and tokens for those who have none.
//!
//! The one door of the `jsonwebtoken` crate, which does the cryptography here; `token` takes a JWT
//! apart and `claims` says what its claims must be. Both are our own: the clock is handed in, every
//! refusal has a sentence for the client, and no number in a claim can overflow. A refusal never
//! repeats any part of the token.
//!
//! `ring` holds the keys, `jwks` keeps those behind an address new and `fetch` is how it gets at them;
//! `issue` makes tokens.

mod claims;
mod fetch;
mod grants;
mod issue;
mod jwks;
mod ring;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::now_ms;
use crate::id::UserId;

pub use claims::check_username;
pub use grants::Grants;
pub use issue::{Issuer, NewToken};
pub use token::{MAX_TOKEN, Verdict, Verifier};

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
    /// What else the user may do.
    pub role: Role,
}

/// What a token's `role` says. Issuers have roles of their own: one that is none of these grants nothing,
/// and refuses nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Nothing special.
    #[default]
    User,
    /// `"admin"`.
    Admin,
}

impl Identity {
    /// When the token ends, in Unix milliseconds; below 2^53.
    pub fn expires_at_ms(&self) -> u64 {
        self.expires_at.saturating_mul(1000)
    }

    /// How long from now on the token is good; nothing where it has ended.
    pub fn life_left(&self) -> Duration {
        Duration::from_millis(self.expires_at_ms().saturating_sub(now_ms()))
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
    /// It has ended.
    pub const EXPIRED: Denied = Denied("the token has expired");
    /// It is good, but not for whom it should be.
    pub const OTHER_USER: Denied = Denied("the token is another user's");

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

/// Why a token isn't accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is no good.
    Denied(Denied),
    /// Whether it is good can't be told now: the source of its key is away.
    KeysAway,
}

impl Refused {
    /// The sentence for the client, without a full stop.
    pub fn message(&self) -> &'static str {
        match self {
            Refused::Denied(denied) => denied.message(),
            Refused::KeysAway => "the token's key can't be looked up now; try again",
        }
    }
}
