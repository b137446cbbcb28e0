//! Connections that come and go beside many others.

use super::meter::measure;
use super::node::{Client, Node};

/// Who comes and goes.
const CROWD: usize = 500;

pub(crate) fn work() {
    let node = Node::alone(500);
    let _guard = node.runtime.enter();
    let mut held: Vec<Client> = Vec::new();
    for size in [1, 100, 10_000] {
        held.extend((held.len()..size).map(|nth| node.connect(nth)));
        assert_eq!(node.hub.connection_count(), size);
        // One at a time, so that it isn't the crowd itself that is beside them.
        measure("connection beside", size, CROWD, || {
            for nth in 0..CROWD {
                drop(node.connect(20_000 + nth));
            }
        });
        // As each beat does.
        let told: usize = std::iter::repeat_with(|| node.hub.moves(1_000).len())
            .take_while(|told| *told > 0)
            .sum();
        assert!(told >= CROWD);
    }
}
