//! What the store hands the core at the start.

use bytes::Bytes;

use crate::ids::{Epoch, QueueId, Seq};

/// The durable state that a start found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// This opening of the store.
    pub epoch: Epoch,
    /// The next id for a new queue.
    pub next_queue_id: QueueId,
    /// Every fact: key, value, in order of keys.
    pub facts: Vec<(Bytes, Bytes)>,
    /// Every queue of the store.
    pub queues: Vec<RecoveredQueue>,
}

/// One queue that a start found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecoveredQueue {
    /// Its id.
    pub queue: QueueId,
    /// The next free place.
    pub next: Seq,
    /// The first live place; `next` when there is none.
    pub head: Seq,
    /// Live messages.
    pub live: u64,
    /// Dead places in `[head, next)`: inclusive ranges in order.
    pub dead: Vec<(Seq, Seq)>,
    /// Everything below this may have been delivered before.
    pub redelivered_below: Seq,
    /// Single places at or above `redelivered_below` that were delivered before: inclusive ranges in order.
    pub redelivered: Vec<(Seq, Seq)>,
}
