//! Tables, properties and messages between the interface and the broker, losslessly both ways. Generated types
//! go no further than this.

use bytes::Bytes;
use leveret_broker::properties::{PERSISTENT, Properties, PropertiesError};
use leveret_broker::table_codec::NESTING_MAX;
use leveret_broker::{Message, Publish, Refusal, RefusalKind, Table, Value};
use leveret_proto::v1;
use leveret_proto::v1::value::Kind;

use super::errors::invalid;
use super::names;
use crate::publish_in::{self, Accepted, NO_PROPERTIES, PERSISTENT_ONLY, Refused, Sender};
use crate::recent::Recent;

/// Smaller bodies are copied out of the buffer they arrived in. A body that waits in a queue would otherwise keep
/// all that came with it, up to hundreds of times its size.
const SHARED_BODY_BYTES_MIN: usize = 16 * 1024;

/// How the body of a delivery is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyAs {
    Bytes,
    /// Text where it is UTF-8.
    Text,
}

impl BodyAs {
    pub(super) fn from_flag(text: bool) -> Self {
        if text { Self::Text } else { Self::Bytes }
    }
}

/// Turns messages to publish into the broker's, sharing names that repeat.
#[derive(Debug)]
pub(super) struct PublishReader {
    exchange: Recent,
    routing_key: Recent,
    message_bytes_max: u64,
}

impl PublishReader {
    pub(super) fn new(message_bytes_max: u64) -> Self {
        Self { exchange: Recent::default(), routing_key: Recent::default(), message_bytes_max }
    }

    /// What was read has gone to another thread; see [`Recent::part`].
    pub(super) fn part(&mut self) {
        self.exchange.part();
        self.routing_key.part();
    }

    /// One message. `alone`: nothing else is in the request, so that a large body may keep its buffer.
    pub(super) fn read(&mut self, message: v1::PublishMessage, alone: bool) -> Result<Publish, Refusal> {
        let exchange = names::shared(&mut self.exchange, "exchange", &message.exchange)?;
        let routing_key = names::shared(&mut self.routing_key, "routing_key", &message.routing_key)?;
        let content = message.message.unwrap_or_default();
        let body = body_from(content.body, alone);
        if body.len() as u64 > self.message_bytes_max {
            return Err(too_large("the body", body.len(), self.message_bytes_max));
        }
        let properties = properties_from(content.persistent, content.properties)?;
        if properties.len() as u64 > self.message_bytes_max {
            return Err(too_large("properties", properties.len(), self.message_bytes_max));
        }
        let Accepted { properties, persistent, extras } = publish_in::accept(properties, Sender::default())
            .map_err(|refused| match refused {
            Refused::Malformed(error) => invalid("properties", error.to_string()),
            Refused::Refusal(refusal) => refusal,
        })?;
        let mandatory = message.mandatory;
        Ok(Publish { exchange, routing_key, mandatory, persistent, properties, body, blob: None, extras })
    }
}

fn too_large(what: &str, bytes: usize, max: u64) -> Refusal {
    let text = format!("{what} of the message has {bytes} bytes, at most {max} are allowed");
    Refusal::new(RefusalKind::TooLarge, text)
        .with("expected", max.to_string())
        .with("actual", bytes.to_string())
}

fn body_from(body: Option<v1::message::Body>, alone: bool) -> Bytes {
    match body {
        None => Bytes::new(),
        Some(v1::message::Body::Bytes(bytes)) if alone && bytes.len() >= SHARED_BODY_BYTES_MIN => bytes,
        Some(v1::message::Body::Bytes(bytes)) => Bytes::copy_from_slice(&bytes),
        Some(v1::message::Body::Text(text)) => text.into(),
    }
}

/// Encoded properties.
fn properties_from(
    persistent: Option<bool>,
    properties: Option<Box<v1::Properties>>,
) -> Result<Bytes, Refusal> {
    let Some(p) = properties.map(|boxed| *boxed) else {
        let encoded = if persistent == Some(false) { NO_PROPERTIES } else { PERSISTENT_ONLY };
        return Ok(Bytes::from_static(encoded));
    };
    let sent = p.delivery_mode.map(|mode| octet("delivery_mode", mode)).transpose()?;
    let delivery_mode = match persistent {
        Some(true) => Some(PERSISTENT),
        // Absent stays absent; only a 2 would say the contrary.
        Some(false) => sent.map(|mode| if mode == PERSISTENT { 1 } else { mode }),
        None => Some(sent.unwrap_or(PERSISTENT)),
    };
    let properties = Properties {
        content_type: p.content_type,
        content_encoding: p.content_encoding,
        headers: p.headers.map(table_from).transpose()?,
        delivery_mode,
        priority: p.priority.map(|priority| octet("priority", priority)).transpose()?,
        correlation_id: p.correlation_id,
        reply_to: p.reply_to,
        expiration: p.expiration,
        message_id: p.message_id,
        timestamp: p.timestamp,
        kind: p.r#type,
        user_id: p.user_id,
        app_id: p.app_id,
        cluster_id: p.cluster_id,
    };
    properties.encode().map_err(|error| {
        let field =
            if let PropertiesError::TooLong { property, .. } = &error { *property } else { "headers" };
        invalid(field, error.to_string())
    })
}

/// The message as the interface says it.
pub(super) fn message_to(message: &Message, body: BodyAs) -> v1::Message {
    let body = match body {
        BodyAs::Text => match std::str::from_utf8(&message.body) {
            Ok(text) => v1::message::Body::Text(text.to_owned()),
            Err(_) => v1::message::Body::Bytes(message.body.clone()),
        },
        BodyAs::Bytes => v1::message::Body::Bytes(message.body.clone()),
    };
    v1::Message {
        body: Some(body),
        persistent: Some(message.persistent),
        properties: properties_to(&message.properties).map(Box::new),
    }
}

fn properties_to(encoded: &[u8]) -> Option<v1::Properties> {
    if encoded == NO_PROPERTIES || encoded.is_empty() {
        return None;
    }
    if encoded == PERSISTENT_ONLY {
        return Some(v1::Properties { delivery_mode: Some(PERSISTENT.into()), ..v1::Properties::default() });
    }
    let p = match Properties::decode(encoded) {
        Ok(p) => p,
        Err(error) => {
            // Whoever consumes this can still use the body; refusing the delivery would block the queue.
            tracing::warn!(%error, "properties left out of a delivery");
            return None;
        }
    };
    Some(v1::Properties {
        content_type: p.content_type,
        content_encoding: p.content_encoding,
        headers: p.headers.map(table_to),
        priority: p.priority.map(u32::from),
        correlation_id: p.correlation_id,
        reply_to: p.reply_to,
        expiration: p.expiration,
        message_id: p.message_id,
        timestamp: p.timestamp,
        r#type: p.kind,
        user_id: p.user_id,
        app_id: p.app_id,
        cluster_id: p.cluster_id,
        delivery_mode: p.delivery_mode.map(u32::from),
    })
}

/// The message and where it was sent, as it was published.
pub(super) fn publish_message_to(message: &Message) -> v1::PublishMessage {
    v1::PublishMessage {
        exchange: message.exchange.as_ref().to_owned(),
        routing_key: message.routing_key.as_ref().to_owned(),
        message: Some(message_to(message, BodyAs::Bytes)),
        mandatory: true,
    }
}

/// Arguments of a request; unset is empty.
pub(super) fn arguments_from(table: Option<v1::Table>) -> Result<Table, Refusal> {
    table.map_or_else(|| Ok(Table::default()), table_from)
}

pub(super) fn table_from(table: v1::Table) -> Result<Table, Refusal> {
    table_at(table, 1)
}

fn table_at(table: v1::Table, depth: usize) -> Result<Table, Refusal> {
    check_depth(depth)?;
    let entries = table.entries.into_iter().map(|entry| {
        names::check("name", &entry.name)?;
        Ok((entry.name, value_from(entry.value, depth)?))
    });
    Ok(Table(entries.collect::<Result<_, Refusal>>()?))
}

fn value_from(value: Option<v1::Value>, depth: usize) -> Result<Value, Refusal> {
    let Some(kind) = value.and_then(|value| value.kind) else { return Ok(Value::Void) };
    Ok(match kind {
        Kind::Text(v) => Value::Bytes(v.into()),
        Kind::Int64(v) => Value::I64(v),
        Kind::Bool(v) => Value::Bool(v),
        Kind::Double(v) => Value::F64(v),
        Kind::Bytes(v) => Value::Bytes(Bytes::copy_from_slice(&v)),
        Kind::Timestamp(v) => Value::Timestamp(v),
        Kind::Table(v) => Value::Table(table_at(v, depth + 1)?),
        Kind::Array(v) => {
            check_depth(depth + 1)?;
            let values = v.values.into_iter().map(|value| value_from(Some(value), depth + 1));
            Value::Array(values.collect::<Result<_, Refusal>>()?)
        }
        Kind::Int8(v) => Value::I8(v.try_into().map_err(|_| out_of_range("int8", v))?),
        Kind::Uint8(v) => Value::U8(v.try_into().map_err(|_| out_of_range("uint8", v))?),
        Kind::Int16(v) => Value::I16(v.try_into().map_err(|_| out_of_range("int16", v))?),
        Kind::Uint16(v) => Value::U16(v.try_into().map_err(|_| out_of_range("uint16", v))?),
        Kind::Int32(v) => Value::I32(v),
        Kind::Uint32(v) => Value::U32(v),
        Kind::Float(v) => Value::F32(v),
        Kind::Decimal(v) => Value::Decimal { scale: octet("scale", v.scale)?, number: v.number },
        Kind::ByteArray(v) => Value::ByteArray(Bytes::copy_from_slice(&v)),
    })
}

pub(super) fn table_to(table: Table) -> v1::Table {
    let entries = table.0.into_iter();
    v1::Table {
        entries: entries.map(|(name, v)| v1::TableEntry { name, value: Some(value_to(v)) }).collect(),
    }
}

fn value_to(value: Value) -> v1::Value {
    let kind = match value {
        Value::Void => return v1::Value { kind: None },
        Value::Bool(v) => Kind::Bool(v),
        Value::I8(v) => Kind::Int8(v.into()),
        Value::U8(v) => Kind::Uint8(v.into()),
        Value::I16(v) => Kind::Int16(v.into()),
        Value::U16(v) => Kind::Uint16(v.into()),
        Value::I32(v) => Kind::Int32(v),
        Value::U32(v) => Kind::Uint32(v),
        Value::I64(v) => Kind::Int64(v),
        Value::F32(v) => Kind::Float(v),
        Value::F64(v) => Kind::Double(v),
        Value::Decimal { scale, number } => Kind::Decimal(v1::Decimal { scale: scale.into(), number }),
        Value::Bytes(v) => match std::str::from_utf8(&v) {
            Ok(text) => Kind::Text(text.to_owned()),
            Err(_) => Kind::Bytes(v),
        },
        Value::ByteArray(v) => Kind::ByteArray(v),
        Value::Timestamp(v) => Kind::Timestamp(v),
        Value::Array(v) => Kind::Array(v1::Array { values: v.into_iter().map(value_to).collect() }),
        Value::Table(v) => Kind::Table(table_to(v)),
    };
    v1::Value { kind: Some(kind) }
}

fn octet(field: &'static str, value: u32) -> Result<u8, Refusal> {
    value.try_into().map_err(|_| out_of_range(field, value))
}

fn out_of_range(field: &'static str, value: impl std::fmt::Display) -> Refusal {
    invalid(field, format!("{field} is {value}, which is out of its range"))
}

fn check_depth(depth: usize) -> Result<(), Refusal> {
    if depth <= NESTING_MAX {
        return Ok(());
    }
    Err(invalid("headers", format!("tables are nested deeper than {NESTING_MAX} levels")))
}

#[cfg(test)]
mod tests;
