//! Large rooms, and many who enter at once.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::{Client, SOON, json, raise_nofile, within};
use crate::town::{ANNOUNCED, Town, names, option, person};
use crate::watcher::Watcher;

#[tokio::test]
async fn above_the_line_nobody_is_told_who_comes_and_goes() {
    let town = Town::start(2, &[("PRESENCE_EVENTS_MAX", "20")]).await;
    let rooms = names("room", 1);
    let mut watchers = [
        Watcher::of(&town.nodes[0], "wa", &rooms).await,
        Watcher::of(&town.nodes[1], "wb", &rooms).await,
    ];
    let mut clients = Vec::new();
    let users = names("user", 30);
    for (nth, user) in users.iter().enumerate() {
        clients.push(person(&town.nodes[nth % 2], user, &rooms).await);
    }
    for watcher in &mut watchers {
        watcher
            .until(SOON, "the line to be crossed", |w| !w.lists.is_empty())
            .await;
    }
    count_is(&mut watchers, 32).await;
    for watcher in &mut watchers {
        let joins = watcher.told().await;
        assert!(joins.iter().all(|news| news.came));
        assert!(joins.len() <= 20, "told of {} joins", joins.len());
        let [(_, count)] = watcher.lists[..] else {
            panic!("told once: {:?}", watcher.lists)
        };
        assert!(count > 20, "{count}");
        watcher.lists.clear();
    }
    // Coming and going above the line is nobody's news.
    for client in &mut clients[..4] {
        client.leave("room-0").await;
    }
    count_is(&mut watchers, 28).await;
    for client in &mut clients[..2] {
        client.join("room-0").await;
    }
    count_is(&mut watchers, 30).await;
    for watcher in &mut watchers {
        assert_eq!(watcher.told().await, []);
        assert_eq!(watcher.lists, []);
    }
    // Back below at nine tenths of it: then everyone is told who is there, and who goes after that.
    for client in clients.drain(..18) {
        client.close().await;
    }
    for watcher in &mut watchers {
        watcher
            .until(SOON, "the line to be crossed", |w| !w.lists.is_empty())
            .await;
        let (_, count) = watcher.lists[0];
        assert!(count <= 18, "{count}");
    }
    count_is(&mut watchers, 14).await;
    drop(clients);
    for watcher in &mut watchers {
        watcher.sees(SOON, "room-0", &["wa", "wb"]).await;
        assert_eq!(watcher.lists.len(), 1);
        assert!(watcher.told().await.len() >= 12);
    }
}

/// Waits until both say so.
async fn count_is(watchers: &mut [Watcher], count: u64) {
    for watcher in watchers {
        let asked = async {
            loop {
                let users = watcher
                    .client
                    .request("users", json!({"roomId": "room-0"}))
                    .await;
                if users["payload"]["count"] == count {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        within(SOON, &format!("{count} users"), asked).await;
    }
}

#[tokio::test]
async fn a_burst_of_joins_is_told_in_few_pieces() {
    const EACH: usize = 100;
    let town = Town::start(2, &[]).await;
    let rooms = names("room", 1);
    let mut watchers = [
        Watcher::of(&town.nodes[0], "wa", &rooms).await,
        Watcher::of(&town.nodes[1], "wb", &rooms).await,
    ];
    let mut crowd = Vec::new();
    for nth in 0..2 {
        let users = names(&format!("of-{nth}"), EACH);
        crowd.extend(town.people(nth, &users, &[]).await);
    }
    let before = version(&town).await;
    let start = Instant::now();
    join_all(crowd.iter_mut().map(|client| client.join("room-0"))).await;
    let took = start.elapsed();
    for watcher in &mut watchers {
        let all = |w: &Watcher| w.there["room-0"].len() == 2 * EACH + 2;
        watcher.until(SOON, "everyone", all).await;
    }
    let pieces = version(&town).await - before;
    // At most ten a second and node, and what was begun.
    let most = 2 * (took.as_millis() as u64 / 100 + 2);
    println!(
        "{} joins in {took:?} were told to Redis in {pieces} pieces",
        2 * EACH
    );
    assert!(pieces <= most, "{pieces} pieces, {most} at most");
    let before = version(&town).await;
    let start = Instant::now();
    join_all(crowd.into_iter().map(Client::close)).await;
    for watcher in &mut watchers {
        watcher.sees(SOON, "room-0", &["wa", "wb"]).await;
    }
    let most = 2 * (start.elapsed().as_millis() as u64 / 100 + 2);
    let pieces = version(&town).await - before;
    assert!(pieces <= most, "{pieces} pieces, {most} at most");
}

/// How often the room's roster was changed.
async fn version(town: &Town) -> u64 {
    let version: Option<String> = town.redis.cli(&["HGET", "chat:roster:{room-0}", ""]).await;
    let place = |version: String| version.split(' ').next()?.parse().ok();
    version.and_then(place).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_in_one_room_does_not_hold_up_another() {
    raise_nofile();
    let crowd = option("PRESENCE_CROWD", 500);
    let town = Town::start(2, &[("MAX_CONNECTIONS_PER_IP", "0")]).await;
    let quiet = names("quiet", 1);
    let mut speaker = person(&town.nodes[0], "speaker", &quiet).await;
    let mut listener = person(&town.nodes[1], "listener", &quiet).await;
    let calm = time_messages(&mut speaker, &mut listener, Duration::from_secs(2)).await;
    let rooms = names("crowded", 1);
    // Evenly over ten seconds, connecting and joining.
    let (begin, spread) = (Instant::now(), Duration::from_secs(10));
    let enter = |n: usize| {
        let (node, rooms) = (&town.nodes[n % 2], &rooms);
        async move {
            sleep_until(begin + spread.mul_f64(n as f64 / crowd as f64)).await;
            person(node, &format!("user-{n}"), rooms).await
        }
    };
    let (mut clients, busy) = tokio::join!(
        join_all((0..crowd).map(enter)),
        time_messages(&mut speaker, &mut listener, spread)
    );
    println!(
        "{crowd} enter in {:?}; another room's messages: calm {calm}, meanwhile {busy}",
        begin.elapsed()
    );
    let last = clients.last_mut().unwrap();
    let all = async {
        while last.request("users", json!({"roomId": "crowded-0"})).await["payload"]["count"]
            != crowd
        {
            sleep(Duration::from_millis(50)).await;
        }
    };
    within(ANNOUNCED, "everyone to be there", all).await;
}

/// Says something every 20 ms and notes how long it takes to the other node's member.
async fn time_messages(speaker: &mut Client, listener: &mut Client, time: Duration) -> String {
    let (end, mut times) = (Instant::now() + time, Vec::new());
    while Instant::now() < end {
        let said = Instant::now();
        speaker
            .send("message", json!({"roomId": "quiet-0", "text": "x"}))
            .await;
        listener.message().await;
        times.push(said.elapsed());
        speaker.message().await;
        speaker.forget();
        sleep_until(said + Duration::from_millis(20)).await;
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!(
        "p50 {:?} p99 {:?} max {:?} of {}",
        at(50),
        at(99),
        at(100),
        times.len()
    )
}
