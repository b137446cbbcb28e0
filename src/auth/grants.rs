//! Which rooms a token lets its user into.

use std::sync::Arc;

use serde_json::Value;

use super::Denied;

/// The token's `rooms`: ids, or patterns in which `*` stands for any run of characters; all rooms
/// where the token has none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grants(Option<Arc<[Box<str>]>>);

impl Grants {
    /// Reads the claim. What can't be read grants nothing, so it is refused and not passed over.
    pub(super) fn read(claim: Option<Value>) -> Result<Grants, Denied> {
        const FORM: Denied = Denied("the token's rooms must be a list of strings");
        let list = match claim {
            None => return Ok(Grants(None)),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(FORM),
        };
        let pattern = |value: Value| match value {
            Value::String(text) => Ok(text.into_boxed_str()),
            _ => Err(FORM),
        };
        let patterns: Result<Arc<[Box<str>]>, Denied> = list.into_iter().map(pattern).collect();
        Ok(Grants(Some(patterns?)))
    }

    /// Whether the room is granted. The work is bounded by the token's length times the id's.
    pub fn allow(&self, room: &str) -> bool {
        let Some(patterns) = &self.0 else { return true };
        patterns.iter().any(|pattern| matches(pattern, room))
    }
}

/// Greedy matching: each piece between two `*` is taken at its first place, the last one at the end.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, pieces)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = pieces.rsplit_once('*').unwrap_or(("", pieces));
    for piece in middle.split('*') {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text, expected) in [
            ("general", "general", true),
            ("general", "general2", false),
            ("*", "", true),
            ("*", "anything", true),
            ("team-*", "team-", true),
            ("team-*", "tea", false),
            ("*-eu", "team-eu", true),
            ("*-eu", "team-eu-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
            ("", "x", false),
            ("größe*", "größe-1", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn no_claim_grants_all_and_a_bad_one_is_refused() {
        assert!(Grants::read(None).unwrap().allow("x"));
        assert!(!Grants::read(Some(json!([]))).unwrap().allow("x"));
        let some = Grants::read(Some(json!(["a", "b-*"]))).unwrap();
        assert!(some.allow("a") && some.allow("b-1") && !some.allow("c"));
        for bad in [json!("a"), json!(null), json!(["a", 1]), json!({})] {
            assert!(Grants::read(Some(bad)).is_err());
        }
    }
}
