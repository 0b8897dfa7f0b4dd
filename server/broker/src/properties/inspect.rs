//! Encoded properties without decoding them: one pass that finds what the broker has to know, and changes of one
//! property that leave the others byte for byte as they are.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::PropertiesError;
use crate::table_codec::{self, RawTable, TableError, write_table};
use crate::value::{Table, Value};

/// How a property is encoded.
#[derive(Clone, Copy)]
enum Shape {
    Short,
    Table,
    Octet,
    Timestamp,
}

/// The properties in their order, the first in the highest bit of the flags.
const SHAPES: [(&str, Shape); 14] = [
    ("content_type", Shape::Short),
    ("content_encoding", Shape::Short),
    ("headers", Shape::Table),
    ("delivery_mode", Shape::Octet),
    ("priority", Shape::Octet),
    ("correlation_id", Shape::Short),
    ("reply_to", Shape::Short),
    ("expiration", Shape::Short),
    ("message_id", Shape::Short),
    ("timestamp", Shape::Timestamp),
    ("type", Shape::Short),
    ("user_id", Shape::Short),
    ("app_id", Shape::Short),
    ("cluster_id", Shape::Short),
];
const HEADERS: usize = 2;
const DELIVERY_MODE: usize = 3;
const PRIORITY: usize = 4;
const REPLY_TO: usize = 6;
const EXPIRATION: usize = 7;
const USER_ID: usize = 11;

/// What the broker has to know of a message's properties, borrowed from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inspected<'a> {
    /// 2: persistent.
    pub delivery_mode: Option<u8>,
    /// Priority.
    pub priority: Option<u8>,
    /// Time to live: digits, if it is right.
    pub expiration: Option<&'a [u8]>,
    /// Where an answer is to go.
    pub reply_to: Option<&'a [u8]>,
    /// Who says to have published it.
    pub user_id: Option<&'a [u8]>,
    headers: Option<&'a [u8]>,
    /// Header CC is there.
    pub has_cc: bool,
    /// Header BCC is there.
    pub has_bcc: bool,
}

/// Looks through property flags and property list without allocating. What it accepts has sound lengths throughout;
/// strings may still be something else than UTF-8.
pub fn inspect(bytes: &[u8]) -> Result<Inspected<'_>, PropertiesError> {
    let spans = Spans::of(bytes)?;
    let octet = |index| spans.get(index).map(|span| bytes[span.start]);
    let short = |index| spans.get(index).map(|span| &bytes[span.start + 1..span.end]);
    let mut inspected = Inspected {
        delivery_mode: octet(DELIVERY_MODE),
        priority: octet(PRIORITY),
        expiration: short(EXPIRATION),
        reply_to: short(REPLY_TO),
        user_id: short(USER_ID),
        headers: spans.get(HEADERS).map(|span| &bytes[span.clone()]),
        ..Inspected::default()
    };
    if let Some(headers) = inspected.headers {
        for entry in RawTable::open(headers)? {
            let (name, _) = entry?;
            inspected.has_cc |= name == b"CC";
            inspected.has_bcc |= name == b"BCC";
        }
    }
    Ok(inspected)
}

impl Inspected<'_> {
    /// The routing keys in header `name`; None when it is not an array of long strings that can be routing keys.
    pub fn routing_keys(&self, name: &str) -> Option<Vec<Arc<str>>> {
        let headers = table_codec::decode_table(self.headers?).ok()?;
        let Some(Value::Array(keys)) = headers.get(name) else { return None };
        let key = |value: &Value| match value {
            Value::Bytes(key) if key.len() <= 255 => Some(Arc::from(std::str::from_utf8(key).ok()?)),
            _ => None,
        };
        keys.iter().map(key).collect()
    }
}

/// The same properties without a header; the others keep their bytes. Properties that cannot be read stay as they are.
#[must_use]
pub fn without_header(bytes: &Bytes, name: &str) -> Bytes {
    change_headers(bytes, name, None)
}

/// The same properties with a header behind the others, in place of any of that name; the others keep their bytes.
/// Properties that cannot be read stay as they are.
#[must_use]
pub fn with_header(bytes: &Bytes, name: &str, value: Value) -> Bytes {
    change_headers(bytes, name, Some(value))
}

/// The properties of a delivery whose message was delivered so often before, where its queue counts: with the header
/// x-delivery-count from the second time on, as a quorum queue of RabbitMQ adds it.
#[must_use]
pub fn with_delivery_count(bytes: &Bytes, count: Option<u32>) -> Bytes {
    match count {
        Some(count @ 1..) => with_header(bytes, "x-delivery-count", Value::I64(count.into())),
        Some(0) | None => bytes.clone(),
    }
}

/// The same properties with another reply_to, which must fit into a short string.
#[must_use]
pub fn with_reply_to(bytes: &Bytes, reply_to: &str) -> Bytes {
    let Ok(length) = u8::try_from(reply_to.len()) else { return bytes.clone() };
    let mut encoded = vec![length];
    encoded.extend_from_slice(reply_to.as_bytes());
    replace(bytes, REPLY_TO, &encoded)
}

fn change_headers(bytes: &Bytes, name: &str, value: Option<Value>) -> Bytes {
    changed_headers(bytes, name, value).unwrap_or_else(|_| bytes.clone())
}

fn changed_headers(bytes: &Bytes, name: &str, value: Option<Value>) -> Result<Bytes, PropertiesError> {
    // As a table, whose entries can stand behind the others.
    let mut added = Vec::new();
    if let Some(value) = value {
        write_table(&Table(vec![(name.to_owned(), value)]), &mut added)?;
        added.drain(..4);
    }
    let mut headers = vec![0; 4];
    if let Some(span) = Spans::of(bytes)?.get(HEADERS) {
        for entry in RawTable::open(&bytes[span.clone()])? {
            let (other, value) = entry?;
            if other != name.as_bytes() {
                headers.push(other.len() as u8);
                headers.extend_from_slice(other);
                headers.extend_from_slice(value);
            }
        }
    }
    headers.extend_from_slice(&added);
    let length = u32::try_from(headers.len() - 4).map_err(|_| TableError::ValueTooLong(headers.len()))?;
    headers[..4].copy_from_slice(&length.to_be_bytes());
    Ok(replace(bytes, HEADERS, &headers))
}

/// The same properties with one of them set.
fn replace(bytes: &Bytes, index: usize, encoded: &[u8]) -> Bytes {
    let Ok(spans) = Spans::of(bytes) else { return bytes.clone() };
    let Range { start, end } = spans.0[index].clone();
    let flags = u16::from_be_bytes([bytes[0], bytes[1]]) | flag(index);
    let mut out = Vec::with_capacity(bytes.len() + encoded.len());
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&bytes[2..start]);
    out.extend_from_slice(encoded);
    out.extend_from_slice(&bytes[end..]);
    out.into()
}

fn flag(index: usize) -> u16 {
    1 << (15 - index)
}

/// Where each property stands; an absent one at an empty place, where it would stand.
struct Spans([Range<usize>; 14]);

impl Spans {
    fn of(bytes: &[u8]) -> Result<Self, PropertiesError> {
        let list = super::List::open(bytes)?;
        let mut at = bytes.len() - list.rest.len();
        let mut spans = [const { 0..0 }; 14];
        for (index, (name, shape)) in SHAPES.into_iter().enumerate() {
            let start = at;
            if list.flags & flag(index) != 0 {
                let truncated = PropertiesError::Truncated(name);
                let rest = &bytes[at..];
                at += match shape {
                    Shape::Octet => 1,
                    Shape::Timestamp => 8,
                    Shape::Short => 1 + usize::from(*rest.first().ok_or(truncated.clone())?),
                    Shape::Table => {
                        let length = rest.first_chunk().ok_or(truncated.clone())?;
                        4 + u32::from_be_bytes(*length) as usize
                    }
                };
                if at > bytes.len() {
                    return Err(truncated);
                }
            }
            spans[index] = start..at;
        }
        if at < bytes.len() { Err(PropertiesError::Trailing(bytes.len() - at)) } else { Ok(Self(spans)) }
    }

    /// Where a property stands, if it is there: each has at least one byte.
    fn get(&self, index: usize) -> Option<&Range<usize>> {
        Some(&self.0[index]).filter(|span| !span.is_empty())
    }
}
