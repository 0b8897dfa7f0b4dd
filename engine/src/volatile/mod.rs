//! Volatile segments: where transient messages go that find no room in memory. Nothing here is ever synced, listed or
//! recovered; the next open removes the files (E12 knows them by name and store id), and a close does, too.
//!
//! ```text
//! Store::spill -> Waiting -> Spiller: chunks of about 1 MiB, sorted by queue -> segment -> Index -> Store::spilled
//!                            Reading: live places of a queue, merged into what the log and settled segments answer
//! Store::release -> Waiting (not written at all) or Index -> a dead segment is removed, a thin one given up
//! ```
//!
//! Disk in proportion to what lives: of a segment of which less than half does, the rest is written again, behind the
//! newest, and the file is removed. A write that fails loses nothing, because the owner holds a message in memory until
//! it is told that it was written; it is tried again. A message that cannot be read is lost, and reported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::batch::{Payload, Put};
use crate::codec::Writer;
use crate::disk::DiskFile;
use crate::error::is_full;
use crate::format::volatile_name;
use crate::ids::{FileId, QueueId, Seq};
use crate::record;
use crate::shared::{Pressure, Shared, Step, lock};

mod header;
mod index;
mod reading;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod waiting;

pub(crate) use header::{encode_header, is_ours};
use index::{Index, Segment};
pub(crate) use reading::{Reading, Recent};
use waiting::{Batch, Waiting};

/// Written at once, about: what is behind it waits so long, and what a fetch reads at a time at most.
const CHUNK_BYTES: u64 = 1 << 20;
/// A segment that is longer is not continued, so that places in it are 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// How long to wait before trying again what failed.
const RETRY_MS: u64 = 1_000;
/// The newest segment goes when nothing in it lived for so long.
const LINGER_MS: u64 = 1_000;

/// What the store's front, the spiller and the reader share of it.
#[derive(Debug, Default)]
pub(crate) struct Volatile {
    waiting: Waiting,
    pub(crate) index: Index,
    /// Written, and not told yet.
    spilled: Vec<(QueueId, Seq)>,
    /// More waits than may.
    lags: bool,
    /// Why the last write failed, if it did.
    failed: Option<std::io::ErrorKind>,
    /// Since the open: bytes written, bytes written again so that a segment could go, and places told to their owner.
    pub(crate) written_bytes: u64,
    pub(crate) moved_bytes: u64,
    pub(crate) spilled_places: u64,
}

impl Volatile {
    /// Takes a message in. `bytes_max`: what may wait in memory before its publishers should.
    pub(crate) fn spill(&mut self, put: Put, bytes_max: u64) {
        self.waiting.push(put);
        self.lags |= self.waiting.bytes() > bytes_max;
    }

    /// Takes what was written since the last call.
    pub(crate) fn spilled(&mut self) -> Vec<(QueueId, Seq)> {
        std::mem::take(&mut self.spilled)
    }

    /// The places of an inclusive range are not wanted any more.
    pub(crate) fn release(&mut self, queue: QueueId, first: Seq, last: Seq) {
        self.waiting.release(queue, first, last);
        self.index.release(queue, first, last);
    }

    /// Why publishers should be held, if so.
    pub(crate) fn pressure(&mut self, bytes_max: u64) -> Option<Pressure> {
        self.lags &= self.waiting.bytes() > bytes_max / 2;
        let full = self.failed.is_some_and(is_full);
        self.lags.then_some(if full { Pressure::DiskLow } else { Pressure::SpillingLags })
    }

    /// What waits in memory to be written, in bytes.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting.bytes()
    }
}

/// Writes volatile segments, and gives them up.
#[derive(Debug)]
pub struct Spiller {
    shared: Arc<Shared>,
    job: Job,
    /// The segment that is written, and its length.
    current: Option<(FileId, Arc<dyn DiskFile>, u64)>,
    /// Nothing is written before this time: the last write failed.
    from_ms: u64,
    /// A segment that is being given up, and its next chunk.
    thin: Option<(FileId, usize)>,
    /// The last thing done was to write what came from outside; so that giving segments up gets its turn, too.
    wrote: bool,
    /// Since when nothing in the newest segment lives.
    dead_since_ms: Option<u64>,
}

#[derive(Debug)]
enum Job {
    None,
    Create(Chunk),
    Write(Chunk),
    /// Reads a chunk of a segment that is given up: where it stands, and how long it is.
    Read(FileId, Arc<dyn DiskFile>, (u32, u32)),
    Remove(FileId),
}

/// What is written at once.
#[derive(Debug)]
struct Chunk {
    records: Vec<u8>,
    /// Per queue, places in order, and where their records begin and end.
    queues: BTreeMap<QueueId, Queue>,
    from: From,
}

#[derive(Debug, Default)]
struct Queue {
    places: Vec<Seq>,
    start: usize,
    end: usize,
}

#[derive(Debug)]
enum From {
    /// The owner, who is told.
    Owner(Batch),
    /// That segment, which is given up.
    Segment(FileId),
}

impl Spiller {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let (current, thin, dead_since_ms) = (None, None, None);
        Self { shared, job: Job::None, current, from_ms: 0, thin, wrote: false, dead_since_ms }
    }

    /// Does the next bit of work: at most one call to the disk.
    pub fn step(&mut self, now_ms: u64) -> Step {
        if self.shared.failure().is_some() {
            return Step::Done;
        }
        match std::mem::replace(&mut self.job, Job::None) {
            Job::None if self.shared.writer_done.load(Ordering::Acquire) => return self.close(),
            Job::None => return self.next_job(now_ms),
            Job::Create(chunk) => self.create(chunk, now_ms),
            Job::Write(chunk) => self.write(chunk, now_ms),
            Job::Read(id, file, place) => self.read(id, file.as_ref(), place),
            Job::Remove(id) => self.remove(id),
        }
        Step::Worked
    }

    fn next_job(&mut self, now_ms: u64) -> Step {
        let shared = Arc::clone(&self.shared);
        let mut volatile = lock(&shared.volatile);
        if let Some(dead) = self.dead(&volatile.index, now_ms) {
            self.job = Job::Remove(dead);
            return Step::Worked;
        }
        let ready = now_ms >= self.from_ms;
        let waits = volatile.waiting.bytes() > 0;
        if ready
            && (self.wrote || !waits)
            && let Some(read) = self.next_thin(&volatile.index)
        {
            self.wrote = false;
            self.job = read;
            return Step::Worked;
        }
        if ready && waits {
            self.wrote = true;
            let batch = volatile.waiting.take(CHUNK_BYTES);
            drop(volatile);
            let messages = batch.iter().map(|(_, put)| (&put.targets, &put.payload));
            let (records, queues) = encode(messages.collect());
            self.job = self.begin(Chunk { records, queues, from: From::Owner(batch) });
            return Step::Worked;
        }
        let again_at =
            if ready { self.dead_since_ms.map(|since| since + LINGER_MS) } else { Some(self.from_ms) };
        Step::Idle { again_ms: again_at.map(|at| at.saturating_sub(now_ms).max(1)) }
    }

    /// A segment in which nothing lives, if there is one to be removed now.
    fn dead(&mut self, index: &Index, now_ms: u64) -> Option<FileId> {
        let current = self.current.as_ref().map(|(id, ..)| *id);
        let is_dead = |id: FileId| index.segments.get(&id).is_some_and(|segment| segment.live == 0);
        match current.filter(|id| is_dead(*id)) {
            None => self.dead_since_ms = None,
            Some(id) => {
                let since = *self.dead_since_ms.get_or_insert(now_ms);
                if now_ms >= since + LINGER_MS {
                    self.current = None;
                    self.dead_since_ms = None;
                    return Some(id);
                }
            }
        }
        index
            .segments
            .iter()
            .find(|(id, segment)| segment.live == 0 && current != Some(**id))
            .map(|(id, _)| *id)
    }

    /// To read the next chunk of a segment that is given up.
    fn next_thin(&mut self, index: &Index) -> Option<Job> {
        let current = self.current.as_ref().map(|(id, ..)| *id);
        loop {
            let (id, next) = match self.thin.take() {
                Some(thin) => thin,
                None => (index.thinnest(current, self.segment_bytes())?, 0),
            };
            let Some(segment) = index.segments.get(&id) else { continue };
            let Some(place) = segment.chunks.get(next) else {
                // Read through, and yet something lives in it: next_thin is not to come back to it for ever.
                debug_assert!(segment.live == 0 || segment.unreadable, "all that lives was moved");
                return None;
            };
            self.thin = Some((id, next + 1));
            return Some(Job::Read(id, Arc::clone(&segment.file), *place));
        }
    }

    /// A segment that is this long is not written to any more: a quarter of one of the log, since two of them stay beside
    /// what lives.
    fn segment_bytes(&self) -> u64 {
        (self.shared.settings.segment_bytes / 4).min(SEGMENT_BYTES_MAX)
    }

    fn begin(&mut self, chunk: Chunk) -> Job {
        if self.current.as_ref().is_some_and(|(.., bytes)| *bytes < self.segment_bytes()) {
            return Job::Write(chunk);
        }
        self.current = None;
        Job::Create(chunk)
    }

    fn create(&mut self, chunk: Chunk, now_ms: u64) {
        let id = self.shared.next_file();
        match self.shared.disk.create(&volatile_name(id), 0) {
            Ok(file) => {
                lock(&self.shared.volatile).index.segments.insert(id, Segment::new(Arc::clone(&file)));
                self.current = Some((id, file, 0));
                self.job = Job::Write(chunk);
            }
            Err(error) => self.failed(chunk, &error, now_ms),
        }
    }

    fn write(&mut self, chunk: Chunk, now_ms: u64) {
        let Some((id, file, bytes)) = &mut self.current else { return };
        let mut front = Vec::new();
        if *bytes == 0 {
            front = encode_header(self.shared.store_id, self.shared.epoch);
        }
        let start = *bytes + front.len() as u64;
        let written = if front.is_empty() {
            file.write_at(*bytes, &chunk.records)
        } else {
            front.extend_from_slice(&chunk.records);
            file.write_at(0, &front)
        };
        if let Err(error) = written {
            // What stands behind the last good chunk is not known; nothing more is written to this file.
            self.current = None;
            return self.failed(chunk, &error, now_ms);
        }
        *bytes = start + chunk.records.len() as u64;
        let (id, end) = (*id, *bytes);
        let mut volatile = lock(&self.shared.volatile);
        let volatile = &mut *volatile;
        volatile.failed = None;
        match chunk.from {
            From::Owner(_) => volatile.written_bytes += chunk.records.len() as u64,
            From::Segment(_) => volatile.moved_bytes += chunk.records.len() as u64,
        }
        if let Some(segment) = volatile.index.segments.get_mut(&id) {
            segment.bytes = end;
            segment.chunks.push((start as u32, chunk.records.len() as u32));
        }
        let told = matches!(chunk.from, From::Owner(_));
        let wanted = if told { volatile.waiting.written() } else { Default::default() };
        for (queue, Queue { mut places, start: from, end }) in chunk.queues {
            match chunk.from {
                From::Owner(_) => places.retain(|seq| wanted.contains(&(queue, *seq))),
                // Where it was not released meanwhile, it lives here from now on.
                From::Segment(old) => {
                    places.retain(|seq| volatile.index.stands_in(queue, *seq, old));
                    for together in places.chunk_by(|one, other| one.next() == *other) {
                        volatile.index.release(queue, together[0], together[together.len() - 1]);
                    }
                }
            }
            if places.is_empty() {
                continue;
            }
            if told {
                volatile.spilled_places += places.len() as u64;
                volatile.spilled.extend(places.iter().map(|seq| (queue, *seq)));
            }
            let place = (start as u32 + from as u32, (end - from) as u32);
            volatile.index.insert(queue, &places, id, place);
        }
        if told {
            self.shared.ring(|bells| bells.ring_owner());
        }
    }

    /// A write that fails loses nothing: its messages are in memory, or in the segment where they were.
    fn failed(&mut self, chunk: Chunk, error: &std::io::Error, now_ms: u64) {
        self.from_ms = now_ms + RETRY_MS;
        self.thin = None;
        let mut volatile = lock(&self.shared.volatile);
        volatile.failed = Some(error.kind());
        if let From::Owner(batch) = chunk.from {
            volatile.waiting.put_back(batch);
        }
        drop(volatile);
        self.shared.find(format!(
            "transient messages stay in memory, beyond its budget, because a volatile segment cannot be written: \
             {error}; it is tried again"
        ));
    }

    /// Writes what lives of a chunk again, behind the newest.
    fn read(&mut self, id: FileId, file: &dyn DiskFile, (offset, bytes): (u32, u32)) {
        let mut buffer = vec![0; bytes as usize];
        let (messages, why) = match file.read_at(u64::from(offset), &mut buffer) {
            Ok(()) => record::decode_messages(Bytes::from(buffer)),
            Err(error) => (Vec::new(), Some(crate::codec::Malformed(error.to_string()))),
        };
        let mut volatile = lock(&self.shared.volatile);
        if let Some(why) = why
            && let Some(segment) = volatile.index.segments.get_mut(&id)
        {
            // Whoever asks for a message of it is told.
            segment.unreadable = true;
            self.shared.find(format!("{} cannot be read: {why}", volatile_name(id)));
        }
        let live = |(targets, payload): record::Message| {
            let stands = |place: &(QueueId, Seq)| volatile.index.stands_in(place.0, place.1, id);
            let targets: Vec<_> = targets.into_iter().filter(stands).collect();
            (!targets.is_empty()).then(|| (targets, Payload { head: payload, body: Bytes::new() }))
        };
        let messages: Vec<_> = messages.into_iter().filter_map(live).collect();
        drop(volatile);
        if !messages.is_empty() {
            let (records, queues) =
                encode(messages.iter().map(|(targets, payload)| (targets, payload)).collect());
            self.job = self.begin(Chunk { records, queues, from: From::Segment(id) });
        }
    }

    fn remove(&mut self, id: FileId) {
        // A file that stays costs room until the next open.
        drop(self.shared.disk.remove(&volatile_name(id)));
        lock(&self.shared.volatile).index.segments.remove(&id);
    }

    /// The store is closing, and nobody asks any more.
    fn close(&mut self) -> Step {
        self.current = None;
        let first = lock(&self.shared.volatile).index.segments.keys().next().copied();
        match first {
            Some(id) => self.remove(id),
            None => return Step::Done,
        }
        Step::Worked
    }
}

/// Encodes messages, those of a queue together.
fn encode(mut messages: Vec<(&Vec<(QueueId, Seq)>, &Payload)>) -> (Vec<u8>, BTreeMap<QueueId, Queue>) {
    messages.sort_by_key(|(targets, _)| targets.first().copied());
    let bytes = messages.iter().map(|(_, payload)| payload.head.len() + payload.body.len() + 64).sum();
    let mut records = Writer(Vec::with_capacity(bytes));
    let mut queues: BTreeMap<QueueId, Queue> = BTreeMap::new();
    for (targets, payload) in messages {
        let start = records.0.len();
        record::encode_message(targets, None, &mut records, |out| payload.write_to(out));
        for (queue, seq) in targets {
            let queue = queues.entry(*queue).or_insert_with(|| Queue { start, ..Queue::default() });
            queue.places.push(*seq);
            queue.end = records.0.len();
        }
    }
    for queue in queues.values_mut() {
        // In a queue that is not the first of all their messages' they may have come in another order.
        queue.places.sort_unstable();
    }
    (records.0, queues)
}
