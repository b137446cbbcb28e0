//! A client's desk: which rooms it is in and up to where it has read them, what it said and hasn't heard
//! of. It makes the requests and understands the events; it does no I/O.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::history::{Entry, Id, Mark, SHOUTS, Said, What};
use super::sight::STRANGER;
use super::support::{Value, json};

/// A send without a final answer.
struct Open {
    room: u8,
    tries: usize,
    refused: usize,
    since: Instant,
}

#[derive(Default)]
struct Place {
    /// Whether a `history` came on this connection.
    joined: bool,
    /// Whether one ever came: from then on there is something to resume.
    began: bool,
    last: Option<Mark>,
}

/// What an event came to.
#[derive(Default)]
pub(crate) struct Taken {
    /// What is to be written down.
    pub(crate) happened: Option<(u8, What)>,
    /// The numbers of what is to be sent (again) now.
    pub(crate) again: Vec<u32>,
}

/// The desk.
pub(crate) struct Desk {
    author: u16,
    rooms: BTreeMap<u8, Place>,
    open: BTreeMap<u32, Open>,
    thoughts: u32,
    /// Joins and sends that got `error`, to be tried again a little later.
    later: Later,
}

/// What is to be tried again.
#[derive(Default)]
pub(crate) struct Later {
    pub(crate) joins: Vec<Value>,
    pub(crate) sends: Vec<u32>,
}

/// Every fourth text is said without a `clientId`: it is never sent twice.
fn has_client_id(number: u32) -> bool {
    number % 4 != 3
}

/// Of those that got `error`, every other is given up.
fn is_given_up(number: u32) -> bool {
    number.is_multiple_of(2) || !has_client_id(number)
}

impl Desk {
    pub(crate) fn new(author: u16, rooms: Vec<u8>) -> Desk {
        let places = rooms.into_iter().map(|room| (room, Place::default()));
        Desk {
            author,
            rooms: places.collect(),
            open: BTreeMap::new(),
            thoughts: 0,
            later: Later::default(),
        }
    }

    /// What is to be tried again now.
    pub(crate) fn take_later(&mut self) -> Later {
        std::mem::take(&mut self.later)
    }

    pub(crate) fn room_id(room: u8) -> String {
        format!("room-{room}")
    }

    /// Sends without an answer.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn waits_longer_than(&self, time: Duration) -> bool {
        self.open.values().any(|open| open.since.elapsed() > time)
    }

    pub(crate) fn joined(&self) -> Vec<u8> {
        let joined = self.rooms.iter().filter(|(_, place)| place.joined);
        joined.map(|(room, _)| *room).collect()
    }

    /// The last message of each room; of none that it isn't in now.
    pub(crate) fn last(&self) -> Vec<(u8, Option<Mark>)> {
        let last = |place: &Place| place.last.filter(|_| place.joined);
        self.rooms
            .iter()
            .map(|(room, place)| (*room, last(place)))
            .collect()
    }

    /// The requests with which a connection begins.
    pub(crate) fn joins(&self) -> Vec<Value> {
        self.rooms.keys().map(|room| self.join(*room)).collect()
    }

    fn join(&self, room: u8) -> Value {
        let mut payload = json!({"roomId": Self::room_id(room)});
        if let Some(place) = self.rooms.get(&room).filter(|place| place.began) {
            payload["since"] = match place.last {
                Some(last) => json!({"seq": last.seq, "id": last.id.to_string()}),
                None => json!({"seq": 0, "id": null}),
            };
        }
        json!({"type": "join", "id": format!("j{room}"), "payload": payload})
    }

    /// The connection is gone. What had no `clientId` is given up, its fate unknown. The rooms it was in.
    pub(crate) fn cut(&mut self) -> Vec<u8> {
        let joined = self.joined();
        self.later = Later::default();
        self.rooms
            .values_mut()
            .for_each(|place| place.joined = false);
        self.open.retain(|number, _| has_client_id(*number));
        joined
    }

    /// A new text, a very long one where it is `loud`; its number.
    pub(crate) fn think(&mut self, room: u8, loud: bool) -> u32 {
        self.thoughts += 1;
        let number = self.thoughts + if loud { SHOUTS } else { 0 };
        let open = Open {
            room,
            tries: 0,
            refused: 0,
            since: Instant::now(),
        };
        self.open.insert(number, open);
        number
    }

    /// The request that sends an open text, once more.
    pub(crate) fn request(&mut self, number: u32) -> Option<(u8, Said, Value)> {
        let open = self.open.get_mut(&number)?;
        open.tries += 1;
        open.since = Instant::now();
        let said = Said {
            author: self.author,
            number,
        };
        let mut payload = json!({"roomId": Self::room_id(open.room), "text": said.text()});
        if has_client_id(number) {
            payload["clientId"] = json!(said.to_string());
        }
        let request = json!({"type": "message", "id": format!("s{number}"), "payload": payload});
        Some((open.room, said, request))
    }

    /// Takes an event.
    pub(crate) fn take(&mut self, event: &Value) -> Taken {
        let payload = &event["payload"];
        let room = payload["roomId"]
            .as_str()
            .and_then(|id| id.strip_prefix("room-")?.parse().ok());
        let id = event["id"].as_str().unwrap_or_default();
        match (event["type"].as_str(), room) {
            (Some("message"), Some(room)) => self.message(room, payload),
            (Some("history"), Some(room)) => self.history(room, payload),
            (Some("ack"), Some(room)) => self.acked(room, id, payload),
            (Some("error"), _) => self.refused(id),
            (Some("user_joined"), Some(room)) => told(room, What::Joined(user(payload))),
            (Some("user_left"), Some(room)) => told(room, What::Left(user(payload))),
            (Some("users"), Some(room)) => told(room, What::Users(users(payload))),
            _ => Taken::default(),
        }
    }

    fn message(&mut self, room: u8, payload: &Value) -> Taken {
        let Some(entry) = entry(payload) else {
            panic!("c{}: a message of wrong form: {payload}", self.author);
        };
        if let Some(place) = self.rooms.get_mut(&room) {
            place.last = Some(entry.mark);
        }
        Taken {
            happened: Some((room, What::Message(entry))),
            ..Taken::default()
        }
    }

    fn history(&mut self, room: u8, payload: &Value) -> Taken {
        let list = payload["messages"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let messages: Vec<Entry> = list.iter().filter_map(|m| entry(&m["payload"])).collect();
        let seq = payload["seq"].as_u64().unwrap_or_default();
        let last_id = payload["lastId"].as_str().and_then(Id::parse);
        assert_eq!(messages.len(), list.len(), "c{}: {payload}", self.author);
        let mut taken = Taken::default();
        if let Some(place) = self.rooms.get_mut(&room) {
            let was_joined = std::mem::replace(&mut place.joined, true);
            place.began = true;
            place.last = last_id.map(|id| Mark { seq, id });
            if !was_joined {
                let open = self.open.iter().filter(|(_, open)| open.room == room);
                taken.again = open.map(|(number, _)| *number).collect();
            }
        }
        let continues = payload["recovered"] == true;
        taken.happened = Some((
            room,
            What::History {
                continues,
                seq,
                messages,
            },
        ));
        taken
    }

    fn number_of(id: &str) -> Option<u32> {
        id.strip_prefix('s')?.parse().ok()
    }

    fn acked(&mut self, room: u8, id: &str, payload: &Value) -> Taken {
        let known = Self::number_of(id).filter(|number| self.open.remove(number).is_some());
        let Some(number) = known else {
            return Taken::default();
        };
        let Some(mark) = mark(payload, "messageId") else {
            panic!("c{}: an ack of wrong form: {payload}", self.author);
        };
        let said = Said {
            author: self.author,
            number,
        };
        Taken {
            happened: Some((room, What::Acked(said, mark))),
            ..Taken::default()
        }
    }

    fn refused(&mut self, id: &str) -> Taken {
        let rejoin = id.strip_prefix('j').and_then(|room| room.parse().ok());
        if let Some(room) = rejoin {
            let join = self.join(room);
            self.later.joins.push(join);
            return Taken::default();
        }
        let Some((number, open)) =
            Self::number_of(id).and_then(|number| Some((number, self.open.get_mut(&number)?)))
        else {
            return Taken::default();
        };
        open.refused += 1;
        let (room, is_over) = (open.room, open.refused == open.tries && is_given_up(number));
        if is_over || !has_client_id(number) {
            self.open.remove(&number);
        } else {
            self.later.sends.push(number);
        }
        let said = Said {
            author: self.author,
            number,
        };
        Taken {
            happened: Some((room, What::Refused(said))),
            ..Taken::default()
        }
    }
}

fn told(room: u8, what: What) -> Taken {
    Taken {
        happened: Some((room, what)),
        ..Taken::default()
    }
}

fn user(payload: &Value) -> u16 {
    let number = payload["userId"]
        .as_str()
        .and_then(|id| id.strip_prefix('c'));
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or(STRANGER)
}

/// Who a `users` lists.
pub(crate) fn users(payload: &Value) -> Vec<u16> {
    let list = payload["users"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    assert_eq!(
        payload["count"],
        list.len(),
        "the count is of those listed: {payload}"
    );
    list.iter().map(user).collect()
}

fn mark(payload: &Value, id: &str) -> Option<Mark> {
    Some(Mark {
        seq: payload["seq"].as_u64()?,
        id: Id::parse(payload[id].as_str()?)?,
    })
}

/// A message as it was given: somebody's only where author, text and `clientId` agree.
pub(crate) fn entry(payload: &Value) -> Option<Entry> {
    let said = payload["text"]
        .as_str()
        .and_then(Said::parse)
        .filter(|said| {
            let client_id = match has_client_id(said.number) {
                true => json!(said.to_string()),
                false => Value::Null,
            };
            payload["userId"] == format!("c{}", said.author) && payload["clientId"] == client_id
        });
    Some(Entry {
        mark: mark(payload, "id")?,
        said,
    })
}
