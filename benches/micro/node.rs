//! A hub with members in a room; and one append as it goes to a real Redis and comes back, with the bytes that
//! Redis was sent for it.

use criterion::{BatchSize, Criterion, Throughput};
use piazza::broker::{Deliver, Draft};
use tokio::runtime::Runtime;

use crate::stand::{Node, Source, TEXT, draft, room};
use crate::support::Redis;

/// One message to a room, taken by all of its members; no socket is in it.
pub(crate) fn deliveries(c: &mut Criterion) {
    let mut group = c.benchmark_group("delivery");
    for size in [10, 1_000] {
        let (node, room) = (Node::alone(500), room("lobby"));
        let _guard = node.runtime.enter();
        let mut out = Vec::new();
        let mut members = node.members(0, size, std::slice::from_ref(&room));
        members.iter_mut().for_each(|member| {
            member.take(&mut out);
        });
        let mut source = Source::new(&room);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("room of {size}"), |b| {
            b.iter_batched(
                || source.next(),
                |payload| {
                    node.hub.deliver(room.as_str(), &payload);
                    for member in &mut members {
                        assert!(member.take(&mut out) > 0);
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
    let (node, room) = (Node::with_redis(&redis.url()), room("lobby"));
    let call = |count: usize| {
        let drafts: Vec<Draft> = (0..count).map(|_| draft(&room, TEXT)).collect();
        let appended = node.wait(node.hub.broker().append(&room, &drafts, None, &node.hub));
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
