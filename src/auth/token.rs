//! JWTs (RFC 7519) in compact form: taken apart and verified.
//!
//! The algorithm is decided by the keys and never by the token: what its header names must be the
//! algorithm of a key that is set, and then only such keys are tried; else it is refused before any key is
//! touched. So nothing can be signed with HS256 and the text of a public key, and `none` is no algorithm.
//! Signatures are compared in constant time (by the library).

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::claims::{Claims, Expected};
use super::fetch::Fetcher;
use super::jwks::Jwks;
use super::ring::{Ring, Signed};
use super::{Denied, Identity, Refused};
use crate::config::JwtConfig;

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

const MALFORMED: Denied = Denied("the token is no JWT");
const UNKNOWN_KEY: Denied = Denied("the token's key is not known");

/// Verifies tokens; a handle. Its keys are ready to use.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

struct Inner {
    /// What the configuration holds: the current secret, the previous one, the public keys of the file.
    own: Ring,
    jwks: Option<Jwks>,
    expected: Expected,
    /// What is said to a token of another algorithm.
    other_algorithm: Denied,
}

/// What is known of a token without waiting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It proves this identity.
    Verified(Identity),
    /// It is no good.
    Denied(Denied),
    /// All of it would do, but the key that it calls for isn't known; it may be fetched.
    UnknownKey,
}

impl Verdict {
    /// The identity, where what is known now must do.
    ///
    /// # Errors
    /// Why not, in words for the client.
    pub fn known(self) -> Result<Identity, Denied> {
        match self {
            Verdict::Verified(identity) => Ok(identity),
            Verdict::Denied(denied) => Err(denied),
            Verdict::UnknownKey => Err(UNKNOWN_KEY),
        }
    }
}

/// What is read of a token's header.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    alg: Option<&'a RawValue>,
    #[serde(borrow)]
    crit: Option<&'a RawValue>,
    #[serde(borrow)]
    kid: Option<&'a RawValue>,
}

impl Verifier {
    /// A verifier of the tokens that `config` accepts.
    pub fn new(config: &JwtConfig) -> Verifier {
        let mut own = Ring::default();
        let secrets = config.secret.iter().chain(&config.previous_secret);
        secrets.for_each(|secret| own.add_secret(secret));
        let jwks = config.jwks_url.is_some().then(Jwks::new);
        let other_algorithm = match (config.public_keys.is_empty(), &jwks) {
            (true, None) => Denied("the token must be signed with HS256"),
            _ => Denied("the token is signed with an algorithm that no key here is for"),
        };
        for public in &config.public_keys {
            own.add_public(public, None);
        }
        Verifier {
            inner: Arc::new(Inner {
                own,
                jwks,
                expected: Expected {
                    issuer: config.issuer.clone(),
                    audience: config.audience.clone(),
                },
                other_algorithm,
            }),
        }
    }

    /// The identity that `token` proves now. It waits only where the token calls for a key of the JWK set
    /// that isn't known, for a fetch of some seconds at most, and never where the last fetch began less than
    /// ten seconds ago.
    ///
    /// # Errors
    /// It is no good, or that can't be told now.
    pub async fn verify(&self, token: &str) -> Result<Identity, Refused> {
        match self.judge(token, SystemTime::now()) {
            Verdict::Verified(identity) => return Ok(identity),
            Verdict::Denied(denied) => return Err(Refused::Denied(denied)),
            Verdict::UnknownKey => {}
        }
        let good = match &self.inner.jwks {
            // What waits is boxed: few tokens do, and all that are verified would pay for it.
            Some(jwks) => Box::pin(jwks.renew()).await,
            None => true,
        };
        match self.judge(token, SystemTime::now()) {
            Verdict::UnknownKey if !good => Err(Refused::KeysAway),
            verdict => verdict.known().map_err(Refused::Denied),
        }
    }

    /// What is known of `token` at `now`. Computing alone: 2.5 µs measured for HS256 (release).
    pub fn judge(&self, token: &str, now: SystemTime) -> Verdict {
        match self.read(token, unix_seconds(now)) {
            Ok((identity, true)) => Verdict::Verified(identity),
            // Nothing but the signature is missing: what can't be good is never fetched for.
            Ok((_, false)) => Verdict::UnknownKey,
            Err(denied) => Verdict::Denied(denied),
        }
    }

    /// The identity that the token claims, and whether a key that is known proves it; `false`: one that may
    /// be fetched might.
    fn read(&self, token: &str, now: u64) -> Result<(Identity, bool), Denied> {
        if token.len() > MAX_TOKEN {
            return Err(Denied("the token is longer than 8 KiB"));
        }
        let (text, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
        let (head, payload) = text.split_once('.').ok_or(MALFORMED)?;
        let head = decode(head)?;
        let (algorithm, kid) = self.read_head(&head)?;
        let payload = decode(payload)?;
        let signed = Signed {
            algorithm,
            kid: kid.as_deref(),
            text,
            signature,
        };
        let proved = self.inner.own.verifies(&signed) || self.is_proved_by_set(&signed)?;
        let claims: Claims = serde_json::from_slice(&payload)
            .map_err(|_| Denied("the token's claims can't be read"))?;
        let identity = claims.identity(&self.inner.expected, now)?;
        Ok((identity, proved))
    }

    /// The algorithm, which a key here is for or may be fetched for, and the name of the key.
    fn read_head(&self, head: &[u8]) -> Result<(Algorithm, Option<String>), Denied> {
        let head: Head<'_> = serde_json::from_slice(head).map_err(|_| MALFORMED)?;
        let algorithm = match head.alg.map(RawValue::get) {
            Some("\"HS256\"") => Algorithm::HS256,
            Some("\"RS256\"") => Algorithm::RS256,
            Some("\"ES256\"") => Algorithm::ES256,
            Some("\"EdDSA\"") => Algorithm::EdDSA,
            _ => return Err(self.inner.other_algorithm),
        };
        if !self.may_be_fetched(algorithm) && !self.inner.own.has(algorithm) {
            return Err(self.inner.other_algorithm);
        }
        // RFC 7515, section 4.1.11: extensions that must be understood, and none is.
        if head.crit.is_some() {
            return Err(Denied("the token asks for an extension that is not known"));
        }
        // Secrets have no names.
        let named = head.kid.filter(|_| algorithm != Algorithm::HS256);
        let kid = named.and_then(|kid| serde_json::from_str(kid.get()).ok());
        Ok((algorithm, kid))
    }

    /// Whether the JWK set may have keys for it: never for a symmetric one.
    fn may_be_fetched(&self, algorithm: Algorithm) -> bool {
        self.inner.jwks.is_some() && algorithm != Algorithm::HS256
    }

    /// Whether a key of the JWK set proves it; `false`: one that isn't known might.
    fn is_proved_by_set(&self, signed: &Signed<'_>) -> Result<bool, Denied> {
        const WRONG: Denied = Denied("the token's signature is wrong");
        let Some(jwks) = &self.inner.jwks else {
            return Err(WRONG);
        };
        if !self.may_be_fetched(signed.algorithm) {
            return Err(WRONG);
        }
        match jwks.ring() {
            Some(ring) if ring.verifies(signed) => Ok(true),
            // With a name that is known, or none, a fetch would bring nothing new to try.
            Some(ring) if signed.kid.is_none_or(|kid| ring.knows(kid)) => Err(WRONG),
            _ => Ok(false),
        }
    }

    /// What keeps the JWK set of `config` new, without end; it ends at once where none is set.
    ///
    /// # Errors
    /// Where the address is `https://` and there are no root certificates.
    pub fn follow(
        &self,
        config: &JwtConfig,
    ) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        let fetcher = config.jwks_url.clone().map(Fetcher::new).transpose()?;
        let follows = self.inner.jwks.clone().zip(fetcher);
        Ok(async move {
            if let Some((jwks, fetcher)) = follows {
                jwks.follow(fetcher.url(), || fetcher.fetch()).await;
            }
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Denied> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED)
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
