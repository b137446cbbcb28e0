//! What goes around every route: a request that can't be meant is refused, and every answer says to a
//! browser, whatever it is about, what it may do with it, and which pages may read it. A 101 is left alone: nothing renders it.
//!
//! - **Headers.** JSON that is opened as a page may load nothing, run nothing and be framed by nobody; it is
//!   taken for what its type says; it names its own address, which may hold a token, to nobody; it stays in
//!   no cache. A handler that answers with something else (a page) sets its own, which stay.
//! - **CORS** (the Fetch standard, section 3.2). Pages of allowed origins may read answers and send
//!   `Authorization` and JSON. There are no cookies, so credentials are never allowed. Others get no such
//!   header, and 403 where they ask beforehand.
//!
//! `Strict-Transport-Security` isn't sent: it would hold for every port of the host, those of other
//! programs too, for as long as it says. That is for whoever answers for the host.
//!
//! What hyper answers by itself, because it is no HTTP (400, 431), never gets here: those answers have no
//! body, and so nothing to render.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::HttpError;
use super::form;
use super::origin::{self, Verdict};
use crate::config::Origins;

/// What an answer has unless its handler says otherwise.
const DEFAULTS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Says a preflight's answer is good for so long, in seconds.
const PREFLIGHT_AGE: &str = "600";

/// Goes around every route.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (readers, answered) = before(&app, &request);
    let response = match answered {
        Some(response) => response,
        None => next.run(request).await,
    };
    after(&app, readers, response)
}

/// The origin whose pages may read the answer, as a header says it.
pub struct Readers(Option<HeaderValue>);

/// What is to be done before a request is answered: who may read that answer, and the answer itself where it
/// is not the handler's to give.
pub fn before<B>(app: &App, request: &hyper::Request<B>) -> (Readers, Option<Response>) {
    let (allowed, tls) = (&app.config.allowed_origins, app.config.tls.is_some());
    let verdict = origin::judge(allowed, tls, request.uri(), request.headers());
    let readable_by = match (verdict, allowed) {
        (Verdict::Allowed(_), Origins::Any) => Some(HeaderValue::from_static("*")),
        (Verdict::Allowed(origin), _) => Some(origin.clone()),
        _ => None,
    };
    let answered = match form::check(request) {
        Err(refusal) => Some(refusal.into_response()),
        Ok(()) if is_preflight(request) => Some(preflight(readable_by.is_some())),
        Ok(()) => None,
    };
    (Readers(readable_by), answered)
}

/// The answer as it goes out.
pub fn after(app: &App, Readers(readable_by): Readers, mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        for (name, value) in DEFAULTS {
            headers
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        }
        share(headers, readable_by, &app.config.allowed_origins);
    }
    response
}

/// Says who may read the answer. With any origin allowed it is the same for all; else it depends on who asks.
fn share(headers: &mut HeaderMap, readable_by: Option<HeaderValue>, allowed: &Origins) {
    if *allowed != Origins::Any {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = readable_by {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Retry-After"),
        );
    }
}

/// Whether a browser asks what a page may send, before it sends it.
fn is_preflight<B>(request: &hyper::Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(allowed: bool) -> Response {
    if !allowed {
        return HttpError::ORIGIN_NOT_ALLOWED.into_response();
    }
    let may = [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, DELETE",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE),
    ];
    (StatusCode::NO_CONTENT, may).into_response()
}
