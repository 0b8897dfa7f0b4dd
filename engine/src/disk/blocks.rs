//! Bytes for direct writes.

use std::ops::{Deref, DerefMut};

use crate::format::BLOCK_BYTES;

#[repr(align(4096))]
struct Aligned([u8; 64 << 10]);

static ALIGNED: Aligned = Aligned([0; 64 << 10]);
/// Zeros at an address that direct writes accept. Few, and written again and again: they stay in the processor's cache, and a
/// file of them takes two thirds of the time that as many different pages take.
pub(crate) static ZEROS: &[u8] = &ALIGNED.0;

/// Bytes whose first one stands on a 4 KiB boundary in memory: only such are written past the page cache.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    bytes: Vec<u8>,
    /// Where in `bytes` they begin.
    start: usize,
}

impl Blocks {
    /// None, with room for so many.
    pub(crate) fn with_room(room: usize) -> Self {
        let mut bytes = Vec::<u8>::with_capacity(room + BLOCK_BYTES);
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES);
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    /// Bytes that it takes in memory.
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes all bytes out.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }

    /// Adds bytes.
    pub(crate) fn extend(&mut self, more: &[u8]) {
        self.reserve(more.len());
        self.bytes.extend_from_slice(more);
    }

    /// Cuts bytes off, or adds zeros.
    pub(crate) fn resize(&mut self, count: usize) {
        self.reserve(count.saturating_sub(self.len()));
        self.bytes.resize(self.start + count, 0);
    }

    /// Bytes that are moved in memory stand at another boundary: they are never moved but here.
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let mut larger = Self::with_room(needed.max(2 * self.bytes.capacity()));
            larger.bytes.extend_from_slice(self);
            *self = larger;
        }
    }
}

impl Deref for Blocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for Blocks {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}
