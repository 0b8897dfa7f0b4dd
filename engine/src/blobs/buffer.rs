//! Where a large body is put together.

use bytes::Bytes;

use super::BODY_HEADER_BYTES;
use crate::format::BLOCK_BYTES;

/// Shorter bodies are not worth the block that it takes.
const PLACED_BYTES_MIN: usize = 64 << 10;

/// Room for a body that comes in parts, placed in memory as it will be in a blob file: behind its header, which begins
/// where a block does. Its whole blocks then go to the disk from where they are. The blob writer copies a body that stands
/// elsewhere, which takes it half as long as the disk takes to write it.
#[derive(Debug, Default)]
pub struct BodyBuffer {
    bytes: Vec<u8>,
    /// Where in `bytes` the body begins.
    start: usize,
}

impl BodyBuffer {
    /// Bytes that it holds.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// It holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it holds without being moved.
    pub fn room(&self) -> usize {
        self.bytes.capacity() - self.start
    }

    /// Makes room for so many bytes in all, which copies what is there.
    pub fn make_room(&mut self, bytes: usize) {
        if bytes <= self.room() {
            return;
        }
        let placed = bytes >= PLACED_BYTES_MIN;
        let mut larger = Vec::<u8>::with_capacity(bytes + if placed { BLOCK_BYTES } else { 0 });
        let start = if placed { distance(larger.as_ptr()) } else { 0 };
        larger.resize(start, 0);
        larger.extend_from_slice(&self.bytes[self.start..]);
        *self = Self { bytes: larger, start };
    }

    /// Adds bytes.
    pub fn extend(&mut self, part: &[u8]) {
        if self.len() + part.len() > self.room() {
            self.make_room((self.len() + part.len()).max(2 * self.room()));
        }
        self.bytes.extend_from_slice(part);
    }

    /// The body.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.bytes).slice(self.start..)
    }
}

/// From an address to the next one at which a body is in its place.
fn distance(from: *const u8) -> usize {
    from.wrapping_sub(BODY_HEADER_BYTES).align_offset(BLOCK_BYTES)
}

/// The body can be written from where it is.
pub(super) fn is_placed(body: &[u8]) -> bool {
    distance(body.as_ptr()) == 0
}
