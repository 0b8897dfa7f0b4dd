//! Headers exchanges: what a binding asks of a message's headers, and those headers, decoded only when it is asked.

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use crate::arguments::{describe, integer};
use crate::properties;
use crate::value::{Table, Value};

/// How a binding combines what it asks for.
const MATCH: &str = "x-match";

/// What a binding to a headers exchange asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct HeadersMatch {
    /// One is enough; else all are needed.
    any: bool,
    /// Names and values; a void value asks for any value of that name.
    wanted: Vec<(String, Value)>,
}

/// The headers of one message on its way through the exchanges.
#[derive(Debug)]
pub(crate) struct MessageHeaders<'a> {
    properties: &'a [u8],
    decoded: OnceCell<BTreeMap<String, Value>>,
}

impl HeadersMatch {
    /// From a binding's arguments. The error says what is wrong with them.
    pub(crate) fn parse(arguments: &Table) -> Result<Self, String> {
        let (any, with_x) = match arguments.get(MATCH) {
            None => (false, false),
            Some(Value::Bytes(how)) => match &how[..] {
                b"all" => (false, false),
                b"any" => (true, false),
                b"all-with-x" => (false, true),
                b"any-with-x" => (true, true),
                other => {
                    let other = String::from_utf8_lossy(other);
                    return Err(format!(
                        "Invalid x-match field value '{other}'; expected all, any, all-with-x, or any-with-x"
                    ));
                }
            },
            Some(other) => {
                return Err(format!("Invalid x-match field, {}; expected longstr", describe(other)));
            }
        };
        let asked =
            arguments.0.iter().filter(|(name, _)| name != MATCH && (with_x || !name.starts_with("x-")));
        Ok(Self { any, wanted: asked.cloned().collect() })
    }

    /// Whether a message with these headers is taken: with nothing to ask for, `all` takes every message and `any`
    /// none.
    pub(crate) fn takes(&self, headers: &MessageHeaders<'_>) -> bool {
        let has = |(name, wanted): &(String, Value)| {
            headers.get(name).is_some_and(|value| *wanted == Value::Void || same_value(wanted, value))
        };
        if self.any { self.wanted.iter().any(has) } else { self.wanted.iter().all(has) }
    }
}

impl<'a> MessageHeaders<'a> {
    /// Of a message with these encoded properties.
    pub(crate) fn of(properties: &'a [u8]) -> Self {
        Self { properties, decoded: OnceCell::new() }
    }

    /// Whether anything asked for them: then the route may be another one for other headers.
    pub(crate) fn were_read(&self) -> bool {
        self.decoded.get().is_some()
    }

    /// Headers that cannot be decoded count as none. Of two with the same name the first counts.
    fn get(&self, name: &str) -> Option<&Value> {
        let decoded = self.decoded.get_or_init(|| {
            let mut headers = BTreeMap::new();
            for (name, value) in properties::headers(self.properties).unwrap_or_default().0 {
                headers.entry(name).or_insert(value);
            }
            headers
        });
        decoded.get(name)
    }
}

/// Whether two values are the same, whatever types they were sent as.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Bytes(a) | Value::ByteArray(a), Value::Bytes(b) | Value::ByteArray(b)) => a == b,
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Table(Table(a)), Value::Table(Table(b))) => {
            let same = |((name, a), (other, b)): (&(String, Value), &(String, Value))| {
                name == other && same_value(a, b)
            };
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        _ => match (Number::of(a), Number::of(b)) {
            (Some(a), Some(b)) => a.same(b),
            (None, None) => a == b,
            _ => false,
        },
    }
}

/// A number of any width.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::F32(v) => Some(Self::Float(f64::from(*v))),
            Value::F64(v) => Some(Self::Float(*v)),
            Value::Timestamp(v) => Some(Self::Whole(i128::from(*v))),
            _ => integer(value).map(Self::Whole),
        }
    }

    fn same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            // Every whole number that a table can hold is far inside the range of i128, so the cast is exact where
            // it can matter.
            (Self::Whole(whole), Self::Float(float)) | (Self::Float(float), Self::Whole(whole)) => {
                float.fract() == 0.0 && float as i128 == whole
            }
        }
    }
}
