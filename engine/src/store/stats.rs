//! A store's figures.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::disk::SyncTimes;
use crate::format::{FRAME_HEADER_BYTES, FRAME_TRAILER_BYTES};
use crate::ids::Ticket;
use crate::ledger::LedgerMemory;
use crate::shared::{Shared, lock};

/// Figures of a store; totals count since the open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of log segments in use, whole segments but for what was given back.
    pub log_bytes: u64,
    /// Log segments in use.
    pub log_segments: u64,
    /// Segments ready for use.
    pub spare_segments: u64,
    /// Syncs of the log.
    pub syncs_total: u64,
    /// Frames written.
    pub frames_total: u64,
    /// Bytes of them, padding included.
    pub frame_bytes_total: u64,
    /// Bytes of records.
    pub record_bytes_total: u64,
    /// Changes of segment.
    pub rotations_total: u64,
    /// Checkpoints written.
    pub checkpoints_total: u64,
    /// Segments recycled.
    pub recycled_total: u64,
    /// Times that the disk was found full.
    pub out_of_space_total: u64,
    /// Memory of what is known of queues, and where messages stand.
    pub memory: LedgerMemory,
    /// Settled segments.
    pub settled_segments: u64,
    /// Bytes of them.
    pub settled_bytes: u64,
    /// What of them lives, about.
    pub settled_live_bytes: u64,
    /// Log segments settled.
    pub settled_logs_total: u64,
    /// Bytes written into settled segments by settling.
    pub settle_bytes_total: u64,
    /// Bytes written into settled segments by merging.
    pub merge_bytes_total: u64,
    /// Settled segments removed, because they were merged or nothing in them lived.
    pub settled_removed_total: u64,
    /// Transient messages in volatile segments, each counted once for each of its queues.
    pub spilled_messages: u64,
    /// Bytes of volatile segments.
    pub spilled_bytes: u64,
    /// Transient messages that were spilled, counted like that.
    pub spilled_total: u64,
    /// Bytes written into volatile segments.
    pub spill_bytes_total: u64,
    /// Bytes written into them again, so that segments of which little lived could go.
    pub spill_moved_bytes_total: u64,
    /// Memory of transient messages that wait to be written to a volatile segment; beyond the broker's own hold of them it
    /// costs little.
    pub spill_waiting_bytes: u64,
    /// Memory of the index of volatile segments, about.
    pub spill_index_bytes: u64,
    /// Blob files.
    pub blob_files: u64,
    /// Bytes of them, without the blocks that were given back.
    pub blob_bytes: u64,
    /// Bytes of bodies in them that live, or that somebody holds.
    pub blob_live_bytes: u64,
    /// Bodies written into them.
    pub blobs_total: u64,
    /// Bytes of those bodies.
    pub blob_bytes_total: u64,
    /// Blob files removed, because nothing in them lived.
    pub blob_files_removed_total: u64,
    /// Bytes of checkpoints written.
    pub checkpoint_bytes_total: u64,
    /// Work in the background that failed and is tried again.
    pub background_errors_total: u64,
    /// Times that a message which lives was asked for and could not be read.
    pub unreadable_total: u64,
    /// Milliseconds since the oldest log segment that is not settled yet was begun, or since the open if it is older; 0
    /// while only the one that is written is left.
    pub oldest_unsettled_ms: u64,
    /// Room on the disk that is kept for the store's own needs.
    pub reserve_bytes: u64,
    /// Bytes read by the scrub.
    pub scrub_bytes_total: u64,
    /// Passes over everything that the scrub finished.
    pub scrub_passes_total: u64,
    /// Places that the scrub found to be damaged.
    pub scrub_findings_total: u64,
    /// Bytes free on the file system; 0 where unknown.
    pub disk_free_bytes: u64,
    /// Newest ticket whose confirm may go out.
    pub confirmable: Ticket,
    /// Newest ticket that is durable.
    pub durable: Ticket,
    /// How long syncs took.
    pub sync_times: SyncTimes,
}

impl Stats {
    /// What of the settled segments is dead, about.
    pub fn settled_dead_bytes(&self) -> u64 {
        self.settled_bytes.saturating_sub(self.settled_live_bytes)
    }

    /// Bytes written since the open over bytes of records: log, settling, merging and checkpoints. Padding and the zeros
    /// of new segments are left out. 0 before anything is written.
    pub fn write_amplification(&self) -> f64 {
        // A body in a blob file is written once, as one in a record is.
        let first = self.record_bytes_total + self.blob_bytes_total;
        if first == 0 {
            return 0.0;
        }
        let headers = self.frames_total * (FRAME_HEADER_BYTES + FRAME_TRAILER_BYTES) as u64;
        let background = self.settle_bytes_total + self.merge_bytes_total + self.checkpoint_bytes_total;
        (first + headers + background) as f64 / first as f64
    }
}

/// Reads a store's figures from any thread.
#[derive(Debug, Clone)]
pub struct Gauge {
    pub(super) shared: Arc<Shared>,
}

impl Gauge {
    /// What is known to be damaged, a sentence each: found at the open or by the scrub, the first hundred.
    pub fn damage(&self) -> Vec<String> {
        lock(&self.shared.damage).clone()
    }

    /// Figures as of now.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let below = lock(&self.shared.ledger).settled_below;
        let log = lock(&self.shared.log);
        let bytes = |end: Option<crate::manifest::SegmentEnd>, punched| match end {
            Some(end) if punched => end.bytes,
            _ => self.shared.settings.segment_bytes,
        };
        let log_bytes = log.segments.values().map(|segment| bytes(segment.end, segment.punched)).sum();
        let (log_segments, spare_segments) = (log.segments.len() as u64, log.spares.len() as u64);
        let oldest = log.segments.range(below..).next().filter(|(_, segment)| segment.end.is_some());
        let now_ms = self.shared.now_ms.load(Ordering::Relaxed);
        let oldest_unsettled_ms = oldest.map_or(0, |(_, segment)| now_ms.saturating_sub(segment.opened_ms));
        drop(log);
        let settled_bytes = lock(&self.shared.settled).values().map(|file| file.entry.bytes).sum();
        let volatile = lock(&self.shared.volatile);
        let spilled = (volatile.index.places(), volatile.index.file_bytes());
        let spilled_totals = (volatile.spilled_places, volatile.written_bytes, volatile.moved_bytes);
        let (spill_waiting_bytes, spill_index_bytes) =
            (volatile.waiting_bytes(), volatile.index.memory_bytes());
        drop(volatile);
        let blobs = lock(&self.shared.blobs);
        let (blob_bytes, blob_live_bytes) = blobs
            .files
            .values()
            .fold((0, 0), |(bytes, live), file| (bytes + file.bytes, live + file.live_bytes()));
        let blob_files = blobs.files.len() as u64;
        drop(blobs);
        let ledger = lock(&self.shared.ledger);
        let (memory, shares) = (ledger.memory(), ledger.settled_shares());
        drop(ledger);
        let count = |counter: &crate::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            spilled_messages: spilled.0,
            spilled_bytes: spilled.1,
            spilled_total: spilled_totals.0,
            spill_bytes_total: spilled_totals.1,
            spill_moved_bytes_total: spilled_totals.2,
            spill_waiting_bytes,
            spill_index_bytes,
            blob_files,
            blob_bytes,
            blob_live_bytes,
            blobs_total: count(&counters.blobs),
            blob_bytes_total: count(&counters.blob_bytes),
            blob_files_removed_total: count(&counters.blob_files_removed),
            settled_segments: shares.len() as u64,
            settled_bytes,
            settled_live_bytes: shares.iter().map(|share| share.live_bytes).sum(),
            settled_logs_total: count(&counters.settled_logs),
            settle_bytes_total: count(&counters.settled_bytes),
            merge_bytes_total: count(&counters.merged_bytes),
            settled_removed_total: count(&counters.settled_removed),
            checkpoint_bytes_total: count(&counters.checkpoint_bytes),
            background_errors_total: count(&counters.background_errors),
            unreadable_total: count(&counters.unreadable),
            oldest_unsettled_ms,
            reserve_bytes: self.shared.reserve.pieces() as u64 * self.shared.settings.segment_bytes,
            scrub_bytes_total: count(&counters.scrub_bytes),
            scrub_passes_total: count(&counters.scrub_passes),
            scrub_findings_total: count(&counters.scrub_findings),
            log_bytes,
            log_segments,
            spare_segments,
            syncs_total: counters.syncs.load(Ordering::Relaxed),
            frames_total: counters.frames.load(Ordering::Relaxed),
            frame_bytes_total: counters.frame_bytes.load(Ordering::Relaxed),
            record_bytes_total: counters.record_bytes.load(Ordering::Relaxed),
            rotations_total: counters.rotations.load(Ordering::Relaxed),
            checkpoints_total: counters.checkpoints.load(Ordering::Relaxed),
            recycled_total: counters.recycled.load(Ordering::Relaxed),
            out_of_space_total: counters.out_of_space.load(Ordering::Relaxed),
            memory,
            disk_free_bytes: self.shared.disk.free_space().unwrap_or(0),
            confirmable: Ticket(self.shared.confirmable.load(Ordering::Acquire)),
            durable: self.shared.durable(),
            sync_times: self.shared.disk.sync_times(),
        }
    }
}
