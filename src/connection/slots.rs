//! Which of a connection's lanes is whose. Most connections are in one room or a few: these are looked
//! through. Only one in many rooms has a map, so that a request costs the same in any number of them.

use std::collections::HashMap;

use slab::Slab;

use super::lane::Lane;
use crate::id::RoomId;

/// With more lanes there is a map.
const FEW: usize = 8;

/// The lanes by their rooms; `None`: there are few.
#[derive(Default)]
pub(super) struct Slots(Option<Box<Map>>);

struct Map(HashMap<RoomId, usize>);

impl Slots {
    /// The slot of a room's lane.
    pub(super) fn find(&self, lanes: &Slab<Lane>, room: &RoomId) -> Option<usize> {
        if let Some(map) = &self.0 {
            return map.0.get(room).copied();
        }
        let mut lanes = lanes.iter();
        lanes.find_map(|(slot, lane)| (lane.room.id == *room).then_some(slot))
    }

    /// Puts in a lane of a room that has none, and gives its slot.
    pub(super) fn insert(&mut self, lanes: &mut Slab<Lane>, lane: Lane) -> usize {
        if lanes.len() == lanes.capacity() && lanes.len() < FEW / 2 {
            // A vector begins with room for four.
            lanes.reserve_exact(1);
        }
        let room = lane.room.id.clone();
        let slot = lanes.insert(lane);
        if let Some(map) = &mut self.0 {
            map.0.insert(room, slot);
        } else if lanes.len() > FEW {
            let all = lanes.iter();
            let all = all.map(|(slot, lane)| (lane.room.id.clone(), slot));
            self.0 = Some(Box::new(Map(all.collect())));
        }
        slot
    }

    /// The lane of that room was taken out.
    pub(super) fn remove(&mut self, lanes: &mut Slab<Lane>, room: &RoomId) {
        if let Some(map) = &mut self.0 {
            map.0.remove(room);
        }
        if lanes.is_empty() {
            (*lanes, self.0) = (Slab::new(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::broker::Broker;
    use crate::broker::local::{Keep, Local};
    use crate::hub::Hub;
    use crate::protocol::Metrics;

    fn hub() -> Hub {
        let keep = Keep {
            messages: 1,
            idle: Duration::from_secs(1),
        };
        let metrics = Arc::new(Metrics::new().unwrap());
        Hub::new(Broker::Local(Local::new(keep)), metrics, 1, 1)
    }

    fn rooms(count: usize) -> Vec<RoomId> {
        let id = |nth| RoomId::parse(&format!("room-{nth}")).unwrap();
        (0..count).map(id).collect()
    }

    #[tokio::test]
    async fn few_and_many_lanes_are_found_until_they_are_taken_out() {
        let (hub, mut lanes, mut slots) = (hub(), Slab::new(), Slots::default());
        let ids = rooms(3 * FEW);
        for (nth, id) in ids.iter().enumerate() {
            assert_eq!(slots.find(&lanes, id), None);
            let slot = slots.insert(&mut lanes, Lane::new(hub.room(id)));
            assert_eq!(lanes[slot].room.id, *id);
            assert_eq!(slots.0.is_some(), nth >= FEW);
        }
        assert_eq!(lanes.len(), ids.len());
        for (nth, id) in ids.iter().enumerate() {
            let slot = slots.find(&lanes, id).unwrap();
            assert_eq!(lanes.remove(slot).room.id, *id);
            slots.remove(&mut lanes, id);
            assert_eq!(slots.find(&lanes, id), None);
            let next = ids.get(nth + 1);
            assert!(next.is_none_or(|id| slots.find(&lanes, id).is_some()));
        }
        assert_eq!((lanes.capacity(), slots.0.is_none()), (0, true));
    }

    #[tokio::test]
    async fn one_lane_takes_room_for_one() {
        let (hub, mut lanes, mut slots) = (hub(), Slab::new(), Slots::default());
        slots.insert(&mut lanes, Lane::new(hub.room(&rooms(1)[0])));
        assert_eq!(lanes.capacity(), 1);
    }
}
