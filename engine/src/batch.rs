//! What is committed: applied whole or not at all.

use bytes::Bytes;

use crate::blobs::{BlobPlace, BlobRef};
use crate::ids::{QueueId, Seq};

/// One atomic change of the store. Its parts take effect in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Queues that exist from here on. Ids rise from batch to batch.
    pub queues_created: Vec<QueueId>,
    /// Transient places that are dead: filled in by [`crate::Store::commit`] (E7), not by its caller.
    pub(crate) holes: Vec<(QueueId, Seq, Seq)>,
    /// Messages.
    pub puts: Vec<Put>,
    /// Places that are dead from here on, as inclusive ranges. What is not a place of a committed message is ignored.
    pub acks: Vec<(QueueId, Seq, Seq)>,
    /// Facts set (Some) or removed (None).
    pub facts: Vec<(Bytes, Option<Bytes>)>,
    /// Queues that are gone, with all they hold.
    pub queues_deleted: Vec<QueueId>,
}

/// One message, in the log once whatever the fan-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its places: at least one, each queue once, each Seq higher than any before it in its queue.
    pub targets: Vec<(QueueId, Seq)>,
    /// What it is, opaque to the store.
    pub payload: Payload,
    /// What follows the payload, if that stands in a blob file. It comes back joined.
    pub blob: Option<BlobRef>,
}

/// Bytes of a message in two parts, so that a body need not be copied behind its header. They come back as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// First part.
    pub head: Bytes,
    /// Second part.
    pub body: Bytes,
}

/// How soon a batch must reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for its ticket.
    Now,
    /// Nobody waits: it rides on the next frame or leaves within [`crate::Settings::lazy_ms`].
    Lazy,
}

impl Batch {
    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Upper bound of the bytes that its records take in the log.
    pub(crate) fn bytes(&self) -> u64 {
        let header = crate::record::RECORD_HEADER_BYTES as u64;
        let mut bytes = (header + 8) * (self.queues_created.len() + self.queues_deleted.len()) as u64
            + (header + 24) * (self.acks.len() + self.holes.len()) as u64;
        for put in &self.puts {
            bytes += header
                + 4
                + 16 * put.targets.len() as u64
                + put.blob.as_ref().map_or(0, |_| BlobPlace::RECORD_BYTES as u64)
                + (put.payload.head.len() + put.payload.body.len()) as u64;
        }
        for (key, value) in &self.facts {
            bytes += header + 8 + key.len() as u64 + value.as_ref().map_or(0, |v| v.len() as u64);
        }
        bytes
    }
}
