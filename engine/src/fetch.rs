//! Reading messages back: asked for by queue and place, answered later.

use bytes::Bytes;

use crate::blobs::BlobRef;
use crate::ids::{QueueId, Seq, Ticket};

/// A request for live messages of one queue, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The queue.
    pub queue: QueueId,
    /// Comes back with the answer; the store does not look at it.
    pub generation: u64,
    /// First place wanted.
    pub from: Seq,
    /// Exclusive end of what is wanted.
    pub upto: Seq,
    /// At most so many messages; 0 counts as 1.
    pub count_max: u32,
    /// Stop before going over so many bytes; the first message may.
    pub bytes_max: u64,
    /// Answered only when this commit is durable: what was committed by then is found.
    pub after: Ticket,
}

/// The answer: every live message in `[from, upto)`, as far as it could be read. Live as of the durable log: places
/// whose ack is on its way may still be among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The queue asked for.
    pub queue: QueueId,
    /// The generation given.
    pub generation: u64,
    /// The first place asked for.
    pub from: Seq,
    /// Exclusive end of what this answer covers.
    pub upto: Seq,
    /// Places and payloads, in order.
    pub messages: Vec<(Seq, Bytes)>,
    /// Handles to the bodies of those whose body stands in a blob file, in order: whoever puts such a message into
    /// another queue puts it with the handle.
    pub blobs: Vec<(Seq, BlobRef)>,
    /// Places that could not be read, and why. What else the store holds is not affected.
    pub lost: Vec<(Seq, String)>,
}
