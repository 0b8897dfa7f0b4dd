//! Giving back what is dead: blocks of bodies, and files in which nothing lives.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{BlobWriter, blob_name};
use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::ids::FileId;
use crate::manifest::Edit;
use crate::shared::{Counters, Shared, lock};

/// Bodies looked at while the ledger is held once.
const LOOK_BODIES: usize = 256;

/// What is being given back.
#[derive(Debug, Default)]
pub(super) struct Freeing {
    job: Job,
    /// When the file that is written was first seen without a body.
    empty_since_ms: Option<u64>,
}

#[derive(Debug, Default)]
enum Job {
    #[default]
    None,
    Punch {
        id: FileId,
        file: Arc<dyn DiskFile>,
        offset: u64,
        bytes: u64,
    },
    Unlist(FileId),
    UnlistSync(FileId),
    Remove(FileId),
}

impl BlobWriter {
    /// Finds something to give back, if there is anything.
    pub(super) fn next_free(&mut self, now_ms: u64) -> bool {
        // The ledger first, as everywhere. What it does not name as of the durable log is dead, unless somebody in flight
        // holds it: a commit on its way, a read, a message in memory (E3).
        let mut ledger = lock(&self.shared.ledger);
        let mut blobs = lock(&self.shared.blobs);
        blobs.suspects.extend(ledger.blobs.take_dead());
        for _ in 0..LOOK_BODIES.min(blobs.suspects.len()) {
            let Some(place) = blobs.suspects.pop_front() else { break };
            if !ledger.blobs.lives(place) {
                blobs.forget(place);
            }
        }
        drop(ledger);
        let more = !blobs.suspects.is_empty();
        let current = self.current.as_ref().map(|current| current.id);
        let mut empty = blobs.files.iter().filter(|(_, file)| file.is_empty()).map(|(id, _)| *id);
        // A file that has just been emptied is kept for the next body, for a while.
        if let Some(id) = empty.find(|id| Some(*id) != current) {
            self.freeing.job = Job::Unlist(id);
            return true;
        }
        let current_empty =
            current.is_some_and(|id| blobs.files.get(&id).is_some_and(super::BlobFile::is_empty));
        if current_empty {
            let since = *self.freeing.empty_since_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(since) >= self.shared.settings.idle_checkpoint_ms {
                self.freeing.empty_since_ms = None;
                self.current = None;
                return true;
            }
        } else {
            self.freeing.empty_since_ms = None;
        }
        while let Some((id, offset, bytes)) = blobs.free.pop_front() {
            if let Some(file) = blobs.files.get(&id).and_then(|file| file.file.clone()) {
                self.freeing.job = Job::Punch { id, file, offset, bytes };
                return true;
            }
        }
        more
    }
}

impl Freeing {
    /// The next step changes the manifest, whose failure is fatal.
    pub(super) fn lists(&self) -> bool {
        matches!(self.job, Job::Unlist(_) | Job::UnlistSync(_))
    }

    /// The next step makes an edit. Where there is no room for it, it is made again.
    pub(super) fn edits(&self) -> bool {
        matches!(self.job, Job::Unlist(_))
    }

    /// Makes one call to the disk; true when nothing is left of what was found.
    pub(super) fn advance(&mut self, shared: &Arc<Shared>) -> Result<bool> {
        match std::mem::take(&mut self.job) {
            Job::None => {}
            Job::Punch { id, file, offset, bytes } => {
                // Failing to give space back loses nothing but space.
                if file.punch(offset, bytes).is_ok()
                    && let Some(file) = lock(&shared.blobs).files.get_mut(&id)
                {
                    file.bytes = file.bytes.saturating_sub(bytes);
                }
            }
            Job::Unlist(id) => {
                self.job = Job::Unlist(id);
                shared.edit(&[Edit::Blobs { added: Vec::new(), removed: vec![id] }])?;
                self.job = Job::UnlistSync(id);
            }
            Job::UnlistSync(id) => {
                shared.manifest.sync()?;
                lock(&shared.blobs).files.remove(&id);
                self.job = Job::Remove(id);
            }
            Job::Remove(id) => {
                Counters::add(&shared.counters.blob_files_removed, 1);
                let name = blob_name(id);
                match shared.disk.remove(&name) {
                    // One that cannot be removed now goes at the next open.
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        return Err(Error::Io { op: "remove", file: name, source });
                    }
                    _ => {}
                }
            }
        }
        Ok(matches!(self.job, Job::None))
    }
}
