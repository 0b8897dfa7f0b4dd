//! Field tables <-> bytes: AMQP 0-9-1, section 4.2.5.5, with the type letters that RabbitMQ and its clients use
//! (its errata to the specification differ from the grammar for 's', 'l' and others; see [`Value`]).
//!
//! ```text
//! table = length u32 | (name-length u8 | name | value)*     array = length u32 | value*
//! value = letter u8 | as the letter says                    all big-endian
//! ```

use bytes::Bytes;

use crate::value::{Table, Value};

/// Tables and arrays may stand in each other so deep. The deepest still fits into the 100 nested messages that
/// protobuf decoders allow (three for each table), so that what one protocol takes the other can hand out.
pub const NESTING_MAX: usize = 30;

/// Longest name of a field, in bytes: its length is one byte.
pub const NAME_BYTES_MAX: usize = 255;

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A length goes beyond the end.
    #[error("a field table ends early: {need} bytes wanted, {have} left")]
    Truncated {
        /// Bytes wanted.
        need: usize,
        /// Bytes left.
        have: usize,
    },
    /// Bytes after the end of the table.
    #[error("{0} bytes after the end of a field table")]
    Trailing(usize),
    /// A type letter that nobody knows.
    #[error("unknown field type '{}' in a field table", .0.escape_ascii())]
    UnknownType(u8),
    /// A name is not UTF-8.
    #[error("a field name is not UTF-8")]
    NameNotUtf8,
    /// A name does not fit.
    #[error("field name '{0}' is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong(String),
    /// A value does not fit.
    #[error("a field value of {0} bytes is too long")]
    ValueTooLong(usize),
    /// Nested too deep.
    #[error("a field table is nested deeper than {NESTING_MAX} levels")]
    TooDeep,
}

/// Decodes a table that fills `bytes`, its length first.
pub fn decode_table(mut bytes: &[u8]) -> Result<Table, TableError> {
    let table = read_table(&mut bytes)?;
    if bytes.is_empty() { Ok(table) } else { Err(TableError::Trailing(bytes.len())) }
}

/// Decodes a table from the front of `input`, and moves it on.
pub fn read_table(input: &mut &[u8]) -> Result<Table, TableError> {
    table_at(input, 1)
}

/// Appends a table, its length first. After an error `out` holds the start of it.
pub fn write_table(table: &Table, out: &mut Vec<u8>) -> Result<(), TableError> {
    write_table_at(table, out, 1)
}

/// A table as bytes: names and, still encoded, values. Going through it checks every length and letter in it.
#[derive(Debug)]
pub(crate) struct RawTable<'a>(&'a [u8]);

impl<'a> RawTable<'a> {
    /// A table that fills `bytes`, its length first.
    pub(crate) fn open(mut bytes: &'a [u8]) -> Result<Self, TableError> {
        let inside = long_bytes(&mut bytes)?;
        if bytes.is_empty() { Ok(Self(inside)) } else { Err(TableError::Trailing(bytes.len())) }
    }

    fn entry(&mut self) -> Result<(&'a [u8], &'a [u8]), TableError> {
        let name = name_bytes(&mut self.0)?;
        let start = self.0;
        skip_value(&mut self.0, 1)?;
        Ok((name, &start[..start.len() - self.0.len()]))
    }
}

impl<'a> Iterator for RawTable<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.0 = &[];
        }
        Some(entry)
    }
}

/// Passes over a value, checking it as far as its decoding would, but for text.
fn skip_value(input: &mut &[u8], depth: usize) -> Result<(), TableError> {
    let [letter] = fixed(input)?;
    let bytes = match letter {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' => return long_bytes(input).map(drop),
        b'A' | b'F' if depth >= NESTING_MAX => return Err(TableError::TooDeep),
        b'A' | b'F' => {
            let mut inside = long_bytes(input)?;
            while !inside.is_empty() {
                if letter == b'F' {
                    name_bytes(&mut inside)?;
                }
                skip_value(&mut inside, depth + 1)?;
            }
            return Ok(());
        }
        unknown => return Err(TableError::UnknownType(unknown)),
    };
    take(input, bytes).map(drop)
}

fn name_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], TableError> {
    let [length] = fixed(input)?;
    take(input, length.into())
}

fn table_at(input: &mut &[u8], depth: usize) -> Result<Table, TableError> {
    if depth > NESTING_MAX {
        return Err(TableError::TooDeep);
    }
    let mut inside = long_bytes(input)?;
    let mut entries = Vec::new();
    while !inside.is_empty() {
        let length = u8::from_be_bytes(fixed(&mut inside)?);
        let name =
            std::str::from_utf8(take(&mut inside, length.into())?).map_err(|_| TableError::NameNotUtf8)?;
        entries.push((name.to_owned(), value_at(&mut inside, depth)?));
    }
    Ok(Table(entries))
}

fn array_at(input: &mut &[u8], depth: usize) -> Result<Vec<Value>, TableError> {
    if depth > NESTING_MAX {
        return Err(TableError::TooDeep);
    }
    let mut inside = long_bytes(input)?;
    let mut values = Vec::new();
    while !inside.is_empty() {
        values.push(value_at(&mut inside, depth)?);
    }
    Ok(values)
}

fn value_at(input: &mut &[u8], depth: usize) -> Result<Value, TableError> {
    let [letter] = fixed(input)?;
    Ok(match letter {
        b'V' => Value::Void,
        b't' => Value::Bool(fixed(input)? != [0]),
        b'b' => Value::I8(i8::from_be_bytes(fixed(input)?)),
        b'B' => Value::U8(u8::from_be_bytes(fixed(input)?)),
        b's' => Value::I16(i16::from_be_bytes(fixed(input)?)),
        b'u' => Value::U16(u16::from_be_bytes(fixed(input)?)),
        b'I' => Value::I32(i32::from_be_bytes(fixed(input)?)),
        b'i' => Value::U32(u32::from_be_bytes(fixed(input)?)),
        // py-amqp writes 'L', and RabbitMQ reads both and writes 'l'.
        b'l' | b'L' => Value::I64(i64::from_be_bytes(fixed(input)?)),
        b'f' => Value::F32(f32::from_be_bytes(fixed(input)?)),
        b'd' => Value::F64(f64::from_be_bytes(fixed(input)?)),
        b'D' => {
            let [scale] = fixed(input)?;
            Value::Decimal { scale, number: u32::from_be_bytes(fixed(input)?) }
        }
        b'S' => Value::Bytes(Bytes::copy_from_slice(long_bytes(input)?)),
        b'x' => Value::ByteArray(Bytes::copy_from_slice(long_bytes(input)?)),
        b'T' => Value::Timestamp(u64::from_be_bytes(fixed(input)?)),
        b'A' => Value::Array(array_at(input, depth + 1)?),
        b'F' => Value::Table(table_at(input, depth + 1)?),
        unknown => return Err(TableError::UnknownType(unknown)),
    })
}

fn long_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], TableError> {
    let length = u32::from_be_bytes(fixed(input)?);
    take(input, length as usize)
}

fn take<'a>(input: &mut &'a [u8], need: usize) -> Result<&'a [u8], TableError> {
    let Some((taken, rest)) = input.split_at_checked(need) else {
        return Err(TableError::Truncated { need, have: input.len() });
    };
    *input = rest;
    Ok(taken)
}

fn fixed<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], TableError> {
    let Some((taken, rest)) = input.split_first_chunk::<N>() else {
        return Err(TableError::Truncated { need: N, have: input.len() });
    };
    *input = rest;
    Ok(*taken)
}

fn write_table_at(table: &Table, out: &mut Vec<u8>, depth: usize) -> Result<(), TableError> {
    write_nested(out, depth, |out| {
        for (name, value) in &table.0 {
            let length = u8::try_from(name.len())
                .map_err(|_| TableError::NameTooLong(name.chars().take(64).collect()))?;
            out.push(length);
            out.extend_from_slice(name.as_bytes());
            write_value(value, out, depth)?;
        }
        Ok(())
    })
}

fn write_array(values: &[Value], out: &mut Vec<u8>, depth: usize) -> Result<(), TableError> {
    write_nested(out, depth, |out| values.iter().try_for_each(|value| write_value(value, out, depth)))
}

/// Writes the length after the fact.
fn write_nested(
    out: &mut Vec<u8>,
    depth: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), TableError>,
) -> Result<(), TableError> {
    if depth > NESTING_MAX {
        return Err(TableError::TooDeep);
    }
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = length_u32(out.len() - start - 4)?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn write_value(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), TableError> {
    match value {
        Value::Void => out.push(b'V'),
        Value::Bool(v) => put(out, b't', [u8::from(*v)]),
        Value::I8(v) => put(out, b'b', v.to_be_bytes()),
        Value::U8(v) => put(out, b'B', v.to_be_bytes()),
        Value::I16(v) => put(out, b's', v.to_be_bytes()),
        Value::U16(v) => put(out, b'u', v.to_be_bytes()),
        Value::I32(v) => put(out, b'I', v.to_be_bytes()),
        Value::U32(v) => put(out, b'i', v.to_be_bytes()),
        Value::I64(v) => put(out, b'l', v.to_be_bytes()),
        Value::F32(v) => put(out, b'f', v.to_be_bytes()),
        Value::F64(v) => put(out, b'd', v.to_be_bytes()),
        Value::Decimal { scale, number } => {
            put(out, b'D', [*scale]);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Bytes(v) => put_long(out, b'S', v)?,
        Value::ByteArray(v) => put_long(out, b'x', v)?,
        Value::Timestamp(v) => put(out, b'T', v.to_be_bytes()),
        Value::Array(v) => {
            out.push(b'A');
            write_array(v, out, depth + 1)?;
        }
        Value::Table(v) => {
            out.push(b'F');
            write_table_at(v, out, depth + 1)?;
        }
    }
    Ok(())
}

fn put<const N: usize>(out: &mut Vec<u8>, letter: u8, bytes: [u8; N]) {
    out.push(letter);
    out.extend_from_slice(&bytes);
}

fn put_long(out: &mut Vec<u8>, letter: u8, bytes: &[u8]) -> Result<(), TableError> {
    put(out, letter, length_u32(bytes.len())?.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn length_u32(length: usize) -> Result<u32, TableError> {
    u32::try_from(length).map_err(|_| TableError::ValueTooLong(length))
}
