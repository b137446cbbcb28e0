//! The request parser: whatever comes, it gives a request that is valid in every field or a refusal,
//! and `INVALID_JSON` exactly where serde says so.

use piazza::protocol::request::{ErrorCode, Limits, Request, parse};
use serde::de::IgnoredAny;

use crate::fuzz;

const LIMITS: Limits = Limits {
    max_text: 20,
    history: 100,
};

#[test]
fn any_frame_is_a_valid_request_or_a_refusal() {
    fuzz("request", |frame| {
        let parsed = parse(frame, LIMITS);
        assert!(
            parsed
                .id
                .is_none_or(|id| (1..=64).contains(&id.as_str().len()))
        );
        let is_json = std::str::from_utf8(frame)
            .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        match parsed.request {
            Ok(request) => {
                assert!(is_json);
                is_valid(&request);
            }
            Err(refusal) => {
                assert_eq!(refusal.code == ErrorCode::InvalidJson, !is_json);
                assert!(!refusal.message.is_empty());
            }
        }
    });
}

fn is_valid(request: &Request) {
    if let Some(room) = request.room() {
        let room = room.as_str();
        assert!((1..=128).contains(&room.len()));
        assert!(!room.contains(|c: char| c.is_control() || c.is_whitespace() || "{}".contains(c)));
    }
    match request {
        Request::Join { limit, .. } | Request::History { limit, .. } => {
            assert!((1..=LIMITS.history).contains(limit));
        }
        Request::Message(send) => {
            assert!(!send.text.is_empty() && send.text.trim() == send.text);
            assert!(send.text.encode_utf16().count() <= LIMITS.max_text);
            for name in [&send.client_id, &send.reply_to].into_iter().flatten() {
                assert!((1..=64).contains(&name.len()));
            }
        }
        Request::Refresh { token } => assert!(!token.expose().is_empty()),
        _ => {}
    }
}
