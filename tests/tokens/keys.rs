//! Key pairs as operators make them, with openssl, and the tokens that are signed with them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::support::{TempDir, Value};

/// A key pair. Its files go with it.
pub(crate) struct Pair {
    pub(crate) algorithm: Algorithm,
    dir: TempDir,
}

impl Pair {
    /// RSA of so many bits.
    pub(crate) fn rsa(bits: u32) -> Pair {
        let option = format!("rsa_keygen_bits:{bits}");
        Pair::generate(
            Algorithm::RS256,
            &["-algorithm", "RSA", "-pkeyopt", &option],
        )
    }

    /// On this curve, for ES256.
    pub(crate) fn ec(curve: &str) -> Pair {
        let option = format!("ec_paramgen_curve:{curve}");
        Pair::generate(Algorithm::ES256, &["-algorithm", "EC", "-pkeyopt", &option])
    }

    pub(crate) fn ed25519() -> Pair {
        Pair::generate(Algorithm::EdDSA, &["-algorithm", "ED25519"])
    }

    fn generate(algorithm: Algorithm, options: &[&str]) -> Pair {
        let dir = TempDir::new("pair");
        let pair = Pair { algorithm, dir };
        pair.openssl(&[&["genpkey", "-out", "private.pem"], options].concat());
        pair.openssl(&[
            "pkey",
            "-in",
            "private.pem",
            "-pubout",
            "-out",
            "public.pem",
        ]);
        pair
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut openssl = Command::new("openssl");
        let run = openssl.args(arguments).current_dir(self.dir.path());
        let output = run.stdin(Stdio::null()).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The private key, PKCS#8 in PEM.
    pub(crate) fn private(&self) -> String {
        self.read("private.pem")
    }

    /// The public key, SPKI in PEM.
    pub(crate) fn public(&self) -> String {
        self.read("public.pem")
    }

    /// The public key of an RSA pair, PKCS#1 in PEM.
    pub(crate) fn pkcs1(&self) -> String {
        let to = ["-RSAPublicKey_out", "-out", "pkcs1.pem"];
        self.openssl(&[&["rsa", "-pubin", "-in", "public.pem"], &to[..]].concat());
        self.read("pkcs1.pem")
    }

    /// A certificate of it that it signed itself, in PEM.
    pub(crate) fn certificate(&self) -> String {
        let form = ["req", "-x509", "-key", "private.pem", "-subj", "/CN=issuer"];
        self.openssl(&[&form[..], &["-days", "2", "-out", "own.crt"]].concat());
        self.read("own.crt")
    }

    /// A certificate for a server of this name that is its own root; its file.
    pub(crate) fn server_certificate(&self, name: &str) -> PathBuf {
        let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
        let form = ["req", "-x509", "-key", "private.pem", "-days", "2"];
        let of = ["-subj", &subject, "-addext", &names, "-out", "server.crt"];
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
        self.openssl(&[&form[..], &of, &leaf].concat());
        self.path("server.crt")
    }

    /// The public key, SPKI in DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        let text = self.public();
        let lines = text.lines().filter(|line| !line.starts_with('-'));
        STANDARD.decode(lines.collect::<String>()).unwrap()
    }

    fn encoding(&self) -> EncodingKey {
        let pem = self.private();
        let key = match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_ed_pem(pem.as_bytes()),
        };
        key.expect("a private key")
    }

    /// A token of these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.signed(&Header::new(self.algorithm), claims)
    }

    /// A token that calls for its key by this name.
    pub(crate) fn token_of(&self, kid: &str, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(kid.to_owned());
        self.signed(&header, claims)
    }

    fn signed(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.encoding()).expect("a token")
    }

    /// A token whose header is this very JSON, whatever the key is for.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let key = self.encoding();
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &key, self.algorithm);
        format!("{text}.{}", signature.expect("a signature"))
    }

    /// The public key as a JWK of this name.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let der = self.der();
        let tail =
            |from: usize, to: usize| URL_SAFE_NO_PAD.encode(&der[der.len() - from..der.len() - to]);
        let mut jwk = match self.algorithm {
            Algorithm::RS256 => {
                let jwk = Jwk::from_encoding_key(&self.encoding(), Algorithm::RS256);
                serde_json::to_value(jwk.expect("a JWK")).unwrap()
            }
            // In both forms, the key itself is what DER ends with.
            Algorithm::ES256 => serde_json::json!({
                "kty": "EC", "crv": "P-256", "x": tail(64, 32), "y": tail(32, 0)
            }),
            _ => serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": tail(32, 0)}),
        };
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk
    }
}
