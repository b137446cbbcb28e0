//! Those who ask the broker to be let in. Whoever asks in the same turn of the runtime goes with the others in one
//! call: of a crowd that comes back at once many share one, and a lone one waits for nobody. No call waits for
//! another one's answer: each has a second from its asker's point of view, and on a long way to the broker that is few
//! round trips. Each is judged for itself, in the order in which they came.
//!
//! A question holds the numbers that it is about ([`OnTheWay`]) until it is answered. Who gives up waiting leaves them
//! to it: they are dropped, with what is known of their fate, when the call ends, and until then no other call tells
//! those places anything. So a question can't come to the broker after the news that took it back. One that
//! wasn't sent by then only counts its connect: it came, and whoever guesses tokens mustn't get out of that by
//! hanging up.
//!
//! The line is emptied in each turn, and there are no more calls than there are sockets that asked within the deadline.
//! The task that calls lives as long as there is a line; decided under the lock, so who comes at the same time is seen or
//! starts another one. Calls may overtake each other: numbers have versions, and a place is told nothing else while any
//! call has its number.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::address::Source;
use super::admission::{DEADLINE, Wanted};
use super::entering::OnTheWay;
use super::held::Fate;
use crate::broker::Unavailable;
use crate::broker::places::{Ask, Claim, Connect, Entry};
use crate::config::AdmissionConfig;
use crate::hub::Hub;
use crate::id::Incarnation;

/// Questions in one call: about half a millisecond of Redis.
const A_CALL: usize = 128;

/// What is asked of the broker for one who enters.
pub(super) struct Question {
    /// Where a connect is to be counted.
    connect: Option<Source>,
    /// The places that it takes, and for which incarnation of this node.
    places: Option<(Incarnation, Wanted)>,
    /// Of a place, by its number: who is dead and to be struck off.
    strike: Option<(usize, Vec<Incarnation>)>,
    /// The numbers that it takes with it.
    sent: OnTheWay,
    answer: oneshot::Sender<(Entry, OnTheWay)>,
}

impl Question {
    /// A question, and where its answer comes; that ends without one where the broker couldn't be asked.
    pub(super) fn new(
        connect: Option<Source>,
        places: Option<(Incarnation, Wanted)>,
        strike: Option<(usize, Vec<Incarnation>)>,
        sent: OnTheWay,
    ) -> (Question, oneshot::Receiver<(Entry, OnTheWay)>) {
        let (answer, receiver) = oneshot::channel();
        let question = Question {
            connect,
            places,
            strike,
            sent,
            answer,
        };
        (question, receiver)
    }

    /// The question as it is now: without its places where nobody waits for them any more; `None` where nothing is
    /// left of it.
    fn current(mut self) -> Option<Question> {
        if self.answer.is_closed() {
            self.places = None;
            self.sent.let_go();
        }
        (self.places.is_some() || self.connect.is_some()).then_some(self)
    }

    fn claims(&self) -> SmallVec<[Claim<'_>; 2]> {
        let Some((own, wanted)) = &self.places else {
            return SmallVec::new();
        };
        let strike = |nth| match &self.strike {
            Some((place, dead)) if *place == nth => &dead[..],
            _ => &[],
        };
        let claims = wanted.iter().zip(&self.sent.sent).enumerate();
        let claims = claims.map(|(nth, ((place, _, most), (_, count)))| Claim {
            own: *own,
            place,
            version: count.version,
            held: count.held,
            most: *most,
            strike: strike(nth),
        });
        claims.collect()
    }

    fn answered(mut self, entry: Entry) {
        if self.places.is_some() {
            self.sent.fate = Fate::of(&entry.verdict);
        }
        // Where nobody waits any more it is dropped here.
        let _ = self.answer.send((entry, self.sent));
    }
}

/// The way to the broker of all who enter at this node.
pub(super) struct Calls {
    hub: Hub,
    /// How many connects a window takes, and how long it is.
    window: (u32, Duration),
    line: Arc<Mutex<Line>>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Question>,
    /// Whether a task calls.
    calling: bool,
}

// Nothing under this lock panics half-way through a change.
fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    pub(super) fn new(limits: &AdmissionConfig, hub: Hub) -> Calls {
        Calls {
            hub,
            window: (limits.connects, limits.window),
            line: Arc::default(),
        }
    }

    /// Asks the broker, with all who ask in this turn.
    pub(super) fn ask(&self, question: Question) {
        let mut line = lock(&self.line);
        line.waiting.push_back(question);
        if !std::mem::replace(&mut line.calling, true) {
            drop(line);
            let calls = call_all(self.hub.clone(), self.window, self.line.clone());
            tokio::spawn(calls);
        }
    }
}

/// Calls until nobody is left in the line.
async fn call_all(hub: Hub, window: (u32, Duration), line: Arc<Mutex<Line>>) {
    loop {
        // Behind those who are ready to run, and may have something to ask, too.
        tokio::task::yield_now().await;
        match next(&line) {
            Some(next) => drop(tokio::spawn(call(hub.clone(), window, next))),
            None => return,
        }
    }
}

/// One call.
async fn call(hub: Hub, window: (u32, Duration), next: Vec<Question>) {
    let mut asked: Vec<Question> = next.into_iter().filter_map(Question::current).collect();
    if asked.is_empty() {
        return;
    }
    for question in asked
        .iter_mut()
        .filter(|question| question.places.is_some())
    {
        question.sent.fate = Fate::Unknown;
    }
    if let Ok(Ok(entries)) = timeout(DEADLINE, enter(&hub, &asked, window)).await {
        for (question, entry) in asked.into_iter().zip(entries) {
            // Of one that couldn't be judged nothing is known; its asker hears that from the channel's end.
            if let Ok(entry) = entry {
                question.answered(entry);
            }
        }
    }
}

async fn enter(
    hub: &Hub,
    asked: &[Question],
    (most, window): (u32, Duration),
) -> Result<Vec<Result<Entry, Unavailable>>, Unavailable> {
    let name = |question: &Question| question.connect.map(|source| source.to_string());
    let sources: Vec<Option<String>> = asked.iter().map(name).collect();
    let claims: Vec<_> = asked.iter().map(Question::claims).collect();
    let asks = sources.iter().zip(&claims).map(|(source, claims)| Ask {
        connect: source.as_deref().map(|source| Connect {
            source,
            most,
            window,
        }),
        claims,
    });
    let asks: Vec<Ask<'_>> = asks.collect();
    hub.broker().enter(&asks).await
}

/// Those who go in the next call; `None`, and there is no task any more, where nobody waits.
fn next(line: &Mutex<Line>) -> Option<Vec<Question>> {
    let mut line = lock(line);
    if line.waiting.is_empty() {
        // What a crowd has made it grow to isn't kept.
        *line = Line::default();
        return None;
    }
    let many = line.waiting.len().min(A_CALL);
    Some(line.waiting.drain(..many).collect())
}
