//! The 14 properties of AMQP's class basic <-> a content header's property flags and property list (AMQP 0-9-1,
//! section 4.2.6.1; the order of the properties is that of the class, section 1.8 of the reference).
//!
//! ```text
//! flags u16, the first property in the highest bit | the properties whose bits are set, in their order
//! bit 1 is nobody's; bit 0 says that more flags follow, which 14 properties never need: both are refused
//! ```

mod inspect;

use bytes::Bytes;

use crate::table_codec::{TableError, read_table, write_table};
use crate::value::Table;

pub use inspect::{Inspected, inspect, with_delivery_count, with_header, with_reply_to, without_header};

/// Properties of a message. Absent ones are `None`, and stay absent.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "AMQP's names say it")]
pub struct Properties {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub headers: Option<Table>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub expiration: Option<String>,
    pub message_id: Option<String>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    pub kind: Option<String>,
    pub user_id: Option<String>,
    pub app_id: Option<String>,
    pub cluster_id: Option<String>,
}

/// The delivery mode that asks for a message to survive a restart.
pub const PERSISTENT: u8 = 2;

/// What is wrong with properties.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// A property goes beyond the end.
    #[error("the content header ends within {0}")]
    Truncated(&'static str),
    /// Bytes after the last property.
    #[error("{0} bytes after the last property of a content header")]
    Trailing(usize),
    /// Flags that no property has.
    #[error("property flags {0:#06x} name properties that do not exist")]
    UnknownFlags(u16),
    /// A string is not UTF-8.
    #[error("property {0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A string does not fit.
    #[error("property {property} has {bytes} bytes, at most 255 are allowed")]
    TooLong {
        /// The property.
        property: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The headers are wrong.
    #[error("property headers: {0}")]
    Headers(#[from] TableError),
}

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const KIND: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
const UNKNOWN: u16 = 0b11;

impl Properties {
    /// Decodes property flags and property list; they must fill `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, PropertiesError> {
        let mut list = List::open(bytes)?;
        let properties = Self {
            content_type: list.string(CONTENT_TYPE, "content_type")?,
            content_encoding: list.string(CONTENT_ENCODING, "content_encoding")?,
            headers: list.table()?,
            delivery_mode: list.octet(DELIVERY_MODE, "delivery_mode")?,
            priority: list.octet(PRIORITY, "priority")?,
            correlation_id: list.string(CORRELATION_ID, "correlation_id")?,
            reply_to: list.string(REPLY_TO, "reply_to")?,
            expiration: list.string(EXPIRATION, "expiration")?,
            message_id: list.string(MESSAGE_ID, "message_id")?,
            timestamp: list.timestamp()?,
            kind: list.string(KIND, "type")?,
            user_id: list.string(USER_ID, "user_id")?,
            app_id: list.string(APP_ID, "app_id")?,
            cluster_id: list.string(CLUSTER_ID, "cluster_id")?,
        };
        if list.rest.is_empty() { Ok(properties) } else { Err(PropertiesError::Trailing(list.rest.len())) }
    }

    /// Encodes them as property flags and property list.
    pub fn encode(&self) -> Result<Bytes, PropertiesError> {
        let mut out = Encoder { flags: 0, bytes: vec![0; 2] };
        out.string(CONTENT_TYPE, "content_type", self.content_type.as_deref())?;
        out.string(CONTENT_ENCODING, "content_encoding", self.content_encoding.as_deref())?;
        if let Some(headers) = &self.headers {
            out.flags |= HEADERS;
            write_table(headers, &mut out.bytes)?;
        }
        out.fixed(DELIVERY_MODE, self.delivery_mode.map(u8::to_be_bytes));
        out.fixed(PRIORITY, self.priority.map(u8::to_be_bytes));
        out.string(CORRELATION_ID, "correlation_id", self.correlation_id.as_deref())?;
        out.string(REPLY_TO, "reply_to", self.reply_to.as_deref())?;
        out.string(EXPIRATION, "expiration", self.expiration.as_deref())?;
        out.string(MESSAGE_ID, "message_id", self.message_id.as_deref())?;
        out.fixed(TIMESTAMP, self.timestamp.map(u64::to_be_bytes));
        out.string(KIND, "type", self.kind.as_deref())?;
        out.string(USER_ID, "user_id", self.user_id.as_deref())?;
        out.string(APP_ID, "app_id", self.app_id.as_deref())?;
        out.string(CLUSTER_ID, "cluster_id", self.cluster_id.as_deref())?;
        out.bytes[..2].copy_from_slice(&out.flags.to_be_bytes());
        Ok(out.bytes.into())
    }
}

/// What is left of a property list, and which properties stand in it.
struct List<'a> {
    flags: u16,
    rest: &'a [u8],
}

impl<'a> List<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, PropertiesError> {
        let mut list = Self { flags: 0, rest: bytes };
        list.flags = u16::from_be_bytes(list.take("the property flags")?);
        if list.flags & UNKNOWN == 0 {
            Ok(list)
        } else {
            Err(PropertiesError::UnknownFlags(list.flags & UNKNOWN))
        }
    }

    fn string(&mut self, flag: u16, name: &'static str) -> Result<Option<String>, PropertiesError> {
        let Some(bytes) = self.short(flag, name)? else { return Ok(None) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(PropertiesError::NotUtf8(name)),
        }
    }

    fn short(&mut self, flag: u16, name: &'static str) -> Result<Option<&'a [u8]>, PropertiesError> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        let [length] = self.take(name)?;
        self.skip(length.into(), name).map(Some)
    }

    fn table(&mut self) -> Result<Option<Table>, PropertiesError> {
        if self.flags & HEADERS == 0 { Ok(None) } else { Ok(Some(read_table(&mut self.rest)?)) }
    }

    fn octet(&mut self, flag: u16, name: &'static str) -> Result<Option<u8>, PropertiesError> {
        if self.flags & flag == 0 { Ok(None) } else { Ok(Some(u8::from_be_bytes(self.take(name)?))) }
    }

    fn timestamp(&mut self) -> Result<Option<u64>, PropertiesError> {
        if self.flags & TIMESTAMP == 0 {
            Ok(None)
        } else {
            Ok(Some(u64::from_be_bytes(self.take("timestamp")?)))
        }
    }

    fn take<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], PropertiesError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(PropertiesError::Truncated(name))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn skip(&mut self, count: usize, name: &'static str) -> Result<&'a [u8], PropertiesError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(PropertiesError::Truncated(name))?;
        self.rest = rest;
        Ok(taken)
    }
}

/// The headers in encoded properties, found without decoding the others; `None` when they are absent or cannot be
/// decoded.
pub fn headers(bytes: &[u8]) -> Option<Table> {
    let mut list = List::open(bytes).ok()?;
    list.short(CONTENT_TYPE, "content_type").ok()?;
    list.short(CONTENT_ENCODING, "content_encoding").ok()?;
    list.table().ok()?
}

struct Encoder {
    flags: u16,
    bytes: Vec<u8>,
}

impl Encoder {
    fn string(&mut self, flag: u16, name: &'static str, value: Option<&str>) -> Result<(), PropertiesError> {
        let Some(value) = value else { return Ok(()) };
        let length = u8::try_from(value.len())
            .map_err(|_| PropertiesError::TooLong { property: name, bytes: value.len() })?;
        self.flags |= flag;
        self.bytes.push(length);
        self.bytes.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn fixed<const N: usize>(&mut self, flag: u16, value: Option<[u8; N]>) {
        if let Some(value) = value {
            self.flags |= flag;
            self.bytes.extend_from_slice(&value);
        }
    }
}

#[cfg(test)]
mod tests;
