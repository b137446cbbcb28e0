//! A source of a JWK set: a small real HTTP server, which counts what it is asked, and answers as it is
//! told to: well, badly, slowly, never.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{SOON, Value, eventually, json};

/// What the source does with a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// 200 with this body.
    Body(String),
    /// This status line and these header lines, without a body.
    Head(String),
    /// A body of so many bytes, without a length: until the connection is closed.
    Endless(usize),
    /// Nothing until it is told to do something else.
    Hold,
}

/// A running source.
pub(crate) struct Source {
    pub(crate) addr: SocketAddr,
    scheme: &'static str,
    answer: Arc<watch::Sender<Answer>>,
    hits: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

/// A set of these keys.
pub(crate) fn set(keys: &[Value]) -> Answer {
    Answer::Body(json!({ "keys": keys }).to_string())
}

impl Source {
    pub(crate) async fn start(answer: Answer) -> Source {
        Source::on(0, answer, None).await
    }

    /// On this port, over TLS where that is given.
    pub(crate) async fn on(port: u16, answer: Answer, tls: Option<TlsAcceptor>) -> Source {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .expect("a port");
        let addr = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let answer = Arc::new(watch::Sender::new(answer));
        let hits = Arc::new(AtomicUsize::new(0));
        let serving = tokio::spawn(serve(listener, tls, answer.clone(), hits.clone()));
        Source {
            addr,
            scheme,
            answer,
            hits,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!(
            "{}://localhost:{}/keys?key=s3cret",
            self.scheme,
            self.addr.port()
        )
    }

    /// What it does from now on, also with requests that it holds.
    pub(crate) fn says(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// How often it was asked.
    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Waits until it was asked so often in all.
    pub(crate) async fn asked(&self, times: usize) {
        let what = format!("request {times} to the source");
        eventually(SOON, &what, || async { self.hits() >= times }).await;
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    answer: Arc<watch::Sender<Answer>>,
    hits: Arc<AtomicUsize>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tls, answer, hits) = (tls.clone(), answer.subscribe(), hits.clone());
        tokio::spawn(async move {
            match tls {
                None => converse(stream, answer, &hits).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => converse(stream, answer, &hits).await,
                    Err(_) => Ok(()),
                },
            }
        });
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut answer: watch::Receiver<Answer>,
    hits: &AtomicUsize,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
    }
    hits.fetch_add(1, Ordering::SeqCst);
    let told = answer.wait_for(|answer| !matches!(answer, Answer::Hold));
    let Ok(told) = told.await.map(|told| told.clone()) else {
        return Ok(());
    };
    match told {
        Answer::Body(body) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await?;
        }
        Answer::Head(head) => {
            let head = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
        }
        Answer::Endless(bytes) => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                .await?;
            stream.write_all(&vec![b' '; bytes]).await?;
        }
        Answer::Hold => {}
    }
    stream.shutdown().await
}
