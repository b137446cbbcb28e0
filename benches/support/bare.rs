//! The floor of a round trip and of a connect: a server that takes the same requests and gives answers of the
//! same size, and does nothing else. It checks no token, keeps no history, promises nothing, and writes each
//! frame at once. One thread and epoll, as a child in the server's place.

use std::collections::HashMap;
use std::env;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll;

use super::Result;
use super::clients::{TURN, wait};
use super::websocket::{self, ANSWER};

const LISTENER: u64 = u64::MAX;

/// As long as what a server says of itself.
const CONNECTED: &str = r#"{"type":"connected","payload":{"userId":"u00000","username":"u00000","timestamp":1700000000000,"connectionId":"............","nodeId":".....................","heartbeatMs":30000,"expiresAt":1700000000000,"maxTextLength":2000,"maxFrameBytes":16384,"rooms":[]}}"#;

struct Peer {
    stream: TcpStream,
    partial: Vec<u8>,
    upgraded: bool,
    room: Option<String>,
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    peers: HashMap<u64, Peer>,
    next: u64,
    /// Members of each room.
    rooms: HashMap<String, Vec<u64>>,
    said: u64,
}

/// Serves at the port that the environment names, until the process is ended.
pub(crate) fn serve() -> Result<()> {
    let port = env::var("PORT")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(LISTENER);
    epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
    let mut server = Server {
        epoll,
        listener,
        peers: HashMap::new(),
        next: 0,
        rooms: HashMap::new(),
        said: 0,
    };
    let (mut ready, mut buffer) = (Vec::with_capacity(1024), vec![0; 64 * 1024]);
    loop {
        wait(&server.epoll, &mut ready, TURN)?;
        for event in &ready {
            match event.data.u64() {
                LISTENER => server.accept()?,
                peer => server.read(peer, &mut buffer)?,
            }
        }
    }
}

impl Server {
    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let data = epoll::EventData::new_u64(self.next);
            epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
            let peer = Peer {
                stream,
                partial: Vec::new(),
                upgraded: false,
                room: None,
            };
            self.peers.insert(self.next, peer);
            self.next += 1;
        }
    }

    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let Some(peer) = self.peers.get_mut(&at) else {
            return Ok(());
        };
        match peer.stream.read(buffer) {
            Ok(n) if n > 0 => peer.partial.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Ok(_) | Err(_) => {
                self.forget(at);
                return Ok(());
            }
        }
        if !peer.upgraded {
            let Some(end) = peer.partial.windows(4).position(|w| w == b"\r\n\r\n") else {
                return Ok(());
            };
            let head: Vec<u8> = peer.partial.drain(..end + 4).collect();
            if !String::from_utf8_lossy(&head).contains("Upgrade: websocket") {
                peer.stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
                self.forget(at);
                return Ok(());
            }
            let mut answer = ANSWER.as_bytes().to_vec();
            websocket::push_event(&mut answer, CONNECTED);
            peer.stream.write_all(&answer)?;
            peer.upgraded = true;
        }
        let mut partial = std::mem::take(&mut peer.partial);
        while let Some((request, length)) = websocket::request_in(&partial)? {
            self.answer(at, &request)?;
            partial.drain(..length);
        }
        if let Some(peer) = self.peers.get_mut(&at) {
            peer.partial = partial;
        }
        Ok(())
    }

    fn forget(&mut self, at: u64) {
        let room = self.peers.remove(&at).and_then(|peer| peer.room);
        if let Some(members) = room.and_then(|room| self.rooms.get_mut(&room)) {
            members.retain(|member| *member != at);
        }
    }

    fn answer(&mut self, at: u64, request: &str) -> Result<()> {
        let room = field(request, "roomId").ok_or("a request without a room")?;
        if request.starts_with(r#"{"type":"join""#) {
            let history = format!(
                r#"{{"type":"history","payload":{{"roomId":"{room}","messages":[],"seq":0,"lastId":null,"hasMore":false}}}}"#
            );
            self.rooms.entry(room.to_owned()).or_default().push(at);
            if let Some(peer) = self.peers.get_mut(&at) {
                peer.room = Some(room.to_owned());
            }
            return self.write(at, &frame(&history));
        }
        let text = field(request, "text").ok_or("a message without a text")?;
        self.said += 1;
        let said = self.said;
        let key = field(request, "clientId").map(|key| format!(r#","clientId":"{key}""#));
        let key = key.unwrap_or_default();
        let message = frame(&format!(
            r#"{{"type":"message","payload":{{"id":"............","seq":{said},"roomId":"{room}","userId":"u00000","username":"u00000","text":"{text}","timestamp":1700000000000{key}}}}}"#
        ));
        for member in self.rooms.get(room).into_iter().flatten() {
            self.write(*member, &message)?;
        }
        let ack = format!(
            r#"{{"type":"ack","payload":{{"messageId":"............","roomId":"{room}","seq":{said},"timestamp":1700000000000{key}}}}}"#
        );
        self.write(at, &frame(&ack))
    }

    fn write(&self, at: u64, frame: &[u8]) -> Result<()> {
        if let Some(peer) = self.peers.get(&at) {
            (&peer.stream).write_all(frame)?;
        }
        Ok(())
    }
}

fn frame(event: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    websocket::push_event(&mut frame, event);
    frame
}

/// The value of a string field.
fn field<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = request.split_once(&format!("\"{name}\":\""))?;
    rest.split_once('"').map(|(value, _)| value)
}
