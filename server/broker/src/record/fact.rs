//! Facts as bytes: what exists, one key and one value each.
//!
//! ```text
//! key   = kind u8 | part...            part = length u32 little-endian, bytes
//!         exchange         1: vhost, name
//!         queue            2: vhost, name
//!         binding          3: vhost, source, destination kind ("q" or "e"), destination, routing key, arguments
//!         vhost            4: name
//!         user             5: name
//!         permission       6: vhost, user
//!         topic permission 7: vhost, user, exchange
//!         defaults         8: no parts
//! value = version u8 (1) | the prost message of that kind, below
//! ```
//!
//! A value says everything, so that replay reads no key beyond its kind. Kinds and prost tags are on disk: never
//! renumber them. A field added later must mean the old thing when it is absent; anything else is a new version.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::ids::QueueId;
use crate::input::{Binding, DestinationKind};

mod access;
mod fields;

pub use access::{DefaultsFact, PermissionFact, TopicPermissionFact, UserFact, VhostFact};
pub(crate) use fields::canonical;
use fields::canonical_fields;
pub use fields::{FieldFact, fields, table};

const FACT_VERSION: u8 = 1;
const KIND_EXCHANGE: u8 = 1;
const KIND_QUEUE: u8 = 2;
const KIND_BINDING: u8 = 3;
const KIND_VHOST: u8 = 4;
const KIND_USER: u8 = 5;
const KIND_PERMISSION: u8 = 6;
const KIND_TOPIC_PERMISSION: u8 = 7;
const KIND_DEFAULTS: u8 = 8;

/// A durable thing that exists.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// An exchange.
    Exchange(ExchangeFact),
    /// A queue.
    Queue(QueueFact),
    /// A binding between durable ends.
    Binding(BindingFact),
    /// A virtual host.
    Vhost(VhostFact),
    /// A user.
    User(UserFact),
    /// What a user may do in a virtual host.
    Permission(PermissionFact),
    /// With which routing keys a user may use a topic exchange.
    TopicPermission(TopicPermissionFact),
    /// The store was given its first virtual host and user.
    Defaults(DefaultsFact),
}

/// A durable exchange.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExchangeFact {
    /// Virtual host.
    #[prost(string, tag = "1")]
    pub vhost: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Type: "direct", "fanout", "topic".
    #[prost(string, tag = "3")]
    pub kind: String,
    /// Deleted with its last binding.
    #[prost(bool, tag = "4")]
    pub auto_delete: bool,
    /// Not for clients to publish to.
    #[prost(bool, tag = "5")]
    pub internal: bool,
    /// Arguments.
    #[prost(message, repeated, tag = "6")]
    pub arguments: Vec<FieldFact>,
}

/// A durable queue.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueueFact {
    /// Virtual host.
    #[prost(string, tag = "1")]
    pub vhost: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its incarnation in the store.
    #[prost(uint64, tag = "3")]
    pub queue: u64,
    /// Deleted with its last consumer.
    #[prost(bool, tag = "4")]
    pub auto_delete: bool,
    /// Arguments.
    #[prost(message, repeated, tag = "5")]
    pub arguments: Vec<FieldFact>,
    /// Its levels above priority 0.
    #[prost(message, repeated, tag = "6")]
    pub levels: Vec<LevelFact>,
    /// It was sent messages that expire by themselves.
    #[prost(bool, tag = "7")]
    pub expiring: bool,
}

/// A level of a durable queue.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LevelFact {
    /// Priority of its messages, 1 to 255.
    #[prost(uint32, tag = "1")]
    pub priority: u32,
    /// Its incarnation in the store.
    #[prost(uint64, tag = "2")]
    pub queue: u64,
}

/// A durable binding.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BindingFact {
    /// Virtual host.
    #[prost(string, tag = "1")]
    pub vhost: String,
    /// Source exchange.
    #[prost(string, tag = "2")]
    pub source: String,
    /// It leads to an exchange, not to a queue.
    #[prost(bool, tag = "3")]
    pub to_exchange: bool,
    /// Destination name.
    #[prost(string, tag = "4")]
    pub destination: String,
    /// Binding key.
    #[prost(string, tag = "5")]
    pub routing_key: String,
    /// Arguments.
    #[prost(message, repeated, tag = "6")]
    pub arguments: Vec<FieldFact>,
}

/// Why a fact could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// Written by a newer broker.
    #[error("version {0}, this broker reads version 1")]
    Version(u8),
    /// Of a kind that this broker does not know.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// Not what its kind and version promise.
    #[error("{0}")]
    Malformed(String),
}

impl Fact {
    /// The key, which is the same for the same thing whatever its other properties.
    pub fn key(&self) -> Bytes {
        match self {
            Fact::Exchange(f) => key(KIND_EXCHANGE, &[f.vhost.as_bytes(), f.name.as_bytes()]),
            Fact::Queue(f) => key(KIND_QUEUE, &[f.vhost.as_bytes(), f.name.as_bytes()]),
            Fact::Binding(f) => {
                let kind: &[u8] = if f.to_exchange { b"e" } else { b"q" };
                let arguments = canonical_fields(&f.arguments);
                let (source, to) = (f.source.as_bytes(), f.destination.as_bytes());
                key(
                    KIND_BINDING,
                    &[f.vhost.as_bytes(), source, kind, to, f.routing_key.as_bytes(), &arguments],
                )
            }
            Fact::Vhost(f) => key(KIND_VHOST, &[f.name.as_bytes()]),
            Fact::User(f) => key(KIND_USER, &[f.name.as_bytes()]),
            Fact::Permission(f) => key(KIND_PERMISSION, &[f.vhost.as_bytes(), f.user.as_bytes()]),
            Fact::TopicPermission(f) => {
                let (vhost, user, exchange) = (f.vhost.as_bytes(), f.user.as_bytes(), f.exchange.as_bytes());
                key(KIND_TOPIC_PERMISSION, &[vhost, user, exchange])
            }
            Fact::Defaults(_) => key(KIND_DEFAULTS, &[]),
        }
    }

    /// The value.
    pub fn value(&self) -> Bytes {
        let mut buf = BytesMut::new();
        buf.put_u8(FACT_VERSION);
        let encoded = match self {
            Fact::Exchange(f) => f.encode(&mut buf),
            Fact::Queue(f) => f.encode(&mut buf),
            Fact::Binding(f) => f.encode(&mut buf),
            Fact::Vhost(f) => f.encode(&mut buf),
            Fact::User(f) => f.encode(&mut buf),
            Fact::Permission(f) => f.encode(&mut buf),
            Fact::TopicPermission(f) => f.encode(&mut buf),
            Fact::Defaults(f) => f.encode(&mut buf),
        };
        encoded.expect("a BytesMut grows as needed");
        buf.freeze()
    }

    /// Whether a key is that of a queue or a binding: of these there may be very many.
    pub fn is_of_many(key: &[u8]) -> bool {
        matches!(key.first(), Some(&(KIND_QUEUE | KIND_BINDING)))
    }

    /// Reads a fact back.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Fact, FactError> {
        let malformed = |e: prost::DecodeError| FactError::Malformed(e.to_string());
        let (&kind, _) = key.split_first().ok_or_else(|| FactError::Malformed("empty key".into()))?;
        if !(KIND_EXCHANGE..=KIND_DEFAULTS).contains(&kind) {
            return Err(FactError::Kind(kind));
        }
        let (&version, message) =
            value.split_first().ok_or_else(|| FactError::Malformed("empty value".into()))?;
        if version != FACT_VERSION {
            return Err(FactError::Version(version));
        }
        let fact = match kind {
            KIND_EXCHANGE => Fact::Exchange(ExchangeFact::decode(message).map_err(malformed)?),
            KIND_QUEUE => Fact::Queue(QueueFact::decode(message).map_err(malformed)?),
            KIND_BINDING => Fact::Binding(BindingFact::decode(message).map_err(malformed)?),
            KIND_VHOST => Fact::Vhost(VhostFact::decode(message).map_err(malformed)?),
            KIND_USER => Fact::User(UserFact::decode(message).map_err(malformed)?),
            KIND_PERMISSION => Fact::Permission(PermissionFact::decode(message).map_err(malformed)?),
            KIND_TOPIC_PERMISSION => {
                Fact::TopicPermission(TopicPermissionFact::decode(message).map_err(malformed)?)
            }
            _ => Fact::Defaults(DefaultsFact::decode(message).map_err(malformed)?),
        };
        // The two must agree, or removing the fact later would remove another one.
        if fact.key() != key {
            return Err(FactError::Malformed("its key names another thing than its value".into()));
        }
        Ok(fact)
    }
}

impl QueueFact {
    /// The queue's id.
    pub fn id(&self) -> QueueId {
        QueueId(self.queue)
    }
}

impl BindingFact {
    /// From the core's form.
    pub fn new(vhost: &str, binding: &Binding) -> Self {
        Self {
            vhost: vhost.to_string(),
            source: binding.source.to_string(),
            to_exchange: binding.destination_kind == DestinationKind::Exchange,
            destination: binding.destination.to_string(),
            routing_key: binding.routing_key.to_string(),
            arguments: fields(&binding.arguments),
        }
    }

    /// To the core's form.
    pub fn binding(&self) -> Result<Binding, FactError> {
        let kind = if self.to_exchange { DestinationKind::Exchange } else { DestinationKind::Queue };
        Ok(Binding {
            source: Arc::from(self.source.as_str()),
            destination_kind: kind,
            destination: Arc::from(self.destination.as_str()),
            routing_key: Arc::from(self.routing_key.as_str()),
            arguments: table(&self.arguments)?,
        })
    }
}

fn key(kind: u8, parts: &[&[u8]]) -> Bytes {
    let mut buf = BytesMut::with_capacity(1 + parts.iter().map(|p| 4 + p.len()).sum::<usize>());
    buf.put_u8(kind);
    for part in parts {
        buf.put_u32_le(part.len() as u32);
        buf.put_slice(part);
    }
    buf.freeze()
}
