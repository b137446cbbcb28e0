//! Frames that are made to hurt: deep ones, ones that are no text, and 20,000 mutated ones.

use serde::de::IgnoredAny;

use super::*;

#[test]
fn depth_is_neither_refused_nor_felt() {
    const DEPTH: usize = 10_000;
    let arrays = format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(DEPTH), "}".repeat(DEPTH));
    for deep in [&arrays, &objects] {
        assert!(read(&frame("join", &format!(r#","x":{deep}"#))).is_ok());
        assert!(read(&format!(r#"{{"x":{deep},"type":"ping"}}"#)).is_ok());
        for field in ["text", "clientId"] {
            let refusal = refused(&frame(
                "message",
                &format!(r#","text":"a","{field}":{deep}"#),
            ));
            assert_eq!(refusal.code, ErrorCode::InvalidPayload);
            assert!(refusal.message.contains(field));
        }
        assert_eq!(
            refused(&format!(r#"{{"type":{deep}}}"#)).code,
            ErrorCode::UnknownType
        );
        let since = refused(&frame("join", &format!(r#","since":{deep}"#)));
        assert_eq!(since.code, ErrorCode::InvalidPayload);
        let cut = format!(r#"{{"type":"ping","x":{}}}"#, &deep[..deep.len() - 1]);
        assert_eq!(refused(&cut).code, ErrorCode::InvalidJson);
    }
    assert_eq!(refused(&arrays).code, ErrorCode::InvalidPayload);
    assert_eq!(refused(&objects).code, ErrorCode::UnknownType);
    assert_eq!(refused(&"[".repeat(DEPTH)).code, ErrorCode::InvalidJson);
    let payload = format!(r#"{{"type":"ping","payload":{objects}}}"#);
    assert_eq!(read(&payload), Ok(Request::Ping));
}

#[test]
fn bytes_that_are_no_utf8_are_no_json() {
    for bad in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc3",
    ] {
        let frame = [br#"{"type":"ping","x":""#, bad, br#""}"#].concat();
        let refusal = parse(&frame, LIMITS).request.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidJson, "{bad:?}");
    }
}

/// Changes, drops, doubles or moves a few bytes of `frame`.
fn mutate(frame: &mut Vec<u8>, mut random: impl FnMut() -> usize) {
    const ALPHABET: &[u8] = b"{}[]\",:\\u0d8e-+.1nt \n\x00\x7f\xc3\xff";
    for _ in 0..1 + random() % 4 {
        if frame.is_empty() {
            return;
        }
        let (at, other) = (random() % frame.len(), random() % frame.len());
        let byte = ALPHABET[random() % ALPHABET.len()];
        match random() % 6 {
            0 => frame[at] = byte,
            1 => frame.insert(at, byte),
            2 => drop(frame.remove(at)),
            3 => frame.swap(at, other),
            4 => frame[at] ^= 1 << (random() % 8),
            _ => {
                let piece = frame[at.min(other)..at.max(other)].to_vec();
                frame.splice(at..at, piece);
            }
        }
    }
}

#[test]
fn mutated_frames_are_invalid_json_exactly_where_serde_says_so() {
    let seeds = [
        r#"{"type":"message","id":"1","payload":{"roomId":"r","text":"h\u00e9 ✓\n","clientId":"c"}}"#,
        r#"{"type":"join","payload":{"roomId":"r","limit":5e1,"since":{"seq":3,"id":"abcDEF012_-x"}}}"#,
        r#" { "type" : "history" , "payload" : { "roomId" : "r", "before" : 7.0, "x" : [[], {}] } } "#,
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize
    };
    let (mut taken, mut no_json) = (0, 0);
    for round in 0..20_000 {
        let mut frame = seeds[round % seeds.len()].as_bytes().to_vec();
        mutate(&mut frame, &mut random);
        // A skipped string's bytes are not looked at by serde_json, so UTF-8 is checked beside it.
        let is_json = std::str::from_utf8(&frame)
            .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let request = parse(&frame, LIMITS).request;
        taken += usize::from(request.is_ok());
        let code = request.err().map(|refusal| refusal.code);
        no_json += usize::from(!is_json);
        let shown = String::from_utf8_lossy(&frame);
        assert_eq!(code == Some(ErrorCode::InvalidJson), !is_json, "{shown}");
    }
    // Both sides of the line were met.
    assert!(taken > 1000 && no_json > 1000, "{taken} {no_json}");
}
