//! What presence costs Redis.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;

use crate::support::{Redis, SOON, within};
use crate::town::{Town, names, person};
use crate::watcher::Watcher;

/// Everything that Redis is asked, line by line, as `MONITOR` tells it.
struct Monitor {
    lines: Lines<BufReader<TcpStream>>,
    marks: usize,
}

impl Monitor {
    async fn on(redis: &Redis) -> Monitor {
        let stream = TcpStream::connect(("127.0.0.1", redis.port)).await;
        let mut stream = stream.expect("Redis accepts");
        stream.write_all(b"MONITOR\r\n").await.expect("sent");
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(
            lines.next_line().await.expect("read").as_deref(),
            Some("+OK")
        );
        Monitor { lines, marks: 0 }
    }

    /// What clients asked about a room since the last call; not what scripts did within.
    async fn asked(&mut self, redis: &Redis, room: &str) -> Vec<String> {
        self.marks += 1;
        let mark = format!("mark-{}", self.marks);
        redis.cli::<String>(&["ECHO", &mark]).await;
        let mut asked = Vec::new();
        loop {
            let line = within(SOON, "the monitor", self.lines.next_line()).await;
            let line = line.expect("read").expect("it goes on");
            if line.contains(&mark) {
                return asked;
            }
            let by_script = line
                .split(']')
                .next()
                .is_some_and(|head| head.ends_with(" lua"));
            if !by_script && line.contains(&format!("{{{room}}}")) {
                asked.push(line);
            }
        }
    }
}

/// Whose call a line of the monitor is: `<time> [<db> <address>] …`.
fn address(line: &str) -> &str {
    let (_, rest) = line.split_once("[0 ").expect("a database");
    rest.split(']').next().expect("an address")
}

#[tokio::test]
async fn a_join_into_a_room_that_is_up_costs_one_round_trip_at_most() {
    const JOINS: usize = 10;
    let town = Town::start(2, &[]).await;
    let rooms = names("room", 1);
    let mut monitor = Monitor::on(&town.redis).await;
    let mut here = Watcher::of(&town.nodes[0], "wa", &rooms).await;
    let cold = monitor.asked(&town.redis, "room-0").await.len();
    assert!(cold > 1, "nothing was seen");
    let mut there = Watcher::of(&town.nodes[1], "wb", &rooms).await;
    here.sees(SOON, "room-0", &["wa", "wb"]).await;
    monitor.asked(&town.redis, "room-0").await;
    let mut clients = Vec::new();
    for nth in 0..JOINS {
        clients.push(person(&town.nodes[0], &format!("user-{nth}"), &rooms).await);
        let seen = |w: &Watcher| w.there["room-0"].len() == 3 + nth;
        there.until(SOON, "the one who joined", seen).await;
    }
    let asked = monitor.asked(&town.redis, "room-0").await;
    // The other node may have been told of the first one while it still read the roster for its own member, and read
    // it once more: that is no join's cost, and comes once.
    let (joins, others): (Vec<_>, Vec<_>) = {
        let own = asked.iter().find(|line| line.contains("user-0"));
        let own = address(own.expect("the first join's")).to_owned();
        asked.into_iter().partition(|line| address(line) == own)
    };
    assert!(others.len() <= 1, "{others:#?}");
    println!(
        "the first join of a room: {cold} round trips; {JOINS} more, one by one: {}",
        joins.len()
    );
    assert!(
        joins.len() <= JOINS,
        "{} for {JOINS}: {joins:#?}",
        joins.len()
    );
    assert!(!joins.is_empty(), "nothing was seen");
    // A second connection of theirs costs nothing, nor does its leave.
    for nth in 0..JOINS {
        let mut second = person(&town.nodes[0], &format!("user-{nth}"), &rooms).await;
        second.leave("room-0").await;
    }
    let again = monitor.asked(&town.redis, "room-0").await;
    assert!(again.is_empty(), "{again:#?}");
    assert_eq!(there.users("room-0").await.len(), 2 + JOINS);
}
