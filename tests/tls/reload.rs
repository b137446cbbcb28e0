//! SIGHUP: the certificate is read again, and nobody who is there notices.

use rustix::process::Signal;

use crate::node_with;
use crate::support::node::field;
use crate::support::{Certificate, Connect, Node, http, token};

/// The certificate that the node shows to who trusts this one; `None`: another one.
async fn is_shown(node: &Node, certificate: &Certificate) -> bool {
    let tcp = tokio::net::TcpStream::connect(node.addr).await.unwrap();
    let Ok(mut stream) = certificate.trusted().try_over(tcp).await else {
        return false;
    };
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown, certificate.der());
    http::get_with(&mut stream, "/health", &[]).await.status == 200
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_the_old_ones_live_on() {
    let certificate = Certificate::make().await;
    let node = node_with(&certificate, &[]).await;
    let before = certificate.trusted();
    let mut old = Connect::to(&node)
        .over_tls(&before)
        .token(&token("ada"))
        .open()
        .await;
    old.join("general").await;

    certificate.renew().await;
    assert!(
        !is_shown(&node, &certificate).await,
        "nobody has said a word"
    );
    node.signal(Signal::HUP);
    node.log("the reload", |line| {
        field(line, "message")
            .as_str()
            .is_some_and(|m| m.contains("was read again"))
    })
    .await;
    assert!(is_shown(&node, &certificate).await);

    // A ticket of the time before is worth nothing: who comes back is shown the new one, and doesn't know it.
    let tcp = tokio::net::TcpStream::connect(node.addr).await.unwrap();
    assert!(before.try_over(tcp).await.is_err());

    let after = certificate.trusted();
    let mut new = Connect::to(&node)
        .over_tls(&after)
        .token(&token("ben"))
        .open()
        .await;
    new.join("general").await;
    new.say("general", "from the new one").await;
    assert_eq!(old.message().await["text"], "from the new one");
    old.say("general", "from the old one").await;
    new.message().await;
    assert_eq!(new.message().await["text"], "from the old one");
}

#[tokio::test]
async fn a_bad_new_file_changes_nothing_and_the_log_names_it() {
    let certificate = Certificate::make().await;
    let mut node = node_with(&certificate, &[]).await;
    let key = std::fs::read(certificate.key()).unwrap();
    for (file, bytes) in [
        (certificate.key(), b"no key".to_vec()),
        (certificate.file(), b"no certificate".to_vec()),
    ] {
        let good = std::fs::read(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
        node.signal(Signal::HUP);
        let line = node
            .log("the refusal", |line| field(line, "file") == file.as_str())
            .await;
        assert_eq!(line["level"], "error", "{line}");
        std::fs::write(&file, good).unwrap();
        assert!(is_shown(&node, &certificate).await);
    }
    let key = String::from_utf8(key).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(node.logs().iter().all(|line| !line.contains(secret)));
    assert!(node.stop().await.success());
}

#[tokio::test]
async fn without_tls_a_hangup_ends_nothing() {
    let mut node = Node::embedded().await;
    node.signal(Signal::HUP);
    node.log("the answer", |line| {
        field(line, "message")
            .as_str()
            .is_some_and(|m| m.starts_with("SIGHUP"))
    })
    .await;
    assert_eq!(http::get(node.addr, "/health").await.status, 200);
    assert!(node.stop().await.success());
}
