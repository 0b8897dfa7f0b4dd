//! The blob files of an open store: which bodies stand in them, and who holds them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use super::put::{BlobRef, Held};
use super::{BlobPlace, Opened};
use crate::disk::DiskFile;
use crate::format::BLOCK_BYTES;
use crate::ids::FileId;
use crate::shared::Shared;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct BlobFiles {
    pub(crate) files: BTreeMap<FileId, BlobFile>,
    /// Bodies of which somebody has let go: they may be dead.
    pub(super) suspects: VecDeque<BlobPlace>,
    /// Ranges that nothing live stands in: file, offset, bytes.
    pub(super) free: VecDeque<(FileId, u64, u64)>,
}

/// A listed blob file.
#[derive(Debug)]
pub(crate) struct BlobFile {
    /// None when it is missing or damaged: why is known then.
    pub(crate) file: Option<Arc<dyn DiskFile>>,
    pub(crate) broken: Option<String>,
    /// Offset behind the last body.
    pub(crate) end: u64,
    /// Bytes of blocks that were not given back, its header's included.
    pub(crate) bytes: u64,
    /// Bodies that may live, by offset.
    bodies: BTreeMap<u64, Body>,
}

#[derive(Debug)]
struct Body {
    place: BlobPlace,
    held: Weak<Held>,
}

impl BlobFile {
    /// One that was just made.
    pub(super) fn made(file: Arc<dyn DiskFile>) -> Self {
        let bytes = BLOCK_BYTES as u64;
        Self { file: Some(file), broken: None, end: bytes, bytes, bodies: BTreeMap::new() }
    }

    /// One that an open found.
    pub(crate) fn found(file: Opened, live: impl Iterator<Item = BlobPlace>) -> Self {
        let body = |place: BlobPlace| (place.offset, Body { place, held: Weak::new() });
        let bodies = live.map(body).collect();
        let (file, length, broken) = match file {
            Ok((file, length)) => (Some(file), length, None),
            Err(why) => (None, 0, Some(why)),
        };
        Self { file, broken, end: length, bytes: length.next_multiple_of(BLOCK_BYTES as u64), bodies }
    }

    /// No body in it may live.
    pub(super) fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    /// Ranges between the bodies that may live.
    pub(crate) fn gaps(&self) -> Vec<(u64, u64)> {
        let end = self.end.next_multiple_of(BLOCK_BYTES as u64);
        let mut gaps = Vec::new();
        let mut at = BLOCK_BYTES as u64;
        for body in self.bodies.values() {
            if body.place.offset > at {
                gaps.push((at, body.place.offset - at));
            }
            at = at.max(body.place.end());
        }
        if end > at {
            gaps.push((at, end - at));
        }
        gaps
    }

    /// Bytes of bodies that may live.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.bodies.values().map(|body| body.place.bytes).sum()
    }
}

impl BlobFiles {
    /// What an open found. What is named by nothing is free.
    pub(crate) fn found(files: BTreeMap<FileId, BlobFile>) -> Self {
        let mut free = VecDeque::new();
        for (id, file) in &files {
            if file.file.is_some() && !file.is_empty() {
                free.extend(file.gaps().into_iter().map(|(offset, bytes)| (*id, offset, bytes)));
            }
        }
        Self { files, suspects: VecDeque::new(), free }
    }

    /// A handle to a body that lives, or was just written. Called with the ledger held where it lives: what is dead does
    /// not come to life again. In words why it cannot be read, if so.
    pub(crate) fn hold(
        &mut self,
        shared: &Arc<Shared>,
        place: BlobPlace,
    ) -> Result<(BlobRef, Arc<dyn DiskFile>), String> {
        let name = super::blob_name(place.file);
        let Some(file) = self.files.get_mut(&place.file) else { return Err(format!("{name} is not listed")) };
        let Some(open) = &file.file else {
            return Err(file.broken.clone().unwrap_or_else(|| format!("{name} cannot be read")));
        };
        let body = file.bodies.get_mut(&place.offset).filter(|body| body.place == place);
        let Some(body) = body else {
            return Err(format!("no body that lives stands at offset {} of {name}", place.offset));
        };
        let held = body.held.upgrade().unwrap_or_else(|| {
            let held = Arc::new(Held { place, shared: Arc::downgrade(shared) });
            body.held = Arc::downgrade(&held);
            held
        });
        Ok((BlobRef(held), Arc::clone(open)))
    }

    /// A body was written and synced.
    pub(super) fn add(&mut self, place: BlobPlace) {
        if let Some(file) = self.files.get_mut(&place.file) {
            file.bodies.insert(place.offset, Body { place, held: Weak::new() });
        }
    }

    /// Forgets a body that nobody holds, which then is dead; false when somebody does.
    pub(super) fn forget(&mut self, place: BlobPlace) -> bool {
        let Some(file) = self.files.get_mut(&place.file) else { return false };
        let unheld = |body: &Body| body.place == place && body.held.strong_count() == 0;
        if !file.bodies.get(&place.offset).is_some_and(unheld) {
            return false;
        }
        file.bodies.remove(&place.offset);
        self.free.push_back((place.file, place.offset, place.end() - place.offset));
        true
    }
}
