//! One run: set the stage, let clients chat and faults strike, let everything settle, judge.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::checker::{Run, Taken, check};
use super::dice::Dice;
use super::edge::{self, Edge};
use super::fault::{Act, Fault, Schedule, Side};
use super::history::{Entry, Event, Journal, Mark};
use super::member::{Handle, Member, World};
use super::report::{self, Struck};
use super::rest::rest;
use super::sight::{Rest, check_sights};
use super::store::Store;
use super::support::nginx::Nginx;
use super::verdict::{Kind, Verdict};
use super::wire::Limbo;

/// Messages kept per room: more than any fault here lasts.
const LIMIT: u64 = 1_000;
const ROOMS: u8 = 4;
const CLIENTS: u16 = 24;
/// Members of all rooms: each client is in two.
const MEMBERS: usize = CLIENTS as usize * 2;
/// For a finding that is about no room.
const ALL_ROOMS: u8 = ROOMS;
/// How long faults strike until there is a rest.
const ROUND: Duration = Duration::from_secs(45);
/// How long clients go on chatting when the last fault is over.
const AFTER: Duration = Duration::from_secs(4);
/// How long everything may take to come to rest then; the longest takes the drop of who has vanished.
const SETTLE: Duration = Duration::from_secs(60);
/// How long a fault that strikes alone is waited for until all are served again.
const SERVED: Duration = Duration::from_secs(40);

/// What a run is to be.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How long faults strike.
    pub(crate) time: Duration,
    pub(crate) faults: Vec<Fault>,
    /// At most so many of each side.
    pub(crate) times: usize,
    /// Messages a second, of all clients.
    pub(crate) rate: u32,
    /// Rest now and then, and at the end.
    pub(crate) rests: bool,
    /// Keep it also where nothing is wrong.
    pub(crate) keep: bool,
}

impl Plan {
    /// Whether faults strike together, not one alone.
    fn is_mixed(&self) -> bool {
        self.times == usize::MAX
    }
}

/// The rooms of a client: half of them, so that every room has half of the clients.
fn rooms_of(client: u16) -> Vec<u8> {
    let first = (client % u16::from(ROOMS)) as u8;
    vec![
        first,
        (first + 1 + (client / 8) as u8 % (ROOMS - 1)) % ROOMS,
    ]
}

/// A free port that no outgoing connection takes while its server is away: those have higher ones.
fn quiet_port(n: u16) -> u16 {
    let first = 10_000 + (std::process::id() % 2_000) as u16 * 8 + n;
    (0..100)
        .map(|step| first + step * 8)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// What came of a run.
pub(crate) struct Outcome {
    /// Whether all promises were kept.
    pub(crate) is_kept: bool,
    /// Its row in the table of faults that struck alone.
    pub(crate) row: String,
}

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Outcome {
    let (mut edge, mut store) = set_stage(plan).await;
    let world = edge.world.clone();
    let (struck, rests) = strike(plan, &mut edge, &mut store).await;
    tokio::time::sleep(AFTER).await;
    edge.is_ready().await;
    world.chatting.send_replace(false);
    settle(&store, &edge).await;
    let held = edge.held();
    let stored = store.stored().await;
    let events = world.journal.take();
    let taken = taken(&struck);
    let mut verdict = check(&Run {
        events: &events,
        taken: &taken,
        stored: &stored,
        limit: LIMIT,
    });
    check_sights(&events, &rests, &mut verdict);
    if held > edge.clients.len() {
        let story = format!("{held} connections of {} clients", edge.clients.len());
        verdict.note(Kind::Lingering, ALL_ROOMS, story);
    }
    println!("{}", report::table(&struck, &events, MEMBERS, &verdict));
    tell(plan, &verdict, &struck, &events, &edge);
    Outcome {
        is_kept: verdict.is_clean() && verdict.acked > 0,
        row: report::row(&struck, &events, MEMBERS, &verdict),
    }
}

async fn set_stage(plan: &Plan) -> (Edge, Store) {
    let redis = Store::redis(quiet_port(0)).await;
    let ports = [1, 2, 3].map(quiet_port);
    let mut nodes = Vec::new();
    for port in ports {
        nodes.push(edge::node(port, &redis.url(), LIMIT).await);
    }
    let world = Arc::new(World {
        nginx: Nginx::start(ports).await,
        journal: Journal::new(),
        limbo: Limbo::default(),
        chatting: watch::Sender::new(true),
        pause: Duration::from_secs(u64::from(CLIENTS)) / plan.rate.max(1),
    });
    let start = |n| Member::start(n, rooms_of(n), &world, plan.seed);
    let clients: Arc<Vec<Handle>> = Arc::new((0..CLIENTS).map(start).collect());
    let edge = Edge::new(nodes, redis.url(), world, clients.clone());
    edge.is_ready().await;
    let store = Store {
        redis,
        clients,
        rooms: ROOMS,
    };
    // All are in their rooms before anything breaks.
    let give_up = Instant::now() + SETTLE;
    while !edge.clients.iter().all(has_joined) && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (edge, store)
}

fn lasts(client: &Handle) -> Vec<(u8, Option<Mark>)> {
    client.status.last.lock().expect("no panic").clone()
}

fn has_joined(client: &Handle) -> bool {
    let last = lasts(client);
    !last.is_empty() && last.iter().all(|(_, last)| last.is_some())
}

/// Lets faults strike until the time is over, and rests between and after them where it is to.
async fn strike(plan: &Plan, edge: &mut Edge, store: &mut Store) -> (Vec<Struck>, Vec<Rest>) {
    let world = edge.world.clone();
    let acts = |side| Schedule::new(plan.seed, side, &plan.faults).take(plan.times);
    let (mut on_edge, mut on_store) = (acts(Side::Edge), acts(Side::Store));
    let mut dice = Dice::new(plan.seed, 9);
    let (mut struck, mut rests) = (Vec::new(), Vec::new());
    let end = world.journal.now() + plan.time;
    while world.journal.now() < end {
        let round = match plan.rests && plan.is_mixed() {
            true => end.min(world.journal.now() + ROUND),
            false => end,
        };
        let round = Round {
            plan,
            journal: &world.journal,
            end: round,
        };
        let (of_edge, of_store) = tokio::join!(
            round.edge(edge, &mut on_edge),
            round.store(store, &mut on_store)
        );
        struck.extend(of_edge);
        struck.extend(of_store);
        if plan.rests {
            rests.push(rest(edge, &mut dice, LIMIT).await);
        }
        if !plan.is_mixed() {
            break;
        }
    }
    struck.sort_by_key(|act| act.from);
    (struck, rests)
}

/// A time in which both sides' faults strike.
struct Round<'a> {
    plan: &'a Plan,
    journal: &'a Journal,
    end: Duration,
}

impl Round<'_> {
    async fn edge(&self, edge: &mut Edge, acts: &mut impl Iterator<Item = Act>) -> Vec<Struck> {
        let mut struck = Vec::new();
        while let Some((act, from)) = self.next(acts).await {
            edge.strike(&act, LIMIT).await;
            struck.push(self.over(&act, from, None).await);
        }
        struck
    }

    async fn store(&self, store: &mut Store, acts: &mut impl Iterator<Item = Act>) -> Vec<Struck> {
        let mut struck = Vec::new();
        while let Some((act, from)) = self.next(acts).await {
            let room = store.strike(&act).await;
            struck.push(self.over(&act, from, room).await);
        }
        struck
    }

    /// The next fault, at its time.
    async fn next(&self, acts: &mut impl Iterator<Item = Act>) -> Option<(Act, Duration)> {
        let act = acts.next()?;
        tokio::time::sleep(act.pause).await;
        let from = self.journal.now();
        (from < self.end).then_some((act, from))
    }

    async fn over(&self, act: &Act, from: Duration, room: Option<u8>) -> Struck {
        let struck = Struck {
            fault: act.fault,
            from,
            to: self.journal.now(),
            room,
        };
        pause_after(self.plan, &struck, self.journal).await;
        struck
    }
}

/// Where a fault strikes alone, the next one waits until all are served again: what is measured of each
/// is its own.
async fn pause_after(plan: &Plan, act: &Struck, journal: &Journal) {
    let give_up = Instant::now() + SERVED;
    while !plan.is_mixed() && Instant::now() < give_up {
        if journal.read(|events| report::recovery(act, events, MEMBERS).is_some()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until nothing is unanswered and everybody has what Redis has. Nobody reconnects for it; who
/// doesn't get there is found by the checker.
async fn settle(store: &Store, edge: &Edge) {
    let clients: &[Handle] = &edge.clients;
    let give_up = Instant::now() + SETTLE;
    let is_answered = |client: &Handle| client.status.open.load(Ordering::Acquire) == 0;
    while Instant::now() < give_up {
        let all_said = clients.iter().all(|c| is_answered(c) && has_joined(c));
        let is_clear = edge.held() == clients.len();
        if all_said && is_clear && have_all(clients, &store.stored().await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    println!("not everything came to rest within {SETTLE:?}:");
    println!("  the nodes hold {} connections", edge.held());
    let stored = store.stored().await;
    let head = |room: u8| {
        stored
            .get(&room)
            .and_then(|log| log.last())
            .map_or(0, |e| e.mark.seq)
    };
    for (n, client) in clients.iter().enumerate() {
        let open = client.status.open.load(Ordering::Acquire);
        let lasts: Vec<String> = lasts(client)
            .into_iter()
            .map(|(room, last)| format!("r{room} {}/{}", last.map_or(0, |l| l.seq), head(room)))
            .collect();
        println!("  c{n}: {open} unanswered, {lasts:?}");
    }
}

fn have_all(clients: &[Handle], stored: &std::collections::BTreeMap<u8, Vec<Entry>>) -> bool {
    let newest = |room: &u8| stored.get(room)?.last().map(|entry| entry.mark);
    let has_all = |client| {
        lasts(client)
            .iter()
            .all(|(room, last)| *last == newest(room))
    };
    clients.iter().all(has_all)
}

fn taken(struck: &[Struck]) -> Vec<Taken> {
    let takes = struck.iter().filter(|act| act.fault.takes());
    takes
        .map(|act| Taken {
            from: act.from,
            to: act.to,
            room: act.room,
        })
        .collect()
}

/// Says what was found, and keeps it.
fn tell(plan: &Plan, verdict: &Verdict, struck: &[Struck], events: &[Event], edge: &Edge) {
    if verdict.is_clean() && !plan.keep {
        return;
    }
    verdict
        .findings
        .iter()
        .take(40)
        .for_each(|finding| println!("{finding}"));
    let logs = [
        ("nodes.log", edge.logs()),
        ("nginx.log", edge.world.nginx.logs()),
    ];
    let fault = match plan.faults[..] {
        [alone] => alone.name(),
        _ => "mixed",
    };
    let name = format!("seed-{}-{fault}", plan.seed);
    match report::keep(&name, &verdict.findings, struck, events, &logs) {
        Ok(dir) => println!(
            "the run is kept in {}; --seed {} replays its faults",
            dir.display(),
            plan.seed
        ),
        Err(error) => println!("the run can't be kept: {error}"),
    }
}
