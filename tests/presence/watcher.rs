//! A client that keeps, from the events it is told, who is in its rooms, and fails at the first that
//! can't be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Client, Node, Value, json, within};
use crate::town::{ANNOUNCED, person};

/// Somebody who came (`true`) or went.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct News {
    pub(crate) room: String,
    pub(crate) user: String,
    pub(crate) came: bool,
}

impl News {
    pub(crate) fn came(room: &str, user: &str) -> News {
        let (room, user) = (room.to_owned(), user.to_owned());
        News {
            room,
            user,
            came: true,
        }
    }

    pub(crate) fn went(room: &str, user: &str) -> News {
        News {
            came: false,
            ..News::came(room, user)
        }
    }
}

/// A user of its own who watches rooms.
pub(crate) struct Watcher {
    pub(crate) client: Client,
    /// Who is there, by what it was told.
    pub(crate) there: BTreeMap<String, BTreeSet<String>>,
    /// What it was told since it was asked last.
    pub(crate) news: Vec<News>,
    /// `users` events that nobody asked for: the room and the count.
    pub(crate) lists: Vec<(String, u64)>,
}

impl Watcher {
    /// On this node, in these rooms, knowing who is there.
    pub(crate) async fn of(node: &Node, user: &str, rooms: &[String]) -> Watcher {
        let client = person(node, user, rooms).await;
        let mut watcher = Watcher {
            client,
            there: BTreeMap::new(),
            news: Vec::new(),
            lists: Vec::new(),
        };
        // What it is told before its first list is told by that, too.
        watcher.client.forget();
        let ask = |room| json!({"type": "users", "id": "u", "payload": {"roomId": room}});
        watcher
            .client
            .send_all(rooms.iter().map(|room| ask(room).to_string()))
            .await;
        let all = rooms.len();
        watcher
            .until(ANNOUNCED, "the users of its rooms", |w| {
                w.there.len() == all
            })
            .await;
        watcher.news.clear();
        watcher
    }

    /// Takes an event.
    #[track_caller]
    fn take(&mut self, event: &Value) {
        let text = |field: &str| {
            event["payload"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let (room, user) = (text("roomId"), text("userId"));
        let came = match event["type"].as_str() {
            Some("user_joined") => true,
            Some("user_left") => false,
            Some("users") => return self.take_list(room, event),
            _ => return,
        };
        let me = self.client.user().to_owned();
        // Before its first list it doesn't know who is there.
        if let Some(there) = self.there.get_mut(&room) {
            let fits = if came {
                there.insert(user.clone())
            } else {
                there.remove(&user)
            };
            assert!(fits, "{me} knew that already: {event}");
            assert_ne!(user, me, "told of itself: {event}");
            self.news.push(News { room, user, came });
        }
    }

    fn take_list(&mut self, room: String, event: &Value) {
        let (users, count) = listed(&event["payload"]);
        if event["id"].is_null() {
            self.lists.push((room.clone(), count));
        }
        self.there.insert(room, users);
    }

    /// Reads until it is so.
    pub(crate) async fn until(
        &mut self,
        limit: Duration,
        what: &str,
        is_so: impl Fn(&Watcher) -> bool,
    ) {
        let end = Instant::now() + limit;
        while !is_so(self) {
            let left = end.saturating_duration_since(Instant::now());
            let waited = tokio::time::timeout(left, self.client.next_or_close(2 * limit)).await;
            match waited {
                Ok(Some(event)) => self.take(&event),
                Ok(None) => panic!(
                    "{} was closed while it waited for {what}",
                    self.client.user()
                ),
                Err(_) => panic!(
                    "{} waited {limit:?} in vain for {what}; it was told {:?}",
                    self.client.user(),
                    self.news
                ),
            }
        }
    }

    /// Waits until it knows these users, and no others, to be there.
    pub(crate) async fn sees(&mut self, limit: Duration, room: &str, users: &[&str]) {
        let expected: BTreeSet<String> = users.iter().map(|&user| user.to_owned()).collect();
        let what = format!("{expected:?} in {room}");
        self.until(limit, &what, |watcher| watcher.there[room] == expected)
            .await;
    }

    /// Takes what was sent up to now; gives what it was told since the last call.
    pub(crate) async fn told(&mut self) -> Vec<News> {
        self.client.assert_alive().await;
        for event in self.client.forget() {
            self.take(&event);
        }
        std::mem::take(&mut self.news)
    }

    /// Asks who is there, which has to be what it was told; the users, in order.
    pub(crate) async fn users(&mut self, room: &str) -> Vec<String> {
        let reply = self.client.request("users", json!({"roomId": room})).await;
        for event in self.client.forget() {
            self.take(&event);
        }
        let (users, count) = listed(&reply["payload"]);
        assert_eq!(count, users.len() as u64, "{reply}");
        assert_eq!(
            self.there[room],
            users,
            "{} was told otherwise",
            self.client.user()
        );
        users.into_iter().collect()
    }
}

fn listed(payload: &Value) -> (BTreeSet<String>, u64) {
    let users = payload["users"].as_array().expect("a list");
    let ids = users
        .iter()
        .map(|user| user["userId"].as_str().expect("an id").to_owned());
    (ids.collect(), payload["count"].as_u64().expect("a count"))
}

/// A newcomer whom all watchers see: what was caused before has been told by then, or won't be. What each
/// was told besides, since it was asked last.
pub(crate) async fn mark(
    node: &Node,
    watchers: &mut [Watcher],
    room: &str,
    name: &str,
) -> Vec<Vec<News>> {
    let rooms = [room.to_owned()];
    let marker = within(ANNOUNCED, "a newcomer", person(node, name, &rooms)).await;
    let mut all = Vec::new();
    for watcher in watchers.iter_mut() {
        watcher
            .until(ANNOUNCED, "the newcomer", |w| w.there[room].contains(name))
            .await;
        let mut news = watcher.told().await;
        news.retain(|news| news.user != name);
        all.push(news);
    }
    marker.close().await;
    for watcher in watchers.iter_mut() {
        watcher
            .until(ANNOUNCED, "the newcomer to go", |w| {
                !w.there[room].contains(name)
            })
            .await;
        watcher.news.retain(|news| news.user != name);
    }
    all
}
