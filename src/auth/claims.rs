//! What the claims of a token must be, and the [`Identity`] they make. Pure: whoever calls has
//! verified the signature, and says what time it is.

use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use super::{Denied, Grants, Identity, MAX_USERNAME, Role};
use crate::id::{MAX_ID_BYTES, UserId};

/// The end of the year 9999 in Unix seconds. A later `exp` counts as this one, so that milliseconds
/// and timers can be made of it without overflow.
const LAST_SECOND: u64 = 253_402_300_799;

/// How far in the future `nbf` may lie, in seconds: an issuer whose clock is a little ahead writes
/// tokens that begin "now", and they must work at once. `exp` has no leeway: the connection ends
/// with it, so that a late token would only connect to be closed.
const NBF_LEEWAY: u64 = 5;

/// The claims that are read. All others are ignored.
#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "userId")]
    user_id: Option<Value>,
    sub: Option<Value>,
    username: Option<Value>,
    name: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
    role: Option<Value>,
    /// Read as it stands: `null` is no list, and must not pass for a missing claim.
    #[serde(default, deserialize_with = "present")]
    rooms: Option<Value>,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// What every token must say beside its times, where configured.
#[derive(Clone, Default)]
pub(super) struct Expected {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

impl Claims {
    /// The identity, if the claims hold at `now` (Unix seconds).
    pub(super) fn identity(self, expected: &Expected, now: u64) -> Result<Identity, Denied> {
        let expires_at = self.times(now)?;
        self.origin(expected)?;
        let user = user(self.user_id, self.sub)?;
        let username = username(self.username, self.name, &user)?;
        Ok(Identity {
            user,
            username: username.into(),
            expires_at,
            grants: Grants::read(self.rooms)?,
            role: match self.role {
                Some(Value::String(role)) if role == "admin" => Role::Admin,
                _ => Role::User,
            },
        })
    }

    fn times(&self, now: u64) -> Result<u64, Denied> {
        let expires_at = match &self.exp {
            Some(Value::Number(exp)) => seconds(exp),
            Some(_) => return Err(Denied("the token's exp must be a number")),
            None => return Err(Denied("the token has no exp")),
        };
        if now >= expires_at {
            return Err(Denied::EXPIRED);
        }
        match &self.nbf {
            Some(Value::Number(nbf)) if seconds(nbf) > now.saturating_add(NBF_LEEWAY) => {
                Err(Denied("the token is not valid yet"))
            }
            Some(Value::Number(_)) | None => Ok(expires_at),
            Some(_) => Err(Denied("the token's nbf must be a number")),
        }
    }

    fn origin(&self, expected: &Expected) -> Result<(), Denied> {
        if let Some(issuer) = &expected.issuer
            && self.iss.as_ref().and_then(Value::as_str) != Some(issuer)
        {
            return Err(Denied("the token is from another issuer"));
        }
        if let Some(audience) = &expected.audience
            && !self.aud.as_ref().is_some_and(|aud| names(aud, audience))
        {
            return Err(Denied("the token is for another audience"));
        }
        Ok(())
    }
}

/// A NumericDate (RFC 7519, section 2) in whole seconds from 0 to [`LAST_SECOND`]. It may have a
/// fraction, which is dropped, and be as large as a float can.
fn seconds(date: &Number) -> u64 {
    let seconds = match (date.as_u64(), date.as_f64()) {
        (Some(whole), _) => whole,
        // `as` saturates, and makes 0 of what is negative.
        (None, Some(float)) => float as u64,
        (None, None) => 0,
    };
    seconds.min(LAST_SECOND)
}

/// Whether `aud`, a string or a list of them, names `audience`.
fn names(aud: &Value, audience: &str) -> bool {
    match aud {
        Value::String(one) => one == audience,
        Value::Array(list) => list.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

fn user(user_id: Option<Value>, sub: Option<Value>) -> Result<UserId, Denied> {
    let id = match user_id.or(sub) {
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => number.to_string(),
        Some(_) => return Err(Denied("the token's userId must be a string or an integer")),
        None => return Err(Denied("the token has no userId")),
    };
    UserId::parse(&id).map_err(|_| Denied("the token's userId must be 1 to 128 bytes"))
}

/// The `username`, else the `name`, else one made of the user's id. An empty one counts as missing.
fn username(username: Option<Value>, name: Option<Value>, user: &UserId) -> Result<String, Denied> {
    for claim in [username, name] {
        match claim {
            None => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(Value::String(text)) => {
                return check_username(&text).map(|()| text).map_err(Denied);
            }
            Some(_) => return Err(Denied("the token's username must be a string")),
        }
    }
    Ok(default_username(user))
}

/// `user_` and the id, with `_` for control characters, cut to [`MAX_USERNAME`] bytes.
fn default_username(user: &UserId) -> String {
    let mut name = String::with_capacity("user_".len() + MAX_ID_BYTES);
    name.push_str("user_");
    for c in user.as_str().chars() {
        if name.len() + c.len_utf8() > MAX_USERNAME {
            break;
        }
        name.push(if c.is_control() { '_' } else { c });
    }
    name
}

/// Whether a user can be called so: 1 to [`MAX_USERNAME`] bytes without control characters.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn check_username(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > MAX_USERNAME {
        return Err("the username must be 1 to 128 bytes");
    }
    if text.contains(char::is_control) {
        return Err("the username must not hold control characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_700_000_000;

    fn read(mut claims: Value) -> Result<Identity, &'static str> {
        if claims.get("exp").is_none() {
            claims["exp"] = json!(NOW + 60);
        }
        read_as_is(claims)
    }

    fn read_as_is(claims: Value) -> Result<Identity, &'static str> {
        let claims: Claims = serde_json::from_value(claims).unwrap();
        let identity = claims.identity(&Expected::default(), NOW);
        identity.map_err(|denied| denied.message())
    }

    #[test]
    fn the_user_id_is_a_string_or_an_integer_or_the_sub() {
        for (claims, user) in [
            (json!({"userId": "u"}), "u"),
            (json!({"userId": 7}), "7"),
            (json!({"userId": -7}), "-7"),
            (json!({"userId": u64::MAX}), "18446744073709551615"),
            (json!({"sub": "s"}), "s"),
            (json!({"userId": null, "sub": 3}), "3"),
            (json!({"userId": "u", "sub": {}}), "u"),
        ] {
            assert_eq!(read(claims).unwrap().user.as_str(), user);
        }
        for bad in [
            json!({}),
            json!({"userId": ""}),
            json!({"userId": "", "sub": "s"}),
            json!({"userId": 1.5}),
            json!({"userId": 1e300}),
            json!({"userId": true}),
            json!({"userId": ["u"]}),
            json!({"userId": "u".repeat(129)}),
        ] {
            assert!(read(bad.clone()).unwrap_err().contains("userId"), "{bad}");
        }
    }

    #[test]
    fn the_username_has_two_stand_ins() {
        for (claims, name) in [
            (json!({"userId": "u", "username": "n", "name": "x"}), "n"),
            (json!({"userId": "u", "name": "x"}), "x"),
            (
                json!({"userId": "u", "username": "", "name": null}),
                "user_u",
            ),
            (json!({"userId": "a\nb"}), "user_a_b"),
        ] {
            assert_eq!(&*read(claims).unwrap().username, name);
        }
        let long = read(json!({"userId": "é".repeat(64)})).unwrap().username;
        assert_eq!(long.len(), 127);
        for bad in [
            json!({"userId": "u", "username": 5}),
            json!({"userId": "u", "username": "a\u{1b}[2J"}),
            json!({"userId": "u", "name": "é".repeat(65)}),
        ] {
            assert!(read(bad.clone()).unwrap_err().contains("username"), "{bad}");
        }
    }

    #[test]
    fn the_role_is_admin_or_grants_nothing() {
        let role = |role: Value| read(json!({"userId": "u", "role": role})).unwrap().role;
        assert_eq!(role(json!("admin")), Role::Admin);
        for other in [
            json!(null),
            json!("Admin"),
            json!("authenticated"),
            json!(["admin"]),
            json!({"admin": true}),
            json!(1),
        ] {
            assert_eq!(role(other.clone()), Role::User, "{other}");
        }
        assert_eq!(read(json!({"userId": "u"})).unwrap().role, Role::User);
    }

    #[test]
    fn exp_is_required_has_no_leeway_and_never_overflows() {
        for (exp, kept) in [
            (json!(NOW + 1), NOW + 1),
            (json!(1_700_000_060.9), NOW + 60),
            (json!(1e300), LAST_SECOND),
            (json!(u64::MAX), LAST_SECOND),
        ] {
            let identity = read(json!({"userId": "u", "exp": exp})).unwrap();
            assert_eq!(identity.expires_at, kept);
            assert_eq!(identity.expires_at_ms(), kept * 1000);
        }
        for exp in [json!(NOW), json!(0), json!(-1), json!(-1e300)] {
            let denied = read(json!({"userId": "u", "exp": exp}));
            assert_eq!(denied, Err("the token has expired"));
        }
        assert_eq!(
            read_as_is(json!({"userId": "u"})),
            Err("the token has no exp")
        );
        let text = read(json!({"userId": "u", "exp": "soon"}));
        assert_eq!(text, Err("the token's exp must be a number"));
    }

    #[test]
    fn nbf_has_a_little_leeway() {
        assert!(read(json!({"userId": "u", "nbf": NOW + 5})).is_ok());
        assert!(read(json!({"userId": "u", "nbf": -5})).is_ok());
        let early = read(json!({"userId": "u", "nbf": NOW + 6}));
        assert_eq!(early, Err("the token is not valid yet"));
        assert!(read(json!({"userId": "u", "nbf": "now"})).is_err());
    }

    #[test]
    fn issuer_and_audience_are_required_where_set() {
        let expected = Expected {
            issuer: Some("me".into()),
            audience: Some("chat".into()),
        };
        let check = |iss: Value, aud: Value| {
            let claims = json!({"userId": "u", "exp": NOW + 9, "iss": iss, "aud": aud});
            let claims: Claims = serde_json::from_value(claims).unwrap();
            claims.identity(&expected, NOW).is_ok()
        };
        assert!(check(json!("me"), json!("chat")));
        assert!(check(json!("me"), json!(["other", "chat"])));
        assert!(!check(json!("you"), json!("chat")));
        assert!(!check(json!(["me"]), json!("chat")));
        assert!(!check(Value::Null, json!("chat")));
        assert!(!check(json!("me"), json!("chatter")));
        assert!(!check(json!("me"), json!([["chat"]])));
        assert!(!check(json!("me"), Value::Null));
    }
}
