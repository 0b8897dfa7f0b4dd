//! AMQP 0-9-1 field tables as values. Order and types are kept, so that a table passes through unchanged.

use bytes::Bytes;

/// A field value, one variant per type letter that RabbitMQ and its clients use.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// 'V'
    Void,
    /// 't'
    Bool(bool),
    /// 'b' signed 8 bit
    I8(i8),
    /// 'B' unsigned 8 bit
    U8(u8),
    /// 's' signed 16 bit (as RabbitMQ, not the spec)
    I16(i16),
    /// 'u' unsigned 16 bit
    U16(u16),
    /// 'I' signed 32 bit
    I32(i32),
    /// 'i' unsigned 32 bit
    U32(u32),
    /// 'l' signed 64 bit; 'L' is read as the same
    I64(i64),
    /// 'f'
    F32(f32),
    /// 'd'
    F64(f64),
    /// 'D' value = number / 10^scale
    Decimal {
        /// Decimal places.
        scale: u8,
        /// Unscaled value.
        number: u32,
    },
    /// 'S' bytes, mostly UTF-8
    Bytes(Bytes),
    /// 'x' bytes
    ByteArray(Bytes),
    /// 'T' seconds since 1970
    Timestamp(u64),
    /// 'A'
    Array(Vec<Value>),
    /// 'F'
    Table(Table),
}

/// Names and values in their order. A name may stand twice; the first counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table(pub Vec<(String, Value)>);

impl Table {
    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
