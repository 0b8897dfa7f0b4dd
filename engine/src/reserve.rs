//! The reserve (E11): room on the disk that is kept for the store itself, so that a disk that somebody filled cannot lock
//! it: what makes room, an open, acks, checkpoints, settling, needs a little room first. Version 1.
//!
//! ```text
//! reserve-NNNN.spc = header | room, as long as a log segment in all
//! header           = magic "LVRTRSV1" 8 | version u16 | reserved u16 | crc u32 (over the 24 bytes with the crc field
//!                    zero) | store id u64
//! ```
//!
//! Pieces are allocated by the keeper while there is room. Where the disk is full, they become what there is no room for,
//! one at a time, under another name: so nobody else can take the room meanwhile. The log leaves what a checkpoint and
//! settling need, since these make room. Nothing is ever read from a piece but the header, by which an open knows it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};

use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::shared::lock;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

#[cfg(all(test, feature = "sim"))]
mod tests;

/// Pieces of the length of a log segment: for an open, a step of settling or merging, a checkpoint, and two log segments.
/// A checkpoint that is longer than a segment asks for more.
pub(crate) const PIECES: usize = 5;

const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"LVRTRSV1";
const HEADER_BYTES: usize = 24;

/// What room is needed for. Each leaves the pieces that others need more, so that what makes room is what goes on longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A log segment: commits wait for it.
    Log,
    /// A checkpoint: without it no log segment is recycled.
    Checkpoint,
    /// Settling or merging: without it the log does not get shorter.
    Settling,
    /// An open, or what the manifest needs beyond the room of its own.
    Root,
}

impl Purpose {
    /// Pieces that are left for others.
    fn leaves(self) -> usize {
        match self {
            Self::Log => PIECES - 2,
            Self::Checkpoint => PIECES - 3,
            Self::Settling => PIECES - 4,
            Self::Root => 0,
        }
    }
}

/// The pieces that are there.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    pieces: Mutex<Pieces>,
    /// One was given up, and none could be made since.
    short: AtomicBool,
}

#[derive(Debug, Default)]
struct Pieces {
    there: BTreeSet<u32>,
    /// On their way to another name, or out. The keeper makes pieces meanwhile, and must not make another one under the
    /// same name, nor take what stands under it for a leftover: it would be the new piece that gets the other name then,
    /// and what is written and synced would stand in a file without one.
    leaving: BTreeSet<u32>,
}

/// A piece that is leaving. Its name is free once this is dropped.
struct Leaving<'a> {
    piece: u32,
    pieces: &'a Mutex<Pieces>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        lock(self.pieces).leaving.remove(&self.piece);
    }
}

impl Leaving<'_> {
    fn name(&self) -> String {
        reserve_name(self.piece)
    }
}

impl Reserve {
    pub(crate) fn new(pieces: BTreeSet<u32>) -> Self {
        let pieces = Pieces { there: pieces, leaving: BTreeSet::new() };
        Self { pieces: Mutex::new(pieces), short: AtomicBool::new(false) }
    }

    /// How many there are.
    pub(crate) fn pieces(&self) -> usize {
        lock(&self.pieces).there.len()
    }

    /// The disk was found full, and has no room yet.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// The disk was found full.
    pub(crate) fn found_full(&self) {
        self.short.store(true, Ordering::Release);
    }

    /// Nothing is missing, and there is room again or not.
    pub(crate) fn found_room(&self, room: bool) {
        self.short.store(!room, Ordering::Release);
    }

    /// Gives a piece another name and use, so that nobody else can take its room; None when there is none for that
    /// purpose. It is as long as it was, and holds nothing that counts. The new name is not durable yet.
    pub(crate) fn take_over(
        &self,
        disk: &dyn Disk,
        purpose: Purpose,
        name: &str,
    ) -> std::io::Result<Option<Arc<dyn DiskFile>>> {
        self.found_full();
        let Some(piece) = self.pop(purpose) else { return Ok(None) };
        let file = disk.open(&piece.name())?;
        file.write_at(0, &[0; HEADER_BYTES])?;
        disk.rename(&piece.name(), name)?;
        Ok(Some(file))
    }

    /// Gives a piece up; false when there is none for that purpose.
    pub(crate) fn give_up(&self, disk: &dyn Disk, purpose: Purpose) -> bool {
        self.found_full();
        self.pop(purpose).is_some_and(|piece| disk.remove(&piece.name()).is_ok())
    }

    fn pop(&self, purpose: Purpose) -> Option<Leaving<'_>> {
        let mut pieces = lock(&self.pieces);
        if pieces.there.len() <= purpose.leaves() {
            return None;
        }
        let piece = pieces.there.pop_last()?;
        pieces.leaving.insert(piece);
        Some(Leaving { piece, pieces: &self.pieces })
    }

    /// Makes a piece, if there is room for it. One caller at a time.
    pub(crate) fn make(&self, disk: &dyn Disk, store_id: u64, bytes: u64) -> std::io::Result<()> {
        let piece = {
            let pieces = lock(&self.pieces);
            let free = |piece: &u32| !pieces.there.contains(piece) && !pieces.leaving.contains(piece);
            (1..).find(free).unwrap_or(1)
        };
        let name = reserve_name(piece);
        let file = match disk.create(&name, bytes) {
            // One that could not be removed when it was given up.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return disk.remove(&name),
            file => file?,
        };
        // Not synced: what a power loss takes of it is made again.
        if let Err(error) = file.write_at(0, &header(store_id)) {
            drop(disk.remove(&name));
            return Err(error);
        }
        lock(&self.pieces).there.insert(piece);
        self.short.store(false, Ordering::Release);
        Ok(())
    }
}

/// Calls `work` until it does not fail for want of room, giving up a piece before each further try.
pub(crate) fn with_room<T>(
    disk: &dyn Disk,
    pieces: &mut BTreeSet<u32>,
    mut work: impl FnMut() -> Result<T>,
) -> Result<T> {
    loop {
        match work() {
            Err(error) if error.is_full() => {
                let Some(piece) = pieces.pop_last() else { return Err(error) };
                let name = reserve_name(piece);
                disk.remove(&name).map_err(Error::io("remove", name))?;
            }
            result => return result,
        }
    }
}

pub(crate) fn reserve_name(piece: u32) -> String {
    format!("reserve-{piece:04}.spc")
}

/// The piece that a name is of.
pub(crate) fn parse_reserve_name(name: &str) -> Option<u32> {
    let piece = name.strip_prefix("reserve-")?.strip_suffix(".spc")?.parse().ok()?;
    (reserve_name(piece) == name).then_some(piece)
}

/// Whether a file with such a name is a piece of the store's reserve, or one that was being made.
pub(crate) fn is_ours(disk: &dyn Disk, name: &str, store_id: u64) -> Result<bool> {
    let file = disk.open(name).map_err(Error::io("open", name))?;
    let length = file.len().map_err(Error::io("read the length of", name))?;
    let mut front = vec![0; length.min(HEADER_BYTES as u64) as usize];
    file.read_at(0, &mut front).map_err(Error::io("read", name))?;
    Ok(front.iter().all(|byte| *byte == 0) || front == header(store_id))
}

/// The front of a piece.
pub(crate) fn header(store_id: u64) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    LittleEndian::write_u16(&mut bytes[8..], VERSION);
    LittleEndian::write_u64(&mut bytes[16..], store_id);
    let crc = crc32fast::hash(&bytes);
    LittleEndian::write_u32(&mut bytes[12..], crc);
    bytes
}
