//! The fields of a JSON object as the client sent them, and what each kind of field must look like.
//!
//! An object is read for the names that are asked for and nothing else: a known field is kept as the
//! piece of JSON it is, every other one is checked and skipped. Both happen without recursion
//! (`RawValue`), so depth costs one byte of heap per level and never the stack, and no number or
//! string is decoded that nobody asked for: `1e400` and a lone surrogate in an unknown field are
//! valid JSON and hurt nobody.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::refusal::{ErrorCode, Refusal};

/// Longest id that a client may choose (`id`, `clientId`, `replyTo`, `since.id`), in bytes.
pub(super) const MAX_CLIENT_TEXT: usize = 64;

const MAX_WHOLE: u64 = (1 << 53) - 1;

/// Why a text holds no object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoObject {
    /// It is not JSON at all.
    NotJson,
    /// It is some other JSON value.
    OtherValue,
}

/// The fields of those names in the object `json`. The whole of `json` is checked; of several
/// fields of one name the last one wins, as in JavaScript.
pub(super) fn read<'a, const N: usize>(
    json: &'a str,
    names: [&'static str; N],
) -> Result<[Field<'a>; N], NoObject> {
    let is_white_space = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
    if json.bytes().find(|b| !is_white_space(b)) != Some(b'{') {
        return Err(match serde_json::from_str::<IgnoredAny>(json) {
            Ok(_) => NoObject::OtherValue,
            Err(_) => NoObject::NotJson,
        });
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    let mut fields = names.map(|name| Field { name, json: None });
    // The visitor itself refuses nothing, so an error can only be one of syntax.
    match reader.deserialize_map(Known(&mut fields)) {
        Ok(()) if reader.end().is_ok() => Ok(fields),
        _ => Err(NoObject::NotJson),
    }
}

/// Fills in the fields that an object has.
struct Known<'f, 'a>(&'f mut [Field<'a>]);

impl<'a> Visitor<'a> for Known<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<&RawValue>()? {
            let name = text(key.get());
            match self.0.iter_mut().find(|f| Some(f.name) == name.as_deref()) {
                Some(field) => field.json = Some(map.next_value::<&RawValue>()?.get()),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// One field: its name, and the JSON it has if it is there. Valid JSON without white space around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field<'a> {
    name: &'static str,
    json: Option<&'a str>,
}

impl<'a> Field<'a> {
    /// The same field under the name that refusals call it by.
    pub(super) fn called(self, name: &'static str) -> Field<'a> {
        Field { name, ..self }
    }

    /// Its JSON, also where that is `null`.
    pub(super) fn json(&self) -> Option<&'a str> {
        self.json
    }

    /// Its JSON; `null` counts as absent.
    pub(super) fn given(&self) -> Option<&'a str> {
        self.json.filter(|json| *json != "null")
    }

    /// The `INVALID_PAYLOAD` that names this field and says what it must be.
    pub(super) fn must_be(&self, what: &str) -> Refusal {
        let message = format!("`{}` must be {what}", self.name);
        Refusal::new(ErrorCode::InvalidPayload, message)
    }

    /// A string of 1 to 64 bytes, if it is there.
    pub(super) fn client_text(&self) -> Result<Option<Box<str>>, Refusal> {
        let Some(json) = self.given() else {
            return Ok(None);
        };
        match text(json) {
            Some(text) if (1..=MAX_CLIENT_TEXT).contains(&text.len()) => Ok(Some(text.into())),
            _ => Err(self.must_be("a string of 1 to 64 bytes")),
        }
    }
}

/// The text of a JSON string; `None` for other values, and for a string that is no text since it has
/// half a surrogate pair in it (`"\ud800"`).
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.as_bytes().contains(&b'\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// A JSON number as JavaScript reads it, ±infinity where it is too large; `None` for other values.
pub(super) fn number(json: &str) -> Option<f64> {
    let numeric = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    numeric.then(|| json.parse().ok()).flatten()
}

/// A whole number from 0 up; `2^53` stands for every one that is larger than `2^53 - 1`.
pub(super) fn whole(json: &str) -> Option<u64> {
    let ceiling = MAX_WHOLE + 1;
    if let Ok(exact) = json.parse::<u64>() {
        return Some(exact.min(ceiling));
    }
    let value = number(json)?;
    let is_whole = value >= 0.0 && (value.trunc() == value);
    // A cast from float saturates.
    is_whole.then_some((value as u64).min(ceiling))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(json: &str) -> Result<Option<&str>, NoObject> {
        read(json, ["a"]).map(|[a]| a.json())
    }

    #[test]
    fn the_last_of_several_fields_wins_and_keys_may_be_escaped() {
        for (json, expected) in [
            (r#"{}"#, None),
            (" \t\r\n{ } \n", None),
            (r#"{"a":1}"#, Some("1")),
            (r#"{"a":1,"a": [2] }"#, Some("[2]")),
            (r#"{"a":1,"\u0061":2}"#, Some("2")),
            (r#"{"a":1,"a":null}"#, Some("null")),
            (r#"{"b":{"a":1}}"#, None),
            (r#"{"\ud800":1,"a\ud800":2,"a\\":3,"":4,"\"a":5}"#, None),
        ] {
            assert_eq!(one(json), Ok(expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        for json in ["[]", "null", " 1e400", r#""\ud800""#, "true", "-0.0E-0"] {
            assert_eq!(one(json), Err(NoObject::OtherValue), "{json}");
        }
        for json in [
            "",
            " ",
            "{",
            "}",
            "{]",
            "nul",
            "01",
            "+1",
            "1.",
            ".5",
            "-",
            "NaN",
            "{a:1}",
            "{'a':1}",
            "\u{feff}{}",
            "\u{a0}{}",
            "{}{}",
            "{},",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"b\":01}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\n\"}",
            "{\"b\n\":1}",
            "{\"b\":\"\\u12\"}",
            "{} x",
            "{/**/}",
            "{1:2}",
            "{\"a\":1 \"b\":2}",
        ] {
            assert_eq!(one(json), Err(NoObject::NotJson), "{json}");
        }
    }

    #[test]
    fn a_string_is_decoded_unless_it_is_no_text() {
        assert_eq!(text(r#""größe""#).as_deref(), Some("größe"));
        assert_eq!(
            text(r#""a\n\u00e9\ud83d\ude00\/""#).as_deref(),
            Some("a\né😀/")
        );
        assert_eq!(text(r#""""#).as_deref(), Some(""));
        for json in [
            r#""\ud800""#,
            r#""\ude00\ud83d""#,
            r#""\ud800\u0041""#,
            "1",
            "{}",
            "null",
        ] {
            assert_eq!(text(json), None, "{json}");
        }
    }

    #[test]
    fn whole_numbers_are_read_in_every_notation() {
        let over = 1 << 53;
        for (json, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("5.0", Some(5)),
            ("5e0", Some(5)),
            ("0.5e1", Some(5)),
            ("9007199254740991", Some(over - 1)),
            ("9007199254740992", Some(over)),
            ("9007199254740993", Some(over)),
            ("18446744073709551616", Some(over)),
            ("1e400", Some(over)),
            ("-1e400", None),
            ("-1", None),
            ("0.5", None),
            ("\"5\"", None),
            ("true", None),
            ("[5]", None),
        ] {
            assert_eq!(whole(json), expected, "{json}");
        }
    }
}
