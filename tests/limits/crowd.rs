//! Connections of one user that say as much as they can at once.

use std::time::Duration;

use futures_util::future::join_all;

use super::support::{Client, Node, Value, json};
use super::{wait_of, within};

/// Connections of one user, each with the room that it speaks in.
pub(crate) struct Crowd {
    members: Vec<(Client, String)>,
    /// Bursts so far.
    bursts: usize,
}

/// What came of a burst.
pub(crate) struct Burst {
    /// Texts that were acked, as the connections sent them.
    pub(crate) acked: Vec<String>,
    /// The longest that a refused one is to wait.
    pub(crate) wait: Duration,
    /// How many were refused.
    pub(crate) refused: usize,
}

impl Crowd {
    /// Two connections on each node, in two rooms.
    pub(crate) async fn of(user: &str, nodes: [&Node; 2]) -> Crowd {
        let mut members = Vec::new();
        for node in nodes {
            for room in ["red", "blue"] {
                members.push((Client::in_room(node, user, room).await, room.to_owned()));
            }
        }
        Crowd { members, bursts: 0 }
    }

    /// Each says so many at once. Every answer comes in the order in which was asked.
    pub(crate) async fn burst(&mut self, each: usize) -> Burst {
        self.bursts += 1;
        let burst = self.bursts;
        let members = self.members.iter_mut().enumerate();
        let said =
            members.map(|(n, (client, room))| say(client, room, format!("{burst}.{n}"), each));
        let answers = join_all(said).await.concat();
        let mut all = Burst {
            acked: Vec::new(),
            wait: Duration::ZERO,
            refused: 0,
        };
        for (text, answer) in answers {
            if answer["type"] == "ack" {
                all.acked.push(text);
            } else {
                all.refused += 1;
                all.wait = all.wait.max(wait_of(&answer));
            }
        }
        all
    }
}

/// Says so many texts at once; each with what it was answered.
async fn say(client: &mut Client, room: &str, name: String, count: usize) -> Vec<(String, Value)> {
    let text = |n: usize| format!("{name}.{n}");
    let envelope = |n: usize| {
        let payload = json!({"roomId": room, "text": text(n)});
        json!({"type": "message", "id": text(n), "payload": payload}).to_string()
    };
    client.send_all((0..count).map(envelope)).await;
    let mut answers = Vec::new();
    within(Duration::from_secs(20), "all answers", async {
        while answers.len() < count {
            let event = client.next().await;
            if event["id"].is_string() {
                let text = text(answers.len());
                assert_eq!(event["id"], text, "out of turn: {event}");
                assert_eq!(event["payload"]["roomId"], room, "{event}");
                answers.push((text, event));
            }
        }
    })
    .await;
    answers
}
