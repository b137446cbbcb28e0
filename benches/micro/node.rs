//! A hub with members in a room; and one append as it goes to a real Redis and comes back, with the bytes that
//! Redis was sent for it.

use std::sync::Arc;
use std::task::Waker;

use criterion::{BatchSize, Criterion, Throughput};
use piazza::auth::{Identity, Verifier};
use piazza::broker::toll::Pays;
use piazza::broker::{self, Deliver, Draft};
use piazza::config::Config;
use piazza::connection::Handler;
use piazza::connection::refresh::Pass;
use piazza::connection::session::{Bounds, Session};
use piazza::connection::wire::{Incoming, Outflow};
use piazza::hub::Hub;
use piazza::hub::peer::Peer;
use piazza::id::{MessageId, RoomId, UserId};
use piazza::protocol::Metrics;
use piazza::protocol::request::Limits;
use tokio::runtime::Runtime;

use crate::support::Redis;
use crate::way::{Source, body};

/// Bytes that are copied for one write.
const WRITE: usize = 64 * 1024;

fn alone(config: &Config) -> Hub {
    let (broker, _) = broker::build(config).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    Hub::new(broker, metrics, config.history_limit, 500)
}

/// A member, given what there is for it as a connection's task does.
fn take(member: &mut Session, out: &mut Vec<u8>) -> usize {
    let bits = member.dirty(Waker::noop());
    assert!(member.woken(bits).is_none());
    while member.has_work() {
        assert!(member.work(out).is_none());
    }
    let replies = out.len();
    member.fill(out, WRITE);
    let filled = out.len() - replies;
    member.settle(&out[replies..], filled, false);
    let taken = out.len();
    out.clear();
    taken
}

fn member(hub: &Hub, config: &Config, nth: usize) -> Session {
    let identity = Identity {
        user: UserId::parse(&format!("user-{nth}")).unwrap(),
        username: "Somebody".into(),
        expires_at: 4_000_000_000,
        grants: Default::default(),
        role: Default::default(),
    };
    let bounds = Bounds {
        request: Limits {
            max_text: config.max_text,
            history: config.history_limit,
        },
        rooms: 200,
        rate: None,
    };
    let peer = Arc::new(Peer::new(&identity));
    let pass = Pass::new(identity, Verifier::new(&config.jwt));
    Session::new(hub.clone(), peer, pass, Arc::new(bounds))
}

/// One message to a room, taken by all of its members; no socket is in it.
pub(crate) fn deliveries(c: &mut Criterion) {
    let config = Config::dev(&|_| None).unwrap();
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let mut group = c.benchmark_group("delivery");
    for size in [10, 1_000] {
        let (hub, room) = (alone(&config), RoomId::parse("lobby").unwrap());
        let mut out = Vec::new();
        let mut members: Vec<Session> = (0..size).map(|nth| member(&hub, &config, nth)).collect();
        let join = format!(r#"{{"type":"join","payload":{{"roomId":"{room}"}}}}"#);
        for member in &mut members {
            member.message(Incoming::Text(join.as_bytes()), &mut out);
            let mut given = 0;
            while given == 0 {
                runtime.block_on(tokio::task::yield_now());
                given = take(member, &mut out);
            }
        }
        members.iter_mut().for_each(|member| {
            take(member, &mut out);
        });
        let mut source = Source::new(&room);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("room of {size}"), |b| {
            let payload = || source.next(1);
            b.iter_batched(
                payload,
                |payload| {
                    hub.deliver(room.as_str(), &payload);
                    for member in &mut members {
                        assert!(take(member, &mut out) > 0);
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Bytes that Redis was sent so far.
fn sent(runtime: &Runtime, redis: &Redis) -> u64 {
    let stats: String = runtime.block_on(redis.cli(&["INFO", "stats"]));
    let name = "total_net_input_bytes:";
    let bytes = stats.lines().find_map(|line| line.strip_prefix(name));
    bytes.and_then(|bytes| bytes.trim().parse().ok()).unwrap()
}

/// One call, its way to Redis and back included.
pub(crate) fn append(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let redis = runtime.block_on(Redis::start());
    let config = Config::read(&|name| match name {
        "JWT_SECRET" => Some("a secret of at least 32 bytes, for tests".to_owned()),
        "RATE_LIMIT_MESSAGES" => Some("0".to_owned()),
        "REDIS_URL" => Some(redis.url()),
        _ => None,
    })
    .unwrap();
    let (broker, driver) = broker::build(&config).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let hub = Hub::new(broker, metrics, config.history_limit, 500);
    let up = hub.clone();
    runtime.spawn(async move { driver.run(up.broker(), up.clone()).await });
    runtime.block_on(hub.broker().up());
    let room = RoomId::parse("lobby").unwrap();
    let draft = || Draft {
        id: MessageId::random(),
        former: Vec::new(),
        user: UserId::parse("user-1").unwrap(),
        client_id: None,
        timestamp: 1_700_000_000_000,
        body: body(&room),
        pays: Pays::Nothing,
    };
    let call = |count: usize| {
        let drafts: Vec<Draft> = std::iter::repeat_with(draft).take(count).collect();
        let appended = runtime.block_on(hub.broker().append(&room, &drafts, None, &hub));
        assert_eq!(appended.unwrap().outcomes.len(), count);
    };
    let mut group = c.benchmark_group("append");
    for count in [1, 8, 64] {
        call(count);
        let before = sent(&runtime, &redis);
        (0..100).for_each(|_| call(count));
        let bytes = (sent(&runtime, &redis) - before) / 100;
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(format!("{count} messages, {bytes} bytes"), |b| {
            b.iter(|| call(count));
        });
    }
    group.finish();
}
