//! Who comes and goes in a room that holds many: the join, what the members are told, what the broker is
//! told, and the same of the leave.

use super::meter::measure;
use super::node::{Client, Node, room};

/// A room is told of each up to 500 users, if nothing else is set.
const TOLD: &[usize] = &[10, 100, 1_000];
const QUIET: &[usize] = &[10, 100, 1_000, 10_000];
/// Who comes and goes.
const CROWD: usize = 50;

/// In rooms whose members are told of each, and in rooms that are too large for that.
pub(crate) fn work() {
    for (kind, told, sizes) in [("told", usize::MAX / 2, TOLD), ("quiet", 5, QUIET)] {
        let (node, room) = (Node::alone(told), room("lobby"));
        let _guard = node.runtime.enter();
        let (mut members, mut out) = (Vec::new(), Vec::new());
        for size in sizes.iter().copied() {
            members.extend(node.members(
                members.len(),
                size - members.len(),
                std::slice::from_ref(&room),
            ));
            members.iter_mut().for_each(|member: &mut Client| {
                member.take(&mut out);
            });
            let mut crowd: Vec<Client> = (0..CROWD).map(|nth| node.connect(20_000 + nth)).collect();
            measure(&format!("join, {kind}, a room of"), size, CROWD, || {
                for client in &mut crowd {
                    client.join(&room, &mut out);
                    out.clear();
                }
                node.settle(std::slice::from_ref(&room));
            });
            let count = || {
                let room = node.hub.room_if_up(room.as_str()).unwrap();
                room.look(|presence| presence.members().users(&room.id).count)
            };
            assert_eq!(count(), size + CROWD);
            measure(&format!("leave, {kind}, a room of"), size, CROWD, || {
                crowd.clear();
                node.settle(std::slice::from_ref(&room));
            });
            assert_eq!(count(), size);
        }
    }
}
