//! Builds every part from the configuration, accepts sockets, and ends in order.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::auth::Verifier;
use crate::broker::{self, toll::Rate};
use crate::cluster::Cluster;
use crate::config::{BrokerConfig, Config};
use crate::connection::session::Bounds;
use crate::connection::stream::Stream;
use crate::drain;
use crate::http::socket::{Cork, Site, Socket};
use crate::http::upgrade::{self, Opened, Upgraded};
use crate::http::{self, App};
use crate::hub::Hub;
use crate::limits::admission::Admission;
use crate::limits::window::ByUser;
use crate::protocol::Metrics;
use crate::shutdown::{Shutdown, SocketCount};
use crate::tls::Tls;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 4_096;
/// Bytes that a socket takes and hasn't sent yet; more wait in their rooms' logs.
const UNSENT: u32 = 64 * 1024;
/// File descriptors that are not for clients.
const OWN_FILES: usize = 256;
/// Sockets beyond the capacity that are taken to be told so; more are dropped.
const SPARE_SOCKETS: usize = 128;
/// A request head may be so large: a token is at most 8 KiB.
const MAX_HEAD: usize = 32 * 1024;
/// How long an answer may take to be made and taken, beside the body that it waits for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a request head whose TLS handshake took all the time.
const LEAST_WAIT: Duration = Duration::from_millis(1);
/// After an accept failed for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until a signal ends it; gives the exit status. `on_listen` hears the address.
///
/// # Errors
/// Where it can't listen, or the broker's address is none.
pub async fn serve(config: Config, on_listen: impl FnOnce(SocketAddr)) -> io::Result<u8> {
    let signals = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let hangup = signal(SignalKind::hangup())?;
    let tls = config.tls.clone().map(Tls::new).transpose();
    let tls = tls.map_err(io::Error::other)?.map(Arc::new);
    let capacity = capacity(config.max_connections);
    let listener = listen(SocketAddr::new(config.host, config.port))?;
    let address = listener.local_addr()?;
    let (broker, driver) = broker::build(&config).map_err(io::Error::other)?;
    let metrics = Arc::new(Metrics::new().map_err(io::Error::other)?);
    let hub = Hub::new(
        broker,
        metrics,
        config.history_limit,
        config.presence_events_max,
    );
    let shutdown = Shutdown::default();
    let cluster = Cluster::new(hub.clone(), config.node_id.clone(), shutdown.clone());
    let admission = Admission::new(config.admission.clone(), hub.clone());
    let verifier = Verifier::new(&config.jwt);
    let keys = verifier.follow(&config.jwt)?;
    if let Some(url) = config.jwt.jwks_url.as_ref().filter(|url| url.is_exposed()) {
        tracing::warn!(%url, "the keys of tokens come without TLS: whoever is between can let anyone in");
    }
    let background = {
        let (hub, cluster, admission) = (hub.clone(), cluster.clone(), admission.clone());
        tokio::spawn(async move {
            tokio::join!(
                driver.run(hub.broker(), hub.clone()),
                hub.sweep(),
                hub.compare(),
                cluster.run(),
                admission.run(),
                keys
            )
        })
    };
    if config.broker == BrokerConfig::Embedded {
        tracing::warn!("no Redis is set: this node is alone, and forgets everything when it ends");
    }
    tracing::info!(%address, capacity, tls = tls.is_some(), "listening");
    on_listen(address);
    let grace = config.shutdown_grace;
    let spread = drain::spread_within(config.drain_spread, grace);
    let requests = Rate::new(config.rate_limit_requests, config.rate_limit_window);
    let app = Arc::new(App {
        bounds: Arc::new(Bounds::new(&config)),
        config,
        requests: ByUser::new(requests),
        verifier,
        hub: hub.clone(),
        cluster: cluster.clone(),
        admission: admission.clone(),
        shutdown: shutdown.clone(),
        capacity,
    });
    let reloading = tokio::spawn(reload(hangup, tls.clone()));
    let accepting = tokio::spawn(accept(listener, app, tls));
    let status = until_ended(signals, &hub, &shutdown, (spread, grace)).await;
    admission.farewell().await;
    cluster.farewell().await;
    accepting.abort();
    reloading.abort();
    background.abort();
    Ok(status)
}

/// The soft limit of open files, raised to the hard one, less our own; or the configured cap.
fn capacity(configured: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "can't raise the limit of open files");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let by_files = usize::try_from(files)
        .unwrap_or(usize::MAX)
        .saturating_sub(OWN_FILES);
    let wanted = if configured == 0 {
        usize::MAX
    } else {
        configured
    };
    if wanted > by_files {
        tracing::info!(
            connections = by_files,
            "the limit of open files bounds the connections"
        );
    }
    wanted.min(by_files)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    bound_unsent(&socket);
    // Accepted sockets have it from the listener.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets a socket take no more than the peer will soon get, for this and what is accepted from it. The
/// kernel would hold megabytes for each slow client, and call a full socket writable again only when a
/// third of them is gone: who takes less in a `SLOW_CLIENT_TIMEOUT` would pass for one that takes nothing.
#[cfg(target_os = "linux")]
fn bound_unsent(socket: &TcpSocket) {
    if let Err(error) = socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT) {
        tracing::warn!(%error, "can't bound what a socket holds unsent; slow clients may be dropped");
    }
}

#[cfg(not(target_os = "linux"))]
fn bound_unsent(_: &TcpSocket) {}

/// Reads the certificate again at each SIGHUP; without one there is nothing to read, and nothing ends.
async fn reload(mut hangup: Signal, tls: Option<Arc<Tls>>) {
    while hangup.recv().await.is_some() {
        let Some(tls) = tls.clone() else {
            tracing::info!("SIGHUP: there is no certificate to be read again");
            continue;
        };
        // Files may be slow. It ends with an error only where it panicked, which was said then.
        let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
    }
}

async fn accept(listener: TcpListener, app: Arc<App>, tls: Option<Arc<Tls>>) {
    let site = Arc::new(Site::new(app.clone()));
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let counted = app.shutdown.count_socket();
                if app.shutdown.sockets() <= app.capacity.saturating_add(SPARE_SOCKETS) {
                    let socket = Arc::new(Socket::new(site.clone(), peer));
                    tokio::spawn(converse(stream, socket, app.clone(), counted, tls.clone()));
                }
            }
            // It was given up before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A socket from its first byte to its end. No `async fn`: a connection would pay for the arguments as long as it
/// lasts. What goes before it is boxed, and over by then.
fn converse(
    stream: TcpStream,
    socket: Arc<Socket>,
    app: Arc<App>,
    counted: SocketCount,
    tls: Option<Arc<Tls>>,
) -> impl Future<Output = ()> {
    let opening = Box::pin(open(stream, socket, app.config.handshake_timeout, tls));
    async move {
        if let Some(opened) = opening.await {
            upgrade::serve(app, opened, counted).await;
        }
    }
}

/// The TLS handshake, where there is one, and the request head have one limit together.
async fn open(
    stream: TcpStream,
    socket: Arc<Socket>,
    limit: Duration,
    tls: Option<Arc<Tls>>,
) -> Option<Box<Opened>> {
    let start = Instant::now();
    let Some(tls) = tls else {
        return speak(stream, socket, limit).await;
    };
    let stream = tokio::time::timeout(limit, tls.accept(stream)).await;
    // The acceptor isn't held along: who is open may be the last one under an old certificate.
    drop(tls);
    match stream {
        Ok(Ok(stream)) => {
            let left = limit.saturating_sub(start.elapsed()).max(LEAST_WAIT);
            return speak(stream, socket, left).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
    None
}

/// Speaks HTTP on a stream until it ends, or becomes a WebSocket. The request head must be there after
/// `head_limit`.
async fn speak<S>(stream: S, socket: Arc<Socket>, head_limit: Duration) -> Option<Box<Opened>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Stream: From<S>,
{
    let service = {
        let socket = socket.clone();
        service_fn(move |request| socket.clone().answer(request))
    };
    let mut conversation = http1::Builder::new()
        // hyper's own clock would be another one for each socket.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Cork::new(stream)), service);
    let conversation = async {
        (&mut conversation).await?;
        let parts = conversation.into_parts();
        let mut stream = parts.io.into_inner();
        let Some(entrant) = socket.take_entrant() else {
            // hyper leaves that to others wherever an upgrade was asked for. One that is over can't be ended again.
            let _ = stream.shutdown().await;
            return hyper::Result::Ok(None);
        };
        let (stream, unsent) = stream.into_parts();
        let upgraded = Upgraded {
            stream: stream.into(),
            unsent,
            read: parts.read_buf,
        };
        Ok(Some(Box::new((entrant, upgraded))))
    };
    let mut conversation = pin!(conversation);
    let mut ended = tokio::time::timeout(head_limit, &mut conversation).await;
    if ended.is_err() && socket.has_asked() {
        let limit = http::body::BODY_TIMEOUT + ANSWER_TIMEOUT;
        ended = tokio::time::timeout(limit, conversation).await;
    }
    match ended {
        Ok(Ok(upgraded)) => return upgraded,
        Ok(Err(error)) => tracing::debug!(%error, "a conversation ended early"),
        Err(_) => tracing::debug!("a conversation took too long"),
    }
    None
}

/// Serves until a signal, and lets everyone go then; gives the exit status.
async fn until_ended(
    (mut terminate, mut interrupt): (Signal, Signal),
    hub: &Hub,
    shutdown: &Shutdown,
    (spread, grace): (Duration, Duration),
) -> u8 {
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let name = signalled().await;
    tracing::info!(signal = name, "shutting down");
    let hurry = async {
        signalled().await;
    };
    drain::run(hub, shutdown, spread, grace, hurry)
        .await
        .status()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_pays_little_for_how_it_came() {
        let size = size_of_future(converse);
        assert!(size <= 800, "{size} bytes");
    }
}
