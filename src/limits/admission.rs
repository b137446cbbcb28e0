//! Who gets a connection. One who comes **knocks**: that counts a connect from its source at this node, and costs no
//! more than that. If its token is good it **enters**: a call to the broker, which it shares with those who come at
//! the same time, counts the connect over all nodes and takes a place at its user and its source; the [`Slot`] is the connection's right to be there, and gives the
//! places back when it is dropped. If the token is bad it is **turned away**, which counts the connect over all
//! nodes before it is answered: so who guesses tokens meets the limit on every node.
//!
//! Only those who ask for a connection count as connects. What `/api` refuses for its token or key doesn't: nobody
//! guesses 16 bytes and more in any number of tries, and whoever shares an address could else lock its chat out.
//!
//! **Never more than allowed**: the broker lets one in only where the sum, looked at in the same step, stays within
//! the cap, and a node's number there is never below those that it let in (`held`). Two who race for
//! the last place: one gets it. A node that died holds its places until the others give it up.
//!
//! **Never less for long**: an end is told at once, many in one call, while the last call is on its way; a
//! refusal is looked at again after `A_MOMENT`, so a client that closed one connection and is quicker at
//! another node, or at this one, than the news of it isn't refused. One whom other connections keep
//! out is told to come again after `CROWDED`.
//!
//! **Without the broker**, or where it doesn't answer in `DEADLINE`, this node's own numbers decide. It tells them
//! as soon as it can; what it told is told again whenever the broker may have lost it ([`Hub::anew`]: the same
//! moments at which rosters are), and every `RESTATE` in any case.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use smallvec::SmallVec;
use tokio::time::{sleep, timeout};

use super::address::{self, Claims, Source};
use super::calls::Calls;
use super::connects::Connects;
use super::entering::{Attempt, Entering, OnTheWay};
use super::held::{Fate, Held, PARTS, Place};
use crate::broker::Unavailable;
use crate::broker::places::Number;
use crate::config::AdmissionConfig;
use crate::hub::Hub;
use crate::id::{Incarnation, UserId};
use crate::metrics::Refusal;

/// How long one who comes waits for the broker at most.
pub(super) const DEADLINE: Duration = Duration::from_secs(1);
/// After so long a place that was full is looked at once more.
const A_MOMENT: Duration = Duration::from_millis(100);
/// After so long one should try again where it has too many connections.
const CROWDED: Duration = Duration::from_secs(5);
/// All numbers are told again over that time, evenly; well within what they live untouched in the broker.
const RESTATE: Duration = Duration::from_secs(600);
/// How often windows that have ended are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Numbers in one call.
const A_CALL: usize = 128;
/// Between tries to tell; doubling, up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often one who enters tries again without the dead who held its place.
const STRIKES: u32 = 3;
/// How long the last news may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A handle to the door of this node.
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) limits: AdmissionConfig,
    pub(super) hub: Hub,
    pub(super) connects: Connects,
    pub(super) held: Arc<Held>,
    pub(super) calls: Calls,
    /// A stranger's claim about its address was warned of.
    warned: AtomicBool,
}

/// Too many, by some limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Which limit.
    pub why: Refusal,
    /// When to come again.
    pub retry_after: Duration,
}

/// The right to one connection, of a user at an address; given back when it is dropped.
#[must_use = "the places are given back as soon as this is dropped"]
pub struct Slot {
    pub(super) held: Arc<Held>,
    pub(super) places: SmallVec<[Place; 2]>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.places
            .iter()
            .for_each(|place| self.held.release(place));
    }
}

/// One who has come, and of whom it isn't known yet whether it may enter.
#[must_use = "who came either enters or is turned away"]
pub struct Knock {
    admission: Admission,
    source: Source,
}

/// A place, which limit it is about, and how many it takes.
pub(super) type Wanted = SmallVec<[(Place, Refusal, u32); 2]>;

impl Admission {
    /// A door with these limits; they hold over all nodes that meet in the hub's broker.
    pub fn new(limits: AdmissionConfig, hub: Hub) -> Admission {
        let inner = Inner {
            calls: Calls::new(&limits, hub.clone()),
            connects: Connects::new(limits.connects, limits.window),
            held: Arc::new(Held::new(hub.broker().is_shared())),
            limits,
            hub,
            warned: AtomicBool::new(false),
        };
        Admission {
            inner: Arc::new(inner),
        }
    }

    /// As whom one counts that came from `peer` and claims that. The first stranger who claims something is
    /// warned of.
    pub fn source(&self, peer: IpAddr, claims: Claims<'_>) -> Source {
        let trusted: &[IpNet] = &self.inner.limits.trusted_proxies;
        if !claims.is_empty()
            && !address::is_trusted(peer, trusted)
            && !self.inner.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %peer,
                "X-Forwarded-For or X-Real-IP came from a peer that TRUSTED_PROXIES doesn't name, and counts for \
                 nothing; if that is your proxy, all of its clients share the limits of one address"
            );
        }
        Source::of(address::client(peer, claims, trusted))
    }

    /// Counts a connect at this node.
    ///
    /// # Errors
    /// There were too many from that source.
    pub fn knock(&self, source: Source) -> Result<Knock, Refused> {
        if self.inner.limits.connects > 0 {
            let now = std::time::Instant::now();
            let counted = self.inner.connects.knock(source, now);
            counted.map_err(|left| self.refuse(Refusal::ConnectRate, left))?;
        }
        Ok(Knock {
            admission: self.clone(),
            source,
        })
    }

    fn refuse(&self, why: Refusal, retry_after: Duration) -> Refused {
        self.inner.hub.metrics().refusals.inc(why);
        Refused { why, retry_after }
    }

    /// Tells the broker what it has yet to know, and forgets what has ended; without end.
    pub async fn run(&self) {
        tokio::join!(self.tell(), self.tell_anew(), self.restate(), self.sweep());
    }

    async fn tell(&self) {
        let (inner, mut pause) = (&self.inner, PAUSE);
        loop {
            if inner.held.is_quiet() {
                // One that comes just now has left its note.
                inner.held.news.notified().await;
            }
            inner.hub.broker().up().await;
            inner.hub.nodes().has_lease().await;
            if inner.tell_some().await.is_ok() {
                pause = PAUSE;
            } else {
                sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }

    async fn tell_anew(&self) {
        let mut anew = self.inner.hub.anew();
        // The hub holds the sender.
        while anew.changed().await.is_ok() {
            self.inner.held.all_anew();
        }
    }

    async fn restate(&self) {
        let mut ticks = tokio::time::interval(RESTATE / PARTS as u32);
        for nth in (0..PARTS).cycle() {
            ticks.tick().await;
            self.inner.held.part_anew(nth);
        }
    }

    async fn sweep(&self) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            let now = ticks.tick().await;
            self.inner.connects.sweep(now.into_std());
        }
    }

    /// Waits until the broker knows who has left, so that they may enter elsewhere.
    pub async fn farewell(&self) {
        let all_told = async {
            while !self.inner.held.is_settled() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if self.inner.hub.broker().health().up && timeout(FAREWELL, all_told).await.is_err() {
            tracing::warn!(
                "couldn't tell who has left; their places are free when this node's lease is over"
            );
        }
    }
}

impl Knock {
    /// Lets it in: counts the connect over all nodes, and takes its places. Takes `DEADLINE` and
    /// `A_MOMENT` at most. Whoever drops this before it is done gives everything back.
    ///
    /// # Errors
    /// The limit that it met.
    pub async fn enter(self, user: &UserId) -> Result<Slot, Refused> {
        let inner = &*self.admission.inner;
        let wanted = inner.wanted(user, self.source);
        let mut entering = Entering::new(inner, self.source);
        let (mut strikes, mut waited) = (0, false);
        loop {
            let full = match entering.attempt(&wanted).await {
                Attempt::In(slot) => return Ok(slot),
                Attempt::TooFast(left) => {
                    return Err(self.admission.refuse(Refusal::ConnectRate, left));
                }
                Attempt::Full(full) => full,
            };
            if entering.has_dead(full) && strikes < STRIKES {
                strikes += 1;
            } else if !waited {
                waited = true;
                sleep(A_MOMENT).await;
            } else {
                let why = wanted.get(full).map_or(Refusal::User, |(_, why, _)| *why);
                return Err(self.admission.refuse(why, CROWDED));
            }
        }
    }

    /// It isn't let in for another reason; the connect counts over all nodes.
    ///
    /// # Errors
    /// There were too many.
    pub async fn turned_away(self) -> Result<(), Refused> {
        let inner = &*self.admission.inner;
        match Entering::new(inner, self.source)
            .attempt(&Wanted::new())
            .await
        {
            Attempt::TooFast(left) => Err(self.admission.refuse(Refusal::ConnectRate, left)),
            Attempt::In(_) | Attempt::Full(_) => Ok(()),
        }
    }
}

impl Inner {
    /// Tells the broker some of what it has yet to know, and removes what the dead left there.
    async fn tell_some(&self) -> Result<(), Unavailable> {
        let mut sent = OnTheWay {
            held: self.held.clone(),
            sent: self.held.next(A_CALL).into(),
            fate: Fate::Refused,
        };
        if sent.sent.is_empty() {
            return Ok(());
        }
        // Read after the numbers were drawn, as above.
        let own = self.hub.nodes().own().ok_or(Unavailable)?;
        let drawn = sent.sent.clone();
        let numbers: Vec<Number<'_>> = drawn
            .iter()
            .map(|(place, count)| Number {
                place,
                of: own,
                version: count.version,
                held: count.held,
            })
            .collect();
        sent.fate = Fate::Unknown;
        let others = self.hub.broker().set_numbers(&numbers).await?;
        sent.fate = Fate::Written;
        drop(sent);
        self.strike(&numbers, others).await
    }

    async fn strike(
        &self,
        numbers: &[Number<'_>],
        others: Vec<(usize, Incarnation)>,
    ) -> Result<(), Unavailable> {
        let strikes = others.into_iter().filter_map(|(nth, other)| {
            let place = numbers.get(nth)?.place;
            let dead = self.dead_of(vec![other]).pop()?;
            Some(Number::strike(place, dead))
        });
        let strikes: Vec<Number<'_>> = strikes.collect();
        for some in strikes.chunks(A_CALL) {
            self.hub.broker().set_numbers(some).await?;
        }
        Ok(())
    }
}
