//! Reading and writing little-endian fields with bounds checked before anything is allocated.

use bytes::{Buf, Bytes};

/// Why bytes could not be read as what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

pub(crate) type Parsed<T> = Result<T, Malformed>;

/// Appends fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A u32 length and the bytes.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).expect("a field under 4 GiB: batches are bounded by a segment"));
        self.0.extend_from_slice(value);
    }
}

/// Takes fields off the front.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Parsed<Bytes> {
        if count > self.bytes.len() {
            return Err(self.short(count));
        }
        Ok(self.bytes.split_to(count))
    }

    /// A field of fixed length, copied: one that shares the memory costs two atomic counts.
    pub(crate) fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let field = *self.bytes.first_chunk().ok_or_else(|| self.short(N))?;
        self.bytes.advance(N);
        Ok(field)
    }

    fn short(&self, count: usize) -> Malformed {
        Malformed(format!("{count} bytes wanted where {} are left", self.bytes.len()))
    }

    pub(crate) fn u8(&mut self) -> Parsed<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Parsed<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Parsed<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn bytes(&mut self) -> Parsed<Bytes> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A count of things that take at least `each` bytes, so that no count can ask for more than there is.
    pub(crate) fn count(&mut self, each: usize) -> Parsed<usize> {
        let count = self.u32()? as usize;
        if count.checked_mul(each).is_none_or(|bytes| bytes > self.left()) {
            return Err(Malformed(format!("a count of {count} where {} bytes are left", self.left())));
        }
        Ok(count)
    }

    pub(crate) fn end(&self) -> Parsed<()> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(Malformed(format!("{} bytes too many", self.bytes.len())))
        }
    }
}
