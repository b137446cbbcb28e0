//! A certificate or key that can't be used ends the start.

use crate::support::token::SECRET;
use crate::support::{Certificate, node};

/// How a start ends with these two files: status 2 and one line that begins with this variable.
async fn refused(certificate: &str, key: &str, names: &str, because: &str) {
    let env = [
        ("JWT_SECRET", SECRET),
        ("TLS_CERT_FILE", certificate),
        ("TLS_KEY_FILE", key),
    ];
    let (status, _, stderr) = node::run_to_end(&[], &env).await;
    assert_eq!(status, Some(2), "{certificate} {key}: {stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr:?}");
    assert!(stderr.starts_with(&format!("piazza: {names} ")), "{stderr}");
    assert!(stderr.contains(because), "{stderr}");
    assert!(!stderr.contains("PRIVATE"), "{stderr}");
}

#[tokio::test]
async fn bad_files_end_the_start_and_the_line_names_the_variable() {
    let (one, other) = (Certificate::make().await, Certificate::make().await);
    let (good, key) = (one.file(), one.key());
    let written = |name: &str, bytes: &[u8]| {
        let path = one.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let nowhere = one.path("nowhere");
    let empty = written("empty", b"");
    let garbage = written("garbage", &[0xff; 300]);
    let hollow = written(
        "hollow",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let cut = std::fs::read(&good).unwrap();
    let cut = written("cut", &cut[..cut.len() / 2]);
    let huge = written("huge", &vec![b'a'; (1 << 20) + 1]);
    let folder = one.path(".");

    for (file, because) in [
        (&nowhere, "No such file"),
        (&empty, "no certificate"),
        (&garbage, "no certificate"),
        (&key, "no certificate"),
        (&hollow, "certificate is bad"),
        (&cut, "PEM"),
        (&huge, "1 MiB"),
        (&folder, "no file"),
    ] {
        refused(file, &key, "TLS_CERT_FILE", because).await;
    }
    for (file, because) in [
        (&nowhere, "No such file"),
        (&empty, "no private key"),
        (&garbage, "no private key"),
        (&good, "no private key"),
        (&huge, "1 MiB"),
        (&folder, "no file"),
        (&other.key(), "isn't the certificate's key"),
    ] {
        refused(&good, file, "TLS_KEY_FILE", because).await;
    }
    refused(
        &good,
        "",
        "TLS_KEY_FILE",
        "is not set; beside TLS_CERT_FILE",
    )
    .await;
    refused("", &key, "TLS_CERT_FILE", "is not set; beside TLS_KEY_FILE").await;
}
