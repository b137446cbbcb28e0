//! The one place where a refusal becomes an HTTP response: a status, the JSON body
//! `{"code": …, "message": …}`, and the headers that its status asks for.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::auth::Refused;
use crate::limits::admission;
use crate::metrics::Refusal;

/// A refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    /// Seconds after which to try again.
    retry_after: Option<u16>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'static str,
    message: &'a str,
}

impl HttpError {
    /// There is nothing at that path.
    pub const NOT_FOUND: HttpError =
        HttpError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing here");
    /// The path takes another method.
    pub const METHOD_NOT_ALLOWED: HttpError = HttpError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        "the path takes another method",
    );
    /// The path is for WebSockets (RFC 6455, version 13).
    pub const UPGRADE_REQUIRED: HttpError = HttpError::new(
        StatusCode::UPGRADE_REQUIRED,
        "UPGRADE_REQUIRED",
        "connect with a WebSocket, version 13",
    );
    /// The web page that the browser shows may not come here.
    pub const ORIGIN_NOT_ALLOWED: HttpError = HttpError::new(
        StatusCode::FORBIDDEN,
        "ORIGIN_NOT_ALLOWED",
        "pages of that origin may not connect",
    );
    /// The request's body didn't come in time.
    pub const BODY_TOO_SLOW: HttpError = HttpError::new(
        StatusCode::REQUEST_TIMEOUT,
        "REQUEST_TIMEOUT",
        "the body didn't come in time",
    );
    /// The node is shutting down.
    pub const DRAINING: HttpError = HttpError::later("DRAINING", "the server is shutting down", 1);
    /// The node has as many connections as it takes.
    pub const AT_CAPACITY: HttpError =
        HttpError::later("AT_CAPACITY", "the server takes no more connections", 5);
    /// The request's body is larger than any that is taken.
    pub const BODY_TOO_LARGE: HttpError = HttpError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "BODY_TOO_LARGE",
        "the body may have 64 KiB at most",
    );

    /// A defect of the server's own.
    pub const INTERNAL: HttpError = HttpError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "INTERNAL_ERROR",
        "the server failed to answer",
    );

    const fn new(status: StatusCode, code: &'static str, message: &'static str) -> HttpError {
        HttpError {
            status,
            code,
            message: Cow::Borrowed(message),
            retry_after: None,
        }
    }

    /// 503: what can't be had now may be had after so many seconds.
    const fn later(code: &'static str, message: &'static str, seconds: u16) -> HttpError {
        HttpError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code,
            message: Cow::Borrowed(message),
            retry_after: Some(seconds),
        }
    }

    /// A request that isn't what it should be.
    pub fn bad_request(message: &'static str) -> HttpError {
        HttpError::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// A body that is no JSON.
    pub fn invalid_json(message: String) -> HttpError {
        HttpError {
            message: message.into(),
            ..HttpError::new(StatusCode::BAD_REQUEST, "INVALID_JSON", "")
        }
    }

    /// JSON of which something is missing or wrong; `message` names the field.
    pub fn invalid_payload(message: String) -> HttpError {
        HttpError {
            message: message.into(),
            ..HttpError::new(StatusCode::BAD_REQUEST, "INVALID_PAYLOAD", "")
        }
    }

    /// A room's id that is against the rules.
    pub fn invalid_room(message: String) -> HttpError {
        HttpError {
            message: message.into(),
            ..HttpError::new(StatusCode::BAD_REQUEST, "INVALID_ROOM", "")
        }
    }

    /// The token doesn't grant it.
    pub fn forbidden(message: &'static str) -> HttpError {
        HttpError::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// The broker, or a node, can't be reached now.
    pub fn unavailable(message: &'static str) -> HttpError {
        HttpError::later("UNAVAILABLE", message, 2)
    }

    /// 429: one has as many connections as one may have, or came too often. `after` is rounded up to whole seconds,
    /// one at least.
    pub fn too_many_connections(message: &'static str, after: Duration) -> HttpError {
        HttpError::too_many("TOO_MANY_CONNECTIONS", message, after)
    }

    /// 429: the user asks too often; after that long it may again.
    pub fn rate_limited(after: Duration) -> HttpError {
        HttpError::too_many("RATE_LIMITED", "too many requests", after)
    }

    fn too_many(code: &'static str, message: &'static str, after: Duration) -> HttpError {
        let seconds = after.as_millis().div_ceil(1_000).max(1);
        HttpError {
            retry_after: Some(u16::try_from(seconds).unwrap_or(u16::MAX)),
            ..HttpError::new(StatusCode::TOO_MANY_REQUESTS, code, message)
        }
    }

    /// A token is missing or not good.
    pub fn unauthorized(message: &'static str) -> HttpError {
        HttpError::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }
}

impl From<Refused> for HttpError {
    /// Who isn't known to have a bad token isn't told to get another one.
    fn from(refused: Refused) -> HttpError {
        match refused {
            Refused::Denied(_) => HttpError::unauthorized(refused.message()),
            Refused::KeysAway => HttpError::unavailable(refused.message()),
        }
    }
}

impl From<admission::Refused> for HttpError {
    fn from(refused: admission::Refused) -> HttpError {
        let message = match refused.why {
            Refusal::ConnectRate => "too many connects from this address",
            Refusal::User => "this user has too many connections",
            Refusal::Address => "this address has too many connections",
        };
        HttpError::too_many_connections(message, refused.retry_after)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body = Body {
            code: self.code,
            message: &self.message,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            );
        }
        response
    }
}
