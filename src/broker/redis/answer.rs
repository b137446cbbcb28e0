//! What the scripts answer, read.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use crate::broker::toll::Block;
use crate::broker::{Appended, Draft, Outcome};
use crate::history::Slice;
use crate::id::{Mark, MessageId, Seq};
use crate::protocol::message;

/// A value as text.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// What `append.lua` says of each draft, and the blocks behind that.
pub(super) fn appended(answer: &Value, drafts: &[Draft]) -> Option<Appended> {
    let answers = match answer {
        Value::Int(first) => return Some(all_stored(u64::try_from(*first).ok()?, drafts)),
        Value::Array(answers) => answers,
        _ => return None,
    };
    let (outcomes, blocks) = answers.split_at_checked(drafts.len())?;
    let outcomes = outcomes.iter().map(|answer| outcome(text(answer)?));
    let blocks = blocks.iter().map(|answer| block(text(answer)?));
    Some(Appended {
        outcomes: outcomes.collect::<Option<_>>()?,
        blocks: blocks.collect::<Option<_>>()?,
    })
}

/// All are stored as they are, one after another.
fn all_stored(first: u64, drafts: &[Draft]) -> Appended {
    let places = (first..).map(Seq);
    let stored = |(seq, draft): (Seq, &Draft)| Outcome::Stored(Mark { seq, id: draft.id });
    Appended {
        outcomes: places.zip(drafts).map(stored).collect(),
        blocks: Vec::new(),
    }
}

fn block(answer: &str) -> Option<Block> {
    let mut words = answer.strip_prefix("b ")?.split(' ');
    Some(Block {
        nth: words.next()?.parse().ok()?,
        ahead: words.next()?.parse().ok()?,
        left: Duration::from_millis(words.next()?.parse().ok()?),
    })
}

fn outcome(answer: &str) -> Option<Outcome> {
    let mut words = answer.split(' ');
    let kind = words.next()?;
    if kind == "u" {
        return Some(Outcome::Unknowable);
    }
    if kind == "l" {
        let left = words.next()?.parse().ok()?;
        return Some(Outcome::Limited(Duration::from_millis(left)));
    }
    let mark = Mark {
        seq: Seq(words.next()?.parse().ok()?),
        id: MessageId::parse(words.next()?.as_bytes())?,
    };
    match kind {
        "s" => Some(Outcome::Stored(mark)),
        "d" => Some(Outcome::Duplicate(mark, words.next()?.parse().ok()?)),
        _ => None,
    }
}

/// What `read.lua` found.
pub(super) fn slice(answer: Value) -> Option<Slice> {
    let Value::Array(answer) = answer else {
        return None;
    };
    let mut answer = answer.into_iter();
    let (Value::BulkString(newest), len) = (answer.next()?, answer.next()?) else {
        return None;
    };
    let len: u64 = text(&len)?.parse().ok()?;
    if len == 0 {
        return Some(Slice {
            messages: Vec::new(),
            head: None,
            oldest: Seq(1),
        });
    }
    let head = message::mark(&newest)?;
    let mut messages = Vec::with_capacity(answer.len());
    for entry in answer {
        let Value::BulkString(entry) = entry else {
            return None;
        };
        let mark = message::mark(&entry)?;
        if messages
            .last()
            .is_some_and(|(last, _): &(Mark, Bytes)| last.seq.next() != mark.seq)
        {
            return None;
        }
        messages.push((mark, Bytes::from(entry)));
    }
    Some(Slice {
        messages,
        head: Some(head),
        oldest: Seq((head.seq.0 + 1).checked_sub(len)?),
    })
}
