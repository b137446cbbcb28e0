//! What is sent, through a real Redis: from the request to the ack and the delivery, all that the node does.

use super::meter::measure;
use super::node::{Client, Node, rooms};

/// How often a batch is sent.
const TIMES: usize = 30;
/// A delivery and an ack are longer together.
const LEAST: usize = 200;

fn message(room: &str) -> String {
    format!(
        r#"{{"type":"message","id":"7","payload":{{"roomId":"{room}","text":"Good morning! Is the room free at ten?"}}}}"#
    )
}

/// So many messages of one connection at once, into one room or each into another.
pub(crate) fn work() {
    let node = Node::with_redis(&std::env::var("REDIS_URL").unwrap());
    let _guard = node.runtime.enter();
    let rooms = rooms("room", 64);
    let mut client: Client = node.members(0, 1, &rooms).pop().unwrap();
    let requests: Vec<String> = rooms.iter().map(|room| message(room.as_str())).collect();
    let mut out = Vec::new();
    let mut send = |name: &str, batch: usize, spread: bool| {
        // Caches, scripts and buffers are there when it counts.
        for counted in [false, true] {
            let mut work = || {
                for _ in 0..TIMES {
                    for nth in 0..batch {
                        client.say(&requests[if spread { nth } else { 0 }], &mut out);
                    }
                    let given = node.wait(client.given(batch * LEAST, &mut out));
                    assert!(given >= batch * LEAST, "{given} bytes were given");
                }
            };
            if counted {
                measure(name, batch, TIMES, work);
            } else {
                work();
            }
        }
    };
    for batch in [1, 8, 64] {
        send("messages at once into one room", batch, false);
    }
    for batch in [1, 8, 64] {
        send("messages at once into rooms", batch, true);
    }
}
