//! Tokens as an application's back end would make them, and broken ones.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::secrets;

/// The secret that every node of the tests has.
pub const SECRET: &str = "a-secret-of-the-tests-0123456789abcdef";

/// A good token for this user; the name is the id with a capital letter.
pub fn token(user: &str) -> String {
    let name: String = user[..1].to_uppercase() + &user[1..];
    claims(&json!({"userId": user, "username": name, "exp": in_seconds(3600)}))
}

/// A token with exactly these claims, signed with [`SECRET`].
pub fn claims(claims: &Value) -> String {
    signed(&Header::default(), claims, SECRET)
}

/// A token with this header and these claims, signed with another secret or algorithm.
pub fn signed(header: &Header, claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(header, claims, &key).expect("a token");
    // Its parts are as secret as it is: a log may shorten or take apart.
    token.split('.').skip(1).for_each(secrets::note);
    secrets::note(secret);
    token
}

/// A token whose header says one algorithm while its signature is HS256 with [`SECRET`].
pub fn mislabelled(algorithm: &str, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let body = format!(
        "{}.{}",
        part(&json!({"alg": algorithm, "typ": "JWT"})),
        part(claims)
    );
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(body.as_bytes(), &key, Algorithm::HS256);
    format!("{body}.{}", signature.expect("a signature"))
}

/// A token that says `alg: none` and has no signature.
pub fn unsigned(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.",
        part(&json!({"alg": "none", "typ": "JWT"})),
        part(claims)
    )
}

/// A time for `exp` or `nbf`: now and so many seconds (which may be negative).
pub fn in_seconds(seconds: i64) -> i64 {
    (super::now_ms() / 1000) as i64 + seconds
}
