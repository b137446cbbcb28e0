//! Public keys that tokens may be signed with: read from PEM ([`pem`]) or from a JWK set ([`jwk`]), and
//! checked once, here. What a token is verified with is `auth`'s.
//!
//! A key says by itself which algorithm it is for, so that no token and no second field decides it. Weak
//! keys don't get to be a [`PublicKey`]: RSA under 2,048 bits (RFC 7518, section 3.3), points that are not
//! on their curve or of small order. Nothing symmetric is one, whatever it comes as: a secret that
//! stands where public keys are read from is no secret.

pub mod jwk;
pub mod pem;

use std::fmt;

use ed25519_dalek::VerifyingKey;
use rsa::RsaPublicKey;
use rsa::pkcs1::{EncodeRsaPublicKey, RsaPublicKey as RsaParts};
use rsa::pkcs8::spki::{DecodePublicKey, ObjectIdentifier, SubjectPublicKeyInfoRef};

/// Most keys of one source: where a token names none, all of its algorithm are tried.
pub const MAX_KEYS: usize = 32;

/// Fewest and most bits of an RSA key; the work of a verification grows with their square.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// What a public key verifies (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// As a token's header and a JWK name it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

/// A public key that is good to verify with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

/// Why something is no such key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadKey {
    /// It can't be read as a key of its kind.
    Unreadable,
    /// It is a key for other algorithms.
    Kind,
    /// It is an RSA key of that many bits.
    Bits(usize),
    /// It is a point that nothing can be verified with.
    Weak,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadKey::Unreadable => f.write_str("can't be read"),
            BadKey::Kind => f.write_str("is none of RSA, P-256 and Ed25519"),
            BadKey::Bits(bits) => {
                let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
                write!(f, "is RSA of {bits} bits, and must have {least} to {most}")
            }
            BadKey::Weak => f.write_str("is a point of small order"),
        }
    }
}

impl PublicKey {
    /// What it verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key: PKCS#1 in DER, an uncompressed SEC1 point, or the 32 bytes of an Ed25519 key.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads a SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_spki(der: &[u8]) -> Result<PublicKey, BadKey> {
        let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| BadKey::Unreadable)?;
        match info.algorithm.oid {
            RSA => PublicKey::from_pkcs1(info.subject_public_key.raw_bytes()),
            EC => match p256::PublicKey::from_public_key_der(der) {
                Ok(key) => Ok(from_point(&key)),
                // Another curve, or no point of this one.
                Err(_) => Err(BadKey::Kind),
            },
            ED25519 => {
                let key = VerifyingKey::from_public_key_der(der);
                from_ed25519(&key.map_err(|_| BadKey::Unreadable)?)
            }
            _ => Err(BadKey::Kind),
        }
    }

    /// Reads an RSA key in DER (RFC 8017, appendix A.1.1).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pkcs1(der: &[u8]) -> Result<PublicKey, BadKey> {
        let parts = RsaParts::try_from(der).map_err(|_| BadKey::Unreadable)?;
        let (modulus, exponent) = (parts.modulus, parts.public_exponent);
        PublicKey::from_rsa_parts(modulus.as_bytes(), exponent.as_bytes())
    }

    /// An RSA key of this modulus and exponent, both big-endian.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_rsa_parts(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, BadKey> {
        let number = rsa::BigUint::from_bytes_be;
        // Before anything is computed with it: a number of any length may stand there.
        let (n, e) = (number(modulus), number(exponent));
        if !RSA_BITS.contains(&n.bits()) {
            return Err(BadKey::Bits(n.bits()));
        }
        let is_odd =
            |number: &rsa::BigUint| number.to_bytes_le().first().is_some_and(|b| b & 1 == 1);
        // A product of two large primes is odd, and so is what has an inverse beside it.
        if !is_odd(&n) || !is_odd(&e) {
            return Err(BadKey::Unreadable);
        }
        let key = RsaPublicKey::new(n, e).map_err(|_| BadKey::Unreadable)?;
        let der = key.to_pkcs1_der().map_err(|_| BadKey::Unreadable)?;
        Ok(PublicKey {
            algorithm: Algorithm::Rs256,
            bytes: der.into_vec(),
        })
    }

    /// The point of P-256 with these coordinates, 32 bytes each.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_p256_parts(x: &[u8], y: &[u8]) -> Result<PublicKey, BadKey> {
        if x.len() != 32 || y.len() != 32 {
            return Err(BadKey::Unreadable);
        }
        let point = [&[4], x, y].concat();
        let key = p256::PublicKey::from_sec1_bytes(&point).map_err(|_| BadKey::Unreadable)?;
        Ok(from_point(&key))
    }

    /// The Ed25519 key of these 32 bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_ed25519_bytes(bytes: &[u8]) -> Result<PublicKey, BadKey> {
        let key = VerifyingKey::try_from(bytes).map_err(|_| BadKey::Unreadable)?;
        from_ed25519(&key)
    }
}

fn from_point(key: &p256::PublicKey) -> PublicKey {
    // Uncompressed, whatever it was read from.
    let point = p256::EncodedPoint::from(key).to_bytes();
    PublicKey {
        algorithm: Algorithm::Es256,
        bytes: point.into_vec(),
    }
}

/// For a key of small order, signatures can be made without knowing any secret.
fn from_ed25519(key: &VerifyingKey) -> Result<PublicKey, BadKey> {
    if key.is_weak() {
        return Err(BadKey::Weak);
    }
    Ok(PublicKey {
        algorithm: Algorithm::EdDsa,
        bytes: key.to_bytes().to_vec(),
    })
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.algorithm.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_verify_nothing_are_no_keys() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let weak = PublicKey::from_ed25519_bytes(&neutral);
        assert_eq!(weak, Err(BadKey::Weak));
        assert_eq!(
            PublicKey::from_ed25519_bytes(&[2; 31]),
            Err(BadKey::Unreadable)
        );
        let nowhere = PublicKey::from_p256_parts(&[1; 32], &[1; 32]);
        assert_eq!(nowhere, Err(BadKey::Unreadable));
        assert_eq!(
            PublicKey::from_p256_parts(&[1; 31], &[1; 33]),
            Err(BadKey::Unreadable)
        );
    }

    #[test]
    fn rsa_has_bounds() {
        let of = |bytes: usize, last: u8, exponent: &[u8]| {
            let mut modulus = vec![0xff; bytes];
            modulus[bytes - 1] = last;
            PublicKey::from_rsa_parts(&modulus, exponent).map(|key| key.algorithm())
        };
        let f4 = &[1, 0, 1];
        assert_eq!(of(256, 0xff, f4), Ok(Algorithm::Rs256));
        assert_eq!(of(512, 0xff, f4), Ok(Algorithm::Rs256));
        assert_eq!(of(128, 0xff, f4), Err(BadKey::Bits(1024)));
        assert_eq!(of(255, 0xff, f4), Err(BadKey::Bits(2040)));
        assert_eq!(of(100_000, 0xff, f4), Err(BadKey::Bits(800_000)));
        for (last, exponent) in [(0xfe, &f4[..]), (0xff, &[1]), (0xff, &[]), (0xff, &[4])] {
            assert_eq!(of(256, last, exponent), Err(BadKey::Unreadable));
        }
        assert_eq!(of(256, 0xff, &[0xff; 64]), Err(BadKey::Unreadable));
    }
}
