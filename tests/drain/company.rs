//! Three real nodes on one real Redis, a company of clients on the first of them and some on the others,
//! and the first one drained under them. Used by the test (through nginx) and by the benchmark.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::sync::watch;

use super::member::{Member, Order, PATIENCE, Profile, Progress, Story, Way};
use crate::support::nginx::Nginx;
use crate::support::{Connect, Node, Redis, token, within};

/// The nodes' names; the first one is drained.
pub(crate) const NAMES: [&str; 3] = ["node-a", "node-b", "node-c"];
/// Members of a room that are on the draining node; one more is elsewhere.
const ROOM: usize = 10;

/// How much company there is.
pub(crate) struct Plan {
    /// On the draining node.
    pub(crate) clients: usize,
    pub(crate) through_nginx: bool,
    /// Between two messages of one of them, and of one on another node.
    pub(crate) pace: (Duration, Duration),
}

/// How it went.
pub(crate) struct Outcome {
    /// From SIGTERM to the process's end.
    pub(crate) duration: Duration,
    pub(crate) status: Option<i32>,
    /// From `reconnect` to the reply of the join on the other node, sorted.
    pub(crate) away: Vec<Duration>,
    /// Those of the drained node, and those of the others.
    pub(crate) moved: Vec<Story>,
    pub(crate) stayed: Vec<Story>,
    /// SIGTERM was sent then.
    pub(crate) begin: Instant,
}

/// In the order in which it has to go.
pub(crate) struct Cluster {
    way: Arc<Way>,
    /// Networks whose clients nginx sends to the first node, and to another one.
    networks: [Vec<u8>; 2],
    pub(crate) nodes: Vec<Node>,
    _redis: Redis,
}

impl Cluster {
    pub(crate) async fn start(through_nginx: bool) -> Self {
        let redis = Redis::start().await;
        let start = |name| {
            let redis = &redis;
            let no_limits = [
                ("NODE_ID", name),
                ("RATE_LIMIT_CONNECTS", "0"),
                ("RATE_LIMIT_MESSAGES", "0"),
            ];
            async move { Node::on_with(redis, &no_limits).await }
        };
        let nodes = join_all(NAMES.map(start)).await;
        let (way, networks) = if through_nginx {
            let ports = [0, 1, 2].map(|i: usize| nodes[i].addr.port());
            let nginx = Nginx::start(ports).await;
            let networks = networks(&nginx).await;
            (Way::Nginx(Box::new(nginx)), networks)
        } else {
            let nodes = [0, 1, 2].map(|i: usize| nodes[i].addr);
            (Way::Direct(nodes), [(1..51).collect(), (51..101).collect()])
        };
        Self {
            way: Arc::new(way),
            networks,
            nodes,
            _redis: redis,
        }
    }

    fn from(&self, side: usize, nth: usize) -> [u8; 4] {
        let networks = &self.networks[side];
        [127, 0, networks[nth % networks.len()], 1]
    }

    /// Everyone comes; then the first node is drained; then all compare what they saw. `before` runs
    /// once all are there.
    pub(crate) async fn drain(&mut self, plan: &Plan, before: impl Future<Output = ()>) -> Outcome {
        let (order, orders) = watch::channel(Order::Talk);
        let progress = watch::Sender::new(Progress::default());
        let spawn = |profile| {
            let life = Member::live(profile, self.way.clone(), orders.clone(), progress.clone());
            tokio::spawn(life)
        };
        let rooms = plan.clients.div_ceil(ROOM);
        let total = plan.clients + rooms;
        let mut leaving = Vec::new();
        let mut staying = Vec::new();
        // In batches, so that no listen queue overflows before anything begins.
        for first in (0..plan.clients).step_by(100) {
            for i in first..(first + 100).min(plan.clients) {
                leaving.push(spawn(self.profile(i, plan)));
                if i % ROOM == 0 {
                    staying.push(spawn(self.outsider(i / ROOM, plan)));
                }
            }
            let joined = leaving.len() + staying.len();
            reach(&progress, "to join", |progress| progress.joined == joined).await;
        }
        before.await;
        let begin = Instant::now();
        self.nodes[0].signal(Signal::TERM);
        let all_back = reach(&progress, "to move", |p| p.moved == plan.clients);
        let (status, ()) = tokio::join!(
            async {
                let status = self.nodes[0].exit(PATIENCE).await.code();
                (status, begin.elapsed())
            },
            all_back
        );
        let (status, duration) = status;
        order.send_replace(Order::Quiet);
        reach(&progress, "to be quiet", |p| p.quiet == total).await;
        order.send_replace(Order::Finish);
        let (moved, stayed) = (stories(leaving).await, stories(staying).await);
        let moves = moved.iter().flat_map(|story| &story.moves);
        let mut away: Vec<Duration> = moves.map(|there| there.back - there.told).collect();
        away.sort();
        Outcome {
            duration,
            status,
            away,
            moved,
            stayed,
            begin,
        }
    }

    fn profile(&self, i: usize, plan: &Plan) -> Profile {
        let pace = plan.pace.0;
        Profile {
            name: format!("member-{i}-"),
            room: format!("room-{}", i / ROOM),
            from: self.from(0, i),
            nodes: [0, 1 + i % 2],
            pace: (pace, pace.mul_f64((i % 97) as f64 / 97.0)),
        }
    }

    fn outsider(&self, room: usize, plan: &Plan) -> Profile {
        let pace = plan.pace.1;
        Profile {
            name: format!("outsider-{room}-"),
            room: format!("room-{room}"),
            from: self.from(1, room),
            nodes: [1 + room % 2, 1 + room % 2],
            pace: (pace, pace.mul_f64((room % 89) as f64 / 89.0)),
        }
    }
}

async fn reach(progress: &watch::Sender<Progress>, what: &str, is_so: impl Fn(&Progress) -> bool) {
    let mut progress = progress.subscribe();
    let come = progress.wait_for(|progress| progress.failed > 0 || is_so(progress));
    let waited = tokio::time::timeout(4 * PATIENCE, come).await;
    let there = waited.is_ok_and(|there| there.is_ok_and(|progress| progress.failed == 0));
    assert!(there, "waited for all {what}: {:?}", *progress.borrow());
}

/// Their stories; what failed one of them fails here.
async fn stories(members: Vec<tokio::task::JoinHandle<Story>>) -> Vec<Story> {
    let all = within(4 * PATIENCE, "everyone's story", join_all(members)).await;
    all.into_iter()
        .map(|story| story.expect("no member failed"))
        .collect()
}

/// Which of the networks 127.0.N.* nginx sends to the first node, and which elsewhere.
async fn networks(nginx: &Nginx) -> [Vec<u8>; 2] {
    let mut found = [vec![], vec![]];
    for network in 1..=30 {
        let through = Connect::through(nginx).token(&token("scout"));
        let scout = through.from([127, 0, network, 1]).open().await;
        found[usize::from(scout.node_id() != NAMES[0])].push(network);
        scout.close().await;
    }
    assert!(found.iter().all(|networks| !networks.is_empty()));
    found
}
