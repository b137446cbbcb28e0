//! The values that fields may have: texts, limits, places, and what a client resumes from.

use super::*;
use crate::id::MessageId;

fn limit_of(fields: &str, limits: Limits) -> Result<usize, Refusal> {
    match parse(frame("join", fields).as_bytes(), limits).request? {
        Request::Join { limit, .. } => Ok(limit),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_text_is_counted_in_utf16_units_and_then_trimmed() {
    assert_eq!(
        sent(&text_frame(" \u{a0}\u{feff}a b\u{feff}\\u2003")).text,
        "a b"
    );
    assert_eq!(sent(&text_frame("<b>&\\u0000\\n\\\"")).text, "<b>&\0\n\"");
    for (unit, most) in [
        ("x", 2000),
        ("é", 2000),
        ("✓", 2000),
        ("😀", 1000),
        ("\\ud83d\\ude00", 1000),
    ] {
        assert_eq!(
            sent(&text_frame(&unit.repeat(most)))
                .text
                .encode_utf16()
                .count(),
            2000
        );
        let refusal = refused(&text_frame(&unit.repeat(most + 1)));
        assert_eq!(refusal.code, ErrorCode::MessageTooLong, "{unit}");
        assert_eq!(refusal.room, Some(room("r")));
    }
    // White space counts before it is trimmed.
    assert_eq!(
        refused(&text_frame(&" ".repeat(2001))).code,
        ErrorCode::MessageTooLong
    );
    assert_eq!(
        refused(&text_frame(&" ".repeat(2000))).code,
        ErrorCode::InvalidPayload
    );
}

#[test]
fn a_limit_is_clamped() {
    for (value, limit) in [
        ("1", 1),
        ("100", 100),
        ("101", 100),
        ("0", 1),
        ("-5", 1),
        ("2.9", 2),
        ("0.1", 1),
        ("3e1", 30),
        ("1e400", 100),
        ("-1e400", 1),
        ("99999999999999999999", 100),
        ("null", 50),
    ] {
        assert_eq!(
            limit_of(&format!(r#","limit":{value}"#), LIMITS),
            Ok(limit),
            "{value}"
        );
    }
    for (history, limit) in [(100, 50), (20, 20), (0, 1)] {
        assert_eq!(limit_of("", Limits { history, ..LIMITS }), Ok(limit));
    }
}

#[test]
fn a_place_beyond_all_is_the_last() {
    let last = Some(Seq::MAX);
    for (value, place) in [
        ("0", Some(Seq(0))),
        ("5.0", Some(Seq(5))),
        ("5e0", Some(Seq(5))),
        ("null", None),
        ("9007199254740991", last),
        ("9007199254740992", last),
        ("1e400", last),
    ] {
        match read(&frame("history", &format!(r#","before":{value}"#))) {
            Ok(Request::History { before, .. }) => assert_eq!(before, place, "{value}"),
            other => panic!("{value}: {other:?}"),
        }
    }
}

#[test]
fn since_names_a_message_or_nothing_or_what_cannot_be_here() {
    let id = MessageId::parse(b"abcDEF012_-x").unwrap();
    let after = |seq| Some(Since::After(Mark { seq: Seq(seq), id }));
    let foreign = format!(r#"{{"seq":3,"id":"{}"}}"#, "x".repeat(64));
    for (value, since) in [
        ("null", None),
        (r#"{"seq":0,"id":null}"#, Some(Since::Nothing)),
        (r#"{"seq":0}"#, Some(Since::Nothing)),
        (r#"{"seq":3,"id":"abcDEF012_-x"}"#, after(3)),
        (
            r#"{"id":"abcDEF012_-\u0078","seq":9007199254740991.0}"#,
            after(Seq::MAX.0),
        ),
        (r#"{"seq":0,"id":"abcDEF012_-x"}"#, Some(Since::Unknown)),
        (r#"{"seq":3,"id":""}"#, Some(Since::Unknown)),
        (r#"{"seq":3,"id":"abcDEF 12_-x"}"#, Some(Since::Unknown)),
        (&foreign, Some(Since::Unknown)),
    ] {
        match read(&frame("join", &format!(r#","since":{value}"#))) {
            Ok(Request::Join { since: read, .. }) => assert_eq!(read, since, "{value}"),
            other => panic!("{value}: {other:?}"),
        }
    }
    let too_long = format!(r#"{{"seq":3,"id":"{}"}}"#, "x".repeat(65));
    for (value, field) in [
        ("7", "`since`"),
        ("[]", "`since`"),
        ("\"x\"", "`since`"),
        ("{}", "`since.seq`"),
        (r#"{"seq":null,"id":null}"#, "`since.seq`"),
        (r#"{"seq":-1,"id":"a"}"#, "`since.seq`"),
        (r#"{"seq":1.5,"id":"a"}"#, "`since.seq`"),
        (r#"{"seq":"1","id":"a"}"#, "`since.seq`"),
        (r#"{"seq":9007199254740992,"id":"a"}"#, "`since.seq`"),
        (r#"{"seq":1e400,"id":"a"}"#, "`since.seq`"),
        (r#"{"seq":1}"#, "`since.id`"),
        (r#"{"seq":1,"id":null}"#, "`since.id`"),
        (r#"{"seq":0,"id":7}"#, "`since.id`"),
        (r#"{"seq":1,"id":"\ud800"}"#, "`since.id`"),
        (&too_long, "`since.id`"),
    ] {
        let refusal = refused(&frame("join", &format!(r#","since":{value}"#)));
        assert_eq!(refusal.code, ErrorCode::InvalidPayload, "{value}");
        assert!(
            refusal.message.starts_with(field),
            "{value}: {}",
            refusal.message
        );
    }
}
