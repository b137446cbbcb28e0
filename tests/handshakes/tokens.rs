//! Where a token may stand, in which form, and what counts where there are several.

use crate::case::Answer::{Refused, Upgraded};
use crate::case::{Answer, Case, Head, TOKEN};
use crate::support::token::{claims, in_seconds};
use serde_json::json;

const UNAUTHORIZED: Answer = Refused(401, "UNAUTHORIZED");

pub(crate) fn cases() -> Vec<Case> {
    [queries(), headers(), subprotocols(), several()].concat()
}

fn queries() -> Vec<Case> {
    let query = |what, query: &str, answer| {
        let head = Head::anonymous().line(&format!("GET /ws?{query} HTTP/1.1"));
        Case::new(
            what,
            "protocol.md, Connecting; URL Standard, 5.1",
            head,
            answer,
        )
    };
    let encoded: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let twice = TOKEN.replace('.', "%252E");
    vec![
        query(
            "dots encoded",
            &format!("token={}", TOKEN.replace('.', "%2E")),
            Upgraded,
        ),
        query(
            "every letter encoded",
            &format!("token={encoded}"),
            Upgraded,
        ),
        query("encoded twice", &format!("token={twice}"), UNAUTHORIZED),
        query("the name encoded", "%74oken={token}", Upgraded),
        query("the name in capitals", "Token={token}", UNAUTHORIZED),
        query("among others", "a=1&token={token}&b=2", Upgraded),
        query("in brackets", "token[]={token}", UNAUTHORIZED),
        query("behind a semicolon", "a=1;token={token}", UNAUTHORIZED),
        query("with a space in front", "token=%20{token}", UNAUTHORIZED),
        query("with a plus sign behind", "token={token}+", UNAUTHORIZED),
        query("with a NUL behind", "token={token}%00", UNAUTHORIZED),
        query("with padding", "token={token}=", UNAUTHORIZED),
        query("with bytes that are no UTF-8", "token=%ff%fe", UNAUTHORIZED),
        query("a percent sign alone", "token=%", UNAUTHORIZED),
        query("in quotes", "token=%22{token}%22", UNAUTHORIZED),
        query("Bearer and it", "token=Bearer%20{token}", UNAUTHORIZED),
        query(
            "of 9 KiB",
            &format!("token={}", "a".repeat(9 << 10)),
            UNAUTHORIZED,
        ),
    ]
}

fn headers() -> Vec<Case> {
    let header = |what, header: &str, answer| {
        let section = "RFC 6750, 2.1; RFC 9110, 11.4";
        Case::new(what, section, Head::anonymous().with(header), answer)
    };
    vec![
        header(
            "the scheme in small letters",
            "Authorization: bearer {token}",
            Upgraded,
        ),
        header("two spaces", "Authorization: Bearer  {token}", Upgraded),
        header(
            "a space behind it",
            "Authorization: Bearer {token} ",
            Upgraded,
        ),
        header(
            "another scheme",
            "Authorization: Basic {token}",
            UNAUTHORIZED,
        ),
        header("no scheme", "Authorization: {token}", UNAUTHORIZED),
        header("a colon", "Authorization: Bearer: {token}", UNAUTHORIZED),
        header(
            "two words",
            "Authorization: Bearer {token} {token}",
            UNAUTHORIZED,
        ),
        header(
            "a comma list",
            "Authorization: Bearer {token}, Bearer {token}",
            UNAUTHORIZED,
        ),
        header(
            "a proxy's header",
            "Proxy-Authorization: Bearer {token}",
            UNAUTHORIZED,
        ),
        header("a cookie", "Cookie: token={token}", UNAUTHORIZED),
        header(
            "encoded",
            &format!("Authorization: Bearer {}", TOKEN.replace('.', "%2E")),
            UNAUTHORIZED,
        ),
    ]
}

fn subprotocols() -> Vec<Case> {
    let list = |what, value: &str, answer| {
        let head = Head::anonymous().with(&format!("Sec-WebSocket-Protocol: {value}"));
        Case::new(
            what,
            "RFC 6455, 11.3.4; protocol.md, Connecting",
            head,
            answer,
        )
    };
    vec![
        list("without spaces", "chat.v1,bearer.{token}", Upgraded),
        list("the other way round", "bearer.{token}, chat.v1", Upgraded),
        list("the token alone", "bearer.{token}", Upgraded),
        list(
            "Bearer with a capital",
            "chat.v1, Bearer.{token}",
            UNAUTHORIZED,
        ),
        list("without its prefix", "chat.v1, {token}", UNAUTHORIZED),
        list("without a token", "chat.v1", UNAUTHORIZED),
        list("an empty token", "chat.v1, bearer.", UNAUTHORIZED),
        list("two tokens", "bearer.{token}, bearer.{token}", UNAUTHORIZED),
        Case::new(
            "over two lines",
            "RFC 6455, 11.3.4",
            Head::anonymous()
                .with("Sec-WebSocket-Protocol: chat.v1")
                .with("Sec-WebSocket-Protocol: bearer.{token}"),
            Upgraded,
        ),
    ]
}

/// The first place that has one counts; two in one place are none.
fn several() -> Vec<Case> {
    let expired = claims(&json!({"userId": "eve", "exp": in_seconds(-60)}));
    let case = |what, head: Head, answer| Case::new(what, "protocol.md, Connecting", head, answer);
    let query = |query: String| Head::anonymous().line(&format!("GET /ws?{query} HTTP/1.1"));
    let bad_header = format!("Authorization: Bearer {expired}");
    let bad_list = format!("Sec-WebSocket-Protocol: bearer.{expired}");
    vec![
        case(
            "a good query, a bad header",
            Head::upgrade().with(&bad_header),
            Upgraded,
        ),
        case(
            "a good query, a bad subprotocol",
            Head::upgrade().with(&bad_list),
            Upgraded,
        ),
        case(
            "a bad query, a good header",
            query(format!("token={expired}")).with("Authorization: Bearer {token}"),
            UNAUTHORIZED,
        ),
        case(
            "an empty query, a good header",
            query("token=".to_owned()).with("Authorization: Bearer {token}"),
            Upgraded,
        ),
        case(
            "a good header, a bad subprotocol",
            Head::anonymous()
                .with("Authorization: Bearer {token}")
                .with(&bad_list),
            Upgraded,
        ),
        case(
            "a bad header, a good subprotocol",
            Head::anonymous()
                .with(&bad_header)
                .with("Sec-WebSocket-Protocol: bearer.{token}"),
            UNAUTHORIZED,
        ),
        case(
            "two in the query that agree",
            query("token={token}&token={token}".into()),
            UNAUTHORIZED,
        ),
        case(
            "a good one and a bad one in the query",
            query(format!("token={{token}}&token={expired}")),
            UNAUTHORIZED,
        ),
        case(
            "a bad one and a good one in the query",
            query(format!("token={expired}&token={{token}}")),
            UNAUTHORIZED,
        ),
        case(
            "an empty one and a good one in the query",
            query("token=&token={token}".into()),
            Upgraded,
        ),
        case(
            "two headers",
            Head::anonymous()
                .with("Authorization: Bearer {token}")
                .with(&bad_header),
            UNAUTHORIZED,
        ),
    ]
}
