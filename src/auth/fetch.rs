//! Fetches a JWK set over HTTP: one request, one answer of bounded size, within a bounded time. No
//! redirect is followed: the operator named the source, and the source doesn't name another. Over TLS the
//! system's root certificates count, or those of `SSL_CERT_FILE`.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::header::{ACCEPT, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;

use crate::config::JwksUrl;

/// How long a fetch may take in all.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 256 << 10;

/// Fetches from one address.
#[derive(Clone)]
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: JwksUrl,
}

impl Fetcher {
    /// # Errors
    /// Where no root certificate can be read and the address needs one.
    pub(super) fn new(url: JwksUrl) -> io::Result<Fetcher> {
        let tls = HttpsConnectorBuilder::new();
        let connector = if url.uri().scheme_str() == Some("https") {
            tls.with_provider_and_native_roots(ring::default_provider())
                .map_err(|why| {
                    io::Error::other(format!("JWT_JWKS_URL needs root certificates: {why}"))
                })?
                .https_only()
                .enable_http1()
                .build()
        } else {
            // Nothing is trusted over TLS, as none is spoken: the connector has no other way to be built.
            let nobody =
                rustls::ClientConfig::builder_with_provider(ring::default_provider().into())
                    .with_safe_default_protocol_versions()
                    .map_err(io::Error::other)?
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth();
            tls.with_tls_config(nobody)
                .https_or_http()
                .enable_http1()
                .build()
        };
        let client = Client::builder(TokioExecutor::new())
            // It is used once in a while: a connection kept would be a dead one by then.
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Fetcher { client, url })
    }

    /// The source, as logs may name it.
    pub(super) fn url(&self) -> &JwksUrl {
        &self.url
    }

    /// Fetches once, within [`LIMIT`].
    ///
    /// # Errors
    /// Why there is no answer, in words for the log.
    pub(super) async fn fetch(&self) -> Result<Bytes, String> {
        tokio::time::timeout(LIMIT, self.converse())
            .await
            .unwrap_or_else(|_| Err(format!("no whole answer within {} s", LIMIT.as_secs())))
    }

    async fn converse(&self) -> Result<Bytes, String> {
        let request = Request::get(self.url.uri().clone())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, "piazza")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| with_causes(&error))?;
        if answer.status() != StatusCode::OK {
            let redirect = if answer.status().is_redirection() {
                "; redirects are not followed"
            } else {
                ""
            };
            return Err(format!("it answered {}{redirect}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => format!("its answer is longer than {} KiB", MAX_ANSWER >> 10),
            None => with_causes(&*error),
        })?;
        Ok(body.to_bytes())
    }
}

/// An error and what it came from: the outermost one says little.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
