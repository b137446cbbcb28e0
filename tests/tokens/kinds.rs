//! Every kind of token against a node that has keys of every kind, all in one file, and a secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::keys::Pair;
use crate::support::token::{SECRET, claims, in_seconds, mislabelled, signed, unsigned};
use crate::support::{Node, TempDir, Value, json};
use crate::{ada, assert_accepted, assert_denied};

const ALGORITHM: &str = "an algorithm that no key here is for";
const SIGNATURE: &str = "signature is wrong";

struct Issuers {
    pairs: Vec<(&'static str, Pair)>,
    file: String,
}

fn issuers() -> Issuers {
    let pairs = vec![
        ("RS256, SPKI", Pair::rsa(2048)),
        ("RS256, PKCS#1", Pair::rsa(3072)),
        ("RS256, a certificate", Pair::rsa(2048)),
        ("ES256", Pair::ec("P-256")),
        ("ES256, a certificate", Pair::ec("P-256")),
        ("EdDSA", Pair::ed25519()),
    ];
    let file = pairs.iter().map(|(name, pair)| match *name {
        "RS256, PKCS#1" => pair.pkcs1(),
        name if name.contains("certificate") => pair.certificate(),
        _ => pair.public(),
    });
    let file = file.collect();
    Issuers { pairs, file }
}

async fn node(issuers: &Issuers, env: &[(&str, &str)]) -> (Node, TempDir) {
    let dir = TempDir::new("public");
    let path = dir.join("keys.pem");
    std::fs::write(&path, &issuers.file).unwrap();
    let path = path.display().to_string();
    let env = [&[("JWT_PUBLIC_KEY_FILE", path.as_str())], env].concat();
    (Node::start(&env).await, dir)
}

fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

#[tokio::test]
async fn each_key_verifies_its_own_tokens_and_all_claims_count() {
    let issuers = issuers();
    let env = [("JWT_ISSUER", "me"), ("JWT_AUDIENCE", "chat")];
    let (node, _dir) = node(&issuers, &env).await;
    let good = with(with(ada(), "iss", "me"), "aud", json!(["x", "chat"]));
    for (name, pair) in &issuers.pairs {
        assert_accepted(&node, &pair.token(&good), name).await;
        assert_accepted(&node, &pair.token_of("any", &good), name).await;
        for (bad, said) in [
            (with(good.clone(), "iss", "you"), "issuer"),
            (with(good.clone(), "aud", "mail"), "audience"),
            (with(good.clone(), "exp", in_seconds(-1)), "expired"),
            (with(good.clone(), "exp", Value::Null), "no exp"),
            (with(good.clone(), "nbf", in_seconds(60)), "not valid yet"),
            (with(good.clone(), "userId", ""), "userId"),
            (with(good.clone(), "rooms", "all"), "rooms"),
        ] {
            assert_denied(&node, &pair.token(&bad), said, name).await;
        }
    }
    assert_accepted(&node, &claims(&good), "HS256").await;
    assert_denied(&node, &claims(&ada()), "issuer", "HS256").await;
}

#[tokio::test]
async fn no_key_verifies_what_another_signed_or_another_algorithm() {
    let issuers = issuers();
    let (node, _dir) = node(&issuers, &[]).await;
    for (name, pair) in &issuers.pairs {
        let stranger = match pair.algorithm {
            Algorithm::RS256 => Pair::rsa(2048),
            Algorithm::ES256 => Pair::ec("P-256"),
            _ => Pair::ed25519(),
        };
        assert_denied(&node, &stranger.token(&ada()), SIGNATURE, name).await;
        // A key that the token itself brings or names is no key.
        for header in [
            json!({"alg": format!("{:?}", pair.algorithm), "jwk": stranger.jwk("k")}),
            json!({"alg": format!("{:?}", pair.algorithm), "jku": "http://127.0.0.1:1/k"}),
            json!({"alg": format!("{:?}", pair.algorithm), "kid": "../../dev/null"}),
            json!({"alg": format!("{:?}", pair.algorithm), "kid": {"a": 1}}),
        ] {
            let token = stranger.token_with(&header, &ada());
            assert_denied(&node, &token, SIGNATURE, &header.to_string()).await;
        }
        // Signed well, and labelled as something else.
        for other in ["HS256", "RS256", "ES256", "EdDSA"] {
            if other == format!("{:?}", pair.algorithm) {
                continue;
            }
            let token = pair.token_with(&json!({ "alg": other }), &ada());
            assert_denied(&node, &token, SIGNATURE, &format!("{name} as {other}")).await;
        }
        for other in [
            "none", "None", "", "RS384", "RS512", "PS256", "ES384", "ES256K", "Ed25519",
        ] {
            let token = pair.token_with(&json!({ "alg": other }), &ada());
            assert_denied(&node, &token, ALGORITHM, &format!("{name} as {other}")).await;
        }
        let crit = json!({"alg": format!("{:?}", pair.algorithm), "crit": ["b64"], "b64": false});
        assert_denied(&node, &pair.token_with(&crit, &ada()), "extension", name).await;
        assert_bent_ones_are_denied(&node, pair, name).await;
    }
    for other in ["HS384", "HS512", "none"] {
        assert_denied(&node, &mislabelled(other, &ada()), ALGORITHM, other).await;
    }
    assert_denied(&node, &unsigned(&ada()), ALGORITHM, "unsigned").await;
}

/// A good token of which one part was changed after it was signed.
async fn assert_bent_ones_are_denied(node: &Node, pair: &Pair, name: &str) {
    let good = pair.token(&ada());
    let [head, _, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("{good}")
    };
    let eve = URL_SAFE_NO_PAD.encode(json!({"userId": "eve", "exp": in_seconds(9)}).to_string());
    let cut = &good[..good.len() - 4];
    for bent in [
        format!("{head}.{eve}.{signature}"),
        format!("{head}.{eve}."),
        cut.to_owned(),
        format!("{good}AAAA"),
    ] {
        assert_denied(node, &bent, SIGNATURE, name).await;
    }
}

/// The confusion of algorithms: what is public is used as if it were a secret.
#[tokio::test]
async fn nothing_public_is_a_secret() {
    let issuers = issuers();
    let (both, _dir) = node(&issuers, &[]).await;
    let (alone, _dir_alone) = node(&issuers, &[("JWT_SECRET", "")]).await;
    let mut public = vec![issuers.file.clone().into_bytes(), vec![]];
    for (_, pair) in &issuers.pairs {
        let pem = pair.public();
        public.push(pem.trim_end().as_bytes().to_vec());
        public.push(pem.into_bytes());
        public.push(pair.der());
    }
    for bytes in public {
        let key = EncodingKey::from_secret(&bytes);
        let token = jsonwebtoken::encode(&Header::default(), &ada(), &key).unwrap();
        assert_denied(&both, &token, SIGNATURE, "with a secret set").await;
        assert_denied(&alone, &token, ALGORITHM, "without one").await;
    }
    // Without a secret, no HS256 at all.
    assert_denied(&alone, &claims(&ada()), ALGORITHM, "another node's").await;
    for secret in ["", "[hidden]", "None", SECRET] {
        let token = signed(&Header::default(), &ada(), secret);
        assert_denied(&alone, &token, ALGORITHM, secret).await;
    }
    assert_accepted(&alone, &issuers.pairs[0].1.token(&ada()), "its own").await;
}
