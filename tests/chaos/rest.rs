//! A rest in a run: no fault strikes; some clients stay away, a part of them because their node is killed
//! under them; and when everybody else is back, every node is asked who is in each room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::desk::{self, Desk};
use super::dice::Dice;
use super::edge::Edge;
use super::member::{Handle, Order};
use super::sight::{Rest, Seen};
use super::support::{Client, Node, json};

/// How soon everybody is back, and whoever vanished before was dropped.
const STILL: Duration = Duration::from_secs(60);
/// How soon every node says what is so. 10 s are promised after a node's death; but whoever rests right after
/// a fault of Redis, or beside a disk that keeps it from answering, has to wait for a lease time more
/// before anybody is judged. `tests/presence` holds the 10 s; here it must come right.
const SEEN: Duration = Duration::from_secs(30);

/// Rests; what every node said in the end.
pub(crate) async fn rest(edge: &mut Edge, dice: &mut Dice, limit: u64) -> Rest {
    be_still(edge).await;
    for client in edge.clients.iter() {
        let stays_away = dice.below(3) == 0;
        client.status.away.store(stays_away, Ordering::Release);
        if !stays_away {
            continue;
        }
        if dice.below(2) == 0 {
            let _ = client.orders.send(Order::Drop);
        }
    }
    edge.kill_one(dice, limit).await;
    be_still(edge).await;
    let give_up = Instant::now() + SEEN;
    let mut rest = look(edge).await;
    while !rest.is_right() && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(300)).await;
        rest = look(edge).await;
    }
    for client in edge.clients.iter() {
        client.status.away.store(false, Ordering::Release);
    }
    be_still(edge).await;
    rest
}

/// Waits until all nodes are ready, who isn't to stay away is in its rooms, and the nodes hold no
/// other connections.
async fn be_still(edge: &Edge) {
    edge.is_ready().await;
    let give_up = Instant::now() + STILL;
    let is_back = |client: &Handle| {
        client.status.away.load(Ordering::Acquire) || !client.status.joined().is_empty()
    };
    let is_there = |client: &&Handle| !client.status.joined().is_empty();
    while Instant::now() < give_up {
        let there = edge.clients.iter().filter(is_there).count();
        if edge.clients.iter().all(is_back) && edge.held() == there {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Who is where, and what every node says.
async fn look(edge: &Edge) -> Rest {
    let mut present: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::new();
    for (n, client) in edge.clients.iter().enumerate() {
        for room in client.status.joined() {
            present.entry(room).or_default().insert(n as u16);
        }
    }
    let mut seen = Vec::new();
    for (n, node) in edge.nodes.iter().enumerate() {
        for (room, users) in &present {
            // A user who is there already, so that asking changes nothing.
            let Some(asker) = users.first() else { continue };
            seen.push(Seen {
                node: n,
                room: *room,
                users: ask(node, *asker, *room).await,
            });
        }
    }
    Rest {
        at: edge.world.journal.now(),
        present,
        seen,
    }
}

/// Asks a node who is in a room, through another connection of that user.
async fn ask(node: &Node, user: u16, room: u8) -> Vec<u16> {
    let room = Desk::room_id(room);
    let mut client = Client::in_room(node, &format!("c{user}"), &room).await;
    let reply = client.request("users", json!({"roomId": room})).await;
    assert_eq!(reply["type"], "users", "{reply}");
    client.leave(&room).await;
    desk::users(&reply["payload"])
}
