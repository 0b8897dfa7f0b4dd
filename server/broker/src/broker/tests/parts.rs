//! Arguments, properties and bodies, in short.

use bytes::Bytes;

use super::world::to_queue;
use crate::broker::Broker;
use crate::ids::QueueId;
use crate::input::{Publish, PublishExtras};
use crate::properties::Properties;
use crate::topology::Topology;
use crate::value::{Table, Value};

impl Broker {
    /// What is in the default virtual host.
    pub(crate) fn default_vhost(&self) -> &Topology {
        self.vhosts.find("/").and_then(|id| self.vhosts.topology(id)).expect("it was not deleted")
    }

    /// A queue of the default virtual host.
    pub(crate) fn queue_id(&self, name: &str) -> Option<QueueId> {
        self.default_vhost().queue(name)
    }
}

pub(crate) fn arguments_of(arguments: &[(&str, Value)]) -> Table {
    Table(arguments.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
}

pub(crate) fn string(value: &str) -> Value {
    Value::Bytes(Bytes::copy_from_slice(value.as_bytes()))
}

/// A persistent message to a queue with properties, as a front end hands it on.
pub(crate) fn with_properties(queue: &str, body: &str, properties: &Properties) -> Publish {
    let expiration_ms = properties.expiration.as_ref().map(|ms| ms.parse().expect("a number"));
    let priority = properties.priority.unwrap_or(0);
    let extras = PublishExtras { expiration_ms, priority, ..PublishExtras::default() };
    let properties = Properties { delivery_mode: Some(2), ..properties.clone() };
    let properties = properties.encode().expect("they fit");
    Publish { properties, extras: Some(Box::new(extras)), ..to_queue(queue, body) }
}

/// A persistent message that expires by itself.
pub(crate) fn expiring(queue: &str, body: &str, ms: u64) -> Publish {
    with_properties(queue, body, &Properties { expiration: Some(ms.to_string()), ..Properties::default() })
}

pub(crate) fn numbers_from(from: u64, upto: u64) -> Vec<String> {
    (from..upto).map(|n| n.to_string()).collect()
}
