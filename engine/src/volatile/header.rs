//! The front of a volatile segment: whose it is. Version 1. All fields little-endian.
//!
//! ```text
//! file   = header | records
//! header = magic "LVRTVOL1" 8 | version u16 | reserved u16 | crc u32 (over the 32 bytes with the crc field zero)
//!        | store id u64 | epoch u64
//! record = see `record`: a message, with all its places that were spilled together
//! ```
//!
//! There is no footer: the index is in memory alone, and so is what the file is worth. It is never synced.

use byteorder::{ByteOrder, LittleEndian};

use crate::controls::crc_differs;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::ids::Epoch;

pub(crate) const HEADER_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"LVRTVOL1";
const VERSION: u16 = 1;

pub(crate) fn encode_header(store_id: u64, epoch: Epoch) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    LittleEndian::write_u16(&mut bytes[8..], VERSION);
    LittleEndian::write_u64(&mut bytes[16..], store_id);
    LittleEndian::write_u64(&mut bytes[24..], epoch.0);
    let crc = crc32fast::hash(&bytes);
    LittleEndian::write_u32(&mut bytes[12..], crc);
    bytes
}

/// Whether a file with a name of ours is this store's volatile segment, or one whose front never came to the disk: of
/// either nothing is wanted. Of whatever version: the header's front stays as it is.
pub(crate) fn is_ours(disk: &dyn Disk, name: &str, store_id: u64) -> Result<bool> {
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    let mut header = vec![0; HEADER_BYTES.min(length as usize)];
    file.read_at(0, &mut header).map_err(Error::io("read", name))?;
    if header.iter().all(|byte| *byte == 0) {
        return Ok(true);
    }
    let Ok(mut header) = <[u8; HEADER_BYTES]>::try_from(header) else { return Ok(false) };
    let crc = LittleEndian::read_u32(&header[12..]);
    let id = LittleEndian::read_u64(&header[16..]);
    header[12..16].fill(0);
    Ok(&header[..8] == MAGIC && !crc_differs(crc32fast::hash(&header), crc) && id == store_id)
}
