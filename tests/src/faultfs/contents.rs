//! A file's contents: what the process sees, and which states of it a power loss may leave.
//!
//! Writes reach the medium by sectors, through a page cache: what a lost power leaves of a sector is one of the versions
//! that it had since the last sync, whatever became of its neighbours. So any subset of the writes may survive, in any
//! order, torn within one write and across several. The length is apart from all that: it may be any of those that the
//! file had, with zeros where no sector survived.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::loss::{Lost, Style};

/// What a medium writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
/// What room is given out in.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// Versions of one sector that are remembered: the durable one, and the first few after it.
const VERSIONS_MAX: usize = 4;

type Sector = [u8; SECTOR_BYTES];

/// One file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    bytes: Vec<u8>,
    /// Blocks that take room, whether or not within the length.
    blocks: BTreeSet<u64>,
    /// What each sector that was changed since the last sync held before, oldest (durable) first.
    before: BTreeMap<usize, Vec<Sector>>,
    /// The lengths before each change of the length since the last sync, oldest (durable) first.
    lengths: Vec<usize>,
    /// What sectors held before a sync that failed: later syncs do not cover them unless they are written again.
    doomed: BTreeMap<usize, Sector>,
    /// Something other than zeros was written since the last sync.
    written: bool,
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Blocks that it takes.
    pub(super) fn room(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Blocks of a range that do not have room yet.
    pub(super) fn room_wanted(&self, offset: u64, bytes: u64) -> u64 {
        blocks(offset, bytes).filter(|block| !self.blocks.contains(block)).count() as u64
    }

    pub(super) fn read(&self, offset: u64, bytes: usize) -> &[u8] {
        let start = (offset as usize).min(self.bytes.len());
        let end = start.saturating_add(bytes).min(self.bytes.len());
        &self.bytes[start..end]
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let start = offset as usize;
        let end = start + data.len();
        self.note(start, end);
        if end > self.bytes.len() {
            self.resize(end);
        }
        self.bytes[start..end].copy_from_slice(data);
        self.written |= !is_zeros(data);
        self.blocks.extend(blocks(offset, data.len() as u64));
    }

    /// Gives a range room, and the file that length where it is to grow.
    pub(super) fn allocate(&mut self, offset: u64, bytes: u64, grow: bool) {
        self.blocks.extend(blocks(offset, bytes));
        let end = (offset + bytes) as usize;
        if grow && end > self.bytes.len() {
            self.resize(end);
        }
    }

    /// Makes a range read as zeros; its whole blocks give their room back where `punch`.
    pub(super) fn zero(&mut self, offset: u64, bytes: u64, punch: bool) {
        let start = (offset as usize).min(self.bytes.len());
        let end = ((offset + bytes) as usize).min(self.bytes.len());
        self.note(start, end);
        self.bytes[start..end].fill(0);
        if punch {
            for block in offset.div_ceil(BLOCK_BYTES)..(offset + bytes) / BLOCK_BYTES {
                self.blocks.remove(&block);
            }
        }
    }

    pub(super) fn set_len(&mut self, bytes: u64) {
        let upto = bytes as usize;
        if upto < self.bytes.len() {
            self.note(upto, self.bytes.len());
        }
        self.resize(upto);
        self.blocks.retain(|block| block * BLOCK_BYTES < bytes);
    }

    /// fsync: what it is now, it is for good.
    pub(super) fn sync(&mut self) {
        for sector in self.before.keys() {
            self.doomed.remove(sector);
        }
        self.before.clear();
        self.lengths.clear();
        self.written = false;
    }

    /// Whether there is more to sync than zeros.
    pub(super) fn is_written(&self) -> bool {
        self.written
    }

    /// fsync that fails, as Linux does it: the pages count as clean from then on, and no later sync writes them.
    pub(super) fn fail_sync(&mut self) {
        for (sector, versions) in std::mem::take(&mut self.before) {
            if let Some(durable) = versions.into_iter().next() {
                self.doomed.entry(sector).or_insert(durable);
            }
        }
    }

    /// The next byte from `offset` on that has (or, where not `data`, has no) room.
    pub(super) fn seek(&self, offset: u64, data: bool) -> Option<u64> {
        let mut at = offset;
        while at < self.len() {
            if self.blocks.contains(&(at / BLOCK_BYTES)) == data {
                return Some(at);
            }
            at = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
        }
        // The end of a file counts as a hole.
        (!data && offset < self.len()).then(|| self.len())
    }

    /// The power is gone: becomes one of the states that may be left, which is durable then.
    pub(super) fn lose_power(&mut self, style: Style, rng: &mut Rng, lost: &mut Lost) {
        let lengths = std::mem::take(&mut self.lengths);
        // Drawn apart from the sectors: a length is kept in another place than what it counts.
        if !lengths.is_empty() && !style.fate(rng).survives(rng) {
            let mixes = style.fate(rng).mixes && rng.bool();
            let length = lengths[if mixes { rng.usize(..lengths.len()) } else { 0 }];
            lost.lengths += u64::from(length != self.bytes.len());
            self.bytes.resize(length, 0);
        }
        let mut fate = style.fate(rng);
        for (sector, durable) in std::mem::take(&mut self.doomed) {
            self.before.entry(sector).or_default().insert(0, durable);
        }
        self.written = false;
        let (mut kept, mut gone) = (0, 0);
        for (sector, versions) in std::mem::take(&mut self.before) {
            if fate.survives(rng) {
                kept += 1;
                continue;
            }
            gone += 1;
            let version = if fate.mixes && rng.u8(..4) == 0 { rng.usize(..versions.len()) } else { 0 };
            let start = (sector * SECTOR_BYTES).min(self.bytes.len());
            let end = (start + SECTOR_BYTES).min(self.bytes.len());
            self.bytes[start..end].copy_from_slice(&versions[version][..end - start]);
        }
        lost.sectors += gone;
        lost.sectors_kept += kept;
        lost.torn += u64::from(kept > 0 && gone > 0);
        let bytes = self.len();
        // Room is not what this is about: what is within the length has it.
        self.blocks = blocks(0, bytes).collect();
    }

    /// Remembers what the sectors of a range hold.
    fn note(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let versions = self.before.entry(sector).or_default();
            if versions.len() < VERSIONS_MAX {
                let mut version = [0; SECTOR_BYTES];
                let from = (sector * SECTOR_BYTES).min(self.bytes.len());
                let upto = (from + SECTOR_BYTES).min(self.bytes.len());
                version[..upto - from].copy_from_slice(&self.bytes[from..upto]);
                versions.push(version);
            }
        }
    }

    fn resize(&mut self, bytes: usize) {
        if bytes != self.bytes.len() {
            self.lengths.push(self.bytes.len());
            self.bytes.resize(bytes, 0);
        }
    }
}

pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The blocks that a range touches.
fn blocks(offset: u64, bytes: u64) -> std::ops::Range<u64> {
    offset / BLOCK_BYTES..(offset + bytes).div_ceil(BLOCK_BYTES)
}
