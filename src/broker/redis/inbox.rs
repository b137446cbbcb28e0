//! The connection that deliveries come over: which rooms it listens to, what comes in, and what
//! happens when it breaks.
//!
//! Two tasks, so that nothing slow stands behind the one that reads the socket (Redis ends a subscriber
//! that lets its output pile up): the client library's reader puts what comes into a bounded queue,
//! and [`distribute`] takes it from there to the rooms. What finds the queue full is dropped and its
//! room is marked: it is mended from the list. Commands, which nothing mends, don't wait in it.
//!
//! Orders (listen to a room, stop listening) are carried out in the order given, many in one command
//! while one is on its way. Each open room has at most one of a kind outstanding, which bounds their
//! queue.

use std::collections::{HashSet, VecDeque};
use std::mem::discriminant;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisError, Value};
use tokio::sync::{Notify, mpsc, oneshot};

use super::Shared;
use super::link::{ANSWER_TIMEOUT, Backoff, CONNECT_TIMEOUT};
use crate::broker::{Deliver, Unavailable};
use crate::id::RoomId;

/// Payloads that may wait to be distributed, and their bytes.
const QUEUE: usize = 8_192;
const QUEUE_BYTES: usize = 32 << 20;
/// Commands that may wait, of at most some 64 KiB each: they are what a few operators say.
const COMMANDS: usize = 256;
/// Channels in one SUBSCRIBE or UNSUBSCRIBE.
const CHANNELS_A_COMMAND: usize = 500;
/// How often it is looked whether anything is heard.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the inbox is told to do.
pub(super) enum Order {
    /// Listen, and say when everything published from now on will come, or that it can't be had.
    Open(RoomId, oneshot::Sender<Result<(), Unavailable>>),
    /// Nothing comes of a room: subscribe once more, if it is still to be listened to.
    Again(RoomId, oneshot::Sender<Result<(), Unavailable>>),
    /// Stop listening.
    Close(RoomId),
}

/// The subscription of this node.
pub(super) struct Inbox<D> {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) up: D,
    /// What is listened to, now or as soon as there is a connection.
    pub(super) rooms: HashSet<RoomId>,
}

/// A connection, and how it says that it broke.
struct Listening {
    connection: MultiplexedConnection,
    broken: Arc<Notify>,
}

impl<D: Deliver + Clone> Inbox<D> {
    /// Listens; runs until dropped.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.connect_while_orders_wait().await {
                Ok((listening, waiting)) => {
                    self.shared.silent.store(false, Ordering::Relaxed);
                    // The library replays nothing: whatever was published meanwhile is in the lists.
                    self.up.mend(None);
                    backoff = Backoff::default();
                    self.shared.links.begin();
                    self.shared.listening.store(true, Ordering::Relaxed);
                    let error = self.serve(listening, waiting).await;
                    self.shared.listening.store(false, Ordering::Relaxed);
                    tracing::warn!(error, "lost the subscription to Redis");
                }
                Err(error) => {
                    if backoff.is_fresh() {
                        tracing::warn!(%error, "can't subscribe to Redis; will go on trying");
                    }
                    self.refuse_for(backoff.next()).await;
                }
            }
        }
    }

    /// Orders that come meanwhile wait for the outcome: a broken connection is often back at once.
    async fn connect_while_orders_wait(&mut self) -> Result<(Listening, Vec<Order>), RedisError> {
        let mut waiting = Vec::new();
        let rooms = self.rooms.iter().cloned().collect();
        let attempt = connect(
            self.shared.clone(),
            self.client.clone(),
            self.up.clone(),
            rooms,
        );
        tokio::pin!(attempt);
        let outcome = loop {
            tokio::select! {
                outcome = &mut attempt => break outcome,
                Some(order) = self.orders.recv() => waiting.push(order),
            }
        };
        match outcome {
            Ok(listening) => Ok((listening, waiting)),
            Err(error) => {
                waiting.into_iter().for_each(|order| self.refuse(order));
                Err(error)
            }
        }
    }

    fn refuse(&mut self, order: Order) {
        match order {
            Order::Open(_, done) | Order::Again(_, done) => drop(done.send(Err(Unavailable))),
            Order::Close(room) => drop(self.rooms.remove(&room)),
        }
    }

    async fn refuse_for(&mut self, time: Duration) {
        let end = tokio::time::sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                Some(order) = self.orders.recv() => self.refuse(order),
            }
        }
    }

    /// Carries orders out until the connection is of no use any more; says why. An order whose answer
    /// doesn't come must not put that off.
    async fn serve(&mut self, listening: Listening, waiting: Vec<Order>) -> &'static str {
        let Listening {
            mut connection,
            broken,
        } = listening;
        let shared = self.shared.clone();
        let mut batch = VecDeque::from(waiting);
        let why = tokio::select! {
            why = self.follow_orders(&mut connection, &mut batch) => why,
            why = useless(&shared, &broken) => why,
        };
        batch.into_iter().for_each(|order| self.refuse(order));
        why
    }

    async fn follow_orders(
        &mut self,
        connection: &mut MultiplexedConnection,
        batch: &mut VecDeque<Order>,
    ) -> &'static str {
        while self.carry_out(connection, batch).await.is_ok() {
            match self.orders.recv().await {
                Some(order) => batch.push_back(order),
                None => std::future::pending().await,
            }
            while let Ok(order) = self.orders.try_recv() {
                batch.push_back(order);
            }
        }
        "a command failed"
    }

    /// Runs of like orders go in one command, each run after the one before it. After an error, what
    /// wasn't carried out is still in the batch.
    async fn carry_out(
        &mut self,
        connection: &mut MultiplexedConnection,
        batch: &mut VecDeque<Order>,
    ) -> Result<(), RedisError> {
        while let Some(first) = batch.front() {
            let kind = discriminant(first);
            let run = batch
                .iter()
                .take_while(|order| discriminant(*order) == kind);
            let run = run.take(CHANNELS_A_COMMAND);
            let count = run.clone().count();
            let channels: Vec<String> = run
                .filter(|order| self.is_due(order))
                .map(|order| self.shared.keys.channel(order.room()))
                .collect();
            match first {
                _ if channels.is_empty() => {}
                Order::Open(..) | Order::Again(..) => connection.subscribe(&channels).await?,
                Order::Close(_) => connection.unsubscribe(&channels).await?,
            }
            batch.drain(..count).for_each(|order| self.done(order));
        }
        Ok(())
    }

    /// Whether a room wasn't closed between the order and now.
    fn is_due(&self, order: &Order) -> bool {
        match order {
            Order::Again(room, _) => self.rooms.contains(room),
            Order::Open(..) | Order::Close(_) => true,
        }
    }

    fn done(&mut self, order: Order) {
        match order {
            Order::Open(room, done) => {
                self.rooms.insert(room);
                let _ = done.send(Ok(()));
            }
            Order::Again(_, done) => drop(done.send(Ok(()))),
            Order::Close(room) => {
                self.rooms.remove(&room);
            }
        }
    }
}

impl Order {
    fn room(&self) -> &RoomId {
        match self {
            Order::Open(room, _) | Order::Again(room, _) | Order::Close(room) => room,
        }
    }
}

/// Waits until a connection is of no use any more; says why.
async fn useless(shared: &Shared, broken: &Notify) -> &'static str {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = broken.notified() => return "the connection broke",
            _ = ticks.tick() => {
                if shared.links.deaf() {
                    return "probes no longer come back";
                }
                if shared.silent.load(Ordering::Relaxed) {
                    return "a room's channel stays silent";
                }
            }
        }
    }
}

async fn connect<D: Deliver + Clone>(
    shared: Arc<Shared>,
    client: Client,
    up: D,
    rooms: Vec<RoomId>,
) -> Result<Listening, RedisError> {
    let broken = Arc::new(Notify::new());
    let queue = Queue::default();
    let (ways, arrivals) = ways(&shared.commands);
    let push = {
        let (broken, queue) = (broken.clone(), queue.clone());
        move |info: PushInfo| -> Result<(), std::convert::Infallible> {
            match info.kind {
                PushKind::Disconnection => broken.notify_one(),
                PushKind::Message => queue.put(info, &ways),
                _ => {}
            }
            Ok(())
        }
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT))
        .set_push_sender(push);
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    // Ends by itself when the connection, and with it the sender, is gone.
    tokio::spawn(distribute(shared.clone(), up, arrivals, queue));
    connection
        .subscribe(&[&shared.probe, &shared.commands])
        .await?;
    for run in rooms.chunks(CHANNELS_A_COMMAND) {
        let channels: Vec<String> = run.iter().map(|room| shared.keys.channel(room)).collect();
        connection.subscribe(&channels).await?;
    }
    Ok(Listening { connection, broken })
}

/// From the reader to the distributor: channel and payload, and commands by themselves. One that found the
/// queue full would be lost, though Redis has counted this node among those that heard it.
struct Ways {
    payloads: mpsc::Sender<(Vec<u8>, Vec<u8>)>,
    commands: mpsc::Sender<Vec<u8>>,
    /// The commands' channel.
    commanded: Vec<u8>,
}

/// The other ends of [`Ways`].
struct Arrivals {
    payloads: mpsc::Receiver<(Vec<u8>, Vec<u8>)>,
    commands: mpsc::Receiver<Vec<u8>>,
}

fn ways(commanded: &str) -> (Ways, Arrivals) {
    let (payloads, payloads_in) = mpsc::channel(QUEUE);
    let (commands, commands_in) = mpsc::channel(COMMANDS);
    let ways = Ways {
        payloads,
        commands,
        commanded: commanded.into(),
    };
    let arrivals = Arrivals {
        payloads: payloads_in,
        commands: commands_in,
    };
    (ways, arrivals)
}

/// What stands between the reader and the distributor: bytes under way, channels that lost something.
#[derive(Clone, Default)]
struct Queue {
    bytes: Arc<AtomicUsize>,
    lossy: Arc<Mutex<HashSet<Vec<u8>>>>,
}

impl Queue {
    fn put(&self, info: PushInfo, ways: &Ways) {
        let mut data = info.data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
            (data.next(), data.next())
        else {
            return;
        };
        if channel == ways.commanded {
            if ways.commands.try_send(payload).is_err() {
                tracing::error!("a command to all nodes is lost here: too many wait");
            }
            return;
        }
        let len = payload.len();
        if self.bytes.fetch_add(len, Ordering::Relaxed) > QUEUE_BYTES {
            self.dropped(channel, len);
        } else if let Err(full) = ways.payloads.try_send((channel, payload)) {
            self.dropped(full.into_inner().0, len);
        }
    }

    fn dropped(&self, channel: Vec<u8>, len: usize) {
        self.bytes.fetch_sub(len, Ordering::Relaxed);
        // Bounded by the channels that are listened to.
        self.lossy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(channel);
    }

    fn take_lossy(&self) -> HashSet<Vec<u8>> {
        std::mem::take(&mut *self.lossy.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes payloads to their rooms. A channel is marked lossy only while the queue is full, so there is
/// always a payload behind the mark with which it is noticed.
async fn distribute(shared: Arc<Shared>, up: impl Deliver, mut arrivals: Arrivals, queue: Queue) {
    loop {
        let (channel, payload) = tokio::select! {
            biased;
            Some(command) = arrivals.commands.recv() => {
                up.command(&command);
                continue;
            }
            Some(arrived) = arrivals.payloads.recv() => arrived,
            // The reader is gone, and all that it left has been taken.
            else => return,
        };
        queue.bytes.fetch_sub(payload.len(), Ordering::Relaxed);
        let channel = String::from_utf8_lossy(&channel);
        match shared.keys.room_of(&channel) {
            Some(room) => {
                shared.links.not_deaf();
                up.deliver(room, &payload);
            }
            None if channel == shared.probe => shared.links.heard(),
            None => {}
        }
        for channel in queue.take_lossy() {
            if let Some(room) = shared.keys.room_of(&String::from_utf8_lossy(&channel)) {
                up.mend(Some(room));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(channel: &str, payload: &str) -> PushInfo {
        let text = |text: &str| Value::BulkString(text.into());
        PushInfo {
            kind: PushKind::Message,
            data: vec![text(channel), text(payload)],
        }
    }

    #[test]
    fn a_command_gets_through_where_the_queue_is_full() {
        let (queue, (ways, mut arrivals)) = (Queue::default(), ways("commands"));
        for _ in 0..=QUEUE {
            queue.put(message("room", "m"), &ways);
        }
        assert_eq!(queue.take_lossy().len(), 1, "it is full");
        queue.put(message("commands", "c"), &ways);
        assert_eq!(arrivals.commands.try_recv().unwrap(), b"c");
        assert!(queue.take_lossy().is_empty());
    }
}
