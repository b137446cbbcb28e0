//! The terminal client, as a program, against a server that is played here: it comes back after a
//! lost connection, goes on where it ended, sends again what was not acked, and ends when told to.

#![allow(clippy::expect_used, reason = "a test fails by it")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// No step takes longer than this.
const LIMIT: Duration = Duration::from_secs(20);

fn chat(url: &str, token: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_piazza"))
        .args(["chat", "--room", "r", "--url", url])
        .env("PIAZZA_TOKEN", token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn greet(listener: &TcpListener) -> WebSocket<TcpStream> {
    let (stream, _) = listener.accept().expect("the client comes");
    stream.set_read_timeout(Some(LIMIT)).expect("a deadline");
    let mut socket = tungstenite::accept(stream).expect("an upgrade");
    let payload = json!({"userId": "u", "username": "me", "maxFrameBytes": 16384});
    send(
        &mut socket,
        &json!({"type": "connected", "payload": payload}),
    );
    socket
}

fn send(socket: &mut WebSocket<TcpStream>, event: &Value) {
    let sent = socket.send(Message::text(event.to_string()));
    sent.expect("the client listens");
}

fn hear(socket: &mut WebSocket<TcpStream>, kind: &str) -> Value {
    let frame = socket.read().expect("a frame").into_text().expect("text");
    let request: Value = serde_json::from_str(&frame).expect("JSON");
    assert_eq!(request["type"], kind, "{request}");
    request
}

fn message(seq: u64, text: &str) -> Value {
    json!({"type": "message", "payload": {
        "id": format!("id{seq}"), "seq": seq, "roomId": "r", "userId": "a", "username": "ann",
        "text": text, "timestamp": 0,
    }})
}

fn history(request: &Value, messages: &[Value], recovered: Option<bool>) -> Value {
    let newest = &messages.last().expect("a message")["payload"];
    let mut payload = json!({
        "roomId": "r", "messages": messages, "seq": newest["seq"], "lastId": newest["id"],
        "hasMore": false,
    });
    if let Some(recovered) = recovered {
        payload["recovered"] = json!(recovered);
    }
    json!({"type": "history", "id": request["id"], "payload": payload})
}

#[test]
fn a_lost_connection_loses_and_doubles_no_line() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("its address"));
    let server = thread::spawn(move || {
        let mut socket = greet(&listener);
        let join = hear(&mut socket, "join");
        assert!(join["payload"].get("since").is_none());
        send(&mut socket, &history(&join, &[message(1, "before")], None));
        let line = hear(&mut socket, "message");
        // The line was read and the connection is gone: the client can't know whether it is stored.
        drop(socket);

        let mut socket = greet(&listener);
        let join = hear(&mut socket, "join");
        let since = &join["payload"]["since"];
        assert_eq!(*since, json!({"seq": 1, "id": "id1"}));
        send(
            &mut socket,
            &history(&join, &[message(2, "missed\u{1b}[2J")], Some(true)),
        );
        let again = hear(&mut socket, "message");
        assert_eq!(again, line);
        let payload = json!({
            "messageId": "id2", "roomId": "r", "seq": 2, "timestamp": 0, "duplicate": true,
            "clientId": again["payload"]["clientId"],
        });
        send(
            &mut socket,
            &json!({"type": "ack", "id": again["id"], "payload": payload}),
        );
        assert!(matches!(socket.read(), Ok(Message::Close(_))));
    });
    let mut client = chat(&url, "a.b.c");
    let mut input = client.stdin.take().expect("its input");
    writeln!(input, "hello\n/quit").expect("it reads");
    let output = BufReader::new(client.stdout.take().expect("its output"));
    let shown: Vec<String> = output.lines().map_while(Result::ok).collect();
    server.join().expect("the server's side of it");
    assert_eq!(client.wait().expect("its end").code(), Some(0), "{shown:?}");
    let of_ann: Vec<&str> = shown
        .iter()
        .filter_map(|line| line.split_once(" ann: "))
        .map(|(_, text)| text)
        .collect();
    assert_eq!(of_ann, ["before", "missed\\u{1b}[2J"], "{shown:?}");
}

#[test]
fn who_is_told_to_reconnect_comes_back_after_that_long_and_goes_on() {
    const AWAY: Duration = Duration::from_millis(700);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("its address"));
    let server = thread::spawn(move || {
        let mut socket = greet(&listener);
        let join = hear(&mut socket, "join");
        send(&mut socket, &history(&join, &[message(1, "before")], None));
        let payload = json!({"reason": "draining", "delayMs": AWAY.as_millis() as u64});
        let told = Instant::now();
        send(
            &mut socket,
            &json!({"type": "reconnect", "payload": payload}),
        );
        let away = tungstenite::protocol::CloseFrame {
            code: 1001.into(),
            reason: "the server is shutting down".into(),
        };
        socket.close(Some(away)).expect("the client listens");
        assert!(matches!(socket.read(), Ok(Message::Close(_))));
        drop(socket);

        let mut socket = greet(&listener);
        let away = told.elapsed();
        assert!(away >= AWAY, "back after {away:?} already");
        let join = hear(&mut socket, "join");
        let since = &join["payload"]["since"];
        assert_eq!(*since, json!({"seq": 1, "id": "id1"}));
        send(
            &mut socket,
            &history(&join, &[message(2, "meanwhile")], Some(true)),
        );
        // It goes on until its user is done.
        assert!(matches!(socket.read(), Ok(Message::Close(_))));
    });
    let mut client = chat(&url, "a.b.c");
    let mut input = client.stdin.take().expect("its input");
    let output = BufReader::new(client.stdout.take().expect("its output"));
    let mut shown = Vec::new();
    for line in output.lines().map_while(Result::ok) {
        if line.ends_with("ann: meanwhile") {
            writeln!(input, "/quit").expect("it reads");
        }
        shown.push(line);
    }
    server.join().expect("the server's side of it");
    assert_eq!(client.wait().expect("its end").code(), Some(0), "{shown:?}");
    let told = |line: &String| line.contains("the server is shutting down");
    assert!(shown.iter().any(told), "{shown:?}");
}

#[test]
fn a_refused_token_ends_it_with_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("its address"));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client comes");
        stream.set_read_timeout(Some(LIMIT)).expect("a deadline");
        let head = BufReader::new(stream.try_clone().expect("a reader")).lines();
        let head: Vec<String> = head
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        let bearer = head.iter().any(|line| line.ends_with("Bearer a.b.c"));
        assert!(bearer && !head[0].contains("a.b.c"), "{head:?}");
        let body = r#"{"code":"UNAUTHORIZED","message":"the token has expired"}"#;
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream
            .write_all(answer.as_bytes())
            .expect("the client listens");
    });
    let output = chat(&url, "a.b.c").wait_with_output().expect("its end");
    server.join().expect("the server's side of it");
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert_eq!(
        line,
        "piazza: the server refuses the token: the token has expired\n"
    );
}
