//! Connects and connections in Redis: `enter.lua` lets in who enters, `places.lua` sets what a node has.
//!
//! Each name stands for itself: in a cluster the window and the places of one who enters lie in several
//! slots, and are asked one after another with the same script, what was taken being given back where a later one
//! refuses.

use std::time::Duration;

use redis::{Cmd, Value};

use super::Redis;
use super::answer::text;
use super::link::answered;
use super::script::Script;
use crate::broker::Unavailable;
use crate::broker::places::{Ask, Entry, Number, Verdict};
use crate::id::Incarnation;

/// Milliseconds that a place lives untouched. Nodes restate theirs every ten minutes, so it is what dead nodes leave
/// behind of one who never comes again.
const UNTOUCHED_MS: u64 = 30 * 60 * 1_000;
/// Seconds that one number holds without being told again. One that is older came back with data that Redis had lost
/// what followed of: its node has long left the place, and so has nothing to tell of it.
const HOLDS_SECS: u64 = 25 * 60;

impl Redis {
    /// See [`crate::broker::Broker::enter`].
    pub async fn enter(
        &self,
        asks: &[Ask<'_>],
    ) -> Result<Vec<Result<Entry, Unavailable>>, Unavailable> {
        let fill = |call: &mut Cmd| self.fill_enter(call, asks);
        let answer = self.call(Script::Enter, fill).await;
        let answer = answer.map_err(|error| {
            // There may be thousands a second; of what ails Redis, calls that are fewer tell.
            tracing::debug!(%error, "can't ask whether one may enter");
            Unavailable
        })?;
        match answer {
            Value::Array(entries) if entries.len() == asks.len() => {
                let entries = entries.iter();
                Ok(entries.map(|one| entry(one).ok_or(Unavailable)).collect())
            }
            _ => Err(Unavailable),
        }
    }

    fn fill_enter(&self, call: &mut Cmd, asks: &[Ask<'_>]) {
        let keys = &self.shared.keys;
        let counted = |ask: &Ask<'_>| usize::from(ask.connect.is_some()) + ask.claims.len();
        call.arg(asks.iter().map(counted).sum::<usize>());
        for ask in asks {
            if let Some(connect) = &ask.connect {
                call.arg(keys.connects(connect.source));
            }
            for claim in ask.claims {
                call.arg(keys.connections(claim.place));
            }
        }
        call.arg(UNTOUCHED_MS).arg(HOLDS_SECS);
        for ask in asks {
            let (most, window) = ask.connect.map_or((0, Duration::ZERO), |connect| {
                (connect.most, connect.window)
            });
            call.arg(most)
                .arg(window.as_millis() as u64)
                .arg(ask.claims.first().map_or("", |claim| claim.own.as_str()))
                .arg(ask.claims.len());
            for claim in ask.claims {
                call.arg(claim.version)
                    .arg(claim.held)
                    .arg(claim.most)
                    .arg(claim.strike.len());
                for dead in claim.strike {
                    call.arg(dead.as_str());
                }
            }
        }
    }

    /// See [`crate::broker::Broker::set_numbers`].
    pub async fn set_numbers(
        &self,
        numbers: &[Number<'_>],
    ) -> Result<Vec<(usize, Incarnation)>, Unavailable> {
        let keys = &self.shared.keys;
        let fill = |call: &mut Cmd| {
            call.arg(numbers.len());
            for number in numbers {
                call.arg(keys.connections(number.place));
            }
            call.arg(UNTOUCHED_MS);
            for number in numbers {
                call.arg(number.of.as_str())
                    .arg(number.version)
                    .arg(number.held);
            }
        };
        let answer = self.call(Script::Places, fill).await;
        let answer = answer.map_err(|error| {
            // That the connection broke is said once, by whoever keeps it.
            if answered(&error) {
                tracing::warn!(%error, "can't say who is connected");
            }
            Unavailable
        })?;
        let Value::Array(answer) = answer else {
            return Err(Unavailable);
        };
        let other = |pair: &[Value]| {
            let place = text(pair.first()?)?.parse().ok()?;
            Some((place, incarnation(pair.get(1)?)?))
        };
        Ok(answer.chunks(2).filter_map(other).collect())
    }
}

/// What isn't ours in a place counts for nobody.
fn incarnation(field: &Value) -> Option<Incarnation> {
    Incarnation::parse(text(field)?.as_bytes())
}

/// What `enter.lua` says of one; `None` where it couldn't judge.
fn entry(answer: &Value) -> Option<Entry> {
    let Value::Array(answer) = answer else {
        return None;
    };
    let (left, verdict) = (text(answer.first()?)?, text(answer.get(1)?)?);
    let left = left.parse().ok().map(Duration::from_millis);
    let verdict = match verdict {
        "in" => Verdict::In,
        "fast" => Verdict::TooFast,
        "full" => {
            let holders = answer.get(3..)?.iter().filter_map(incarnation);
            Verdict::Full(text(answer.get(2)?)?.parse().ok()?, holders.collect())
        }
        _ => return None,
    };
    Some(Entry { left, verdict })
}
