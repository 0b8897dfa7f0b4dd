//! Messages as bytes in the log. Facts are in [`fact`].
//!
//! ```text
//! message = version u8 (1) | flags u8 | received_ms u64 | expiration_ms u64, if flag 2 is set
//!         | exchange length u16, exchange | routing key length u16, routing key
//!         | properties length u32, properties (AMQP 0-9-1 property flags and list, verbatim)
//!         | body (the rest)
//! flags   = 1 persistent, 2 expires by itself, 4 dead-lettered
//! ```
//!
//! All little-endian. Everything before the body is encoded by itself, so that the body is never copied, and version
//! 0 is never written, so that zeroed bytes do not parse.

pub mod fact;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};
use bytes::{BufMut, Bytes};

use crate::blob::Blob;
use crate::message::Message;

/// On disk. Never renumber.
const MESSAGE_VERSION: u8 = 1;
const FLAG_PERSISTENT: u8 = 1;
const FLAG_EXPIRES: u8 = 2;
const FLAG_DEAD_LETTERED: u8 = 4;
const FLAGS: u8 = FLAG_PERSISTENT | FLAG_EXPIRES | FLAG_DEAD_LETTERED;
/// What stands before the body beside names and properties, at most.
pub(crate) const HEADER_FIXED_BYTES: u64 = 26;

/// Why a message could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It ends before it should.
    #[error("message record of {0} bytes is cut short")]
    Short(usize),
    /// Written by a newer broker, or not a message.
    #[error("message record of version {0}, this broker reads version 1")]
    Version(u8),
    /// Flags that this version does not know.
    #[error("message record with unknown flags {0:#04x}")]
    Flags(u8),
    /// A name that is not UTF-8.
    #[error("message record whose exchange or routing key is not UTF-8")]
    Utf8,
}

/// Appends all of a message that stands before its body. The message's names are at most 65,535 bytes, its
/// properties below 4 GiB; both are checked where a message enters.
pub fn encode_message_header(message: &Message, buf: &mut Vec<u8>) {
    buf.put_u8(MESSAGE_VERSION);
    let flags = [
        (FLAG_PERSISTENT, message.persistent),
        (FLAG_EXPIRES, message.expiration_ms.is_some()),
        (FLAG_DEAD_LETTERED, message.dead_lettered),
    ];
    buf.put_u8(flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag).sum());
    buf.put_u64_le(message.received_ms);
    if let Some(expiration_ms) = message.expiration_ms {
        buf.put_u64_le(expiration_ms);
    }
    for name in [&message.exchange, &message.routing_key] {
        buf.put_u16_le(name.len() as u16);
        buf.put_slice(name.as_bytes());
    }
    buf.put_u32_le(message.properties.len() as u32);
    buf.put_slice(&message.properties);
}

/// Decodes header and body, joined. Properties and body are slices of `record`, not copies.
pub fn decode_message(record: &Bytes) -> Result<Message, MessageError> {
    let mut at = 0;
    let version = take(record, &mut at, 1)?[0];
    if version != MESSAGE_VERSION {
        return Err(MessageError::Version(version));
    }
    let flags = take(record, &mut at, 1)?[0];
    if flags & !FLAGS != 0 {
        return Err(MessageError::Flags(flags));
    }
    let received_ms = LittleEndian::read_u64(take(record, &mut at, 8)?);
    let expiration_ms = match flags & FLAG_EXPIRES {
        0 => None,
        _ => Some(LittleEndian::read_u64(take(record, &mut at, 8)?)),
    };
    let exchange = name(record, &mut at)?;
    let routing_key = name(record, &mut at)?;
    let length = LittleEndian::read_u32(take(record, &mut at, 4)?) as usize;
    let properties_at = at;
    take(record, &mut at, length)?;
    Ok(Message {
        exchange,
        routing_key,
        properties: record.slice(properties_at..at),
        body: record.slice(at..),
        blob: None,
        received_ms,
        persistent: flags & FLAG_PERSISTENT != 0,
        expiration_ms,
        dead_lettered: flags & FLAG_DEAD_LETTERED != 0,
    })
}

/// Bytes of a message as the store gave them back, with its handle to the body where it has that apart.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Header and body, joined.
    pub bytes: Bytes,
    /// See [`Blob`].
    pub blob: Option<Blob>,
}

impl Stored {
    /// See [`decode_message`].
    pub fn decode(&self) -> Result<Message, MessageError> {
        Ok(Message { blob: self.blob.clone(), ..decode_message(&self.bytes)? })
    }
}

impl From<Bytes> for Stored {
    /// A message that is in the log as a whole.
    fn from(bytes: Bytes) -> Self {
        Self { bytes, blob: None }
    }
}

fn name(record: &Bytes, at: &mut usize) -> Result<Arc<str>, MessageError> {
    let length = usize::from(LittleEndian::read_u16(take(record, at, 2)?));
    let bytes = take(record, at, length)?;
    std::str::from_utf8(bytes).map(Arc::from).map_err(|_| MessageError::Utf8)
}

fn take<'a>(record: &'a Bytes, at: &mut usize, length: usize) -> Result<&'a [u8], MessageError> {
    let end = at.checked_add(length).ok_or(MessageError::Short(record.len()))?;
    let bytes = record.get(*at..end).ok_or(MessageError::Short(record.len()))?;
    *at = end;
    Ok(bytes)
}
