//! Rooms of many members: a delivery to all of them, a message that comes while they wait, those who resume.

use piazza::broker::Deliver;
use piazza::broker::Draft;
use piazza::id::{MessageId, RoomId};

use super::meter::measure;
use super::node::{Client, Node, Source, draft, room};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// Messages that are delivered.
const MESSAGES: usize = 10;
/// Clients that come at once.
const CROWD: usize = 20;

/// Each message is delivered, and each member takes it.
pub(crate) fn work() {
    let (node, room) = (Node::alone(500), room("lobby"));
    let _guard = node.runtime.enter();
    let (mut members, mut source, mut out) = (Vec::new(), Source::new(&room), Vec::new());
    for size in SIZES {
        members.extend(node.members(
            members.len(),
            size - members.len(),
            std::slice::from_ref(&room),
        ));
        // What was told of who came.
        members.iter_mut().for_each(|member: &mut Client| {
            member.take(&mut out);
        });
        let payloads = source.payloads(MESSAGES);
        let mut given = 0;
        measure("message to a room of", size, MESSAGES, || {
            for payload in &payloads {
                node.hub.deliver(room.as_str(), payload);
                let taken = members.iter_mut().map(|member| member.take(&mut out));
                given += taken.sum::<usize>();
            }
        });
        assert!(given > MESSAGES * size * 150, "{given} bytes were given");
    }
}

/// So many come back at once and name the last message that they have.
pub(crate) fn resume() {
    let node = Node::alone(500);
    let _guard = node.runtime.enter();
    // The tail has all of it, or only the history does.
    for (name, text) in [
        ("resume from the tail", 40),
        ("resume from the history", 1_900),
    ] {
        let (room, mut members) = (room(&text.to_string()), Vec::new());
        let first = publish(&node, &room, text);
        let resume = format!(
            r#"{{"type":"join","payload":{{"roomId":"{room}","limit":100,"since":{{"seq":1,"id":"{}"}}}}}}"#,
            first.as_str()
        );
        for size in [1, 1_000] {
            let present = size - members.len();
            members.extend(node.members(members.len(), present, std::slice::from_ref(&room)));
            let mut crowd: Vec<Client> = (0..CROWD).map(|nth| node.connect(20_000 + nth)).collect();
            let (mut out, mut given) = (Vec::new(), 0);
            measure(name, size, CROWD, || {
                let mut answered = [0; CROWD];
                for (client, answered) in crowd.iter_mut().zip(&mut answered) {
                    client.say(&resume, &mut out);
                    *answered = client.take(&mut out);
                }
                for (client, answered) in crowd.iter_mut().zip(answered) {
                    let left = (90 * text).saturating_sub(answered);
                    given += answered + node.wait(client.given(left, &mut out));
                }
            });
            assert!(given >= CROWD * 90 * text, "{given} bytes were given");
            drop(crowd);
            node.settle(std::slice::from_ref(&room));
        }
    }
}

/// Fills a room's history; gives the first message's id.
fn publish(node: &Node, room: &RoomId, text: usize) -> MessageId {
    let text = "x".repeat(text);
    let draft = || draft(room, &text);
    let drafts: Vec<Draft> = std::iter::repeat_with(draft).take(96).collect();
    let appended = node.wait(node.hub.broker().append(room, &drafts, None, &node.hub));
    assert_eq!(appended.unwrap().outcomes.len(), drafts.len());
    drafts[0].id
}
