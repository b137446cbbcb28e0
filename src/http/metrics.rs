//! `/metrics`: the node's numbers in Prometheus' text format, for everyone, or with `METRICS_TOKEN` set for
//! who brings it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::bearer;
use super::error::HttpError;
use crate::metrics::{CONTENT_TYPE, Now};

/// All metrics, rendered by one reader at a time on a thread of its own: neither many readers nor a slow
/// `/proc` hold up messages.
pub async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if let Some(token) = &app.config.metrics_token
        && !bearer::is(&headers, token)
    {
        return HttpError::unauthorized("the metrics need their token").into_response();
    }
    let metrics = app.hub.metrics().clone();
    let Some(turn) = metrics.turn().await else {
        return HttpError::INTERNAL.into_response();
    };
    let now = Now {
        connections: app.hub.connection_count(),
        rooms: app.hub.room_count(),
    };
    // The turn goes along: a reader that gives up doesn't let the next one in before this is done.
    let rendered = tokio::task::spawn_blocking(move || metrics.render(now, &turn)).await;
    match rendered {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        failed => {
            tracing::error!(?failed, "can't render the metrics");
            HttpError::INTERNAL.into_response()
        }
    }
}
