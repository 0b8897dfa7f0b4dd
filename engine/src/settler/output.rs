//! A settled segment that is being written: under a name of its own until it is whole, in small synced steps.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::codec::Writer;
use crate::disk::{Blocks, DiskFile};
use crate::error::{Error, Result};
use crate::format::settled_name;
use crate::ids::{FileId, SegmentNo};
use crate::manifest::SettledEntry;
use crate::reserve::Purpose;
use crate::settled::{Builder, Extent, SettledFile, SettledHeader};
use crate::shared::Shared;

#[cfg(all(test, feature = "sim"))]
mod tests;

/// Name that a settled segment has until it is whole.
pub(crate) const SETTLED_TMP_NAME: &str = "settled.tmp";

/// Bytes written by one step.
pub(super) const WRITE_BYTES: usize = 1 << 20;
/// Bytes between two syncs, so that no large write stands before a confirm's sync.
const SYNC_BYTES: u64 = 4 << 20;

/// The file under way.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) id: FileId,
    builder: Option<Builder>,
    /// Made, but not yet written.
    waiting: Writer,
    /// Where the next write is made ready.
    blocks: Option<Blocks>,
    file: Option<Arc<dyn DiskFile>>,
    written: u64,
    synced: u64,
    finished: Option<(SettledEntry, Vec<Extent>)>,
    /// It is as long as what was written, durably.
    cut: bool,
    named: bool,
    /// Its temporary name is taken: an earlier one could not be removed.
    taken: bool,
}

/// A whole settled segment, durable under its name.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) entry: SettledEntry,
    pub(super) extents: Vec<Extent>,
    pub(super) file: Arc<SettledFile>,
}

impl Output {
    pub(super) fn new(shared: &Shared, below: SegmentNo) -> Self {
        let id = shared.next_file();
        let mut waiting = Writer::default();
        let header = SettledHeader { store_id: shared.store_id, epoch: shared.epoch, file: id, below };
        let builder = Some(Builder::new(header, &mut waiting));
        Self {
            id,
            builder,
            waiting,
            blocks: None,
            file: None,
            written: 0,
            synced: 0,
            finished: None,
            cut: false,
            named: false,
            taken: false,
        }
    }

    /// Takes messages in.
    pub(super) fn append(&mut self, append: impl FnOnce(&mut Builder, &mut Writer)) {
        if let Some(builder) = &mut self.builder {
            append(builder, &mut self.waiting);
        }
    }

    /// Nothing was appended.
    pub(super) fn is_empty(&self) -> bool {
        self.builder.as_ref().is_some_and(|builder| builder.records() == 0)
    }

    /// As much waits as one step writes.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.0.len() >= WRITE_BYTES
    }

    /// Makes one call to the disk; false when there was nothing to write or sync.
    pub(super) fn flush(&mut self, shared: &Shared) -> Result<bool> {
        let Some(file) = &self.file else {
            let file = shared.create_file(SETTLED_TMP_NAME, 0, Purpose::Settling);
            self.taken = file.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists);
            self.file = Some(file.map_err(Error::io("create", SETTLED_TMP_NAME))?);
            return Ok(true);
        };
        if self.written - self.synced >= SYNC_BYTES {
            file.sync().map_err(Error::io("sync", SETTLED_TMP_NAME))?;
            self.synced = self.written;
            return Ok(true);
        }
        if self.waiting.0.is_empty() {
            return Ok(false);
        }
        let part = self.waiting.0.len().min(WRITE_BYTES);
        let bytes = &self.waiting.0[..part];
        let written = if part == WRITE_BYTES {
            // To find memory for it in the page cache, and to copy it there, was half of all that settling cost.
            let blocks = self.blocks.get_or_insert_with(|| Blocks::with_room(WRITE_BYTES));
            blocks.clear();
            blocks.extend(bytes);
            file.write_blocks(self.written, blocks)
        } else {
            file.write_at(self.written, bytes)
        };
        written.map_err(Error::io("write", SETTLED_TMP_NAME))?;
        self.waiting.0.drain(..part);
        self.written += part as u64;
        Ok(true)
    }

    /// Ends the file, one call to the disk at a time; Some when it stands, durable, under its name.
    pub(super) fn finish(&mut self, shared: &Shared) -> Result<Option<Finished>> {
        if let Some(builder) = self.builder.take() {
            self.finished = Some(builder.finish(&mut self.waiting));
        }
        if self.flush(shared)? {
            return Ok(None);
        }
        let (Some(file), Some((entry, _))) = (&self.file, &self.finished) else { return Ok(None) };
        if !self.cut {
            // It may have been a piece of the reserve, which is longer. So even where the last of it is synced already.
            file.set_len(self.written).map_err(Error::io("cut", SETTLED_TMP_NAME))?;
            file.sync().map_err(Error::io("sync", SETTLED_TMP_NAME))?;
            self.cut = true;
            return Ok(None);
        }
        if !self.named {
            let name = settled_name(entry.file);
            shared.disk.rename(SETTLED_TMP_NAME, &name).map_err(Error::io("rename", SETTLED_TMP_NAME))?;
            self.named = true;
            return Ok(None);
        }
        shared.sync_dir()?;
        let file = Arc::new(SettledFile::written(Arc::clone(file), *entry));
        let (entry, extents) = self.finished.take().expect("looked at above");
        Ok(Some(Finished { entry, extents, file }))
    }

    /// The name under which an unlisted file of it may stand.
    pub(super) fn leftover(&self) -> Option<String> {
        if self.file.is_none() && !self.taken {
            return None;
        }
        Some(if self.named { settled_name(self.id) } else { SETTLED_TMP_NAME.to_owned() })
    }
}
