//! The broker behind the front ends: it opens the store, runs the core thread, and reads the figures of both.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Instant, SystemTime};

use leveret_broker::{CoreStats, Input, NameKey, Op, PasswordHash, Reply, ReqId};
use leveret_engine::{self as engine, Disk, FORMAT_VERSION, Gauge, RealDisk, Store};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::backend::{Backend, FailureFuture, Recovery, SettledFuture, Stopped};
use super::{ServerStatus, StatusSource};
use crate::auth;
use crate::config::{Fsync, ServeSettings};
use crate::core_thread::{self, Core, Ended, SharedCore, now_ms};
use crate::exit::Exit;
use crate::grpc::memory_parts;
use crate::host::Host;
use crate::http::{EngineFigures, MetricsSnapshot, MetricsSource, QUEUES_MAX, QueueFigures, SnapshotFuture};
use crate::hub::{Caller, Hub};
use crate::inbox::{Envelope, Inbox};
use crate::version;

/// What must be free on a large disk unless a setting says else.
const DISK_FREE_LIMIT: u64 = 1 << 30;

/// The real one. See the module.
pub(super) struct RealBackend {
    settings: Arc<ServeSettings>,
    inbox: Arc<Inbox>,
    hub: Hub,
    started: Instant,
    open: OnceLock<Open>,
    /// How the core thread ended, once it did.
    ended: watch::Sender<Option<Ended>>,
    core: Mutex<Option<thread::JoinHandle<()>>>,
}

/// What is known once the store is open.
struct Open {
    gauge: Gauge,
    epoch: u64,
    clean: bool,
    recovery_ms: u64,
}

impl RealBackend {
    pub(super) fn new(settings: &Arc<ServeSettings>) -> Self {
        let inbox = Arc::new(Inbox::default());
        let publish_bytes = u32::try_from(settings.publish_window.0).unwrap_or(u32::MAX);
        // Writers together may hold half of the budget for bodies; each at most its own credit.
        let credit = settings.channel_credit.0.min(settings.memory_budget.0 / 2);
        Self {
            hub: Hub::new(Arc::clone(&inbox), publish_bytes, credit),
            settings: Arc::clone(settings),
            inbox,
            started: Instant::now(),
            open: OnceLock::new(),
            ended: watch::Sender::new(None),
            core: Mutex::new(None),
        }
    }

    fn start(&self) -> Result<Recovery, Stopped> {
        let start = Instant::now();
        let disk = RealDisk::open(&self.settings.data_dir).map_err(stopped)?;
        let mut engine_settings = self.engine_settings();
        engine_settings.disk_low_bytes = match self.settings.disk_free_limit.0 {
            0 => DISK_FREE_LIMIT.min(disk.total_space().unwrap_or(u64::MAX) / 20),
            limit => limit,
        };
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let (store, workers, recovered) = Store::open(&disk, engine_settings).map_err(stopped)?;
        tell(&recovered.report);
        let report = recovered.report.clone();
        let (gauge, epoch) = (store.gauge(), recovered.epoch.0);
        self.hub.write_bodies_to(store.blobs());
        let settings = leveret_broker::Settings {
            memory_budget_bytes: self.settings.memory_budget.0,
            message_bytes_max: self.settings.message_max.0,
            append_bytes_max: u64::MAX,
            name_key: name_key()?,
        };
        let inbox = Arc::clone(&self.inbox);
        let threads = engine::start_threads(&store, workers, move || inbox.wake())
            .map_err(|e| Stopped::refused(format!("cannot start threads: {e}")))?;
        let mut host = Host::new(settings, store, recovered, now_ms())
            .map_err(|e| Stopped { exit: Exit::NeedsRepair, text: e.to_string() })?;
        make_defaults(&mut host)?;
        let stats = host.stats();
        let (inbox, ended) = (Arc::clone(&self.inbox), self.ended.clone());
        let (hub, inline_allowed) = (self.hub.clone(), self.settings.fsync == Fsync::Always);
        let core = Core::new(host, Arc::clone(&inbox), threads, inline_allowed, hub);
        let shared = SharedCore::new(core);
        if senders_may_turn() {
            inbox.set_turner(Box::new(shared.clone()));
        }
        let core = thread::Builder::new().name("leveret-core".into()).spawn(move || {
            // A panic, here or in a sender's turn, has left the core in the middle of something: the server ends.
            let run = AssertUnwindSafe(|| core_thread::run(&shared, &inbox));
            let panicked = || Ended::Failed("the core panicked, which is a bug".to_owned());
            let how = panic::catch_unwind(run).unwrap_or_else(|_| panicked());
            ended.send_replace(Some(how));
        });
        let core = core.map_err(|e| Stopped::refused(format!("cannot start threads: {e}")))?;
        *self.core.lock().unwrap_or_else(PoisonError::into_inner) = Some(core);
        let took = start.elapsed();
        let recovery_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        drop(self.open.set(Open { gauge, epoch, clean: report.clean, recovery_ms }));
        Ok(Recovery {
            exchanges: stats.exchanges,
            queues: stats.queues,
            bindings: stats.bindings,
            messages: stats.messages_ready,
            clean: report.clean,
            took,
        })
    }

    fn engine_settings(&self) -> engine::Settings {
        let fsync = match self.settings.fsync {
            Fsync::Always => engine::Fsync::Always,
            Fsync::Interval(every) => engine::Fsync::Interval { ms: every.as_millis() as u64 },
            Fsync::Never => engine::Fsync::Never,
        };
        let mut settings = engine::Settings::default();
        settings.fsync = fsync;
        settings.segment_bytes = self.settings.segment_size.0;
        settings.frame_bytes_max = settings.frame_bytes_max.min(settings.segment_bytes / 4);
        settings.checkpoint_bytes = self.settings.checkpoint_interval.0;
        settings.log_budget_bytes = self.settings.log_budget.0;
        // What is sorted at once when settling is memory as well: a small budget is not to be dwarfed by it.
        let strip = (self.settings.memory_budget.0 / 8).max(1 << 20);
        settings.settle_strip_bytes = settings.settle_strip_bytes.min(strip);
        settings.spill_waiting_bytes = settings.spill_waiting_bytes.min(strip);
        settings.scrub_bytes_per_s = self.settings.scrub_rate.0;
        settings.new_store_id = chance();
        settings
    }

    /// Memory by part, the core's own apart.
    fn memory_of(&self, stats: &engine::Stats) -> Vec<(&'static str, u64)> {
        vec![
            ("log_index", stats.memory.log_index),
            ("extents", stats.memory.extents),
            ("dead_sets", stats.memory.dead_sets),
            ("queues", stats.memory.queues),
            ("facts", stats.memory.facts),
            ("spill_index", stats.spill_index_bytes),
            ("spilling", stats.spill_waiting_bytes),
            ("publishing", self.hub.publishing_bytes()),
            ("half_sent", self.hub.half_sent_bytes().load(Ordering::Relaxed)),
        ]
    }

    async fn figures(&self) -> MetricsSnapshot {
        let core = match self.ask("/".into(), Op::Stats).await {
            Some(Reply::Stats(stats)) => stats,
            _ => CoreStats::default(),
        };
        let stats = self.open.get().map(|open| open.gauge.stats()).unwrap_or_default();
        let memory_parts = memory_parts(&core, &self.memory_of(&stats));
        MetricsSnapshot {
            core,
            engine: figures(&stats),
            publishers_held: self.hub.publishers_held().is_some(),
            memory_budget_bytes: self.settings.memory_budget.0,
            memory_parts,
            queues: self.queues().await,
        }
    }

    /// Queues of all virtual hosts, as many as are shown.
    async fn queues(&self) -> Vec<QueueFigures> {
        let vhosts = match self.ask("/".into(), Op::ListVhosts).await {
            Some(Reply::Vhosts(vhosts)) => vhosts,
            _ => Vec::new(),
        };
        let mut queues = Vec::new();
        for vhost in vhosts {
            // One that is gone by now has none.
            let Some(Reply::Queues(rows)) =
                self.ask(Arc::clone(&vhost.name), Op::ListQueues { name: None }).await
            else {
                continue;
            };
            let room = QUEUES_MAX - queues.len();
            queues.extend(rows.into_iter().take(room).map(|row| QueueFigures {
                vhost: Arc::clone(&vhost.name),
                name: row.name,
                messages_ready: row.messages_ready,
                messages_unacknowledged: row.messages_unacknowledged,
                consumers: row.consumers,
            }));
        }
        queues
    }

    async fn ask(&self, vhost: Arc<str>, op: Op) -> Option<Reply> {
        self.hub.request(Caller::default(), vhost, op).await.ok()
    }
}

impl MetricsSource for RealBackend {
    fn snapshot(&self) -> SnapshotFuture<'_> {
        Box::pin(self.figures())
    }
}

impl StatusSource for RealBackend {
    fn server_status(&self) -> ServerStatus {
        let open = self.open.get();
        let stats = open.map(|open| open.gauge.stats()).unwrap_or_default();
        ServerStatus {
            version: version::VERSION.to_owned(),
            format_version: FORMAT_VERSION.into(),
            data_dir: self.settings.data_dir.display().to_string(),
            fsync: self.settings.fsync.to_string(),
            epoch: open.map_or(0, |open| open.epoch),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            recovery_ms: open.map_or(0, |open| open.recovery_ms),
            recovered_clean: open.is_some_and(|open| open.clean),
            memory_budget_bytes: self.settings.memory_budget.0,
            log_bytes: stats.log_bytes,
            log_segments: stats.log_segments,
            log_syncs_total: stats.syncs_total,
            log_frames_total: stats.frames_total,
            checkpoints_total: stats.checkpoints_total,
            recycled_total: stats.recycled_total,
            disk_free_bytes: stats.disk_free_bytes,
            publishers_held: match self.hub.publishers_held() {
                None => String::new(),
                Some(engine::Pressure::DiskLow) => "disk-low".to_owned(),
                Some(engine::Pressure::SettlingLags) => "settling-lags".to_owned(),
                Some(engine::Pressure::SpillingLags) => "spilling-lags".to_owned(),
            },
            blob_files: stats.blob_files,
            blob_bytes: stats.blob_bytes,
            blob_live_bytes: stats.blob_live_bytes,
            blob_bytes_total: stats.blob_bytes_total,
            settled_segments: stats.settled_segments,
            settled_bytes: stats.settled_bytes,
            settled_live_bytes: stats.settled_live_bytes,
            log_record_bytes_total: stats.record_bytes_total,
            settle_bytes_total: stats.settle_bytes_total,
            merge_bytes_total: stats.merge_bytes_total,
            checkpoint_bytes_total: stats.checkpoint_bytes_total,
            background_errors_total: stats.background_errors_total,
            oldest_unsettled_ms: stats.oldest_unsettled_ms,
            settled_dead_bytes: stats.settled_dead_bytes(),
            reserve_bytes: stats.reserve_bytes,
            out_of_space_total: stats.out_of_space_total,
            scrub_bytes_total: stats.scrub_bytes_total,
            scrub_passes_total: stats.scrub_passes_total,
            scrub_findings_total: stats.scrub_findings_total,
            damage: open.map(|open| open.gauge.damage()).unwrap_or_default(),
            write_amplification: stats.write_amplification(),
            memory: self.memory_of(&stats),
            spilled_messages: stats.spilled_messages,
            spilled_bytes: stats.spilled_bytes,
            spill_bytes_total: stats.spill_bytes_total,
        }
    }
}

impl Backend for RealBackend {
    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn open(&self) -> Result<Recovery, Stopped> {
        self.start()
    }

    fn settled(&self) -> SettledFuture<'_> {
        Box::pin(self.hub.barrier())
    }

    fn failed(&self) -> FailureFuture<'_> {
        let mut ended = self.ended.subscribe();
        Box::pin(async move {
            match ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone()) {
                Some(Ended::Failed(why)) => why,
                _ => "the core thread ended by itself".to_owned(),
            }
        })
    }

    fn close(&self) -> Result<(), Stopped> {
        self.inbox.push(Envelope::Close);
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner).take();
        if core.is_some_and(|core| core.join().is_err()) {
            return Err(Stopped::refused(
                "the core thread panicked; the log is sound, the next start recovers it",
            ));
        }
        match &*self.ended.borrow() {
            Some(Ended::Failed(why)) => Err(Stopped::refused(why.clone())),
            _ => Ok(()),
        }
    }
}

fn figures(stats: &engine::Stats) -> EngineFigures {
    EngineFigures {
        log_bytes: stats.log_bytes,
        log_segments: stats.log_segments,
        spare_segments: stats.spare_segments,
        syncs_total: stats.syncs_total,
        frames_total: stats.frames_total,
        frame_bytes_total: stats.frame_bytes_total,
        record_bytes_total: stats.record_bytes_total,
        checkpoints_total: stats.checkpoints_total,
        recycled_total: stats.recycled_total,
        spilled_messages: stats.spilled_messages,
        spilled_bytes: stats.spilled_bytes,
        spilled_total: stats.spilled_total,
        spill_bytes_total: stats.spill_bytes_total,
        spill_moved_bytes_total: stats.spill_moved_bytes_total,
        blob_files: stats.blob_files,
        blob_bytes: stats.blob_bytes,
        blob_live_bytes: stats.blob_live_bytes,
        blobs_total: stats.blobs_total,
        blob_bytes_total: stats.blob_bytes_total,
        blob_files_removed_total: stats.blob_files_removed_total,
        settled_segments: stats.settled_segments,
        settled_bytes: stats.settled_bytes,
        settled_live_bytes: stats.settled_live_bytes,
        settle_bytes_total: stats.settle_bytes_total,
        merge_bytes_total: stats.merge_bytes_total,
        settled_removed_total: stats.settled_removed_total,
        checkpoint_bytes_total: stats.checkpoint_bytes_total,
        background_errors_total: stats.background_errors_total,
        oldest_unsettled_ms: stats.oldest_unsettled_ms,
        settled_dead_bytes: stats.settled_dead_bytes(),
        reserve_bytes: stats.reserve_bytes,
        out_of_space_total: stats.out_of_space_total,
        scrub_bytes_total: stats.scrub_bytes_total,
        scrub_passes_total: stats.scrub_passes_total,
        scrub_findings_total: stats.scrub_findings_total,
        sync_latency_us: stats.sync_times.buckets,
        sync_latency_us_total: stats.sync_times.total_us,
        durable_ticket: stats.durable.0,
        confirmable_ticket: stats.confirmable.0,
    }
}

/// A sender's turn holds its thread for as long as a sync takes: with only one, all connections would wait for the disk,
/// with more, those that this thread had been about to look after (at most one that the others cannot take over). To move
/// on to another thread before it (`block_in_place`) costs as much as the turn saves.
fn senders_may_turn() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.metrics().num_workers() > 1)
}

/// Gives a new store its first virtual host and user. Before anybody else is heard, so that nobody finds it without; what
/// they are told is behind it in the log.
fn make_defaults(host: &mut Host) -> Result<(), Stopped> {
    if host.defaults_made() {
        return Ok(());
    }
    let hash = auth::guest_hash()
        .ok_or_else(|| Stopped::refused("no random bytes from the operating system for a password's hash"))?;
    let op = Op::MakeDefaults { user: auth::GUEST.into(), password_hash: PasswordHash(hash.into()) };
    // The hub counts from 1.
    let req = ReqId(0);
    let input = Input::Request { req, conn: None, chan: None, user: None, vhost: "/".into(), op };
    // There is nobody to be told of anything yet.
    host.turn([input], now_ms(), &mut Vec::new());
    host.kick();
    Ok(())
}

/// What an operator should know of the recovery.
fn tell(report: &engine::Report) {
    for note in &report.notes {
        info!("{note}");
    }
    for damaged in &report.damaged {
        error!("{damaged}. What else the store holds is served; `leveret check` says more");
    }
    for (queue, lost) in &report.lost {
        error!(
            queue = queue.0,
            lost, "messages of this queue live, but their records are lost with that file"
        );
    }
    if let Some(cut) = &report.cut {
        warn!(
            file = cut.file,
            offset = cut.offset,
            bytes = cut.bytes,
            why = cut.why,
            "the log had a torn tail, which was never confirmed and is cut",
        );
    }
    if report.frames_copied > 0 {
        info!(frames = report.frames_copied, "frames that were written last were copied and synced");
    }
}

fn stopped(error: engine::Error) -> Stopped {
    let exit = match error {
        engine::Error::Damage { .. } => Exit::NeedsRepair,
        _ => Exit::Refused,
    };
    Stopped { exit, text: error.to_string() }
}

/// A key of this life of the process. Without a secret one there is no start: names would be anybody's guess.
fn name_key() -> Result<NameKey, Stopped> {
    let mut key = [0; NameKey::BYTES];
    getrandom::fill(&mut key)
        .map_err(|error| Stopped::refused(format!("no random bytes from the operating system: {error}")))?;
    Ok(NameKey::new(key))
}

/// Chance for ids; nothing secret hangs on it.
fn chance() -> u64 {
    let time =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    fastrand::u64(1..) ^ time.rotate_left(17) | 1
}

#[cfg(test)]
mod tests;
