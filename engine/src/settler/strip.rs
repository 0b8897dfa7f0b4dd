//! What lives of old log segments, as much as is sorted by queue at once.

use std::sync::Arc;

use crate::blobs::BlobPlace;
use crate::codec::Writer;
use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::group::{Gather, read_frame};
use crate::ids::{FrameNo, QueueId, SegmentNo, Seq};
use crate::ledger::Ledger;
use crate::record::{self, Record, Stored};
use crate::settled::Builder;

/// Messages of log segments on their way into a settled segment.
#[derive(Debug, Default)]
pub(super) struct Strip {
    payloads: Vec<u8>,
    blobs: Vec<BlobPlace>,
    entries: Vec<Entry>,
    /// Entries before it were emitted.
    emitted: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    queue: QueueId,
    seq: Seq,
    at: usize,
    bytes: u32,
    /// Which of the strip's bodies in blob files, from 1; 0: none.
    blob: u32,
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
    pub(super) fn next_group(&mut self) -> Result<Option<Vec<Record>>> {
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
        let Some(payload) = self.gather.push(&frame) else { return Ok(Some(Vec::new())) };
        let records =
            record::decode_group(payload).map_err(|e| Error::damage(&self.name, offset, e.to_string()))?;
        Ok(Some(records))
    }
}

impl Strip {
    /// Takes what lives, as of the durable log (E3), of a group of records.
    pub(super) fn take(&mut self, records: &[Record], ledger: &Ledger) {
        for record in records {
            let Record::Put { targets, payload, blob } = record else { continue };
            // In memory once, whatever the fan-out; in the settled segment once per queue. A body in a blob file stays there.
            let mut held = None;
            for &(queue, seq) in targets {
                if ledger.queues.get(&queue).is_some_and(|queue| queue.is_live(seq)) {
                    let (at, blob) = *held.get_or_insert_with(|| {
                        let at = self.payloads.len();
                        self.payloads.extend_from_slice(payload);
                        self.blobs.extend(blob);
                        (at, if blob.is_some() { self.blobs.len() as u32 } else { 0 })
                    });
                    self.entries.push(Entry { queue, seq, at, bytes: payload.len() as u32, blob });
                }
            }
        }
    }

    /// An empty one with room for so many bytes: growing by doubling would take up to three times as much.
    pub(super) fn with_room(bytes: u64) -> Self {
        let bytes = bytes as usize;
        // Small messages take about as much for their entry as for themselves.
        let entries = Vec::with_capacity(bytes / 4 / size_of::<Entry>());
        Self { payloads: Vec::with_capacity(bytes), entries, blobs: Vec::new(), emitted: 0 }
    }

    /// Bytes of memory it takes, about.
    pub(super) fn bytes(&self) -> u64 {
        (self.payloads.len()
            + self.blobs.len() * size_of::<BlobPlace>()
            + self.entries.len() * size_of::<Entry>()) as u64
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
                self.payloads.clear();
                self.blobs.clear();
                self.entries.clear();
                self.emitted = 0;
                return true;
            };
            let payload = &self.payloads[entry.at..entry.at + entry.bytes as usize];
            let blob = (entry.blob as usize).checked_sub(1).map(|index| self.blobs[index]);
            builder.push(entry.queue, entry.seq, Stored { payload, blob }, out);
            self.emitted += 1;
        }
        false
    }
}
