//! Tables, properties and messages as gRPC has them.

use bytes::Bytes;
use leveret_proto::v1::{self, Message, TableEntry, message, value};

use crate::scenario::properties::Properties;
use crate::scenario::step::Publish;
use crate::scenario::value::{Table, Value};

pub(super) fn table(table: &Table) -> v1::Table {
    let entry = |(name, value): &(String, Value)| TableEntry { name: name.clone(), value: Some(to(value)) };
    v1::Table { entries: table.0.iter().map(entry).collect() }
}

fn to(value: &Value) -> v1::Value {
    use value::Kind;
    let kind = match value {
        Value::Any(_) | Value::Void => None,
        Value::Integer(number) => Some(match i32::try_from(*number) {
            Ok(number) => Kind::Int32(number),
            Err(_) => Kind::Int64(*number),
        }),
        Value::Bool(bit) => Some(Kind::Bool(*bit)),
        Value::Int8(number) => Some(Kind::Int8((*number).into())),
        Value::Uint8(number) => Some(Kind::Uint8((*number).into())),
        Value::Int16(number) => Some(Kind::Int16((*number).into())),
        Value::Uint16(number) => Some(Kind::Uint16((*number).into())),
        Value::Int32(number) => Some(Kind::Int32(*number)),
        Value::Uint32(number) => Some(Kind::Uint32(*number)),
        Value::Int64(number) => Some(Kind::Int64(*number)),
        Value::Float(number) => Some(Kind::Float(*number)),
        Value::Double(number) => Some(Kind::Double(*number)),
        Value::Decimal(scale, number) => {
            Some(Kind::Decimal(v1::Decimal { scale: (*scale).into(), number: *number }))
        }
        Value::Text(text) => Some(Kind::Text(text.clone())),
        Value::Bytes(bytes) => Some(Kind::Bytes(bytes.clone().into())),
        Value::Timestamp(seconds) => Some(Kind::Timestamp(*seconds)),
        Value::Array(values) => Some(Kind::Array(v1::Array { values: values.iter().map(to).collect() })),
        Value::Table(inner) => Some(Kind::Table(table(inner))),
    };
    v1::Value { kind }
}

fn from(value: &v1::Value) -> Value {
    use value::Kind;
    match &value.kind {
        None => Value::Void,
        Some(Kind::Text(text)) => Value::Text(text.clone()),
        Some(Kind::Int64(number)) => Value::Int64(*number),
        Some(Kind::Bool(bit)) => Value::Bool(*bit),
        Some(Kind::Double(number)) => Value::Double(*number),
        Some(Kind::Bytes(bytes) | Kind::ByteArray(bytes)) => Value::Bytes(bytes.to_vec()),
        Some(Kind::Timestamp(seconds)) => Value::Timestamp(*seconds),
        Some(Kind::Table(inner)) => Value::Table(from_table(inner)),
        Some(Kind::Array(array)) => Value::Array(array.values.iter().map(from).collect()),
        Some(Kind::Int8(number)) => Value::Int8(*number as i8),
        Some(Kind::Uint8(number)) => Value::Uint8(*number as u8),
        Some(Kind::Int16(number)) => Value::Int16(*number as i16),
        Some(Kind::Uint16(number)) => Value::Uint16(*number as u16),
        Some(Kind::Int32(number)) => Value::Int32(*number),
        Some(Kind::Uint32(number)) => Value::Uint32(*number),
        Some(Kind::Float(number)) => Value::Float(*number),
        Some(Kind::Decimal(decimal)) => Value::Decimal(decimal.scale as u8, decimal.number),
    }
}

fn from_table(table: &v1::Table) -> Table {
    let void = v1::Value { kind: None };
    let entry = |entry: &TableEntry| (entry.name.clone(), from(entry.value.as_ref().unwrap_or(&void)));
    Table(table.entries.iter().map(entry).collect())
}

/// The message of a publish.
pub(super) fn message(step: &Publish, body: Vec<u8>) -> Message {
    let wanted = &step.properties;
    let properties = v1::Properties {
        content_type: wanted.content_type.clone(),
        content_encoding: wanted.content_encoding.clone(),
        headers: wanted.headers.as_ref().map(table),
        priority: wanted.priority.map(Into::into),
        correlation_id: wanted.correlation_id.clone(),
        reply_to: wanted.reply_to.clone(),
        expiration: wanted.expiration.clone(),
        message_id: wanted.message_id.clone(),
        timestamp: wanted.timestamp,
        r#type: wanted.r#type.clone(),
        user_id: wanted.user_id.clone(),
        app_id: wanted.app_id.clone(),
        cluster_id: wanted.cluster_id.clone(),
        delivery_mode: wanted.delivery_mode.map(Into::into),
    };
    let persistent =
        if wanted.delivery_mode.is_some() { step.persistent } else { step.persistent.or(Some(true)) };
    Message {
        body: Some(message::Body::Bytes(body.into())),
        persistent,
        properties: Some(Box::new(properties)),
    }
}

/// The properties of a message that came.
pub(super) fn properties(message: &Message) -> Properties {
    let Some(found) = &message.properties else { return Properties::default() };
    Properties {
        content_type: found.content_type.clone(),
        content_encoding: found.content_encoding.clone(),
        headers: found.headers.as_ref().map(from_table),
        delivery_mode: found.delivery_mode.map(|mode| mode as u8),
        priority: found.priority.map(|priority| priority as u8),
        correlation_id: found.correlation_id.clone(),
        reply_to: found.reply_to.clone(),
        expiration: found.expiration.clone(),
        message_id: found.message_id.clone(),
        timestamp: found.timestamp,
        r#type: found.r#type.clone(),
        user_id: found.user_id.clone(),
        app_id: found.app_id.clone(),
        cluster_id: found.cluster_id.clone(),
    }
}

/// The body of a message that came.
pub(super) fn body(message: &Message) -> Bytes {
    match &message.body {
        Some(message::Body::Bytes(bytes)) => bytes.clone(),
        Some(message::Body::Text(text)) => Bytes::from(text.clone()),
        None => Bytes::new(),
    }
}
