//! The change from one segment to the next.

use std::sync::Arc;

use super::{CLOSE_PATIENCE_MS, Group, Phase, SPACE_RETRY_MS, Writer};
use crate::error::{Error, Result, is_full};
use crate::format::{BLOCK_BYTES, SegmentHeader, segment_blocks, segment_name};
use crate::ids::FileId;
use crate::manifest::{Edit, SegmentEnd, SegmentEntry};
use crate::reserve::Purpose;
use crate::shared::{Counters, LogFile, Spare, Step, lock};

impl Writer {
    /// Takes a spare, or makes a file if there is none; waits where the disk is full.
    pub(super) fn take_file(&mut self, group: Group, now_ms: u64) -> Result<Step> {
        let id = {
            let mut log = lock(&self.shared.log);
            if let Some(spare) = log.spares.pop() {
                self.phase = Phase::RotateEdit(group, spare);
                return Ok(Step::Worked);
            }
            let id = log.next_file;
            log.next_file = id.next();
            id
        };
        let name = segment_name(id);
        match self.shared.create_file(&name, self.shared.settings.segment_bytes, Purpose::Log) {
            Ok(file) => {
                self.phase = Phase::RotateNewFile(group, Spare { id, file, written: false });
                Ok(Step::Worked)
            }
            Err(source) if is_full(source.kind()) => {
                self.phase = Phase::RotateFile(group);
                self.wait_for_room(Error::Io { op: "create", file: name, source }, now_ms)
            }
            Err(source) => Err(Error::Io { op: "create", file: name, source }),
        }
    }

    /// Waits until somebody makes room; while the store closes not for ever. What waits here was never confirmable.
    pub(super) fn wait_for_room(&mut self, full: Error, now_ms: u64) -> Result<Step> {
        let closing = lock(&self.shared.inbox).closing.is_some();
        if closing && now_ms.saturating_sub(*self.no_room_since_ms.get_or_insert(now_ms)) >= CLOSE_PATIENCE_MS
        {
            return Err(Error::NoRoomToClose { source: Box::new(full) });
        }
        Ok(Step::Idle { again_ms: Some(SPACE_RETRY_MS) })
    }

    /// Says in the manifest where the old segment ended and which one follows: before the new one's first frame.
    pub(super) fn list_segment(&self, file: FileId) -> Result<()> {
        let end = self.segment_end();
        let entry = SegmentEntry {
            no: self.end.segment.next(),
            file,
            first_frame: self.end.next_frame,
            prev_crc: self.end.prev_crc,
            end: None,
        };
        let edits = [Edit::SegmentEnded { no: self.end.segment, end }, Edit::SegmentAdded(entry)];
        self.shared.edit(&edits)?;
        Ok(())
    }

    pub(super) fn open_segment(&mut self, spare: Spare, now_ms: u64) -> Result<()> {
        let Spare { id: file_id, file, written } = spare;
        let end = self.segment_end();
        let old = self.end.segment;
        self.end.segment = old.next();
        self.end.file_name = segment_name(file_id);
        let header = SegmentHeader {
            store_id: self.shared.store_id,
            epoch: self.shared.epoch,
            segment: self.end.segment,
            file: file_id,
            first_frame: self.end.next_frame,
            prev_crc: self.end.prev_crc,
            blocks: segment_blocks(self.shared.settings.segment_bytes),
            edit: self.shared.manifest.durable(),
        };
        file.write_at(0, &header.encode()).map_err(Error::io("write", &self.end.file_name))?;
        self.end.file = Arc::clone(&file);
        self.end.offset = BLOCK_BYTES as u64;
        self.end.written_upto = if written { self.shared.settings.segment_bytes } else { self.end.offset };
        self.no_room_since_ms = None;
        let mut log = lock(&self.shared.log);
        if let Some(old) = log.segments.get_mut(&old) {
            old.end = Some(end);
        }
        log.segments.insert(
            self.end.segment,
            LogFile { file_id, file, end: None, pins: 0, punched: false, opened_ms: now_ms },
        );
        drop(log);
        Counters::add(&self.shared.counters.rotations, 1);
        self.shared.ring(|bells| {
            bells.ring_keeper();
            bells.ring_settler();
        });
        Ok(())
    }

    fn segment_end(&self) -> SegmentEnd {
        SegmentEnd { last_frame: self.end.last_frame, bytes: self.end.offset }
    }
}
