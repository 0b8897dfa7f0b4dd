//! Messages and tables as JSON for people and scripts. Not lossless: types that JSON has not are written as what
//! they look like.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use leveret_proto::v1::message::Body;
use leveret_proto::v1::value::Kind;
use leveret_proto::v1::{Delivery, Properties, Table, Value as Typed};
use serde_json::{Map, Value, json};

/// A table as an object; of a name that stands twice the first counts.
pub(super) fn table(table: &Table) -> Value {
    let mut object = Map::new();
    for entry in &table.entries {
        let value = entry.value.as_ref().map_or(Value::Null, typed);
        object.entry(entry.name.clone()).or_insert(value);
    }
    Value::Object(object)
}

/// Arguments; unset ones are an empty object.
pub(super) fn arguments(arguments: Option<&Table>) -> Value {
    arguments.map_or_else(|| json!({}), table)
}

/// A delivered message. "body_encoding" says whether "body" is the text or base64 of the bytes.
pub(super) fn delivery(delivery: &Delivery) -> Value {
    let bytes = body(delivery);
    let (encoding, text) = match std::str::from_utf8(&bytes) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("base64", BASE64_STANDARD.encode(&bytes)),
    };
    let message = delivery.message.as_ref();
    json!({
        "exchange": delivery.exchange,
        "routing_key": delivery.routing_key,
        "redelivered": delivery.redelivered,
        "persistent": message.is_none_or(|message| message.persistent.unwrap_or(true)),
        "properties": message.and_then(|message| message.properties.as_deref()).map_or_else(|| json!({}), properties),
        "body_encoding": encoding,
        "body": text,
    })
}

/// The body of a delivered message.
pub(super) fn body(delivery: &Delivery) -> Bytes {
    match delivery.message.as_ref().and_then(|message| message.body.as_ref()) {
        Some(Body::Bytes(bytes)) => bytes.clone(),
        Some(Body::Text(text)) => Bytes::copy_from_slice(text.as_bytes()),
        None => Bytes::new(),
    }
}

fn properties(properties: &Properties) -> Value {
    let p = properties;
    let mut object = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.clone().map(Value::String);
    put("content_type", text(&p.content_type));
    put("content_encoding", text(&p.content_encoding));
    put("headers", p.headers.as_ref().map(table));
    put("delivery_mode", p.delivery_mode.map(Value::from));
    put("priority", p.priority.map(Value::from));
    put("correlation_id", text(&p.correlation_id));
    put("reply_to", text(&p.reply_to));
    put("expiration", text(&p.expiration));
    put("message_id", text(&p.message_id));
    put("timestamp", p.timestamp.map(Value::from));
    put("type", text(&p.r#type));
    put("user_id", text(&p.user_id));
    put("app_id", text(&p.app_id));
    put("cluster_id", text(&p.cluster_id));
    Value::Object(object)
}

fn typed(value: &Typed) -> Value {
    match &value.kind {
        None => Value::Null,
        Some(Kind::Text(text)) => json!(text),
        Some(Kind::Int64(number)) => json!(number),
        Some(Kind::Bool(yes)) => json!(yes),
        Some(Kind::Double(number)) => json!(number),
        Some(Kind::Float(number)) => json!(number),
        Some(Kind::Timestamp(seconds)) => json!(seconds),
        Some(Kind::Int8(number) | Kind::Int16(number) | Kind::Int32(number)) => json!(number),
        Some(Kind::Uint8(number) | Kind::Uint16(number) | Kind::Uint32(number)) => json!(number),
        Some(Kind::Decimal(decimal)) => {
            json!(f64::from(decimal.number) / 10f64.powi(decimal.scale.min(255) as i32))
        }
        Some(Kind::Bytes(bytes) | Kind::ByteArray(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": BASE64_STANDARD.encode(bytes) }),
        },
        Some(Kind::Table(nested)) => table(nested),
        Some(Kind::Array(array)) => array.values.iter().map(typed).collect(),
    }
}
