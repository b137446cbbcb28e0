//! One node of three is drained behind nginx, and nobody loses anything by it.

use std::time::Duration;

use crate::company::{Cluster, NAMES, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_drained_node_go_on_elsewhere_at_their_first_try() {
    let plan = Plan {
        clients: 600,
        through_nginx: true,
        pace: (Duration::from_secs(2), Duration::from_millis(300)),
    };
    let mut cluster = Cluster::start(plan.through_nginx).await;
    // Most of them have talked by then.
    let a_while = tokio::time::sleep(plan.pace.0);
    let outcome = cluster.drain(&plan, a_while).await;
    // A refused handshake, a hole, a double or a missing ack has failed a member by now.
    assert_eq!(outcome.status, Some(0));
    for story in &outcome.moved {
        assert_eq!(story.first_node, NAMES[0]);
        assert_eq!(story.moves.len(), 1, "each moved once");
        assert_ne!(story.moves[0].to, NAMES[0]);
        assert!(story.moves[0].told >= outcome.begin);
    }
    assert!(outcome.moved.iter().any(|story| story.acked > 0));
    for story in &outcome.stayed {
        assert!(story.moves.is_empty(), "nobody else was told to go");
        assert!(story.seen > story.acked);
    }
    println!(
        "{} clients were let go in {:?}, away for {:?} at most",
        outcome.moved.len(),
        outcome.duration,
        outcome.away.last()
    );
}
