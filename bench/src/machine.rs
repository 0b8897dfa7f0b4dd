//! What the machine says of itself, of a process and its directory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Error;

const EVERY: Duration = Duration::from_millis(50);
/// A machine at rest is looked at for so long.
const REST: Duration = Duration::from_millis(250);
/// And has nothing to do for most of it: this part of the processors, or of the disk, is taken at most.
const REST_TAKEN: f64 = 0.05;

/// Anonymous memory of a process: RssAnon of /proc/PID/status.
pub(crate) fn anonymous_bytes(pid: u32) -> Result<u64, Error> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no RssAnon")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

/// What a process has taken of all cores, in its own and the kernel's name.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may have any character in it: state is the first field, utime and stime the 12th and 13th.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The process of this name that another one, or one that it started, has started.
pub(crate) fn descendant(of: u32, name: &str) -> Option<u32> {
    let mut parents = std::collections::BTreeMap::new();
    let mut named = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, fields)) = stat.rsplit_once(')') else { continue };
        let Some(parent) = fields.split_whitespace().nth(1).and_then(|text| text.parse::<u32>().ok()) else {
            continue;
        };
        parents.insert(pid, parent);
        if head.split_once('(').is_some_and(|(_, found)| found == name) {
            named.push(pid);
        }
    }
    let is_below = |mut pid: u32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == of {
                return true;
            }
            pid = *parent;
        }
        false
    };
    named.into_iter().find(|pid| is_below(*pid))
}

/// The disk of a directory, and how often it has been told to flush its cache.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    device: (u32, u32),
}

impl Disk {
    pub(crate) fn of(directory: &Path) -> Result<Self, Error> {
        let device = std::fs::metadata(directory)?.dev();
        Ok(Self { device: (rustix::fs::major(device), rustix::fs::minor(device)) })
    }

    /// Flushes so far, by whomever; None where the kernel does not count them (before 5.5, or on a device that has none).
    pub(crate) fn flushes(&self) -> Option<u64> {
        field_of(&std::fs::read_to_string("/proc/diskstats").ok()?, self.device, FLUSHES)
    }

    /// Flushes per second that others cause.
    pub(crate) fn flushes_at_rest(&self, duration: Duration) -> Option<f64> {
        let before = self.flushes()?;
        thread::sleep(duration);
        Some((self.flushes()? - before) as f64 / duration.as_secs_f64())
    }

    /// Waits until processors and disk have next to nothing to do, so that no run pays for what one before it left to be
    /// done behind it. False if that does not come within the limit, or cannot be known.
    pub(crate) fn wait_for_rest(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        let Some(mut before) = self.worked() else { return false };
        while begun.elapsed() < limit {
            let (then, _) = (Instant::now(), thread::sleep(REST));
            let Some(now) = self.worked() else { return false };
            let part = |work: Duration, workers: usize| {
                work.as_secs_f64() / then.elapsed().as_secs_f64() / workers as f64
            };
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let processors = part(now.0.saturating_sub(before.0), cores);
            let disk = part(now.1.saturating_sub(before.1), 1);
            if processors <= REST_TAKEN && disk <= REST_TAKEN {
                return true;
            }
            before = now;
        }
        false
    }

    /// Time that all processors together, and that the disk, have worked so far, for whomever.
    fn worked(&self) -> Option<(Duration, Duration)> {
        let processors = busy_time(&std::fs::read_to_string("/proc/stat").ok()?)?;
        let disk = field_of(&std::fs::read_to_string("/proc/diskstats").ok()?, self.device, IO_MS)?;
        Some((processors, Duration::from_millis(disk)))
    }
}

/// What the processors' time has gone to so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Processors {
    ticks: u64,
    /// Of them taken by the host, for somebody else, while there was work to do here.
    stolen: u64,
}

impl Processors {
    pub(crate) fn now() -> Result<Self, Error> {
        Self::of(&std::fs::read_to_string("/proc/stat")?).ok_or_else(|| "no processors in /proc/stat".into())
    }

    /// The eighth figure of the first line (proc_stat(5)); guests' time, behind it, is in users' time.
    fn of(stat: &str) -> Option<Self> {
        let all = stat.lines().next()?.strip_prefix("cpu ")?;
        let figures: Vec<u64> = all.split_whitespace().map_while(|text| text.parse().ok()).take(8).collect();
        Some(Self { ticks: figures.iter().sum(), stolen: *figures.get(7)? })
    }

    /// The part of the time since then that the host took.
    pub(crate) fn stolen_since(self, then: Self) -> f64 {
        let ticks = self.ticks.saturating_sub(then.ticks).max(1);
        self.stolen.saturating_sub(then.stolen) as f64 / ticks as f64
    }
}

/// All but idle and iowait, the fourth and fifth figure of the first line (proc_stat(5)); guests' time is in users' time.
fn busy_time(stat: &str) -> Option<Duration> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let figures: Vec<u64> = all.split_whitespace().map_while(|text| text.parse().ok()).take(8).collect();
    let idle = figures.get(3)? + figures.get(4)?;
    let ticks = figures.iter().sum::<u64>() - idle;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Figures behind the name, counted from 0, as Documentation/admin-guide/iostats.rst has them: milliseconds in which
/// something was under way, and flushes.
const IO_MS: usize = 9;
const FLUSHES: usize = 15;

fn field_of(diskstats: &str, (major, minor): (u32, u32), figure: usize) -> Option<u64> {
    let lines = diskstats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut lines = lines.filter(|fields| fields.len() > 2);
    let line = lines.find(|fields| fields[0].parse() == Ok(major) && fields[1].parse() == Ok(minor))?;
    line.get(3 + figure)?.parse().ok()
}

/// What a figure was measured on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
}

impl Machine {
    /// This one, with the file system of a directory.
    pub(crate) fn of(directory: &Path) -> Result<Self, Error> {
        let (cpus, mounts) =
            (std::fs::read_to_string("/proc/cpuinfo")?, std::fs::read_to_string("/proc/mounts")?);
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok(Self {
            cores: thread::available_parallelism()?.get(),
            cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: format!("Linux {}", kernel.trim().split('-').next().unwrap_or_default()),
            file_system: file_system_of(&mounts, &directory.canonicalize()?).unwrap_or("unknown").to_owned(),
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}, {}, {}", self.cores, self.cpu, self.kernel, self.file_system)
    }
}

/// Of the longest mount point that the directory lies below; of two alike, the one mounted over the other.
fn file_system_of<'a>(mounts: &'a str, directory: &Path) -> Option<&'a str> {
    let lines = mounts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let points = lines.filter(|fields| fields.len() > 2 && directory.starts_with(fields[1]));
    points.max_by_key(|fields| fields[1].len()).map(|fields| fields[2])
}

/// Bytes that a directory's files take on the disk.
pub(crate) fn disk_bytes(directory: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        // One may go while it is looked at.
        bytes += entry?.metadata().map_or(0, |meta| meta.blocks() * 512);
    }
    Ok(bytes)
}

/// Writes everything out and empties the page cache; false where that is not allowed.
pub(crate) fn drop_caches() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// In mebibytes.
pub(crate) fn mib(bytes: u64) -> String {
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
pub(crate) struct Peak(Highest);

impl Peak {
    pub(crate) fn watch(pid: u32) -> Self {
        Self(Highest::watch(move || anonymous_bytes(pid)))
    }

    pub(crate) fn end(self) -> u64 {
        self.0.end()
    }
}

/// The most that a directory's files took over a time.
pub(crate) struct DiskPeak(Highest);

impl DiskPeak {
    pub(crate) fn watch(directory: &Path) -> Self {
        let directory = PathBuf::from(directory);
        Self(Highest::watch(move || disk_bytes(&directory)))
    }

    pub(crate) fn end(self) -> u64 {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_processors_wait_is_not_time_that_they_work() {
        let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        let time = busy_time("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 7 7 7 7\n");
        assert_eq!(time, Some(Duration::from_secs_f64(63.0 * tick)));
        assert_eq!(busy_time("intr 5"), None);
    }

    #[test]
    fn what_the_host_took_is_a_part_of_all_the_time() {
        let then = Processors::of("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 7 7 7 7\n").unwrap();
        let now = Processors::of("cpu  11 2 4 1070 2000 8 16 52 64 128\n").unwrap();
        assert_eq!(now.stolen_since(then), 0.2);
        assert_eq!(now.stolen_since(now), 0.0);
        assert_eq!(Processors::of("cpu  1 2 3 4\n"), None);
        assert!(Processors::now().is_ok());
    }

    #[test]
    fn flushes_are_those_of_the_device() {
        let text = "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n 254       0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n\
                    254 1 vda1 1 2 3\n";
        assert_eq!(field_of(text, (254, 0), FLUSHES), Some(16));
        assert_eq!(field_of(text, (254, 0), IO_MS), Some(10));
        // A kernel that counts none.
        assert_eq!(field_of(text, (254, 1), FLUSHES), None);
        assert_eq!(field_of(text, (8, 0), FLUSHES), None);
    }

    #[test]
    fn the_file_system_is_that_of_the_innermost_mount() {
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw 0 0\ntmpfs /database tmpfs rw 0 0\n";
        assert_eq!(file_system_of(mounts, Path::new("/data/x")), Some("xfs"));
        assert_eq!(file_system_of(mounts, Path::new("/dat")), Some("ext4"));
        assert_eq!(file_system_of(mounts, Path::new("/database")), Some("tmpfs"));
    }

    #[test]
    fn this_process_has_memory_and_takes_time_and_starts_others() {
        let pid = std::process::id();
        assert!(anonymous_bytes(pid).unwrap() > 0);
        assert!(cpu_time(pid).is_ok());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let parent = std::os::unix::process::parent_id();
        let found = (0..500).find_map(|_| {
            thread::sleep(Duration::from_millis(10));
            descendant(parent, "sleep").filter(|found| *found == child.id())
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some(child.id()));
    }
}
