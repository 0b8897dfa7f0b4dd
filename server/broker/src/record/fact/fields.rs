//! Tables of arguments in facts.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::FactError;
use crate::value::{Table, Value};

/// One named value of a table, or one unnamed item of an array. `letter` is AMQP's type letter; which of the other
/// fields carries the value follows from it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FieldFact {
    /// Name; empty in an array.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type letter: 'V' 't' 'b' 'B' 's' 'u' 'I' 'i' 'l' 'f' 'd' 'D' 'S' 'x' 'T' 'A' 'F'.
    #[prost(uint32, tag = "2")]
    pub letter: u32,
    /// Signed numbers.
    #[prost(sint64, tag = "3")]
    pub signed: i64,
    /// Unsigned numbers, booleans, timestamps, a decimal's number, the bits of floating-point numbers.
    #[prost(uint64, tag = "4")]
    pub unsigned: u64,
    /// A decimal's scale.
    #[prost(uint32, tag = "5")]
    pub scale: u32,
    /// Strings and byte arrays.
    #[prost(bytes = "bytes", tag = "6")]
    pub bytes: Bytes,
    /// Items of arrays and tables.
    #[prost(message, repeated, tag = "7")]
    pub items: Vec<FieldFact>,
}

/// A table as bytes that are equal for equal tables, whatever the order of their names.
pub(crate) fn canonical(arguments: &Table) -> Bytes {
    canonical_fields(&fields(arguments))
}

/// A table's fields, in their order.
pub fn fields(table: &Table) -> Vec<FieldFact> {
    table.0.iter().map(|(name, value)| field(name, value)).collect()
}

/// The table of those fields.
pub fn table(fields: &[FieldFact]) -> Result<Table, FactError> {
    fields.iter().map(|f| Ok((f.name.clone(), value(f)?))).collect::<Result<_, _>>().map(Table)
}

/// The same for its fields.
pub(super) fn canonical_fields(fields: &[FieldFact]) -> Bytes {
    let mut sorted = fields.to_vec();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut buf = BytesMut::new();
    for field in sorted {
        field.encode_length_delimited(&mut buf).expect("a BytesMut grows as needed");
    }
    buf.freeze()
}

fn field(name: &str, value: &Value) -> FieldFact {
    let mut field = FieldFact { name: name.to_string(), ..FieldFact::default() };
    let letter = match value {
        Value::Void => b'V',
        Value::Bool(v) => unsigned(&mut field, b't', u64::from(*v)),
        Value::I8(v) => signed(&mut field, b'b', i64::from(*v)),
        Value::U8(v) => unsigned(&mut field, b'B', u64::from(*v)),
        Value::I16(v) => signed(&mut field, b's', i64::from(*v)),
        Value::U16(v) => unsigned(&mut field, b'u', u64::from(*v)),
        Value::I32(v) => signed(&mut field, b'I', i64::from(*v)),
        Value::U32(v) => unsigned(&mut field, b'i', u64::from(*v)),
        Value::I64(v) => signed(&mut field, b'l', *v),
        Value::F32(v) => unsigned(&mut field, b'f', u64::from(v.to_bits())),
        Value::F64(v) => unsigned(&mut field, b'd', v.to_bits()),
        Value::Timestamp(v) => unsigned(&mut field, b'T', *v),
        Value::Decimal { scale, number } => {
            field.scale = u32::from(*scale);
            unsigned(&mut field, b'D', u64::from(*number))
        }
        Value::Bytes(v) => bytes(&mut field, b'S', v),
        Value::ByteArray(v) => bytes(&mut field, b'x', v),
        Value::Array(items) => {
            field.items = items.iter().map(|v| self::field("", v)).collect();
            b'A'
        }
        Value::Table(table) => {
            field.items = fields(table);
            b'F'
        }
    };
    field.letter = u32::from(letter);
    field
}

fn signed(field: &mut FieldFact, letter: u8, value: i64) -> u8 {
    field.signed = value;
    letter
}

fn unsigned(field: &mut FieldFact, letter: u8, value: u64) -> u8 {
    field.unsigned = value;
    letter
}

fn bytes(field: &mut FieldFact, letter: u8, value: &Bytes) -> u8 {
    field.bytes = value.clone();
    letter
}

fn value(field: &FieldFact) -> Result<Value, FactError> {
    let letter = u8::try_from(field.letter).unwrap_or(0);
    Ok(match letter {
        b'V' => Value::Void,
        b't' => Value::Bool(field.unsigned != 0),
        b'b' => Value::I8(fit(field.signed)?),
        b'B' => Value::U8(fit(field.unsigned)?),
        b's' => Value::I16(fit(field.signed)?),
        b'u' => Value::U16(fit(field.unsigned)?),
        b'I' => Value::I32(fit(field.signed)?),
        b'i' => Value::U32(fit(field.unsigned)?),
        b'l' => Value::I64(field.signed),
        b'f' => Value::F32(f32::from_bits(fit(field.unsigned)?)),
        b'd' => Value::F64(f64::from_bits(field.unsigned)),
        b'T' => Value::Timestamp(field.unsigned),
        b'D' => Value::Decimal { scale: fit(field.scale)?, number: fit(field.unsigned)? },
        b'S' => Value::Bytes(field.bytes.clone()),
        b'x' => Value::ByteArray(field.bytes.clone()),
        b'A' => Value::Array(field.items.iter().map(value).collect::<Result<_, _>>()?),
        b'F' => Value::Table(table(&field.items)?),
        _ => {
            return Err(FactError::Malformed(format!("unknown type letter {} of an argument", field.letter)));
        }
    })
}

fn fit<W, N: TryFrom<W>>(wide: W) -> Result<N, FactError> {
    N::try_from(wide)
        .map_err(|_| FactError::Malformed("an argument's number is out of its type's range".into()))
}
