//! Many rooms: of a connection, and of the node.

use piazza::broker::Deliver;

use super::meter::measure;
use super::node::{Client, Node, Source, rooms};

/// Connections, and messages that each of them takes.
const CONNECTIONS: usize = 20;
const MESSAGES: usize = 200;
/// Rooms that are opened.
const OPENED: usize = 100;

/// A connection's rooms, then the node's.
pub(crate) fn work() {
    per_connection();
    opening();
}

/// Messages come to one of a connection's rooms after another, and each is taken before the next comes.
fn per_connection() {
    for size in [1, 10, 100] {
        let (node, rooms) = (Node::alone(500), rooms("room", size));
        let _guard = node.runtime.enter();
        let mut members: Vec<Client> = node.members(0, CONNECTIONS, &rooms);
        let mut out = Vec::new();
        members.iter_mut().for_each(|member| {
            member.take(&mut out);
        });
        let mut sources: Vec<Source> = rooms.iter().map(Source::new).collect();
        let payloads = (0..MESSAGES).map(|nth| sources[nth % size].next());
        let payloads: Vec<Vec<u8>> = payloads.collect();
        let mut given = 0;
        measure(
            "delivery to one of rooms",
            size,
            MESSAGES * CONNECTIONS,
            || {
                for (nth, payload) in payloads.iter().enumerate() {
                    node.hub.deliver(rooms[nth % size].as_str(), payload);
                    let taken = members.iter_mut().map(|member| member.take(&mut out));
                    given += taken.sum::<usize>();
                }
            },
        );
        let expected = MESSAGES * CONNECTIONS * 150;
        assert!(given > expected, "{given} bytes were given");
    }
}

/// Somebody joins a room that isn't up, on a node that has many.
fn opening() {
    let (node, all) = (Node::alone(500), rooms("held", 10_000 + OPENED));
    let _guard = node.runtime.enter();
    let (mut held, mut out): (Vec<Client>, _) = (Vec::new(), Vec::new());
    for size in [10, 100, 1_000, 10_000] {
        for nth in held.len()..size {
            held.extend(node.members(nth, 1, &all[nth..=nth]));
        }
        let mut crowd: Vec<Client> = (0..OPENED).map(|nth| node.connect(20_000 + nth)).collect();
        let opened = super::node::rooms(&format!("opened-{size}"), OPENED);
        measure("room opened beside", size, OPENED, || {
            for (client, room) in crowd.iter_mut().zip(&opened) {
                client.join(room, &mut out);
                node.wait(client.joined(1, &mut out));
            }
            node.settle(&opened);
        });
        assert!(node.hub.room_count() >= size + OPENED);
        crowd.clear();
        node.settle(&opened);
    }
}
