//! What the store's front, its writer, reader and keeper share. Each lock is held for memory work only, never over a
//! call to the disk (the manifest's own and those over a sync are the exceptions, and say so).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock, PoisonError};

use crate::batch::Urgency;
use crate::blobs::{BlobFiles, Waiting};
use crate::disk::{Disk, DiskFile};
use crate::error::{DIRECTORY, Error, Result, is_full};
use crate::fetch::{Fetch, Fetched};
use crate::ids::{EditNo, Epoch, FileId, QueueId, SegmentNo, Seq, Ticket};
use crate::ledger::Ledger;
use crate::manifest::{Edit, Manifest, SegmentEnd};
use crate::record::Encoded;
use crate::reserve::{Purpose, Reserve};
use crate::settings::Settings;
use crate::settled::SettledFile;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::volatile::Volatile;

/// Findings that wait to be taken.
const FINDINGS_MAX: usize = 100;

/// Shared state of one open store.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) settings: Settings,
    pub(crate) store_id: u64,
    pub(crate) epoch: Epoch,
    pub(crate) manifest: Manifest,
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) log: Mutex<LogFiles>,
    /// Settled segments that are listed and sound.
    pub(crate) settled: Mutex<BTreeMap<FileId, Arc<SettledFile>>>,
    /// Listed blob files.
    pub(crate) blobs: Mutex<BlobFiles>,
    /// Bodies on their way into them.
    pub(crate) bodies: Mutex<Waiting>,
    pub(crate) fetches: Mutex<VecDeque<Fetch>>,
    pub(crate) answers: Mutex<Vec<Fetched>>,
    /// Transient messages outside of memory, and on their way there.
    pub(crate) volatile: Mutex<Volatile>,
    /// Newest ticket whose confirm may go out, by the fsync policy (E6).
    pub(crate) confirmable: AtomicU64,
    /// Newest ticket that an fdatasync has covered (E6).
    pub(crate) durable: AtomicU64,
    /// Somebody waits for what is written to become durable, whatever the policy (E3).
    pub(crate) sync_wanted: AtomicBool,
    /// Why publishers should be held, as [`Pressure`] numbers it.
    pub(crate) pressure: AtomicU8,
    /// The steps' milliseconds, as the keeper saw them last.
    pub(crate) now_ms: AtomicU64,
    /// What went wrong in the background, or was found to be damaged: for the operator, nothing fails by it.
    pub(crate) findings: Mutex<VecDeque<String>>,
    pub(crate) has_findings: AtomicBool,
    /// What is known to be damaged, as sentences: found at the open or by the scrub.
    pub(crate) damage: Mutex<Vec<String>>,
    /// The writer has written and synced all there was and will do nothing more.
    pub(crate) writer_done: AtomicBool,
    /// Threads sleep here; without threads nobody does.
    pub(crate) bells: OnceLock<Box<dyn Bells>>,
    /// Room of the store's own (E11).
    pub(crate) reserve: Reserve,
    pub(crate) counters: Counters,
    /// Held over a sync of the directory: the system tells a failure to one of those who sync it at the same time.
    syncing_dir: Mutex<()>,
    failure: OnceLock<Arc<Error>>,
}

/// Wakes whoever does a kind of work.
pub(crate) trait Bells: Send + Sync {
    fn ring_writer(&self);
    fn ring_reader(&self);
    fn ring_keeper(&self);
    fn ring_settler(&self);
    fn ring_spiller(&self);
    fn ring_scrub(&self);
    fn ring_blobs(&self);
    fn ring_owner(&self);
}

/// Batches on their way to the log.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) waiting: VecDeque<Pending>,
    /// How many of them somebody waits for.
    pub(crate) urgent: usize,
    /// The store is closing; per queue, the places known to have been delivered (E10).
    pub(crate) closing: Option<Delivered>,
}

/// Per queue, places known to have been delivered: inclusive ranges.
pub type Delivered = Vec<(QueueId, Vec<(Seq, Seq)>)>;

/// A batch with its ticket.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) ticket: Ticket,
    pub(crate) encoded: Encoded,
    pub(crate) urgency: Urgency,
}

/// The files of the log.
#[derive(Debug)]
pub(crate) struct LogFiles {
    pub(crate) segments: BTreeMap<SegmentNo, LogFile>,
    pub(crate) spares: Vec<Spare>,
    pub(crate) next_file: FileId,
}

/// A file ready to become a segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) id: FileId,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Every block of it was written before, with zeros or in a segment that is dead now, as far as is known.
    pub(crate) written: bool,
}

/// A listed segment's file.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) file_id: FileId,
    pub(crate) file: Arc<dyn DiskFile>,
    /// None for the one that is written.
    pub(crate) end: Option<SegmentEnd>,
    /// Reads under way.
    pub(crate) pins: u32,
    /// Its unused rest was given back; it is not worth keeping as a spare.
    pub(crate) punched: bool,
    /// When its first frame could be written, in the steps' milliseconds; 0 if that was before the open.
    pub(crate) opened_ms: u64,
}

/// Totals since the open.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) syncs: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) frame_bytes: AtomicU64,
    pub(crate) record_bytes: AtomicU64,
    pub(crate) rotations: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) recycled: AtomicU64,
    pub(crate) out_of_space: AtomicU64,
    pub(crate) checkpoint_bytes: AtomicU64,
    /// Log segments settled.
    pub(crate) settled_logs: AtomicU64,
    /// Bytes of settled segments written by settling, and by merging.
    pub(crate) settled_bytes: AtomicU64,
    pub(crate) merged_bytes: AtomicU64,
    /// Settled segments removed, merged or dead.
    pub(crate) settled_removed: AtomicU64,
    pub(crate) background_errors: AtomicU64,
    /// Bytes read by the scrub, its passes, and what it found to be damaged.
    pub(crate) scrub_bytes: AtomicU64,
    pub(crate) scrub_passes: AtomicU64,
    pub(crate) scrub_findings: AtomicU64,
    /// Bodies written into blob files, and bytes of them.
    pub(crate) blobs: AtomicU64,
    pub(crate) blob_bytes: AtomicU64,
    pub(crate) blob_files_removed: AtomicU64,
    /// Places told as lost by the reader.
    pub(crate) unreadable: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("store_id", &self.store_id)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// The files of a store that was opened.
pub(crate) struct Files {
    pub(crate) log: LogFiles,
    pub(crate) settled: BTreeMap<FileId, Arc<SettledFile>>,
    pub(crate) blobs: BlobFiles,
    pub(crate) reserve: Reserve,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        settings: Settings,
        manifest: Manifest,
        ledger: Ledger,
        files: Files,
    ) -> Self {
        let (state, Files { log, settled, blobs, reserve }) = (manifest.state(), files);
        Self {
            disk,
            settings,
            store_id: state.store_id,
            epoch: state.epoch,
            manifest,
            inbox: Mutex::default(),
            ledger: Mutex::new(ledger),
            log: Mutex::new(log),
            settled: Mutex::new(settled),
            blobs: Mutex::new(blobs),
            bodies: Mutex::default(),
            fetches: Mutex::default(),
            answers: Mutex::default(),
            volatile: Mutex::default(),
            confirmable: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            sync_wanted: AtomicBool::new(false),
            pressure: AtomicU8::new(0),
            now_ms: AtomicU64::new(0),
            findings: Mutex::default(),
            has_findings: AtomicBool::new(false),
            damage: Mutex::default(),
            writer_done: AtomicBool::new(false),
            bells: OnceLock::new(),
            reserve,
            counters: Counters::default(),
            syncing_dir: Mutex::default(),
            failure: OnceLock::new(),
        }
    }

    /// Latches the first fatal error. From here on nothing is confirmed any more.
    pub(crate) fn fail(&self, error: Error) {
        // A second failure says nothing that the first did not.
        drop(self.failure.set(Arc::new(error)));
        // Whoever waits for a body hears of it, also where it is the blob writer that has panicked. Dropped without the lock.
        let bodies = lock(&self.bodies).close();
        drop(bodies);
        self.ring(|bells| {
            bells.ring_owner();
            bells.ring_writer();
            bells.ring_reader();
            bells.ring_keeper();
            bells.ring_settler();
            bells.ring_spiller();
            bells.ring_scrub();
            bells.ring_blobs();
        });
    }

    pub(crate) fn failure(&self) -> Option<Arc<Error>> {
        self.failure.get().cloned()
    }

    pub(crate) fn ring(&self, which: impl FnOnce(&dyn Bells)) {
        if let Some(bells) = self.bells.get() {
            which(bells.as_ref());
        }
    }

    /// Tells the operator of something, at most so much at a time.
    pub(crate) fn find(&self, finding: String) {
        let mut findings = lock(&self.findings);
        if findings.len() < FINDINGS_MAX && !findings.contains(&finding) {
            findings.push_back(finding);
        }
        drop(findings);
        self.has_findings.store(true, Ordering::Release);
        self.ring(|bells| bells.ring_owner());
    }

    /// Tells of damage, and keeps it for the figures.
    pub(crate) fn find_damage(&self, sentence: String) {
        let mut damage = lock(&self.damage);
        if damage.len() < FINDINGS_MAX {
            damage.push(sentence.clone());
        }
        drop(damage);
        self.find(sentence);
    }

    /// Makes a file of that length, or of a piece of the reserve where the disk is full: then it may be longer.
    pub(crate) fn create_file(
        &self,
        name: &str,
        bytes: u64,
        purpose: Purpose,
    ) -> std::io::Result<Arc<dyn DiskFile>> {
        // A file without a length is always made: that there is no room for its bytes would show later.
        if bytes == 0
            && self.reserve.is_short()
            && let Some(file) = self.take_over(purpose, name)?
        {
            return Ok(file);
        }
        match self.disk.create(name, bytes) {
            Err(error) if is_full(error.kind()) => {
                Counters::add(&self.counters.out_of_space, 1);
                self.take_over(purpose, name)?.ok_or(error)
            }
            file => file,
        }
    }

    fn take_over(&self, purpose: Purpose, name: &str) -> std::io::Result<Option<Arc<dyn DiskFile>>> {
        let file = self.reserve.take_over(self.disk.as_ref(), purpose, name)?;
        if file.is_some() {
            // Or what is written into it could stand under the old name after a power loss, where nobody knows it.
            self.sync_dir().map_err(std::io::Error::other)?;
        }
        Ok(file)
    }

    /// Makes changes of names durable. A failure is fatal whoever meets it: somebody else's names may be among those of
    /// which nothing is known then, and a later sync would prove nothing.
    pub(crate) fn sync_dir(&self) -> Result<()> {
        let error = |source| Error::Io { op: "sync", file: DIRECTORY.to_owned(), source };
        let _syncing = lock(&self.syncing_dir);
        if let Some(failure) = self.failure() {
            return Err(error(std::io::Error::other(failure.to_string())));
        }
        self.disk.sync_dir().map_err(|source| {
            self.fail(error(std::io::Error::new(source.kind(), source.to_string())));
            error(source)
        })
    }

    /// [`Manifest::rewrite`], which syncs the directory as well.
    pub(crate) fn rewrite_manifest(&self) -> Result<()> {
        let _syncing = lock(&self.syncing_dir);
        self.manifest.rewrite().inspect_err(|error| {
            // Latched before the next one syncs.
            if let (Error::Io { op, file, source }, false) = (error, error.is_full()) {
                let source = std::io::Error::new(source.kind(), source.to_string());
                self.fail(Error::Io { op, file: file.clone(), source });
            }
        })
    }

    /// Gives up a piece of the reserve, where the disk was found full; false when there is none for that purpose.
    pub(crate) fn make_room(&self, purpose: Purpose) -> bool {
        Counters::add(&self.counters.out_of_space, 1);
        self.reserve.give_up(self.disk.as_ref(), purpose)
    }

    /// [`Manifest::append`] that has the reserve for where the disk is full.
    pub(crate) fn edit(&self, edits: &[Edit]) -> Result<EditNo> {
        loop {
            match self.manifest.append(edits) {
                Err(error) if error.is_full() && self.make_room(Purpose::Root) => {}
                result => return result,
            }
        }
    }

    /// Takes back pins on log segments.
    pub(crate) fn unpin_log(&self, pinned: &[SegmentNo]) {
        let mut log = lock(&self.log);
        for no in pinned {
            if let Some(segment) = log.segments.get_mut(no) {
                segment.pins -= 1;
            }
        }
    }

    pub(crate) fn next_file(&self) -> FileId {
        let mut log = lock(&self.log);
        let id = log.next_file;
        log.next_file = id.next();
        id
    }

    pub(crate) fn durable(&self) -> Ticket {
        Ticket(self.durable.load(Ordering::Acquire))
    }
}

/// Locks; a panic elsewhere leaves these plain data as good as they were, and ends the process anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// Why nothing new should be published for now. Acks, deletes and reads go on: they are what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pressure {
    /// The log has grown past one and a half times its budget: settling lags behind.
    SettlingLags,
    /// Too little is free on the disk ([`crate::Settings::disk_low_bytes`], E11).
    DiskLow,
    /// Transient messages beyond the memory budget come faster than volatile segments take them.
    SpillingLags,
}

impl Pressure {
    pub(crate) fn number(pressure: Option<Self>) -> u8 {
        match pressure {
            None => 0,
            Some(Self::SettlingLags) => 1,
            Some(Self::DiskLow) => 2,
            Some(Self::SpillingLags) => 3,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::SettlingLags),
            2 => Some(Self::DiskLow),
            3 => Some(Self::SpillingLags),
            _ => None,
        }
    }
}

/// What a worker's step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It did something; call it again.
    Worked,
    /// Nothing to do now; call it again when something happens, or after so many milliseconds.
    Idle {
        /// Milliseconds until time alone gives it work.
        again_ms: Option<u64>,
    },
    /// It will never have work again: the store is closed, or has failed.
    Done,
}
