//! The types of method arguments <-> bytes: AMQP 0-9-1, section 4.2.5. Rust types stand for the specification's:
//!
//! ```text
//! octet u8 · short u16 · long u32 · longlong u64, big-endian · bit bool, up to eight neighbours in one octet, lowest first
//! shortstr &str = length u8 | UTF-8 · longstr &[u8] = length u32 | bytes · table Table = length u32 | entries
//! ```

use leveret_broker::Table;
use leveret_broker::table_codec::{self, TableError};

/// What is wrong with the arguments of a method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// An argument goes beyond the end.
    #[error("the arguments end early")]
    Truncated,
    /// Bytes after the last argument.
    #[error("{0} bytes after the last argument")]
    Trailing(usize),
    /// A short string is not UTF-8.
    #[error("a short string is not UTF-8")]
    NotUtf8,
    /// A table is wrong.
    #[error("{0}")]
    Table(#[from] TableError),
}

/// Reads arguments from the front of a payload.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The octet that holds the bits being read, and how many of them were read.
    bits: (u8, u8),
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, bits: (0, 0) }
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.rest.len())) }
    }

    fn bit(&mut self) -> Result<bool, WireError> {
        let (mut octet, mut used) = self.bits;
        if used == 0 {
            octet = u8::from_be_bytes(self.fixed()?);
        }
        let bit = octet >> used & 1 == 1;
        used = (used + 1) % 8;
        self.bits = (octet, used);
        Ok(bit)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.bits = (0, 0);
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Writes arguments behind what is there.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// How many bits of the last octet are taken.
    bits: u8,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, bits: 0 }
    }

    fn bit(&mut self, bit: bool) {
        if self.bits == 0 {
            self.out.push(0);
        }
        if let Some(octet) = self.out.last_mut() {
            *octet |= u8::from(bit) << self.bits;
        }
        self.bits = (self.bits + 1) % 8;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bits = 0;
        self.out.extend_from_slice(bytes);
    }
}

/// A type that an argument can have.
pub(super) trait Argument<'a>: Sized {
    /// Reads it.
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError>;
    /// Writes it.
    fn write(&self, to: &mut Writer<'_>);
}

macro_rules! number {
    ($($ty:ty),+) => { $(
        impl Argument<'_> for $ty {
            fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
                from.fixed().map(Self::from_be_bytes)
            }

            fn write(&self, to: &mut Writer<'_>) {
                to.bytes(&self.to_be_bytes());
            }
        }
    )+ };
}

number!(u8, u16, u32, u64);

impl Argument<'_> for bool {
    fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
        from.bit()
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.bit(*self);
    }
}

impl<'a> Argument<'a> for &'a str {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let [length] = from.fixed()?;
        std::str::from_utf8(from.take(length.into())?).map_err(|_| WireError::NotUtf8)
    }

    /// Cut off where it does not fit: names were checked when they came in, and texts were cut by whoever wrote them.
    fn write(&self, to: &mut Writer<'_>) {
        let text = cut(self, u8::MAX.into());
        to.bytes(&[text.len() as u8]);
        to.bytes(text.as_bytes());
    }
}

impl<'a> Argument<'a> for &'a [u8] {
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let length = u32::from_be_bytes(from.fixed()?);
        from.take(length as usize)
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.bytes(&(self.len() as u32).to_be_bytes());
        to.bytes(self);
    }
}

impl Argument<'_> for Table {
    fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
        from.bits = (0, 0);
        Ok(table_codec::read_table(&mut from.rest)?)
    }

    /// Only tables of the broker's own are written, which fit.
    fn write(&self, to: &mut Writer<'_>) {
        to.bits = 0;
        let start = to.out.len();
        if table_codec::write_table(self, to.out).is_err() {
            to.out.truncate(start);
            to.bytes(&[0; 4]);
        }
    }
}

/// The longest start of a text that has at most so many bytes and ends at the end of a character.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
