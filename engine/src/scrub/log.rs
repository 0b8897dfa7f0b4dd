//! A log segment that has ended and in which something lives, frame by frame.

use super::{Damage, Read, cannot_be_read};
use crate::format::{BLOCK_BYTES, segment_name};
use crate::group::{Gather, read_frame};
use crate::ids::SegmentNo;
use crate::record;
use crate::shared::{Shared, lock};

#[derive(Debug)]
pub(super) struct LogScrub {
    no: SegmentNo,
    offset: u64,
    /// Checksum of the frame before, which the next one names.
    last_crc: Option<u32>,
    gather: Gather,
    /// 4 KiB block where the group under way begins.
    block: u32,
}

impl LogScrub {
    pub(super) fn new(no: SegmentNo) -> Self {
        Self { no, offset: BLOCK_BYTES as u64, last_crc: None, gather: Gather::default(), block: 1 }
    }

    /// Reads one frame.
    pub(super) fn advance(&mut self, shared: &Shared) -> Read {
        let done = Read { done: true, ..Read::default() };
        // Pinned while the ledger is held, and only while something in it lives: as a reader does, or a segment that is
        // being recycled would look damaged.
        let mut ledger = lock(&shared.ledger);
        if ledger.is_dead(self.no) || self.no < ledger.settled_below {
            return done;
        }
        let mut log = lock(&shared.log);
        let Some(segment) = log.segments.get_mut(&self.no) else { return done };
        let Some(end) = segment.end else { return done };
        let (file, name) = (std::sync::Arc::clone(&segment.file), segment_name(segment.file_id));
        segment.pins += 1;
        drop(log);
        drop(ledger);
        let read =
            if self.offset >= end.bytes { done } else { self.read(shared, file.as_ref(), &name, end.bytes) };
        shared.unpin_log(&[self.no]);
        read
    }

    fn read(&mut self, shared: &Shared, file: &dyn crate::disk::DiskFile, name: &str, end: u64) -> Read {
        let what = match read_frame(file, self.offset, end) {
            Ok(Ok(frame)) if self.last_crc.is_none_or(|crc| crc == frame.header.prev_crc) => {
                if frame.header.group_first == frame.header.number {
                    self.block = (self.offset / BLOCK_BYTES as u64) as u32;
                }
                let records = self.gather.push(&frame).map(record::decode_group);
                self.offset += frame.bytes;
                self.last_crc = Some(frame.crc);
                match records {
                    None | Some(Ok(_)) => return Read { bytes: frame.bytes, ..Read::default() },
                    Some(Err(why)) => why.to_string(),
                }
            }
            Ok(Ok(_)) => "the chain of checksums is broken".to_owned(),
            Ok(Err(no)) => no.to_string(),
            Err(error) => cannot_be_read(&error),
        };
        let concerned = lock(&shared.ledger).lives_from(self.no, self.block);
        let damage = Damage {
            file: name.to_owned(),
            offset: self.offset,
            what: format!("{what}; a start would refuse it, `leveret repair` sets it aside"),
            concerned,
        };
        Read { damage: vec![damage], done: true, ..Read::default() }
    }
}
