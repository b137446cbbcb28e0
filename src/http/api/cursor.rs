//! Where a page begins: `?cursor=` as the page before gave it. To the caller it is opaque; it names the
//! last user of that page, so that a page stays right whoever came and went meanwhile.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::http::error::HttpError;
use crate::id::{MAX_ID_BYTES, UserId};

/// Longest cursor: base64url of the longest user id.
const MAX_CURSOR: usize = (MAX_ID_BYTES * 4).div_ceil(3);

/// The user behind whom the page begins; `None`: the first page. Otherwise 400 `INVALID_PAYLOAD`.
#[derive(Debug)]
pub(super) struct After(pub Option<UserId>);

#[derive(Deserialize)]
struct Page {
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for After {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<After, HttpError> {
        let bad = || HttpError::invalid_payload("cursor: must be one that a page gave".to_owned());
        let query = Query::<Page>::from_request_parts(parts, state).await;
        // Of a query nothing else is read, so nothing else can be wrong with it.
        let Query(page) = query.map_err(|_| bad())?;
        let read = |cursor: String| read(&cursor).ok_or_else(bad);
        page.cursor.map(read).transpose().map(After)
    }
}

fn read(cursor: &str) -> Option<UserId> {
    if cursor.len() > MAX_CURSOR {
        return None;
    }
    let user = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    UserId::parse(std::str::from_utf8(&user).ok()?).ok()
}

/// The cursor of the page that begins behind this user.
pub(super) fn behind(user: &UserId) -> String {
    URL_SAFE_NO_PAD.encode(user.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_others_are_refused() {
        for id in ["a", "größe", &"x".repeat(MAX_ID_BYTES), "\"\n"] {
            let user = UserId::parse(id).unwrap();
            assert_eq!(read(&behind(&user)), Some(user));
        }
        let long = URL_SAFE_NO_PAD.encode("x".repeat(MAX_ID_BYTES + 1));
        let no_text = URL_SAFE_NO_PAD.encode([0xff]);
        for bad in ["", "*", "YQ==", "Y", "null", &long, &no_text] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
