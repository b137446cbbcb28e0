//! The client's end: it puts frames together from whatever pieces come, and holds every one of them
//! against what the broker ever stored. A view is right where each message follows the one that stood
//! before it in the broker, from the last `history` that the client was told to begin with.

use std::collections::HashMap;

use super::broker::Broker;
use crate::history::Want;
use crate::id::{Mark, MessageId, Seq};
use crate::protocol::request::Since;
use crate::protocol::{frame, message};

macro_rules! check {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}
pub(super) use check;

/// What is known of a question when it is answered, to judge the answer by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// It makes the connection a member.
    pub(super) joins: bool,
    pub(super) want: Want,
    /// The newest place that this node had acked when it was asked.
    pub(super) acked: Seq,
    /// The broker never lost data, and the node isn't behind all that it keeps.
    pub(super) sound: bool,
    /// The oldest place of the broker's history.
    pub(super) oldest: Seq,
    /// What `since` names is in the broker's history.
    pub(super) there: bool,
}

/// What a member was given of a room.
#[derive(Default)]
pub(super) struct View {
    pub(super) last: Option<Mark>,
    /// The number of the last event that isn't kept.
    event: u64,
    /// Who is in the room, as far as it was told.
    pub(super) present: HashMap<String, bool>,
    /// `history` events that told it to begin anew.
    pub(super) resets: usize,
}

/// One client.
#[derive(Default)]
pub(super) struct Client {
    /// Bytes of a frame that isn't whole yet.
    partial: Vec<u8>,
    /// By room.
    pub(super) views: HashMap<usize, View>,
    /// The last message it had of rooms that it left.
    pub(super) left: HashMap<usize, Option<Mark>>,
    pub(super) questions: HashMap<String, Question>,
    /// Questions answered with an error.
    pub(super) unavailable: usize,
    pub(super) recovered: usize,
    pub(super) messages: usize,
    pub(super) pings: u64,
}

impl Client {
    /// The bytes that came of a frame that isn't whole yet.
    pub(super) fn begun(&self) -> &[u8] {
        &self.partial
    }

    pub(super) fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    pub(super) fn take(&mut self, bytes: &[u8], brokers: &[&Broker]) -> Result<(), String> {
        self.partial.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.partial);
        let mut rest = &all[..];
        while let Some(len) = frame::frame_len(rest).filter(|len| *len <= rest.len()) {
            check!(rest[0] == 0x81, "a frame of kind {:#x}", rest[0]);
            let payload = &rest[frame_header(rest)..len];
            self.event(payload, brokers)?;
            rest = &rest[len..];
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    fn event(&mut self, payload: &[u8], brokers: &[&Broker]) -> Result<(), String> {
        let (head, tail) = (&payload[..payload.len().min(200)], shown(payload));
        let text = std::str::from_utf8(head).unwrap_or_default();
        let kind = text
            .strip_prefix("{\"type\":\"")
            .and_then(|rest| rest.split('"').next());
        check!(payload.ends_with(b"}"), "a frame cut short: {tail}");
        match kind {
            Some("message") => self.message(payload, brokers),
            Some("history") => self.history(payload, brokers),
            Some("typing") => self.typing(text),
            Some("user_joined") => self.presence(text, true),
            Some("user_left") => self.presence(text, false),
            Some("users") => self.users(payload),
            Some("left") => {
                let room = room_of(text).ok_or("left without a room")?;
                let view = self.views.remove(&room);
                check!(view.is_some(), "left a room it wasn't in");
                self.left.insert(room, view.and_then(|view| view.last));
                Ok(())
            }
            Some("error") => {
                let id = string_after(text, "\"id\":").ok_or("an error without an id")?;
                check!(
                    self.questions.remove(id).is_some(),
                    "an error for no question"
                );
                self.unavailable += 1;
                Ok(())
            }
            Some("pong") => {
                self.pings += 1;
                let number = number_after(text, "\"n\":");
                check!(
                    number == Some(self.pings),
                    "pong {number:?} after {}",
                    self.pings - 1
                );
                Ok(())
            }
            _ => Err(format!("no event of ours: {tail}")),
        }
    }

    fn message(&mut self, payload: &[u8], brokers: &[&Broker]) -> Result<(), String> {
        let text = std::str::from_utf8(&payload[..payload.len().min(200)]).unwrap_or_default();
        let room = room_of(text).ok_or("a message without a room")?;
        let mark = message::mark(payload).ok_or("a message without a mark")?;
        let view = self
            .views
            .get_mut(&room)
            .ok_or("a message of a room it isn't in")?;
        follows(brokers[room], view.last, mark, payload)?;
        view.last = Some(mark);
        self.messages += 1;
        Ok(())
    }

    fn history(&mut self, payload: &[u8], brokers: &[&Broker]) -> Result<(), String> {
        let page = Page::read(payload)?;
        let broker = brokers[page.room];
        let mut before: Option<Mark> = None;
        for (n, (mark, bytes)) in page.messages.iter().enumerate() {
            if n > 0 {
                follows(broker, before, *mark, bytes)?;
            } else {
                let stored = broker.ever.get(&mark.id).ok_or("an invented message")?;
                check!(
                    stored.bytes == *bytes && stored.mark == *mark,
                    "a changed message"
                );
            }
            before = Some(*mark);
        }
        if let Some(head) = page.head {
            check!(
                broker
                    .ever
                    .get(&head.id)
                    .is_some_and(|stored| stored.mark == head),
                "a history with a head that never was: {head:?}"
            );
        }
        match page.id {
            Some(id) => {
                let question = self
                    .questions
                    .remove(id)
                    .ok_or("an answer to no question")?;
                page.answers(&question, broker)?;
                if question.joins {
                    self.recovered += usize::from(page.recovered == Some(true));
                    let last = page.head;
                    let view = View {
                        last,
                        ..View::default()
                    };
                    self.views.insert(page.room, view);
                }
                Ok(())
            }
            None => {
                check!(
                    page.recovered == Some(false),
                    "a history that nobody asked for"
                );
                // Where events pushed all messages out of the tail, the client pages back itself.
                let ends_at_head = before == page.head || (before.is_none() && page.has_more);
                check!(ends_at_head, "a reset with an old page");
                let view = self
                    .views
                    .get_mut(&page.room)
                    .ok_or("a reset of a room it isn't in")?;
                let last = view.last.map_or(Seq::ZERO, |last| last.seq);
                check!(
                    broker.lost_data || last < broker.oldest(),
                    "a reset without a cause: the client has {:?}, the broker {:?} to {:?}",
                    view.last,
                    broker.oldest(),
                    broker.head()
                );
                view.last = page.head;
                view.resets += 1;
                Ok(())
            }
        }
    }

    fn typing(&mut self, text: &str) -> Result<(), String> {
        let room = room_of(text).ok_or("an event without a room")?;
        let number = number_after(text, "\"n\":").ok_or("an event without a number")?;
        let view = self
            .views
            .get_mut(&room)
            .ok_or("an event of a room it isn't in")?;
        check!(number > view.event, "event {number} after {}", view.event);
        view.event = number;
        Ok(())
    }

    fn presence(&mut self, text: &str, there: bool) -> Result<(), String> {
        let room = room_of(text).ok_or("presence without a room")?;
        let user = string_after(text, "\"userId\":").ok_or("presence without a user")?;
        let view = self
            .views
            .get_mut(&room)
            .ok_or("presence of a room it isn't in")?;
        let before = view.present.insert(user.to_owned(), there);
        check!(before != Some(there), "{user}: told {there} twice");
        Ok(())
    }

    fn users(&mut self, payload: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(payload).map_err(|_| "no UTF-8")?;
        let room = room_of(text).ok_or("users without a room")?;
        let view = self
            .views
            .get_mut(&room)
            .ok_or("users of a room it isn't in")?;
        view.present.values_mut().for_each(|there| *there = false);
        for user in text.split("\"userId\":\"").skip(1) {
            let user = user.split('"').next().unwrap_or_default();
            view.present.insert(user.to_owned(), true);
        }
        Ok(())
    }
}

/// Whether a message is the one that comes after `before`.
fn follows(broker: &Broker, before: Option<Mark>, mark: Mark, bytes: &[u8]) -> Result<(), String> {
    let stored = broker.ever.get(&mark.id).ok_or("an invented message")?;
    check!(
        stored.bytes == bytes && stored.mark == mark,
        "a changed message: {mark:?}"
    );
    let next = before.map_or(Seq(1), |before| before.seq.next());
    check!(
        mark.seq == next && stored.prev == before.map(|before| before.id),
        "{mark:?} after {before:?}"
    );
    Ok(())
}

/// A `history` event, taken apart.
struct Page<'a> {
    room: usize,
    messages: Vec<(Mark, &'a [u8])>,
    head: Option<Mark>,
    recovered: Option<bool>,
    has_more: bool,
    id: Option<&'a str>,
}

impl<'a> Page<'a> {
    fn read(payload: &'a [u8]) -> Result<Page<'a>, String> {
        const BEGIN: &[u8] = b"{\"type\":\"message\"";
        let text = std::str::from_utf8(payload).map_err(|_| "no UTF-8")?;
        let (list, end) = text
            .rsplit_once("],\"seq\":")
            .ok_or("a history without a place")?;
        let (_, mut list) = list
            .split_once("\"messages\":[")
            .ok_or("a history without a list")?;
        let mut messages = Vec::new();
        while !list.is_empty() {
            let next = list[1..]
                .find("{\"type\":\"message\"")
                .map_or(list.len(), |at| at + 1);
            let bytes = list[..next].trim_end_matches(',').as_bytes();
            check!(bytes.starts_with(BEGIN), "a history of other things");
            messages.push((
                message::mark(bytes).ok_or("a message without a mark")?,
                bytes,
            ));
            list = &list[next..];
        }
        let seq = end
            .split(',')
            .next()
            .and_then(|seq| seq.parse().ok())
            .ok_or("no place")?;
        let head = string_after(end, "\"lastId\":")
            .and_then(|id| MessageId::parse(id.as_bytes()))
            .map(|id| Mark { seq: Seq(seq), id });
        check!(head.is_some() == (seq > 0), "place {seq} with id {head:?}");
        let says = |what: &str| end.contains(what);
        Ok(Page {
            room: room_of(text).ok_or("a history without a room")?,
            messages,
            head,
            recovered: (says("\"recovered\":true").then_some(true))
                .or(says("\"recovered\":false").then_some(false)),
            has_more: says("\"hasMore\":true"),
            id: string_after(end, "\"id\":"),
        })
    }

    fn answers(&self, question: &Question, broker: &Broker) -> Result<(), String> {
        let (first, last) = (self.messages.first(), self.messages.last());
        let asked = format!(
            "asked {question:?}, got {:?} to {:?}, head {:?}, {:?}",
            first.map(|(mark, _)| mark),
            last.map(|(mark, _)| mark),
            self.head,
            self.recovered
        );
        let (head, end) = (self.head, last.map(|(mark, _)| *mark));
        let head_seq = head.map_or(Seq::ZERO, |head| head.seq);
        let whole = |limit: usize, to: Seq| {
            let least = (to.0.saturating_sub(question.oldest.0) as usize).min(limit);
            !question.sound || self.messages.len() >= least
        };
        match question.want {
            Want::Newest(limit) | Want::Since(_, limit) if self.recovered != Some(true) => {
                // A node that is behind all that the broker keeps has nothing to show, and is mended next.
                check!(
                    end == head || (end.is_none() && question.oldest.0 > head_seq.0),
                    "the page doesn't end at the head: {asked}"
                );
                check!(
                    self.messages.len() <= limit,
                    "a page beyond its limit: {asked}"
                );
                check!(
                    whole(limit, head_seq.next()),
                    "a page that holds too little: {asked}"
                );
            }
            Want::Before(before, limit) => {
                check!(
                    end.is_none_or(|end| end.seq < before),
                    "a page beyond `before`: {asked}"
                );
                check!(
                    self.messages.len() <= limit,
                    "a page beyond its limit: {asked}"
                );
                check!(
                    whole(limit, before.min(head_seq.next())),
                    "a page that holds too little: {asked}"
                );
            }
            _ => {}
        }
        match question.want {
            Want::Since(since, _) => {
                check!(
                    self.recovered.is_some(),
                    "it isn't said whether it is recovered: {asked}"
                );
                let had = match since {
                    Since::After(mark) => Some(mark),
                    Since::Nothing | Since::Unknown => None,
                };
                if self.recovered == Some(true) {
                    check!(since != Since::Unknown, "recovered from nowhere: {asked}");
                    check!(
                        had.is_none_or(|mark| broker
                            .ever
                            .get(&mark.id)
                            .is_some_and(|stored| stored.mark == mark)),
                        "recovered from a message that never was: {asked}"
                    );
                    if let Some((mark, bytes)) = first {
                        follows(broker, had, *mark, bytes)
                            .map_err(|why| format!("{why}: {asked}"))?;
                    }
                    check!(
                        end.or(had) == head,
                        "recovered, but not up to the head: {asked}"
                    );
                } else {
                    check!(
                        !(question.sound && question.there),
                        "not recovered without a cause: {asked}"
                    );
                }
            }
            _ => check!(
                self.recovered.is_none(),
                "it wasn't asked whether it is recovered: {asked}"
            ),
        }
        if question.sound {
            check!(
                head_seq >= question.acked,
                "what was acked isn't there: {asked}"
            );
            let begin = first.map(|(mark, _)| mark.seq);
            check!(
                self.has_more || begin.is_none_or(|begin| begin <= question.oldest),
                "there is more: {asked}"
            );
        }
        Ok(())
    }
}

fn frame_header(frame: &[u8]) -> usize {
    match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

fn shown(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(120)]).into_owned()
}

fn string_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(key)?;
    rest.strip_prefix('"')?.split('"').next()
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(key)?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

fn room_of(text: &str) -> Option<usize> {
    string_after(text, "\"roomId\":")?
        .strip_prefix('r')?
        .parse()
        .ok()
}
