//! What is said to all nodes, and what a node does then.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Hub;
use super::peer::Note;
use crate::id::UserId;
use crate::protocol::close::Close;
use crate::protocol::event::{self, Broadcast};

/// What is said to all nodes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Command {
    /// Close the connections of that user.
    Disconnect {
        /// The user.
        user: String,
    },
    /// Give every connection a `broadcast` event.
    Broadcast {
        /// What it is called.
        event: String,
        /// What it says.
        data: Box<RawValue>,
        /// When it was said, Unix milliseconds.
        timestamp: u64,
    },
}

impl Command {
    /// As it goes to the nodes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // It has no key that is no string: it can't fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Hub {
    pub(super) fn carry_out(&self, command: &[u8]) {
        match serde_json::from_slice(command) {
            Ok(Command::Disconnect { user }) => self.close_user(&user),
            Ok(Command::Broadcast {
                event,
                data,
                timestamp,
            }) => self.broadcast(&event, &data, timestamp),
            // A node of a later version may say what this one doesn't know.
            Err(error) => tracing::warn!(%error, "a command of unknown form"),
        }
    }

    fn close_user(&self, user: &str) {
        let Ok(user) = UserId::parse(user) else {
            return;
        };
        for peer in self.people().peers_of(&user) {
            peer.note(Note::Close(Close::Operator));
        }
    }

    fn broadcast(&self, event: &str, data: &RawValue, timestamp: u64) {
        let mut frame = Vec::new();
        let broadcast = Broadcast {
            event,
            data,
            timestamp,
        };
        event::put_event(&mut frame, &broadcast, None);
        let frame: Arc<[u8]> = frame.into();
        for peer in self.people().peers() {
            peer.note(Note::Said(frame.clone()));
        }
    }
}
