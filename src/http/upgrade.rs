//! From an HTTP request to a connection. Everything that can refuse does so here, before there is any
//! WebSocket state: draining, capacity, the form of the handshake (RFC 6455 section 4.2.1), the origin (a page
//! of another site learns nothing more, and costs nothing more), how often the client came, the token, how
//! many connections there are.
//!
//! Whoever comes as far as the token counts as a connect, whether it is good or not. Nobody else asks the broker, so
//! what is malformed costs it nothing.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::App;
use super::client;
use super::error::HttpError;
use super::origin::{self, Verdict};
use super::{credential, form};
use crate::auth::{self, Denied, Identity};
use crate::clock::now_ms;
use crate::connection::refresh::Pass;
use crate::connection::session::Session;
use crate::connection::stream::Stream;
use crate::connection::wire::Wire;
use crate::connection::{self, Times};
use crate::hub::peer::{Note, Peer};
use crate::limits::admission::{Knock, Slot};
use crate::protocol::close::Close;
use crate::protocol::event::{self, Connected};
use crate::shutdown::{Present, SocketCount};

/// The subprotocol that is selected where the client offers it.
const SUBPROTOCOL: &str = "chat.v1";

/// One who was let in: a connection, as soon as it has its socket. Where it never has one, it ends in this order:
/// once nobody is present, all places have been given back.
pub struct Entrant {
    identity: Identity,
    slot: Slot,
    present: Present,
}

/// The socket of one who was let in.
pub struct Upgraded {
    /// The socket itself.
    pub stream: Stream,
    /// What it has to be sent before anything else: the 101, or the rest of it.
    pub unsent: Vec<u8>,
    /// What was read from it beyond the handshake.
    pub read: Bytes,
}

/// Whether a request asks for a WebSocket, where there is one: at `/` and `/ws`.
pub fn is_asked<B>(request: &Request<B>) -> bool {
    matches!(request.uri().path(), "/" | "/ws") && form::is_upgrade(request.headers())
}

/// Lets one in who asks for a WebSocket, with the 101 that says so.
///
/// # Errors
/// Why it isn't.
pub async fn enter<B>(
    app: &App,
    peer: IpAddr,
    request: &Request<B>,
) -> Result<(Entrant, Response), HttpError> {
    // Before anything else: from here on the drain waits for it.
    let present = app.shutdown.enter().ok_or(HttpError::DRAINING)?;
    let visitor = check(app, peer, request)?;
    let (identity, accept, slot) = admit(app, visitor).await?;
    let selects = form::words(request.headers(), header::SEC_WEBSOCKET_PROTOCOL)
        .any(|offer| offer == SUBPROTOCOL);
    let entrant = Entrant {
        identity,
        slot,
        present,
    };
    Ok((entrant, switching_protocols(&accept, selects)))
}

fn switching_protocols(accept: &str, selects: bool) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if selects {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
    }
    response
}

/// One whose handshake has the right form.
struct Visitor {
    knock: Knock,
    token: Result<String, Denied>,
    accept: String,
}

/// Checks all that this node can tell by itself, the token aside.
fn check<B>(app: &App, peer: IpAddr, request: &Request<B>) -> Result<Visitor, HttpError> {
    if app.shutdown.sockets() > app.capacity {
        return Err(HttpError::AT_CAPACITY);
    }
    let key = form::check_upgrade(request)?;
    let (config, tls) = (&app.config, app.config.tls.is_some());
    let (uri, headers) = (request.uri(), request.headers());
    if origin::judge(&config.allowed_origins, tls, uri, headers) == Verdict::Refused {
        return Err(HttpError::ORIGIN_NOT_ALLOWED);
    }
    // Before the token: one who came too often doesn't learn what it is worth.
    let source = client::source(app, peer, headers);
    let knock = app.admission.knock(source)?;
    Ok(Visitor {
        knock,
        token: credential::of_upgrade(request),
        accept: derive_accept_key(key),
    })
}

/// Who it is. That takes a while where the token's key has to be fetched; a node that is told to stop
/// meanwhile doesn't wait for it, and lets nobody in any more.
async fn identify(
    app: &App,
    token: Result<String, Denied>,
) -> Result<Result<Identity, auth::Refused>, HttpError> {
    let token = match token {
        Ok(token) => token,
        Err(denied) => return Ok(Err(auth::Refused::Denied(denied))),
    };
    tokio::select! {
        biased;
        identity = app.verifier.verify(&token) => Ok(identity),
        () = app.shutdown.begun() => Err(HttpError::DRAINING),
    }
}

/// Lets a visitor in whose token is good, if all nodes together have a place for it.
async fn admit(app: &App, visitor: Visitor) -> Result<(Identity, String, Slot), HttpError> {
    let Visitor {
        knock,
        token,
        accept,
    } = visitor;
    match identify(app, token).await? {
        Ok(identity) => {
            let slot = knock.enter(&identity.user).await?;
            Ok((identity, accept, slot))
        }
        Err(refused) => {
            knock.turned_away().await?;
            Err(refused.into())
        }
    }
}

/// One who was let in, with the socket.
pub type Opened = (Entrant, Upgraded);

/// Who stays counted until the connection ends. Dropped in this order: once nobody is present, all places have
/// been given back.
type Counted = (Slot, SocketCount, Present);

/// Serves the connection until it ends. No `async fn`, and what it begins with is boxed: every idle connection
/// would pay for what its future holds beside what that is moved into.
pub fn serve(app: Arc<App>, opened: Box<Opened>, counted: SocketCount) -> impl Future<Output = ()> {
    let start = Instant::now();
    let (entrant, upgraded) = *opened;
    let counted: Counted = (entrant.slot, counted, entrant.present);
    let visitor = Box::new((app, entrant.identity, upgraded));
    async move {
        let (session, why) = begin(visitor).await;
        session.say_closed(why, start.elapsed());
        drop(session);
        drop(counted);
    }
}

#[expect(
    clippy::boxed_local,
    reason = "it is unpacked here, so that the caller's future holds a pointer and no arguments"
)]
fn begin(visitor: Box<(Arc<App>, Identity, Upgraded)>) -> impl Future<Output = (Session, Close)> {
    let (app, identity, upgraded) = *visitor;
    let metrics = app.hub.metrics().clone();
    let (max_frame, read) = (app.config.max_frame, upgraded.read);
    let mut wire = Wire::new(upgraded.stream, &read, max_frame, metrics);
    wire.send_first(upgraded.unsent);
    let times = Times {
        heartbeat: app.config.heartbeat,
        slow: app.config.slow_client_timeout,
        life: identity.life_left(),
    };
    let peer = Arc::new(Peer::new(&identity));
    greet(&app, &peer, identity.expires_at_ms(), wire.replies());
    let pass = Pass::new(identity, app.verifier.clone());
    tracing::debug!(connection = %peer.id, user = %peer.identity.user, "connection opened");
    let session = Session::new(app.hub.clone(), peer.clone(), pass, app.bounds.clone());
    // The hub knows the connection from here on: a drain that began earlier is seen now, a later one
    // finds it there. One that came so late goes at once: there are few, as none is let in any more.
    if app.shutdown.is_draining() {
        peer.note(Note::Close(Close::Leaving));
    }
    connection::serve(wire, session, times)
}

fn greet(app: &App, peer: &Peer, expires_at: u64, out: &mut Vec<u8>) {
    let connected = Connected {
        user_id: &peer.identity.user,
        username: &peer.identity.username,
        timestamp: now_ms(),
        connection_id: peer.id,
        node_id: &app.config.node_id,
        heartbeat_ms: app.config.heartbeat.as_millis() as u64,
        expires_at,
        max_text_length: app.config.max_text,
        max_frame_bytes: app.config.max_frame,
        rooms: &[],
    };
    event::put_event(out, &connected, None);
}
