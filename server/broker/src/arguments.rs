//! Arguments of queues: which are known, what they may be, and when two declarations say the same. Those of exchanges
//! have a module of their own.
//!
//! A known argument is checked and, where its feature is not there, refused by name: who asks for a limit or a
//! dead-letter exchange must not believe that it is in force. Arguments that nobody knows are kept and ignored, as in
//! RabbitMQ.

pub(crate) mod exchange;
mod queue;
#[cfg(test)]
mod tests;

use queue::QUEUE_TYPE;
pub(crate) use queue::{DeadLetterTo, Overflow, QUEUE, QueueArguments, QueueFlags, QueueType, check_queue};

use bytes::Bytes;

use crate::refusal::{Refusal, RefusalKind};
use crate::value::{Table, Value};

/// Whether two declarations agree in the known arguments.
pub(crate) fn same(known: &[&str], what: &str, received: &Table, current: &Table) -> Result<(), Refusal> {
    for key in known {
        let (received, current) = (received.get(key), current.get(key));
        let same = match (received, current) {
            (Some(a), Some(b)) => equivalent(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        if !same {
            return Err(differs(key, what, received, current));
        }
    }
    // No queue type is the classic one.
    let classic = Value::Bytes(Bytes::from_static(b"classic"));
    let kind = |table: &Table| table.get(QUEUE_TYPE).unwrap_or(&classic).clone();
    if kind(received) != kind(current) {
        return Err(differs(QUEUE_TYPE, what, received.get(QUEUE_TYPE), current.get(QUEUE_TYPE)));
    }
    Ok(())
}

/// Whether two declarations agree in a flag.
pub(crate) fn same_flag(field: &str, what: &str, received: bool, current: bool) -> Result<(), Refusal> {
    if received == current {
        return Ok(());
    }
    Err(inequivalent(field, what, &received.to_string(), &current.to_string()))
}

/// The refusal of a declaration that differs from what exists, in a plain value.
pub(crate) fn inequivalent(field: &str, what: &str, received: &str, current: &str) -> Refusal {
    mismatch(field, what, (&format!("'{received}'"), received), (&format!("'{current}'"), current))
}

fn differs(key: &str, what: &str, received: Option<&Value>, current: Option<&Value>) -> Refusal {
    let say = |value: Option<&Value>| value.map_or_else(|| "none".to_string(), describe);
    let (received, current) = (say(received), say(current));
    mismatch(key, what, (&received, &received), (&current, &current))
}

/// Each value as the sentence has it, and as the details have it.
fn mismatch(field: &str, what: &str, received: (&str, &str), current: (&str, &str)) -> Refusal {
    let text = format!(
        "inequivalent arg '{field}' for {what}: received {} but current is {}",
        received.0, current.0
    );
    Refusal::new(RefusalKind::PreconditionFailed, text)
        .with("field", field)
        .with("expected", current.1)
        .with("actual", received.1)
}

fn string(value: &Value) -> Result<&[u8], &'static str> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err("must be a string"),
    }
}

/// A whole number, whatever its width.
pub(crate) fn integer(value: &Value) -> Option<i128> {
    Some(match value {
        Value::I8(v) => i128::from(*v),
        Value::U8(v) => i128::from(*v),
        Value::I16(v) => i128::from(*v),
        Value::U16(v) => i128::from(*v),
        Value::I32(v) => i128::from(*v),
        Value::U32(v) => i128::from(*v),
        Value::I64(v) => i128::from(*v),
        _ => return None,
    })
}

/// Integers are the same when their values are, whatever their width.
fn equivalent(a: &Value, b: &Value) -> bool {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn invalid(key: &str, what: &str, wanted: &str, value: &Value) -> Refusal {
    let text = format!("invalid arg '{key}' for {what}: {wanted}, received {}", describe(value));
    Refusal::new(RefusalKind::PreconditionFailed, text).with("field", key).with("actual", describe(value))
}

/// A value in RabbitMQ's words.
pub(crate) fn describe(value: &Value) -> String {
    let (kind, value) = match value {
        Value::Void => ("void", "undefined".to_string()),
        Value::Bool(v) => ("bool", v.to_string()),
        Value::I8(v) => ("byte", v.to_string()),
        Value::U8(v) => ("unsignedbyte", v.to_string()),
        Value::I16(v) => ("short", v.to_string()),
        Value::U16(v) => ("unsignedshort", v.to_string()),
        Value::I32(v) => ("signedint", v.to_string()),
        Value::U32(v) => ("unsignedint", v.to_string()),
        Value::I64(v) => ("long", v.to_string()),
        Value::F32(v) => ("float", v.to_string()),
        Value::F64(v) => ("double", v.to_string()),
        Value::Decimal { scale, number } => ("decimal", format!("{number}e-{scale}")),
        Value::Bytes(v) => ("longstr", String::from_utf8_lossy(v).into_owned()),
        Value::ByteArray(v) => ("binary", String::from_utf8_lossy(v).into_owned()),
        Value::Timestamp(v) => ("timestamp", v.to_string()),
        Value::Array(v) => ("array", format!("{} items", v.len())),
        Value::Table(v) => ("table", format!("{} entries", v.0.len())),
    };
    format!("the value '{value}' of type '{kind}'")
}
