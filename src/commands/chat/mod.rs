//! `piazza chat`: a client for the terminal, line by line. What is typed is sent; what others say is
//! printed. A lost connection comes back by itself and goes on where it ended.
//!
//! `session` decides what frames mean and what to send, `link` opens connections, `input` reads the
//! terminal, `screen` makes what is printed harmless; here they are put together.

mod input;
mod link;
mod screen;
mod session;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, Message};

pub use screen::clean;

use super::{Failure, block_on, print};
use crate::id::RoomId;
use link::{Link, Refusal, Socket};
use screen::Clock;
use session::{MAX_WAITING, Session};

/// How long the last lines may wait for their ack once the user is done.
const LAST_ACKS: Duration = Duration::from_secs(5);
/// How long one frame may take to leave.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long the server may take to answer our close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// The longest wait before another try to connect.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// The shortest.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(100);

/// Where to chat, and as whom.
#[derive(clap::Args)]
pub struct Args {
    /// The room
    #[arg(long)]
    pub room: String,
    /// The server; wss:// for TLS
    #[arg(long, default_value = "ws://127.0.0.1:8080")]
    pub url: String,
    /// The token that says who you are [default: the environment's PIAZZA_TOKEN]
    #[arg(long)]
    pub token: Option<String>,
}

/// Chats until the user quits or the input ends. `token_of_environment` counts where `--token` isn't
/// given.
///
/// # Errors
/// A bad argument; a server that refuses the token or isn't there at the start; lines that were not
/// acked at the end.
pub fn run(args: Args, token_of_environment: Option<String>) -> Result<u8, Failure> {
    let room = RoomId::parse(&args.room)
        .map_err(|why| Failure::usage(format_args!("--room {why}, not {:?}", args.room)))?;
    let token = args
        .token
        .or(token_of_environment)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| {
            Failure::usage("a token is needed: --token, or PIAZZA_TOKEN in the environment")
        })?;
    let link = Link::new(&args.url, &token).map_err(Failure::usage)?;
    let client = Client {
        session: Session::new(room, Clock::local()),
        input: input::lines(),
        leave_by: None,
    };
    block_on(
        tokio::runtime::Builder::new_current_thread(),
        client.chat(&link),
    )?
}

struct Client {
    session: Session,
    input: mpsc::Receiver<String>,
    /// Set once the user is done: then the last acks are waited for, until this.
    leave_by: Option<Instant>,
}

/// How a connection ended.
enum Ended {
    /// The user is done.
    Left,
    /// It is to be opened again.
    Lost,
}

impl Client {
    async fn chat(mut self, link: &Link) -> Result<u8, Failure> {
        let mut backoff = SHORTEST_BACKOFF;
        let mut ever = false;
        loop {
            let wait = match link.open().await {
                Ok(socket) => {
                    ever = true;
                    if let Ended::Left = self.talk(socket).await? {
                        return self.farewell();
                    }
                    if self.session.joined() {
                        backoff = SHORTEST_BACKOFF;
                    }
                    self.between_connections(backoff)
                }
                Err(Refusal::Final(why)) => return Err(Failure::fault(why)),
                // Nothing was ever there: rather a wrong address than a pause.
                Err(Refusal::Unreachable(why)) if !ever => return Err(Failure::fault(why)),
                Err(Refusal::Unreachable(_)) => link::jittered(backoff),
                Err(Refusal::Later(why, wait)) => {
                    self.session.note(&format!("not yet: {}", clean(&why)));
                    wait + link::jittered(backoff)
                }
            };
            self.session.new_connection();
            if let Ended::Left = self.pause(wait).await? {
                return self.farewell();
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// How long to wait after a connection ended: as long as the server asked for, which chance has
    /// spread already, or the backoff.
    fn between_connections(&mut self, backoff: Duration) -> Duration {
        let asked = self.session.come_back_after();
        self.session.note(match asked {
            Some(_) => "the server is shutting down; back in a moment",
            None => "the connection is lost; it will be back",
        });
        asked.unwrap_or_else(|| link::jittered(backoff))
    }

    /// One connection, from its first frame to its end.
    async fn talk(&mut self, mut socket: Socket) -> Result<Ended, Failure> {
        self.session.new_connection();
        let mut heard = Instant::now();
        loop {
            while let Some(frame) = self.session.next_frame(Instant::now()) {
                if !is_sent(timeout(SEND_LIMIT, socket.send(Message::text(frame))).await) {
                    return Ok(Ended::Lost);
                }
            }
            self.show()?;
            if self.is_done() {
                // The lines are acked: a close that is lost takes nothing with it.
                let _ = timeout(CLOSE_LIMIT, socket.close(None)).await;
                return Ok(Ended::Left);
            }
            // The server pings at least once a heartbeat: two without a sign, and it is gone.
            let silent = heard + 2 * self.session.heartbeat() + SEND_LIMIT;
            let wake = self.wake_by(silent);
            tokio::select! {
                frame = socket.next() => {
                    heard = Instant::now();
                    match frame {
                        Some(Ok(frame)) => self.take(&frame)?,
                        Some(Err(_)) | None => return Ok(Ended::Lost),
                    }
                }
                line = self.input.recv(), if self.listens() => self.typed(line),
                () = sleep_until(wake) => {
                    if Instant::now() >= silent {
                        return Ok(Ended::Lost);
                    }
                }
            }
        }
    }

    /// Waits without a connection; what is typed meanwhile is kept.
    async fn pause(&mut self, wait: Duration) -> Result<Ended, Failure> {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            self.show()?;
            if self.is_done() {
                return Ok(Ended::Left);
            }
            let wake = self.wake_by(until);
            tokio::select! {
                line = self.input.recv(), if self.listens() => self.typed(line),
                () = sleep_until(wake) => {}
            }
        }
        Ok(Ended::Lost)
    }

    fn take(&mut self, frame: &Message) -> Result<(), Failure> {
        match frame {
            Message::Text(text) => self.session.hear(text, Instant::now()),
            Message::Close(Some(close)) => match u16::from(close.code) {
                4001 => return Err(Failure::fault("the token has expired")),
                4002 => return Err(Failure::fault("an operator ended the connection")),
                _ => {}
            },
            _ => {}
        }
        match self.session.fatal() {
            Some(why) => Err(Failure::fault(why)),
            None => Ok(()),
        }
    }

    /// Takes a typed line; `None` is the end of the input.
    fn typed(&mut self, line: Option<String>) {
        match line.as_deref().map(str::trim) {
            None | Some("/quit") => self.leave_by = Some(Instant::now() + LAST_ACKS),
            Some("") => {}
            Some("/users") => self.session.ask_users(),
            Some(text) => match text.strip_prefix('/') {
                None => self.session.say(text),
                Some(rest) if rest.starts_with('/') => self.session.say(rest),
                Some(_) => self
                    .session
                    .note("no such command: /users, /quit; a text that begins with / needs two"),
            },
        }
    }

    fn listens(&self) -> bool {
        self.leave_by.is_none() && self.session.waiting() < MAX_WAITING
    }

    fn is_done(&self) -> bool {
        self.leave_by
            .is_some_and(|by| self.session.waiting() == 0 || Instant::now() >= by)
    }

    /// The earliest of `latest` and what else there is to wake up for.
    fn wake_by(&self, latest: Instant) -> Instant {
        [self.leave_by, self.session.hold_until()]
            .into_iter()
            .flatten()
            .fold(latest, Instant::min)
    }

    fn show(&mut self) -> Result<(), Failure> {
        for line in self.session.take_output() {
            print(&format!("{line}\n"))?;
        }
        Ok(())
    }

    fn farewell(mut self) -> Result<u8, Failure> {
        self.show()?;
        match self.session.waiting() {
            0 => Ok(0),
            lost => Err(Failure::fault(format_args!(
                "{lost} of your lines got no answer and may not have been stored"
            ))),
        }
    }
}

type Sent = Result<Result<(), tungstenite::Error>, tokio::time::error::Elapsed>;

fn is_sent(outcome: Sent) -> bool {
    matches!(outcome, Ok(Ok(())))
}
