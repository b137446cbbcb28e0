//! How tokens are verified and issued: the secrets, where public keys come from, and what every token
//! must say. The file of public keys is read and checked here, with the rest of the configuration; the
//! JWK set behind an address is fetched later, and again and again (see `auth`).

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use hyper::http::uri::{Scheme, Uri};

use super::reader::{ConfigError, Reader, Secret};
use super::variables as var;
use super::{MIN_SECRET, TOKEN_LIFE};
use crate::keys::{PublicKey, pem};

/// Largest file of public keys, in bytes.
const MAX_KEY_FILE: u64 = 256 << 10;
/// Longest part of the file's path that an error repeats, in characters.
const MAX_SHOWN: usize = 160;
/// Longest address of a JWK set, in bytes.
const MAX_URL: usize = 2_048;

/// How tokens are verified and issued. At least one of the ways to verify one is set.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// The HS256 secret, at least [`MIN_SECRET`] bytes; without one no token is issued.
    pub secret: Option<Secret>,
    /// The one before it, still accepted; as long.
    pub previous_secret: Option<Secret>,
    /// The keys of `JWT_PUBLIC_KEY_FILE`, at most [`crate::keys::MAX_KEYS`].
    pub public_keys: Vec<PublicKey>,
    /// Where a JWK set is fetched from.
    pub jwks_url: Option<JwksUrl>,
    /// The `iss` every token must have, at most 256 bytes.
    pub issuer: Option<String>,
    /// The `aud` every token must have, at most 256 bytes.
    pub audience: Option<String>,
    /// Life of the tokens that piazza issues, within [`TOKEN_LIFE`].
    pub expires_in: Duration,
}

impl JwtConfig {
    /// Reads it; `draw` makes a secret where none is set.
    pub(super) fn read(
        reader: &Reader<'_>,
        draw: Option<fn() -> Secret>,
    ) -> Result<JwtConfig, ConfigError> {
        let set = reader.secret(var::JWT_SECRET, MIN_SECRET)?;
        let config = JwtConfig {
            secret: set.or_else(|| draw.map(|draw| draw())),
            previous_secret: reader.secret(var::JWT_PREVIOUS_SECRET, MIN_SECRET)?,
            public_keys: public_keys(reader)?,
            jwks_url: jwks_url(reader)?,
            issuer: reader.text(var::JWT_ISSUER, 256)?,
            audience: reader.text(var::JWT_AUDIENCE, 256)?,
            expires_in: reader.duration(var::JWT_EXPIRES_IN, TOKEN_LIFE)?,
        };
        if config.secret.is_none() && config.public_keys.is_empty() && config.jwks_url.is_none() {
            return Err(ConfigError::new(
                var::JWT_SECRET.name,
                format_args!(
                    "is not set; it takes at least {MIN_SECRET} bytes (or set JWT_PUBLIC_KEY_FILE \
                     or JWT_JWKS_URL, or start with --dev)"
                ),
            ));
        }
        Ok(config)
    }
}

fn public_keys(reader: &Reader<'_>) -> Result<Vec<PublicKey>, ConfigError> {
    let name = var::JWT_PUBLIC_KEY_FILE.name;
    let Some(path) = reader.path(var::JWT_PUBLIC_KEY_FILE)? else {
        return Ok(Vec::new());
    };
    let shown: String = path.to_string_lossy().chars().take(MAX_SHOWN).collect();
    let refuse =
        |why: &dyn fmt::Display| ConfigError::new(name, format_args!("names {shown:?}: {why}"));
    let file = read_file(&path).map_err(|error| refuse(&error))?;
    if file.len() as u64 > MAX_KEY_FILE {
        return Err(refuse(&"it is larger than 256 KiB"));
    }
    pem::read(&file).map_err(|why| refuse(&why))
}

/// The file's bytes, one more than [`MAX_KEY_FILE`] at most.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    // What never ends, or blocks at the opening, is no file of keys.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_KEY_FILE + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where a JWK set is fetched from: `http://` or `https://`, without a user. It displays without its query,
/// which may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Uri);

impl JwksUrl {
    fn parse(text: &str) -> Option<JwksUrl> {
        let uri: Uri = text.parse().ok().filter(|_| text.len() <= MAX_URL)?;
        let authority = uri.authority()?;
        let is_plain = !authority.host().is_empty() && !authority.as_str().contains('@');
        let scheme = uri.scheme()?;
        let speaks = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
        (is_plain && speaks).then_some(JwksUrl(uri))
    }

    /// The whole address.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether whoever is between can say which keys are good: `http://` to another machine.
    pub fn is_exposed(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_here = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        self.0.scheme() == Some(&Scheme::HTTP) && !is_here
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map_or("", |part| part.as_str());
        write!(f, "{scheme}://{authority}{}", self.0.path())
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn jwks_url(reader: &Reader<'_>) -> Result<Option<JwksUrl>, ConfigError> {
    let name = var::JWT_JWKS_URL.name;
    // What it held isn't shown: a part of it may be secret.
    let wrong = || {
        let takes = "holds no such address (not shown); it takes http://host[:port]/path or https://…, \
                     without a user";
        ConfigError::new(name, takes)
    };
    reader
        .set(name)
        .map(|text| JwksUrl::parse(&text).ok_or_else(wrong))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_and_shows_no_secret() {
        for (good, shown, exposed) in [
            (
                "https://a.example/jwks?key=s3",
                "https://a.example/jwks",
                false,
            ),
            ("http://a.example:81", "http://a.example:81/", true),
            ("http://127.0.0.1:81/k", "http://127.0.0.1:81/k", false),
            ("http://[::1]/k", "http://[::1]/k", false),
            ("http://localhost/k", "http://localhost/k", false),
            (
                "http://127.0.0.1.example/k",
                "http://127.0.0.1.example/k",
                true,
            ),
        ] {
            let url = JwksUrl::parse(good).unwrap();
            assert_eq!(format!("{url} {url:?}"), format!("{shown} {shown}"));
            assert_eq!(url.is_exposed(), exposed, "{good}");
        }
        for bad in [
            "a.example",
            "/jwks",
            "ftp://a.example/k",
            "file:///etc/passwd",
            "https://u:p@a.example/k",
            "https:///k",
            "https://a b/k",
            &format!("https://a.example/{}", "x".repeat(MAX_URL)),
        ] {
            assert_eq!(JwksUrl::parse(bad), None, "{bad}");
        }
    }
}
