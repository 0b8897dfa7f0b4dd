//! A directory of the machine.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::direct::RealDirect;
use super::map::RealMap;
use super::{Disk, DiskFile, DiskMap, SyncTimes, ZEROS};
use crate::error::{Error, Result};

/// A directory of the machine, locked against other processes for as long as this lives.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
    dir_handle: File,
    _lock: File,
    times: Arc<Times>,
}

#[derive(Debug, Default)]
struct Times {
    buckets: [AtomicU64; 32],
    total_us: AtomicU64,
}

#[derive(Debug)]
struct RealFile {
    file: Arc<File>,
    /// The same file for writes past the page cache, from the first one on; None where it takes none.
    direct: OnceLock<Option<RealDirect>>,
    times: Arc<Times>,
}

/// A quota that is used up is a disk that is full: of one kind for all who ask, so that nobody takes it for a broken disk.
pub(super) fn full_is_full(error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    match error.kind() {
        io::ErrorKind::QuotaExceeded => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => error,
    }
}

/// So many pieces of zeros in one write.
const ZEROS_A_WRITE: usize = 16;

/// Messages and hashes of passwords are nobody else's, whoever may look into the directory.
const FILE_MODE: u32 = 0o600;

/// Name of the lock file. It stays when the process ends; the lock does not.
pub(crate) const LOCK_NAME: &str = "LOCK";

impl RealDisk {
    /// Makes the directory if need be, its name durable, and locks it.
    pub fn open(dir: &Path) -> Result<Self> {
        let name = dir.display().to_string();
        create_durably(dir).map_err(Error::io("create the data directory", &name))?;
        Self::open_existing(dir)
    }

    /// Locks a directory that exists.
    pub fn open_existing(dir: &Path) -> Result<Self> {
        let name = dir.display().to_string();
        let dir_handle = File::open(dir).map_err(Error::io("open the data directory", &name))?;
        let lock_path = dir.join(LOCK_NAME);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(FILE_MODE)
            .open(&lock_path)
            .map_err(Error::io("write to the data directory: open", lock_path.display().to_string()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_path_buf(), dir_handle, _lock: lock, times: Arc::default() }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: name }),
            Err(TryLockError::Error(source)) => Err(Error::Io { op: "lock", file: name, source }),
        }
    }
}

/// Makes a directory, and those above it that are missing, and makes their names durable: what is synced within a
/// directory is lost with the directory's own name.
fn create_durably(dir: &Path) -> io::Result<()> {
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if dir.is_dir() {
        // A start that was killed may have made it a moment ago.
        return sync_names(above);
    }
    create_durably(above)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made?,
    }
    sync_names(above)
}

/// Makes the names in a directory durable, where it is ours to read: who keeps us from that answers for them.
fn sync_names(dir: &Path) -> io::Result<()> {
    match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => match opened?.sync_all() {
            // It cannot be synced, or not be changed: a mount point's directory may be of another kind than what is mounted.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Ok(())
            }
            synced => synced,
        },
    }
}

impl RealDisk {
    /// Bytes of the file system, free or not.
    pub fn total_space(&self) -> io::Result<u64> {
        let stat = statvfs(&self.dir)?;
        Ok(stat.f_blocks * stat.f_frsize)
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if let (true, Ok(name)) = (meta.is_file(), entry.file_name().into_string()) {
                files.push((name, meta.len()));
            }
        }
        files.retain(|(name, _)| name != LOCK_NAME);
        files.sort();
        Ok(files)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        let file = options.open(self.dir.join(name)).map_err(full_is_full)?;
        let file = RealFile::new(file, &self.times);
        if bytes > 0
            && let Err(error) = file.make_room(bytes)
        {
            drop(fs::remove_file(self.dir.join(name)));
            return Err(full_is_full(error));
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.dir.join(name))?;
        Ok(Arc::new(RealFile::new(file, &self.times)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to)).map_err(full_is_full)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir_handle.sync_all()
    }

    fn free_space(&self) -> io::Result<u64> {
        let stat = statvfs(&self.dir)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    fn sync_times(&self) -> SyncTimes {
        SyncTimes {
            buckets: std::array::from_fn(|i| self.times.buckets[i].load(Ordering::Relaxed)),
            total_us: self.times.total_us.load(Ordering::Relaxed),
        }
    }
}

fn write_zeros_now(file: &File, mut offset: u64, bytes: u64) -> io::Result<()> {
    let end = offset + bytes;
    while offset < end {
        let rest = (end - offset).min((ZEROS_A_WRITE * ZEROS.len()) as u64) as usize;
        let mut parts = [IoSlice::new(ZEROS); ZEROS_A_WRITE];
        let count = rest.div_ceil(ZEROS.len());
        parts[count - 1] = IoSlice::new(&ZEROS[..(rest - 1) % ZEROS.len() + 1]);
        match rustix::io::pwritev(file, &parts[..count], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => offset += written as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl RealFile {
    fn new(file: File, times: &Arc<Times>) -> Self {
        Self { file: Arc::new(file), direct: OnceLock::new(), times: Arc::clone(times) }
    }

    /// Gives a new file its length, and the room for it.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&*self.file, FallocateFlags::empty(), 0, bytes) {
            // Not every file system can. Then zeros take the room, or what is written later would find the disk full in the
            // middle of a segment.
            Err(Errno::OPNOTSUPP) => self.write_zeros(0, bytes),
            allocated => Ok(allocated?),
        }
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(full_is_full)
    }

    fn write_blocks(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let direct = self.direct.get_or_init(|| RealDirect::open(&self.file));
        let written = direct.as_ref().and_then(|direct| direct.write_at(offset, bytes));
        written.unwrap_or_else(|| self.write_at(offset, bytes))
    }

    fn write_parts(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let direct = self.direct.get_or_init(|| RealDirect::open(&self.file));
        let written = direct.as_ref().and_then(|direct| direct.write_parts(offset, parts));
        written.unwrap_or_else(|| {
            let mut at = offset;
            parts.iter().try_for_each(|part| {
                self.write_at(at, part)?;
                at += part.len() as u64;
                Ok(())
            })
        })
    }

    /// Past the page cache where the file system can: copying the zeros of new segments into it was a fifth of all the
    /// processor's work under a stream of publishes.
    fn write_zeros(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let direct = rustix::fs::fcntl_getfl(&*self.file)
            .and_then(|flags| rustix::fs::fcntl_setfl(&*self.file, flags | OFlags::DIRECT).map(|()| flags));
        let result = write_zeros_now(&self.file, offset, bytes);
        let Ok(flags) = direct else { return result.map_err(full_is_full) };
        rustix::fs::fcntl_setfl(&*self.file, flags)?;
        match result {
            // This place cannot be written to directly.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                write_zeros_now(&self.file, offset, bytes).map_err(full_is_full)
            }
            result => result.map_err(full_is_full),
        }
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let start = Instant::now();
        self.file.sync_data().map_err(full_is_full)?;
        let us = start.elapsed().as_micros() as u64;
        let bucket = (u64::BITS - 1 - us.max(1).leading_zeros()).min(31) as usize;
        self.times.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.times.total_us.fetch_add(us, Ordering::Relaxed);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&*self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(full_is_full(error)),
        }
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        match fallocate(&*self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, bytes) {
            // Only space is lost where holes cannot be punched.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn will_read(&self, offset: u64, bytes: u64) {
        let bytes = std::num::NonZeroU64::new(bytes.min(self.len().unwrap_or(0)));
        // A hint: that it is not taken costs nothing but time.
        let _ = rustix::fs::fadvise(&*self.file, offset, bytes, rustix::fs::Advice::WillNeed);
    }

    fn will_not_read(&self, offset: u64, bytes: u64) {
        let bytes = std::num::NonZeroU64::new(bytes);
        let _ = rustix::fs::fadvise(&*self.file, offset, bytes, rustix::fs::Advice::DontNeed);
    }

    fn map(&self) -> io::Result<Box<dyn DiskMap>> {
        Ok(Box::new(RealMap::new(&self.file)?))
    }
}
