//! The keeper: makes segments ahead of need, writes checkpoints, recycles dead segments from the old end, and gives
//! the unused rest of ended segments back. One waiting call to the disk per step (but for the manifest's rewrite).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::{self, Encoded};
use crate::controls::Control;
use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::format::{checkpoint_name, segment_name};
use crate::ids::{FileId, FrameNo, SegmentNo, Seq};
use crate::ledger::Ledger;
use crate::manifest::{CheckpointEntry, Edit};
use crate::ranges::Places;
use crate::reserve::Purpose;
use crate::settings::Settings;
use crate::shared::{Counters, Delivered, Shared, Spare, Step, lock};

mod room;

/// Zeros written by one step.
const FILL_BYTES: u64 = 1 << 20;
/// Zeros between two syncs of a segment that is made, so that no large write stands before a confirm's sync.
const FILL_SYNC_BYTES: u64 = 4 << 20;
/// An unused rest smaller than this is not worth giving back.
const PUNCH_BYTES_MIN: u64 = 1 << 20;

/// How long to wait before trying again what failed.
const RETRY_MS: u64 = 1_000;
/// How often the room on the disk and the length of the log are looked at.
const ROOM_MS: u64 = 100;

/// Name that a checkpoint has until it is whole.
pub(crate) const CHECKPOINT_TMP_NAME: &str = "checkpoint.tmp";

/// Work in the background.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    job: Job,
    /// Checkpoints that a durable manifest lists, oldest first.
    kept: Vec<CheckpointEntry>,
    /// Bytes of frames written when the newest of them was begun.
    checkpoint_at_bytes: u64,
    /// The cut seen last, and when it was first seen.
    seen: (FrameNo, u64),
    /// No new spare before this time: the last one failed.
    spares_from_ms: u64,
    /// No new checkpoint before this time: the last one found the disk full.
    checkpoints_from_ms: u64,
    /// No new piece of the reserve before this time: there was no room for one.
    reserve_from_ms: u64,
    /// Length of the newest checkpoint.
    checkpoint_bytes: u64,
    closing: Closing,
    /// Frames and their bytes when the last spare was begun.
    frames_before: (u64, u64),
    /// When the room was looked at last.
    room_at_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// What was delivered is marked; the last checkpoint is to be begun again.
    Marked,
    /// The last checkpoint is begun; no other job starts before it is listed.
    Checkpointed,
    Done,
}

#[derive(Debug)]
enum Job {
    None,
    Fill {
        id: FileId,
        file: Arc<dyn DiskFile>,
        offset: u64,
        synced: u64,
    },
    /// A spare without zeros: its length must hold.
    FillSync {
        id: FileId,
        file: Arc<dyn DiskFile>,
    },
    FillSyncDir {
        id: FileId,
        file: Arc<dyn DiskFile>,
        written: bool,
    },
    CheckpointCreate(NewCheckpoint),
    CheckpointWrite {
        new: NewCheckpoint,
        file: Arc<dyn DiskFile>,
        offset: u64,
    },
    CheckpointSync {
        new: NewCheckpoint,
        file: Arc<dyn DiskFile>,
    },
    CheckpointRename(NewCheckpoint),
    CheckpointSyncDir(NewCheckpoint),
    CheckpointList(NewCheckpoint),
    CheckpointListSync {
        old: Vec<CheckpointEntry>,
    },
    CheckpointRemove {
        old: Vec<CheckpointEntry>,
    },
    RecycleEdit(SegmentNo),
    RecycleSync(SegmentNo),
    Unlink(String),
    CloseEdit,
    CloseSync,
}

#[derive(Debug)]
struct NewCheckpoint {
    entry: CheckpointEntry,
    file: Encoded,
    /// Its length.
    bytes: u64,
    /// Bytes of frames written when it was begun.
    at_bytes: u64,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, kept: Vec<CheckpointEntry>) -> Self {
        let seen = (lock(&shared.ledger).cut, 0);
        // Whatever the recovery replayed is worth a checkpoint soon; it is due like any other.
        Self {
            shared,
            job: Job::None,
            kept,
            checkpoint_at_bytes: 0,
            seen,
            spares_from_ms: 0,
            checkpoints_from_ms: 0,
            reserve_from_ms: 0,
            checkpoint_bytes: 0,
            closing: Closing::No,
            frames_before: (0, 0),
            room_at_ms: None,
        }
    }

    /// Does the next bit of work.
    pub fn step(&mut self, now_ms: u64) -> Step {
        if self.closing == Closing::Done || self.shared.failure().is_some() {
            return Step::Done;
        }
        self.shared.now_ms.store(now_ms, Ordering::Relaxed);
        self.look_at_room(now_ms);
        match self.advance(now_ms) {
            Ok(step) => step,
            // A full disk is no failure: the checkpoint waits, and with it the segments that it would free (P10).
            Err(error) if error.is_full() => self.find_full(&error, now_ms),
            Err(error) => {
                self.shared.fail(error);
                Step::Done
            }
        }
    }

    fn advance(&mut self, now_ms: u64) -> Result<Step> {
        let shared = Arc::clone(&self.shared);
        let disk = shared.disk.as_ref();
        self.job = match std::mem::replace(&mut self.job, Job::None) {
            Job::None => return self.next_job(now_ms),
            Job::Fill { id, file, offset, synced } => match self.fill(id, &file, offset, synced) {
                Ok(job) => job,
                Err(_) => self.abandon(id, now_ms),
            },
            Job::FillSync { id, file } => match file.sync() {
                Ok(()) => Job::FillSyncDir { id, file, written: false },
                Err(_) => self.abandon(id, now_ms),
            },
            Job::FillSyncDir { id, file, written } => {
                shared.sync_dir()?;
                lock(&shared.log).spares.push(Spare { id, file, written });
                Job::None
            }
            Job::CheckpointCreate(new) => {
                let file = shared.create_file(CHECKPOINT_TMP_NAME, 0, Purpose::Checkpoint);
                let file = file.map_err(Error::io("create", CHECKPOINT_TMP_NAME))?;
                Job::CheckpointWrite { new, file, offset: 0 }
            }
            Job::CheckpointWrite { mut new, file, offset } => match new.file.first() {
                Some(part) => {
                    let upto = offset + part.len() as u64;
                    Counters::add(&shared.counters.checkpoint_bytes, part.len() as u64);
                    file.write_at(offset, part).map_err(Error::io("write", CHECKPOINT_TMP_NAME))?;
                    new.file.drop_first();
                    Job::CheckpointWrite { new, file, offset: upto }
                }
                None => Job::CheckpointSync { new, file },
            },
            Job::CheckpointSync { new, file } => {
                file.set_len(new.bytes).map_err(Error::io("cut", CHECKPOINT_TMP_NAME))?;
                file.sync().map_err(Error::io("sync", CHECKPOINT_TMP_NAME))?;
                Job::CheckpointRename(new)
            }
            Job::CheckpointRename(new) => {
                let name = checkpoint_name(new.entry.file);
                disk.rename(CHECKPOINT_TMP_NAME, &name).map_err(Error::io("rename", CHECKPOINT_TMP_NAME))?;
                Job::CheckpointSyncDir(new)
            }
            Job::CheckpointSyncDir(new) => {
                shared.sync_dir()?;
                Job::CheckpointList(new)
            }
            Job::CheckpointList(new) => {
                let mut edits = vec![Edit::CheckpointAdded(new.entry)];
                let mut kept = self.kept.clone();
                kept.push(new.entry);
                let old: Vec<_> = kept.drain(..kept.len().saturating_sub(2)).collect();
                edits.extend(old.iter().map(|entry| Edit::CheckpointRemoved { file: entry.file }));
                if let Err(error) = shared.edit(&edits) {
                    self.job = Job::CheckpointList(new);
                    return Err(error);
                }
                (self.kept, self.checkpoint_at_bytes) = (kept, new.at_bytes);
                self.checkpoint_bytes = new.bytes;
                Job::CheckpointListSync { old }
            }
            Job::CheckpointListSync { old } => {
                shared.manifest.sync()?;
                Counters::add(&shared.counters.checkpoints, 1);
                Job::CheckpointRemove { old }
            }
            Job::CheckpointRemove { mut old } => {
                if let Some(entry) = old.pop() {
                    let name = checkpoint_name(entry.file);
                    disk.remove(&name).map_err(Error::io("remove", name))?;
                }
                if old.is_empty() { Job::None } else { Job::CheckpointRemove { old } }
            }
            Job::RecycleEdit(no) => {
                if let Err(error) = shared.edit(&[Edit::SegmentRemoved { no }]) {
                    self.job = Job::RecycleEdit(no);
                    return Err(error);
                }
                Job::RecycleSync(no)
            }
            Job::RecycleSync(no) => {
                shared.manifest.sync()?;
                self.release(no)
            }
            Job::Unlink(name) => {
                match disk.remove(&name) {
                    // It could not even be made.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    removed => removed.map_err(Error::io("remove", name))?,
                }
                Job::None
            }
            Job::CloseEdit => {
                if let Err(error) = shared.edit(&[Edit::CleanClose { epoch: shared.epoch }]) {
                    self.job = Job::CloseEdit;
                    return Err(error);
                }
                Job::CloseSync
            }
            Job::CloseSync => {
                shared.manifest.sync()?;
                self.closing = Closing::Done;
                return Ok(Step::Done);
            }
        };
        Ok(Step::Worked)
    }

    fn next_job(&mut self, now_ms: u64) -> Result<Step> {
        let cut = lock(&self.shared.ledger).cut;
        if self.seen.0 != cut {
            self.seen = (cut, now_ms);
        }
        if self.shared.writer_done.load(Ordering::Acquire) {
            self.close();
            return Ok(Step::Worked);
        }
        if let Some(no) = self.recyclable() {
            self.job = Job::RecycleEdit(no);
            return Ok(Step::Worked);
        }
        let written = self.shared.counters.frame_bytes.load(Ordering::Relaxed);
        let new_bytes = written - self.checkpoint_at_bytes;
        let uncovered = self.kept.last().is_none_or(|entry| entry.cut < cut) && cut > FrameNo(0);
        let shared = Arc::clone(&self.shared);
        let settings = &shared.settings;
        let idle_ms = now_ms.saturating_sub(self.seen.1);
        let idle = uncovered && idle_ms >= settings.idle_checkpoint_ms;
        let due = uncovered && (new_bytes >= settings.checkpoint_bytes || idle);
        // One that frees a segment is worth writing even if it says what the last one says: two must cover its end.
        if now_ms >= self.checkpoints_from_ms && cut > FrameNo(0) && (due || self.frees_a_segment()) {
            let new = self.begin_checkpoint(written);
            self.job = Job::CheckpointCreate(new);
            return Ok(Step::Worked);
        }
        if now_ms >= self.spares_from_ms && self.begin_spare(now_ms) {
            return Ok(Step::Worked);
        }
        if let Some(name) = self.spare_too_many() {
            self.job = Job::Unlink(name);
            return Ok(Step::Worked);
        }
        if now_ms >= self.reserve_from_ms && self.make_reserve(now_ms) {
            return Ok(Step::Worked);
        }
        if self.punch_one() {
            return Ok(Step::Worked);
        }
        if self.shared.manifest.is_long() {
            self.shared.rewrite_manifest()?;
            return Ok(Step::Worked);
        }
        let until_idle = settings.idle_checkpoint_ms.saturating_sub(idle_ms).max(1);
        Ok(Step::Idle { again_ms: Some(if uncovered { until_idle } else { 1_000 }.min(ROOM_MS)) })
    }

    /// The oldest segment, if E2 lets it go: ended, nothing in it lives, both kept checkpoints cover its end, and no
    /// reader has it pinned.
    fn recyclable(&self) -> Option<SegmentNo> {
        // The ledger is held over both questions: a reader pins while it holds the ledger, and only what lives, and so
        // cannot pin what was found dead.
        let mut ledger = lock(&self.shared.ledger);
        let log = lock(&self.shared.log);
        let (&no, segment) = log.segments.first_key_value()?;
        let end = segment.end?;
        if segment.pins > 0 && !self.shared.settings.has(Control::RecycleUnderReader) {
            return None;
        }
        drop(log);
        let covered = self.kept.len() >= 2 && self.kept.iter().all(|entry| entry.cut >= end.last_frame);
        if !covered && !self.shared.settings.has(Control::RecycleTooEarly) {
            return None;
        }
        ledger.is_dead(no).then_some(no)
    }

    /// Beyond the log's budget, a checkpoint is worth its while when the oldest segment waits for nothing else.
    fn frees_a_segment(&self) -> bool {
        let (no, end) = {
            let log = lock(&self.shared.log);
            if log.segments.len() as u64 * self.shared.settings.segment_bytes
                <= self.shared.settings.log_budget_bytes
            {
                return false;
            }
            let Some((no, segment)) = log.segments.first_key_value() else { return false };
            let Some(end) = segment.end else { return false };
            (*no, end)
        };
        let uncovered = self.kept.iter().any(|entry| entry.cut < end.last_frame) || self.kept.len() < 2;
        uncovered && lock(&self.shared.ledger).is_dead(no)
    }

    /// The manifest does not list the segment any more: its file is a spare, or goes.
    fn release(&self, no: SegmentNo) -> Job {
        lock(&self.shared.ledger).forget(no);
        Counters::add(&self.shared.counters.recycled, 1);
        let mut log = lock(&self.shared.log);
        let Some(segment) = log.segments.remove(&no) else { return Job::None };
        let kept = if self.disk_is_low() { 0 } else { log.segments.len() };
        if !segment.punched && log.spares.len() < spares_kept(&self.shared.settings, kept) {
            log.spares.push(Spare { id: segment.file_id, file: segment.file, written: true });
            return Job::None;
        }
        Job::Unlink(segment_name(segment.file_id))
    }

    fn begin_checkpoint(&self, at_bytes: u64) -> NewCheckpoint {
        let file = self.shared.next_file();
        let ledger = lock(&self.shared.ledger);
        let entry = CheckpointEntry { file, cut: ledger.cut };
        let file = checkpoint::encode(self.shared.store_id, self.shared.epoch, &ledger);
        NewCheckpoint { entry, bytes: file.bytes(), file, at_bytes }
    }

    /// Gives the unused rest of one ended segment back.
    fn punch_one(&self) -> bool {
        let found = {
            let mut log = lock(&self.shared.log);
            let segment_bytes = self.shared.settings.segment_bytes;
            log.segments.values_mut().find_map(|segment| {
                let end = segment.end?.bytes.next_multiple_of(4096);
                if segment.punched || segment_bytes.saturating_sub(end) < PUNCH_BYTES_MIN {
                    return None;
                }
                segment.punched = true;
                Some((Arc::clone(&segment.file), end, segment_bytes - end))
            })
        };
        let Some((file, offset, bytes)) = found else { return false };
        // Failing to give space back loses nothing but space.
        drop(file.punch(offset, bytes));
        true
    }

    /// The writer has ended: the last checkpoint, with what is known to have been delivered, then the mark.
    fn close(&mut self) {
        if self.closing == Closing::Checkpointed {
            self.job = Job::CloseEdit;
            return;
        }
        if self.closing == Closing::No {
            let marks = lock(&self.shared.inbox).closing.as_mut().map(std::mem::take).unwrap_or_default();
            mark(&mut lock(&self.shared.ledger), marks);
        }
        let new = self.begin_checkpoint(self.shared.counters.frame_bytes.load(Ordering::Relaxed));
        self.closing = Closing::Checkpointed;
        self.job = Job::CheckpointCreate(new);
    }
}

/// Spares that are kept of dead segments, with a log of so many. A log at its budget changes segments all the time, and its
/// dead ones come several at once: to take one again costs nothing, while a new one has to be made, and an old one to be
/// given back. Together with the log they take no more than a quarter above its budget (P6), and on a disk that is low they
/// are given back all the same.
fn spares_kept(settings: &Settings, segments: usize) -> usize {
    let in_budget = (settings.log_budget_bytes / settings.segment_bytes) as usize;
    let more = in_budget / 4;
    let spares = (in_budget + more).saturating_sub(segments).min(more);
    settings.spares.max(1).max(if segments >= in_budget / 2 { spares } else { 0 })
}

/// Says for every queue exactly which places were delivered before (E10).
fn mark(ledger: &mut Ledger, marks: Delivered) {
    for queue in ledger.queues.values_mut() {
        queue.redelivered_below = queue.head;
        queue.redelivered = Places::default();
    }
    for (id, ranges) in marks {
        if let Some(queue) = ledger.queues.get_mut(&id) {
            for (first, last) in ranges {
                let (first, last) = (first.max(queue.head), last.min(Seq(queue.next.0 - 1)));
                if first <= last {
                    queue.redelivered.insert(first, last);
                }
            }
        }
    }
}
