//! Facts as bytes: what exists, one key and one value each.
//!
//! ```text
//! key   = kind u8 | part...            part = length u32 little-endian, bytes
//!         exchange 1: vhost, name
//!         queue    2: vhost, name
//!         binding  3: vhost, source, destination kind ("q" or "e"), destination, routing key, arguments
//! value = version u8 (1) | the prost message of that kind, below
//! ```
//!
//! A value says everything, so that replay reads no key beyond its kind. Kinds and prost tags are on disk: never
//! renumber them. A field added later must mean the old thing when it is absent; anything else is a new version.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::ids::QueueId;
use crate::input::{Binding, DestinationKind};
use crate::value::{Table, Value};

const FACT_VERSION: u8 = 1;
const KIND_EXCHANGE: u8 = 1;
const KIND_QUEUE: u8 = 2;
const KIND_BINDING: u8 = 3;

/// A durable thing that exists.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// An exchange.
    Exchange(ExchangeFact),
    /// A queue.
    Queue(QueueFact),
    /// A binding between durable ends.
    Binding(BindingFact),
}

/// A durable exchange.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExchangeFact {
    /// Virtual host.
    #[prost(string, tag = "1")]
    pub vhost: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Type: "direct", "fanout", "topic".
    #[prost(string, tag = "3")]
    pub kind: String,
    /// Deleted with its last binding.
    #[prost(bool, tag = "4")]
    pub auto_delete: bool,
    /// Not for clients to publish to.
    #[prost(bool, tag = "5")]
    pub internal: bool,
    /// Arguments.
    #[prost(message, repeated, tag = "6")]
    pub arguments: Vec<FieldFact>,
}

/// A durable queue.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueueFact {
    /// Virtual host.
    #[prost(string, tag = "1")]
    pub vhost: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its incarnation in the store.
    #[prost(uint64, tag = "3")]
    pub queue: u64,
    /// Deleted with its last consumer.
    #[prost(bool, tag = "4")]
    pub auto_delete: bool,
    /// Arguments.
    #[prost(message, repeated, tag = "5")]
    pub arguments: Vec<FieldFact>,
    /// Its levels above priority 0.
    #[prost(message, repeated, tag = "6")]
    pub levels: Vec<LevelFact>,
    /// It was sent messages that expire by themselves.
    #[prost(bool, tag = "7")]
    pub expiring: bool,
}

/// A level of a durable queue.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LevelFact {
    /// Priority of its messages, 1 to 255.
    #[prost(uint32, tag = "1")]
    pub priority: u32,
    /// Its incarnation in the store.
    #[prost(uint64, tag = "2")]
    pub queue: u64,
}

/// A durable binding.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BindingFact {
    /// Virtual host.
    #[prost(string, tag = "1")]
    pub vhost: String,
    /// Source exchange.
    #[prost(string, tag = "2")]
    pub source: String,
    /// It leads to an exchange, not to a queue.
    #[prost(bool, tag = "3")]
    pub to_exchange: bool,
    /// Destination name.
    #[prost(string, tag = "4")]
    pub destination: String,
    /// Binding key.
    #[prost(string, tag = "5")]
    pub routing_key: String,
    /// Arguments.
    #[prost(message, repeated, tag = "6")]
    pub arguments: Vec<FieldFact>,
}

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

/// Why a fact could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// Written by a newer broker.
    #[error("version {0}, this broker reads version 1")]
    Version(u8),
    /// Of a kind that this broker does not know.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// Not what its kind and version promise.
    #[error("{0}")]
    Malformed(String),
}

impl Fact {
    /// The key, which is the same for the same thing whatever its other properties.
    pub fn key(&self) -> Bytes {
        match self {
            Fact::Exchange(f) => key(KIND_EXCHANGE, &[f.vhost.as_bytes(), f.name.as_bytes()]),
            Fact::Queue(f) => key(KIND_QUEUE, &[f.vhost.as_bytes(), f.name.as_bytes()]),
            Fact::Binding(f) => {
                let kind: &[u8] = if f.to_exchange { b"e" } else { b"q" };
                let arguments = canonical_fields(&f.arguments);
                let (source, to) = (f.source.as_bytes(), f.destination.as_bytes());
                key(
                    KIND_BINDING,
                    &[f.vhost.as_bytes(), source, kind, to, f.routing_key.as_bytes(), &arguments],
                )
            }
        }
    }

    /// The value.
    pub fn value(&self) -> Bytes {
        let mut buf = BytesMut::new();
        buf.put_u8(FACT_VERSION);
        let encoded = match self {
            Fact::Exchange(f) => f.encode(&mut buf),
            Fact::Queue(f) => f.encode(&mut buf),
            Fact::Binding(f) => f.encode(&mut buf),
        };
        encoded.expect("a BytesMut grows as needed");
        buf.freeze()
    }

    /// Reads a fact back.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Fact, FactError> {
        let malformed = |e: prost::DecodeError| FactError::Malformed(e.to_string());
        let (&kind, _) = key.split_first().ok_or_else(|| FactError::Malformed("empty key".into()))?;
        if !(KIND_EXCHANGE..=KIND_BINDING).contains(&kind) {
            return Err(FactError::Kind(kind));
        }
        let (&version, message) =
            value.split_first().ok_or_else(|| FactError::Malformed("empty value".into()))?;
        if version != FACT_VERSION {
            return Err(FactError::Version(version));
        }
        let fact = match kind {
            KIND_EXCHANGE => Fact::Exchange(ExchangeFact::decode(message).map_err(malformed)?),
            KIND_QUEUE => Fact::Queue(QueueFact::decode(message).map_err(malformed)?),
            _ => Fact::Binding(BindingFact::decode(message).map_err(malformed)?),
        };
        // The two must agree, or removing the fact later would remove another one.
        if fact.key() != key {
            return Err(FactError::Malformed("its key names another thing than its value".into()));
        }
        Ok(fact)
    }
}

impl QueueFact {
    /// The queue's id.
    pub fn id(&self) -> QueueId {
        QueueId(self.queue)
    }
}

impl BindingFact {
    /// From the core's form.
    pub fn new(vhost: &str, binding: &Binding) -> Self {
        Self {
            vhost: vhost.to_string(),
            source: binding.source.to_string(),
            to_exchange: binding.destination_kind == DestinationKind::Exchange,
            destination: binding.destination.to_string(),
            routing_key: binding.routing_key.to_string(),
            arguments: fields(&binding.arguments),
        }
    }

    /// To the core's form.
    pub fn binding(&self) -> Result<Binding, FactError> {
        let kind = if self.to_exchange { DestinationKind::Exchange } else { DestinationKind::Queue };
        Ok(Binding {
            source: Arc::from(self.source.as_str()),
            destination_kind: kind,
            destination: Arc::from(self.destination.as_str()),
            routing_key: Arc::from(self.routing_key.as_str()),
            arguments: table(&self.arguments)?,
        })
    }
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

fn key(kind: u8, parts: &[&[u8]]) -> Bytes {
    let mut buf = BytesMut::with_capacity(1 + parts.iter().map(|p| 4 + p.len()).sum::<usize>());
    buf.put_u8(kind);
    for part in parts {
        buf.put_u32_le(part.len() as u32);
        buf.put_slice(part);
    }
    buf.freeze()
}

fn canonical_fields(fields: &[FieldFact]) -> Bytes {
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
