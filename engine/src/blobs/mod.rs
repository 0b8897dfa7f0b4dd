//! Blob files: the bodies of large messages, each on the disk once, before its message enters the log. Version 1. All
//! fields little-endian.
//!
//! ```text
//! file   = header block (4 KiB) | bodies, each from a 4 KiB boundary on
//! header = magic "LVRTBLB1" 8 | version u16 | reserved u16 | crc u32 (over the 48 bytes with the crc field zero)
//!        | store id u64 | epoch u64 | file id u64 | manifest edit u64
//! body   = magic u32 | crc of the body u32 | file id u64 | offset of this header u64 | length of the body u64
//!        | reserved u32 | crc of these 36 bytes u32 | the body                                (header: 40 bytes)
//! ```
//!
//! A file is made whole under a temporary name, renamed and listed before the first body goes into it; it grows at its
//! end, and only in the opening that made it. A body counts once it was synced, under every fsync policy, and some
//! message's record in the log names it: file, offset, length and checksum. The header before a body is for whoever
//! reads a file without the log.
//!
//! A body is dead when every place of every message that names it is, as of the durable log (E3), and nobody in flight
//! holds a [`BlobRef`] to it: neither a read, nor a commit on its way, nor a message in its owner's memory. Then its
//! blocks are given back; a file without a body that lives is removed. What stands in a file and is named by nothing is
//! free after the next open.

use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};

use crate::controls::crc_differs;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, NoFrame};
use crate::ids::{EditNo, Epoch, FileId};

mod buffer;
mod files;
mod free;
mod group;
mod put;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod writer;

pub use buffer::BodyBuffer;
pub(crate) use files::{BlobFile, BlobFiles};
pub(crate) use put::Waiting;
pub use put::{BlobRef, Blobs, BodyWaiter, NotWritten};
pub use writer::BlobWriter;

/// The version of this format.
pub(crate) const BLOB_VERSION: u16 = 1;
/// Name that a blob file has until it has a header.
pub(crate) const BLOB_TMP_NAME: &str = "blob.tmp";

pub(crate) const HEADER_BYTES: usize = 48;
/// What stands before a body.
pub(crate) const BODY_HEADER_BYTES: usize = 40;
const MAGIC: &[u8; 8] = b"LVRTBLB1";
const BODY_MAGIC: u32 = 0x5942_564c; // "LVBY"

/// A listed file with its length, or in words why it cannot be read.
pub(crate) type Opened = std::result::Result<(Arc<dyn DiskFile>, u64), String>;

/// Where a body stands, and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlobPlace {
    pub(crate) file: FileId,
    /// Of the header before it; on a 4 KiB boundary.
    pub(crate) offset: u64,
    /// Length of the body.
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

impl BlobPlace {
    /// Bytes of a place in a record.
    pub(crate) const RECORD_BYTES: usize = 28;

    /// Offset behind the blocks that it takes.
    pub(crate) fn end(&self) -> u64 {
        self.bytes_end().checked_next_multiple_of(BLOCK_BYTES as u64).unwrap_or(u64::MAX)
    }

    /// Offset behind the body itself.
    pub(crate) fn bytes_end(&self) -> u64 {
        self.offset.saturating_add(BODY_HEADER_BYTES as u64).saturating_add(self.bytes)
    }

    /// What stands before the body.
    pub(crate) fn encode_header(&self) -> [u8; BODY_HEADER_BYTES] {
        let mut out = [0; BODY_HEADER_BYTES];
        LittleEndian::write_u32(&mut out, BODY_MAGIC);
        LittleEndian::write_u32(&mut out[4..], self.crc);
        LittleEndian::write_u64(&mut out[8..], self.file.0);
        LittleEndian::write_u64(&mut out[16..], self.offset);
        LittleEndian::write_u64(&mut out[24..], self.bytes);
        let crc = crc32fast::hash(&out[..36]);
        LittleEndian::write_u32(&mut out[36..], crc);
        out
    }

    /// Reads the body and verifies it. In words what is wrong, if anything is.
    pub(crate) fn read(&self, file: &dyn DiskFile, into: &mut [u8]) -> std::result::Result<(), String> {
        let name = blob_name(self.file);
        let at = self.offset + BODY_HEADER_BYTES as u64;
        file.read_at(at, into).map_err(|error| format!("cannot read {name} at offset {at}: {error}"))?;
        if crc_differs(crc32fast::hash(into), self.crc) {
            return Err(format!(
                "the checksum of the body at offset {} of {name} does not match",
                self.offset
            ));
        }
        Ok(())
    }
}

/// What a blob file says about itself at its front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobHeader {
    pub(crate) store_id: u64,
    pub(crate) epoch: Epoch,
    pub(crate) file: FileId,
    /// Newest manifest edit known durable when this was written (E5).
    pub(crate) edit: EditNo,
}

impl BlobHeader {
    /// The whole first block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        block[..8].copy_from_slice(MAGIC);
        LittleEndian::write_u16(&mut block[8..], BLOB_VERSION);
        LittleEndian::write_u64(&mut block[16..], self.store_id);
        LittleEndian::write_u64(&mut block[24..], self.epoch.0);
        LittleEndian::write_u64(&mut block[32..], self.file.0);
        LittleEndian::write_u64(&mut block[40..], self.edit.0);
        let crc = crc32fast::hash(&block[..HEADER_BYTES]);
        LittleEndian::write_u32(&mut block[12..], crc);
        block
    }

    pub(crate) fn decode(bytes: &[u8]) -> std::result::Result<Self, NoFrame> {
        let Some(header) = bytes.get(..HEADER_BYTES).filter(|header| &header[..8] == MAGIC) else {
            return Err(NoFrame::Absent);
        };
        let mut copy = header.to_vec();
        copy[12..16].fill(0);
        if crc_differs(crc32fast::hash(&copy), LittleEndian::read_u32(&header[12..])) {
            return Err(NoFrame::Broken("the header's checksum does not match".into()));
        }
        let version = LittleEndian::read_u16(&header[8..]);
        if version != BLOB_VERSION {
            return Err(NoFrame::Newer(version));
        }
        Ok(Self {
            store_id: LittleEndian::read_u64(&header[16..]),
            epoch: Epoch(LittleEndian::read_u64(&header[24..])),
            file: FileId(LittleEndian::read_u64(&header[32..])),
            edit: EditNo(LittleEndian::read_u64(&header[40..])),
        })
    }
}

/// Reads what a file says about itself: Ok(Err) when it is no blob file, or not a whole one. `name` is for errors.
pub(crate) fn read_header(
    file: &dyn DiskFile,
    name: &str,
    length: u64,
) -> Result<std::result::Result<BlobHeader, String>> {
    if length < BLOCK_BYTES as u64 {
        return Ok(Err(format!("it is {length} bytes long, too short for a blob file")));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_at(0, &mut header).map_err(Error::io("read", name))?;
    match BlobHeader::decode(&header) {
        Err(NoFrame::Newer(found)) => {
            Err(Error::NewerFormat { file: name.into(), found, known: BLOB_VERSION })
        }
        Err(NoFrame::Absent) => Ok(Err("it has no header of a blob file".into())),
        header => Ok(header.map_err(|no| no.to_string())),
    }
}

/// Opens a listed blob file: with its length, or in words why it cannot be read.
pub(crate) fn open_listed(disk: &dyn Disk, store_id: u64, id: FileId) -> Result<Opened> {
    let name = blob_name(id);
    let file = match disk.open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Err("it is missing, but the manifest lists it".into()));
        }
        Err(source) => return Err(Error::Io { op: "open", file: name, source }),
    };
    let length = file.len().map_err(Error::io("read the length of", &name))?;
    Ok(match read_header(file.as_ref(), &name, length)? {
        Ok(header) if header.store_id != store_id || header.file != id => {
            Err("it is not the blob file that the manifest lists".into())
        }
        Ok(_) => Ok((file, length)),
        Err(why) => Err(why),
    })
}

/// "blob-0000000007.blb"
pub(crate) fn blob_name(file: FileId) -> String {
    format!("blob-{:010}.blb", file.0)
}
