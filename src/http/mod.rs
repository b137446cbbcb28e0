//! The routes, and what a request is answered with. Upgrades are in [`upgrade`], probes in [`health`],
//! numbers in [`metrics`], what is under `/api` in [`api`], errors in [`error`]; what any request must be is said
//! by [`form`], who calls by [`caller`], as whom they count by [`client`], from which page they come by
//! [`origin`], and what they sent by [`body`]; [`hygiene`] is around all of it. [`socket`] is where a socket's
//! request comes in.

pub mod api;
pub mod bearer;
pub mod body;
pub mod caller;
pub mod client;
pub mod credential;
pub mod error;
pub mod form;
pub mod health;
pub mod hygiene;
pub mod metrics;
pub mod origin;
pub mod socket;
pub mod upgrade;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{any, get};

use self::error::HttpError;
use crate::auth::Verifier;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::connection::session::Bounds;
use crate::hub::Hub;
use crate::limits::admission::Admission;
use crate::limits::window::ByUser;
use crate::shutdown::Shutdown;

/// What the handlers work with.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// Reads tokens.
    pub verifier: Verifier,
    /// Rooms and connections.
    pub hub: Hub,
    /// The nodes.
    pub cluster: Cluster,
    /// Who gets a connection.
    pub admission: Admission,
    /// Whether the node goes on, and who is still here.
    pub shutdown: Shutdown,
    /// What a connection may ask.
    pub bounds: Arc<Bounds>,
    /// What users ask over HTTP.
    pub requests: ByUser,
    /// Sockets at once, beyond which no upgrade is done.
    pub capacity: usize,
}

/// The route table, without the WebSocket: what asks for one comes to [`upgrade`] by itself, see [`socket`].
pub fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/ws", any(async || HttpError::UPGRADE_REQUIRED))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .merge(api::routes())
        .fallback(async || HttpError::NOT_FOUND)
        .method_not_allowed_fallback(async || HttpError::METHOD_NOT_ALLOWED)
        .layer(middleware::from_fn_with_state(app.clone(), hygiene::guard))
        .with_state(app)
}
