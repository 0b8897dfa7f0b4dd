//! HTTP: /metrics for Prometheus and /health.

mod metrics;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use leveret_broker::CoreStats;

/// How long the core may take for its figures.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where the figures come from.
pub trait MetricsSource: Send + Sync {
    /// All figures as of now. Called only while the server is serving or stopping.
    fn snapshot(&self) -> SnapshotFuture<'_>;
}

/// Figures on their way.
pub type SnapshotFuture<'a> = Pin<Box<dyn Future<Output = MetricsSnapshot> + Send + 'a>>;

/// All figures at one moment.
#[derive(Debug, Clone, Default)]
pub struct MetricsSnapshot {
    /// Of the core.
    pub core: CoreStats,
    /// Of the store.
    pub engine: EngineFigures,
    /// Publishers are held: settling lags, or the disk is low.
    pub publishers_held: bool,
    /// Memory budget for bodies.
    pub memory_budget_bytes: u64,
    /// Memory by part.
    pub memory_parts: Vec<(&'static str, u64)>,
    /// Queues, of which [`QUEUES_MAX`] are shown.
    pub queues: Vec<QueueFigures>,
}

/// Queues with figures of their own; more would drown the scraper.
pub const QUEUES_MAX: usize = 1000;

/// Figures of the store. Totals count since the server started.
#[derive(Debug, Clone, Default)]
pub struct EngineFigures {
    /// Bytes of log segments in use.
    pub log_bytes: u64,
    /// Log segments in use.
    pub log_segments: u64,
    /// Segments made ahead of need.
    pub spare_segments: u64,
    /// Syncs of the log.
    pub syncs_total: u64,
    /// Frames written.
    pub frames_total: u64,
    /// Bytes of frames written.
    pub frame_bytes_total: u64,
    /// Bytes of records in them.
    pub record_bytes_total: u64,
    /// Checkpoints written.
    pub checkpoints_total: u64,
    /// Segments recycled.
    pub recycled_total: u64,
    /// Transient messages on the disk, once for each of their queues.
    pub spilled_messages: u64,
    /// Bytes of the files that hold them.
    pub spilled_bytes: u64,
    /// Transient messages that were written there.
    pub spilled_total: u64,
    /// Bytes written there.
    pub spill_bytes_total: u64,
    /// Bytes written again, so that files of which little lived could go.
    pub spill_moved_bytes_total: u64,
    /// Blob files.
    pub blob_files: u64,
    /// Bytes of them, without what was given back.
    pub blob_bytes: u64,
    /// What of them lives, or is on its way.
    pub blob_live_bytes: u64,
    /// Bodies written into them.
    pub blobs_total: u64,
    /// Bytes of those bodies.
    pub blob_bytes_total: u64,
    /// Blob files removed, because nothing in them lived.
    pub blob_files_removed_total: u64,
    /// Settled segments.
    pub settled_segments: u64,
    /// Bytes of settled segments.
    pub settled_bytes: u64,
    /// What of them lives, about.
    pub settled_live_bytes: u64,
    /// Bytes written by settling.
    pub settle_bytes_total: u64,
    /// Bytes written by merging.
    pub merge_bytes_total: u64,
    /// Settled segments removed.
    pub settled_removed_total: u64,
    /// Bytes of checkpoints written.
    pub checkpoint_bytes_total: u64,
    /// Work in the background that failed.
    pub background_errors_total: u64,
    /// Since the oldest log segment that is not settled was begun, in milliseconds.
    pub oldest_unsettled_ms: u64,
    /// What of the settled segments is dead.
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
    /// Syncs by latency: bucket i counts those under 2^(i+1) microseconds that are in no bucket before it.
    pub sync_latency_us: [u64; 32],
    /// All sync latencies added up, microseconds.
    pub sync_latency_us_total: u64,
    /// Newest append that is durable.
    pub durable_ticket: u64,
    /// Newest append whose confirms may go out.
    pub confirmable_ticket: u64,
}

/// Figures of one queue.
#[derive(Debug, Clone, Default)]
pub struct QueueFigures {
    /// Virtual host.
    pub vhost: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Messages that wait for a consumer.
    pub messages_ready: u64,
    /// Messages that are out.
    pub messages_unacknowledged: u64,
    /// Consumers.
    pub consumers: u64,
}

/// Whether the server is serving; shared with who knows.
#[derive(Debug, Clone, Default)]
pub struct Serving(Arc<AtomicBool>);

impl Serving {
    /// From now on it is, or is not.
    pub fn set(&self, serving: bool) {
        self.0.store(serving, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The routes.
pub fn router(serving: Serving, source: Arc<dyn MetricsSource>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(Shared { serving, source })
}

#[derive(Clone)]
struct Shared {
    serving: Serving,
    source: Arc<dyn MetricsSource>,
}

async fn index() -> &'static str {
    "leveret\n\n/health   200 while serving, else 503\n/metrics  for Prometheus\n"
}

async fn health(State(shared): State<Shared>) -> Response {
    if shared.serving.get() {
        (StatusCode::OK, "serving\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not serving: starting or stopping\n").into_response()
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    if !shared.serving.get() {
        return ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics::encode(None)).into_response();
    }
    match tokio::time::timeout(SNAPSHOT_TIMEOUT, shared.source.snapshot()).await {
        Ok(snapshot) => {
            ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics::encode(Some(&snapshot))).into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the core did not answer in time\n").into_response(),
    }
}
