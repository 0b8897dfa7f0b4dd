//! What both front ends make of a message's properties before they publish it, so that both behave the same.

use std::sync::Arc;

use bytes::Bytes;
use leveret_broker::properties::{self, Inspected, PERSISTENT, PropertiesError};
use leveret_broker::{MESSAGE_OVERHEAD_BYTES, Publish, PublishExtras, Refusal, RefusalKind};

/// The name that stands for the reply queue of the channel itself.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// No message waits longer than ten years.
const EXPIRATION_MS_MAX: u64 = 315_360_000_000;

/// Who publishes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sender<'a> {
    /// Where direct replies to its channel go; the inner None: it has no consumer for them. The outer None: there are
    /// no direct replies.
    pub(crate) reply_to: Option<Option<&'a str>>,
}

/// Properties that may go in.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// As they came, but for BCC and a rewritten reply_to.
    pub(crate) properties: Bytes,
    pub(crate) persistent: bool,
    pub(crate) extras: Option<Box<PublishExtras>>,
}

/// Why they may not.
#[derive(Debug)]
pub(crate) enum Refused {
    /// They cannot be read.
    Malformed(PropertiesError),
    /// They say what cannot be.
    Refusal(Refusal),
}

impl From<PropertiesError> for Refused {
    fn from(error: PropertiesError) -> Self {
        Self::Malformed(error)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

/// Looks through encoded properties, and takes out of them what nobody else is to see.
pub(crate) fn accept(encoded: Bytes, sender: Sender<'_>) -> Result<Accepted, Refused> {
    // Most messages have nothing to be looked at.
    if matches!(&encoded[..], PERSISTENT_ONLY | NO_PROPERTIES) {
        let persistent = encoded == PERSISTENT_ONLY;
        return Ok(Accepted { properties: encoded, persistent, extras: None });
    }
    let inspected = properties::inspect(&encoded)?;
    let extras = extras(&inspected)?;
    let persistent = inspected.delivery_mode == Some(PERSISTENT);
    let direct_reply = inspected.reply_to == Some(REPLY_TO.as_bytes());
    let mut properties =
        if inspected.has_bcc { properties::without_header(&encoded, "BCC") } else { encoded };
    if let Some(reply_to) = sender.reply_to
        && direct_reply
    {
        let Some(reply_to) = reply_to else {
            return Err(refusal("fast reply consumer does not exist".to_owned(), "reply_to").into());
        };
        properties = properties::with_reply_to(&properties, reply_to);
    }
    Ok(Accepted { properties, persistent, extras })
}

fn extras(inspected: &Inspected<'_>) -> Result<Option<Box<PublishExtras>>, Refusal> {
    let mut extras = PublishExtras {
        routing_keys: Vec::new(),
        expiration_ms: inspected.expiration.map(expiration_ms).transpose()?,
        priority: inspected.priority.unwrap_or(0),
        user_id: inspected.user_id.map(|user| String::from_utf8_lossy(user).into()),
    };
    for (name, there) in [("CC", inspected.has_cc), ("BCC", inspected.has_bcc)] {
        if there {
            let keys: Vec<Arc<str>> = inspected.routing_keys(name).ok_or_else(|| {
                let text =
                    format!("unsupported type of header '{name}': it must be an array of routing keys");
                refusal(text, "headers")
            })?;
            extras.routing_keys.extend(keys);
        }
    }
    Ok((extras != PublishExtras::default()).then(|| Box::new(extras)))
}

fn expiration_ms(text: &[u8]) -> Result<u64, Refusal> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.filter(|ms| *ms <= EXPIRATION_MS_MAX).ok_or_else(|| {
        let text = String::from_utf8_lossy(text);
        let most = EXPIRATION_MS_MAX;
        refusal(
            format!("invalid expiration '{text}': it must be a number of milliseconds up to {most}"),
            "expiration",
        )
    })
}

fn refusal(text: String, field: &'static str) -> Refusal {
    Refusal::new(RefusalKind::InvalidArgument, text).with("field", field)
}

/// Encoded properties of a message that is persistent and has no others.
pub(crate) const PERSISTENT_ONLY: &[u8] = &[0x10, 0x00, PERSISTENT];
/// Encoded properties of a message that has none.
pub(crate) const NO_PROPERTIES: &[u8] = &[0x00, 0x00];

/// A copy of encoded properties; the commonest take no memory.
pub(crate) fn copy_properties(encoded: &[u8]) -> Bytes {
    match encoded {
        PERSISTENT_ONLY => Bytes::from_static(PERSISTENT_ONLY),
        NO_PROPERTIES => Bytes::from_static(NO_PROPERTIES),
        _ => Bytes::copy_from_slice(encoded),
    }
}

/// What a publish takes of the budget of bodies on their way to the disk.
pub(crate) fn publish_cost_bytes(publish: &Publish) -> usize {
    publish.body.len()
        + publish.properties.len()
        + publish.routing_key.len()
        + publish.exchange.len()
        + MESSAGE_OVERHEAD_BYTES as usize
}

#[cfg(test)]
mod tests;
