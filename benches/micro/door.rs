//! What a connect takes before it is one: the token, and the form of the upgrade.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::Request;
use criterion::{Criterion, Throughput};
use piazza::auth::{Issuer, NewToken, Verdict, Verifier};
use piazza::config::Config;
use piazza::http::{credential, form, origin};
use piazza::id::UserId;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

fn config() -> Config {
    Config::dev(&|_| None).unwrap()
}

fn issue(config: &Config) -> String {
    let user = UserId::parse("user-1").unwrap();
    let token = NewToken {
        user: &user,
        username: Some("Somebody"),
        rooms: None,
        life: Duration::from_secs(3_600),
    };
    let issuer = Issuer::new(&config.jwt).unwrap();
    issuer.issue(&token, SystemTime::now()).unwrap()
}

pub(crate) fn tokens(c: &mut Criterion) {
    let config = config();
    let (verifier, token) = (Verifier::new(&config.jwt), issue(&config));
    let now = SystemTime::now();
    let mut group = c.benchmark_group("token");
    group.throughput(Throughput::Bytes(token.len() as u64));
    group.bench_function("HS256", |b| {
        b.iter(|| {
            let verdict = verifier.judge(black_box(&token), now);
            assert!(matches!(verdict, Verdict::Verified(_)));
        });
    });
    group.finish();
}

/// All that a node can tell of an upgrade by itself, the token aside.
pub(crate) fn upgrade(c: &mut Criterion) {
    let config = config();
    let request: Request = Request::builder()
        .uri(format!("/?token={}", issue(&config)))
        .header("host", "chat.example:8080")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("origin", "http://chat.example:8080")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Body::empty())
        .unwrap();
    let mut group = c.benchmark_group("upgrade");
    group.throughput(Throughput::Elements(1));
    group.bench_function("form, origin, token's place, accept key", |b| {
        b.iter(|| {
            let request = black_box(&request);
            form::check(request).unwrap();
            assert!(form::is_upgrade(request.headers()));
            let key = form::check_upgrade(request).unwrap();
            let (uri, headers) = (request.uri(), request.headers());
            let verdict = origin::judge(&config.allowed_origins, false, uri, headers);
            assert!(matches!(verdict, origin::Verdict::Allowed(_)));
            let token = credential::of_upgrade(request).unwrap();
            (token, derive_accept_key(key))
        });
    });
    group.finish();
}
