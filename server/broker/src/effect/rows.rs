//! The lines of listings, and the counters.

use std::sync::Arc;

use crate::ids::{ChanId, ConnId};
use crate::input::{Binding, ConnectionInfo};
use crate::value::Table;

/// A line of ListExchanges.
#[derive(Debug, Clone)]
pub struct ExchangeRow {
    /// Name.
    pub name: Arc<str>,
    /// Type.
    pub kind: &'static str,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted with its last binding.
    pub auto_delete: bool,
    /// Not for clients to publish to.
    pub internal: bool,
    /// Arguments.
    pub arguments: Table,
}

/// A line of ListQueues.
#[derive(Debug, Clone)]
pub struct QueueRow {
    /// Name.
    pub name: Arc<str>,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted with its last consumer.
    pub auto_delete: bool,
    /// Owner, if exclusive.
    pub exclusive_owner: Option<ConnId>,
    /// Arguments.
    pub arguments: Table,
    /// Messages that wait for a consumer.
    pub messages_ready: u64,
    /// Messages that are out.
    pub messages_unacknowledged: u64,
    /// Bytes of bodies held in memory.
    pub memory_bytes: u64,
    /// Consumers.
    pub consumers: u64,
    /// Published to it since start.
    pub published: u64,
    /// Delivered from it since start (consumers and gets).
    pub delivered: u64,
    /// Acked since start.
    pub acked: u64,
    /// Redelivered since start.
    pub redelivered: u64,
}

/// A line of ListBindings.
#[derive(Debug, Clone)]
pub struct BindingRow {
    /// The binding.
    pub binding: Binding,
    /// Survives a restart.
    pub durable: bool,
}

/// A line of ListConsumers.
#[derive(Debug, Clone)]
pub struct ConsumerRow {
    /// Queue name.
    pub queue: Arc<str>,
    /// Its channel.
    pub chan: ChanId,
    /// Its tag.
    pub consumer_tag: Arc<str>,
    /// Settles by hand.
    pub ack_required: bool,
    /// Messages that may be out.
    pub prefetch_messages: u32,
    /// Messages that are out.
    pub unacknowledged: u64,
    /// Alone on its queue.
    pub exclusive: bool,
    /// Priority.
    pub priority: i32,
    /// Could take a message now.
    pub active: bool,
}

/// A line of ListConnections.
#[derive(Debug, Clone)]
pub struct ConnectionRow {
    /// The connection.
    pub conn: ConnId,
    /// What is known of it.
    pub info: ConnectionInfo,
    /// Its open channels.
    pub channels: u64,
    /// When it came, milliseconds since 1970.
    pub connected_at_ms: u64,
}

/// A line of ListChannels.
#[derive(Debug, Clone)]
pub struct ChannelRow {
    /// The channel.
    pub chan: ChanId,
    /// Its connection.
    pub conn: ConnId,
    /// Consumers on it.
    pub consumers: u64,
    /// Deliveries out on it.
    pub messages_unacknowledged: u64,
    /// Publishes on it without an outcome yet.
    pub messages_unconfirmed: u64,
    /// Shared prefetch; 0: none.
    pub prefetch_messages: u32,
}

/// Counters of the core, since start unless a name says otherwise.
#[derive(Debug, Clone, Default)]
pub struct CoreStats {
    /// Of what one user sees, not of all there is.
    pub partial: bool,
    /// Connections now.
    pub connections: u64,
    /// Channels now.
    pub channels: u64,
    /// Exchanges now.
    pub exchanges: u64,
    /// Queues now.
    pub queues: u64,
    /// Bindings now.
    pub bindings: u64,
    /// Consumers now.
    pub consumers: u64,
    /// Ready messages now.
    pub messages_ready: u64,
    /// Messages out now.
    pub messages_unacknowledged: u64,
    /// Bytes of bodies in memory now.
    pub body_bytes: u64,
    /// Messages published.
    pub published: u64,
    /// Publishes with an outcome.
    pub confirmed: u64,
    /// Publishes that reached no queue.
    pub unrouted: u64,
    /// Publishes that were rejected.
    pub rejected: u64,
    /// Deliveries by consumers and gets.
    pub delivered: u64,
    /// Deliveries marked redelivered.
    pub redelivered: u64,
    /// Messages acked.
    pub acked: u64,
    /// Messages returned to their queue.
    pub requeued: u64,
    /// Messages that expired.
    pub expired: u64,
    /// Messages that a full queue dropped.
    pub dropped: u64,
    /// Messages dead-lettered to at least one queue.
    pub dead_lettered: u64,
}
