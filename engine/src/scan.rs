//! Reading a log segment from its start to where it ends, and telling a torn tail from damage (E1).

use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};

use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, FORMAT_VERSION, FrameHeader, NoFrame, SegmentHeader, segment_name};
use crate::group::{Frame, read_frame};
use crate::ids::{EditNo, FrameNo};
use crate::manifest::SegmentEntry;

/// Bytes read at a time when looking behind the end; whole blocks.
const LOOK_BYTES: usize = 256 * BLOCK_BYTES;

/// A segment under way through its frames.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) entry: SegmentEntry,
    pub(crate) name: String,
    pub(crate) file: Arc<dyn DiskFile>,
    store_id: u64,
    /// Length of the file.
    pub(crate) file_bytes: u64,
    /// Bytes to look at: up to the recorded end, or the whole file.
    limit: u64,
    /// Offset behind the last good frame.
    pub(crate) offset: u64,
    /// The last good frame; the one before the first where there is none.
    pub(crate) last: FrameNo,
    pub(crate) last_crc: u32,
    /// Newest frame that a good frame here says was durable.
    pub(crate) durable_upto: FrameNo,
    /// Newest manifest edit named here.
    pub(crate) edit_max: EditNo,
    /// Highest frame number seen here, good or not.
    pub(crate) number_max: FrameNo,
    pub(crate) frames: u64,
    /// Why there is no good frame at `offset`.
    pub(crate) stop: Option<NoFrame>,
    /// A good frame stands behind the stop.
    pub(crate) later: bool,
}

/// Reads the first block: Ok(Ok(None)) when it never held a header, Ok(Err) when it holds something else or a header
/// that is not whole.
pub(crate) fn read_header(disk: &dyn Disk, name: &str) -> Result<Result<Option<SegmentHeader>, String>> {
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    if length < BLOCK_BYTES as u64 {
        return Ok(Ok(None));
    }
    let mut block = vec![0; BLOCK_BYTES];
    file.read_at(0, &mut block).map_err(Error::io("read", name))?;
    match SegmentHeader::decode(&block) {
        // Its checksum matches, so it is no torn header: it must not be taken for cut-off work.
        Err(NoFrame::Newer(found)) => {
            Err(Error::NewerFormat { file: name.into(), found, known: FORMAT_VERSION })
        }
        header => Ok(header.map_err(|no| no.to_string())),
    }
}

impl Scan {
    /// Opens a listed segment and checks its header.
    pub(crate) fn open(disk: &dyn Disk, store_id: u64, entry: SegmentEntry) -> Result<Self> {
        let name = segment_name(entry.file);
        let file = disk.open(&name).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::damage(&name, 0, "it is missing, but the manifest lists it")
            }
            _ => Error::Io { op: "open", file: name.clone(), source },
        })?;
        let length = file.len().map_err(Error::io("read the length of", &name))?;
        let limit = entry.end.map_or(length, |end| end.bytes);
        if length < limit || length < BLOCK_BYTES as u64 {
            let what = format!("it is {length} bytes long, but its frames end at {limit}");
            return Err(Error::damage(name, length, what));
        }
        let last = FrameNo(entry.first_frame.0 - 1);
        let mut scan = Self {
            entry,
            name,
            file,
            store_id,
            file_bytes: length,
            limit,
            offset: BLOCK_BYTES as u64,
            last,
            last_crc: entry.prev_crc,
            durable_upto: FrameNo(0),
            edit_max: EditNo(0),
            number_max: last,
            frames: 0,
            stop: None,
            later: false,
        };
        match scan.read_header(disk)? {
            Ok(header) => {
                let made = u64::from(header.blocks) * BLOCK_BYTES as u64;
                if entry.end.is_none() && length < made {
                    let what = format!("it is {length} bytes long, but was made {made} bytes long");
                    return Err(Error::damage(scan.name, length, what));
                }
                scan.edit_max = header.edit;
            }
            // Unsynced until its first frame was: then the whole segment may be torn, and is judged like a frame.
            Err(why) => scan.stop = Some(NoFrame::Broken(why)),
        }
        if scan.stop.is_some() {
            scan.look_behind()?;
        }
        Ok(scan)
    }

    /// The next good frame, with its offset; None at the end.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(u64, Frame)>> {
        if self.stop.is_some() || (self.entry.end.is_some() && self.offset >= self.limit) {
            return Ok(None);
        }
        let read =
            read_frame(self.file.as_ref(), self.offset, self.limit).map_err(Error::io("read", &self.name))?;
        match read.and_then(|frame| self.follows(frame)) {
            Ok(frame) => {
                let offset = self.offset;
                self.offset += frame.bytes;
                self.last = frame.header.number;
                self.last_crc = frame.crc;
                self.frames += 1;
                self.note(&frame.header);
                Ok(Some((offset, frame)))
            }
            Err(NoFrame::Newer(found)) if self.is_of_this_store()? => {
                Err(Error::NewerFormat { file: self.name.clone(), found, known: FORMAT_VERSION })
            }
            Err(stop) => {
                self.stop = Some(if let NoFrame::Newer(_) = stop { NoFrame::Absent } else { stop });
                self.look_behind()?;
                Ok(None)
            }
        }
    }

    /// Whether what looks like a frame's header at the offset names this store. A body can look like one, and stands there
    /// when its segment is used again; but no client knows the store's id.
    fn is_of_this_store(&self) -> Result<bool> {
        let mut front = [0; 16];
        self.file.read_at(self.offset, &mut front).map_err(Error::io("read", &self.name))?;
        Ok(LittleEndian::read_u64(&front[8..]) == self.store_id)
    }

    /// Judges where the frames ended. `proven`: the newest frame that anything says was durable.
    pub(crate) fn judge(&self, proven: FrameNo) -> Result<()> {
        if let Some(end) = self.entry.end {
            if self.last != end.last_frame || self.offset != end.bytes {
                return Err(self.damaged(format!(
                    "its frames should end with {} at offset {}, but end with {}",
                    end.last_frame, end.bytes, self.last
                )));
            }
        } else if self.last < proven {
            return Err(
                self.damaged(format!("frame {proven} was durable, but the log ends with {}", self.last))
            );
        }
        Ok(())
    }

    /// The torn tail, if there is anything to tell of.
    pub(crate) fn cut(&self) -> Option<crate::recovery::Cut> {
        let why = match self.stop.as_ref()? {
            NoFrame::Absent if !self.later => return None,
            stop => stop.to_string(),
        };
        let bytes = self.limit - self.offset;
        Some(crate::recovery::Cut { file: self.name.clone(), offset: self.offset, bytes, why })
    }

    fn damaged(&self, what: String) -> Error {
        let why = self.stop.as_ref().map_or(String::new(), |stop| format!(" ({stop})"));
        Error::damage(&self.name, self.offset, format!("{what}{why}"))
    }

    fn read_header(&self, disk: &dyn Disk) -> Result<Result<SegmentHeader, String>> {
        Ok(match read_header(disk, &self.name)? {
            Ok(Some(header)) => {
                let same = header.store_id == self.store_id
                    && header.segment == self.entry.no
                    && header.file == self.entry.file
                    && header.first_frame == self.entry.first_frame
                    && header.prev_crc == self.entry.prev_crc;
                if same { Ok(header) } else { Err("the segment header is another segment's".into()) }
            }
            Ok(None) => Err("the segment has no header".into()),
            Err(why) => Err(why),
        })
    }

    /// Within a segment the frames are chained by checksum, and their numbers rise. They rise by one but behind what
    /// a recovery copied, since numbers that were once written are not used again.
    fn follows(&self, frame: Frame) -> Result<Frame, NoFrame> {
        let header = &frame.header;
        if header.store_id != self.store_id {
            return Err(NoFrame::Broken("a frame of another store stands there".into()));
        }
        if header.number <= self.last {
            // What stood there before the segment was recycled.
            return Err(NoFrame::Absent);
        }
        if header.prev_crc != self.last_crc {
            return Err(NoFrame::Broken(format!(
                "frame {} does not follow frame {}: the chain of checksums is broken",
                header.number, self.last
            )));
        }
        Ok(frame)
    }

    /// Looks for good frames behind the stop: what they say was durable decides between a torn tail and damage.
    fn look_behind(&mut self) -> Result<()> {
        let mut offset = self.offset;
        let mut part = vec![0; LOOK_BYTES];
        while offset + BLOCK_BYTES as u64 <= self.limit {
            let length = LOOK_BYTES.min((self.limit - offset) as usize);
            self.file.read_at(offset, &mut part[..length]).map_err(Error::io("read", &self.name))?;
            for (index, block) in part[..length].chunks_exact(BLOCK_BYTES).enumerate() {
                self.look_at(offset + (index * BLOCK_BYTES) as u64, block)?;
            }
            offset += length as u64;
        }
        Ok(())
    }

    fn look_at(&mut self, offset: u64, block: &[u8]) -> Result<()> {
        let Ok(header) = FrameHeader::decode(block) else { return Ok(()) };
        if header.store_id != self.store_id || header.number <= self.last {
            return Ok(());
        }
        self.number_max = self.number_max.max(header.number);
        let read =
            read_frame(self.file.as_ref(), offset, self.limit).map_err(Error::io("read", &self.name))?;
        if let Ok(frame) = read {
            self.later |= frame.header.number > self.last.next();
            self.note(&frame.header);
        }
        Ok(())
    }

    fn note(&mut self, header: &FrameHeader) {
        self.durable_upto = self.durable_upto.max(header.durable_upto);
        self.edit_max = self.edit_max.max(header.edit);
        self.number_max = self.number_max.max(header.number);
    }
}
