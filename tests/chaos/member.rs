//! A client as protocol.md wants one: it joins its rooms, says things, sends again with the same
//! `clientId` what wasn't acked, and comes back with `since` when its connection is gone. It does what
//! it is ordered to do to itself, and writes down everything.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::desk::Desk;
use super::dice::Dice;
use super::history::{Journal, Mark, What};
use super::link::{Gone, Link};
use super::support::json;
use super::support::nginx::Nginx;
use super::wire::Limbo;

/// A connection on which a send stays unanswered so long, or nothing comes, is given up.
const PATIENCE: Duration = Duration::from_secs(15);
/// After so long without a word the server is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(5);
/// How often a client that is to stay away looks whether it may come back.
const AWAY: Duration = Duration::from_millis(100);
/// One in so many turns it asks who is there.
const CURIOUS: usize = 64;
/// Sends without an answer beyond which nothing new is said.
const MAX_OPEN: usize = 40;

/// What a client is ordered to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Drop the TCP connection.
    Drop,
    /// Leave, and come from another address.
    Move,
    /// Read nothing for so long.
    Stall(Duration),
    /// Read little by little for so long.
    Slow(Duration),
    /// From now on nothing passes in either direction, and neither side is told.
    Vanish,
    /// Say so many things at once in a room.
    Burst(usize),
    /// The same, and as long as they may be.
    Shout(usize),
}

/// What all clients share.
pub(crate) struct World {
    pub(crate) nginx: Nginx,
    pub(crate) journal: Journal,
    /// The connections of vanished clients.
    pub(crate) limbo: Limbo,
    /// Whether clients say things by themselves.
    pub(crate) chatting: watch::Sender<bool>,
    /// The mean time between two things that one client says.
    pub(crate) pause: Duration,
}

/// How a client is, for those who wait for it.
#[derive(Default)]
pub(crate) struct Status {
    /// Sends without an answer.
    pub(crate) open: AtomicUsize,
    /// The last message it was given, by room.
    pub(crate) last: Mutex<Vec<(u8, Option<Mark>)>>,
    /// The rooms it is in.
    joined: Mutex<Vec<u8>>,
    /// Whether it is to stay away once its connection is gone.
    pub(crate) away: AtomicBool,
}

impl Status {
    /// The rooms it is in.
    pub(crate) fn joined(&self) -> Vec<u8> {
        let joined = self.joined.lock();
        joined.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client's end that the run holds.
pub(crate) struct Handle {
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) status: Arc<Status>,
}

/// A client.
pub(crate) struct Member {
    number: u16,
    world: Arc<World>,
    desk: Desk,
    orders: mpsc::UnboundedReceiver<Order>,
    status: Arc<Status>,
    dice: Dice,
    street: u8,
    slow_until: Instant,
    /// When the server was last heard, and when it was last asked to say something.
    heard: Instant,
    asked: Instant,
}

impl Member {
    /// Starts a client that is in these rooms until the run is over.
    pub(crate) fn start(number: u16, rooms: Vec<u8>, world: &Arc<World>, seed: u64) -> Handle {
        let (orders, orders_in) = mpsc::unbounded_channel();
        let status = Arc::<Status>::default();
        let member = Member {
            number,
            world: world.clone(),
            desk: Desk::new(number, rooms),
            orders: orders_in,
            status: status.clone(),
            dice: Dice::new(seed, 1_000 + u64::from(number)),
            street: number as u8 + 1,
            slow_until: Instant::now(),
            heard: Instant::now(),
            asked: Instant::now(),
        };
        tokio::spawn(member.run());
        Handle { orders, status }
    }

    /// Connects again and again; ends when nobody gives orders any more.
    async fn run(mut self) {
        let user = format!("c{}", self.number);
        let mut failures = 0;
        while !self.orders.is_closed() {
            if self.status.away.load(Ordering::Acquire) {
                tokio::time::sleep(AWAY).await;
                continue;
            }
            let (nginx, limbo) = (&self.world.nginx, &self.world.limbo);
            match Link::open(nginx, limbo, self.street, &user).await {
                Ok(link) => {
                    failures = 0;
                    self.stay(link).await;
                    let cut = self.desk.cut();
                    cut.into_iter().for_each(|room| self.write(room, What::Cut));
                    self.report();
                }
                Err(Gone) => {
                    failures += 1;
                    self.move_house();
                }
            }
            let most = 200 << u32::min(failures, 4);
            tokio::time::sleep(self.dice.millis(20, most)).await;
        }
    }

    fn move_house(&mut self) {
        self.street = 1 + self.dice.below(250) as u8;
    }

    fn write(&self, room: u8, what: What) {
        self.world.journal.write(self.number, room, what);
    }

    fn report(&self) {
        self.status.open.store(self.desk.open(), Ordering::Release);
        let mut last = self
            .status
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = self.desk.last();
        let joined = self.status.joined.lock();
        *joined.unwrap_or_else(PoisonError::into_inner) = self.desk.joined();
    }

    /// Lives on one connection until it is gone.
    async fn stay(&mut self, mut link: Link) {
        self.heard = Instant::now();
        for join in self.desk.joins() {
            if link.send(&join).await.is_err() {
                return;
            }
        }
        loop {
            let pause = self.world.pause.as_millis() as u64;
            let wait = self.dice.millis(pause / 4, pause * 7 / 4);
            let next = tokio::time::Instant::now() + wait;
            if self.read_until(&mut link, next).await.is_err()
                || self.try_again(&mut link).await.is_err()
                || self.ask(&mut link).await.is_err()
            {
                return;
            }
            let chats = *self.world.chatting.borrow() && self.desk.open() < MAX_OPEN;
            if chats && self.say(&mut link, 1, false).await.is_err() {
                return;
            }
            let is_deserted =
                self.heard.elapsed() > PATIENCE || self.desk.waits_longer_than(PATIENCE);
            if is_deserted || self.orders.is_closed() {
                return;
            }
        }
    }

    /// Takes events and orders until then.
    async fn read_until(
        &mut self,
        link: &mut Link,
        then: tokio::time::Instant,
    ) -> Result<(), Gone> {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(then) => return Ok(()),
                event = link.next() => self.take(link, &event?).await?,
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(link, order).await?,
                    None => return Err(Gone),
                },
            }
        }
    }

    async fn take(&mut self, link: &mut Link, event: &super::support::Value) -> Result<(), Gone> {
        self.heard = Instant::now();
        let taken = self.desk.take(event);
        if let Some((room, what)) = taken.happened {
            self.write(room, what);
        }
        for number in taken.again {
            self.transmit(link, number).await?;
        }
        self.report();
        if Instant::now() < self.slow_until {
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        Ok(())
    }

    /// Asks now and then who is there; and the server to show itself, where it has been silent for long.
    async fn ask(&mut self, link: &mut Link) -> Result<(), Gone> {
        if let Some(room) = self.desk.joined().first()
            && self.dice.below(CURIOUS) == 0
        {
            let users = json!({"type": "users", "payload": {"roomId": Desk::room_id(*room)}});
            link.send(&users).await?;
        }
        if self.heard.elapsed() < SILENCE || self.asked.elapsed() < SILENCE {
            return Ok(());
        }
        self.asked = Instant::now();
        link.send(&json!({"type": "ping"})).await
    }

    /// What got `error` a moment ago.
    async fn try_again(&mut self, link: &mut Link) -> Result<(), Gone> {
        let later = self.desk.take_later();
        for join in later.joins {
            link.send(&join).await?;
        }
        for number in later.sends {
            self.transmit(link, number).await?;
        }
        Ok(())
    }

    /// Says so many new things in a room that it is in, if any.
    async fn say(&mut self, link: &mut Link, count: usize, loud: bool) -> Result<(), Gone> {
        let joined = self.desk.joined();
        if joined.is_empty() {
            return Ok(());
        }
        let room = joined[self.dice.below(joined.len())];
        for _ in 0..count {
            let number = self.desk.think(room, loud);
            self.transmit(link, number).await?;
        }
        Ok(())
    }

    async fn transmit(&mut self, link: &mut Link, number: u32) -> Result<(), Gone> {
        let Some((room, said, request)) = self.desk.request(number) else {
            return Ok(());
        };
        // Written first: once it is on its way it may appear.
        self.write(room, What::Sent(said));
        self.report();
        link.send(&request).await
    }

    async fn obey(&mut self, link: &mut Link, order: Order) -> Result<(), Gone> {
        match order {
            Order::Drop => Err(Gone),
            Order::Move => {
                self.move_house();
                for room in self.desk.joined() {
                    let leave =
                        json!({"type": "leave", "payload": {"roomId": Desk::room_id(room)}});
                    link.send(&leave).await?;
                }
                Err(Gone)
            }
            Order::Stall(time) => {
                tokio::time::sleep(time).await;
                // The silence was its own.
                self.heard = Instant::now();
                Ok(())
            }
            Order::Slow(time) => {
                self.slow_until = Instant::now() + time;
                Ok(())
            }
            Order::Vanish => {
                // It finds out by its own patience, and comes back from elsewhere.
                link.vanish();
                self.move_house();
                Ok(())
            }
            Order::Burst(count) => self.say(link, count, false).await,
            Order::Shout(count) => self.say(link, count, true).await,
        }
    }
}
