//! A segment read to its very end: the sound frames in front of and behind what is bad in it.

use std::sync::Arc;

use super::Gap;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, FRAME_HEADER_BYTES, FrameHeader, NoFrame, segment_name};
use crate::group::{Frame, read_frame};
use crate::ids::{EditNo, Epoch, FrameNo};
use crate::manifest::SegmentEntry;

/// A sound frame and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Good {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) number: FrameNo,
    pub(super) crc: u32,
}

/// What a segment's file holds.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) entry: SegmentEntry,
    /// The file that was read: not the one listed when that one is missing and this one holds its bytes.
    pub(super) name: String,
    pub(super) file: Option<Arc<dyn DiskFile>>,
    pub(super) frames: Vec<Good>,
    pub(super) gaps: Vec<Gap>,
    /// Not what was written: its sound frames must be copied to be of use.
    pub(super) damaged: bool,
    pub(super) edit_max: EditNo,
    pub(super) epoch_max: Epoch,
    pub(super) number_max: FrameNo,
    pub(super) durable_upto: FrameNo,
}

impl Walked {
    /// An unread one.
    pub(super) fn new(entry: SegmentEntry) -> Self {
        let before = FrameNo(entry.first_frame.0.saturating_sub(1));
        Self { entry, name: segment_name(entry.file), number_max: before, ..Self::default() }
    }

    /// The segment's file is not there at all.
    pub(super) fn missing(entry: SegmentEntry) -> Self {
        let mut walked = Self { damaged: true, ..Self::new(entry) };
        let bytes = entry.end.map_or(0, |end| end.bytes);
        walked.gap(0, bytes, entry.first_frame, entry.end.map(|end| end.last_frame), "the file is missing");
        walked
    }

    /// Takes a frame as sound.
    pub(super) fn push(&mut self, offset: u64, frame: &Frame) {
        let header = &frame.header;
        self.frames.push(Good { offset, bytes: frame.bytes, number: header.number, crc: frame.crc });
        self.edit_max = self.edit_max.max(header.edit);
        self.epoch_max = self.epoch_max.max(header.epoch);
        self.number_max = self.number_max.max(header.number);
        self.durable_upto = self.durable_upto.max(header.durable_upto);
    }

    /// Offset behind the last sound frame.
    pub(super) fn end(&self) -> u64 {
        self.frames.last().map_or(BLOCK_BYTES as u64, |good| good.offset + good.bytes)
    }

    /// Reads the frame that was found sound before.
    pub(super) fn read(&self, good: &Good) -> Result<Frame> {
        let Some(file) = &self.file else {
            return Err(Error::damage(&self.name, good.offset, "the file is missing"));
        };
        let frame = read_frame(file.as_ref(), good.offset, good.offset + good.bytes);
        let frame = frame.map_err(Error::io("read", &self.name))?;
        frame.map_err(|no| Error::damage(&self.name, good.offset, format!("it changed meanwhile: {no}")))
    }

    /// It is said already that nobody knows what followed the last sound frame.
    pub(super) fn ends_open(&self) -> bool {
        self.gaps.last().is_some_and(|gap| gap.last.is_none())
    }

    /// What followed the last sound frame is not known.
    pub(super) fn open_gap(&mut self, length: u64) {
        let (end, next) =
            (self.end(), self.frames.last().map_or(self.entry.first_frame, |good| good.number.next()));
        self.gap(end, length.saturating_sub(end), next, None, "what stood there cannot be told");
    }

    /// What stood between the last sound frame and the next segment's first one is not there.
    pub(super) fn gap_before(&mut self, next: FrameNo) {
        let first = self.frames.last().map_or(self.entry.first_frame, |good| good.number.next());
        if first < next {
            self.gap(
                self.end(),
                0,
                first,
                Some(FrameNo(next.0 - 1)),
                "what the next segment follows is not there",
            );
        }
    }

    fn gap(&mut self, offset: u64, bytes: u64, first: FrameNo, last: Option<FrameNo>, why: &str) {
        self.gaps.push(Gap { file: self.name.clone(), offset, bytes, first, last, why: why.to_owned() });
    }
}

/// Reads every sound frame of a segment, whatever stands between them. Only frames of this store whose numbers rise
/// count, so that neither an earlier use of the file nor what a recovery cut comes back.
///
/// Where the segment has no recorded end, the first bad frame above `proven` is its end: a torn tail. Unless something before
/// it is bad as well: then it is no tail, and what is sound behind it counts.
pub(super) fn walk(
    disk: &dyn Disk,
    store_id: u64,
    entry: SegmentEntry,
    name: &str,
    proven: FrameNo,
) -> Result<Walked> {
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    let limit = entry.end.map_or(length, |end| end.bytes.min(length));
    let number_limit = entry.end.map_or(FrameNo(u64::MAX), |end| end.last_frame);
    let mut walked = Walked { name: name.to_owned(), ..Walked::new(entry) };
    let mut last = walked.number_max;
    let mut last_crc = entry.prev_crc;
    let mut bad: Option<(u64, String)> = None;
    // The number of the frame that should stand at the offset, as far as headers tell.
    let mut due = entry.first_frame;
    let mut offset = BLOCK_BYTES as u64;
    let done = |last, offset| entry.end.is_some_and(|end| last >= end.last_frame && offset >= end.bytes);
    let torn = |last| entry.end.is_none() && last >= proven;
    let tail = |walked: &Walked, last| torn(last) && walked.gaps.is_empty();
    while offset + BLOCK_BYTES as u64 <= limit && !done(last, offset) {
        // Block by block behind what is bad: a whole read only where a frame begins.
        let read = if bad.is_some() && !begins(file.as_ref(), name, offset)? {
            Err(NoFrame::Absent)
        } else {
            read_frame(file.as_ref(), offset, limit).map_err(Error::io("read", name))?
        };
        let why = match read {
            Ok(frame)
                if frame.header.store_id == store_id
                    && frame.header.number > last
                    && frame.header.epoch >= walked.epoch_max
                    && frame.header.number <= number_limit =>
            {
                let chained = frame.header.prev_crc == last_crc;
                if !chained && bad.is_none() && tail(&walked, last) {
                    break;
                }
                if !chained || bad.is_some() {
                    let (start, why) =
                        bad.take().unwrap_or((offset, "what should stand before is not there".into()));
                    let upto = FrameNo(frame.header.number.0 - 1);
                    walked.gap(start, offset - start, last.next(), Some(upto), &why);
                }
                walked.push(offset, &frame);
                (last, last_crc) = (frame.header.number, frame.crc);
                due = last.next();
                offset += frame.bytes;
                continue;
            }
            Ok(_) => "no frame of this segment stands there".to_owned(),
            Err(no) => no.to_string(),
        };
        if tail(&walked, last) {
            break;
        }
        bad.get_or_insert((offset, why));
        let (bytes, next) = bad_frame(file.as_ref(), name, offset, store_id, due)?;
        (offset, due) = (offset + bytes, next);
    }
    if let Some(end) = entry.end
        && (last < end.last_frame || bad.is_some())
    {
        let (start, why) = bad.unwrap_or((walked.end(), "the file ends there".into()));
        walked.gap(start, end.bytes.saturating_sub(start), last.next(), Some(end.last_frame), &why);
    } else if let Some((start, why)) = bad.filter(|_| !torn(last)) {
        walked.gap(start, limit - start, last.next(), None, &why);
    }
    walked.file = Some(file);
    Ok(walked)
}

/// Whether a frame's header stands there.
fn begins(file: &dyn DiskFile, name: &str, offset: u64) -> Result<bool> {
    let mut block = [0; FRAME_HEADER_BYTES];
    file.read_at(offset, &mut block).map_err(Error::io("read", name))?;
    Ok(FrameHeader::decode(&block).is_ok())
}

/// How far to go on behind what is no sound frame, and which frame is due there: over all of it when its header is whole and
/// where it belongs, else one block. What stands in a message's body is thus not taken for a frame as long as the header
/// says where the body ends; and a header that was moved here from elsewhere hides no sound frame.
fn bad_frame(
    file: &dyn DiskFile,
    name: &str,
    offset: u64,
    store_id: u64,
    due: FrameNo,
) -> Result<(u64, FrameNo)> {
    let mut block = [0; FRAME_HEADER_BYTES];
    file.read_at(offset, &mut block).map_err(Error::io("read", name))?;
    Ok(match FrameHeader::decode(&block) {
        Ok(header) if header.store_id == store_id && header.number == due => {
            (header.frame_bytes() as u64, due.next())
        }
        Ok(_) | Err(_) => (BLOCK_BYTES as u64, due),
    })
}
