//! Rosters in Redis: one hash per room, changed by `roster.lua`.

use std::sync::Arc;

use redis::{Cmd, RedisError, Value};

use super::Redis;
use super::answer::text;
use super::link::answered;
use super::script::Script;
use crate::broker::{Unavailable, payload};
use crate::id::{Incarnation, Mark, RoomId, Seq, ShortId, UserId};
use crate::presence::{Change, Roster};

/// Seconds that a roster lives untouched. Nodes with members in the room touch it once a minute, so it is what
/// a room leaves behind when all its nodes died and nobody came again.
const UNTOUCHED_SECS: u64 = 300;

impl Redis {
    /// See [`crate::broker::Broker::change_roster`].
    pub async fn change_roster(
        &self,
        room: &RoomId,
        changes: &[Change],
    ) -> Result<Option<Mark>, Unavailable> {
        let id = ShortId::random();
        let fill = |call: &mut Cmd| {
            call.arg(1).arg(self.shared.keys.roster(room));
            call.arg(self.shared.keys.channel(room))
                .arg(UNTOUCHED_SECS)
                .arg(id.as_str());
            for change in changes {
                let sign = change
                    .name
                    .as_ref()
                    .map_or("-".to_owned(), |name| format!("+{name}"));
                call.arg(format!("{}{}", change.incarnation, change.user))
                    .arg(sign)
                    .arg(payload::change(change));
            }
        };
        let answer = self.call(Script::Roster, fill).await;
        let answer = answer.map_err(|error| unavailable(room, &error, "change a roster"))?;
        text(&answer).map(version).ok_or(Unavailable)
    }

    /// See [`crate::broker::Broker::roster`].
    pub async fn roster(&self, room: &RoomId) -> Result<Roster, Unavailable> {
        let mut link = self.shared.links.current().ok_or(Unavailable)?;
        let mut call = redis::cmd("HGETALL");
        call.arg(self.shared.keys.roster(room));
        let answer = call.query_async(&mut link.connection).await;
        let entries: Vec<(Vec<u8>, Vec<u8>)> = answer.map_err(|error| {
            self.shared.note(&link, &error);
            unavailable(room, &error, "read a roster")
        })?;
        let mut roster = Roster::default();
        for (field, value) in entries {
            let Ok(value) = std::str::from_utf8(&value) else {
                continue;
            };
            if field.is_empty() {
                roster.version = version(value);
            } else {
                roster.entries.extend(entry(&field, value));
            }
        }
        Ok(roster)
    }
}

fn unavailable(room: &RoomId, error: &RedisError, what: &str) -> Unavailable {
    // That the connection broke is said once, by whoever keeps it.
    if answered(error) {
        tracing::warn!(%room, %error, "can't {what}");
    } else {
        tracing::debug!(%room, %error, "can't {what}");
    }
    Unavailable
}

fn version(value: &str) -> Option<Mark> {
    let (seq, id) = value.split_once(' ')?;
    Some(Mark {
        seq: Seq(seq.parse().ok()?),
        id: ShortId::parse(id.as_bytes())?,
    })
}

/// What isn't ours in a roster counts for nobody.
fn entry(field: &[u8], name: &str) -> Option<Change> {
    let (incarnation, user) = field.split_at_checked(Incarnation::LEN)?;
    Some(Change {
        incarnation: Incarnation::parse(incarnation)?,
        user: UserId::parse(std::str::from_utf8(user).ok()?).ok()?,
        name: Some(Arc::from(name)),
    })
}

/// Milliseconds in an answer; `None` where they are below 0.
pub(super) fn millis(value: &Value) -> Option<std::time::Duration> {
    let millis: i64 = text(value)?.parse().ok()?;
    Some(std::time::Duration::from_millis(
        u64::try_from(millis).ok()?,
    ))
}
