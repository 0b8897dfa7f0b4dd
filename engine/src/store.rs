//! The store's front: what its owner calls. The owner is one thread; the workers are the store's own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::batch::{Batch, Put, Urgency};
use crate::blobs::{BlobWriter, Blobs};
use crate::controls::Control;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::fetch::{Fetch, Fetched};
use crate::ids::{Epoch, QueueId, Seq, Ticket};
use crate::keeper::Keeper;
use crate::ledger::Ledger;
use crate::reader::Reader;
use crate::record;
use crate::recovery::{self, Report};
use crate::scrub::Scrub;
use crate::settings::Settings;
use crate::settler::Settler;
use crate::shared::{Delivered, Pending, Pressure, Shared, lock};
use crate::volatile::Spiller;
use crate::writer::Writer;

mod stats;
#[cfg(all(test, feature = "sim"))]
mod tests;

pub use stats::{Gauge, Stats};

/// An open store. Commits are applied in order, whole, and survive a crash as a prefix: at least as long as what
/// [`Store::confirmable`] told, by the fsync policy.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    next_ticket: Ticket,
    /// Per queue, the place after the newest one that was committed: below it, what was left out is a transient place.
    logged: HashMap<QueueId, Seq>,
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
        batch.gather();
        self.take_in(&mut batch)?;
        // Here, not where the log is written: another thread would have to read, and to free, what messages are made of.
        let encoded = record::encode_batch(batch);
        let ticket = self.next_ticket;
        self.next_ticket = ticket.next();
        let mut inbox = lock(&self.shared.inbox);
        inbox.urgent += usize::from(urgency == Urgency::Now);
        inbox.waiting.push_back(Pending { ticket, encoded, urgency });
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
        let large = || lock(&self.shared.bodies).is_stuck().then_some(Pressure::DiskLow);
        let spilling = || lock(&self.shared.volatile).pressure(self.shared.settings.spill_waiting_bytes);
        Pressure::from_number(self.shared.pressure.load(Ordering::Acquire)).or_else(large).or_else(spilling)
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

    /// Counts a batch's places as logged, unless it is too large.
    ///
    /// E7: the transient places since a queue's last logged one are acked in the batch that puts the next one. And
    /// acks are cut to places that were logged, so that none is dead before it is given out.
    fn take_in(&mut self, batch: &mut Batch) -> Result<()> {
        for queue in &batch.queues_created {
            self.logged.insert(*queue, Seq(1));
        }
        let mut before = Vec::with_capacity(batch.messages.runs.len());
        for &(queue, first, last) in &batch.messages.runs {
            let logged = self.logged.get_mut(&queue).expect("puts name queues that exist");
            before.push((queue, *logged));
            if first > *logged && !self.shared.settings.has(Control::HoleCountedLive) {
                batch.holes.push((queue, *logged, Seq(first.0 - 1)));
            }
            *logged = last.next();
        }
        let (bytes, bytes_max) = (batch.bytes(), self.shared.settings.batch_bytes_max());
        if bytes > bytes_max {
            self.logged.extend(before.into_iter().rev());
            for queue in &batch.queues_created {
                self.logged.remove(queue);
            }
            return Err(Error::BatchTooLarge { bytes, bytes_max });
        }
        batch.acks.retain_mut(|(queue, first, last)| {
            let Some(logged) = self.logged.get(queue) else { return false };
            *last = (*last).min(Seq(logged.0 - 1));
            *first <= *last
        });
        for queue in &batch.queues_deleted {
            self.logged.remove(queue);
        }
        Ok(())
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
        facts: ledger.facts_in_one_piece(),
        queues: queues.collect(),
        report,
    }
}
