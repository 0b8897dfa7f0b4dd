//! What runs of the simulator reached.

use leveret_engine::Stats;

use crate::checker::Counts;

/// What runs reached; those that reach nothing prove nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Reached {
    /// Seeds.
    pub seeds: u64,
    /// Things that clients did.
    pub operations: u64,
    /// Changes of segment.
    pub rotations: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Segments recycled.
    pub recycled: u64,
    /// Log segments settled.
    pub settled: u64,
    /// Bytes that merging wrote.
    pub merged_bytes: u64,
    /// Settled segments that were removed: merged, or dead.
    pub settled_removed: u64,
    /// Places of transient messages that were spilled.
    pub spilled: u64,
    /// Bytes of volatile segments that were written again, to make room.
    pub spill_moved_bytes: u64,
    /// Passes of the scrub.
    pub scrubs: u64,
    /// Times that the disk was found full.
    pub found_full: u64,
    /// Bodies written into blob files.
    pub blobs: u64,
    /// Blob files removed.
    pub blob_files_removed: u64,
    /// Crashes while serving.
    pub crashes: u64,
    /// Crashes in a recovery.
    pub crashes_in_recovery: u64,
    /// Torn tails that were cut.
    pub cuts: u64,
    /// Frames copied because nothing proved them.
    pub frames_copied: u64,
    /// Consumers lost with messages out.
    pub consumers_lost: u64,
    /// Clean stops.
    pub clean_stops: u64,
    /// Commits that were answered.
    pub commits: u64,
    /// Rollbacks of something, answered.
    pub rollbacks: u64,
    /// Publishes of simulated AMQP clients that were confirmed.
    pub wire_confirms: u64,
    /// Deliveries to them.
    pub wire_deliveries: u64,
    /// Their connections that were lost.
    pub wires_lost: u64,
    /// Publishes of simulated gRPC clients that were confirmed.
    pub grpc_confirms: u64,
    /// Deliveries to them.
    pub grpc_deliveries: u64,
    /// Their connections that were lost.
    pub grpc_lost: u64,
    /// Messages that the checker saw sent, confirmed, delivered, flagged, found after a crash, acked.
    pub seen: Counts,
}

impl Reached {
    /// What a life of the store came to.
    pub(super) fn count(&mut self, stats: &Stats) {
        self.rotations += stats.rotations_total;
        self.checkpoints += stats.checkpoints_total;
        self.recycled += stats.recycled_total;
        self.settled += stats.settled_logs_total;
        self.merged_bytes += stats.merge_bytes_total;
        self.settled_removed += stats.settled_removed_total;
        self.spilled += stats.spilled_total;
        self.spill_moved_bytes += stats.spill_moved_bytes_total;
        self.scrubs += stats.scrub_passes_total;
        self.found_full += stats.out_of_space_total;
        self.blobs += stats.blobs_total;
        self.blob_files_removed += stats.blob_files_removed_total;
    }
}
