//! What a dead letter carries: x-death and the headers beside it, as RabbitMQ writes them.
//!
//! ```text
//! x-death = array, the newest first, of tables {count, reason, queue, time, exchange, routing-keys, original-expiration?};
//!           one for each (queue, reason): a repeated death counts up and moves to the front
//! x-first-death-{reason,queue,exchange}: of the first one, for ever;  x-last-death-...: of the newest one
//! ```

use std::sync::Arc;

use bytes::Bytes;

use crate::arguments::DeadLetterTo;
use crate::message::Message;
use crate::properties::{PERSISTENT, Properties};
use crate::value::{Table, Value};

const X_DEATH: &str = "x-death";
const CC: &str = "CC";
const ABOUT: [&str; 3] = ["reason", "queue", "exchange"];

/// Why a message left its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Rejected,
    Expired,
    MaxLen,
    DeliveryLimit,
}

/// A message on its way from a queue that gave it up.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) message: Message,
    /// The keys to route it with; the first is the message's own.
    pub(crate) routing_keys: Vec<Arc<str>>,
    pub(crate) priority: u8,
    /// Where and why it died, the newest first.
    deaths: Vec<Death>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Death {
    queue: Bytes,
    rejected: bool,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

impl Letter {
    /// The dead letter of a message that `queue` gave up now.
    pub(crate) fn new(
        message: &Message,
        queue: &str,
        reason: Reason,
        to: &DeadLetterTo,
        now_ms: u64,
    ) -> Self {
        // What cannot be read cannot be added to. Without its history a letter could go in a circle for ever, so it
        // rather goes without its properties.
        let mut properties = Properties::decode(&message.properties).unwrap_or_else(|_| Properties {
            delivery_mode: message.persistent.then_some(PERSISTENT),
            ..Properties::default()
        });
        let mut headers = properties.headers.take().unwrap_or_default();
        if !message.dead_lettered {
            forget_deaths(&mut headers);
        }
        let copies = copies(&headers);
        let death = Table(
            [
                ("count", Value::I64(1)),
                ("reason", text(reason.name())),
                ("queue", text(queue)),
                ("time", Value::Timestamp(now_ms / 1_000)),
                ("exchange", text(&message.exchange)),
                ("routing-keys", Value::Array(keys(message, &copies).map(text).collect())),
            ]
            .into_iter()
            .chain(properties.expiration.take().map(|ms| ("original-expiration", text(&ms))))
            .map(|(name, value)| (name.to_string(), value))
            .collect(),
        );
        let deaths = add_death(&mut headers, death);
        for (about, value) in ABOUT.into_iter().zip([reason.name(), queue, &*message.exchange]) {
            let first = format!("x-first-death-{about}");
            if headers.get(&first).is_none() {
                set(&mut headers, &first, text(value));
            }
            set(&mut headers, &format!("x-last-death-{about}"), text(value));
        }
        let routing_keys = match &to.routing_key {
            Some(key) => {
                headers.0.retain(|(name, _)| name != CC);
                vec![key.clone()]
            }
            None => keys(message, &copies).map(Arc::from).collect(),
        };
        let priority = properties.priority.unwrap_or(0);
        properties.headers = Some(headers);
        let message = Message {
            exchange: to.exchange.clone(),
            routing_key: routing_keys[0].clone(),
            // Only what the message brought could be too long, and that was encoded before.
            properties: properties.encode().unwrap_or_else(|_| Bytes::from_static(&[0, 0])),
            body: message.body.clone(),
            blob: message.blob.clone(),
            received_ms: now_ms,
            persistent: message.persistent,
            expiration_ms: None,
            dead_lettered: true,
        };
        Self { message, routing_keys, priority, deaths }
    }

    /// Whether it would come back to a queue that it died in, and nobody rejected it on the way: it would go round
    /// for ever.
    pub(crate) fn would_circle(&self, queue: &str) -> bool {
        let Some(at) = self.deaths.iter().position(|death| death.queue == queue.as_bytes()) else {
            return false;
        };
        self.deaths[..=at].iter().all(|death| !death.rejected)
    }
}

/// What a client says of deaths is not believed.
fn forget_deaths(headers: &mut Table) {
    let told = |name: &str| {
        let about = name.strip_prefix("x-first-death-").or_else(|| name.strip_prefix("x-last-death-"));
        name == X_DEATH || about.is_some_and(|about| ABOUT.contains(&about))
    };
    headers.0.retain(|(name, _)| !told(name));
}

/// Adds a death to the history in the headers. The history as it is now is the answer.
fn add_death(headers: &mut Table, mut death: Table) -> Vec<Death> {
    let mut deaths = match headers.get(X_DEATH) {
        Some(Value::Array(deaths)) => deaths.clone(),
        _ => Vec::new(),
    };
    let same = |other: &Value| match other {
        Value::Table(other) => ["queue", "reason"].iter().all(|key| other.get(key) == death.get(key)),
        _ => false,
    };
    if let Some(at) = deaths.iter().position(same)
        && let Value::Table(mut known) = deaths.remove(at)
    {
        // It keeps what it said the first time, as its time.
        if let Some(Value::I64(count)) = known.get("count") {
            let count = Value::I64(count.saturating_add(1));
            set(&mut known, "count", count);
        }
        death = known;
    }
    deaths.insert(0, Value::Table(death));
    let history = deaths.iter().filter_map(|death| match death {
        Value::Table(death) => Some(Death {
            queue: bytes(death.get("queue")?)?,
            rejected: death.get("reason") == Some(&text(Reason::Rejected.name())),
        }),
        _ => None,
    });
    let history = history.collect();
    set(headers, X_DEATH, Value::Array(deaths));
    history
}

/// Routing keys in the header CC.
fn copies(headers: &Table) -> Vec<String> {
    let Some(Value::Array(keys)) = headers.get(CC) else { return Vec::new() };
    keys.iter().filter_map(|key| String::from_utf8(bytes(key)?.to_vec()).ok()).collect()
}

fn keys<'a>(message: &'a Message, copies: &'a [String]) -> impl Iterator<Item = &'a str> {
    std::iter::once(&*message.routing_key).chain(copies.iter().map(String::as_str))
}

/// Sets the first value of that name, or adds one.
fn set(table: &mut Table, name: &str, value: Value) {
    match table.0.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => table.0.push((name.to_string(), value)),
    }
}

fn text(value: &str) -> Value {
    Value::Bytes(Bytes::copy_from_slice(value.as_bytes()))
}

fn bytes(value: &Value) -> Option<Bytes> {
    match value {
        Value::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    }
}
