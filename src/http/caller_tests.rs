//! Callers and bodies over a real socket, on routes of the kinds that there are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::auth::{Issuer, NewToken, Verifier};
use crate::broker::Broker;
use crate::broker::local::{Keep, Local};
use crate::broker::toll::Rate;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::connection::session::Bounds;
use crate::http::body::JsonBody;
use crate::hub::Hub;
use crate::id::UserId;
use crate::limits::admission::Admission;
use crate::limits::window::ByUser;
use crate::protocol::Metrics;
use crate::shutdown::Shutdown;

const KEY: &str = "a-key-of-16-byte";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[derive(Deserialize)]
struct Said {
    text: String,
}

/// That a user may send in ten minutes.
const REQUESTS: u32 = 20;

struct Server {
    addr: SocketAddr,
    config: Config,
    _serving: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(key: Option<&str>) -> Server {
        let mut values = BTreeMap::from([("JWT_SECRET", SECRET)]);
        values.extend(key.map(|key| ("API_KEY", key)));
        let config = Config::read(&|name: &str| values.get(name).map(|v| (*v).to_owned())).unwrap();
        let keep = Keep {
            messages: 1,
            idle: Duration::from_secs(60),
        };
        let metrics = Arc::new(Metrics::new().unwrap());
        let (hub, shutdown) = (
            Hub::new(Broker::Local(Local::new(keep)), metrics, 1, 1),
            Shutdown::default(),
        );
        let app = Arc::new(App {
            verifier: Verifier::new(&config.jwt),
            cluster: Cluster::new(hub.clone(), config.node_id.clone(), shutdown.clone()),
            admission: Admission::new(config.admission.clone(), hub.clone()),
            hub,
            shutdown,
            capacity: 1,
            bounds: Arc::new(Bounds::new(&config)),
            requests: ByUser::new(Rate::new(REQUESTS, Duration::from_secs(600))),
            config: config.clone(),
        });
        let routes = Router::new()
            .route("/operator", get(async |_: Operator| "the operator"))
            .route("/user", get(async |User(user): User| user.user.to_string()))
            .route("/either", get(either))
            .route("/say", post(say))
            .with_state(app);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Server {
            addr,
            config,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    fn token(&self, life: u64) -> String {
        let token = NewToken {
            user: &UserId::parse("ada").unwrap(),
            username: None,
            rooms: None,
            life: Duration::from_secs(60),
        };
        let then = SystemTime::now() - Duration::from_secs(60) + Duration::from_secs(life);
        let issuer = Issuer::new(&self.config.jwt).unwrap();
        issuer.issue(&token, then).unwrap()
    }

    async fn request(&self, request: &[u8]) -> (u16, String) {
        let talk = async {
            let mut stream = TcpStream::connect(self.addr).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), talk).await;
        let answer = answer.expect("an answer");
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    /// `GET path` with these header lines; the status, and the whole answer.
    async fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
        self.request(head.as_bytes()).await
    }

    async fn say(&self, bearer: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST /say HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {bearer}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.request(&[head.as_bytes(), body].concat()).await
    }
}

async fn either(caller: UserOrOperator) -> String {
    match caller {
        UserOrOperator::User(identity) => identity.user.to_string(),
        UserOrOperator::Operator => "the operator".into(),
    }
}

async fn say(_: Operator, JsonBody(said): JsonBody<Said>) -> String {
    said.text.len().to_string()
}

#[tokio::test]
async fn without_a_key_there_is_no_operator() {
    let server = Server::start(None).await;
    for headers in [
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer x\r\n",
    ] {
        let (status, answer) = server.get("/operator", headers).await;
        assert_eq!(status, 404, "{answer}");
        assert!(answer.ends_with(r#"{"code":"NOT_FOUND","message":"there is nothing here"}"#));
    }
    let bearer = format!("Authorization: Bearer {}\r\n", server.token(60));
    assert_eq!(server.get("/operator", &bearer).await.0, 404);
    assert_eq!(server.get("/either", &bearer).await.0, 200);
    assert_eq!(
        server.get("/either", "Authorization: Bearer \r\n").await.0,
        401
    );
}

#[tokio::test]
async fn the_operator_is_who_shows_the_whole_key() {
    let server = Server::start(Some(KEY)).await;
    for good in [
        format!("Authorization: Bearer {KEY}\r\n"),
        format!("authorization: bearer   {KEY}  \r\n"),
    ] {
        let (status, answer) = server.get("/operator", &good).await;
        assert_eq!(status, 200, "{answer}");
        assert!(
            server
                .get("/either", &good)
                .await
                .1
                .ends_with("the operator")
        );
        // A key is no token.
        assert_eq!(server.get("/user", &good).await.0, 401);
    }
    let (short, long) = (&KEY[..KEY.len() - 1], format!("{KEY}x"));
    let token = server.token(60);
    for bad in [
        String::new(),
        "Authorization: Bearer\r\n".into(),
        format!("Authorization: {KEY}\r\n"),
        format!("Authorization: Basic {KEY}\r\n"),
        format!("Authorization: Bearer {short}\r\n"),
        format!("Authorization: Bearer {long}\r\n"),
        format!("Authorization: Bearer {}\r\n", KEY.to_uppercase()),
        format!("Authorization: Bearer {token}\r\n"),
        format!("Authorization: Bearer {KEY}\r\nAuthorization: Bearer {KEY}\r\n"),
        format!("X-Api-Key: {KEY}\r\n"),
    ] {
        let (status, answer) = server.get("/operator", &bad).await;
        assert_eq!(status, 401, "{bad}: {answer}");
        assert!(
            answer.contains(r#"{"code":"UNAUTHORIZED","message":""#),
            "{answer}"
        );
        assert!(answer.contains("www-authenticate: Bearer\r\n"), "{answer}");
        assert!(
            !answer.contains(KEY) && !answer.contains(&token),
            "{answer}"
        );
    }
    let in_query = format!("/operator?token={KEY}");
    assert_eq!(server.get(&in_query, "").await.0, 401);
}

#[tokio::test]
async fn a_user_is_who_has_a_good_token() {
    let server = Server::start(Some(KEY)).await;
    let good = format!("Authorization: Bearer {}\r\n", server.token(60));
    for path in ["/user", "/either"] {
        let (status, answer) = server.get(path, &good).await;
        assert_eq!(
            (status, answer.ends_with("\r\n\r\nada")),
            (200, true),
            "{answer}"
        );
        for bad in [
            String::new(),
            format!("Authorization: Bearer {}\r\n", server.token(0)),
            format!("Authorization: Bearer {}x\r\n", server.token(60)),
            "Authorization: Bearer a.b.c\r\n".into(),
        ] {
            let (status, answer) = server.get(path, &bad).await;
            assert_eq!(status, 401, "{bad}: {answer}");
            assert!(
                answer.contains(r#"{"code":"UNAUTHORIZED","message":""#),
                "{answer}"
            );
        }
        let in_query = format!("{path}?token={}", server.token(60));
        assert_eq!(server.get(&in_query, "").await.0, 401);
    }
}

#[tokio::test]
async fn a_user_who_asks_too_often_is_told_when_to_come_back_and_an_operator_is_not() {
    let server = Server::start(Some(KEY)).await;
    let user = format!("Authorization: Bearer {}\r\n", server.token(60));
    for n in 0..REQUESTS {
        let path = ["/user", "/either"][n as usize % 2];
        assert_eq!(server.get(path, &user).await.0, 200);
    }
    for path in ["/user", "/either"] {
        let (status, answer) = server.get(path, &user).await;
        assert_eq!(status, 429, "{answer}");
        assert!(
            answer.contains(r#"{"code":"RATE_LIMITED","message":""#),
            "{answer}"
        );
        let after = answer.split("retry-after: ").nth(1).unwrap();
        let after: u64 = after.split("\r\n").next().unwrap().parse().unwrap();
        assert!((580..=600).contains(&after), "{after}");
    }
    let operator = format!("Authorization: Bearer {KEY}\r\n");
    for _ in 0..2 * REQUESTS {
        assert_eq!(server.get("/either", &operator).await.0, 200);
    }
}

#[tokio::test]
async fn a_header_that_is_no_text_is_no_trouble() {
    let server = Server::start(Some(KEY)).await;
    for path in ["/operator", "/user", "/either"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n");
        let odd = b"Authorization: Bearer \xff\xfe\xfd\r\n\r\n";
        let (status, answer) = server.request(&[head.as_bytes(), odd].concat()).await;
        assert_eq!(status, 401, "{answer}");
    }
}

#[tokio::test]
async fn a_body_is_taken_up_to_64_kib_and_refused_with_its_field() {
    let server = Server::start(Some(KEY)).await;
    let body = |length: usize| {
        let frame = r#"{"text":""}"#.len();
        format!(r#"{{"text":"{}"}}"#, "x".repeat(length - frame))
    };
    let largest = 64 * 1024;
    let (status, answer) = server.say(KEY, body(largest).as_bytes()).await;
    assert_eq!(
        (status, answer.ends_with("\r\n\r\n65525")),
        (200, true),
        "{answer}"
    );
    for length in [largest + 1, 200_000, 1_000_000] {
        let (status, answer) = server.say(KEY, body(length).as_bytes()).await;
        assert_eq!(status, 413, "{answer}");
        assert!(
            answer.contains(r#"{"code":"BODY_TOO_LARGE","message":""#),
            "{answer}"
        );
    }
    let (status, answer) = server.say(KEY, br#"{"text":5}"#).await;
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer.contains(r#"{"code":"INVALID_PAYLOAD","message":"text: "#),
        "{answer}"
    );
    let (status, answer) = server.say(KEY, b"{\"text\":\"\xff\"}").await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains(r#""code":"INVALID_JSON""#), "{answer}");
    // Who isn't let in isn't read.
    assert_eq!(server.say("wrong", b"{").await.0, 401);
}
