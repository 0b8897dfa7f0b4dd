//! The metrics in Prometheus' text format. Each family is a line of a table.
//!
//! Format: `# HELP name text`, `# TYPE name kind`, then samples `name{label="value"} number`.

use std::fmt::{Display, Write};

use super::{EngineFigures, MetricsSnapshot, QUEUES_MAX, QueueFigures};
use crate::version;

type Family = (&'static str, &'static str, &'static str, fn(&MetricsSnapshot) -> u64);

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

#[rustfmt::skip]
const FAMILIES: &[Family] = &[
    ("leveret_connections", GAUGE, "Connections.", |m| m.core.connections),
    ("leveret_channels", GAUGE, "AMQP channels and open gRPC streams.", |m| m.core.channels),
    ("leveret_exchanges", GAUGE, "Exchanges.", |m| m.core.exchanges),
    ("leveret_queues", GAUGE, "Queues.", |m| m.core.queues),
    ("leveret_bindings", GAUGE, "Bindings.", |m| m.core.bindings),
    ("leveret_consumers", GAUGE, "Consumers.", |m| m.core.consumers),
    ("leveret_messages_ready", GAUGE, "Messages that wait for a consumer.", |m| m.core.messages_ready),
    ("leveret_messages_unacknowledged", GAUGE, "Messages out with consumers and leases.", |m| m.core.messages_unacknowledged),
    ("leveret_messages_published_total", COUNTER, "Messages published.", |m| m.core.published),
    ("leveret_messages_confirmed_total", COUNTER, "Publishes that have an outcome.", |m| m.core.confirmed),
    ("leveret_messages_unrouted_total", COUNTER, "Publishes that reached no queue.", |m| m.core.unrouted),
    ("leveret_messages_rejected_total", COUNTER, "Publishes that were rejected.", |m| m.core.rejected),
    ("leveret_messages_delivered_total", COUNTER, "Deliveries by consumers and gets.", |m| m.core.delivered),
    ("leveret_messages_redelivered_total", COUNTER, "Deliveries marked as redelivered.", |m| m.core.redelivered),
    ("leveret_messages_acked_total", COUNTER, "Messages acknowledged.", |m| m.core.acked),
    ("leveret_messages_requeued_total", COUNTER, "Messages returned to their queue.", |m| m.core.requeued),
    ("leveret_publishers_held", GAUGE, "1 while publishers wait because settling or spilling lags, or the disk is low.", |m| m.publishers_held.into()),
    ("leveret_memory_budget_bytes", GAUGE, "Budget for bodies in memory.", |m| m.memory_budget_bytes),
    ("leveret_log_bytes", GAUGE, "Bytes of log segments in use.", |m| m.engine.log_bytes),
    ("leveret_log_segments", GAUGE, "Log segments in use.", |m| m.engine.log_segments),
    ("leveret_log_spare_segments", GAUGE, "Log segments made ahead of need.", |m| m.engine.spare_segments),
    ("leveret_log_syncs_total", COUNTER, "Syncs of the log.", |m| m.engine.syncs_total),
    ("leveret_log_frames_total", COUNTER, "Frames written to the log.", |m| m.engine.frames_total),
    ("leveret_log_frame_bytes_total", COUNTER, "Bytes of frames written to the log.", |m| m.engine.frame_bytes_total),
    ("leveret_log_record_bytes_total", COUNTER, "Bytes of records in those frames.", |m| m.engine.record_bytes_total),
    ("leveret_checkpoints_total", COUNTER, "Checkpoints written.", |m| m.engine.checkpoints_total),
    ("leveret_log_segments_recycled_total", COUNTER, "Log segments recycled.", |m| m.engine.recycled_total),
    ("leveret_settled_segments", GAUGE, "Settled segments.", |m| m.engine.settled_segments),
    ("leveret_settled_bytes", GAUGE, "Bytes of settled segments.", |m| m.engine.settled_bytes),
    ("leveret_settled_live_bytes", GAUGE, "What of them lives, about.", |m| m.engine.settled_live_bytes),
    ("leveret_settle_bytes_total", COUNTER, "Bytes written by settling.", |m| m.engine.settle_bytes_total),
    ("leveret_merge_bytes_total", COUNTER, "Bytes written by merging.", |m| m.engine.merge_bytes_total),
    ("leveret_settled_removed_total", COUNTER, "Settled segments removed.", |m| m.engine.settled_removed_total),
    ("leveret_spilled_messages", GAUGE, "Transient messages on the disk, once for each of their queues.", |m| m.engine.spilled_messages),
    ("leveret_spilled_bytes", GAUGE, "Bytes of the files that hold them.", |m| m.engine.spilled_bytes),
    ("leveret_spilled_messages_total", COUNTER, "Transient messages written to the disk for want of memory.", |m| m.engine.spilled_total),
    ("leveret_spill_bytes_total", COUNTER, "Bytes written for them.", |m| m.engine.spill_bytes_total),
    ("leveret_spill_moved_bytes_total", COUNTER, "Bytes of them written again to make room.", |m| m.engine.spill_moved_bytes_total),
    ("leveret_blob_files", GAUGE, "Blob files: bodies of large messages.", |m| m.engine.blob_files),
    ("leveret_blob_bytes", GAUGE, "Bytes of blob files, without what was given back.", |m| m.engine.blob_bytes),
    ("leveret_blob_live_bytes", GAUGE, "What of them lives, or is on its way.", |m| m.engine.blob_live_bytes),
    ("leveret_blobs_total", COUNTER, "Bodies written into blob files.", |m| m.engine.blobs_total),
    ("leveret_blob_bytes_total", COUNTER, "Bytes of those bodies.", |m| m.engine.blob_bytes_total),
    ("leveret_blob_files_removed_total", COUNTER, "Blob files removed.", |m| m.engine.blob_files_removed_total),
    ("leveret_checkpoint_bytes_total", COUNTER, "Bytes of checkpoints written.", |m| m.engine.checkpoint_bytes_total),
    ("leveret_background_errors_total", COUNTER, "Work in the background that failed and is tried again.", |m| m.engine.background_errors_total),
    ("leveret_settled_dead_bytes", GAUGE, "What of the settled segments is dead, about.", |m| m.engine.settled_dead_bytes),
    ("leveret_oldest_unsettled_seconds", GAUGE, "Since the oldest log segment that is not settled was begun, or since the start.", |m| m.engine.oldest_unsettled_ms / 1_000),
    ("leveret_reserve_bytes", GAUGE, "Room on the disk that is kept for the store's own needs.", |m| m.engine.reserve_bytes),
    ("leveret_out_of_space_total", COUNTER, "Times that the disk was found full.", |m| m.engine.out_of_space_total),
    ("leveret_scrub_bytes_total", COUNTER, "Bytes read by the scrub.", |m| m.engine.scrub_bytes_total),
    ("leveret_scrub_passes_total", COUNTER, "Passes that the scrub finished.", |m| m.engine.scrub_passes_total),
    ("leveret_scrub_findings_total", COUNTER, "Places that the scrub found to be damaged.", |m| m.engine.scrub_findings_total),
    ("leveret_log_durable_ticket", GAUGE, "Newest append that is durable.", |m| m.engine.durable_ticket),
    ("leveret_log_confirmable_ticket", GAUGE, "Newest append whose confirms may go out.", |m| m.engine.confirmable_ticket),
];

/// All metrics; those of core and store only once there are some.
pub(super) fn encode(snapshot: Option<&MetricsSnapshot>) -> String {
    let mut page = Page(String::with_capacity(16 << 10));
    let build = [("version", version::VERSION), ("commit", version::COMMIT)];
    page.head("leveret_build_info", GAUGE, "What is running.");
    page.sample("leveret_build_info", &build, 1);
    page.head("leveret_serving", GAUGE, "1 while the server is serving.");
    page.sample("leveret_serving", &[], u8::from(snapshot.is_some()));
    if let Some(bytes) = resident_bytes() {
        page.head("leveret_process_resident_memory_bytes", GAUGE, "Memory of the process.");
        page.sample("leveret_process_resident_memory_bytes", &[], bytes);
    }
    if let Some(snapshot) = snapshot {
        for (name, kind, help, value) in FAMILIES {
            page.head(name, kind, help);
            page.sample(name, &[], value(snapshot));
        }
        memory(&mut page, snapshot);
        sync_latency(&mut page, &snapshot.engine);
        queues(&mut page, &snapshot.queues);
    }
    page.0
}

fn memory(page: &mut Page, snapshot: &MetricsSnapshot) {
    const NAME: &str = "leveret_memory_bytes";
    page.head(NAME, GAUGE, "Memory by part, about.");
    for (part, bytes) in &snapshot.memory_parts {
        page.sample(NAME, &[("part", part)], bytes);
    }
}

fn sync_latency(page: &mut Page, engine: &EngineFigures) {
    page.head("leveret_log_sync_seconds", "histogram", "Time that a sync of the log took.");
    let mut count = 0;
    for (power, syncs) in (1..).zip(engine.sync_latency_us) {
        count += syncs;
        let le = seconds(1 << power).to_string();
        page.sample("leveret_log_sync_seconds_bucket", &[("le", &le)], count);
    }
    page.sample("leveret_log_sync_seconds_bucket", &[("le", "+Inf")], count);
    page.sample("leveret_log_sync_seconds_sum", &[], seconds(engine.sync_latency_us_total));
    page.sample("leveret_log_sync_seconds_count", &[], count);
}

fn queues(page: &mut Page, queues: &[QueueFigures]) {
    type Figure = (&'static str, &'static str, fn(&QueueFigures) -> u64);
    const FIGURES: [Figure; 3] = [
        ("leveret_queue_messages_ready", "Messages of a queue that wait for a consumer.", |q| {
            q.messages_ready
        }),
        ("leveret_queue_messages_unacknowledged", "Messages of a queue that are out.", |q| {
            q.messages_unacknowledged
        }),
        ("leveret_queue_consumers", "Consumers of a queue.", |q| q.consumers),
    ];
    for (name, help, value) in FIGURES {
        page.head(name, GAUGE, help);
        for queue in queues.iter().take(QUEUES_MAX) {
            page.sample(name, &[("vhost", &*queue.vhost), ("queue", &*queue.name)], value(queue));
        }
    }
    page.head("leveret_queues_not_shown", GAUGE, "Queues without figures of their own here.");
    page.sample("leveret_queues_not_shown", &[], queues.len().saturating_sub(QUEUES_MAX));
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (nth, (label, text)) in labels.iter().enumerate() {
            self.0.push(if nth == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", escape(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
