//! What Status says beside the core's counters.

use leveret_broker::CoreStats;

/// What a queue and a binding take of the core's memory, about, as measured with 100,000 of each.
const QUEUE_BYTES: u64 = 1_000;
const BINDING_BYTES: u64 = 600;

/// Where the figures come from.
pub trait StatusSource: Send + Sync + 'static {
    /// The figures now. Must not wait for the disk for long: it is called on the network's threads.
    fn server_status(&self) -> ServerStatus;
}

/// Figures of the process and its store. Totals count since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerStatus {
    /// Version of the program.
    pub version: String,
    /// Version of the formats on the disk.
    pub format_version: u32,
    /// Data directory.
    pub data_dir: String,
    /// "always", "interval:MS" or "never".
    pub fsync: String,
    /// Number of this opening of the store.
    pub epoch: u64,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Milliseconds that the recovery took.
    pub recovery_ms: u64,
    /// The previous run ended by a clean stop.
    pub recovered_clean: bool,
    /// Budget for bodies in memory.
    pub memory_budget_bytes: u64,
    /// Bytes of log segments in use, spares not counted.
    pub log_bytes: u64,
    /// Log segments in use.
    pub log_segments: u64,
    /// Syncs of the log.
    pub log_syncs_total: u64,
    /// Frames written to the log.
    pub log_frames_total: u64,
    /// Checkpoints written.
    pub checkpoints_total: u64,
    /// Segments recycled.
    pub recycled_total: u64,
    /// Bytes free on the data directory's file system.
    pub disk_free_bytes: u64,
    /// Why publishers are held: "disk-low", "settling-lags" or "spilling-lags"; empty when they are not.
    pub publishers_held: String,
    /// Settled segments: what lives of old log segments, grouped by queue.
    pub settled_segments: u64,
    /// Bytes of them.
    pub settled_bytes: u64,
    /// What of them lives, about: counted anew every second.
    pub settled_live_bytes: u64,
    /// Blob files: bodies of large messages.
    pub blob_files: u64,
    /// Bytes of them, without what was given back.
    pub blob_bytes: u64,
    /// What of them lives, or is on its way.
    pub blob_live_bytes: u64,
    /// Bytes of bodies written into them.
    pub blob_bytes_total: u64,
    /// Bytes of records written to the log.
    pub log_record_bytes_total: u64,
    /// Bytes written into settled segments by settling.
    pub settle_bytes_total: u64,
    /// Bytes written into settled segments by merging.
    pub merge_bytes_total: u64,
    /// Bytes of checkpoints written.
    pub checkpoint_bytes_total: u64,
    /// Work in the background that failed and is tried again; the log says which.
    pub background_errors_total: u64,
    /// Milliseconds since the oldest log segment that is not settled yet was begun, or since the start if it is older.
    pub oldest_unsettled_ms: u64,
    /// What of the settled segments is dead, about.
    pub settled_dead_bytes: u64,
    /// Room on the disk that is kept for the store's own needs.
    pub reserve_bytes: u64,
    /// Times that the disk was found full.
    pub out_of_space_total: u64,
    /// Bytes read by the scrub.
    pub scrub_bytes_total: u64,
    /// Passes that the scrub finished.
    pub scrub_passes_total: u64,
    /// Places that the scrub found to be damaged.
    pub scrub_findings_total: u64,
    /// What is known to be damaged, a sentence each.
    pub damage: Vec<String>,
    /// Bytes written over bytes of records.
    pub write_amplification: f64,
    /// Memory by part; bodies, queues and bindings are the core's to tell.
    pub memory: Vec<(&'static str, u64)>,
    /// Transient messages on the disk, once for each of their queues.
    pub spilled_messages: u64,
    /// Bytes of the files that hold them.
    pub spilled_bytes: u64,
    /// Bytes written into such files.
    pub spill_bytes_total: u64,
}

/// All parts of memory, by name, where these are the store's and the shell's.
pub fn memory_parts(core: &CoreStats, others: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
    let queues = core.queues * QUEUE_BYTES + core.bindings * BINDING_BYTES;
    let mut parts = vec![("bodies", core.body_bytes), ("queues", queues)];
    for (name, bytes) in others {
        match parts.iter_mut().find(|(part, _)| part == name) {
            Some((_, sum)) => *sum += bytes,
            None => parts.push((*name, *bytes)),
        }
    }
    parts
}
