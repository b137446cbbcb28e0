//! Keys that are ready to verify signatures: each for one algorithm, some with a name.

use jsonwebtoken::{Algorithm, DecodingKey};

use crate::config::Secret;
use crate::keys::{self, PublicKey, jwk};

/// Some keys, tried in their order.
#[derive(Default)]
pub(super) struct Ring(Vec<Key>);

struct Key {
    /// The only one that it verifies: a token that names another one never meets it.
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    key: DecodingKey,
}

/// What of a token says which keys to try, and what they have to verify.
#[derive(Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<&'a str>,
    pub(super) text: &'a str,
    pub(super) signature: &'a str,
}

impl Ring {
    pub(super) fn add_secret(&mut self, secret: &Secret) {
        self.0.push(Key {
            algorithm: Algorithm::HS256,
            kid: None,
            key: DecodingKey::from_secret(secret.expose().as_bytes()),
        });
    }

    pub(super) fn add_public(&mut self, public: &PublicKey, kid: Option<Box<str>>) {
        let bytes = public.bytes();
        let (algorithm, key) = match public.algorithm() {
            keys::Algorithm::Rs256 => (Algorithm::RS256, DecodingKey::from_rsa_der(bytes)),
            keys::Algorithm::Es256 => (Algorithm::ES256, DecodingKey::from_ec_der(bytes)),
            keys::Algorithm::EdDsa => (Algorithm::EdDSA, DecodingKey::from_ed_der(bytes)),
        };
        self.0.push(Key {
            algorithm,
            kid,
            key,
        });
    }

    pub(super) fn of_set(set: &jwk::Set) -> Ring {
        let mut ring = Ring::default();
        for named in &set.keys {
            ring.add_public(&named.key, named.kid.clone());
        }
        ring
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a key is for that algorithm.
    pub(super) fn has(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|key| key.algorithm == algorithm)
    }

    /// Whether a key of that name is there.
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Whether a key verifies it: one of the token's algorithm, and of the name that it calls for, where
    /// both have one.
    pub(super) fn verifies(&self, signed: &Signed<'_>) -> bool {
        self.0
            .iter()
            .filter(|key| key.algorithm == signed.algorithm)
            .filter(|key| match (&key.kid, signed.kid) {
                (Some(own), Some(asked)) => **own == *asked,
                _ => true,
            })
            .any(|key| {
                let (text, algorithm) = (signed.text.as_bytes(), key.algorithm);
                jsonwebtoken::crypto::verify(signed.signature, text, &key.key, algorithm)
                    .unwrap_or(false)
            })
    }
}
