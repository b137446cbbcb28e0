//! What a run records: every try to send and its answer, and everything that each client was given, in
//! the order in which it came. The checker judges this and nothing else.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first number of a shout.
pub(crate) const SHOUTS: u32 = 1_000_000;

/// A text that a client made up: it says who said it, and is said by nobody else and never again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Said {
    pub(crate) author: u16,
    pub(crate) number: u32,
}

impl Said {
    /// The text. Every 16th is long, so that frames of several sizes go over the wire; a shout is as
    /// long as a text may be, in characters of three bytes.
    pub(crate) fn text(self) -> String {
        if self.number >= SHOUTS {
            return format!("{self}:{}", "あ".repeat(1_900));
        }
        let padding = if self.number % 16 == 7 {
            1_500
        } else {
            (self.number % 5) as usize * 40
        };
        format!("{self}:{}", "~".repeat(padding))
    }

    /// What a text is; `None` for one that is not to the letter what a client says.
    pub(crate) fn parse(text: &str) -> Option<Said> {
        let (author, number) = text.split(':').next()?.strip_prefix('c')?.split_once('#')?;
        let said = Said {
            author: author.parse().ok()?,
            number: number.parse().ok()?,
        };
        (said.text() == text).then_some(said)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}#{}", self.author, self.number)
    }
}

/// The id of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Id([u8; 12]);

impl Id {
    pub(crate) fn parse(text: &str) -> Option<Id> {
        Some(Id(text.as_bytes().try_into().ok()?))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// A message's place and id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) seq: u64,
    pub(crate) id: Id,
}

/// A message as a client was given it. `said: None`: its text, author or `clientId` is nobody's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) mark: Mark,
    pub(crate) said: Option<Said>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.mark.seq, self.mark.id)?;
        match self.said {
            Some(said) => said.fmt(f),
            None => f.write_str("(nobody's)"),
        }
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// The client is about to send it, for the first time or again.
    Sent(Said),
    /// A try was answered with `ack`.
    Acked(Said, Mark),
    /// A try was answered with `error`.
    Refused(Said),
    /// A `history` came that continues what the client has (`recovered: true`), or replaces it.
    History {
        continues: bool,
        seq: u64,
        messages: Vec<Entry>,
    },
    /// A `message` came.
    Message(Entry),
    /// A `user_joined` came.
    Joined(u16),
    /// A `user_left` came.
    Left(u16),
    /// A `users` came, asked for or not.
    Users(Vec<u16>),
    /// The connection ended.
    Cut,
}

/// What happened when, to whom, in which room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) client: u16,
    pub(crate) room: u8,
    pub(crate) what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64();
        write!(f, "{at:.6} c{} r{} ", self.client, self.room)?;
        match &self.what {
            What::Sent(said) => write!(f, "sent {said}"),
            What::Acked(said, mark) => write!(f, "acked {said} {} {}", mark.seq, mark.id),
            What::Refused(said) => write!(f, "refused {said}"),
            What::Message(entry) => write!(f, "message {entry}"),
            What::Cut => f.write_str("cut"),
            What::Joined(user) => write!(f, "joined c{user}"),
            What::Left(user) => write!(f, "left c{user}"),
            What::Users(users) => write!(f, "users {users:?}"),
            What::History {
                continues,
                seq,
                messages,
            } => {
                let word = if *continues { "recovered" } else { "anew" };
                write!(f, "history {word} {seq}:")?;
                messages
                    .iter()
                    .try_for_each(|entry| write!(f, " [{entry}]"))
            }
        }
    }
}

/// Where all clients write.
pub(crate) struct Journal {
    begin: Instant,
    events: Mutex<Vec<Event>>,
}

impl Journal {
    pub(crate) fn new() -> Journal {
        Journal {
            begin: Instant::now(),
            events: Mutex::default(),
        }
    }

    /// The time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(crate) fn write(&self, client: u16, room: u8, what: What) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the journal is in the order of time.
        let at = self.begin.elapsed();
        events.push(Event {
            at,
            client,
            room,
            what,
        });
    }

    /// What is written so far, for as long as it takes to look at it.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&[Event]) -> T) -> T {
        look(&self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of it, once the clients are gone.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
