//! A network that fails: forwards connections to the server, stops doing so for a while, and then goes on,
//! as TCP does when lost segments are sent again, or ends them all, as it does when it gives up. What
//! the server has written meanwhile lies in the sockets, and is lost with them in the second case.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{self, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::support::Result;

/// What the network does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Flows,
    Stands,
    Ends,
}

/// A way to one server. Its thread ends with it, and so do its connections.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (state, states) = watch::channel(State::Flows);
        let runtime = Builder::new_current_thread().enable_io().build()?;
        thread::spawn(move || runtime.block_on(serve(listener, server, states)));
        Ok(Self { address, state })
    }

    /// Nothing gets through any more.
    pub(crate) fn stand(&self) {
        self.state.send_replace(State::Stands);
    }

    /// Everything gets through, what was held back first.
    pub(crate) fn flow(&self) {
        self.state.send_replace(State::Flows);
    }

    /// All connections end, and new ones at once.
    pub(crate) fn end(&self) {
        self.state.send_replace(State::Ends);
    }
}

/// Until the sender of states is gone.
async fn serve(
    listener: TcpListener,
    server: SocketAddr,
    mut states: watch::Receiver<State>,
) -> io::Result<()> {
    let listener = net::TcpListener::from_std(listener)?;
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            changed = states.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
        };
        tokio::spawn(forward(client, server, states.clone()));
    }
}

async fn forward(
    client: TcpStream,
    server: SocketAddr,
    states: watch::Receiver<State>,
) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    // whichever ends first takes the other with it
    tokio::select! {
        ended = pump(client_reads, server_writes, states.clone()) => ended,
        ended = pump(server_reads, client_writes, states) => ended,
    }
}

/// One direction, until an end closes or the network ends it.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut states: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let state = *states.borrow_and_update();
        let read = async {
            match state {
                State::Flows => from.read(&mut buffer).await,
                State::Stands => pending().await,
                State::Ends => Ok(0),
            }
        };
        let length = tokio::select! {
            changed = states.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
            length = read => length?,
        };
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
