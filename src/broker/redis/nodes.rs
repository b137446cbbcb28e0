//! The list of nodes in Redis (`beat.lua`), who is connected to them, and what is said to all of them.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, Value};

use super::Redis;
use super::answer::text;
use super::link::answered;
use super::roster::millis;
use super::script::Script;
use crate::broker::online::{self, member};
use crate::broker::{Renewal, Unavailable};
use crate::id::{Incarnation, UserId};
use crate::presence::nodes::Beat;

/// How long a node's users last without a beat; who reads them looks at living nodes alone.
const USERS_LAST: Duration = Duration::from_secs(60);

impl Redis {
    /// See [`crate::broker::Broker::beat`].
    pub async fn beat(&self, renewal: &Renewal<'_>) -> Result<Beat, Unavailable> {
        let keys = &self.shared.keys;
        let fill = |call: &mut Cmd| {
            call.arg(3)
                .arg(keys.nodes())
                .arg(keys.lease(renewal.own))
                .arg(keys.users_of(renewal.own));
            call.arg(renewal.own.as_str())
                .arg(if renewal.first { "first" } else { "" })
                .arg(renewal.about)
                .arg(renewal.lease.as_millis() as u64)
                .arg(USERS_LAST.as_millis() as u64)
                .arg(if renewal.anew { "anew" } else { "" });
            call.arg(renewal.strike.len());
            for dead in renewal.strike {
                call.arg(dead.as_str());
            }
            for (user, name, came) in renewal.users {
                let mut change = vec![if *came { b'+' } else { b'-' }];
                change.extend_from_slice(&member(user, name));
                call.arg(change);
            }
        };
        let answer = self.call(Script::Beat, fill).await.map_err(|error| {
            if answered(&error) {
                tracing::warn!(%error, "can't renew this node's lease");
            }
            Unavailable
        })?;
        beat(&answer, renewal.first).ok_or(Unavailable)
    }

    /// See [`crate::broker::Broker::command`].
    pub async fn command(&self, command: &[u8]) -> Result<usize, Unavailable> {
        let mut link = self.shared.links.current().ok_or(Unavailable)?;
        let mut call = redis::cmd("PUBLISH");
        call.arg(&self.shared.commands).arg(command);
        let heard: Result<usize, RedisError> = call.query_async(&mut link.connection).await;
        heard.map_err(|error| {
            self.shared.note(&link, &error);
            Unavailable
        })
    }

    /// See [`crate::broker::Broker::online`].
    pub async fn online(
        &self,
        nodes: &[Incarnation],
        after: Option<&UserId>,
        max: usize,
    ) -> Result<Vec<(UserId, Arc<str>)>, Unavailable> {
        if nodes.is_empty() {
            // The library takes an empty pipeline for a broken connection.
            return Ok(Vec::new());
        }
        let mut link = self.shared.links.current().ok_or(Unavailable)?;
        let mut call = redis::pipe();
        let from = after.map_or(b"-".to_vec(), |user| [b"(", &*online::after(user)].concat());
        for node in nodes {
            call.cmd("ZRANGEBYLEX")
                .arg(self.shared.keys.users_of(*node))
                .arg(&from)
                .arg("+")
                .arg("LIMIT")
                .arg(0)
                .arg(max);
        }
        let pages: Result<Vec<Vec<Vec<u8>>>, RedisError> =
            call.query_async(&mut link.connection).await;
        let pages = pages.map_err(|error| {
            self.shared.note(&link, &error);
            Unavailable
        })?;
        Ok(online::page(pages.into_iter().flatten().collect(), max))
    }
}

/// What `beat.lua` found.
fn beat(answer: &Value, first: bool) -> Option<Beat> {
    let Value::Array(answer) = answer else {
        return None;
    };
    let Some((held, nodes)) = answer.split_first() else {
        return Some(Beat::default());
    };
    let node = |node: &[Value]| {
        let incarnation = Incarnation::parse(text(node.first()?)?.as_bytes())?;
        let Value::BulkString(about) = node.get(2)? else {
            return None;
        };
        Some((incarnation, millis(node.get(1)?), about.clone()))
    };
    Some(Beat {
        listed: true,
        held: first || text(held)? == "1",
        nodes: nodes.chunks(3).filter_map(node).collect(),
    })
}
