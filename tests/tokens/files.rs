//! The file of public keys at the start: what can't be used ends it with one line that names the variable
//! and shows nothing of the file.

use std::path::Path;

use crate::keys::Pair;
use crate::support::token::SECRET;
use crate::support::{TempDir, node};

async fn refused(path: &Path, why: &str) {
    let path = path.display().to_string();
    let env = [
        ("JWT_PUBLIC_KEY_FILE", path.as_str()),
        ("JWT_SECRET", SECRET),
    ];
    let (status, stdout, stderr) = node::run_to_end(&[], &env).await;
    assert_eq!(status, Some(2), "{path}: {stderr}");
    assert_eq!(
        (stderr.lines().count(), stdout.as_str()),
        (1, ""),
        "{stderr}"
    );
    assert!(
        stderr.starts_with("piazza: JWT_PUBLIC_KEY_FILE names"),
        "{stderr}"
    );
    assert!(stderr.contains(why), "wanted {why:?}: {stderr}");
    // (`/dev/zero` has no end.)
    if std::path::Path::new(&path).is_file() {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| line.len() > 8) {
            assert!(!stderr.contains(line), "{stderr}");
        }
    }
}

#[tokio::test]
async fn what_can_not_be_used_ends_the_start() {
    let good = Pair::ed25519();
    let dir = TempDir::new("bad");
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let of = |pair: Pair| format!("{}{}", good.public(), pair.public());
    for (name, text, why) in [
        ("weak", of(Pair::rsa(1024)), "key 2 is RSA of 1024 bits"),
        ("huge", of(Pair::rsa(4104)), "key 2 is RSA of 4104 bits"),
        ("curve", of(Pair::ec("P-384")), "key 2 is none of"),
        ("private", good.private(), "key 1 is a private key"),
        (
            "both",
            good.public() + &good.private(),
            "key 2 is a private key",
        ),
        (
            "text",
            "it's a secret to everybody".into(),
            "it holds no key",
        ),
        ("empty", String::new(), "it holds no key"),
        (
            "cut",
            good.public().replace("-----END", ""),
            "it is not PEM",
        ),
        (
            "bent",
            good.public().replace("MCow", "MCox"),
            "key 1 can't be read",
        ),
        ("many", good.public().repeat(33), "more than 32 keys"),
        ("large", "# \n".repeat(100_000), "larger than 256 KiB"),
    ] {
        refused(&write(name, text), why).await;
    }
    refused(&dir.join("missing"), "No such file").await;
    refused(dir.path(), "no regular file").await;
    refused(Path::new("/dev/zero"), "no regular file").await;
}

#[tokio::test]
async fn tokens_are_made_with_a_secret_alone() {
    let pair = Pair::ed25519();
    let path = pair.path("public.pem").display().to_string();
    let env = [("JWT_PUBLIC_KEY_FILE", path.as_str())];
    let (status, stdout, stderr) = node::run_to_end(&["token", "--user-id", "u"], &env).await;
    assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(
        stderr.starts_with("piazza: JWT_SECRET is not set"),
        "{stderr}"
    );
    let (status, stdout, stderr) = node::run_to_end(&["check"], &env).await;
    assert_eq!(status, Some(0), "{stderr}");
    assert!(
        stdout.contains("tokens by JWT_PUBLIC_KEY_FILE, EdDSA\n"),
        "{stdout}"
    );
}

#[tokio::test]
async fn an_address_of_keys_is_checked_and_not_shown() {
    for bad in [
        "keys.example/k",
        "ftp://k/s3cret",
        "https://u:s3cret@k/",
        "https://",
    ] {
        let env = [("JWT_JWKS_URL", bad)];
        let (status, _, stderr) = node::run_to_end(&[], &env).await;
        assert_eq!(status, Some(2), "{bad}: {stderr}");
        assert!(
            stderr.starts_with("piazza: JWT_JWKS_URL holds no"),
            "{stderr}"
        );
        assert!(!stderr.contains("s3cret"), "{stderr}");
    }
}
