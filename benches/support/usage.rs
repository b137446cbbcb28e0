//! What the server, Redis, the load and everybody else took of the machine between two moments.

use std::time::{Duration, Instant};

use super::Result;
use super::process::{cpu_time, machine_time};
use super::stack::Stack;

/// CPU time so far.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    at: Instant,
    server: Duration,
    redis: Duration,
    load: Duration,
    machine: Duration,
}

/// CPU time in seconds, between two moments.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) seconds: f64,
    /// Of all servers together.
    pub(crate) server: f64,
    pub(crate) redis: f64,
    pub(crate) load: f64,
    pub(crate) others: f64,
}

impl Usage {
    pub(crate) fn now(stack: &Stack) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            server: stack.server_cpu()?,
            redis: stack.redis_cpu()?,
            load: cpu_time(std::process::id())?,
            machine: machine_time()?,
        })
    }

    pub(crate) fn since(&self, before: &Self) -> Spent {
        let between = |of: fn(&Self) -> Duration| of(self).saturating_sub(of(before)).as_secs_f64();
        let (server, redis, load) = (
            between(|u| u.server),
            between(|u| u.redis),
            between(|u| u.load),
        );
        Spent {
            seconds: (self.at - before.at).as_secs_f64(),
            server,
            redis,
            load,
            others: (between(|u| u.machine) - server - redis - load).max(0.0),
        }
    }
}

impl Spent {
    /// What several times took together.
    pub(crate) fn sum<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        parts.fold(Self::default(), |all, part| Self {
            seconds: all.seconds + part.seconds,
            server: all.server + part.server,
            redis: all.redis + part.redis,
            load: all.load + part.load,
            others: all.others + part.others,
        })
    }

    /// How busy server, Redis, load and everybody else were, in percent of a core. A server below 100
    /// waited for somebody; others above 0 disturbed it.
    pub(crate) fn busy(&self) -> String {
        let [server, redis, load, others] = [self.server, self.redis, self.load, self.others]
            .map(|cpu| (cpu / self.seconds * 100.0).round());
        format!("{server} / {redis} / {load} / {others} %")
    }
}
