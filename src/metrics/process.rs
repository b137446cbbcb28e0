//! What the operating system says of this process, under the names that all Prometheus clients use.
//! Asked for at each reading; what can't be had keeps its last value.

use std::time::SystemTime;

use prometheus::core::{AtomicF64, GenericCounter};
use prometheus::{Error, Gauge, IntGauge};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::New;

/// The process' metrics.
pub(super) struct Process {
    cpu: GenericCounter<AtomicF64>,
    memory: IntGauge,
    open_files: IntGauge,
    max_files: IntGauge,
}

impl Process {
    pub(super) fn new(new: &New<'_>) -> Result<Process, Error> {
        let start = new.add(Gauge::new(
            "process_start_time_seconds",
            "when this process began to serve, in seconds since 1970",
        )?)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        start.set(now.unwrap_or_default().as_secs_f64());
        Ok(Process {
            cpu: new.counter(
                "process_cpu_seconds_total",
                "user and system CPU time that this process took",
            )?,
            memory: new.gauge(
                "process_resident_memory_bytes",
                "memory that this process holds",
            )?,
            open_files: new.gauge("process_open_fds", "open file descriptors")?,
            max_files: new.gauge(
                "process_max_fds",
                "file descriptors that may be open at once",
            )?,
        })
    }

    /// Looks once more. One at a time: a counter is moved by the difference.
    pub(super) fn look(&self) {
        let cpu = cpu_seconds();
        self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        set(&self.memory, resident_bytes());
        set(&self.open_files, open_files());
        set(&self.max_files, getrlimit(Resource::Nofile).current);
    }
}

fn set(gauge: &IntGauge, value: Option<u64>) {
    if let Some(value) = value {
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

/// User and system CPU time that this process took.
pub fn cpu_seconds() -> f64 {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9
}

/// Bytes of memory that this process holds; `None` where the system doesn't say. The second number of `/proc/self/statm`, in pages: proc_pid_statm(5).
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Since Linux 6.2 the folder's size is the count; before, its entries (one of which is the folder as it
/// is read) have to be counted.
fn open_files() -> Option<u64> {
    match std::fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}
