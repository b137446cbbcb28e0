//! Who calls `/api` in these tests.

use crate::support::http::{self, Response};
use crate::support::{Node, Value};

/// The operator's key.
pub(crate) const KEY: &str = "a-key-of-the-tests";

/// Somebody who brings this as `Authorization: Bearer`, or nothing.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a>(pub(crate) Option<&'a str>);

/// Who has the key.
pub(crate) const OPERATOR: Caller<'static> = Caller(Some(KEY));

impl Caller<'_> {
    /// A request to this node.
    pub(crate) async fn send(
        self,
        node: &Node,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Response {
        let bearer = self.0.map(|token| format!("Bearer {token}"));
        let headers = bearer.iter().map(|value| ("Authorization", value.as_str()));
        let headers: Vec<_> = headers.collect();
        http::send(node.addr, method, path, &headers, body).await
    }

    /// `GET path`.
    pub(crate) async fn get(self, node: &Node, path: &str) -> Response {
        self.send(node, "GET", path, None).await
    }

    /// `POST path` with this JSON.
    pub(crate) async fn post(self, node: &Node, path: &str, body: &Value) -> Response {
        let body = body.to_string();
        self.send(node, "POST", path, Some(body.as_bytes())).await
    }

    /// The JSON of `GET path`, which is answered with 200.
    pub(crate) async fn json(self, node: &Node, path: &str) -> Value {
        let response = self.get(node, path).await;
        assert_eq!(response.status, 200, "{path}: {response:?}");
        response.json()
    }
}
