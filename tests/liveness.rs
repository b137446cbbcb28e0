//! Who is alive, who is let go and how: heartbeats, slow clients, expiring tokens, full nodes, the end
//! of a node; and that nothing secret is logged on the way.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::raw::{PING, Raw};
use support::token::{SECRET, claims, in_seconds};
use support::{Client, Connect, Node, Redis, SOON, eventually, http, json, now_ms, token, within};
use tokio::sync::watch;

#[tokio::test]
async fn who_answers_pings_stays_and_who_does_not_is_dropped() {
    let node = Node::start(&[("HEARTBEAT_INTERVAL", "1s")]).await;
    let mut watcher = Client::in_room(&node, "watcher", "general").await;
    let begin = Instant::now();
    let mut silent = Raw::open(node.addr, &token("silent")).await;
    silent
        .send_json(&json!({"type": "join", "payload": {"roomId": "general"}}))
        .await;
    assert_eq!(watcher.expect("user_joined").await["userId"], "silent");

    // The watcher reads on meanwhile, and so answers its own pings.
    let silence = async {
        let mut pings = 0;
        while let Some((opcode, _)) = silent.recv(SOON).await {
            pings += usize::from(opcode == PING);
        }
        (pings, begin.elapsed())
    };
    let ((pings, after), left) = tokio::join!(silence, watcher.expect("user_left"));
    assert!(pings >= 1, "no ping before it was dropped");
    assert!(
        after > Duration::from_millis(900),
        "dropped after {after:?} already"
    );
    assert!(
        after < Duration::from_millis(3500),
        "dropped only after {after:?}"
    );
    assert_eq!(left["userId"], "silent");

    // The watcher, which answered, is still there after more intervals than that.
    watcher.pinged(5).await;
    watcher.assert_alive().await;
}

#[tokio::test]
async fn sigterm_says_1001_to_everyone_and_ends_with_0() {
    let mut node = Node::embedded().await;
    let mut clients = Vec::new();
    for i in 0..20 {
        clients.push(Client::in_room(&node, &format!("user{i}"), "general").await);
    }
    node.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(
            client.closed(Duration::from_secs(10)).await,
            Some(1001),
            "{}",
            client.user()
        );
    }
    let status = node.exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn sigint_does_the_same() {
    let mut node = Node::embedded().await;
    let mut ada = Client::of(&node, "ada").await;
    node.signal(Signal::INT);
    assert_eq!(ada.closed(Duration::from_secs(10)).await, Some(1001));
    assert_eq!(node.exit(Duration::from_secs(10)).await.code(), Some(0));
}

#[tokio::test]
async fn a_node_without_clients_ends_at_once() {
    let mut node = Node::embedded().await;
    let begin = Instant::now();
    assert_eq!(node.stop().await.code(), Some(0));
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "after {:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_draining_node_is_not_ready_and_takes_nobody_new() {
    let mut node = Node::embedded().await;
    // It never answers the close, so the node has to wait for it, up to 2 s.
    let mut holding = Raw::open(node.addr, &token("holding")).await;
    holding.expect("connected").await;
    node.signal(Signal::TERM);
    assert_eq!(holding.close_code().await, Some(1001));

    let ready = http::get(node.addr, "/ready").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_eq!(ready.json()["reason"], "draining");
    let path = format!("/?token={}", token("late"));
    let refused = http::upgrade(node.addr, &path, &[]).await;
    refused.assert_refusal(503, "DRAINING");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    holding.ended(SOON).await;
    assert_eq!(
        node.exit(SOON).await.code(),
        Some(0),
        "whoever says nothing counts as gone"
    );
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut node = Node::start(&[("SHUTDOWN_GRACE", "60s")]).await;
    let mut holding = Raw::open(node.addr, &token("holding")).await;
    holding.expect("connected").await;
    node.signal(Signal::TERM);
    assert_eq!(holding.close_code().await, Some(1001), "it is draining");
    let begin = Instant::now();
    node.signal(Signal::TERM);
    node.exit(SOON).await;
    let after = begin.elapsed();
    assert!(
        after < Duration::from_secs(1),
        "it ended only after {after:?}"
    );
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised() {
    support::raise_nofile();
    let node = Node::start_after("ulimit -Sn 256", &[]).await;
    let mut clients = Vec::new();
    for i in 0..300 {
        clients.push(Client::of(&node, &format!("user{i}")).await);
    }
    for client in &mut clients {
        client.assert_alive().await;
    }
}

#[tokio::test]
async fn a_full_node_says_so_and_takes_the_next_when_one_leaves() {
    let node = Node::start(&[("MAX_CONNECTIONS", "10")]).await;
    let mut clients = Vec::new();
    for i in 0..10 {
        clients.push(Client::of(&node, &format!("user{i}")).await);
    }
    let path = format!("/?token={}", token("late"));
    for _ in 0..5 {
        let refused = http::upgrade(node.addr, &path, &[]).await;
        refused.assert_refusal(503, "AT_CAPACITY");
        let seconds = refused
            .header("retry-after")
            .and_then(|value| value.parse::<u32>().ok());
        assert!(seconds.is_some_and(|seconds| seconds > 0), "{refused:?}");
    }
    for client in &mut clients {
        client.assert_alive().await;
    }
    clients.pop().unwrap().close().await;
    eventually(SOON, "room for the next", || async {
        http::upgrade(node.addr, &path, &[]).await.status == 101
    })
    .await;
}

#[tokio::test]
async fn the_connection_ends_with_its_token() {
    let node = Node::embedded().await;
    let expiry = in_seconds(3);
    let short = claims(&json!({"userId": "ada", "exp": expiry}));
    let mut ada = Connect::to(&node).token(&short).open().await;
    let mut ben = Client::in_room(&node, "ben", "general").await;
    ada.join("general").await;
    assert_eq!(ben.expect("user_joined").await["userId"], "ada");
    assert_eq!(ada.closed(Duration::from_secs(8)).await, Some(4001));
    let now = now_ms() as i64;
    assert!(
        now >= expiry * 1000,
        "closed {} ms too early",
        expiry * 1000 - now
    );
    assert!(
        now < expiry * 1000 + 2000,
        "closed {} ms late",
        now - expiry * 1000
    );
    assert_eq!(ben.expect("user_left").await["userId"], "ada");
    ben.assert_alive().await;
}

/// Three bytes each in UTF-8: a good 6 KB a message.
fn long_text() -> String {
    "漢".repeat(2000)
}

#[tokio::test]
async fn who_takes_no_byte_is_dropped_and_delays_nobody() {
    let env = [("SLOW_CLIENT_TIMEOUT", "2s"), ("RATE_LIMIT_MESSAGES", "0")];
    let node = Node::start(&env).await;
    let mut sender = Client::in_room(&node, "sender", "general").await;
    let mut slow = Raw::open_with_buffer(node.addr, &token("slow"), Some(4096)).await;
    slow.send_json(&json!({"type": "join", "payload": {"roomId": "general"}}))
        .await;
    slow.expect("history").await;
    assert_eq!(sender.expect("user_joined").await["userId"], "slow");

    // It reads no more. The others are served all the while, until it is let go.
    let text = long_text();
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    let flood = async {
        loop {
            let sent = Instant::now();
            sender.say("general", &text).await;
            sender.message().await;
            longest = longest.max(sent.elapsed());
            if sender
                .forget()
                .iter()
                .any(|event| event["type"] == "user_left")
            {
                return;
            }
        }
    };
    within(Duration::from_secs(20), "the slow one to be let go", flood).await;
    let after = begin.elapsed();
    assert!(
        after >= Duration::from_secs(2),
        "let go after {after:?} already"
    );
    assert!(
        after < Duration::from_secs(12),
        "let go only after {after:?}"
    );
    assert!(
        longest < Duration::from_secs(1),
        "a message took {longest:?} beside the slow one"
    );
    slow.ended(SOON).await;
}

#[tokio::test]
async fn who_reads_slowly_stays_and_is_told_what_it_missed() {
    let env = [("SLOW_CLIENT_TIMEOUT", "3s"), ("RATE_LIMIT_MESSAGES", "0")];
    let node = Node::start(&env).await;
    let mut sender = Client::in_room(&node, "sender", "general").await;
    let mut slow = Raw::open_with_buffer(node.addr, &token("slow"), Some(256 * 1024)).await;
    slow.send_json(&json!({"type": "join", "payload": {"roomId": "general"}}))
        .await;
    let mut follow = support::Follow::new("the slow one");
    follow.history(&slow.expect("history").await);

    // For more than twice the timeout it takes some 600 KB every half second, far less than comes.
    let text = long_text();
    let (stop, stopped) = watch::channel(false);
    let flood = async {
        while !*stopped.borrow() {
            sender.say("general", &text).await;
            sender.forget();
        }
    };
    let reading = async {
        let begin = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        while begin.elapsed() < Duration::from_secs(7) {
            tick.tick().await;
            let mut taken = 0;
            while taken < 600_000 {
                let event = slow.event().await;
                taken += event.to_string().len();
                follow.event(&event, "general");
            }
        }
        let _ = stop.send(true);
    };
    tokio::join!(flood, reading);
    let last = sender.say("general", "the last").await;
    // Then it reads on to the end: each message followed the one before, or a history replaced them.
    while follow.seq != last["seq"].as_u64() {
        follow.event(&slow.event().await, "general");
    }
    assert_eq!(follow.seen[&follow.seq.unwrap()].1, "the last");
}

#[tokio::test]
async fn no_token_secret_or_text_is_logged() {
    let redis = Redis::start().await;
    let key = "the-key-of-the-operator";
    let env = [
        ("LOG_LEVEL", "debug"),
        ("MAX_ROOMS_PER_CONNECTION", "2"),
        ("API_KEY", key),
    ];
    let mut node = Node::on_with(&redis, &env).await;
    let text = "the-words-that-were-said";
    let tokens = ["by-query", "by-header", "by-list", "expired"].map(|user| match user {
        "expired" => claims(&json!({"userId": user, "exp": in_seconds(-9)})),
        user => token(user),
    });

    let mut ada = Connect::to(&node).token(&tokens[0]).open().await;
    ada.join("the-room").await;
    ada.say("the-room", text).await;
    ada.say("the-room", &text.repeat(20)).await;
    ada.request("message", json!({"roomId": "nowhere", "text": text}))
        .await;
    ada.request(text, json!({"roomId": "the-room", "text": text}))
        .await;
    ada.send_text(format!("no json: {text}")).await;
    ada.expect("error").await;
    let bearer = format!("Bearer {}", tokens[1]);
    Connect::to(&node)
        .header("Authorization", bearer)
        .open()
        .await
        .close()
        .await;
    let list = format!("chat.v1, bearer.{}", tokens[2]);
    Connect::to(&node)
        .header("Sec-WebSocket-Protocol", list)
        .open()
        .await
        .close()
        .await;
    let refused = http::upgrade(node.addr, &format!("/?token={}", tokens[3]), &[]).await;
    refused.assert_refusal(401, "UNAUTHORIZED");
    http::get(node.addr, &format!("/ws?token={}", tokens[0])).await;
    http::get(node.addr, &format!("/nothing?token={}", tokens[0])).await;
    redis.kill_clients("normal").await;
    assert_eq!(node.stop().await.code(), Some(0));

    let signatures = tokens.iter().map(|token| token.rsplit('.').next().unwrap());
    let secrets: Vec<&str> = signatures.chain([SECRET, key, text, "eyJ"]).collect();
    let lines = node.logs();
    for line in &lines {
        let found = secrets.iter().find(|secret| line.contains(**secret));
        assert!(found.is_none(), "`{}` is logged in {line}", found.unwrap());
        let parsed: Result<support::Value, _> = serde_json::from_str(line);
        assert!(
            parsed.is_ok_and(|line| line.is_object()),
            "no JSON object: {line}"
        );
    }
    // And yet one can follow who was where.
    let has = |what: &str| lines.iter().any(|line| line.contains(what));
    let connection = ada.connected["connectionId"].as_str().unwrap();
    for what in ["by-query", "the-room", connection, ada.node_id()] {
        assert!(has(what), "`{what}` stands in no log line: {lines:#?}");
    }
}
