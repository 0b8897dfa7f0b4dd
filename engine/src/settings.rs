//! Settings of a store, checked once.

use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, FRAME_HEADER_BYTES, FRAME_TRAILER_BYTES};

/// When the log is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before every confirm. Nothing confirmed is lost, also on power loss.
    Always,
    /// Every so many milliseconds; a power loss loses what was confirmed since. kill -9 loses nothing.
    Interval {
        /// Milliseconds between two syncs.
        ms: u64,
    },
    /// When the system likes to, and at rotation. kill -9 loses nothing, a power loss up to a segment.
    Never,
}

/// Settings of a store. Sizes in bytes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// When the log is synced.
    pub fsync: Fsync,
    /// Size of a log segment; a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// Largest frame, its header included; a multiple of 4 KiB. A larger batch runs on over several frames.
    pub frame_bytes_max: u64,
    /// Log written between two checkpoints.
    pub checkpoint_bytes: u64,
    /// Log beyond which its oldest segments are settled, and a checkpoint is written as soon as it frees a segment.
    pub log_budget_bytes: u64,
    /// Live messages that are grouped by queue at once: what settling takes of memory.
    pub settle_strip_bytes: u64,
    /// Transient messages that may wait in memory to be spilled before their publishers are held.
    pub spill_waiting_bytes: u64,
    /// Length of a settled segment, about.
    pub settled_bytes: u64,
    /// Bodies of at least so many bytes belong into blob files (see [`crate::Blobs`]).
    pub blob_bytes_min: u64,
    /// Length from which a blob file takes no more bodies.
    pub blob_file_bytes: u64,
    /// Settled segments whose extents are short on the average, as with very many queues, are merged into one with longer
    /// extents once they have so many together.
    pub extents_joined: u64,
    /// With so many extents of settled segments in memory (72 bytes each), joining them goes before settling more.
    pub extents_crowded: u64,
    /// Publishers are held while less than this is free on the disk, what the unsettled log may take when it is settled
    /// counted as taken (E11). 0: whatever is free.
    pub disk_low_bytes: u64,
    /// Bytes that the scrub reads in a second; 0: there is no scrub.
    pub scrub_bytes_per_s: u64,
    /// Between the beginnings of two passes of the scrub, in milliseconds.
    pub scrub_pass_ms: u64,
    /// Whether room for the store's own needs is kept on the disk: five log segments' worth (E11).
    pub reserve: bool,
    /// Zeroed segments kept ahead of need.
    pub spares: usize,
    /// Frames of so many bytes on the average get segments without zeros. The zeros are half of all that the disk has to write;
    /// what they save a frame is an eighth of its time at 1 MiB, about what they cost at 512 KiB, and far more than that
    /// below.
    pub large_frame_bytes: u64,
    /// So many zeros go with a small frame that comes upon blocks of its segment which were never written, for the frames behind
    /// it; small is up to a sixteenth of them. 0: none.
    pub zeros_ahead_bytes: u64,
    /// A batch that nobody waits for leaves after so many milliseconds at the latest.
    pub lazy_ms: u64,
    /// After so many milliseconds without work the newest frame is proven by an empty one.
    pub idle_ms: u64,
    /// After so many milliseconds without work a checkpoint is written, if anything is new.
    pub idle_checkpoint_ms: u64,
    /// Identity of a store that is made new. Chance comes from outside.
    pub new_store_id: u64,
    /// A deliberate bug, for tests of the tests.
    #[cfg(feature = "controls")]
    pub control: Option<crate::Control>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fsync: Fsync::Always,
            segment_bytes: 64 << 20,
            frame_bytes_max: 4 << 20,
            checkpoint_bytes: 256 << 20,
            log_budget_bytes: 1 << 30,
            settle_strip_bytes: 32 << 20,
            spill_waiting_bytes: 32 << 20,
            settled_bytes: 512 << 20,
            blob_bytes_min: 256 << 10,
            blob_file_bytes: 256 << 20,
            extents_joined: 1 << 16,
            extents_crowded: 1 << 20,
            disk_low_bytes: 0,
            scrub_bytes_per_s: 4 << 20,
            scrub_pass_ms: 86_400_000,
            reserve: true,
            spares: 1,
            large_frame_bytes: 512 << 10,
            zeros_ahead_bytes: 1 << 20,
            lazy_ms: 10,
            idle_ms: 50,
            idle_checkpoint_ms: 5_000,
            new_store_id: 1,
            #[cfg(feature = "controls")]
            control: None,
        }
    }
}

impl Settings {
    /// Refuses what makes no sense.
    pub fn check(&self) -> Result<()> {
        let bad = |text: String| Err(Error::Settings(text));
        let block = BLOCK_BYTES as u64;
        if !self.segment_bytes.is_multiple_of(block)
            || self.segment_bytes < 4 * block
            || self.segment_bytes > 1 << 32
        {
            return bad(format!(
                "segment size must be a multiple of {block} bytes from 16 KiB to 4 GiB, not {}",
                self.segment_bytes
            ));
        }
        if !self.frame_bytes_max.is_multiple_of(block)
            || self.frame_bytes_max < block
            || self.frame_bytes_max > 64 << 20
        {
            return bad(format!(
                "the largest frame must be a multiple of {block} bytes up to 64 MiB, not {}",
                self.frame_bytes_max
            ));
        }
        if self.frame_bytes_max > self.segment_bytes - block {
            return bad(format!(
                "the largest frame ({} bytes) must fit into a segment ({} bytes, {block} of them its header)",
                self.frame_bytes_max, self.segment_bytes
            ));
        }
        if !self.zeros_ahead_bytes.is_multiple_of(block) || self.zeros_ahead_bytes > 16 << 20 {
            return bad(format!(
                "zeros ahead of small frames must be a multiple of {block} bytes up to 16 MiB, not {}",
                self.zeros_ahead_bytes
            ));
        }
        if matches!(self.fsync, Fsync::Interval { ms: 0 }) {
            return bad("fsync interval must be at least 1 ms; use always".into());
        }
        Ok(())
    }

    /// Payload that fits into one frame.
    pub(crate) fn frame_payload_max(&self) -> usize {
        self.frame_bytes_max as usize - FRAME_HEADER_BYTES - FRAME_TRAILER_BYTES
    }

    /// Largest batch, in bytes of its records as the log holds them.
    pub fn batch_bytes_max(&self) -> u64 {
        let room = self.segment_bytes - BLOCK_BYTES as u64;
        let whole = room / self.frame_bytes_max;
        let rest = room % self.frame_bytes_max;
        let per_frame = (FRAME_HEADER_BYTES + FRAME_TRAILER_BYTES) as u64;
        whole * (self.frame_bytes_max - per_frame) + rest.saturating_sub(per_frame)
    }
}
