//! A connection: the real cursors, lanes and peer, with a socket that takes as much as chance says.
//! Questions are asked as the session asks them.

use std::sync::Arc;
use std::task::Waker;

use slab::Slab;

use super::broker::Broker;
use super::client::{Client, Question, check};
use super::node::Node;
use crate::auth::Identity;
use crate::connection::answers::{ask_as_member, users_as_member};
use crate::connection::lane::{Ask, Asking, Lane, Member};
use crate::connection::outflow::{Cursors, Position};
use crate::history::{Slice, Want};
use crate::hub::catchup::{Reader, Reason};
use crate::hub::driver;
use crate::hub::peer::{NOTES, Note, Peer, ROOM_BITS};
use crate::hub::room::{self, Asked, Ticket};
use crate::id::{Seq, UserId};
use crate::protocol::request::{self, Limits, RequestId, Since};
use crate::protocol::{frame, request::Parsed};

/// As often as the session tries.
const MAX_TRIES: u8 = 4;

/// A connection and its client.
pub(super) struct Link {
    pub(super) peer: Arc<Peer>,
    pub(super) lanes: Slab<Lane>,
    cursors: Cursors,
    /// The slot of each room.
    pub(super) slots: Vec<Option<usize>>,
    replies: Vec<u8>,
    rest: Vec<u8>,
    pub(super) client: Client,
    asked: usize,
    pongs: u64,
    more: bool,
    /// Whether the socket didn't take all of the last write.
    full: bool,
    /// Questions that wait until their member has caught up: the room and the slot.
    catching_up: Vec<(usize, usize)>,
}

impl Link {
    pub(super) fn new(number: usize, rooms: usize) -> Link {
        let identity = Identity {
            user: UserId::parse(&format!("u{number}")).expect("a user's id"),
            username: "U".into(),
            expires_at: 1,
            grants: Default::default(),
            role: Default::default(),
        };
        Link {
            peer: Arc::new(Peer::new(&identity)),
            lanes: Slab::new(),
            cursors: Cursors::default(),
            slots: vec![None; rooms],
            replies: Vec::new(),
            rest: Vec::new(),
            client: Client::default(),
            asked: 0,
            pongs: 0,
            more: false,
            full: false,
            catching_up: Vec::new(),
        }
    }

    fn request_id(&mut self) -> RequestId {
        self.asked += 1;
        let frame = format!("{{\"type\":\"ping\",\"id\":\"q{}\"}}", self.asked);
        let Parsed { id, .. } = request::parse(
            frame.as_bytes(),
            Limits {
                max_text: 1,
                history: 1,
            },
        );
        id.expect("it has an id")
    }

    /// Asks a room for messages; joins it if it isn't in it.
    pub(super) fn question(&mut self, number: usize, node: &mut Node, want: Want) {
        let slot = match self.slots[number] {
            Some(slot) => slot,
            None => self.lanes.insert(Lane::new(node.room.clone())),
        };
        self.slots[number] = Some(slot);
        if self.lanes[slot].asking.is_some() {
            return;
        }
        let id = self.request_id();
        let question = Question {
            joins: self.lanes[slot].member.is_none(),
            want,
            acked: node.acked,
            sound: false,
            oldest: Seq(1),
            there: false,
        };
        self.client
            .questions
            .insert(id.as_str().to_owned(), question);
        let asking = Asking {
            ask: Ask::Messages(want),
            id: Some(id),
            tries: 0,
        };
        self.ask(number, slot, node, asking, None);
    }

    fn ask(
        &mut self,
        number: usize,
        slot: usize,
        node: &mut Node,
        mut asking: Asking,
        past: Option<&Slice>,
    ) {
        let lane = &mut self.lanes[slot];
        let Ask::Messages(want) = asking.ask else {
            return self.ask_users(number, slot, asking);
        };
        let question = room::Question {
            want,
            id: asking.id.as_ref(),
            past,
        };
        let asked = match &mut lane.member {
            Some(member) => ask_as_member(&lane.room, member, &question, &mut self.replies),
            None => {
                let ticket = Ticket {
                    peer: &self.peer,
                    slot,
                    bit: 1 << (slot % ROOM_BITS),
                };
                let asked = lane.room.join(&ticket, &question, &mut self.replies);
                asked.map(|(key, cursor)| {
                    lane.member = Some(Member {
                        key,
                        position: Position::Tail(cursor),
                        missed: false,
                    });
                })
            }
        };
        match asked {
            Asked::Done(()) => self.answered(&asking, node),
            Asked::Opening => lane.asking = Some(Box::new(asking)),
            Asked::Behind => {
                lane.asking = Some(Box::new(asking));
                self.cursors.bits |= 1 << (slot % ROOM_BITS);
                self.catching_up.push((number, slot));
            }
            Asked::Needs(from) if asking.tries < MAX_TRIES => {
                asking.tries += 1;
                lane.asking = Some(Box::new(asking));
                let room = lane.room.clone();
                node.read_past(&room, from, self.reader(slot, Reason::Question));
            }
            Asked::Needs(_) | Asked::Failed => self.ask_failed(number, slot, &asking),
        }
    }

    /// Asks who is in a room, if it is in it.
    pub(super) fn users(&mut self, number: usize) {
        let Some(slot) = self.slots[number] else {
            return;
        };
        let lane = &self.lanes[slot];
        if lane.asking.is_none() && lane.member.is_some() {
            let asking = Asking {
                ask: Ask::Users,
                id: None,
                tries: 0,
            };
            self.ask_users(number, slot, asking);
        }
    }

    fn ask_users(&mut self, number: usize, slot: usize, asking: Asking) {
        let lane = &mut self.lanes[slot];
        let Some(member) = &mut lane.member else {
            return;
        };
        let asked = users_as_member(&lane.room, member, None, &mut self.replies);
        if matches!(asked, Asked::Behind) {
            lane.asking = Some(Box::new(asking));
            self.cursors.bits |= 1 << (slot % ROOM_BITS);
            self.catching_up.push((number, slot));
        }
    }

    fn reader(&self, slot: usize, reason: Reason) -> Reader {
        Reader {
            peer: self.peer.clone(),
            slot,
            reason,
        }
    }

    /// Asks what waited for members to catch up, of those who have.
    fn notice_caught_up(&mut self, nodes: &mut [Node]) {
        for (number, slot) in std::mem::take(&mut self.catching_up) {
            let member = self.lanes.get(slot).and_then(|lane| lane.member.as_ref());
            match member.map(|member| &member.position) {
                Some(Position::Tail(_)) => self.take_up(number, slot, nodes, None),
                Some(_) => self.catching_up.push((number, slot)),
                None => {}
            }
        }
    }

    fn take_up(&mut self, number: usize, slot: usize, nodes: &mut [Node], past: Option<&Slice>) {
        if let Some(asking) = self.lanes[slot].asking.take() {
            self.ask(number, slot, &mut nodes[number], *asking, past);
        }
    }

    /// Notes what is known at the moment of the answer.
    fn answered(&mut self, asking: &Asking, node: &Node) {
        let id = asking.id.as_ref().map_or("", RequestId::as_str);
        let broker = &node.broker;
        let head = driver::head(&node.room).map_or(Seq::ZERO, |head| head.seq);
        if let Some(question) = self.client.questions.get_mut(id) {
            question.oldest = broker.oldest();
            question.sound =
                !broker.lost_data && (head >= broker.oldest() || broker.trimmed() == 0);
            let Ask::Messages(want) = asking.ask else {
                return;
            };
            question.there = match want {
                Want::Since(Since::After(mark), _) => {
                    mark.seq >= broker.oldest() && broker.mark_at(mark.seq) == Some(mark)
                }
                Want::Since(Since::Nothing, _) => broker.oldest() == Seq(1),
                _ => false,
            };
        }
    }

    fn ask_failed(&mut self, number: usize, slot: usize, asking: &Asking) {
        let id = asking.id.as_ref().map_or("", RequestId::as_str);
        let error = format!("{{\"type\":\"error\",\"id\":\"{id}\"}}");
        frame::put_text(&mut self.replies, error.as_bytes());
        if self.lanes[slot].member.is_none() {
            self.lanes.remove(slot);
            self.slots[number] = None;
        }
    }

    pub(super) fn leave(&mut self, number: usize) {
        let Some(slot) = self.slots[number] else {
            return;
        };
        // Requests to one room follow one another.
        let Some(Lane {
            member: Some(member),
            asking: None,
            room,
            ..
        }) = self.lanes.get(slot)
        else {
            return;
        };
        room.leave(member.key, &self.peer, false);
        let left = format!("{{\"type\":\"left\",\"roomId\":\"r{number}\"}}");
        frame::put_text(&mut self.replies, left.as_bytes());
        self.lanes.remove(slot);
        self.slots[number] = None;
    }

    /// A reply that has nothing to do with the rooms.
    pub(super) fn pong(&mut self, pad: usize) {
        self.pongs += 1;
        let pong = format!(
            "{{\"type\":\"pong\",\"n\":{},\"x\":\"{:x<pad$}\"}}",
            self.pongs, ""
        );
        frame::put_text(&mut self.replies, pong.as_bytes());
    }

    fn woken(&mut self, nodes: &mut [Node]) {
        let bits = self.peer.take_dirty(Waker::noop());
        self.cursors.bits |= bits & !NOTES;
        if bits & NOTES == 0 {
            return;
        }
        for note in self.peer.take_notes() {
            match note {
                Note::Opened(slot, outcome) => {
                    let Some(number) = self.slots.iter().position(|s| *s == Some(slot)) else {
                        continue;
                    };
                    let Some(asking) = self.lanes[slot].asking.take() else {
                        continue;
                    };
                    match outcome {
                        Ok(()) => self.ask(number, slot, &mut nodes[number], *asking, None),
                        Err(_) => self.ask_failed(number, slot, &asking),
                    }
                }
                Note::Past(past) => {
                    let slot = past.slot;
                    let Some(number) = self.slots.iter().position(|s| *s == Some(slot)) else {
                        continue;
                    };
                    let lane = &mut self.lanes[slot];
                    if !Arc::ptr_eq(&lane.room, &past.room) {
                        continue;
                    }
                    match (past.reason, &past.read) {
                        (Reason::Cursor, read) => {
                            if let Some(member) = &mut lane.member {
                                member.take_past(read.as_ref().ok().filter(|_| !self.full));
                                self.cursors.bits |= 1 << (slot % ROOM_BITS);
                            }
                        }
                        (Reason::Question, Ok(slice)) => {
                            self.take_up(number, slot, nodes, Some(slice));
                        }
                        (Reason::Question, Err(_)) => {
                            if let Some(asking) = lane.asking.take() {
                                self.ask_failed(number, slot, &asking);
                            }
                        }
                    }
                }
                Note::Sent(_) | Note::Said(_) | Note::Judged(_) | Note::Close(_) => {}
            }
        }
    }

    /// One turn of the connection: looks at what woke it, and writes once, as the wire does. The socket
    /// takes what `takes` says of the bytes there are.
    pub(super) fn turn(
        &mut self,
        nodes: &mut [Node],
        write: usize,
        takes: impl FnOnce(usize) -> usize,
    ) -> Result<(), String> {
        self.woken(nodes);
        self.notice_caught_up(nodes);
        let mut output = std::mem::take(&mut self.rest);
        let of_rest = output.len();
        output.extend_from_slice(&self.replies);
        let own = output.len();
        self.more = own >= write || of_rest > 0 || self.fill(nodes, &mut output, write - own);
        let taken = takes(output.len()).min(output.len());
        // Under TLS a socket may be full though all was taken; here a third of those that took all are.
        let behind = !output.is_empty() && taken == output.len() && taken.is_multiple_of(3);
        let filled = &output[own..];
        if taken < own {
            self.rest = output[taken.min(of_rest)..of_rest].to_vec();
            self.replies.drain(..taken.saturating_sub(of_rest));
            let end = self.cursors.settle(&mut self.lanes, filled, 0, true);
            check!(end == 0, "{end} bytes are kept of what wasn't begun");
        } else {
            self.replies.clear();
            let taken = taken - own;
            let full = behind || taken < filled.len();
            let end = self.cursors.settle(&mut self.lanes, filled, taken, full);
            check!(
                end >= taken && end <= filled.len(),
                "an end at {end} of {}",
                filled.len()
            );
            self.rest = filled[taken..end].to_vec();
        }
        self.full = behind || taken < output.len();
        self.more |= self.full;
        let brokers: Vec<&Broker> = nodes.iter().map(|node| &node.broker).collect();
        self.client.take(&output[..taken], &brokers)?;
        self.check_rest()
    }

    fn fill(&mut self, nodes: &mut [Node], output: &mut Vec<u8>, budget: usize) -> bool {
        let more = self.cursors.fill(&mut self.lanes, output, budget);
        for slot in std::mem::take(&mut self.cursors.behind) {
            let lane = &self.lanes[slot];
            let number = self.slots.iter().position(|s| *s == Some(slot));
            if let (
                Some(number),
                Some(Member {
                    position: Position::Behind { next, .. },
                    ..
                }),
            ) = (number, &lane.member)
            {
                let room = lane.room.clone();
                let reader = self.reader(slot, Reason::Cursor);
                nodes[number].read_past(&room, next.seq, reader);
            }
        }
        more
    }

    /// What is kept of a frame that was begun is the rest of that frame; the two frames with which a
    /// member begins anew may go out whole.
    fn check_rest(&self) -> Result<(), String> {
        if self.rest.is_empty() {
            check!(
                !self.client.has_partial() || !self.replies.is_empty(),
                "a frame was begun and is gone"
            );
            return Ok(());
        }
        // The client's share and what is kept make whole frames; the first ends here.
        let begun = self.client.begun();
        let whole = [begun, &self.rest].concat();
        let first = frame::frame_len(&whole).ok_or("not even a header is kept")?;
        let beyond = whole
            .get(first.max(begun.len())..)
            .ok_or("less is kept than is missing")?;
        let only_users = beyond.is_empty()
            || frame::frame_len(beyond) == Some(beyond.len())
                && beyond
                    .windows(16)
                    .take(12)
                    .any(|bytes| bytes == b"{\"type\":\"users\",");
        check!(
            only_users,
            "{} bytes are kept beyond one frame",
            beyond.len()
        );
        Ok(())
    }

    /// Whether it has something to do, or was woken.
    pub(super) fn is_busy(&self) -> bool {
        let bits = self.peer.take_dirty(Waker::noop());
        self.peer.mark(bits);
        bits != 0 || self.more || !self.replies.is_empty()
    }

    pub(super) fn is_silent(&self) -> bool {
        self.replies.is_empty() && self.rest.is_empty() && !self.client.has_partial()
    }
}
