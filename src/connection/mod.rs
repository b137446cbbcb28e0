//! One task per connection: it waits for anything to do, does all of it, and writes once. What a request
//! means is the [`session`]'s; frames are the [`wire`]'s, bytes the [`stream`]'s; clocks are the
//! [`heartbeat`]'s.
//!
//! ```text
//!          woken (a room, a note) · readable · writable · due
//!                               │
//!                 look at notes ▼ read requests
//!                        replies, cursors ──► one write
//! ```
//!
//! How often a client may ask is `rates`' to say, how often the others hear that it is typing, `typing`'s.

mod answers;
mod codec;
mod farewell;
pub mod heartbeat;
mod lane;
#[cfg(test)]
mod model_tests;
mod outflow;
mod pipe;
mod rates;
pub mod refresh;
mod requests;
pub mod session;
mod slots;
pub mod stream;
mod typing;
pub mod wire;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use self::heartbeat::{CLOSE_TIMEOUT, Due, Heartbeat};
use self::wire::{Incoming, Outflow, Sent, Wire};
use crate::protocol::close::Close;
use crate::protocol::frame;

/// With more replies than that unwritten, in bytes, a connection isn't read from.
const MAX_UNWRITTEN: usize = 64 * 1024;
/// Turns without a wait; then others have theirs.
const TURNS: u8 = 16;

/// What a connection is for: a [`session::Session`], or an echo to judge the wire by.
pub trait Handler: Outflow {
    /// A message came, or a frame that carries none. Replies go into `out`.
    fn message(&mut self, message: Incoming<'_>, out: &mut Vec<u8>);
    /// Whether it takes messages now.
    fn takes_messages(&self) -> bool;
    /// It was woken for these bits. A reason: the connection shall end.
    fn woken(&mut self, bits: u64) -> Option<Close>;
    /// Whether there is work to do that puts replies.
    fn has_work(&self) -> bool;
    /// Does a piece of it. A reason: the connection shall end.
    fn work(&mut self, out: &mut Vec<u8>) -> Option<Close>;
    /// Gives and clears the bits; where there are none, who is woken for the next ones is registered.
    fn dirty(&self, waker: &Waker) -> u64;
    /// Whether something that was asked for is still on its way.
    fn is_owed(&self) -> bool;
    /// How long its token is good from now on, where that changed since it was asked last.
    fn new_life(&mut self) -> Option<Duration> {
        None
    }
    /// When it wants [`Handler::tick`]; by itself, never.
    fn due(&self) -> Option<Instant> {
        None
    }
    /// That time has come, or the connection's clocks are looked at anyway.
    fn tick(&mut self, _now: Instant) {}
}

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between pings.
    pub heartbeat: Duration,
    /// Without a byte taken, though there is something to send.
    pub slow: Duration,
    /// Until the token ends.
    pub life: Duration,
}

struct Connection<H> {
    wire: Wire,
    handler: H,
    clocks: Heartbeat,
    timer: Pin<Box<Sleep>>,
    full: bool,
    /// Turns so far; it may begin anew.
    turns: u8,
    /// Whether it wasn't reading, by its own choice, at some time since the clocks were looked at.
    deaf: bool,
    /// An end that waits for what is owed, until then.
    ending: Option<(Close, Instant)>,
}

/// What there is to do.
#[derive(Default)]
struct Ready {
    bits: u64,
    readable: bool,
    writable: bool,
    due: bool,
}

/// Serves a connection until it ends, and says why it did. No `async fn`: its future would hold the arguments
/// beside the connection that they are moved into.
pub fn serve<H: Handler>(wire: Wire, handler: H, times: Times) -> impl Future<Output = (H, Close)> {
    let now = Instant::now();
    let clocks = Heartbeat::new(now, times.heartbeat, times.slow, times.life);
    let timer = Box::pin(tokio::time::sleep_until(clocks.next(now).into()));
    let mut connection = Connection {
        wire,
        handler,
        clocks,
        timer,
        full: false,
        turns: 0,
        deaf: false,
        ending: None,
    };
    async move {
        let why = connection.run().await;
        Box::pin(connection.close(why)).await;
        (connection.handler, why)
    }
}

impl<H: Handler> Connection<H> {
    async fn run(&mut self) -> Close {
        let mut more = match self.send() {
            Ok(more) => more,
            Err(close) => return close,
        };
        loop {
            self.turns = self.turns.wrapping_add(1);
            if self.is_long() {
                tokio::task::yield_now().await;
            }
            let ready = self.next(more).await;
            match self.turn(&ready) {
                Ok(left) => more = left,
                Err(close) => return close,
            }
        }
    }

    /// Waits until there is something to do; with `more`, there is.
    fn next(&mut self, more: bool) -> impl Future<Output = Ready> + '_ {
        poll_fn(move |cx| {
            let ready = self.poll(cx);
            let any = more || ready.bits != 0 || ready.readable || ready.writable || ready.due;
            if any {
                Poll::Ready(ready)
            } else {
                Poll::Pending
            }
        })
    }

    /// Whether it is time for the others.
    fn is_long(&self) -> bool {
        self.turns.is_multiple_of(TURNS)
    }

    /// Rooms and the socket are asked each time, so one that always has something can't keep the other waiting.
    /// The timer is asked where they have nothing, as there will be no next time, and at times in any case.
    fn poll(&mut self, cx: &mut Context<'_>) -> Ready {
        let reads = self.reads();
        self.deaf |= !reads;
        let bits = self.handler.dirty(cx.waker());
        let readable = reads && (self.wire.has_input() || self.wire.poll_readable(cx).is_ready());
        let writable = self.full && self.wire.poll_writable(cx).is_ready();
        let busy = bits != 0 || readable || writable;
        Ready {
            bits,
            readable,
            writable,
            due: (!busy || self.is_long()) && self.timer.as_mut().poll(cx).is_ready(),
        }
    }

    fn reads(&self) -> bool {
        self.ending.is_none()
            && self.wire.unwritten() <= MAX_UNWRITTEN
            && self.handler.takes_messages()
    }

    fn turn(&mut self, ready: &Ready) -> Result<bool, Close> {
        if ready.bits != 0
            && let Some(close) = self.handler.woken(ready.bits)
        {
            self.end_soon(close);
        }
        if ready.readable {
            self.receive()?;
        }
        self.work();
        // Before the clocks are looked at: a token that was replaced in this turn ends nothing any more.
        if let Some(life) = self.handler.new_life() {
            let now = Instant::now();
            self.clocks.renew(now, life);
            self.set_timer(now);
        }
        if ready.due {
            self.tick()?;
        } else if let Some(due) = self.handler.due() {
            self.hasten(due);
        }
        if let Some((close, _)) = self.ending
            && !self.handler.is_owed()
        {
            return Err(close);
        }
        if self.full && !ready.writable {
            return Ok(false);
        }
        let more = self.send()?;
        // Work waits for the replies before it to leave.
        Ok(more || (self.may_work() && !self.full))
    }

    fn may_work(&self) -> bool {
        self.handler.has_work() && self.wire.unwritten() <= MAX_UNWRITTEN
    }

    fn work(&mut self) {
        while self.may_work() {
            if let Some(close) = self.handler.work(self.wire.replies()) {
                self.end_soon(close);
            }
        }
    }

    /// The connection shall end as soon as nothing is owed to it.
    fn end_soon(&mut self, close: Close) {
        let until = Instant::now() + CLOSE_TIMEOUT;
        if self.ending.is_none() {
            self.ending = Some((close, until));
            self.timer.as_mut().reset(until.into());
        }
    }

    fn receive(&mut self) -> Result<(), Close> {
        let handler = &mut self.handler;
        let alive = self.wire.receive(|message, replies| {
            handler.message(message, replies);
            handler.takes_messages() && replies.len() <= MAX_UNWRITTEN
        })?;
        if alive {
            self.clocks.alive();
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Close> {
        let now = Instant::now();
        if let Some((close, until)) = self.ending
            && now >= until
        {
            return Err(close);
        }
        self.handler.tick(now);
        // Before that, what is noted for the clocks stays noted.
        if self.clocks.next(now) <= now {
            let reads = self.reads();
            let deaf = std::mem::replace(&mut self.deaf, !reads);
            match self.clocks.due(now, deaf) {
                Due::Nothing => {}
                Due::Ping => frame::put_ping(self.wire.replies()),
                Due::End(close) => return Err(close),
            }
        }
        self.set_timer(now);
        Ok(())
    }

    fn set_timer(&mut self, now: Instant) {
        let ending = self.ending.map(|(_, until)| until);
        let others = [ending, self.handler.due()].into_iter().flatten();
        let next = others.fold(self.clocks.next(now), Instant::min);
        self.timer.as_mut().reset(next.into());
    }

    /// Looks at the clocks then at the latest.
    fn hasten(&mut self, due: Instant) {
        if due < self.timer.deadline().into_std() {
            self.timer.as_mut().reset(due.into());
        }
    }

    fn send(&mut self) -> Result<bool, Close> {
        let sent = self.wire.send(&mut self.handler)?;
        let full = matches!(sent, Sent::Blocked(_));
        if let Sent::Blocked(took) = sent {
            let now = Instant::now();
            self.clocks.blocked(now, took);
            if !self.full {
                self.set_timer(now);
            }
        } else if self.full {
            self.clocks.unblocked();
        }
        self.full = full;
        Ok(sent == Sent::More)
    }

    /// Says goodbye where somebody may hear it, and waits for the peer's answer: who closes a socket
    /// with unread input resets it, and takes the close frame away from the peer.
    async fn close(&mut self, why: Close) {
        if matches!(why, Close::Broken | Close::Silent) {
            return;
        }
        farewell::put(why, self.wire.replies());
        self.wire.say_close(why);
        let garbled = matches!(why, Close::Protocol | Close::NotUtf8 | Close::TooBig);
        let goodbye = poll_fn(|cx| {
            loop {
                match self.wire.send(&mut NoOutflow) {
                    Ok(Sent::All) => break,
                    Ok(Sent::Blocked(_)) if self.wire.poll_writable(cx).is_pending() => {
                        return Poll::Pending;
                    }
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(()),
                }
            }
            if why == Close::ByPeer {
                return Poll::Ready(());
            }
            // The codec can't tell the peer's close any more: the end of the stream asks for it.
            if garbled && self.wire.poll_finish(cx).is_pending() {
                return Poll::Pending;
            }
            while self.wire.has_input() || self.wire.poll_readable(cx).is_ready() {
                let open = if garbled {
                    self.wire.discard()
                } else {
                    self.wire.receive(|_, _| true).is_ok()
                };
                if !open {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        });
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
        self.wire.say_end();
    }
}

/// A closing connection gives nothing from its rooms.
struct NoOutflow;

impl Outflow for NoOutflow {
    fn fill(&mut self, _: &mut Vec<u8>, _: usize) -> bool {
        false
    }

    fn settle(&mut self, filled: &[u8], _: usize, _: bool) -> usize {
        filled.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::{TcpListener, TcpStream};

    use super::refresh::Pass;
    use super::session::{Bounds, Session};
    use super::*;
    use crate::auth::{Identity, Verifier};
    use crate::broker::Broker;
    use crate::broker::local::{Keep, Local};
    use crate::config::Config;
    use crate::hub::Hub;
    use crate::hub::peer::Peer;
    use crate::id::UserId;
    use crate::protocol::Metrics;

    /// Every idle connection pays for the future of its task: what is large and seldom needed is boxed.
    #[tokio::test]
    async fn a_connections_future_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let keep = Keep {
            messages: 100,
            idle: Duration::from_secs(60),
        };
        let metrics = Arc::new(Metrics::new().unwrap());
        let hub = Hub::new(Broker::Local(Local::new(keep)), metrics.clone(), 100, 500);
        let identity = Identity {
            user: UserId::parse("u").unwrap(),
            username: "U".into(),
            expires_at: 0,
            grants: Default::default(),
            role: Default::default(),
        };
        let config = Config::dev(&|_| None).unwrap();
        let bounds = Bounds::new(&config);
        let peer = Arc::new(Peer::new(&identity));
        let pass = Pass::new(identity, Verifier::new(&config.jwt));
        let session = Session::new(hub, peer, pass, Arc::new(bounds));
        let second = Duration::from_secs(1);
        let times = Times {
            heartbeat: second,
            slow: second,
            life: second,
        };
        let future = serve(Wire::new(stream, b"", 16_384, metrics), session, times);
        let size = std::mem::size_of_val(&future);
        assert!(size <= 656, "{size} bytes");
    }
}
