//! A message as the core and the front ends share it.

use std::sync::Arc;

use bytes::Bytes;

use crate::blob::{Blob, logged_bytes};
use crate::record::HEADER_FIXED_BYTES;

/// One message, immutable and shared. Its properties stay as they came (an AMQP 0-9-1 content header's flags and
/// list), and are decoded only where somebody looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Exchange it was published to.
    pub exchange: Arc<str>,
    /// Routing key it was published with.
    pub routing_key: Arc<str>,
    /// Property flags and property list, verbatim (AMQP 0-9-1, 4.2.6.1).
    pub properties: Bytes,
    /// Body.
    pub body: Bytes,
    /// The store's handle to the body, where it has that apart from its log.
    pub blob: Option<Blob>,
    /// When the broker took it, milliseconds since 1970.
    pub received_ms: u64,
    /// Asked to survive a restart (delivery mode 2).
    pub persistent: bool,
    /// Expires so many milliseconds after it came (property expiration).
    pub expiration_ms: Option<u64>,
    /// The broker dead-lettered it, and so wrote what its headers say of that.
    pub dead_lettered: bool,
}

/// What a message costs beside its body and properties, for budgets and credits: the message, what counts its holders,
/// its names, its place in a queue, and what an allocator rounds up: 330 bytes as measured with 100-byte bodies in 1,000 queues
/// (what a loaded broker takes more than a restarted one, over the messages that it holds).
pub const MESSAGE_OVERHEAD_BYTES: u64 = 320;

impl Message {
    /// What the message counts in every budget and credit: body, properties, names and a fixed overhead, in bytes.
    pub fn cost_bytes(&self) -> u64 {
        (self.body.len() + self.properties.len() + self.routing_key.len() + self.exchange.len()) as u64
            + MESSAGE_OVERHEAD_BYTES
    }

    /// Upper bound of the bytes that it takes in the log beside its targets.
    pub(crate) fn logged_bytes(&self) -> u64 {
        let body = logged_bytes(self.body.len(), self.blob.as_ref());
        self.cost_bytes() - self.body.len() as u64 + body + HEADER_FIXED_BYTES
    }
}
