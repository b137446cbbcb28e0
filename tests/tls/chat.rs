//! `piazza chat` over wss.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::node_with;
use crate::support::{Certificate, Connect, SOON, token, within};

/// Runs `piazza chat` with one line to say, trusting this file; its status, and all that it printed.
async fn chat(url: &str, trusted: &str) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_piazza"))
        .args(["chat", "--room", "general", "--url", url])
        .args(["--token", &token("ben")])
        .env_clear()
        .env("SSL_CERT_FILE", trusted)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the chat starts");
    let mut input = child.stdin.take().expect("piped");
    let _ = input.write_all(b"hello from the terminal\n").await;
    drop(input);
    let end = within(SOON * 2, "the end of the chat", child.wait_with_output()).await;
    let end = end.expect("it ran");
    let said = [end.stdout, end.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (end.status.code(), said.concat())
}

#[tokio::test]
async fn it_speaks_with_who_shows_a_trusted_certificate_and_with_nobody_else() {
    let (certificate, other) = (Certificate::make().await, Certificate::make().await);
    let node = node_with(&certificate, &[]).await;
    let trust = certificate.trusted();
    let mut ada = Connect::to(&node)
        .over_tls(&trust)
        .token(&token("ada"))
        .open()
        .await;
    ada.join("general").await;
    let url = format!("wss://{}", node.addr);
    let (status, said) = chat(&url, &certificate.file()).await;
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(ada.message().await["text"], "hello from the terminal");

    let (status, said) = chat(&url, &other.file()).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("certificate"), "{said}");
    ada.expect_no("message").await;
}
