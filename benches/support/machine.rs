//! The machine: what it is, which core is whose, and how many files may be open.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Result;

/// Open files that are no client's: listener, epoll, logs, the broker's, and the 256 that the server
/// itself keeps back of its limit.
const OTHER_FILES: usize = 512;

/// Cores and limits, after [`Machine::prepare`] has claimed them.
pub(crate) struct Machine {
    /// How many cores this process was given.
    pub(crate) cores: usize,
    /// The core of the server and the one of everything else; `None` on a machine with one core.
    split: Option<(usize, usize)>,
    open_files: usize,
}

impl Machine {
    /// Moves this thread to the core of the load and raises the soft limit of open files to the
    /// hard one, which the children inherit.
    pub(crate) fn prepare() -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&core| allowed.is_set(core))
            .collect();
        let limit = getrlimit(Resource::Nofile).maximum;
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )?;
        let machine = Self {
            cores: cores.len(),
            split: (cores.len() > 1).then(|| (cores[0], cores[1])),
            open_files: limit.map_or(usize::MAX, |files| {
                usize::try_from(files).unwrap_or(usize::MAX)
            }),
        };
        machine.on_load_core()?;
        Ok(machine)
    }

    /// Runs `spawn` on the server's core: a process inherits the cores of the thread that starts it,
    /// and so do all threads it ever makes.
    pub(crate) fn on_server_core<T>(&self, spawn: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some((server, _)) = self.split {
            pin(server)?;
        }
        let spawned = spawn();
        self.on_load_core()?;
        spawned
    }

    fn on_load_core(&self) -> Result<()> {
        self.split.map_or(Ok(()), |(_, load)| pin(load))
    }

    /// Connections that the limit of open files allows, where each takes so many of this process's.
    pub(crate) fn most_connections(&self, files_each: usize) -> usize {
        self.open_files.saturating_sub(OTHER_FILES) / files_each.max(1)
    }

    /// Its processor, kernel and memory, in words.
    pub(crate) fn kind(&self) -> String {
        let line = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.map(|value| value.trim_matches([' ', '\t', ':']).to_owned())
        };
        let unknown = || "unknown".to_owned();
        let processor = line("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
        let kernel = line("/proc/sys/kernel/osrelease", "").unwrap_or_else(unknown);
        let memory = line("/proc/meminfo", "MemTotal").and_then(|memory| {
            let kilobytes: f64 = memory.strip_suffix(" kB")?.parse().ok()?;
            Some(format!("{:.0} GiB", kilobytes / f64::from(1 << 20)))
        });
        let memory = memory.unwrap_or_else(unknown);
        format!("{processor}, kernel {kernel}, {memory} of memory")
    }

    /// Which core does what, in words.
    pub(crate) fn placement(&self) -> String {
        match self.split {
            Some((server, load)) => {
                format!(
                    "servers (and the floor's writer) on core {server}, load and Redis on core {load}"
                )
            }
            None => "server, load and Redis share the one core, so the figures are not comparable"
                .to_owned(),
        }
    }
}

fn pin(core: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(core);
    Ok(sched_setaffinity(None, &only)?)
}
