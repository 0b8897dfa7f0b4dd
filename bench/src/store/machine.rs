//! What the machine says of a process and its directory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;

const EVERY: Duration = Duration::from_millis(50);

/// Anonymous memory of a process: RssAnon of /proc/PID/status.
pub(super) fn anonymous_bytes(pid: u32) -> Result<u64, Error> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no RssAnon")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

/// Bytes that a directory's files take on the disk.
pub(super) fn disk_bytes(directory: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        // One may go while it is looked at.
        bytes += entry?.metadata().map_or(0, |meta| meta.blocks() * 512);
    }
    Ok(bytes)
}

/// Writes everything out and empties the page cache; false where that is not allowed.
pub(super) fn drop_caches() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// In mebibytes.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The highest of a figure that is looked at over and over.
struct Highest {
    stop: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Highest {
    fn watch(look: impl Fn() -> Result<u64, Error> + Send + 'static) -> Self {
        let (stop, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, most) = (Arc::clone(&stop), Arc::clone(&highest));
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                most.fetch_max(look().unwrap_or(0), Ordering::Relaxed);
                thread::sleep(EVERY);
            }
        });
        Self { stop, highest, thread }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        // It panics nowhere.
        drop(self.thread.join());
        self.highest.load(Ordering::Relaxed)
    }
}

/// The highest anonymous memory of a process over a time.
pub(super) struct Peak(Highest);

impl Peak {
    pub(super) fn watch(pid: u32) -> Self {
        Self(Highest::watch(move || anonymous_bytes(pid)))
    }

    pub(super) fn end(self) -> u64 {
        self.0.end()
    }
}

/// The most that a directory's files took over a time.
pub(super) struct DiskPeak(Highest);

impl DiskPeak {
    pub(super) fn watch(directory: &Path) -> Self {
        let directory = PathBuf::from(directory);
        Self(Highest::watch(move || disk_bytes(&directory)))
    }

    pub(super) fn end(self) -> u64 {
        self.0.end()
    }
}
