//! Moments of a disk's life, kept so that a crash can be tried at each of them, and with each of the states that it may
//! leave.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{Contents, NameChange, SECTOR_BYTES, SimDisk, World, lock};

/// All that a disk held at one moment: what was durable, and what was not.
#[derive(Debug, Clone)]
pub struct Moment {
    files: BTreeMap<u64, Arc<Contents>>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending: Vec<NameChange>,
    next_file: u64,
    version: u64,
}

/// Who is told of every call.
#[derive(Default)]
pub(super) struct Watcher(Option<Watching>);

type Watching = Box<dyn FnMut(&'static str, Moment) + Send>;

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(&self.0.is_some()).finish()
    }
}

impl SimDisk {
    /// From here on `watcher` is told of every call, by its name, right before it does anything. It must not use this disk.
    pub fn watch(&self, watcher: impl FnMut(&'static str, Moment) + Send + 'static) {
        lock(&self.world).watcher = Watcher(Some(Box::new(watcher)));
    }

    /// Nobody is told any more.
    pub fn unwatch(&self) {
        lock(&self.world).watcher = Watcher::default();
    }

    /// What it holds now.
    pub fn moment(&self) -> Moment {
        lock(&self.world).moment()
    }

    /// A hash over names and contents, as a process would find them.
    pub fn fingerprint(&self) -> u64 {
        let world = lock(&self.world);
        let mut hash = Hash::default();
        for (name, file) in &world.names {
            hash.bytes(name.as_bytes());
            hash.word(world.files[file].hash());
        }
        hash.0
    }
}

impl Moment {
    /// Raised by whatever changes what a crash may leave: between two moments of the same one there is no difference.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The disk after the end of the process at this moment: all is there, and what was not durable still is not.
    pub fn after_kill(&self) -> SimDisk {
        let disk = SimDisk::default();
        {
            let mut world = lock(&disk.world);
            world.files.clone_from(&self.files);
            world.names.clone_from(&self.names);
            world.durable_names.clone_from(&self.durable_names);
            world.pending.clone_from(&self.pending);
            world.next_file = self.next_file;
        }
        disk
    }

    /// The disk after a power loss at this moment. `survives` is asked [`Moment::unsynced`] times, in a fixed order.
    pub fn after_loss(&self, survives: impl FnMut() -> bool) -> SimDisk {
        let disk = self.after_kill();
        disk.lose_power(survives);
        disk
    }

    /// The same moment without what makes no difference: sectors that were written with what they held, and files that
    /// have no name, whatever becomes of the names.
    #[must_use]
    pub fn without_idle_changes(mut self) -> Self {
        let named = self.names.values().chain(self.durable_names.values()).copied();
        let pending = self.pending.iter().filter_map(|change| match change {
            NameChange::Set { file, .. } | NameChange::Rename { file, .. } => Some(*file),
            NameChange::Remove { .. } => None,
        });
        let named: BTreeSet<u64> = named.chain(pending).collect();
        self.files.retain(|file, _| named.contains(file));
        for contents in self.files.values_mut() {
            if contents.before.iter().any(|(sector, old)| contents.holds(*sector, old)) {
                let contents = Arc::make_mut(contents);
                let mut before = std::mem::take(&mut contents.before);
                before.retain(|sector, old| !contents.holds(*sector, old));
                contents.before = before;
            }
        }
        self
    }

    /// Sectors, lengths and changes of names of which a power loss would decide, each for itself.
    pub fn unsynced(&self) -> usize {
        let of_file = |contents: &Arc<Contents>| {
            contents.before.len() + usize::from(contents.bytes.len() > contents.durable_len)
        };
        self.files.values().map(of_file).sum::<usize>() + self.pending.len()
    }
}

impl World {
    pub(super) fn watched(&mut self, what: &'static str) {
        if let Some(mut watching) = self.watcher.0.take() {
            watching(what, self.moment());
            self.watcher.0 = Some(watching);
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            files: self.files.clone(),
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            pending: self.pending.clone(),
            next_file: self.next_file,
            version: self.version,
        }
    }
}

impl Contents {
    fn holds(&self, sector: usize, old: &[u8]) -> bool {
        let start = sector * SECTOR_BYTES;
        self.bytes.get(start..start + old.len()) == Some(old)
    }

    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            let mut hash = Hash::default();
            hash.bytes(&self.bytes);
            hash.0
        })
    }
}

/// Tells states apart; nobody attacks it.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn word(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.word(u64::from(*byte)));
    }
}
