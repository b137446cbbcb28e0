//! Keys behind an address: what is taken of a set, how often it is fetched, and what a source that is away,
//! slow or mad does to whom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustix::process::Signal;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::keys::Pair;
use crate::source::{Answer, Source, set};
use crate::support::node::field;
use crate::support::token::{SECRET, claims, in_seconds};
use crate::support::{Node, SOON, TempDir, eventually, free_port, json};
use crate::{ada, assert_accepted, assert_denied, assert_unknowable, upgrade};

/// From one fetch to the next, at least.
const SPACING: Duration = Duration::from_secs(10);

async fn node(source: &Source) -> Node {
    let url = source.url();
    // One user comes fifty times at once.
    Node::start(&[("JWT_JWKS_URL", &url), ("MAX_CONNECTIONS_PER_USER", "0")]).await
}

/// Waits until the next fetch may begin, if the last one began at `since`.
async fn spaced(since: Instant) {
    tokio::time::sleep_until((since + SPACING + Duration::from_millis(300)).into()).await;
}

#[tokio::test]
async fn keys_change_by_name_with_a_fetch_every_ten_seconds_at_most() {
    let (old, new) = (Pair::rsa(2048), Pair::ec("P-256"));
    let source = Source::start(set(&[old.jwk("old")])).await;
    let began = Instant::now();
    let node = node(&source).await;
    assert_accepted(&node, &old.token_of("old", &ada()), "at the start").await;
    assert_accepted(&node, &old.token(&ada()), "without a name").await;
    assert_accepted(&node, &claims(&ada()), "by the secret").await;
    assert_eq!(source.hits(), 1);

    source.says(set(&[new.jwk("new")]));
    let asked = Instant::now();
    let fresh = new.token_of("new", &ada());
    for _ in 0..20 {
        assert_denied(&node, &fresh, "key is not known", "too early").await;
    }
    assert!(asked.elapsed() < SOON, "nobody waits between two fetches");
    // What has a name that is known, none, or nothing to stand on is no reason to fetch.
    spaced(began).await;
    let stranger = Pair::rsa(2048);
    assert_denied(
        &node,
        &stranger.token_of("old", &ada()),
        "signature",
        "known",
    )
    .await;
    assert_denied(&node, &stranger.token(&ada()), "signature", "nameless").await;
    let late = json!({"userId": "ada", "exp": in_seconds(-9)});
    assert_denied(&node, &stranger.token_of("x", &late), "expired", "late").await;
    assert_eq!(source.hits(), 1);

    assert_accepted(&node, &fresh, "after a fetch").await;
    assert_eq!(source.hits(), 2);
    // The old key was withdrawn.
    assert_denied(&node, &old.token_of("old", &ada()), "not known", "old").await;
    assert_denied(&node, &old.token(&ada()), "signature", "old, nameless").await;
    assert_eq!(source.hits(), 2);
    let logs = node.logs().concat();
    assert!(logs.contains("/keys") && !logs.contains("s3cret"), "{logs}");
}

#[tokio::test]
async fn fifty_connections_with_an_unknown_key_cost_one_fetch() {
    let pair = Pair::ed25519();
    let source = Source::start(Answer::Hold).await;
    let node = node(&source).await;
    source.asked(1).await;
    let token = pair.token_of("k", &ada());
    let crowd = join_all((0..50).map(|_| upgrade(&node, &token)));
    let release = async {
        // All of them are inside by then, or come later and find the key.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(source.hits(), 1);
        source.says(set(&[pair.jwk("k")]));
    };
    let (answers, ()) = tokio::join!(crowd, release);
    assert!(
        answers.iter().all(|answer| answer.status == 101),
        "{answers:?}"
    );
    assert_eq!(source.hits(), 1);
}

#[tokio::test]
async fn a_source_that_answers_nonsense_brings_nothing_and_blocks_nobody() {
    let pair = Pair::ec("P-256");
    let whole = json!({ "keys": [pair.jwk("k")] }).to_string();
    let elsewhere = Source::start(set(&[pair.jwk("k")])).await;
    let redirect = format!("302 Found\r\nLocation: {}", elsewhere.url());
    for (answer, why) in [
        (Answer::Body("<html>".into()), "not a JWK set"),
        (Answer::Body("[]".into()), "not a JWK set"),
        (Answer::Body(whole.clone() + "}"), "not a JWK set"),
        (
            Answer::Body(whole + &" ".repeat(300 << 10)),
            "longer than 256 KiB",
        ),
        (Answer::Endless(8 << 20), "longer than 256 KiB"),
        (Answer::Head("500 Oh".into()), "it answered 500"),
        (Answer::Head("204 No Content".into()), "it answered 204"),
        (Answer::Head(redirect), "redirects are not followed"),
        (Answer::Head("\0\r\n\r\n".into()), "invalid HTTP"),
    ] {
        let source = Source::start(answer).await;
        let node = node(&source).await;
        let line = node
            .log("why the keys can't be had", |line| {
                field(line, "why")
                    .as_str()
                    .is_some_and(|text| text.contains(why))
            })
            .await;
        assert_eq!(line["level"], "warn", "{line}");
        assert_unknowable(&node, &pair.token_of("k", &ada()), why).await;
        assert_accepted(&node, &claims(&ada()), "by the secret").await;
        assert_eq!(source.hits(), 1);
    }
    assert_eq!(elsewhere.hits(), 0, "no redirect is followed");
}

#[tokio::test]
async fn a_source_that_does_not_answer_is_waited_for_some_seconds() {
    let pair = Pair::ed25519();
    let source = Source::start(Answer::Hold).await;
    let node = node(&source).await;
    let asked = Instant::now();
    let token = pair.token_of("k", &ada());
    let path = format!("/?token={token}");
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = crate::support::http::send(node.addr, "GET", &path, &headers, None).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}",
        asked.elapsed()
    );
    assert_accepted(&node, &claims(&ada()), "by the secret").await;
    // The same over the API.
    let bearer = format!("Bearer {token}");
    let users = [("Authorization", bearer.as_str())];
    let answer = crate::support::http::send(node.addr, "GET", "/api/rooms/r/users", &users, None);
    assert_eq!(answer.await.status, 503);
    assert_eq!(source.hits(), 1);
}

#[tokio::test]
async fn a_source_that_goes_away_takes_nothing_away_and_one_that_comes_is_found() {
    let (pair, other) = (Pair::rsa(2048), Pair::ed25519());
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/keys");
    let node = Node::start(&[("JWT_JWKS_URL", &url)]).await;
    let began = Instant::now();
    assert_unknowable(&node, &pair.token_of("k", &ada()), "nobody there").await;
    let source = Source::on(port, set(&[pair.jwk("k")]), None).await;
    spaced(began).await;
    let began = Instant::now();
    assert_accepted(&node, &pair.token_of("k", &ada()), "the source came").await;
    assert_eq!(source.hits(), 1);
    drop(source);
    spaced(began).await;
    assert_unknowable(&node, &other.token_of("x", &ada()), "the source left").await;
    assert_accepted(&node, &pair.token_of("k", &ada()), "a key that is known").await;
    assert_accepted(&node, &pair.token(&ada()), "the same, nameless").await;
}

#[tokio::test]
async fn keys_for_anything_else_are_passed_over() {
    let (weak, secret) = (Pair::rsa(1024), [7_u8; 32]);
    let (enc, pss) = (Pair::rsa(2048), Pair::rsa(2048));
    let good = Pair::ed25519();
    let oct = |alg: &str| json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret), "kid": "oct", "alg": alg});
    let (mut for_enc, mut for_pss) = (enc.jwk("enc"), pss.jwk("pss"));
    for_enc["use"] = "enc".into();
    for_pss["alg"] = "PS256".into();
    let keys = [
        oct("HS256"),
        oct("RS256"),
        weak.jwk("weak"),
        for_enc,
        for_pss,
        good.jwk("good"),
    ];
    let source = Source::start(set(&keys)).await;
    let url = source.url();
    let node = Node::start(&[("JWT_JWKS_URL", &url), ("JWT_SECRET", "")]).await;
    assert_accepted(&node, &good.token_of("good", &ada()), "a good one").await;
    node.log("the weak key", |line| {
        field(line, "why")
            .as_str()
            .is_some_and(|why| why.contains("1024 bits"))
    })
    .await;
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("oct".into());
    let key = EncodingKey::from_secret(&secret);
    let symmetric = jsonwebtoken::encode(&header, &ada(), &key).unwrap();
    assert_denied(&node, &symmetric, "no key here is for", "oct").await;
    for (kid, pair) in [("weak", &weak), ("enc", &enc), ("pss", &pss)] {
        assert_denied(&node, &pair.token_of(kid, &ada()), "not known", kid).await;
        assert_denied(&node, &pair.token(&ada()), "signature", kid).await;
    }
    assert_eq!(source.hits(), 1);
}

fn acceptor(pair: &Pair) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(pair.path("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(pair.path("private.pem")).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn over_tls_the_roots_decide() {
    let (server, pair) = (Pair::ec("P-256"), Pair::ed25519());
    let trusted = server.server_certificate("localhost");
    let source = Source::on(0, set(&[pair.jwk("k")]), Some(acceptor(&server))).await;
    let (url, trusted) = (source.url(), trusted.display().to_string());
    let token = pair.token_of("k", &ada());
    let node = Node::start(&[("JWT_JWKS_URL", &url), ("SSL_CERT_FILE", &trusted)]).await;
    assert_accepted(&node, &token, "trusted").await;

    // Another root: what the source says doesn't count, and it isn't even asked.
    let other = Pair::ec("P-256");
    let other = other.server_certificate("localhost").display().to_string();
    let hits = source.hits();
    let node = Node::start(&[("JWT_JWKS_URL", &url), ("SSL_CERT_FILE", &other)]).await;
    assert_unknowable(&node, &token, "not trusted").await;
    node.log("the certificate", |line| {
        field(line, "why")
            .as_str()
            .is_some_and(|why| why.contains("certificate"))
    })
    .await;
    assert_eq!(source.hits(), hits);

    // No root at all: the start says so.
    let dir = TempDir::new("roots");
    std::fs::write(dir.join("none.pem"), "").unwrap();
    let none = dir.join("none.pem").display().to_string();
    let env = [
        ("JWT_JWKS_URL", url.as_str()),
        ("SSL_CERT_FILE", none.as_str()),
    ];
    let (status, _, stderr) = crate::support::node::run_to_end(&[], &env).await;
    assert_eq!(status, Some(1), "{stderr}");
    assert!(
        stderr.contains("JWT_JWKS_URL needs root certificates"),
        "{stderr}"
    );
}

#[tokio::test]
async fn who_waits_for_a_key_is_sent_away_by_a_node_that_stops() {
    let pair = Pair::ed25519();
    let source = Source::start(Answer::Hold).await;
    let mut node = node(&source).await;
    source.asked(1).await;
    let token = pair.token_of("k", &ada());
    let (answer, status) = tokio::join!(upgrade(&node, &token), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.signal(Signal::TERM);
    });
    let () = status;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["code"], "DRAINING");
    assert!(node.exit(SOON).await.success());
}

#[tokio::test]
async fn without_tls_the_start_warns() {
    let secret = [
        ("JWT_SECRET", SECRET),
        ("JWT_JWKS_URL", "http://192.0.2.1/keys"),
    ];
    let node = Node::start(&secret).await;
    node.log("a warning", |line| {
        field(line, "message")
            .as_str()
            .is_some_and(|text| text.contains("without TLS"))
    })
    .await;
    let is_up = || async { crate::support::http::get(node.addr, "/health").await.status == 200 };
    eventually(SOON, "the node to serve", is_up).await;
}
