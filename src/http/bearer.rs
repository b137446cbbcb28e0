//! `Authorization: Bearer …` (RFC 6750, section 2.1): what a request brings, and whether it is a secret of
//! the configuration.

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

use super::form;
use crate::config::Secret;

/// What stands behind `Authorization: Bearer`, without white space around it; `None` where there is
/// nothing, or more than one such header, of which none can be meant.
pub fn of(headers: &HeaderMap) -> Option<&[u8]> {
    let value = form::only(headers, header::AUTHORIZATION).ok()??.as_bytes();
    let space = value.iter().position(u8::is_ascii_whitespace)?;
    let (scheme, shown) = value.split_at_checked(space)?;
    let shown = shown.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !shown.is_empty()).then_some(shown)
}

/// Whether the request brings that secret. How long it takes tells of the secret at most its length.
pub fn is(headers: &HeaderMap, secret: &Secret) -> bool {
    of(headers).is_some_and(|shown| shown.ct_eq(secret.expose().as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn the_secret_itself_passes_and_nothing_else() {
        let secret = Secret::new("s3cret");
        for good in ["Bearer s3cret", "bearer  s3cret "] {
            assert!(is(&headers(good), &secret), "{good}");
        }
        for bad in [
            "s3cret",
            "Basic s3cret",
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Bearer s3cret2",
            "Bearer S3cret",
            "Bearer \u{e9}",
        ] {
            assert!(!is(&headers(bad), &secret), "{bad}");
        }
        assert!(!is(&HeaderMap::new(), &secret));
    }
}
