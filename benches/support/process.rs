//! Child processes: each ends with its guard, on a panic and on a signal too; and what a process
//! has used so far.

use std::fs;
use std::process::{Child, ChildStdout, Command, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::Result;

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// Everything started and not yet ended. Whoever takes a child out ends it, so that no process id is
/// ever signalled after it was reaped.
static RUNNING: Mutex<Vec<Child>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Child>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that ends when this is dropped: SIGTERM, three seconds later SIGKILL.
pub(crate) struct Running {
    pub(crate) id: u32,
    /// Where the command asked for a pipe.
    pub(crate) stdout: Option<ChildStdout>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        // under the lock, so that a signal finds either no process or a listed one
        let mut list = running();
        let mut child = command
            .spawn()
            .map_err(|e| format!("{}: {e}", command.get_program().display()))?;
        let started = Self {
            id: child.id(),
            stdout: child.stdout.take(),
        };
        list.push(child);
        Ok(started)
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        let mut list = running();
        let child = list.iter_mut().find(|child| child.id() == self.id);
        child.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut list = running();
        let child = list
            .iter()
            .position(|child| child.id() == self.id)
            .map(|at| list.remove(at));
        drop(list);
        if let Some(child) = child {
            end(child);
        }
    }
}

fn end(mut child: Child) {
    // once: to many a server a second signal means to drop everything at once
    if matches!(child.try_wait(), Ok(None)) {
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
    }
    let deadline = Instant::now() + GRACE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            // an error here means that it just ended, which `wait` then reports
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// From here on SIGINT and SIGTERM end every child before this process.
pub(crate) fn end_all_on_signal() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        });
        // held to the end: nothing new starts any more; servers go before the Redis they use
        let mut list = running();
        list.drain(..).rev().for_each(end);
        exit(130)
    });
    Ok(())
}

/// CPU time of all threads of a process so far.
///
/// The scheduler's nanoseconds of the threads that live; or, if that is more, user and system time in
/// ticks of 10 ms, which hold also what threads used that are gone.
pub(crate) fn cpu_time(id: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // the second field is the program's name in parentheses, which may hold anything
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        // a thread may end between being listed and being read
        let schedstat = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += schedstat
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds).max(Duration::from_millis(ticks * 10)))
}

/// What the kernel holds for itself and for what lies in sockets, in bytes, of the whole machine.
pub(crate) fn kernel_memory() -> Result<u64> {
    let memory = fs::read_to_string("/proc/meminfo")?;
    let slab = number_after(&memory, "Slab:").ok_or("no Slab in /proc/meminfo")?;
    let sockets = fs::read_to_string("/proc/net/sockstat")?;
    let tcp = sockets.lines().find(|line| line.starts_with("TCP:"));
    let pages = tcp.and_then(|tcp| number_after(tcp, " mem "));
    let pages = pages.ok_or("no memory of TCP in /proc/net/sockstat")?;
    Ok(slab * 1024 + pages * rustix::param::page_size() as u64)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(name)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// CPU time that the whole machine has used so far, in ticks of 10 ms; guests are part of user time. What
/// a hypervisor gave to other machines counts: nobody here had it.
pub(crate) fn machine_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let first = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    let ticks = first
        .take(8)
        .map(str::parse::<u64>)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let &[user, nice, system, _idle, _iowait, irq, softirq, steal] = &ticks[..] else {
        return Err("an unknown /proc/stat".into());
    };
    Ok(Duration::from_millis(
        (user + nice + system + irq + softirq + steal) * 10,
    ))
}

/// Anonymous memory of a process that is resident now, in bytes.
pub(crate) fn anonymous_memory(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no RssAnon in /proc")?
        .parse()?;
    Ok(kib * 1024)
}
