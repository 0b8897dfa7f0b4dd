//! What lives of old log segments, as much as is sorted by queue at once.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Parsed, Writer};
use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::group::{Gather, read_frame};
use crate::ids::{FrameNo, QueueId, SegmentNo, Seq};
use crate::ledger::Ledger;
use crate::record::{self, Walked, WalkedPut};
use crate::settled::Builder;
use crate::shared::lock;
use crate::sync::Mutex;

/// Messages of log segments on their way into a settled segment.
#[derive(Debug, Default)]
pub(super) struct Strip {
    /// As they stand in the log.
    records: Vec<u8>,
    entries: Vec<Entry>,
    /// Entries before it were emitted.
    emitted: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    queue: QueueId,
    seq: Seq,
    /// Where its record is.
    at: usize,
    bytes: u32,
}

/// A log segment that is read from front to back.
#[derive(Debug)]
pub(super) struct LogInput {
    pub(super) no: SegmentNo,
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    /// Its last frame, and the offset behind it.
    pub(super) last: FrameNo,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) gather: Gather,
}

impl LogInput {
    /// Reads the next frame; its group's records if it closes one. None at the end.
    pub(super) fn next_group(&mut self) -> Result<Option<Bytes>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let offset = self.offset;
        let frame =
            read_frame(self.file.as_ref(), offset, self.end).map_err(Error::io("read", &self.name))?;
        let frame = frame.map_err(|no| Error::damage(&self.name, offset, no.to_string()))?;
        if frame.header.number > self.last {
            return Err(Error::damage(&self.name, offset, "a frame stands there that is not the segment's"));
        }
        self.offset += frame.bytes;
        // A batch stays in one segment; a part that does not close is void (E4).
        Ok(Some(self.gather.push(&frame).unwrap_or_default()))
    }
}

impl Strip {
    /// Takes what lives, as of the durable log (E3), of a group of records.
    pub(super) fn take(&mut self, group: &Bytes, ledger: &Mutex<Ledger>) -> Parsed<()> {
        let fresh = self.entries.len();
        self.copy_live(group, &lock(ledger))?;
        // The ledger is free again: others wait for it.
        let mut verified = None;
        for entry in &self.entries[fresh..] {
            if verified.replace(entry.at) != Some(entry.at) {
                self.put(entry).verify()?;
            }
        }
        Ok(())
    }

    fn copy_live(&mut self, group: &Bytes, ledger: &Ledger) -> Parsed<()> {
        record::walk_group(group, |walked| {
            let Walked::Put(put) = walked else { return };
            // In memory once, whatever the fan-out; in the settled segment once per queue. A body in a blob file stays there.
            let mut held = None;
            for (queue, seq) in put.targets.iter() {
                if ledger.queues.get(&queue).is_some_and(|queue| queue.is_live(seq)) {
                    let at = *held.get_or_insert_with(|| {
                        let at = self.records.len();
                        self.records.extend_from_slice(put.record);
                        at
                    });
                    self.entries.push(Entry { queue, seq, at, bytes: put.record.len() as u32 });
                }
            }
        })
    }

    fn put(&self, entry: &Entry) -> WalkedPut<'_> {
        let record = &self.records[entry.at..entry.at + entry.bytes as usize];
        record::walk_put(record).expect("it was walked over when it was taken")
    }

    /// An empty one with room for so many bytes: growing by doubling would take up to three times as much.
    pub(super) fn with_room(bytes: u64) -> Self {
        let bytes = bytes as usize;
        // Small messages take about as much for their entry as for themselves.
        let entries = Vec::with_capacity(bytes / 4 / size_of::<Entry>());
        Self { records: Vec::with_capacity(bytes), entries, emitted: 0 }
    }

    /// Bytes of memory it takes, about.
    pub(super) fn bytes(&self) -> u64 {
        (self.records.len() + self.entries.len() * size_of::<Entry>()) as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Groups it by queue.
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable();
    }

    /// Emits about so many bytes; true when it is done, and empty again.
    pub(super) fn emit(&mut self, builder: &mut Builder, out: &mut Writer, bytes: usize) -> bool {
        while out.0.len() < bytes {
            let Some(entry) = self.entries.get(self.emitted) else {
                builder.close_extent();
                // Its memory is used again.
                self.records.clear();
                self.entries.clear();
                self.emitted = 0;
                return true;
            };
            builder.push_copy(entry.queue, entry.seq, &self.put(entry), out);
            self.emitted += 1;
        }
        false
    }
}
