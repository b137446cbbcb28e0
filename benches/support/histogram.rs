//! Latencies in buckets 1.6 % wide: a few nanoseconds to record, 30 KiB whatever is recorded.

use std::time::Duration;

/// Buckets of each power of two.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.ilog2();

/// Counts of nanoseconds, up to any `u64`.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; bucket(u64::MAX) + 1],
            total: 0,
            longest: Duration::ZERO,
        }
    }

    #[inline]
    pub(crate) fn record(&mut self, latency: Duration) {
        self.counts[bucket(latency.as_nanos() as u64)] += 1;
        self.total += 1;
        self.longest = self.longest.max(latency);
    }

    /// Takes in what another one has recorded.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// A value that this share (0 to 1) of the recorded ones don't exceed, 1.6 % too high at most: the upper
    /// edge of a bucket, or the longest. Zero when there are none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        Duration::from_nanos(at.map_or(0, highest)).min(self.longest)
    }
}

/// Below 64 each value has its own bucket; above, the six bits after the leading one choose it.
fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    (u64::from(shift + 1) * STEPS + (value >> shift) - STEPS) as usize
}

/// The largest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    match bucket / STEPS {
        0 => bucket,
        shift => ((bucket % STEPS + STEPS) << (shift - 1)) + ((1 << (shift - 1)) - 1),
    }
}
