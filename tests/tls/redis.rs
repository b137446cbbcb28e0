//! TLS between nodes and a real Redis: commands and the subscription, a wrong certificate, one that comes
//! back as another.

use tokio::net::TcpListener;

use crate::node_with;
use crate::support::node::field;
use crate::support::{
    Certificate, Client, Connect, Node, Redis, SOON, eventually, free_port, http, token, within,
};

const PASSWORD: &str = "a-password-of-the-tests";

/// A Redis that speaks TLS on a port beside its plain one.
async fn redis_with(certificate: &Certificate) -> (Redis, u16) {
    let (port, file, key) = (free_port(), certificate.file(), certificate.key());
    let options = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ];
    (Redis::start_with(&options).await, port)
}

async fn is_ready(node: &Node) -> bool {
    http::get(node.addr, "/ready").await.status == 200
}

#[tokio::test]
async fn two_nodes_meet_in_a_redis_under_tls() {
    let certificate = Certificate::make().await;
    let (redis, port) = redis_with(&certificate).await;
    let url = format!("rediss://localhost:{port}/0");
    let file = certificate.file();
    let env = [("REDIS_URL", &*url), ("SSL_CERT_FILE", &*file)];
    let (one, two) = (Node::start(&env).await, node_with(&certificate, &env).await);
    eventually(SOON, "the first node", || is_ready(&one)).await;
    let trust = certificate.trusted();
    eventually(SOON, "the second node", || async {
        let mut stream = trust.to(two.addr).await;
        http::get_with(&mut stream, "/ready", &[]).await.status == 200
    })
    .await;
    let mut ada = Client::in_room(&one, "ada", "general").await;
    let mut ben = Connect::to(&two)
        .over_tls(&trust)
        .token(&token("ben"))
        .open()
        .await;
    ben.join("general").await;
    ada.expect("user_joined").await;
    for i in 0..50 {
        ada.say("general", &format!("{i}")).await;
        assert_eq!(ben.message().await["text"], format!("{i}"));
        ben.say("general", &format!("{i} too")).await;
        ada.message().await;
        assert_eq!(ada.message().await["text"], format!("{i} too"));
        ben.message().await;
    }
    // Both kinds of connections are under TLS: the plain port has none but the asker's.
    let list: String = redis.cli(&["CLIENT", "LIST"]).await;
    let own = |line: &&str| line.contains(&format!("laddr=127.0.0.1:{port} "));
    assert_eq!(
        list.lines().filter(own).count(),
        list.lines().count() - 1,
        "{list}"
    );

    // And they come back under it.
    redis.kill_clients("normal").await;
    redis.kill_clients("pubsub").await;
    eventually(SOON, "the node again", || is_ready(&one)).await;
    ada.say("general", "again").await;
    loop {
        if ben.message().await["text"] == "again" {
            break;
        }
    }
}

#[tokio::test]
async fn a_redis_that_is_not_trusted_is_not_used_and_the_log_says_why() {
    let (certificate, other) = (Certificate::make().await, Certificate::make().await);
    let (_redis, port) = redis_with(&certificate).await;
    let url = format!("rediss://:{PASSWORD}@localhost:{port}/0");
    let file = other.file();
    let env = [("REDIS_URL", &*url), ("SSL_CERT_FILE", &*file)];
    let node = Node::start(&env).await;
    let line = node
        .log("why there is no Redis", |line| {
            field(line, "error")
                .as_str()
                .is_some_and(|error| error.contains("certificate"))
        })
        .await;
    assert_eq!(line["level"], "warn", "{line}");
    let ready = http::get(node.addr, "/ready").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(node.logs().iter().all(|line| !line.contains(PASSWORD)));
    let env = [
        env[0],
        env[1],
        ("JWT_SECRET", crate::support::token::SECRET),
    ];
    let (status, _, said) = crate::support::node::run_to_end(&["check"], &env).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("certificate") && !said.contains(PASSWORD),
        "{said}"
    );
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_have_is_refused() {
    let certificate = Certificate::make().await;
    let (_redis, port) = redis_with(&certificate).await;
    let url = format!("rediss://127.0.0.2:{port}/0");
    let file = certificate.file();
    let node = Node::start(&[("REDIS_URL", &url), ("SSL_CERT_FILE", &file)]).await;
    node.log("why there is no Redis", |line| {
        field(line, "error").as_str().is_some()
    })
    .await;
    assert!(!is_ready(&node).await);
}

/// Somebody who takes the connection and says nothing: the wait has an end, and is begun anew.
#[tokio::test]
async fn a_redis_that_never_answers_the_handshake_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rediss://localhost:{}", silent.local_addr().unwrap().port());
    let certificate = Certificate::make().await;
    let file = certificate.file();
    let node = Node::start(&[("REDIS_URL", &url), ("SSL_CERT_FILE", &file)]).await;
    let mut held = Vec::new();
    // Two connections at first, for commands and for what is published, and two more later.
    for _ in 0..4 {
        held.push(within(2 * SOON, "a connection", silent.accept()).await);
    }
    assert!(!is_ready(&node).await);
    assert_eq!(http::get(node.addr, "/health").await.status, 200);
}
