//! Names: what clients may call things, and the names that the broker chooses.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};

use crate::refusal::{Refusal, RefusalKind};

/// Longest name, routing key or tag, in bytes: an AMQP short string.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// The name as RabbitMQ reads it: without carriage returns and line feeds; refused when too long.
pub(crate) fn clean(what: &str, name: &Arc<str>) -> Result<Arc<str>, Refusal> {
    let cleaned =
        if name.contains(['\r', '\n']) { Arc::from(name.replace(['\r', '\n'], "")) } else { name.clone() };
    check_length(what, &cleaned)?;
    Ok(cleaned)
}

/// Refuses what does not fit in an AMQP short string.
pub(crate) fn check_length(what: &str, name: &str) -> Result<(), Refusal> {
    if name.len() > NAME_BYTES_MAX {
        let text = format!("{what} has {} bytes, the most is {NAME_BYTES_MAX}", name.len());
        return Err(Refusal::new(RefusalKind::InvalidArgument, text).with("field", what));
    }
    Ok(())
}

/// The name to consume replies from. Each such consumer has a queue of its own, named `amq.rabbitmq.reply-to.<22 characters>`.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Whether this is [`REPLY_TO`] or the name of a queue behind it.
pub(crate) fn is_reply_queue(name: &str) -> bool {
    name.strip_prefix(REPLY_TO).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Refuses a name that only the broker may create.
pub(crate) fn refuse_reserved(what: &str, name: &str) -> Result<(), Refusal> {
    if name.starts_with("amq.") {
        let text = format!("{what} name '{name}' contains reserved prefix 'amq.*'");
        return Err(Refusal::new(RefusalKind::AccessRefused, text).with("name", name));
    }
    Ok(())
}

/// Key of the names that the broker chooses. A name of a queue for replies is all that it takes to send there, so who has seen
/// some names must not find out others.
#[derive(Clone, Copy)]
pub struct NameKey([u8; NameKey::BYTES]);

impl NameKey {
    /// Its length.
    pub const BYTES: usize = 32;

    /// Of these bytes, which nobody else knows or may guess.
    pub const fn new(secret: [u8; Self::BYTES]) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for NameKey {
    /// It is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameKey(...)")
    }
}

/// Source of server-chosen names: keyed BLAKE2s of a counter.
#[derive(Debug)]
pub(crate) struct NameSource {
    key: NameKey,
    made: u64,
}

impl NameSource {
    pub(crate) fn new(key: NameKey) -> Self {
        Self { key, made: 0 }
    }

    /// The prefix and 22 characters: 128 bits that only the key tells.
    pub(crate) fn name(&mut self, prefix: &str) -> Arc<str> {
        self.made += 1;
        let mut mac = Blake2sMac::<U16>::new((&self.key.0).into());
        mac.update(&self.made.to_le_bytes());
        let mut name = prefix.to_owned();
        BASE64_URL_SAFE_NO_PAD.encode_string(mac.finalize_fixed(), &mut name);
        Arc::from(name)
    }
}
