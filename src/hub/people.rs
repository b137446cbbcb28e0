//! Who is connected to this node: its connections, and the users behind them.

use std::collections::HashMap;
use std::sync::Arc;

use super::peer::Peer;
use crate::id::{ShortId, UserId};
use crate::maps;

/// The connections.
#[derive(Default)]
pub(super) struct People {
    peers: HashMap<ShortId, Arc<Peer>>,
    users: HashMap<UserId, User>,
    /// Users who came or went since the others were told last.
    changed: HashMap<UserId, Arc<str>>,
}

/// A user with connections.
struct User {
    /// As the first of them had it.
    name: Arc<str>,
    connections: u32,
}

/// A user who came (`true`) or went.
pub type Move = (UserId, Arc<str>, bool);

impl People {
    pub(super) fn enter(&mut self, peer: Arc<Peer>) {
        let (user, name) = (&peer.identity.user, &peer.identity.username);
        if let Some(user) = self.users.get_mut(user) {
            user.connections += 1;
        } else {
            let name = self.changed.get(user).unwrap_or(name).clone();
            let known = User {
                name: name.clone(),
                connections: 1,
            };
            self.users.insert(user.clone(), known);
            self.changed.insert(user.clone(), name);
        }
        self.peers.insert(peer.id, peer);
    }

    pub(super) fn leave(&mut self, peer: &Peer) {
        let user = &peer.identity.user;
        if self.peers.remove(&peer.id).is_none() {
            return;
        }
        maps::fit(&mut self.peers);
        if let Some(known) = self.users.get_mut(user) {
            known.connections -= 1;
            if known.connections == 0 {
                self.changed.insert(user.clone(), known.name.clone());
                self.users.remove(user);
                maps::fit(&mut self.users);
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.values().cloned().collect()
    }

    pub(super) fn peers_of(&self, user: &UserId) -> Vec<Arc<Peer>> {
        let peers = self.peers.values();
        let peers = peers.filter(|peer| peer.identity.user == *user);
        peers.cloned().collect()
    }

    /// Who came and went since the last call, `max` at most.
    pub(super) fn moves(&mut self, max: usize) -> Vec<Move> {
        let users: Vec<UserId> = self.changed.keys().take(max).cloned().collect();
        let one = |user: UserId| {
            let name = self.changed.remove(&user)?;
            let there = self.users.contains_key(&user);
            Some((user, name, there))
        };
        let moves = users.into_iter().filter_map(one).collect();
        maps::fit(&mut self.changed);
        moves
    }

    /// All have come anew.
    pub(super) fn all_anew(&mut self) {
        let all = self.users.iter();
        self.changed = all
            .map(|(user, known)| (user.clone(), known.name.clone()))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Identity;

    fn peer(user: &str, name: &str) -> Arc<Peer> {
        Arc::new(Peer::new(&Identity {
            user: UserId::parse(user).unwrap(),
            username: name.into(),
            expires_at: 0,
            grants: Default::default(),
            role: Default::default(),
        }))
    }

    #[test]
    fn a_user_comes_and_goes_once_under_one_name() {
        let mut people = People::default();
        let (one, two) = (peer("u", "One"), peer("u", "Two"));
        let user = one.identity.user.clone();
        people.enter(one.clone());
        people.enter(two.clone());
        assert_eq!(people.moves(9), [(user.clone(), "One".into(), true)]);
        people.leave(&one);
        people.leave(&one);
        assert!(people.moves(9).is_empty());
        people.leave(&two);
        // It comes back before the others know that it went.
        people.enter(two.clone());
        assert_eq!(people.moves(9), [(user.clone(), "One".into(), true)]);
        people.leave(&two);
        assert_eq!(people.moves(9), [(user.clone(), "One".into(), false)]);
        people.enter(two.clone());
        assert_eq!(people.moves(9), [(user.clone(), "Two".into(), true)]);
        people.all_anew();
        assert_eq!(people.moves(9).len(), 1);
        assert_eq!((people.count(), people.peers_of(&user).len()), (1, 1));
    }
}
