//! The fetches of a JWK set against a source that the test holds in its hand.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;
use crate::config::Config;

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(3600);
const GOOD: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"K",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn url() -> JwksUrl {
    let source = |name: &str| (name == "JWT_JWKS_URL").then(|| "http://127.0.0.1/k".to_owned());
    let url = Config::read(&source).unwrap().jwt.jwks_url;
    url.unwrap()
}

fn pace(spacing: Duration, retry: Duration) -> Pace {
    Pace {
        spacing,
        regular: LONG,
        retry,
        patience: Duration::from_secs(5),
    }
}

/// A source that answers when it is let to, and counts.
struct Source {
    answer: Mutex<Result<String, String>>,
    turns: Semaphore,
    hits: AtomicUsize,
}

impl Source {
    fn new(answer: &str) -> Source {
        Source {
            answer: Mutex::new(Ok(answer.to_owned())),
            turns: Semaphore::new(0),
            hits: AtomicUsize::new(0),
        }
    }

    fn says(&self, answer: Result<&str, &str>) {
        *self.answer.lock().unwrap() = answer.map(str::to_owned).map_err(str::to_owned);
    }

    fn lets(&self, answers: usize) {
        self.turns.add_permits(answers);
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    async fn fetch(&self) -> Result<Bytes, String> {
        self.hits.fetch_add(1, Ordering::SeqCst);
        self.turns.acquire().await.unwrap().forget();
        self.answer.lock().unwrap().clone().map(Bytes::from)
    }
}

/// Follows the source for as long as `test` takes.
async fn while_following(jwks: &Jwks, source: &Source, test: impl Future<Output = ()>) {
    let url = url();
    tokio::select! {
        () = jwks.follow(&url, || source.fetch()) => unreachable!("it has no end"),
        () = test => {}
    }
}

fn knows(jwks: &Jwks, kid: &str) -> bool {
    jwks.ring().is_some_and(|ring| ring.knows(kid))
}

#[tokio::test]
async fn however_many_ask_at_once_cost_one_fetch() {
    let (jwks, source) = (Jwks::at_pace(pace(LONG, LONG)), Source::new(GOOD));
    while_following(&jwks, &source, async {
        let crowd = join_all((0..50).map(|_| jwks.renew()));
        let release = async {
            while source.hits() == 0 {
                tokio::task::yield_now().await;
            }
            source.lets(1);
        };
        let (answers, ()) = tokio::join!(crowd, release);
        assert_eq!(answers, [true; 50]);
        assert!(knows(&jwks, "K"));
        // Whoever asks later has to do with what is known.
        assert_eq!(jwks.renew().now_or_never(), Some(true));
        assert_eq!(source.hits(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_next_fetch_begins_a_while_after_the_last_one_began() {
    let (jwks, source) = (Jwks::at_pace(pace(SHORT, LONG)), Source::new(GOOD));
    source.lets(usize::MAX >> 4);
    while_following(&jwks, &source, async {
        assert!(jwks.renew().await);
        let begun = RefCell::new(vec![]);
        let until = Instant::now() + 5 * SHORT;
        while Instant::now() < until {
            let before = source.hits();
            jwks.renew().await;
            if source.hits() > before {
                begun.borrow_mut().push(Instant::now());
            }
            tokio::task::yield_now().await;
        }
        assert!((3..=6).contains(&source.hits()), "{} hits", source.hits());
    })
    .await;
}

#[tokio::test]
async fn a_source_that_fails_takes_nothing_away_and_an_empty_one_everything() {
    let (jwks, source) = (Jwks::at_pace(pace(Duration::ZERO, LONG)), Source::new(GOOD));
    source.lets(usize::MAX >> 4);
    while_following(&jwks, &source, async {
        assert!(jwks.renew().await && knows(&jwks, "K"));
        for bad in [Err("away"), Ok("<html>"), Ok("{}"), Ok("")] {
            source.says(bad);
            assert!(!jwks.renew().await && knows(&jwks, "K"), "{bad:?}");
        }
        source.says(Ok(&GOOD.replace("\"K\"", "\"L\"")));
        assert!(jwks.renew().await && knows(&jwks, "L") && !knows(&jwks, "K"));
        source.says(Ok(r#"{"keys":[]}"#));
        assert!(jwks.renew().await && !knows(&jwks, "L"));
    })
    .await;
}

#[tokio::test]
async fn who_waits_has_a_deadline_and_a_source_that_was_away_is_tried_again() {
    let mut slow = pace(LONG, SHORT);
    slow.patience = SHORT;
    let (jwks, source) = (Jwks::at_pace(slow), Source::new("nonsense"));
    while_following(&jwks, &source, async {
        assert!(!jwks.renew().await);
        assert_eq!(source.hits(), 1);
        source.lets(1);
        // Nobody asks: it is tried again by itself.
        while source.hits() < 2 {
            tokio::task::yield_now().await;
        }
        source.says(Ok(GOOD));
        source.lets(1);
        while !knows(&jwks, "K") {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
