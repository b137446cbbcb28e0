//! The program's start: what ends it, and with which words. And its `token` command.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::token::SECRET;
use support::{Connect, Node, node, now_ms};

#[tokio::test]
async fn without_a_secret_the_start_ends_with_status_2() {
    let (status, _, stderr) = node::run_to_end(&[], &[]).await;
    assert_eq!(status, Some(2), "{stderr}");
    assert_one_line_about("JWT_SECRET", &stderr);
}

#[tokio::test]
async fn every_bad_value_ends_the_start_with_one_line() {
    for (name, value) in [
        ("JWT_SECRET", "too-short"),
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("PORT", "-1"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("HEARTBEAT_INTERVAL", "soon"),
        ("HEARTBEAT_INTERVAL", "-5s"),
        ("HANDSHAKE_TIMEOUT", "ten"),
        ("SHUTDOWN_GRACE", "1 fortnight of"),
        ("MAX_FRAME_BYTES", "big"),
        ("MAX_FRAME_BYTES", "16XB"),
        ("MESSAGE_HISTORY_LIMIT", "many"),
        ("MESSAGE_HISTORY_LIMIT", "-3"),
        ("MAX_TEXT_LENGTH", "2k chars"),
        ("MAX_CONNECTIONS", "lots"),
        ("MAX_ROOMS_PER_CONNECTION", "1.5"),
        ("REDIS_PORT", "x"),
        ("REDIS_URL", "http://127.0.0.1:6379"),
        ("REDIS_URL", "no url"),
    ] {
        let env: Vec<_> = [("JWT_SECRET", SECRET)]
            .into_iter()
            .filter(|(usual, _)| *usual != name)
            .chain([(name, value)])
            .collect();
        let (status, _, stderr) = node::run_to_end(&[], &env).await;
        assert_eq!(status, Some(2), "{name}={value}: {stderr}");
        assert_one_line_about(name, &stderr);
        match name {
            "JWT_SECRET" => assert!(!stderr.contains(value), "a secret in {stderr:?}"),
            "REDIS_URL" => {} // It may hold a password.
            _ => assert!(
                stderr.contains(value),
                "`{value}` is not named in {stderr:?}"
            ),
        }
    }
}

#[tokio::test]
async fn an_unknown_command_is_an_error() {
    let (status, _, stderr) = node::run_to_end(&["srve"], &[("JWT_SECRET", SECRET)]).await;
    assert_eq!(status, Some(2), "{stderr}");
}

#[tokio::test]
async fn a_printed_token_gets_in() {
    let args = [
        "token",
        "--user-id",
        "ada",
        "--username",
        "Ada",
        "--ttl",
        "1m",
    ];
    let (status, stdout, stderr) = node::run_to_end(&args, &[("JWT_SECRET", SECRET)]).await;
    assert_eq!(status, Some(0), "{stderr}");
    let node = Node::embedded().await;
    let client = Connect::to(&node).token(stdout.trim()).open().await;
    assert_eq!(client.connected["username"], "Ada");
    let left = client.connected["expiresAt"]
        .as_u64()
        .unwrap()
        .saturating_sub(now_ms());
    assert!(
        (50_000..=60_000).contains(&left),
        "{left} ms left of a minute"
    );
}

#[track_caller]
fn assert_one_line_about(variable: &str, stderr: &str) {
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one line and not {lines:#?}");
    assert!(
        lines[0].contains(variable),
        "{variable} is not named: {lines:?}"
    );
}
