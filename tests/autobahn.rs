//! The Autobahn test suite against the server's own reading and writing code, set up as an echo. All
//! cases but 12.* and 13.*, which are about compression, which isn't offered. `kosoku`, which
//! `tests/run` installs, runs the suite's case files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use piazza::connection::stream::Stream;
use piazza::connection::wire::{Incoming, Outflow, Wire};
use piazza::connection::{self, Handler, Times};
use piazza::protocol::close::Close;
use piazza::protocol::{Metrics, frame};
use piazza::tls::{Tls, TlsFiles};
use support::tls::Trust;
use support::{Certificate, TempDir, Value, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Alone it takes some seconds; a busy machine may need longer.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes() {
    judge(start_echo(None).await).await;
}

/// The same with TLS under it. The suite speaks plainly with a relay, and the relay TLS with the server.
#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_over_tls() {
    let certificate = Certificate::make().await;
    let files = TlsFiles {
        certificate: certificate.file().into(),
        key: certificate.key().into(),
    };
    let tls = Arc::new(Tls::new(files).unwrap());
    let echo = start_echo(Some(tls)).await;
    judge(start_relay(echo, certificate.trusted()).await).await;
}

async fn judge(echo: SocketAddr) {
    let reports = TempDir::new("autobahn");
    let output = run_cases(echo, reports.path()).await;
    let index = std::fs::read_to_string(reports.join("index.json"));
    let index = index.unwrap_or_else(|e| panic!("no report ({e}); kosoku said:\n{output}"));
    let index: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&index).unwrap();

    let cases: Vec<(&String, &Value)> = index.values().flatten().collect();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed = Vec::new();
    for (case, result) in &cases {
        let behavior = result["behavior"].as_str().expect("a behavior");
        let at_the_close = result["behaviorClose"].as_str().expect("a behaviorClose");
        *outcomes.entry(behavior).or_default() += 1;
        let is_good = |outcome| matches!(outcome, "OK" | "NON-STRICT" | "INFORMATIONAL");
        if !is_good(behavior) || !is_good(at_the_close) {
            failed.push(format!("{case}: {behavior}, at the close {at_the_close}"));
        }
    }
    println!("{} cases of the Autobahn suite: {outcomes:?}", cases.len());
    assert!(
        failed.is_empty(),
        "failed: {failed:#?}\nkosoku said:\n{output}"
    );
    assert!(
        cases.len() > 200,
        "only {} cases were run:\n{output}",
        cases.len()
    );
}

/// Runs the cases; what was printed. Whether one failed is read from the report.
async fn run_cases(echo: SocketAddr, reports: &Path) -> String {
    let kosoku = kosoku();
    assert!(
        kosoku.is_file(),
        "{} isn't there: `tests/run` installs it",
        kosoku.display()
    );
    let run = Command::new(kosoku)
        .args([
            "--mode",
            "fuzzingclient",
            "--exclude",
            "12.*",
            "--exclude",
            "13.*",
        ])
        .args(["--parallelism", "4", "--outdir"])
        .arg(reports)
        .arg(echo.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let end = within(LIMIT, "the cases to be run", run)
        .await
        .expect("kosoku runs");
    [end.stdout, end.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat()
}

/// Where `tests/run` has put it.
fn kosoku() -> PathBuf {
    match std::env::var_os("KOSOKU") {
        Some(path) => path.into(),
        None => concat!(env!("CARGO_TARGET_TMPDIR"), "/../kosoku/bin/kosoku").into(),
    }
}

/// The server's own connection, with an echo in place of a chat session.
async fn start_echo(tls: Option<Arc<Tls>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => serve(stream).await,
                    Some(tls) => serve(tls.accept(stream).await.expect("TLS")).await,
                }
            });
        }
    });
    addr
}

/// Takes plain connections and makes TLS ones of them.
async fn start_relay(to: SocketAddr, trust: Trust) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let trust = trust.clone();
            tokio::spawn(async move {
                let mut secure = trust.to(to).await;
                // How a case ends is judged by the suite.
                let _ = tokio::io::copy_bidirectional(&mut plain, &mut secure).await;
            });
        }
    });
    addr
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Into<Stream>>(mut stream: S) {
    let key = read_key(&mut stream).await;
    let accept = derive_accept_key(key.as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    let head = format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let hour = Duration::from_secs(3_600);
    let times = Times {
        heartbeat: hour,
        slow: hour,
        life: hour,
    };
    // The suite's largest message has 16 MiB.
    let wire = Wire::new(stream, b"", 32 << 20, Arc::new(Metrics::new().unwrap()));
    connection::serve(wire, Echo, times).await;
}

/// The `Sec-WebSocket-Key` of a handshake; a client says nothing more before its answer.
async fn read_key(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let is_key = name.eq_ignore_ascii_case("sec-websocket-key");
        is_key.then(|| value.trim().to_owned())
    };
    head.lines().find_map(header).expect("a key")
}

struct Echo;

impl Handler for Echo {
    fn message(&mut self, message: Incoming<'_>, out: &mut Vec<u8>) {
        match message {
            Incoming::Text(text) => frame::put_text(out, text),
            Incoming::Binary(bytes) => frame::put_binary(out, bytes),
            Incoming::Control => {}
        }
    }
    fn takes_messages(&self) -> bool {
        true
    }
    fn woken(&mut self, _: u64) -> Option<Close> {
        None
    }
    fn has_work(&self) -> bool {
        false
    }
    fn work(&mut self, _: &mut Vec<u8>) -> Option<Close> {
        None
    }
    fn dirty(&self, _: &Waker) -> u64 {
        0
    }
    fn is_owed(&self) -> bool {
        false
    }
}

impl Outflow for Echo {
    fn fill(&mut self, _: &mut Vec<u8>, _: usize) -> bool {
        false
    }
    fn settle(&mut self, _: &[u8], taken: usize, _: bool) -> usize {
        taken
    }
}
