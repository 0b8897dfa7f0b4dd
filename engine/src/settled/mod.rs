//! Settled segments on the disk: what lives of old log segments, grouped by queue. Immutable. Version 1. All fields
//! little-endian.
//!
//! ```text
//! file    = header | records | marks | footer | trailer
//! header  = magic "LVRTSET1" 8 | version u16 | reserved u16 | crc u32 (over the 48 bytes with the crc field zero)
//!         | store id u64 | epoch u64 | file id u64 | below u64 (log segments below it are settled by now)
//! records = records of messages (see `record`) with one target each: extents, one after the other
//! marks   = (seq u64, offset u64) for the first record of each extent, every 128th, and one in about 64 KiB of them
//! footer  = extent x extents
//! extent  = queue u64 | first seq u64 | last seq u64 | offset u64 | bytes u64 | offset of its marks u64
//!         | records u32 | marks u32 | crc of its marks u32 | longest u32                      (64 bytes)
//! longest = bytes of its longest record, where that is over four times the average; else 0
//! trailer = magic "LVRTSETE" 8 | crc u32 (over the 56 bytes with the crc field zero) | crc of the footer u32
//!         | store id u64 | file id u64 | offset of the footer u64 | extents u64 | records u64
//! ```
//!
//! An extent holds places of one queue in order; of two extents of a queue, wherever they stand, all places of one are
//! below those of the other. That every record carries its queue, its place and its own checksum is what lets a file
//! with a damaged footer be read from the front, and a reader check what it got (E8).

use byteorder::{ByteOrder, LittleEndian};

use crate::codec::Writer;
use crate::controls::crc_differs;
use crate::format::NoFrame;
use crate::ids::{Epoch, FileId, QueueId, SegmentNo, Seq};
use crate::manifest::SettledEntry;
use crate::record::{self, Stored, WalkedPut};

mod read;
#[cfg(test)]
mod tests;

pub(crate) use read::{Kept, SettledFile, Window, read_footer};

/// The version of this format.
pub(crate) const SETTLED_VERSION: u16 = 1;
pub(crate) const HEADER_BYTES: usize = 48;
const EXTENT_BYTES: usize = 64;
const MARK_BYTES: usize = 16;
const TRAILER_BYTES: usize = 56;
const MAGIC: &[u8; 8] = b"LVRTSET1";
const TRAILER_MAGIC: &[u8; 8] = b"LVRTSETE";
/// Records between two marks, at most, and bytes between two marks, about.
const MARK_EVERY: u32 = 128;
const MARK_BYTES_MAX: u64 = 64 << 10;
/// An extent's longest record is told if it is longer than so many times the average.
const LONGEST_TOLD: u64 = 4;

/// Places of one queue that stand together in a settled segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) queue: QueueId,
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) marks_at: u64,
    pub(crate) records: u32,
    pub(crate) marks: u32,
    pub(crate) marks_crc: u32,
    /// Bytes of the longest record, where they differ so much that counting records says little of bytes; else 0.
    pub(crate) longest: u32,
}

/// What a settled segment says about itself at its front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SettledHeader {
    pub(crate) store_id: u64,
    pub(crate) epoch: Epoch,
    pub(crate) file: FileId,
    /// Log segments below it are settled once this file is listed: for where the manifest is lost.
    pub(crate) below: SegmentNo,
}

impl SettledHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        LittleEndian::write_u16(&mut bytes[8..], SETTLED_VERSION);
        LittleEndian::write_u64(&mut bytes[16..], self.store_id);
        LittleEndian::write_u64(&mut bytes[24..], self.epoch.0);
        LittleEndian::write_u64(&mut bytes[32..], self.file.0);
        LittleEndian::write_u64(&mut bytes[40..], self.below.0);
        let crc = crc32fast::hash(&bytes);
        LittleEndian::write_u32(&mut bytes[12..], crc);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NoFrame> {
        let Some(header) = bytes.get(..HEADER_BYTES).filter(|header| &header[..8] == MAGIC) else {
            return Err(NoFrame::Absent);
        };
        if !whole(header) {
            return Err(NoFrame::Broken("the header's checksum does not match".into()));
        }
        let version = LittleEndian::read_u16(&header[8..]);
        if version != SETTLED_VERSION {
            return Err(NoFrame::Newer(version));
        }
        Ok(Self {
            store_id: LittleEndian::read_u64(&header[16..]),
            epoch: Epoch(LittleEndian::read_u64(&header[24..])),
            file: FileId(LittleEndian::read_u64(&header[32..])),
            below: SegmentNo(LittleEndian::read_u64(&header[40..])),
        })
    }
}

/// Whether the bytes have the checksum that stands at 12 (header) or 8 (trailer).
fn whole(bytes: &[u8]) -> bool {
    let at = if &bytes[..8] == MAGIC { 12 } else { 8 };
    let mut copy = bytes.to_vec();
    copy[at..at + 4].fill(0);
    !crc_differs(crc32fast::hash(&copy), LittleEndian::read_u32(&bytes[at..]))
}

/// Makes a settled segment's bytes, front to back.
#[derive(Debug)]
pub(crate) struct Builder {
    header: SettledHeader,
    offset: u64,
    extents: Vec<Extent>,
    /// Of all extents so far; an extent's `marks_at` counts from the first of them until the end is known.
    marks: Writer,
    records: u64,
    /// Where the last mark points to.
    marked_at: u64,
    /// The last extent may still grow.
    open: bool,
}

impl Builder {
    /// Begins with the header.
    pub(crate) fn new(header: SettledHeader, out: &mut Writer) -> Self {
        out.0.extend_from_slice(&header.encode());
        let (extents, marks) = (Vec::new(), Writer::default());
        Self { header, offset: HEADER_BYTES as u64, extents, marks, records: 0, marked_at: 0, open: false }
    }

    /// Appends a message. Within an extent places rise.
    pub(crate) fn push(&mut self, queue: QueueId, seq: Seq, stored: Stored<'_>, out: &mut Writer) {
        self.place(queue, seq, stored.put_bytes() as u64);
        record::encode_put(queue, seq, stored, out);
    }

    /// The same with the record that the log has of it.
    pub(crate) fn push_copy(&mut self, queue: QueueId, seq: Seq, put: &WalkedPut<'_>, out: &mut Writer) {
        self.place(queue, seq, put.stored.put_bytes() as u64);
        put.copy_for(queue, seq, out);
    }

    /// What follows is the record of that place.
    fn place(&mut self, queue: QueueId, seq: Seq, bytes: u64) {
        if !self.open || self.extents.last().is_none_or(|extent| extent.queue != queue) {
            self.close_extent();
            self.open = true;
            self.extents.push(Extent {
                queue,
                first: seq,
                last: seq,
                offset: self.offset,
                bytes: 0,
                marks_at: self.marks.0.len() as u64,
                records: 0,
                marks: 0,
                marks_crc: 0,
                longest: 0,
            });
        }
        let extent = self.extents.last_mut().expect("one was just made");
        let unmarked = self.offset - self.marked_at;
        if extent.records == 0 || extent.records.is_multiple_of(MARK_EVERY) || unmarked >= MARK_BYTES_MAX {
            self.marked_at = self.offset;
            self.marks.u64(seq.0);
            self.marks.u64(self.offset);
            extent.marks += 1;
        }
        extent.last = seq;
        extent.longest = extent.longest.max(bytes as u32);
        extent.records += 1;
        extent.bytes += bytes;
        self.offset += bytes;
        self.records += 1;
    }

    /// What comes next begins an extent of its own, also if it is of the same queue.
    pub(crate) fn close_extent(&mut self) {
        if std::mem::take(&mut self.open)
            && let Some(extent) = self.extents.last_mut()
        {
            extent.marks_crc = crc32fast::hash(&self.marks.0[extent.marks_at as usize..]);
            if u64::from(extent.longest) * u64::from(extent.records) <= LONGEST_TOLD * extent.bytes {
                extent.longest = 0;
            }
        }
    }

    /// Records so far.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Ends the file.
    pub(crate) fn finish(mut self, out: &mut Writer) -> (SettledEntry, Vec<Extent>) {
        self.close_extent();
        out.0.extend_from_slice(&self.marks.0);
        let mut footer = Writer::default();
        for extent in &mut self.extents {
            extent.marks_at += self.offset;
            extent.encode(&mut footer);
        }
        let footer_at = self.offset + self.marks.0.len() as u64;
        let footer_crc = crc32fast::hash(&footer.0);
        out.0.extend_from_slice(&footer.0);
        let mut trailer = vec![0; TRAILER_BYTES];
        trailer[..8].copy_from_slice(TRAILER_MAGIC);
        LittleEndian::write_u32(&mut trailer[12..], footer_crc);
        LittleEndian::write_u64(&mut trailer[16..], self.header.store_id);
        LittleEndian::write_u64(&mut trailer[24..], self.header.file.0);
        LittleEndian::write_u64(&mut trailer[32..], footer_at);
        LittleEndian::write_u64(&mut trailer[40..], self.extents.len() as u64);
        LittleEndian::write_u64(&mut trailer[48..], self.records);
        let crc = crc32fast::hash(&trailer);
        LittleEndian::write_u32(&mut trailer[8..], crc);
        out.0.extend_from_slice(&trailer);
        let bytes = footer_at + (footer.0.len() + TRAILER_BYTES) as u64;
        (SettledEntry { file: self.header.file, bytes, footer_crc }, self.extents)
    }
}

impl Extent {
    fn encode(&self, w: &mut Writer) {
        for field in [self.queue.0, self.first.0, self.last.0, self.offset, self.bytes, self.marks_at] {
            w.u64(field);
        }
        for field in [self.records, self.marks, self.marks_crc, self.longest] {
            w.u32(field);
        }
    }

    fn decode(bytes: &[u8]) -> Self {
        let u64_at = |at: usize| LittleEndian::read_u64(&bytes[at..]);
        let u32_at = |at: usize| LittleEndian::read_u32(&bytes[at..]);
        Self {
            queue: QueueId(u64_at(0)),
            first: Seq(u64_at(8)),
            last: Seq(u64_at(16)),
            offset: u64_at(24),
            bytes: u64_at(32),
            marks_at: u64_at(40),
            records: u32_at(48),
            marks: u32_at(52),
            marks_crc: u32_at(56),
            longest: u32_at(60),
        }
    }
}
