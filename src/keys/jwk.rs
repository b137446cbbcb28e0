//! Public keys out of a JWK set (RFC 7517). A key of it that isn't for verifying RS256, ES256 or EdDSA, or
//! is weak, is passed over, as section 5 asks for: a source may hold keys for others, too. Symmetric keys
//! (`oct`) are among those: who reads the set could sign with them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::{BadKey, MAX_KEYS, PublicKey};

/// A key, and the `kid` that tokens call it by, if it has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The name.
    pub kid: Option<Box<str>>,
    /// The key.
    pub key: PublicKey,
}

/// What a set holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Set {
    /// The keys that can be used, [`MAX_KEYS`] at most.
    pub keys: Vec<Named>,
    /// Why keys that were meant for verifying were passed over, by their number from 1.
    pub warnings: Vec<(usize, String)>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The fields of a JWK. One that isn't a string is no key of these kinds.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<Box<str>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part: whoever reads the set can sign with it.
    d: Option<Value>,
}

/// Reads a set. The work is bounded by its length, and by [`MAX_KEYS`].
///
/// # Errors
/// Where it is no JWK set, in one sentence.
pub fn read(json: &[u8]) -> Result<Set, &'static str> {
    let document: Document =
        serde_json::from_slice(json).map_err(|_| "it is not a JWK set in JSON")?;
    let mut set = Set::default();
    for (value, at) in document.keys.into_iter().zip(1..) {
        let Ok(jwk) = serde_json::from_value::<Jwk>(value) else {
            continue;
        };
        if !jwk.is_for_verifying() {
            continue;
        }
        if set.keys.len() == MAX_KEYS {
            let why = format!("more than {MAX_KEYS} keys: the rest is passed over");
            set.warnings.push((at, why));
            break;
        }
        match jwk.key() {
            Ok(Some(key)) => set.keys.push(Named { kid: jwk.kid, key }),
            Ok(None) => {}
            Err(why) => set.warnings.push((at, format!("it {why}"))),
        }
    }
    Ok(set)
}

impl Jwk {
    fn is_for_verifying(&self) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }

    /// The key; `None` where it is for algorithms that are not used here.
    fn key(&self) -> Result<Option<PublicKey>, BadKeyOf> {
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                if self.alg.as_deref().is_some_and(|alg| alg != "RS256") {
                    return Ok(None);
                }
                PublicKey::from_rsa_parts(&part(&self.n)?, &part(&self.e)?)?
            }
            ("EC", Some("P-256")) => PublicKey::from_p256_parts(&part(&self.x)?, &part(&self.y)?)?,
            ("OKP", Some("Ed25519")) => PublicKey::from_ed25519_bytes(&part(&self.x)?)?,
            _ => return Ok(None),
        };
        if self.d.is_some() {
            return Err(BadKeyOf::Private);
        }
        let own = key.algorithm().name();
        Ok(self
            .alg
            .as_deref()
            .is_none_or(|alg| alg == own)
            .then_some(key))
    }
}

enum BadKeyOf {
    Key(BadKey),
    Private,
}

impl From<BadKey> for BadKeyOf {
    fn from(bad: BadKey) -> BadKeyOf {
        BadKeyOf::Key(bad)
    }
}

impl std::fmt::Display for BadKeyOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadKeyOf::Key(bad) => bad.fmt(f),
            BadKeyOf::Private => f.write_str("shows its private part to everyone"),
        }
    }
}

fn part(field: &Option<String>) -> Result<Vec<u8>, BadKey> {
    let text = field.as_deref().ok_or(BadKey::Unreadable)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| BadKey::Unreadable)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::keys::Algorithm;

    /// RFC 8037, appendix A.2.
    const ED25519: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn ed25519(changes: Value) -> Value {
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519, "kid": "k"});
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn set(keys: &[Value]) -> Set {
        read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn keys_are_read_with_their_names() {
        // RFC 7515, appendix A.3.
        let p256 = json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let rsa = json!({"kty": "RSA", "kid": "", "e": "AQAB",
            "n": URL_SAFE_NO_PAD.encode([0xff; 256])});
        let set = set(&[ed25519(json!({"alg": "EdDSA", "x5c": [7]})), p256, rsa]);
        assert_eq!(set.warnings, []);
        let found: Vec<_> = set
            .keys
            .iter()
            .map(|named| (named.kid.as_deref(), named.key.algorithm()))
            .collect();
        assert_eq!(
            found,
            [
                (Some("k"), Algorithm::EdDsa),
                (None, Algorithm::Es256),
                (Some(""), Algorithm::Rs256)
            ]
        );
    }

    #[test]
    fn what_is_for_something_else_is_passed_over_in_silence() {
        for other in [
            json!({"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "alg": "HS256"}),
            json!({"kty": "oct", "k": "AAAA", "alg": "RS256", "n": "AA", "e": "AQAB"}),
            ed25519(json!({"use": "enc"})),
            ed25519(json!({"key_ops": ["sign"]})),
            ed25519(json!({"alg": "HS256"})),
            ed25519(json!({"alg": "ES256"})),
            ed25519(json!({"crv": "X25519"})),
            ed25519(json!({"kty": "EC", "crv": "P-384"})),
            ed25519(json!({"kty": 7})),
            ed25519(json!({"kid": 7})),
            json!({"kty": "RSA", "alg": "PS256"}),
            json!({"kty": "RSA", "alg": "HS256", "n": "AA", "e": "AQAB"}),
            json!([]),
            json!(null),
        ] {
            assert_eq!(set(std::slice::from_ref(&other)), Set::default(), "{other}");
        }
    }

    #[test]
    fn what_is_weak_or_broken_is_passed_over_with_a_warning() {
        for (bad, why) in [
            (
                json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB"}),
                "1024 bits",
            ),
            (json!({"kty": "RSA", "e": "AQAB"}), "can't be read"),
            (ed25519(json!({"x": "AAAA"})), "can't be read"),
            (
                ed25519(json!({"x": format!("{ED25519}=")})),
                "can't be read",
            ),
            (ed25519(json!({"d": "AAAA"})), "private part"),
        ] {
            let set = set(&[bad, ed25519(json!({}))]);
            assert_eq!(set.keys.len(), 1);
            let [(1, warning)] = &set.warnings[..] else {
                panic!("{:?}", set.warnings)
            };
            assert!(warning.contains(why), "{warning}");
        }
    }

    #[test]
    fn a_set_has_a_bound_and_nonsense_is_no_set() {
        let many = set(&vec![ed25519(json!({})); MAX_KEYS + 2]);
        assert_eq!((many.keys.len(), many.warnings.len()), (MAX_KEYS, 1));
        assert_eq!(set(&[]), Set::default());
        let deep = format!("{{\"keys\":{}", "[".repeat(100_000));
        for nonsense in [
            "",
            "[]",
            "{}",
            "<html>",
            "{\"keys\":{}}",
            "{\"keys\":null}",
            &deep,
        ] {
            assert!(read(nonsense.as_bytes()).is_err(), "{nonsense:.20}");
        }
    }
}
