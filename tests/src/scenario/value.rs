//! Values of AMQP tables as the scenarios write them: plain TOML where the type does not matter, `{ int8 = 5 }` where
//! it does, `{ any = "timestamp" }` where only the type is known.

use bytes::{Buf, Bytes};
use serde::Deserialize;

use crate::amqp::codec::Writer;

/// A value, or what is expected of one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub(super) enum Value {
    /// An integer whose width does not matter; sent with 32 bits where it fits, else with 64.
    Integer(i64),
    /// Only the type is known.
    Any(String),
    Void,
    Bool(bool),
    Int8(i8),
    Uint8(u8),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Float(f32),
    Double(f64),
    /// Scale and number.
    Decimal(u8, u32),
    Text(String),
    /// A long string that need not be UTF-8, or a byte array ('x').
    Bytes(Vec<u8>),
    Timestamp(u64),
    Array(Vec<Value>),
    Table(Table),
}

/// Named values in order.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "toml::Table")]
pub(super) struct Table(pub(super) Vec<(String, Value)>);

impl TryFrom<toml::Table> for Table {
    type Error = String;

    fn try_from(table: toml::Table) -> Result<Self, String> {
        table
            .into_iter()
            .map(|(name, value)| Ok((name, Value::try_from(value)?)))
            .collect::<Result<_, String>>()
            .map(Self)
    }
}

impl TryFrom<toml::Value> for Value {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        Ok(match value {
            toml::Value::String(text) => Self::Text(text),
            toml::Value::Integer(number) => Self::Integer(number),
            toml::Value::Float(number) => Self::Double(number),
            toml::Value::Boolean(bit) => Self::Bool(bit),
            toml::Value::Datetime(_) => return Err("write { timestamp = SECONDS }".into()),
            toml::Value::Array(values) => {
                Self::Array(values.into_iter().map(Self::try_from).collect::<Result<_, _>>()?)
            }
            toml::Value::Table(table) => {
                let mut entries = table.into_iter();
                match (entries.next(), entries.next()) {
                    (Some((kind, value)), None) => typed(&kind, value)?,
                    _ => return Err("a value that is a table names its type: { table = { … } }".into()),
                }
            }
        })
    }
}

fn typed(kind: &str, value: toml::Value) -> Result<Value, String> {
    let number = || value.as_integer().ok_or_else(|| format!("{kind} takes an integer"));
    let wide = |_| format!("{kind} does not take such a large number");
    Ok(match kind {
        "any" => Value::Any(value.as_str().ok_or("any takes the name of a type")?.into()),
        "void" => Value::Void,
        "int8" => Value::Int8(number()?.try_into().map_err(wide)?),
        "uint8" => Value::Uint8(number()?.try_into().map_err(wide)?),
        "int16" => Value::Int16(number()?.try_into().map_err(wide)?),
        "uint16" => Value::Uint16(number()?.try_into().map_err(wide)?),
        "int32" => Value::Int32(number()?.try_into().map_err(wide)?),
        "uint32" => Value::Uint32(number()?.try_into().map_err(wide)?),
        "int64" => Value::Int64(number()?),
        "timestamp" => Value::Timestamp(number()?.try_into().map_err(wide)?),
        "float" => Value::Float(value.as_float().ok_or("float takes a float")? as f32),
        "bytes" => Value::Bytes(unhex(value.as_str().ok_or("bytes takes hexadecimal digits")?)?),
        "table" => match value {
            toml::Value::Table(table) => Value::Table(Table::try_from(table)?),
            _ => return Err("table takes a table".into()),
        },
        other => return Err(format!("there is no type '{other}'")),
    })
}

/// Bytes written as hexadecimal digits; spaces do not count.
pub(super) fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2);
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    bytes.ok_or_else(|| format!("'{text}' is not hexadecimal"))
}

impl Value {
    /// Whether `actual` is what is expected; what is written without a type is compared without it.
    pub(super) fn matches(&self, actual: &Self) -> bool {
        match (self, actual) {
            (Self::Any(kind), actual) => kind == actual.kind(),
            (Self::Integer(number), actual) => actual.number() == Some(*number),
            (Self::Array(ours), Self::Array(theirs)) => {
                ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(our, their)| our.matches(their))
            }
            (Self::Table(ours), Self::Table(theirs)) => {
                ours.0.len() == theirs.0.len()
                    && ours
                        .0
                        .iter()
                        .all(|(name, our)| theirs.get(name).is_some_and(|their| our.matches(their)))
            }
            (our, their) => our == their,
        }
    }

    /// The name of its type, as `any` takes it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "integer",
            Self::Any(_) => "any",
            Self::Void => "void",
            Self::Bool(_) => "bool",
            Self::Int8(_) => "int8",
            Self::Uint8(_) => "uint8",
            Self::Int16(_) => "int16",
            Self::Uint16(_) => "uint16",
            Self::Int32(_) => "int32",
            Self::Uint32(_) => "uint32",
            Self::Int64(_) => "int64",
            Self::Float(_) => "float",
            Self::Double(_) => "double",
            Self::Decimal(..) => "decimal",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "timestamp",
            Self::Array(_) => "array",
            Self::Table(_) => "table",
        }
    }

    /// An integer of any width.
    pub(super) fn number(&self) -> Option<i64> {
        Some(match *self {
            Self::Integer(number) | Self::Int64(number) => number,
            Self::Int8(number) => number.into(),
            Self::Uint8(number) => number.into(),
            Self::Int16(number) => number.into(),
            Self::Uint16(number) => number.into(),
            Self::Int32(number) => number.into(),
            Self::Uint32(number) => number.into(),
            _ => return None,
        })
    }

    fn write(&self, out: Writer) -> Writer {
        match self {
            Self::Integer(number) => match i32::try_from(*number) {
                Ok(number) => out.octet(b'I').long(number.cast_unsigned()),
                Err(_) => out.octet(b'l').longlong(number.cast_unsigned()),
            },
            Self::Any(_) | Self::Void => out.octet(b'V'),
            Self::Bool(bit) => out.octet(b't').octet((*bit).into()),
            Self::Int8(number) => out.octet(b'b').octet(number.cast_unsigned()),
            Self::Uint8(number) => out.octet(b'B').octet(*number),
            Self::Int16(number) => out.octet(b's').short(number.cast_unsigned()),
            Self::Uint16(number) => out.octet(b'u').short(*number),
            Self::Int32(number) => out.octet(b'I').long(number.cast_unsigned()),
            Self::Uint32(number) => out.octet(b'i').long(*number),
            Self::Int64(number) => out.octet(b'l').longlong(number.cast_unsigned()),
            Self::Float(number) => out.octet(b'f').long(number.to_bits()),
            Self::Double(number) => out.octet(b'd').longlong(number.to_bits()),
            Self::Decimal(scale, number) => out.octet(b'D').octet(*scale).long(*number),
            Self::Text(text) => out.octet(b'S').longstr(text.as_bytes()),
            Self::Bytes(bytes) => out.octet(b'S').longstr(bytes),
            Self::Timestamp(seconds) => out.octet(b'T').longlong(*seconds),
            Self::Array(values) => {
                let inner = values.iter().fold(Writer::new(), |inner, value| value.write(inner));
                out.octet(b'A').longstr(&inner.0)
            }
            Self::Table(table) => out.octet(b'F').longstr(&table.entries()),
        }
    }

    fn read(from: &mut Bytes) -> Option<Self> {
        let kind = from.try_get_u8().ok()?;
        Some(match kind {
            b'V' => Self::Void,
            b't' => Self::Bool(from.try_get_u8().ok()? != 0),
            b'b' => Self::Int8(from.try_get_i8().ok()?),
            b'B' => Self::Uint8(from.try_get_u8().ok()?),
            b's' => Self::Int16(from.try_get_i16().ok()?),
            b'u' => Self::Uint16(from.try_get_u16().ok()?),
            b'I' => Self::Int32(from.try_get_i32().ok()?),
            b'i' => Self::Uint32(from.try_get_u32().ok()?),
            b'l' | b'L' => Self::Int64(from.try_get_i64().ok()?),
            b'f' => Self::Float(from.try_get_f32().ok()?),
            b'd' => Self::Double(from.try_get_f64().ok()?),
            b'D' => Self::Decimal(from.try_get_u8().ok()?, from.try_get_u32().ok()?),
            b'T' => Self::Timestamp(from.try_get_u64().ok()?),
            b'S' => match String::from_utf8(long(from)?.to_vec()) {
                Ok(text) => Self::Text(text),
                Err(error) => Self::Bytes(error.into_bytes()),
            },
            b'x' => Self::Bytes(long(from)?.to_vec()),
            b'A' => {
                let mut inner = long(from)?;
                let mut values = Vec::new();
                while inner.has_remaining() {
                    values.push(Self::read(&mut inner)?);
                }
                Self::Array(values)
            }
            b'F' => Self::Table(Table::read(from)?),
            _ => return None,
        })
    }
}

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Bytes with the length before them.
    pub(super) fn write(&self, out: Writer) -> Writer {
        out.longstr(&self.entries())
    }

    fn entries(&self) -> Vec<u8> {
        self.0.iter().fold(Writer::new(), |out, (name, value)| value.write(out.shortstr(name))).0
    }

    /// None when it is not a table.
    pub(super) fn read(from: &mut Bytes) -> Option<Self> {
        let mut inner = long(from)?;
        let mut entries = Vec::new();
        while inner.has_remaining() {
            let length = usize::from(inner.get_u8());
            if inner.len() < length {
                return None;
            }
            let name = String::from_utf8_lossy(&inner.split_to(length)).into_owned();
            entries.push((name, Value::read(&mut inner)?));
        }
        Some(Self(entries))
    }
}

fn long(from: &mut Bytes) -> Option<Bytes> {
    let length = from.try_get_u32().ok()? as usize;
    (length <= from.len()).then(|| from.split_to(length))
}
