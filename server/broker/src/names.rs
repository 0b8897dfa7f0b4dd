//! Names: what clients may call things, and the names that the broker chooses.

use std::sync::Arc;

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

/// Source of server-chosen names: splitmix64 from the seed in the settings.
#[derive(Debug)]
pub(crate) struct NameSource(u64);

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl NameSource {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The prefix and 22 characters, 131 bits less what the seed lacks.
    pub(crate) fn name(&mut self, prefix: &str) -> Arc<str> {
        let mut name = String::with_capacity(prefix.len() + 22);
        name.push_str(prefix);
        for _ in 0..2 {
            let mut word = self.next();
            for _ in 0..11 {
                name.push(char::from(BASE62[(word % 62) as usize]));
                word /= 62;
            }
        }
        Arc::from(name)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
