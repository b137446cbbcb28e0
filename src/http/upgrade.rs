//! From an HTTP request to a connection. Everything that can refuse does so here, before there is any
//! WebSocket state: draining, capacity, the form of the handshake (RFC 6455 section 4.2.1), the token.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::App;
use super::bearer;
use super::error::HttpError;
use crate::auth::{Denied, Identity};
use crate::broker::toll::Rate;
use crate::clock::now_ms;
use crate::connection::session::{Bounds, Session};
use crate::connection::wire::Wire;
use crate::connection::{self, Times};
use crate::hub::peer::{Note, Peer};
use crate::protocol::close::Close;
use crate::protocol::event::{self, Connected};
use crate::protocol::request::Limits;
use crate::shutdown::SocketCount;

/// The subprotocol that is selected where the client offers it.
const SUBPROTOCOL: &str = "chat.v1";
/// What a subprotocol that carries the token begins with.
const BEARER_PROTOCOL: &str = "bearer.";

/// `/`: the WebSocket, and nothing else yet.
pub async fn root(State(app): State<Arc<App>>, request: Request) -> Response {
    if is_upgrade(request.headers()) {
        upgrade(app, request)
    } else {
        HttpError::NOT_FOUND.into_response()
    }
}

/// `/ws`: the WebSocket.
pub async fn ws(State(app): State<Arc<App>>, request: Request) -> Response {
    if is_upgrade(request.headers()) {
        upgrade(app, request)
    } else {
        HttpError::UPGRADE_REQUIRED.into_response()
    }
}

fn upgrade(app: Arc<App>, mut request: Request) -> Response {
    // Before anything else: from here on the drain waits for it.
    let Some(present) = app.shutdown.enter() else {
        return HttpError::DRAINING.into_response();
    };
    match check(&app, &request) {
        Err(error) => error.into_response(),
        Ok((identity, accept)) => {
            let selects = words(request.headers(), header::SEC_WEBSOCKET_PROTOCOL)
                .any(|offer| offer == SUBPROTOCOL);
            let upgraded = hyper::upgrade::on(&mut request);
            // Counted until the connection ends, not only until the HTTP conversation does.
            let counted = request.extensions_mut().remove::<Arc<SocketCount>>();
            tokio::spawn(async move {
                serve(app, identity, upgraded).await;
                drop((counted, present));
            });
            switching_protocols(&accept, selects)
        }
    }
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

/// The words of a header that is a comma list, over all of its lines.
fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    words(headers, header::UPGRADE).any(|word| word.eq_ignore_ascii_case("websocket"))
        && words(headers, header::CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade"))
}

/// Checks all that can refuse; gives who it is and the accept key.
fn check(app: &App, request: &Request) -> Result<(Identity, String), HttpError> {
    if app.shutdown.sockets() > app.capacity {
        return Err(HttpError::AT_CAPACITY);
    }
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(HttpError::METHOD_NOT_ALLOWED);
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(HttpError::UPGRADE_REQUIRED);
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .map_or(&b""[..], HeaderValue::as_bytes);
    if STANDARD.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
        return Err(HttpError::bad_request(
            "Sec-WebSocket-Key must be 16 bytes in base64",
        ));
    }
    let token = token(request).ok_or(Denied::MISSING);
    let identity = token.and_then(|token| app.verifier.verify(&token, SystemTime::now()));
    let identity = identity.map_err(|denied| HttpError::unauthorized(denied.message()))?;
    Ok((identity, derive_accept_key(key)))
}

/// The token: from the query, else the `Authorization` header, else the subprotocols.
fn token(request: &Request) -> Option<String> {
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri()).ok();
    let in_query = query.and_then(|query| query.0.into_iter().find(|(name, _)| name == "token"));
    if let Some((_, token)) = in_query.filter(|(_, token)| !token.is_empty()) {
        return Some(token);
    }
    let headers = request.headers();
    if let Some(token) = bearer::of(headers).and_then(|token| std::str::from_utf8(token).ok()) {
        return Some(token.to_owned());
    }
    let mut offers = words(headers, header::SEC_WEBSOCKET_PROTOCOL);
    offers
        .find_map(|offer| offer.strip_prefix(BEARER_PROTOCOL))
        .map(str::to_owned)
}

/// Takes the socket over as soon as the 101 is out, and serves the connection until it ends.
async fn serve(app: Arc<App>, identity: Identity, upgraded: OnUpgrade) {
    let upgraded = tokio::time::timeout(app.config.handshake_timeout, upgraded).await;
    let Ok(Ok(upgraded)) = upgraded else { return };
    let Some((stream, read)) = stream_of(upgraded) else {
        return;
    };
    let start = Instant::now();
    let metrics = app.hub.metrics().clone();
    let mut wire = Wire::new(stream, &read, app.config.max_frame, metrics.clone());
    drop(read);
    let times = Times {
        heartbeat: app.config.heartbeat,
        slow: app.config.slow_client_timeout,
        life: Duration::from_millis(identity.expires_at_ms().saturating_sub(now_ms())),
    };
    let peer = Arc::new(Peer::new(identity));
    greet(&app, &peer, wire.replies());
    tracing::debug!(connection = %peer.id, user = %peer.identity.user, "connection opened");
    let session = Session::new(app.hub.clone(), peer.clone(), bounds(&app));
    // The hub knows the connection from here on: a drain that began earlier is seen now, a later one
    // finds it there. One that came so late goes at once: there are few, as none is let in any more.
    if app.shutdown.is_draining() {
        peer.note(Note::Close(Close::Leaving));
    }
    drop(app);
    let (session, why) = connection::serve(wire, session, times).await;
    metrics.closes.inc(why);
    let seconds = start.elapsed().as_secs();
    let rooms = session.room_count();
    tracing::info!(connection = %peer.id, user = %peer.identity.user, why = why.label(), rooms, seconds, "connection closed");
}

fn bounds(app: &App) -> Bounds {
    let request = Limits {
        max_text: app.config.max_text,
        history: app.config.history_limit,
    };
    Bounds {
        request,
        rooms: app.config.max_rooms_per_connection,
        rate: Rate::new(app.config.rate_limit_requests, app.config.rate_limit_window),
    }
}

/// The socket under an upgraded connection, and what was read from it beyond the handshake.
fn stream_of(upgraded: Upgraded) -> Option<(TcpStream, bytes::Bytes)> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

fn greet(app: &App, peer: &Peer, out: &mut Vec<u8>) {
    let connected = Connected {
        user_id: &peer.identity.user,
        username: &peer.identity.username,
        timestamp: now_ms(),
        connection_id: peer.id,
        node_id: &app.config.node_id,
        heartbeat_ms: app.config.heartbeat.as_millis() as u64,
        expires_at: peer.identity.expires_at_ms(),
        max_text_length: app.config.max_text,
        max_frame_bytes: app.config.max_frame,
        rooms: &[],
    };
    event::put_event(out, &connected, None);
}
