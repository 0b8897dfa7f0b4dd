//! A disk in memory that can crash, for tests: at a chosen call everything stops, and the seed decides what of the
//! unsynced writes and names is still there when the store is opened again.
//!
//! A *kill* is the end of the process: the page cache, and so everything written, stays, but is no more durable than it
//! was. A *power loss* decides per unsynced 512-byte sector and per unsynced change of a name whether it survives.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Disk, DiskFile, DiskMap};
use crate::sync::pause;

mod faults;
mod loss;
mod moment;

pub use faults::Fails;
pub use moment::Moment;

const SECTOR_BYTES: usize = 512;

/// When the disk crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPlan {
    /// Not at all.
    Never,
    /// The call with that number, counted over the disk's life, and every later one fails.
    AtCall(u64),
}

/// What a simulated disk has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimStats {
    /// Calls.
    pub calls: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Bytes of all writes.
    pub written_bytes: u64,
    /// Sectors that a power loss took back.
    pub sectors_lost: u64,
    /// Changes of names that a power loss took back.
    pub names_lost: u64,
    /// Power losses after which part of a file's unsynced writes was there and part was not.
    pub torn: u64,
    /// Hash over every call and its bytes: the same seed gives the same one.
    pub trace: u64,
}

/// A directory in memory. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Debug)]
struct World {
    /// Shared with moments that were kept; copied when it changes.
    files: BTreeMap<u64, Arc<Contents>>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending: Vec<NameChange>,
    next_file: u64,
    plan: CrashPlan,
    crashed: bool,
    /// Raised by every crash: handles of an earlier life do nothing.
    life: u64,
    capacity_bytes: u64,
    stats: SimStats,
    faults: Vec<faults::Fault>,
    /// What is said where there is no room.
    full: ErrorKind,
    /// Raised by whatever changes what a crash may leave.
    version: u64,
    watcher: moment::Watcher,
}

#[derive(Debug, Default, Clone)]
struct Contents {
    bytes: Vec<u8>,
    durable_len: usize,
    /// Room that it has, whatever its length.
    allocated: usize,
    /// What each sector that was written since the last sync held before.
    before: BTreeMap<usize, Vec<u8>>,
    /// Of its bytes, if somebody asked since they changed.
    hash: OnceLock<u64>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set { name: String, file: u64 },
    Remove { name: String },
    Rename { from: String, to: String, file: u64 },
}

#[derive(Debug)]
struct SimFile {
    world: Arc<Mutex<World>>,
    file: u64,
    life: u64,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl SimDisk {
    /// An empty disk of that size.
    pub fn new(capacity_bytes: u64) -> Self {
        let world = World {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            next_file: 1,
            plan: CrashPlan::Never,
            crashed: false,
            life: 1,
            capacity_bytes,
            stats: SimStats { trace: 0xcbf2_9ce4_8422_2325, ..SimStats::default() },
            faults: Vec::new(),
            full: ErrorKind::StorageFull,
            version: 0,
            watcher: moment::Watcher::default(),
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// Sets when it crashes next.
    pub fn plan(&self, plan: CrashPlan) {
        lock(&self.world).plan = plan;
    }

    /// Whether it has crashed, so that every call fails until it is revived.
    pub fn crashed(&self) -> bool {
        lock(&self.world).crashed
    }

    /// Ends the process that used it, if it has not crashed already: what was written stays in the page cache.
    pub fn kill(&self) {
        let mut world = lock(&self.world);
        world.revive();
    }

    /// Cuts the power. `survives` is asked, per unsynced sector and name change, in a fixed order.
    pub fn lose_power(&self, mut survives: impl FnMut() -> bool) {
        let mut world = lock(&self.world);
        world.lose_power(&mut survives);
        world.revive();
    }

    /// Gives it another size.
    pub fn resize(&self, capacity_bytes: u64) {
        lock(&self.world).capacity_bytes = capacity_bytes;
    }

    /// What it has seen.
    pub fn stats(&self) -> SimStats {
        lock(&self.world).stats
    }

    /// A file's bytes as they are now, to look at or to damage.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let world = lock(&self.world);
        world.names.get(name).map(|file| world.files[file].bytes.clone())
    }

    /// Puts a file there, durably, replacing what was there.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut world = lock(&self.world);
        let file = world.next_file;
        world.next_file += 1;
        let contents = Contents { durable_len: bytes.len(), bytes, ..Contents::default() };
        world.files.insert(file, Arc::new(contents));
        world.names.insert(name.to_owned(), file);
        world.durable_names.insert(name.to_owned(), file);
    }

    /// Turns a byte of a file over, for those who have it open as well: the medium went bad.
    pub fn flip(&self, name: &str, offset: u64) {
        let mut world = lock(&self.world);
        if let Some(file) = world.names.get(name).copied()
            && let Some(byte) = world.contents(file).bytes.get_mut(offset as usize)
        {
            *byte ^= 0x40;
        }
    }

    /// Takes a file away, durably.
    pub fn take(&self, name: &str) {
        let mut world = lock(&self.world);
        world.names.remove(name);
        world.durable_names.remove(name);
    }

    /// What its files take, room that they have ahead included.
    pub fn used(&self) -> u64 {
        lock(&self.world).used()
    }

    /// Names and lengths, without counting as a call.
    pub fn names(&self) -> Vec<(String, u64)> {
        lock(&self.world).list()
    }
}

impl World {
    /// Counts a call; an error from the planned one on.
    fn call(&mut self, what: &'static str, name: &[u8], number: u64) -> io::Result<()> {
        self.count(what, name, number)?;
        self.fault(what, name)
    }

    fn count(&mut self, what: &'static str, name: &[u8], number: u64) -> io::Result<()> {
        if self.crashed {
            return Err(crashed());
        }
        self.stats.calls += 1;
        for byte in what.bytes().chain(name.iter().copied()).chain(number.to_le_bytes()) {
            self.stats.trace = (self.stats.trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self.watched(what);
        if self.plan == CrashPlan::AtCall(self.stats.calls) {
            self.crashed = true;
            return Err(crashed());
        }
        Ok(())
    }

    fn revive(&mut self) {
        self.crashed = false;
        self.plan = CrashPlan::Never;
        self.life += 1;
    }

    fn list(&self) -> Vec<(String, u64)> {
        self.names.iter().map(|(name, file)| (name.clone(), self.files[file].bytes.len() as u64)).collect()
    }

    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[file].room() as u64).sum()
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        pause();
        let mut world = lock(&self.world);
        world.call("list", b"", 0)?;
        Ok(world.list())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        pause();
        let mut world = lock(&self.world);
        world.call("create", name.as_bytes(), bytes)?;
        if world.names.contains_key(name) {
            return Err(io::Error::new(ErrorKind::AlreadyExists, format!("{name} exists")));
        }
        if world.used() + bytes > world.capacity_bytes {
            return Err(world.no_room());
        }
        let file = world.next_file;
        world.next_file += 1;
        let contents = Contents { bytes: vec![0; bytes as usize], ..Contents::default() };
        world.files.insert(file, Arc::new(contents));
        world.names.insert(name.to_owned(), file);
        world.change(NameChange::Set { name: name.to_owned(), file });
        Ok(Arc::new(SimFile { world: Arc::clone(&self.world), file, life: world.life }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        pause();
        let mut world = lock(&self.world);
        world.call("open", name.as_bytes(), 0)?;
        let file = *world.names.get(name).ok_or_else(|| not_found(name))?;
        Ok(Arc::new(SimFile { world: Arc::clone(&self.world), file, life: world.life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        pause();
        let mut world = lock(&self.world);
        world.call("rename", format!("{from}>{to}").as_bytes(), 0)?;
        let file = world.names.remove(from).ok_or_else(|| not_found(from))?;
        world.names.insert(to.to_owned(), file);
        world.change(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        pause();
        let mut world = lock(&self.world);
        world.call("remove", name.as_bytes(), 0)?;
        world.names.remove(name).ok_or_else(|| not_found(name))?;
        world.change(NameChange::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        pause();
        let mut world = lock(&self.world);
        world.call("sync_dir", b"", 0)?;
        world.version += u64::from(!world.pending.is_empty());
        world.pending.clear();
        world.durable_names = world.names.clone();
        Ok(())
    }

    fn free_space(&self) -> io::Result<u64> {
        let world = lock(&self.world);
        Ok(world.capacity_bytes.saturating_sub(world.used()))
    }
}

impl SimFile {
    /// Counts a call on this file. A handle of an earlier life finds the disk gone.
    fn call(&self, what: &'static str, offset: u64, hash: u64) -> io::Result<MutexGuard<'_, World>> {
        pause();
        let mut world = lock(&self.world);
        if world.life != self.life {
            return Err(crashed());
        }
        world.count(what, &self.file.to_le_bytes(), offset ^ hash.rotate_left(32))?;
        if !world.faults.is_empty() {
            let name = world.name_of(self.file);
            world.fault(what, name.as_bytes())?;
        }
        Ok(world)
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let hash = u64::from(crc32fast::hash(bytes));
        let (mut world, result) = match self.call("write", offset, hash) {
            Ok(world) => (world, Ok(())),
            Err(error) => {
                // The crash may come in the middle of a write: what is written then is as unsynced as all else.
                let world = lock(&self.world);
                if world.life != self.life || world.plan != CrashPlan::AtCall(world.stats.calls) {
                    return Err(error);
                }
                (world, Err(error))
            }
        };
        let grows = (offset as usize + bytes.len()).saturating_sub(world.files[&self.file].room()) as u64;
        if grows > 0 && world.used() + grows > world.capacity_bytes {
            return Err(world.no_room());
        }
        world.contents(self.file).write(offset as usize, bytes);
        world.stats.written_bytes += bytes.len() as u64;
        if result.is_err() {
            // Only once: calls after the crash must not write.
            world.plan = CrashPlan::Never;
        }
        result
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let world = self.call("read", offset, into.len() as u64)?;
        let contents = &world.files[&self.file];
        let start = offset as usize;
        let end = start + into.len();
        if end > contents.bytes.len() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "read behind the end"));
        }
        into.copy_from_slice(&contents.bytes[start..end]);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.call("sync", 0, 0)?;
        world.stats.syncs += 1;
        if !world.files[&self.file].is_unsynced() {
            return Ok(());
        }
        let contents = world.contents(self.file);
        contents.before.clear();
        contents.durable_len = contents.bytes.len();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let world = self.call("len", 0, 0)?;
        Ok(world.files[&self.file].bytes.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.call("set_len", bytes, 0)?;
        let contents = world.contents(self.file);
        contents.bytes.resize(bytes as usize, 0);
        contents.allocated = contents.allocated.min(contents.bytes.len());
        contents.durable_len = contents.durable_len.min(contents.bytes.len());
        contents.before.retain(|sector, _| sector * SECTOR_BYTES < bytes as usize);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.call("allocate", bytes, 0)?;
        let more = (bytes as usize).saturating_sub(world.files[&self.file].room()) as u64;
        if more > 0 && world.used() + more > world.capacity_bytes {
            return Err(world.no_room());
        }
        let contents = world.contents(self.file);
        contents.allocated = contents.allocated.max(bytes as usize);
        Ok(())
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut world = self.call("punch", offset, bytes)?;
        world.contents(self.file).write(offset as usize, &vec![0; bytes as usize]);
        Ok(())
    }

    fn map(&self) -> io::Result<Box<dyn DiskMap>> {
        drop(self.call("map", 0, 0)?);
        Ok(Box::new(Self { world: Arc::clone(&self.world), file: self.file, life: self.life }))
    }
}

impl DiskMap for SimFile {
    fn read(&self, offset: u64, bytes: usize) -> io::Result<Cow<'_, [u8]>> {
        let mut into = vec![0; bytes];
        self.read_at(offset, &mut into)?;
        Ok(Cow::Owned(into))
    }
}

impl World {
    /// To change them.
    fn contents(&mut self, file: u64) -> &mut Contents {
        self.version += 1;
        let contents = Arc::make_mut(self.files.get_mut(&file).expect("a handle's file is never dropped"));
        contents.hash = OnceLock::new();
        contents
    }

    fn change(&mut self, change: NameChange) {
        self.version += 1;
        self.pending.push(change);
    }
}

impl Contents {
    /// What it takes of the disk.
    fn room(&self) -> usize {
        self.bytes.len().max(self.allocated)
    }

    /// A power loss may take something of it.
    fn is_unsynced(&self) -> bool {
        !self.before.is_empty() || self.durable_len != self.bytes.len()
    }

    fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        for sector in start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let from = sector * SECTOR_BYTES;
            let upto = (from + SECTOR_BYTES).min(self.bytes.len());
            let contents = &self.bytes;
            self.before.entry(sector).or_insert_with(|| contents[from..upto].to_vec());
        }
        self.bytes[start..end].copy_from_slice(bytes);
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn crashed() -> io::Error {
    io::Error::other("the simulated disk has crashed")
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("no file {name}"))
}
