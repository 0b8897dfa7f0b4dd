//! Log segments and frames on the disk. Version 1. All fields little-endian.
//!
//! ```text
//! segment = header block (4 KiB) | frames, each padded with zeros to 4 KiB | whatever was there before
//!
//! header  = magic "LVRTLOG1" 8 | version u16 | reserved u16 | crc u32 | store id u64 | epoch u64 | segment no u64
//!         | file id u64 | first frame no u64 | crc of the frame before it u32 | blocks u32 | manifest edit u64
//!           (crc over the 72 bytes with the crc field zero; blocks: length of the file, in blocks of 4 KiB)
//!
//! frame   = magic u32 | version u16 | flags u16 (1: closes its group) | store id u64 | epoch u64 | number u64
//!         | previous frame's crc u32 | payload length u32 | records u32 | reserved u32 | group's first frame u64
//!         | durable upto u64 | manifest edit u64 | reserved u32 | header crc u32             (80 bytes)
//!         | payload | crc u32 (over the payload, seeded with the header's crc: it stands for the whole frame)
//! ```
//!
//! Magic, version and store id of a frame stay where they are in every version: by them a newer program's frame is told
//! from what a body holds that stood there before (`scan.rs`).
//!
//! A frame starts on a 4 KiB boundary, so that a block with confirmed data is never written again. The payloads of a
//! group of frames, one after the other, are a sequence of records (see `record`); all of them count or none.

use byteorder::{ByteOrder, LittleEndian};

use crate::controls::crc_differs;
use crate::ids::{EditNo, Epoch, FileId, FrameNo, SegmentNo};

#[cfg(test)]
mod tests;

/// Alignment of frames.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Length of a frame's header.
pub(crate) const FRAME_HEADER_BYTES: usize = 80;
/// Length of what follows the payload.
pub(crate) const FRAME_TRAILER_BYTES: usize = 4;
/// The newest version of the formats of log, manifest and checkpoint that this program writes and knows.
pub const FORMAT_VERSION: u16 = 1;

const SEGMENT_MAGIC: &[u8; 8] = b"LVRTLOG1";
const SEGMENT_HEADER_BYTES: usize = 72;
const FRAME_MAGIC: u32 = 0x4d52_464c; // "LFRM"
const FLAG_CLOSES: u16 = 1;

/// What stands in a segment's first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store_id: u64,
    pub(crate) epoch: Epoch,
    pub(crate) segment: SegmentNo,
    pub(crate) file: FileId,
    pub(crate) first_frame: FrameNo,
    pub(crate) prev_crc: u32,
    /// Length of the file in blocks: a shorter one was truncated, which its frames alone would not tell.
    pub(crate) blocks: u32,
    /// Newest manifest edit known durable when this was written (E5).
    pub(crate) edit: EditNo,
}

/// What stands before a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) store_id: u64,
    pub(crate) epoch: Epoch,
    pub(crate) number: FrameNo,
    /// CRC of the frame before this one: the chain.
    pub(crate) prev_crc: u32,
    pub(crate) payload_bytes: u32,
    /// Records of the group, told by its first frame; 0 in the others.
    pub(crate) records: u32,
    /// First frame of the batch group.
    pub(crate) group_first: FrameNo,
    /// This frame closes its group.
    pub(crate) closes: bool,
    /// Newest frame known durable when this one was written (E1).
    pub(crate) durable_upto: FrameNo,
    /// Newest manifest edit known durable when this one was written (E5).
    pub(crate) edit: EditNo,
}

/// Why a block is no frame of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// No magic there: zeros, a payload, anything.
    Absent,
    /// Written by a newer program.
    Newer(u16),
    /// Looks like a frame, but is not whole.
    Broken(String),
}

impl SegmentHeader {
    /// The whole first block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        block[..8].copy_from_slice(SEGMENT_MAGIC);
        LittleEndian::write_u16(&mut block[8..], FORMAT_VERSION);
        LittleEndian::write_u64(&mut block[16..], self.store_id);
        LittleEndian::write_u64(&mut block[24..], self.epoch.0);
        LittleEndian::write_u64(&mut block[32..], self.segment.0);
        LittleEndian::write_u64(&mut block[40..], self.file.0);
        LittleEndian::write_u64(&mut block[48..], self.first_frame.0);
        LittleEndian::write_u32(&mut block[56..], self.prev_crc);
        LittleEndian::write_u32(&mut block[60..], self.blocks);
        LittleEndian::write_u64(&mut block[64..], self.edit.0);
        let crc = crc32fast::hash(&block[..SEGMENT_HEADER_BYTES]);
        LittleEndian::write_u32(&mut block[12..], crc);
        block
    }

    /// Reads a first block; Ok(None) when it never held a header.
    pub(crate) fn decode(block: &[u8]) -> Result<Option<Self>, NoFrame> {
        let broken = |what: &str| Err(NoFrame::Broken(what.into()));
        if block.len() < SEGMENT_HEADER_BYTES {
            return broken("shorter than a segment header");
        }
        if block[..SEGMENT_HEADER_BYTES].iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if &block[..8] != SEGMENT_MAGIC {
            return broken("no segment header");
        }
        let mut copy = [0; SEGMENT_HEADER_BYTES];
        copy.copy_from_slice(&block[..SEGMENT_HEADER_BYTES]);
        copy[12..16].fill(0);
        if crc_differs(crc32fast::hash(&copy), LittleEndian::read_u32(&block[12..])) {
            return broken("the segment header's checksum does not match");
        }
        let version = LittleEndian::read_u16(&block[8..]);
        if version != FORMAT_VERSION {
            return Err(NoFrame::Newer(version));
        }
        if LittleEndian::read_u64(&block[48..]) == 0 {
            return broken("frames are numbered from 1");
        }
        Ok(Some(Self {
            store_id: LittleEndian::read_u64(&block[16..]),
            epoch: Epoch(LittleEndian::read_u64(&block[24..])),
            segment: SegmentNo(LittleEndian::read_u64(&block[32..])),
            file: FileId(LittleEndian::read_u64(&block[40..])),
            first_frame: FrameNo(LittleEndian::read_u64(&block[48..])),
            prev_crc: LittleEndian::read_u32(&block[56..]),
            blocks: LittleEndian::read_u32(&block[60..]),
            edit: EditNo(LittleEndian::read_u64(&block[64..])),
        }))
    }
}

impl FrameHeader {
    /// Makes the frame: header, payload and checksum, padded. Gives the bytes and the frame's CRC.
    pub(crate) fn encode(&self, payload: &[u8]) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(frame_bytes(payload.len()));
        out.resize(FRAME_HEADER_BYTES, 0);
        out.extend_from_slice(payload);
        out.resize(frame_bytes(payload.len()), 0);
        let crc = self.complete(&mut out);
        (out, crc)
    }

    /// Makes a frame of bytes in which the payload stands where it belongs, with zeros behind it. Gives the frame's CRC.
    pub(crate) fn complete(&self, frame: &mut [u8]) -> u32 {
        assert_eq!(frame.len(), self.frame_bytes(), "the header tells the payload's length");
        let (header, rest) = frame.split_at_mut(FRAME_HEADER_BYTES);
        header.fill(0);
        LittleEndian::write_u32(header, FRAME_MAGIC);
        LittleEndian::write_u16(&mut header[4..], FORMAT_VERSION);
        LittleEndian::write_u16(&mut header[6..], if self.closes { FLAG_CLOSES } else { 0 });
        LittleEndian::write_u64(&mut header[8..], self.store_id);
        LittleEndian::write_u64(&mut header[16..], self.epoch.0);
        LittleEndian::write_u64(&mut header[24..], self.number.0);
        LittleEndian::write_u32(&mut header[32..], self.prev_crc);
        LittleEndian::write_u32(&mut header[36..], self.payload_bytes);
        LittleEndian::write_u32(&mut header[40..], self.records);
        LittleEndian::write_u64(&mut header[48..], self.group_first.0);
        LittleEndian::write_u64(&mut header[56..], self.durable_upto.0);
        LittleEndian::write_u64(&mut header[64..], self.edit.0);
        let header_crc = crc32fast::hash(&header[..76]);
        LittleEndian::write_u32(&mut header[76..], header_crc);
        let (payload, trailer) = rest.split_at_mut(self.payload_bytes as usize);
        let crc = frame_crc(header_crc, payload);
        LittleEndian::write_u32(trailer, crc);
        crc
    }

    /// Reads the header at the front of `bytes`, with its own checksum verified, but not the payload's.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NoFrame> {
        if bytes.len() < FRAME_HEADER_BYTES || LittleEndian::read_u32(bytes) != FRAME_MAGIC {
            return Err(NoFrame::Absent);
        }
        if crc_differs(crc32fast::hash(&bytes[..76]), LittleEndian::read_u32(&bytes[76..])) {
            return Err(NoFrame::Broken("the frame header's checksum does not match".into()));
        }
        let version = LittleEndian::read_u16(&bytes[4..]);
        if version != FORMAT_VERSION {
            return Err(NoFrame::Newer(version));
        }
        Ok(Self {
            store_id: LittleEndian::read_u64(&bytes[8..]),
            epoch: Epoch(LittleEndian::read_u64(&bytes[16..])),
            number: FrameNo(LittleEndian::read_u64(&bytes[24..])),
            prev_crc: LittleEndian::read_u32(&bytes[32..]),
            payload_bytes: LittleEndian::read_u32(&bytes[36..]),
            records: LittleEndian::read_u32(&bytes[40..]),
            group_first: FrameNo(LittleEndian::read_u64(&bytes[48..])),
            closes: LittleEndian::read_u16(&bytes[6..]) & FLAG_CLOSES != 0,
            durable_upto: FrameNo(LittleEndian::read_u64(&bytes[56..])),
            edit: EditNo(LittleEndian::read_u64(&bytes[64..])),
        })
    }

    /// Bytes that the frame takes in its segment.
    pub(crate) fn frame_bytes(&self) -> usize {
        frame_bytes(self.payload_bytes as usize)
    }

    /// Verifies the payload's checksum in `frame` (the whole frame, padding or not) and gives the frame's CRC.
    pub(crate) fn verify(&self, frame: &[u8]) -> Result<u32, NoFrame> {
        let end = FRAME_HEADER_BYTES + self.payload_bytes as usize;
        if frame.len() < end + FRAME_TRAILER_BYTES {
            return Err(NoFrame::Broken("the frame runs over the end of its segment".into()));
        }
        let crc = frame_crc(LittleEndian::read_u32(&frame[76..]), &frame[FRAME_HEADER_BYTES..end]);
        let written = LittleEndian::read_u32(&frame[end..]);
        if crc_differs(crc, written) {
            return Err(NoFrame::Broken("the frame's checksum does not match".into()));
        }
        Ok(written)
    }
}

/// Length of a segment's file in blocks. Segments are at most 4 GiB long.
pub(crate) fn segment_blocks(bytes: u64) -> u32 {
    u32::try_from(bytes / BLOCK_BYTES as u64).expect("a segment of at most 4 GiB")
}

/// Bytes that a frame with such a payload takes.
pub(crate) fn frame_bytes(payload: usize) -> usize {
    (FRAME_HEADER_BYTES + payload + FRAME_TRAILER_BYTES).next_multiple_of(BLOCK_BYTES)
}

fn frame_crc(header_crc: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(header_crc);
    hasher.update(payload);
    hasher.finalize()
}

/// "log-0000000007.seg"
pub(crate) fn segment_name(file: FileId) -> String {
    format!("log-{:010}.seg", file.0)
}

/// "checkpoint-0000000007.ckp"
pub(crate) fn checkpoint_name(file: FileId) -> String {
    format!("checkpoint-{:010}.ckp", file.0)
}

/// "settled-0000000007.set"
pub(crate) fn settled_name(file: FileId) -> String {
    format!("settled-{:010}.set", file.0)
}

/// "volatile-0000000007.vol"
pub(crate) fn volatile_name(file: FileId) -> String {
    format!("volatile-{:010}.vol", file.0)
}

/// The file id in a name of ours with that prefix and suffix.
pub(crate) fn parse_name(name: &str, prefix: &str, suffix: &str) -> Option<FileId> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    if digits.len() < 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(FileId)
}
