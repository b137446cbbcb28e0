//! `/health`: does the process serve, and how is its broker. `/ready`: shall clients be sent here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::App;
use crate::clock::now_ms;
use crate::id::NodeId;

/// With no probe back for so long, in milliseconds, a node doesn't hear what is published.
const DEAF_AFTER_MS: u64 = 5_000;

/// The body of `/health`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    status: &'static str,
    timestamp: u64,
    node_id: NodeId,
    version: &'static str,
    broker: BrokerHealth,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BrokerHealth {
    kind: &'static str,
    state: &'static str,
    lag_ms: u64,
}

/// The body of `/ready`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Why the node is not whole, if it isn't.
fn ailment(app: &App) -> Option<&'static str> {
    let broker = app.hub.broker().health();
    if !broker.up {
        return Some("the broker can't be reached");
    }
    (broker.lag_ms > DEAF_AFTER_MS).then_some("what is published doesn't come back")
}

/// 200 as long as the process serves; `status` says whether all is well.
pub async fn health(State(app): State<Arc<App>>) -> Json<Health> {
    let broker = app.hub.broker().health();
    Json(Health {
        status: if ailment(&app).is_some() {
            "degraded"
        } else {
            "ok"
        },
        timestamp: now_ms(),
        node_id: app.config.node_id.clone(),
        version: env!("CARGO_PKG_VERSION"),
        broker: BrokerHealth {
            kind: broker.kind,
            state: if broker.up { "up" } else { "down" },
            lag_ms: broker.lag_ms,
        },
    })
}

/// 200, or 503 with the reason.
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Ready>) {
    let draining = app.shutdown.is_draining().then_some("draining");
    let reason = draining.or_else(|| ailment(&app));
    let status = if reason.is_some() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (
        status,
        Json(Ready {
            ready: reason.is_none(),
            reason,
        }),
    )
}
