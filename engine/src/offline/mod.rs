//! Work on a data directory while no server does: `check`, `repair`, `inspect`.
//!
//! ```text
//! survey   reads everything and judges it as an open does, but goes on behind what is bad
//!   rebuild   makes up the list of files where the manifest cannot be trusted
//! salvage  replays what is sound into a ledger, in memory, and counts what is missing
//! check    survey + salvage, told
//! repair   survey + salvage, carried out: damaged files set aside, sound frames copied, a checkpoint, a new manifest
//! inspect  what stands in the files, record kinds and numbers but never a message
//! ```
//!
//! The rules are those of the open (`recovery`, `scan`): these tools call them and add none of their own to what is a
//! torn tail and what is damage. Only `repair` writes, and it writes a new manifest last.

use bytes::Bytes;

use crate::ids::{Epoch, FrameNo, QueueId};

mod blobs;
mod check;
mod inspect;
mod rebuild;
mod repair;
mod rescue;
mod salvage;
mod settled;
mod survey;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod walk;

pub use check::check;
pub use inspect::{Inspected, InspectedCheckpoint, InspectedFrame, InspectedSegment, Kinds, inspect};
pub use repair::{LeaveOut, Repaired, repair};

/// Prefix of what was set aside. Files with it are never read, used or removed.
pub(crate) const SET_ASIDE: &str = "set-aside.";

/// Told how many bytes of how many have been read.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// What [`check`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Nothing is damaged, and the store would open. A torn tail is sound. With damage in settled segments alone a store
    /// opens as well, and serves the rest.
    pub sound: bool,
    /// The store's identity.
    pub store_id: u64,
    /// Its last opening.
    pub epoch: Epoch,
    /// The last run ended by a clean close.
    pub clean: bool,
    /// Files of the store that were read: manifest, checkpoints, listed log segments, settled segments.
    pub files: u64,
    /// Edits in the manifest.
    pub edits: u64,
    /// Checkpoints that are sound.
    pub checkpoints: u64,
    /// Log segments listed.
    pub segments: u64,
    /// Settled segments that are there.
    pub settled_segments: u64,
    /// Sound messages in them.
    pub settled_records: u64,
    /// Blob files listed.
    pub blob_files: u64,
    /// Sound bodies in them that live.
    pub blobs: u64,
    /// Sound frames.
    pub frames: u64,
    /// Sound records.
    pub records: u64,
    /// Bytes of log read.
    pub log_bytes: u64,
    /// The newest checkpoint was compared with a replay from what came before it.
    pub replay_compared: bool,
    /// Every fact that is left, in order of keys.
    pub facts: Vec<(Bytes, Bytes)>,
    /// Every queue that is left, in order of ids.
    pub queues: Vec<CheckedQueue>,
    /// What there is to say, in order of importance.
    pub findings: Vec<Finding>,
    /// What a repair would give up; empty when `sound`.
    pub loss: Loss,
    /// Why [`repair`] would refuse, if it would.
    pub beyond_repair: Option<String>,
}

/// A queue with its counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckedQueue {
    /// The queue.
    pub queue: QueueId,
    /// Messages that live and are there.
    pub live: u64,
    /// Messages that should live, but whose record is not to be found.
    pub lost: u64,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it means.
    pub kind: FindingKind,
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What it is, in words.
    pub what: String,
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// What was written is not there any more: the store does not open before it is repaired, or, where only settled
    /// segments are concerned, serves the rest.
    Damage,
    /// What was written last, and never proven durable, is not whole: the next open cuts it.
    TornTail,
    /// Good to know.
    Note,
}

/// What cannot be had back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// Frames of the log that are gone.
    pub gaps: Vec<Gap>,
    /// Messages per queue that should live, but whose record is gone.
    pub messages: Vec<(QueueId, u64)>,
    /// Messages per queue that are there, but whose queue's creation is gone, and with it the queue.
    pub nameless: Vec<(QueueId, u64)>,
    /// Gaps behind the checkpoint: what acks, deletions, facts and new messages they held is unknown. Messages acked
    /// there come back; what was deleted there is there again.
    pub unknown_changes: bool,
}

/// Bytes of a segment in which there is no sound frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The file.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// Its length; 0 where bytes are there, but what they should follow is not.
    pub bytes: u64,
    /// The first frame that may have stood there.
    pub first: FrameNo,
    /// The last one, where that is known.
    pub last: Option<FrameNo>,
    /// Why there is no frame.
    pub why: String,
}

impl Loss {
    /// Nothing is lost.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Finding {
    pub(crate) fn new(
        kind: FindingKind,
        file: impl Into<String>,
        offset: u64,
        what: impl Into<String>,
    ) -> Self {
        Self { kind, file: file.into(), offset, what: what.into() }
    }
}
