//! Opens connections to the server, and says what a refusal means: never, or later.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// An open connection.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long opening one may take.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Largest frame that is read: a history of a thousand long messages and more.
const MAX_FRAME: usize = 64 << 20;
/// The longest `Retry-After` that is obeyed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The server, and what is said to it first.
pub(super) struct Link {
    request: Request,
    url: String,
}

/// Why there is no connection.
pub(super) enum Refusal {
    /// Trying again would change nothing.
    Final(String),
    /// The server asks to come back after that long.
    Later(String, Duration),
    /// Nothing answers there.
    Unreachable(String),
}

impl Link {
    /// A link to `url` with `token`. The token goes into a header, never into the URL.
    ///
    /// # Errors
    /// One line that says what is wrong with either; the token isn't in it.
    pub(super) fn new(url: &str, token: &str) -> Result<Link, String> {
        let bad = || format!("--url holds {url:?}; it takes ws://host[:port] or wss://host[:port]");
        if !url.starts_with("ws://") && !url.starts_with("wss://") {
            return Err(bad());
        }
        let mut request = url.into_client_request().map_err(|_| bad())?;
        if request.uri().host().is_none_or(str::is_empty) {
            return Err(bad());
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| "the token holds characters that no token has".to_owned())?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        Ok(Link {
            request,
            url: url.to_owned(),
        })
    }

    /// Opens a connection, within ten seconds. With `wss` the server has to show a certificate that the
    /// system trusts, or the file that `SSL_CERT_FILE` names.
    pub(super) async fn open(&self) -> Result<Socket, Refusal> {
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .write_buffer_size(0)
            .max_write_buffer_size(1 << 20)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let opening = connect_async_with_config(self.request.clone(), Some(config), true);
        match timeout(OPEN_LIMIT, opening).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(Error::Http(response))) => Err(self.refused(&response)),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(self.unreachable(&"no answer within 10 s")),
        }
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Refusal {
        Refusal::Unreachable(format!("can't reach {}: {why}", self.url))
    }

    fn refused(&self, response: &Response) -> Refusal {
        let status = response.status().as_u16();
        let body = response.body().as_deref().unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let why = body["message"].as_str().unwrap_or("no reason given");
        let line = format!("{} answers {status}: {why}", self.url);
        match status {
            401 => Refusal::Final(format!("the server refuses the token: {why}")),
            408 | 429 | 500.. => Refusal::Later(line, retry_after(response)),
            _ => Refusal::Final(line),
        }
    }
}

fn retry_after(response: &Response) -> Duration {
    let header = response.headers().get(RETRY_AFTER);
    let seconds = header
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    Duration::from_secs(seconds).min(LONGEST_WAIT)
}

/// A random time between half of `wait` and all of it, so that clients that lost one server don't
/// come to the next all at once.
pub(super) fn jittered(wait: Duration) -> Duration {
    // Each `RandomState` has keys of its own: chance enough to spread clients.
    let chance = RandomState::new().build_hasher().finish() % 1024;
    let share = u32::try_from(chance).unwrap_or(0);
    wait / 2 + wait / 2048 * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_tokens_are_checked() {
        assert!(Link::new("ws://127.0.0.1:8080", "a.b.c").is_ok());
        assert!(Link::new("ws://[::1]:8080/ws", "a.b.c").is_ok());
        assert!(Link::new("wss://chat.example", "a.b.c").is_ok());
        for bad in ["", "ws://", "http://h", "wss://", "ws:///x", "h:1"] {
            let line = Link::new(bad, "a.b.c").err().unwrap();
            assert!(line.starts_with("--url"), "{bad}: {line}");
        }
        let line = Link::new("ws://h", "a\nb").err().unwrap();
        assert!(!line.contains("a\nb"), "{line}");
    }

    #[test]
    fn a_wait_is_spread_over_its_second_half() {
        let wait = Duration::from_secs(4);
        for _ in 0..100 {
            let spread = jittered(wait);
            assert!(spread >= wait / 2 && spread <= wait, "{spread:?}");
        }
    }

    #[test]
    fn a_refusal_is_final_or_for_later() {
        let link = Link::new("ws://h", "t").unwrap();
        let respond = |status: u16| {
            let mut response = Response::new(Some(br#"{"message":"why"}"#.to_vec()));
            *response.status_mut() = status.try_into().unwrap();
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("9999"));
            link.refused(&response)
        };
        match respond(401) {
            Refusal::Final(why) => assert_eq!(why, "the server refuses the token: why"),
            _ => panic!("401 is final"),
        }
        assert!(matches!(respond(503), Refusal::Later(_, LONGEST_WAIT)));
        assert!(matches!(respond(404), Refusal::Final(_)));
    }
}
