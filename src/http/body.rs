//! What a request's body says: JSON of at most 64 KiB, read into the type that a handler takes last. A
//! body that is none of it is answered here, with the field that is wrong.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::HttpError;

/// Larger bodies get 413, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// So much of a body that is too large is read and dropped, in bytes: who is still sending it can't
/// read the answer, and a socket that is closed with unread input takes the answer back.
const MAX_DROPPED: usize = 1024 * 1024;
/// A body must be complete after that long.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest reason that an answer gives, in characters: it may repeat what was sent.
const MAX_REASON: usize = 200;

/// The body, whatever its `Content-Type` says. 413 `BODY_TOO_LARGE`, 408 `REQUEST_TIMEOUT`, 400 `INVALID_JSON`, 400
/// `INVALID_PAYLOAD` naming the field.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, _: &S) -> Result<JsonBody<T>, HttpError> {
        let reading = tokio::time::timeout(BODY_TIMEOUT, read(request.into_body()));
        let bytes = reading.await.unwrap_or(Err(HttpError::BODY_TOO_SLOW))?;
        parse(&bytes).map(JsonBody)
    }
}

/// Reads it whole; the caller bounds the time.
async fn read(mut body: Body) -> Result<Vec<u8>, HttpError> {
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| HttpError::bad_request("the body ends early"))?;
        let data = frame.into_data().unwrap_or_default();
        length = length.saturating_add(data.len());
        if length <= MAX_BODY {
            bytes.extend_from_slice(&data);
        } else if length > MAX_DROPPED {
            break;
        }
    }
    if length > MAX_BODY {
        return Err(HttpError::BODY_TOO_LARGE);
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HttpError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut json);
    let value = read.map_err(|error| {
        let field = error.path().to_string();
        refusal(&field, &error.into_inner())
    })?;
    json.end().map_err(|error| refusal(".", &error))?;
    // A list would pass for an object whose fields it has in order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(HttpError::invalid_payload(
            "the body: must be an object".to_owned(),
        ));
    }
    Ok(value)
}

/// `field` is "." for the body itself.
fn refusal(field: &str, error: &serde_json::Error) -> HttpError {
    let reason = error.to_string();
    match error.classify() {
        Category::Data => {
            // The place in the text says less than the field does.
            let reason = reason.split(" at line ").next().unwrap_or_default();
            let field = if field == "." { "the body" } else { field };
            HttpError::invalid_payload(shortened(&format!("{field}: {reason}")))
        }
        _ => HttpError::invalid_json(shortened(&format!("the body is no JSON: {reason}"))),
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_REASON).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code)]
    struct Said {
        text: String,
        reply_to: Option<Reply>,
    }

    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Reply {
        seq: u64,
    }

    fn refused(body: &str) -> String {
        format!("{:?}", parse::<Said>(body.as_bytes()).unwrap_err())
    }

    #[test]
    fn a_refusal_names_the_field() {
        for (body, code, names) in [
            ("", "INVALID_JSON", "no JSON"),
            ("{", "INVALID_JSON", "no JSON"),
            ("{\"text\":\"a\"} x", "INVALID_JSON", "no JSON"),
            ("{\"text\":\"\u{1}\"}", "INVALID_JSON", "no JSON"),
            ("{}", "INVALID_PAYLOAD", "`text`"),
            ("5", "INVALID_PAYLOAD", "the body: "),
            ("[\"a\",null]", "INVALID_PAYLOAD", "the body: "),
            ("{\"text\":5}", "INVALID_PAYLOAD", "text: invalid type"),
            (
                "{\"text\":\"a\",\"replyTo\":{\"seq\":-1}}",
                "INVALID_PAYLOAD",
                "replyTo.seq: ",
            ),
            (
                "{\"text\":\"a\",\"text\":\"b\"}",
                "INVALID_PAYLOAD",
                "duplicate field `text`",
            ),
        ] {
            let refusal = refused(body);
            assert!(refusal.contains(code), "{body}: {refusal}");
            assert!(refusal.contains(names), "{body}: {refusal}");
            assert!(!refusal.contains(" line ") || code == "INVALID_JSON");
        }
    }

    #[test]
    fn deep_and_long_bodies_do_no_harm() {
        let deep = format!("{{\"text\":{}", "[".repeat(50_000));
        assert!(refused(&deep).contains("INVALID"));
        let long = format!("{{\"text\":\"a\",\"replyTo\":\"{}\"}}", "é".repeat(20_000));
        let refusal = refused(&long);
        assert!(refusal.contains("replyTo: "), "{refusal}");
        assert!(refusal.chars().count() < 2 * MAX_REASON, "{refusal}");
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let said: Said = parse(b" {\"text\":\"a\",\"more\":[1]} ").unwrap();
        assert_eq!(said.text, "a");
    }
}
