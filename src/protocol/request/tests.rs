//! What each frame is read as, and which are refused how.

#![allow(clippy::unwrap_used)]

mod hostile;
mod values;

use super::*;

const LIMITS: Limits = Limits {
    max_text: 2000,
    history: 100,
};

fn read(frame: &str) -> Result<Request, Refusal> {
    parse(frame.as_bytes(), LIMITS).request
}

fn refused(frame: &str) -> Refusal {
    match read(frame) {
        Err(refusal) => refusal,
        Ok(request) => panic!("{frame} was taken as {request:?}"),
    }
}

/// A frame of that type whose payload has the room `r` and `fields`.
fn frame(kind: &str, fields: &str) -> String {
    format!(r#"{{"type":"{kind}","payload":{{"roomId":"r"{fields}}}}}"#)
}

fn text_frame(text: &str) -> String {
    frame("message", &format!(r#","text":"{text}""#))
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

fn sent(frame: &str) -> Send {
    match read(frame) {
        Ok(Request::Message(send)) => send,
        other => panic!("{frame} was taken as {other:?}"),
    }
}

#[test]
fn every_request_is_read() {
    let (join, history) = (
        frame("join", ""),
        frame("history", r#","limit":7,"before":9"#),
    );
    let typing = frame("typing", r#","isTyping":false"#);
    let expected = [
        (
            join,
            Request::Join {
                room: room("r"),
                limit: 50,
                since: None,
            },
        ),
        (frame("leave", ""), Request::Leave { room: room("r") }),
        (
            typing,
            Request::Typing {
                room: room("r"),
                is_typing: false,
            },
        ),
        (
            history,
            Request::History {
                room: room("r"),
                limit: 7,
                before: Some(Seq(9)),
            },
        ),
        (frame("users", ""), Request::Users { room: room("r") }),
        (
            r#"{"type":"refresh","payload":{"token":"a\u002eb","roomId":7}}"#.into(),
            Request::Refresh {
                token: Secret::new("a.b"),
            },
        ),
        (r#"{"type":"ping"}"#.into(), Request::Ping),
        (
            r#"{"type":"ping","payload":{"roomId":7}}"#.into(),
            Request::Ping,
        ),
    ];
    for (frame, request) in expected {
        assert_eq!(read(&frame), Ok(request), "{frame}");
    }
    let full = r#" {"id":"7","payload":{"text":" hi\n","clientId":"c","replyTo":"m","roomId":"r"},"type":"message"} "#;
    let parsed = parse(full.as_bytes(), LIMITS);
    assert_eq!(parsed.id.unwrap().as_str(), "7");
    assert_eq!(parsed.request.as_ref().unwrap().room(), Some(&room("r")));
    let send = Send {
        room: room("r"),
        text: "hi".into(),
        client_id: Some("c".into()),
        reply_to: Some("m".into()),
    };
    assert_eq!(parsed.request, Ok(Request::Message(send)));
}

#[test]
fn a_token_is_never_shown() {
    let parsed = parse(
        br#"{"type":"refresh","payload":{"token":"s3cret"}}"#,
        LIMITS,
    );
    let shown = format!("{parsed:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn null_and_unknown_fields_count_as_absent_and_the_last_duplicate_wins() {
    let bare = sent(&text_frame("hi"));
    for fields in [
        r#","text":"hi","clientId":null,"replyTo":null,"limit":"x","since":1"#,
        r#","text":7,"text":"hi""#,
        r#","\u0074ext":"hi""#,
        r#","text":"hi","x":1e400,"y":"\ud800","\udc00":[{}],"clientId":"c","clientId":null"#,
    ] {
        assert_eq!(sent(&frame("message", fields)), bare, "{fields}");
    }
    assert_eq!(
        read(r#"{"type":"x","type":"ping","payload":1,"payload":{}}"#),
        Ok(Request::Ping)
    );
}

#[test]
fn faults_are_told_in_the_order_of_the_protocol() {
    use ErrorCode::*;
    let long = "x".repeat(2001);
    let dm =
        |fields: &str| format!(r#"{{"type":"message","payload":{{"roomId":"dm:x"{fields}}}}}"#);
    let cases = [
        (r#"{"type":"x","payload":7"#.to_owned(), InvalidJson, "JSON"),
        (r#"[{"type":"ping"}]"#.to_owned(), InvalidPayload, "object"),
        (
            r#"{"type":"x","payload":7}"#.to_owned(),
            InvalidPayload,
            "`payload`",
        ),
        (
            r#"{"type":"ping","payload":null}"#.to_owned(),
            InvalidPayload,
            "`payload`",
        ),
        (
            r#"{"type":"x","payload":{},"id":7}"#.to_owned(),
            UnknownType,
            "\"x\"",
        ),
        (r#"{"payload":{}}"#.to_owned(), UnknownType, "`type`"),
        (r#"{"type":null}"#.to_owned(), UnknownType, "`type`"),
        (r#"{"type":["join"]}"#.to_owned(), UnknownType, "`type`"),
        (r#"{"type":"\ud800"}"#.to_owned(), UnknownType, "`type`"),
        (
            r#"{"type":"join","id":7,"payload":{"limit":"x"}}"#.to_owned(),
            InvalidRoom,
            "`roomId`",
        ),
        (
            r#"{"type":"message","id":7}"#.to_owned(),
            InvalidPayload,
            "`roomId` is missing",
        ),
        (
            r#"{"type":"message","payload":{"roomId":7}}"#.to_owned(),
            InvalidRoom,
            "`roomId`",
        ),
        (
            r#"{"type":"ping","id":7}"#.to_owned(),
            InvalidPayload,
            "`id`",
        ),
        (
            r#"{"type":"message","id":7,"payload":{"roomId":"r"}}"#.to_owned(),
            InvalidPayload,
            "`id`",
        ),
        (
            r#"{"type":"refresh","id":7,"payload":{}}"#.to_owned(),
            InvalidPayload,
            "`id`",
        ),
        (
            r#"{"type":"refresh"}"#.to_owned(),
            InvalidPayload,
            "`token`",
        ),
        (
            r#"{"type":"refresh","payload":{"token":""}}"#.to_owned(),
            InvalidPayload,
            "`token`",
        ),
        (
            r#"{"type":"refresh","payload":{"token":["t"]}}"#.to_owned(),
            InvalidPayload,
            "`token`",
        ),
        (
            dm(&format!(r#","text":"{long}","replyTo":7"#)),
            InvalidPayload,
            "`replyTo`",
        ),
        (dm(&format!(r#","text":"{long}""#)), MessageTooLong, "2000"),
        (dm(r#","text":" ""#), InvalidPayload, "`text`"),
        (dm(r#","text":"hi""#), Forbidden, "private"),
        (
            r#"{"type":"leave","payload":{"roomId":"dm:"}}"#.to_owned(),
            Forbidden,
            "private",
        ),
    ];
    for (frame, code, said) in cases {
        let refusal = refused(&frame);
        assert_eq!(refusal.code, code, "{frame}");
        assert!(
            refusal.message.contains(said),
            "{frame}: {}",
            refusal.message
        );
    }
}

#[test]
fn what_is_not_built_yet_is_unknown_and_a_long_type_is_cut() {
    for kind in ["direct", "read", "Join", "", "connected"] {
        assert_eq!(
            refused(&frame(kind, "")).code,
            ErrorCode::UnknownType,
            "{kind}"
        );
    }
    let refusal = refused(&frame(&"é".repeat(5000), ""));
    assert_eq!(
        refusal.message,
        format!("`type` is unknown: \"{}\"", "é".repeat(64))
    );
}

#[test]
fn a_room_must_be_a_possible_one() {
    let at_most = "x".repeat(128);
    assert!(
        read(&format!(
            r#"{{"type":"users","payload":{{"roomId":"{at_most}"}}}}"#
        ))
        .is_ok()
    );
    let too_long = format!("\"{at_most}x\"");
    for kind in ["join", "leave", "message", "typing", "history", "users"] {
        for id in [
            "7",
            "{}",
            "\"\"",
            "\"a b\"",
            "\"a\\u0000\"",
            "\"{a}\"",
            "\"\\ud800\"",
            &too_long,
        ] {
            let refusal = refused(&format!(
                r#"{{"type":"{kind}","payload":{{"roomId":{id}}}}}"#
            ));
            assert_eq!(refusal.code, ErrorCode::InvalidRoom, "{kind} {id}");
            assert_eq!(refusal.room, None);
        }
        for payload in ["{}", r#"{"roomId":null}"#] {
            let refusal = refused(&format!(r#"{{"type":"{kind}","payload":{payload}}}"#));
            let expected = match kind {
                "message" => ErrorCode::InvalidPayload,
                _ => ErrorCode::InvalidRoom,
            };
            assert_eq!(refusal.code, expected, "{kind} {payload}");
        }
    }
}

#[test]
fn a_field_of_the_wrong_form_is_named() {
    let long = format!(r#""{}""#, "x".repeat(65));
    let bad_text = ["7", "[]", "true", "\"\"", "\"\\ud800\"", long.as_str()];
    let mut cases = vec![];
    for value in bad_text {
        cases.push((
            frame("message", &format!(r#","text":"hi","clientId":{value}"#)),
            "`clientId`",
        ));
        cases.push((
            frame("message", &format!(r#","text":"hi","replyTo":{value}"#)),
            "`replyTo`",
        ));
        cases.push((
            format!(r#"{{"id":{value},{}"#, &frame("leave", "")[1..]),
            "`id`",
        ));
    }
    for value in [
        "7",
        "null",
        "{}",
        r#""""#,
        r#"" \u3000\ufeff\n""#,
        r#""a\udfff""#,
    ] {
        cases.push((frame("message", &format!(r#","text":{value}"#)), "`text`"));
    }
    cases.push((frame("message", ""), "`text`"));
    for value in ["7", "null", "\"true\"", "[]"] {
        cases.push((
            frame("typing", &format!(r#","isTyping":{value}"#)),
            "`isTyping`",
        ));
    }
    cases.push((frame("typing", ""), "`isTyping`"));
    for value in ["\"7\"", "{}", "[7]", "true"] {
        cases.push((frame("join", &format!(r#","limit":{value}"#)), "`limit`"));
        cases.push((frame("history", &format!(r#","limit":{value}"#)), "`limit`"));
        cases.push((
            frame("history", &format!(r#","before":{value}"#)),
            "`before`",
        ));
    }
    for value in ["-1", "0.5", "-1e400"] {
        cases.push((
            frame("history", &format!(r#","before":{value}"#)),
            "`before`",
        ));
    }
    for (frame, field) in cases {
        let refusal = refused(&frame);
        assert_eq!(refusal.code, ErrorCode::InvalidPayload, "{frame}");
        assert!(
            refusal.message.starts_with(field),
            "{frame}: {}",
            refusal.message
        );
        assert_eq!(refusal.room, Some(room("r")), "{frame}");
    }
}

#[test]
fn the_request_id_is_echoed_by_refusals_too() {
    let longest = "x".repeat(64);
    for rest in [
        "\"type\":\"ping\"",
        "\"type\":7",
        "\"payload\":7",
        "\"type\":\"join\"",
    ] {
        let parsed = parse(format!(r#"{{"id":"{longest}",{rest}}}"#).as_bytes(), LIMITS);
        assert_eq!(parsed.id.unwrap().as_str(), longest, "{rest}");
        let parsed = parse(
            format!(r#"{{"id":"{longest}x",{rest}}}"#).as_bytes(),
            LIMITS,
        );
        assert_eq!(parsed.id, None);
        assert!(parsed.request.is_err());
    }
    assert_eq!(
        parse(br#"{"id":null,"type":"ping"}"#, LIMITS).request,
        Ok(Request::Ping)
    );
}
