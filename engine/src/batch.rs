//! What is committed: applied whole or not at all.

use bytes::Bytes;

use crate::blobs::{BlobPlace, BlobRef};
use crate::codec::Writer;
use crate::ids::{QueueId, Seq};
use crate::record;

/// One atomic change of the store. Its parts take effect in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Queues that exist from here on. Ids rise from batch to batch.
    pub queues_created: Vec<QueueId>,
    /// Transient places that are dead: filled in by [`crate::Store::commit`] (E7), not by its caller.
    pub(crate) holes: Vec<(QueueId, Seq, Seq)>,
    /// Messages added by [`Batch::put`].
    pub(crate) messages: Messages,
    /// Messages behind those.
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

/// Messages as the records that the log is to hold, and the places that they take. Two allocations for all of them: a
/// message by itself is not worth one, and still less one that another thread frees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Messages {
    pub(crate) records: Writer,
    pub(crate) count: u32,
    /// The places as inclusive ranges; those of each queue in order.
    pub(crate) runs: Vec<(QueueId, Seq, Seq)>,
    /// Those whose body stands in a blob file.
    pub(crate) blobs: Vec<(QueueId, Seq, BlobRef)>,
}

/// So many of the newest ranges are looked through for one that a place joins.
const RUNS_LOOKED_AT: usize = 8;

impl Messages {
    /// Adds one.
    pub(crate) fn put(
        &mut self,
        targets: &[(QueueId, Seq)],
        blob: Option<&BlobRef>,
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        record::encode_message(targets, blob.map(BlobRef::place), &mut self.records, payload);
        self.count += 1;
        for &(queue, seq) in targets {
            self.place(queue, seq);
            self.blobs.extend(blob.map(|blob| (queue, seq, blob.clone())));
        }
    }

    fn place(&mut self, queue: QueueId, seq: Seq) {
        let newest = self.runs.iter_mut().rev().take(RUNS_LOOKED_AT).find(|(same, ..)| *same == queue);
        match newest {
            Some((_, _, last)) if last.next() == seq => *last = seq,
            _ => self.runs.push((queue, seq, seq)),
        }
    }
}

/// Bytes of a message in two parts, so that a body need not be copied behind its header. They come back as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// First part.
    pub head: Bytes,
    /// Second part.
    pub body: Bytes,
}

impl Payload {
    /// Appends both.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.body);
    }
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

    /// One with room for messages that take so many bytes in the log.
    pub fn with_room(bytes: usize) -> Self {
        let messages = Messages { records: Writer(Vec::with_capacity(bytes)), ..Messages::default() };
        Self { messages, ..Self::default() }
    }

    /// Adds a message like a [`Put`] in front of all `puts`, with a payload that `payload` appends: its record is made at
    /// once, so that the message costs no allocation, neither here nor on its way to the log.
    ///
    /// ```
    /// use leveret_engine::{Batch, QueueId, Seq};
    /// let mut batch = Batch::default();
    /// batch.put(&[(QueueId(1), Seq(1))], None, |record| record.extend_from_slice(b"hello"));
    /// ```
    pub fn put(
        &mut self,
        targets: &[(QueueId, Seq)],
        blob: Option<&BlobRef>,
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        self.messages.put(targets, blob, payload);
    }

    /// Makes the records of all messages, which leaves no `puts`.
    pub(crate) fn gather(&mut self) {
        for Put { targets, payload, blob } in std::mem::take(&mut self.puts) {
            self.messages.put(&targets, blob.as_ref(), |out| payload.write_to(out));
        }
    }

    /// Upper bound of the bytes that its records take in the log.
    pub(crate) fn bytes(&self) -> u64 {
        let header = record::RECORD_HEADER_BYTES as u64;
        let mut bytes = (header + 8) * (self.queues_created.len() + self.queues_deleted.len()) as u64
            + (header + 24) * (self.acks.len() + self.holes.len()) as u64
            + self.messages.records.0.len() as u64;
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
