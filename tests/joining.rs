//! Joining while messages flow: whoever joins gets a history that ends at `seq` S, and then S+1, S+2,
//! …, each once. 200 clients, 500 messages a second, in 100 repetitions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use support::{Client, Follow, Node, Redis, SOON, Value, json, within};
use tokio::sync::watch;

const CLIENTS: usize = 200;
const SENDERS: usize = 10;
/// Per second, of all senders together.
const RATE: u64 = 500;
/// Live messages that each client checks before it leaves again.
const CHECKED: usize = 25;

/// Half of the clients are on the senders' node, whose room is open already; for the other half their
/// node has to open a new room in each repetition, with all of them waiting for it.
#[tokio::test]
async fn two_hundred_join_while_messages_flow_through_redis() {
    let redis = Redis::start().await;
    let env = [("RATE_LIMIT_MESSAGES", "0")];
    let nodes = [
        Node::on_with(&redis, &env).await,
        Node::on_with(&redis, &env).await,
    ];
    repeat(&nodes, 100).await;
}

#[tokio::test]
async fn two_hundred_join_while_messages_flow_on_one_node() {
    let nodes = [Node::start(&[("RATE_LIMIT_MESSAGES", "0")]).await];
    repeat(&nodes, 20).await;
}

async fn repeat(nodes: &[Node], repetitions: usize) {
    support::raise_nofile();
    let begin = Instant::now();
    let mut senders = Vec::new();
    for i in 0..SENDERS {
        senders.push(Client::of(&nodes[0], &format!("sender{i}")).await);
    }
    let mut clients = Vec::new();
    for i in 0..CLIENTS {
        clients.push(Client::of(&nodes[i % nodes.len()], &format!("joiner{i}")).await);
    }
    let (mut joins, mut checked) = (0, 0);
    for repetition in 0..repetitions {
        let room = format!("room-{repetition}");
        // Each opens its room in another way: all joiners at once, or one after the other.
        let is_staggered = repetition % 2 == 1;
        let follows = one_repetition(&room, &mut senders, &mut clients, is_staggered).await;
        joins += follows.len();
        checked += follows.iter().map(|follow| follow.live).sum::<usize>();
        assert_same_room(&follows);
    }
    println!(
        "{repetitions} repetitions: {joins} joins, {checked} live messages checked in {:?}",
        begin.elapsed()
    );
    assert_eq!(joins, CLIENTS * repetitions);
    assert!(checked >= CLIENTS * repetitions * CHECKED);
}

async fn one_repetition(
    room: &str,
    senders: &mut [Client],
    clients: &mut [Client],
    is_staggered: bool,
) -> Vec<Follow> {
    join_all(senders.iter_mut().map(|sender| sender.join(room))).await;
    let (said, sent) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let flow = flow(room, senders, said, stopped);
    let joining = async {
        let join = |(i, client)| {
            let mut sent = sent.clone();
            async move {
                let after = if is_staggered { i as u64 / 5 } else { 5 };
                sent.wait_for(|&sent| sent >= after)
                    .await
                    .expect("the flow goes on");
                join_and_check(room, client).await
            }
        };
        let follows = join_all(clients.iter_mut().enumerate().map(join)).await;
        let _ = stop.send(true);
        follows
    };
    let both = async { tokio::join!(flow, joining) };
    let (_, follows) = within(Duration::from_secs(30), "one repetition", both).await;
    follows
}

/// Has the senders say one thing after the other, at the rate, until it is stopped; each then waits
/// for its acks and leaves.
async fn flow(
    room: &str,
    senders: &mut [Client],
    said: watch::Sender<u64>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut acks_due = vec![0; senders.len()];
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let mut n = 0u64;
    while !*stopped.borrow_and_update() {
        tick.tick().await;
        let place = n as usize % senders.len();
        senders[place]
            .send("message", json!({"roomId": room, "text": format!("{n}")}))
            .await;
        acks_due[place] += 1;
        n += 1;
        said.send_replace(n);
    }
    let finish = senders
        .iter_mut()
        .zip(acks_due)
        .map(|(sender, due)| async move {
            let mut last = 0;
            for _ in 0..due {
                let ack = sender.expect("ack").await;
                let seq = ack["seq"].as_u64().expect("a seq");
                assert!(seq > last, "acks out of order: {seq} after {last}");
                last = seq;
            }
            sender.leave(room).await;
            sender.forget();
        });
    join_all(finish).await;
}

/// One client's join, what it gets then, and its leave.
async fn join_and_check(room: &str, client: &mut Client) -> Follow {
    let mut follow = Follow::new(format!("{} in {room}", client.user()));
    client
        .send_text(json!({"type": "join", "payload": {"roomId": room}}).to_string())
        .await;
    while follow.live < CHECKED {
        let event = client
            .next_or_close(SOON)
            .await
            .expect("the connection stays");
        assert_ne!(event["type"], "error", "{event}");
        // Nothing of the room before the history, and one history only.
        let is_history = event["type"] == "history";
        assert!(
            !is_history || follow.seq.is_none(),
            "a second history: {event}"
        );
        follow.event(&event, room);
    }
    let left = json!({"type": "leave", "id": "bye", "payload": {"roomId": room}});
    client.send_text(left.to_string()).await;
    loop {
        let event = client
            .next_or_close(SOON)
            .await
            .expect("the connection stays");
        if event["id"] == "bye" {
            assert_eq!(event["type"], "ack", "{event}");
            return follow;
        }
        follow.event(&event, room);
    }
}

/// That all have seen the same message at each `seq`.
fn assert_same_room(follows: &[Follow]) {
    let mut room: HashMap<u64, &(String, String)> = HashMap::new();
    for (seq, message) in follows.iter().flat_map(|follow| &follow.seen) {
        let first = room.entry(*seq).or_insert(message);
        assert_eq!(*first, message, "two messages at seq {seq}");
    }
    let ids: std::collections::HashSet<&str> = room.values().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids.len(), room.len(), "one message at two places");
}

/// After a leave was acked, nothing of that room comes any more.
#[tokio::test]
async fn nothing_comes_after_the_ack_of_a_leave() {
    let node = Node::start(&[("RATE_LIMIT_MESSAGES", "0")]).await;
    let mut ada = Client::in_room(&node, "ada", "general").await;
    let mut ben = Client::of(&node, "ben").await;
    for round in 0..100 {
        ben.join("general").await;
        ada.send(
            "message",
            json!({"roomId": "general", "text": format!("{round}")}),
        )
        .await;
        ben.leave("general").await;
        ben.forget();
        ada.expect("ack").await;
        ben.assert_alive().await;
        let late: Vec<Value> = ben.forget();
        assert!(late.is_empty(), "after the ack of the leave: {late:?}");
    }
}
