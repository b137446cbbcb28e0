//! A message's way: the request, its form in the log and on the channel, the gate, and a member that reads on.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use piazza::broker::payload;
use piazza::history::{Capped, View};
use piazza::hub::log::Log;
use piazza::id::Seq;
use piazza::protocol::request::{self, Limits};
use piazza::protocol::{frame, message};

use crate::stand::{Source, TEXT, room};

/// Messages of a batch.
const BATCH: usize = 8;

pub(crate) fn requests(c: &mut Criterion) {
    let limits = Limits {
        max_text: 2_000,
        history: 100,
    };
    let long = "x".repeat(2_000);
    let message = |text: &str| {
        format!(
            r#"{{"type":"message","id":"7","payload":{{"roomId":"lobby","clientId":"c-17","text":"{text}"}}}}"#
        )
    };
    let join =
        r#"{"type":"join","payload":{"roomId":"lobby","since":{"seq":3,"id":"abcDEF012_-x"}}}"#;
    let kinds = [
        ("message", message(TEXT)),
        ("long message", message(&long)),
        ("join", join.to_owned()),
        ("no JSON", "{\"type\":\"message\",".to_owned()),
    ];
    let mut group = c.benchmark_group("request");
    for (name, frame) in kinds {
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| request::parse(black_box(frame.as_bytes()), limits));
        });
    }
    group.finish();
}

pub(crate) fn frames(c: &mut Criterion) {
    let entry = Source::new(&room("lobby")).entry();
    let mut out = Vec::with_capacity(1_024);
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Bytes(entry.len() as u64));
    group.bench_function("message", |b| {
        b.iter(|| {
            out.clear();
            frame::put_text(&mut out, black_box(&entry));
        });
    });
    group.finish();
}

pub(crate) fn payloads(c: &mut Criterion) {
    let mut source = Source::new(&room("lobby"));
    let first = source.entry();
    let prev = message::mark(&first).unwrap().id;
    let mut group = c.benchmark_group("payload");
    for count in [1, BATCH] {
        let entries: Vec<Vec<u8>> = (0..count).map(|_| source.entry()).collect();
        let build = || payload::messages(Some(prev), entries.iter().map(|entry| &entry[..]));
        let built = build();
        group.throughput(Throughput::BytesDecimal(built.len() as u64));
        group.bench_function(format!("build, {count}"), |b| b.iter(build));
        group.bench_function(format!("parse, {count}"), |b| {
            b.iter(|| payload::parse(black_box(&built)).is_some());
        });
    }
    group.finish();
}

fn live(source: &mut Source) -> Log {
    let mut log = Log::new(100);
    let wanted = log.wanted();
    assert!(log.loaded(&room("lobby"), &Capped::default().read(wanted)));
    // Beyond what a tail keeps.
    for _ in 0..2_000 {
        assert!(log.deliver(&source.next()).grew);
    }
    log
}

pub(crate) fn gate(c: &mut Criterion) {
    let mut group = c.benchmark_group("gate");
    for count in [1, BATCH] {
        let mut source = Source::new(&room("lobby"));
        let mut log = live(&mut source);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("payload of {count}"), |b| {
            let payload = || source.batch(count);
            // One at a time: they fit in the order in which they are made.
            b.iter_batched(
                payload,
                |payload| assert!(log.deliver(&payload).grew),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

pub(crate) fn drain(c: &mut Criterion) {
    let mut source = Source::new(&room("lobby"));
    let log = live(&mut source);
    let tail = log.tail();
    let newest = tail.head().unwrap().seq;
    let mut group = c.benchmark_group("drain");
    for count in [1, 16, 256] {
        let cursor = tail.cursor_after(Seq(newest.0.saturating_sub(count)).max(tail.first()));
        let bytes = tail.end() - cursor;
        let mut out = Vec::with_capacity(bytes as usize);
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(format!("up to {count} messages"), |b| {
            b.iter(|| {
                out.clear();
                tail.read(black_box(cursor), false, 64 * 1024, &mut out)
            });
        });
        assert!(!out.is_empty());
    }
    group.finish();
}
