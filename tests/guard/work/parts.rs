//! The parts of a message's way, each by itself: numbers for the budgets.

use std::time::{Duration, SystemTime};

use piazza::auth::{Issuer, NewToken, Verdict, Verifier};
use piazza::broker::payload;
use piazza::config::Config;
use piazza::history::{Capped, View};
use piazza::hub::log::Log;
use piazza::hub::tail::Reading;
use piazza::id::{Mark, MessageId, Seq, UserId};
use piazza::protocol::request::{self, Limits};
use piazza::protocol::{frame, message};

use super::meter::measure;
use super::node::{Source, body, room};

/// How often each is done.
const TIMES: usize = 1_000;

pub(crate) fn work() {
    requests();
    stored();
    gate();
    token();
}

fn requests() {
    let limits = Limits {
        max_text: 2_000,
        history: 100,
    };
    let kinds = [
        (
            "request, message",
            r#"{"type":"message","id":"7","payload":{"roomId":"lobby","clientId":"c-17","text":"Good morning! Is the room free at ten?"}}"#,
        ),
        (
            "request, join",
            r#"{"type":"join","payload":{"roomId":"lobby","since":{"seq":3,"id":"abcDEF012_-x"}}}"#,
        ),
    ];
    for (name, text) in kinds {
        let mut good = 0;
        measure(name, 1, TIMES, || {
            for _ in 0..TIMES {
                let parsed = request::parse(text.as_bytes(), limits);
                good += usize::from(parsed.request.is_ok());
            }
        });
        assert_eq!(good, TIMES, "{name}");
    }
}

/// A message as it is stored, as it is published, and as a frame.
fn stored() {
    let room = room("lobby");
    let body = body(&room, "Good morning! Is the room free at ten?");
    let mark = Mark {
        seq: Seq(4_711),
        id: MessageId::random(),
    };
    let mut length = 0;
    measure("message put together and published", 1, TIMES, || {
        for _ in 0..TIMES {
            let entry = message::entry(mark, &body);
            length += payload::messages(Some(mark.id), [&entry[..]].into_iter()).len();
        }
    });
    assert!(length > TIMES * 150);
    let (entry, mut frames) = (message::entry(mark, &body), Vec::new());
    measure("frame", 1, TIMES, || {
        for _ in 0..TIMES {
            frames.clear();
            frame::put_text(&mut frames, &entry);
        }
    });
    assert!(frames.len() > entry.len());
}

/// Messages through the gate, and a member that reads each.
fn gate() {
    let room = room("lobby");
    let mut log = Log::new(100);
    let wanted = log.wanted();
    assert!(log.loaded(&room, &Capped::default().read(wanted)));
    let mut source = Source::new(&room);
    // Beyond what the tail keeps, so that what is let go of is in it.
    source.payloads(2_000).iter().for_each(|payload| {
        assert!(log.deliver(payload).grew);
    });
    let payloads = source.payloads(TIMES);
    let before = log.tail().end();
    measure("message through the gate", 1, TIMES, || {
        for payload in &payloads {
            log.deliver(payload);
        }
    });
    assert_eq!(log.tail().head().map(|head| head.seq), Some(Seq(3_000)));
    let (mut cursor, mut out, mut drained) = (before, Vec::new(), 0);
    let step = ((log.tail().end() - before) / TIMES as u64) as usize;
    let start = log.tail().cursor_after(Seq(2_950));
    cursor = cursor.max(start);
    measure("delivery drained", 1, TIMES, || {
        for _ in 0..TIMES {
            out.clear();
            match log.tail().read(cursor, false, step, &mut out) {
                Reading::Copied { after, end, .. } => {
                    drained += out.len();
                    cursor = if end { start } else { after };
                }
                Reading::Behind(_) | Reading::Lost => panic!("the tail has it"),
            }
        }
    });
    assert!(drained > TIMES * 150, "{drained} bytes");
}

fn token() {
    let config = Config::dev(&|_| None).unwrap();
    let (verifier, issuer) = (
        Verifier::new(&config.jwt),
        Issuer::new(&config.jwt).unwrap(),
    );
    let user = UserId::parse("user-1").unwrap();
    let token = NewToken {
        user: &user,
        username: Some("Somebody"),
        rooms: None,
        life: Duration::from_secs(3_600),
    };
    let now = SystemTime::now();
    let token = issuer.issue(&token, now).unwrap();
    let mut good = 0;
    measure("token verified", 1, TIMES, || {
        for _ in 0..TIMES {
            let verdict = verifier.judge(&token, now);
            good += usize::from(matches!(verdict, Verdict::Verified(_)));
        }
    });
    assert_eq!(good, TIMES);
}
