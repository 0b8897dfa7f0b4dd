//! The blob writer: makes blob files, writes and syncs bodies, tells whoever waits, and gives back what is dead. One
//! waiting call to the disk per step.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::files::BlobFile;
use super::free::Freeing;
use super::group::{Group, Staging};
use super::put::NotWritten;
use super::{BLOB_TMP_NAME, BlobHeader, blob_name};
use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::format::BLOCK_BYTES;
use crate::ids::FileId;
use crate::manifest::Edit;
use crate::shared::{Counters, Shared, Step, lock};

/// How long to wait before trying again what failed, and where the disk is full.
const RETRY_MS: u64 = 1_000;
const SPACE_RETRY_MS: u64 = 100;
/// Where the system says that there is room, and there is none: twice as long after each try, so many times.
const SPACE_DOUBLINGS: u32 = 5;
/// So often a body is tried that could not be written, before who waits for it hears of it.
const TRIES_MAX: u8 = 3;
/// How often it looks by itself for something to do.
const LOOK_AGAIN_MS: u64 = 1_000;

/// Writes bodies, and frees them.
#[derive(Debug)]
pub struct BlobWriter {
    pub(super) shared: Arc<Shared>,
    job: Job,
    pub(super) current: Option<Current>,
    /// What the next write takes; kept, since room that is new costs more than what is put into it.
    staging: Option<Staging>,
    /// Nothing is written before this time: the last try failed.
    from_ms: u64,
    /// Tries in a row that found the disk full.
    full_tries: u32,
    /// What was written of a body that found no room: it is given back.
    cut_off: Option<CutOff>,
    pub(super) freeing: Freeing,
    /// What is dead is looked for first: bodies that keep coming must not keep their room.
    free_next: bool,
}

/// The file that bodies go to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) id: FileId,
    pub(super) file: Arc<dyn DiskFile>,
    /// Offset of the next body.
    pub(super) end: u64,
}

/// The current file, and where in it ends what counts.
#[derive(Debug)]
struct CutOff {
    file: Arc<dyn DiskFile>,
    end: u64,
}

#[derive(Debug)]
enum Job {
    None,
    /// A file is made...
    Create(FileId),
    Header(FileId, Arc<dyn DiskFile>),
    HeaderSync(FileId, Arc<dyn DiskFile>),
    Rename(FileId, Arc<dyn DiskFile>),
    SyncDir(FileId, Arc<dyn DiskFile>),
    /// ...and listed, before anything in it is named.
    List(FileId, Arc<dyn DiskFile>),
    ListSync(FileId, Arc<dyn DiskFile>),
    Write(Group),
    Discard(String),
    Free,
}

impl BlobWriter {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            job: Job::None,
            current: None,
            staging: None,
            from_ms: 0,
            full_tries: 0,
            cut_off: None,
            freeing: Freeing::default(),
            free_next: false,
        }
    }

    /// Does the next bit of work. `now_ms` rises and never jumps.
    pub fn step(&mut self, now_ms: u64) -> Step {
        if self.shared.failure().is_some() || self.shared.writer_done.load(Ordering::Acquire) {
            // Dropped uncalled: whoever waits hears of it.
            let bodies = lock(&self.shared.bodies).close();
            drop(bodies);
            self.job = Job::None;
            return Step::Done;
        }
        // An edit for which there is no room was not made; any other failure of the manifest is fatal.
        let (adds, frees) = (matches!(self.job, Job::List(..)), matches!(self.job, Job::Free));
        let listing = adds || matches!(self.job, Job::ListSync(..)) || (frees && self.freeing.lists());
        let edits = adds || (frees && self.freeing.edits());
        match self.advance(now_ms) {
            Ok(step) => step,
            Err(error) if edits && error.is_full() && frees => {
                // Bodies wait for this, too: those who publish are held, and told.
                let waits = self.let_go();
                let was = std::mem::replace(&mut lock(&self.shared.bodies).full, waits);
                if waits && !was {
                    self.shared.ring(|bells| bells.ring_owner());
                }
                Step::Idle { again_ms: Some(SPACE_RETRY_MS) }
            }
            Err(error) if edits && error.is_full() => {
                self.give_up(&error, now_ms);
                Step::Worked
            }
            // A file whose sync failed could be left for another one, but a disk that loses what it was given is not one to
            // go on with.
            Err(error) if listing || error.is_failed_sync() => {
                self.shared.fail(error);
                // The next step lets go of those who wait.
                Step::Worked
            }
            Err(error) => {
                self.give_up(&error, now_ms);
                Step::Worked
            }
        }
    }

    fn advance(&mut self, now_ms: u64) -> Result<Step> {
        let shared = Arc::clone(&self.shared);
        let disk = shared.disk.as_ref();
        let tmp = BLOB_TMP_NAME;
        // The job stays in place while it may fail, so that it can be given up properly.
        match &mut self.job {
            Job::None => return Ok(self.next_job(now_ms)),
            Job::Create(id) => {
                let file = disk.create(tmp, 0).map_err(Error::io("create", tmp))?;
                self.job = Job::Header(*id, file);
            }
            Job::Header(id, file) => {
                let header = BlobHeader {
                    store_id: shared.store_id,
                    epoch: shared.epoch,
                    file: *id,
                    edit: shared.manifest.durable(),
                };
                file.write_at(0, &header.encode()).map_err(Error::io("write", tmp))?;
                self.job = Job::HeaderSync(*id, Arc::clone(file));
            }
            Job::HeaderSync(id, file) => {
                file.sync().map_err(Error::io("sync", tmp))?;
                self.job = Job::Rename(*id, Arc::clone(file));
            }
            Job::Rename(id, file) => {
                disk.rename(tmp, &blob_name(*id)).map_err(Error::io("rename", tmp))?;
                self.job = Job::SyncDir(*id, Arc::clone(file));
            }
            Job::SyncDir(id, file) => {
                shared.sync_dir()?;
                self.job = Job::List(*id, Arc::clone(file));
            }
            Job::List(id, file) => {
                shared.edit(&[Edit::Blobs { added: vec![*id], removed: Vec::new() }])?;
                self.job = Job::ListSync(*id, Arc::clone(file));
            }
            Job::ListSync(id, file) => {
                shared.manifest.sync()?;
                lock(&shared.blobs).files.insert(*id, BlobFile::made(Arc::clone(file)));
                let (id, file) = (*id, Arc::clone(file));
                self.current = Some(Current { id, file, end: BLOCK_BYTES as u64 });
                self.job = Job::None;
            }
            Job::Write(group) => {
                let Some(current) = &mut self.current else {
                    return Err(Error::Settings("no blob file is open".into()));
                };
                let staging = self.staging.get_or_insert_default();
                if group.write(&shared, current, staging)? {
                    self.job = Job::None;
                    self.free_next = true;
                    // Not where it was only the part of a group that found room.
                    if self.cut_off.is_none() {
                        self.full_tries = 0;
                        lock(&shared.bodies).full = false;
                    }
                }
            }
            Job::Discard(name) => {
                let name = std::mem::take(name);
                self.job = Job::None;
                match disk.remove(&name) {
                    // What is left of it goes at the next open.
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(Error::Io { op: "remove", file: name, source: error });
                    }
                    _ => {}
                }
            }
            Job::Free => {
                if self.freeing.advance(&shared)? {
                    self.job = Job::None;
                }
            }
        }
        Ok(Step::Worked)
    }

    fn next_job(&mut self, now_ms: u64) -> Step {
        if let Some(CutOff { file, end }) = self.cut_off.take() {
            // Whoever else needs room can have it meanwhile. Failing to give it back loses nothing but room.
            drop(file.set_len(end));
            return Step::Worked;
        }
        if std::mem::take(&mut self.free_next) && self.next_free(now_ms) {
            self.job = Job::Free;
            return Step::Worked;
        }
        let waits = self.let_go();
        if waits && now_ms >= self.from_ms && self.full_tries > 0 && !self.may_fit() {
            self.from_ms = now_ms + SPACE_RETRY_MS;
        }
        if waits && now_ms >= self.from_ms {
            let full = |current: &Current| current.end >= self.shared.settings.blob_file_bytes;
            self.job = if self.current.as_ref().is_none_or(full) {
                self.current = None;
                Job::Create(self.shared.next_file())
            } else {
                Job::Write(Group::take(&self.shared, self.current.as_mut()))
            };
            return Step::Worked;
        }
        if self.next_free(now_ms) {
            self.job = Job::Free;
            return Step::Worked;
        }
        let again_ms = if waits { self.from_ms - now_ms } else { LOOK_AGAIN_MS };
        Step::Idle { again_ms: Some(again_ms) }
    }

    /// Whether there is room for the next body, as far as the system knows: else it need not be tried, which would be to write
    /// most of it in vain.
    fn may_fit(&self) -> bool {
        let first = lock(&self.shared.bodies).bodies.front().map_or(0, |body| body.bytes.len() as u64);
        self.shared.disk.free_space().map_or(true, |free| free > first)
    }

    /// Lets go of bodies for which nobody waits any more; says whether others wait.
    fn let_go(&self) -> bool {
        let (gone, waits) = {
            let mut waiting = lock(&self.shared.bodies);
            let gone = waiting.take_if(|body| body.waiter.is_gone());
            waiting.full &= !waiting.is_empty();
            (gone, !waiting.is_empty())
        };
        drop(gone);
        waits
    }

    /// Gives work up that could not be done, says so, and sees to it that it is tried again: for ever where the disk is
    /// full, else some times, since those who wait keep others from publishing.
    fn give_up(&mut self, error: &Error, now_ms: u64) {
        let full = error.is_full();
        let sync = matches!(error, Error::Io { op: "sync", .. });
        if full {
            self.from_ms = now_ms + (SPACE_RETRY_MS << self.full_tries.min(SPACE_DOUBLINGS));
            self.full_tries += 1;
            Counters::add(&self.shared.counters.out_of_space, 1);
        } else {
            self.from_ms = now_ms + RETRY_MS;
            Counters::add(&self.shared.counters.background_errors, 1);
            // What could not be removed has been given up already.
            let what = match self.job {
                Job::None | Job::Free => "a file of large messages is left for the next start",
                _ => "writing a large message was given up for now",
            };
            self.shared.find(format!("{what}: {error}"));
        }
        match std::mem::replace(&mut self.job, Job::None) {
            Job::Write(mut group) => {
                let mut left = std::mem::take(&mut group.bodies);
                match &mut self.current {
                    // What found room before is as good as ever: it is synced and told. The rest is tried again.
                    Some(current) if full && !sync => {
                        group.bodies.extend(left.drain(..group.index));
                        if let Some((cut, _)) = left.front() {
                            current.end = cut.offset;
                            self.cut_off = Some(CutOff { file: Arc::clone(&current.file), end: cut.offset });
                        }
                        if !group.bodies.is_empty() {
                            group.written = 0;
                            self.job = Job::Write(group);
                        }
                    }
                    // Nothing is known of a file whose sync failed, and where a write failed the place is not worth trying
                    // again: the bodies are in memory, and go into another file.
                    _ => self.current = None,
                }
                let mut waiting = lock(&self.shared.bodies);
                for (_, mut body) in left.into_iter().rev() {
                    body.tries += u8::from(!full);
                    waiting.bodies.push_front(body);
                }
            }
            Job::Create(_) | Job::Header(..) | Job::HeaderSync(..) | Job::Rename(..) => {
                self.job = Job::Discard(BLOB_TMP_NAME.to_owned());
                self.count_try(full);
            }
            Job::SyncDir(id, _) | Job::List(id, _) => {
                self.job = Job::Discard(blob_name(id));
                self.count_try(full);
            }
            _ => return,
        }
        let lost = {
            let mut waiting = lock(&self.shared.bodies);
            waiting.full = full;
            waiting.take_if(|body| body.tries >= TRIES_MAX)
        };
        for body in lost {
            body.waiter.written(Err(NotWritten(error.to_string())));
        }
        self.shared.ring(|bells| bells.ring_owner());
    }

    /// There is no file for any of them.
    fn count_try(&self, full: bool) {
        lock(&self.shared.bodies).bodies.iter_mut().for_each(|body| body.tries += u8::from(!full));
    }
}
