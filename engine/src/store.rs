//! The store's front: what its owner calls. The owner is one thread; the workers are the store's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::batch::{Batch, Put, Urgency};
use crate::blobs::{BlobWriter, Blobs};
use crate::controls::Control;
use crate::disk::{Disk, SyncTimes};
use crate::error::{Error, Result};
use crate::fetch::{Fetch, Fetched};
use crate::format::{FRAME_HEADER_BYTES, FRAME_TRAILER_BYTES};
use crate::ids::{Epoch, QueueId, Seq, Ticket};
use crate::keeper::Keeper;
use crate::ledger::{Ledger, LedgerMemory};
use crate::reader::Reader;
use crate::recovery::{self, Report};
use crate::scrub::Scrub;
use crate::settings::Settings;
use crate::settler::Settler;
use crate::shared::{Delivered, Pending, Pressure, Shared, lock};
use crate::volatile::Spiller;
use crate::writer::Writer;

#[cfg(all(test, feature = "sim"))]
mod tests;

/// An open store. Commits are applied in order, whole, and survive a crash as a prefix: at least as long as what
/// [`Store::confirmable`] told, by the fsync policy.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    next_ticket: Ticket,
    /// Per queue, the place after the newest one that was committed: below it, what was left out is a transient place.
    logged: BTreeMap<QueueId, Seq>,
}

/// The store's workers. Each is called in a loop, by a thread of its own or by a test's scheduler.
#[derive(Debug)]
pub struct Workers {
    /// Writes the log.
    pub writer: Writer,
    /// Answers fetches.
    pub reader: Reader,
    /// Checkpoints, recycling, segments ahead of need.
    pub keeper: Keeper,
    /// Settles old log segments and merges settled ones.
    pub settler: Settler,
    /// Writes transient messages beyond the memory budget to volatile segments.
    pub spiller: Spiller,
    /// Looks for what went bad.
    pub scrub: Scrub,
    /// Writes bodies of large messages, and gives back those that are dead.
    pub blobs: BlobWriter,
}

/// What an open found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// This opening.
    pub epoch: Epoch,
    /// The next id for a new queue.
    pub next_queue: QueueId,
    /// Every fact, in order of keys.
    pub facts: Vec<(Bytes, Bytes)>,
    /// Every queue, in order of ids.
    pub queues: Vec<RecoveredQueue>,
    /// How the open went.
    pub report: Report,
}

/// One queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredQueue {
    /// Its id.
    pub queue: QueueId,
    /// The next free place.
    pub next: Seq,
    /// The first live place; `next` where there is none.
    pub head: Seq,
    /// Live messages.
    pub live: u64,
    /// Dead places from `head` on, as inclusive ranges in order.
    pub dead: Vec<(Seq, Seq)>,
    /// Everything below may have been delivered before.
    pub redelivered_below: Seq,
    /// Single places from there on that were delivered before, as inclusive ranges in order.
    pub redelivered: Vec<(Seq, Seq)>,
}

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

impl Store {
    /// Opens the store on a disk, or makes one there. Nothing works before the workers are stepped; see
    /// [`crate::start_threads`].
    ///
    /// # Errors
    /// [`Error::Damage`] when the data is not what was written; nothing was changed then.
    pub fn open(disk: &Arc<dyn Disk>, settings: Settings) -> Result<(Self, Workers, Recovered)> {
        let opened = recovery::open(disk, settings)?;
        let shared = opened.shared;
        lock(&shared.damage).clone_from(&opened.report.damaged);
        let recovered = recovered(&lock(&shared.ledger), &shared.settings, opened.report);
        let logged = recovered.queues.iter().map(|queue| (queue.queue, queue.next)).collect();
        let workers = Workers {
            writer: Writer::new(Arc::clone(&shared), opened.end, opened.durable_frame),
            reader: Reader::new(Arc::clone(&shared)),
            keeper: Keeper::new(Arc::clone(&shared), opened.kept),
            settler: Settler::new(Arc::clone(&shared)),
            spiller: Spiller::new(Arc::clone(&shared)),
            scrub: Scrub::new(Arc::clone(&shared)),
            blobs: BlobWriter::new(Arc::clone(&shared)),
        };
        Ok((Self { shared, next_ticket: Ticket(1), logged }, workers, recovered))
    }

    /// Commits a batch: returns at once; it is safe when [`Store::confirmable`] reaches the ticket. The writer is not
    /// woken: see [`Store::kick`].
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`] when no segment could hold it; nothing was changed then.
    pub fn commit(&mut self, mut batch: Batch, urgency: Urgency) -> Result<Ticket> {
        self.fill_holes(&mut batch);
        let bytes_max = self.shared.settings.batch_bytes_max();
        if batch.bytes() > bytes_max {
            return Err(Error::BatchTooLarge { bytes: batch.bytes(), bytes_max });
        }
        for queue in &batch.queues_created {
            self.logged.insert(*queue, Seq(1));
        }
        for put in &batch.puts {
            for &(queue, seq) in &put.targets {
                let logged = self.logged.get_mut(&queue);
                *logged.expect("puts name queues that exist") = seq.next();
            }
        }
        for queue in &batch.queues_deleted {
            self.logged.remove(queue);
        }
        let ticket = self.next_ticket;
        self.next_ticket = ticket.next();
        let mut inbox = lock(&self.shared.inbox);
        inbox.urgent += usize::from(urgency == Urgency::Now);
        inbox.waiting.push_back(Pending { ticket, batch, urgency });
        Ok(ticket)
    }

    /// Wakes the writer for what was committed. Once after several commits is enough; without it they wait.
    pub fn kick(&self) {
        self.shared.ring(|bells| bells.ring_writer());
    }

    /// Largest batch that [`Store::commit`] takes, in bytes of the log.
    pub fn batch_bytes_max(&self) -> u64 {
        self.shared.settings.batch_bytes_max()
    }

    /// Newest ticket whose confirm may go out, by the fsync policy. Never falls.
    pub fn confirmable(&self) -> Ticket {
        Ticket(self.shared.confirmable.load(Ordering::Acquire))
    }

    /// Newest ticket that an fdatasync has covered. Never falls, never passes `confirmable`.
    pub fn durable(&self) -> Ticket {
        self.shared.durable()
    }

    /// Asks for live messages of a queue; the answer comes by [`Store::answers`].
    pub fn fetch(&self, fetch: Fetch) {
        lock(&self.shared.fetches).push_back(fetch);
        self.shared.ring(|bells| bells.ring_reader());
    }

    /// The way in for bodies of large messages.
    pub fn blobs(&self) -> Blobs {
        Blobs::new(&self.shared)
    }

    /// Takes the answers that have come.
    pub fn answers(&self) -> Vec<Fetched> {
        std::mem::take(&mut lock(&self.shared.answers))
    }

    /// Writes a transient message to a volatile segment, for the places given; they are no places of the log. Its owner
    /// keeps the message in memory until [`Store::spilled`] names them. From then on fetches answer them like others,
    /// until they are released or the store is closed, however it ends. A write that fails is tried again.
    pub fn spill(&self, put: Put) {
        lock(&self.shared.volatile).spill(put, self.shared.settings.spill_waiting_bytes);
        self.shared.ring(|bells| bells.ring_spiller());
    }

    /// Takes the places that were spilled since the last call and not released before. Its owner is woken for them.
    pub fn spilled(&self) -> Vec<(QueueId, Seq)> {
        lock(&self.shared.volatile).spilled()
    }

    /// Spilled places of an inclusive range are not wanted any more, or those that were to be spilled. Others are
    /// ignored.
    pub fn release(&self, queue: QueueId, first: Seq, last: Seq) {
        lock(&self.shared.volatile).release(queue, first, last);
        self.shared.ring(|bells| bells.ring_spiller());
    }

    /// The first fatal error, if there was one: confirms have stopped, and the process must end.
    pub fn failure(&self) -> Option<Arc<Error>> {
        self.shared.failure()
    }

    /// Latches a failure of its owner, as if the disk had failed: nothing is confirmed any more, the workers end.
    pub fn fail(&self, error: Error) {
        self.shared.fail(error);
    }

    /// Begins the close: what was committed is written and synced, then a checkpoint and the mark of a clean close.
    /// `delivered`: per queue, the places known to have been delivered (E10). The workers end by themselves.
    pub fn close(&self, delivered: Delivered) {
        lock(&self.shared.inbox).closing = Some(delivered);
        self.shared.ring(|bells| {
            bells.ring_writer();
            bells.ring_keeper();
            bells.ring_reader();
            bells.ring_settler();
            bells.ring_spiller();
            bells.ring_blobs();
        });
    }

    /// What went wrong in the background or was found to be damaged since the last call, for the operator.
    pub fn findings(&self) -> Vec<String> {
        if !self.shared.has_findings.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        lock(&self.shared.findings).drain(..).collect()
    }

    /// Why nothing new should be published for now, if so. Its owner is woken when that changes.
    pub fn pressure(&self) -> Option<Pressure> {
        let spilling = || lock(&self.shared.volatile).pressure(self.shared.settings.spill_waiting_bytes);
        Pressure::from_number(self.shared.pressure.load(Ordering::Acquire)).or_else(spilling)
    }

    /// Times that a message which lives was asked for and could not be read, since the open.
    pub fn unreadable(&self) -> u64 {
        self.shared.counters.unreadable.load(Ordering::Relaxed)
    }

    /// Places that the scrub found to be damaged, since the open.
    pub fn damage_found(&self) -> u64 {
        self.shared.counters.scrub_findings.load(Ordering::Relaxed)
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        self.gauge().stats()
    }

    /// A handle that reads the figures from any thread.
    pub fn gauge(&self) -> Gauge {
        Gauge { shared: Arc::clone(&self.shared) }
    }

    /// E7: the transient places since a queue's last logged one are acked in the batch that puts the next one. And
    /// acks are cut to places that were logged, so that none is dead before it is given out.
    fn fill_holes(&self, batch: &mut Batch) {
        let mut next: BTreeMap<QueueId, Seq> = BTreeMap::new();
        for queue in &batch.queues_created {
            next.insert(*queue, Seq(1));
        }
        let known =
            |next: &BTreeMap<_, _>, queue| next.get(&queue).or_else(|| self.logged.get(&queue)).copied();
        for put in &batch.puts {
            for &(queue, seq) in &put.targets {
                let Some(expected) = known(&next, queue) else { continue };
                if seq > expected && !self.shared.settings.has(Control::HoleCountedLive) {
                    batch.holes.push((queue, expected, Seq(seq.0 - 1)));
                }
                next.insert(queue, seq.next());
            }
        }
        batch.acks.retain_mut(|(queue, first, last)| {
            let Some(logged) = known(&next, *queue) else { return false };
            *last = (*last).min(Seq(logged.0 - 1));
            *first <= *last
        });
    }
}

/// Reads a store's figures from any thread.
#[derive(Debug, Clone)]
pub struct Gauge {
    shared: Arc<Shared>,
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
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
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

fn recovered(ledger: &Ledger, settings: &Settings, report: Report) -> Recovered {
    let again = settings.has(Control::SeqTwice) && !report.created;
    let queues = ledger.queues.iter().map(|(id, queue)| RecoveredQueue {
        queue: *id,
        next: if again && queue.next > Seq(1) { Seq(queue.next.0 - 1) } else { queue.next },
        head: queue.head.min(queue.next),
        live: if again && queue.is_live(Seq(queue.next.0 - 1)) { queue.live() - 1 } else { queue.live() },
        dead: queue.dead.to_ranges(),
        redelivered_below: queue.redelivered_below,
        redelivered: queue.redelivered.to_ranges(),
    });
    Recovered {
        epoch: report.epoch,
        next_queue: ledger.next_queue,
        facts: copies(&ledger.facts),
        queues: queues.collect(),
        report,
    }
}

/// All facts in one piece of memory, which goes at once when the owner has read them. Clones would make each of ours
/// shared for good, which takes more than a short fact itself.
fn copies(facts: &BTreeMap<Bytes, Bytes>) -> Vec<(Bytes, Bytes)> {
    let mut all = Vec::with_capacity(facts.iter().map(|(key, value)| key.len() + value.len()).sum());
    for (key, value) in facts {
        all.extend_from_slice(key);
        all.extend_from_slice(value);
    }
    let mut rest = Bytes::from(all);
    facts.iter().map(|(key, value)| (rest.split_to(key.len()), rest.split_to(value.len()))).collect()
}
