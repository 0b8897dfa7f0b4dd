//! A message as it came, whatever brought it, and what is compared of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::properties::Properties;
use super::step::Content;

/// Names that a scenario has kept, and what it has made.
#[derive(Debug, Default)]
pub(super) struct Names {
    saved: BTreeMap<String, String>,
    /// Queues that it declared.
    pub(super) queues: BTreeSet<String>,
    /// Exchanges that it declared.
    pub(super) exchanges: BTreeSet<String>,
}

impl Names {
    /// What "$name" stands for; anything else stands for itself.
    pub(super) fn named(&self, name: &str) -> Result<String, String> {
        match name.strip_prefix('$') {
            None => Ok(name.into()),
            Some(saved) => {
                self.saved.get(saved).cloned().ok_or_else(|| format!("nothing is saved as '{saved}'"))
            }
        }
    }

    pub(super) fn save(&mut self, name: &str, value: &str) {
        self.saved.insert(name.into(), value.into());
    }

    /// The exchange is to be removed in the end.
    pub(super) fn made_exchange(&mut self, name: &str) {
        if !name.is_empty() && !name.starts_with("amq.") {
            self.exchanges.insert(name.replace(['\r', '\n'], ""));
        }
    }

    /// The queue is to be removed in the end.
    pub(super) fn made_queue(&mut self, name: &str) {
        if !name.starts_with("amq.rabbitmq.reply-to") {
            self.queues.insert(name.into());
        }
    }
}

/// A message that was delivered, got or returned.
pub(super) struct Came {
    pub(super) tag: Option<u64>,
    pub(super) redelivered: Option<bool>,
    pub(super) consumer: Option<String>,
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) left: Option<u64>,
    /// Reply code and text of a return.
    pub(super) returned: Option<(u16, String)>,
    pub(super) properties: Properties,
    pub(super) body: Bytes,
}

impl Came {
    /// Compares what is named in `expected`.
    pub(super) fn is(&self, expected: &Content, names: &mut Names) -> Result<(), String> {
        let mut wrong = Vec::new();
        let mut compare = |what: &str, right: bool, found: &dyn std::fmt::Debug| {
            if !right {
                wrong.push(format!("{what} is {found:?}"));
            }
        };
        let body = String::from_utf8_lossy(&self.body);
        compare("body", expected.body.as_ref().is_none_or(|wanted| *wanted == *body), &body);
        compare(
            "exchange",
            expected.exchange.as_ref().is_none_or(|name| *name == self.exchange),
            &self.exchange,
        );
        let key = expected.key.as_deref().map(|key| names.named(key)).transpose()?;
        compare("key", key.is_none_or(|key| key == self.key), &self.key);
        let redelivered = expected.redelivered.is_none() || expected.redelivered == self.redelivered;
        compare("redelivered", redelivered, &self.redelivered);
        compare("tag", expected.tag.is_none() || expected.tag == self.tag, &self.tag);
        compare("left", expected.left.is_none() || expected.left == self.left, &self.left);
        let consumer = expected.consumer.is_none() || expected.consumer == self.consumer;
        compare("consumer", consumer, &self.consumer);
        for name in &expected.absent {
            compare(name, !self.properties.has(name), &"there");
        }
        wrong.extend(expected.properties.differences(&self.properties));
        if let Some(save) = &expected.save_reply_to {
            let reply_to = self.properties.reply_to.as_ref().ok_or("the message has no reply_to")?;
            names.save(save, reply_to);
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("message {body:?}: {}", wrong.join("; "))) }
    }
}
