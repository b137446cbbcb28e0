//! Tokens of every kind against one secret. Public keys: `tests/tokens`.

use std::time::Duration;

use jsonwebtoken::EncodingKey;
use serde_json::json;

use super::*;
use crate::auth::{Issuer, NewToken};
use crate::config::Secret;
use crate::id::UserId;

const OLD: &str = "old-old-old-old-old-old-old-old-old!";
const NEW: &str = "new-new-new-new-new-new-new-new-new!";

fn config(secret: &str) -> JwtConfig {
    JwtConfig {
        secret: Some(Secret::new(secret)),
        previous_secret: None,
        public_keys: Vec::new(),
        jwks_url: None,
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
    Issuer::new(config).unwrap().issue(&token, now()).unwrap()
}

/// A token with any header, signed as HS256 would be.
fn forge(header: serde_json::Value, payload: &[u8]) -> String {
    let head = URL_SAFE_NO_PAD.encode(header.to_string());
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(NEW.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn denied(token: &str) -> &'static str {
    let verdict = Verifier::new(&config(NEW)).judge(token, now());
    verdict.known().unwrap_err().message()
}

#[test]
fn what_is_issued_is_accepted_until_it_expires() {
    let verifier = Verifier::new(&config(NEW));
    let token = issue(&config(NEW));
    let identity = verifier.judge(&token, now()).known().unwrap();
    assert_eq!(identity.user.as_str(), "u1");
    assert_eq!(&*identity.username, "Ada");
    assert_eq!(identity.expires_at, 1_700_000_060);
    let late = verifier.judge(&token, now() + Duration::from_secs(60));
    assert_eq!(late.known().unwrap_err().message(), "the token has expired");
}

#[test]
fn the_previous_secret_is_accepted_and_a_strange_one_is_not() {
    let token = issue(&config(OLD));
    assert_eq!(denied(&token), "the token's signature is wrong");
    let rotated = JwtConfig {
        previous_secret: Some(Secret::new(OLD)),
        ..config(NEW)
    };
    assert!(Verifier::new(&rotated).judge(&token, now()).known().is_ok());
}

#[test]
fn issuer_and_audience_go_into_the_token() {
    let strict = JwtConfig {
        issuer: Some("me".into()),
        audience: Some("chat".into()),
        ..config(NEW)
    };
    let verifier = Verifier::new(&strict);
    assert!(verifier.judge(&issue(&strict), now()).known().is_ok());
    assert!(verifier.judge(&issue(&config(NEW)), now()).known().is_err());
}

#[test]
fn the_token_does_not_choose_the_algorithm() {
    let claims = br#"{"userId":"u","exp":1800000000}"#;
    assert!(
        Verifier::new(&config(NEW))
            .judge(
                &forge(json!({"alg": "HS256", "x": 1, "kid": 7}), claims),
                now()
            )
            .known()
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

/// A key may be fetched for what says so and is otherwise good, and for nothing else.
#[test]
fn nothing_is_fetched_for_what_can_not_be_good() {
    let source = |name: &str| (name == "JWT_JWKS_URL").then(|| "http://127.0.0.1/k".to_owned());
    let jwks_url = crate::config::Config::read(&source).unwrap().jwt.jwks_url;
    let verifier = Verifier::new(&JwtConfig {
        jwks_url,
        ..config(NEW)
    });
    let judge =
        |head: serde_json::Value, claims: &[u8]| verifier.judge(&forge(head, claims), now());
    let good = br#"{"userId":"u","exp":1800000000}"#;
    for alg in ["RS256", "ES256", "EdDSA"] {
        for head in [json!({"alg": alg}), json!({"alg": alg, "kid": "k"})] {
            assert_eq!(judge(head.clone(), good), Verdict::UnknownKey, "{head}");
            for bad in [
                &br#"{"userId":"u","exp":1600000000}"#[..],
                br#"{"exp":1800000000}"#,
                b"{}",
                b"[]",
            ] {
                assert!(matches!(judge(head.clone(), bad), Verdict::Denied(_)));
            }
        }
    }
    let verified = judge(json!({"alg": "HS256", "kid": "k"}), good);
    assert!(matches!(verified, Verdict::Verified(_)), "{verified:?}");
    for alg in ["HS256 ", "HS512", "PS256", "none"] {
        let verdict = judge(json!({"alg": alg, "kid": "k"}), good);
        assert!(matches!(verdict, Verdict::Denied(_)), "{alg}");
    }
    let strange = issue(&config(OLD));
    let verdict = verifier.judge(&strange, now());
    assert!(matches!(verdict, Verdict::Denied(_)), "{verdict:?}");
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
