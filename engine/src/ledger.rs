//! What the store knows as of the newest durable frame: facts, queues, which places are dead, and where in the log
//! the live ones stand. Checkpoints, recycling and reads see this and nothing newer (E3).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::blobs::BlobPlace;
use crate::ids::{FileId, FrameNo, QueueId, SegmentNo, Seq};
use crate::ranges::Places;
use crate::record::{Changes, Record};
use crate::settled::Extent;

mod blobs;
mod live;
mod memory;
mod queue;

#[cfg(test)]
mod tests;

pub(crate) use blobs::LiveBlobs;
pub(crate) use live::{LiveCount, Weight, Weights};
pub use memory::LedgerMemory;
pub(crate) use queue::{At, Found, Queue, Settled};
use queue::{Chunk, Run};

/// Extents, and queues, that are looked at while the ledger is held once.
const LOOK_EXTENTS: usize = 4_096;
const LOOK_QUEUES: usize = 1_024;

/// What the owner keeps under a key, by key. Slices of their own, since a start may hold hundreds of thousands.
pub(crate) type Facts = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The state. Only whole groups of frames are applied to it, in log order, once a sync has covered them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) facts: Facts,
    /// Boxed, since a tree that grows at its end leaves every other place of what it holds free.
    pub(crate) queues: BTreeMap<QueueId, Box<Queue>>,
    /// Ids below it that are not in `queues` are deleted queues.
    pub(crate) next_queue: QueueId,
    /// The newest frame applied.
    pub(crate) cut: FrameNo,
    /// Log segments below it are settled: where their messages stand is told by extents.
    pub(crate) settled_below: SegmentNo,
    /// Bodies in blob files that live.
    pub(crate) blobs: LiveBlobs,
    segments: BTreeMap<SegmentNo, SegmentUse>,
    settled: BTreeMap<FileId, SettledUse>,
}

#[derive(Debug, Default)]
struct SegmentUse {
    /// Queues with places in the segment.
    queues: Vec<QueueId>,
    /// So many of them, from the end, were found without a live place in it. Dead stays dead.
    found_dead: usize,
}

/// A settled segment.
#[derive(Debug, Default)]
struct SettledUse {
    /// So many extents were taken in.
    extents: u64,
    /// Bytes of their records.
    bytes: u64,
    /// What of it lived when a survey came by last.
    live_bytes: u64,
}

/// How much of a settled segment lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SettledShare {
    pub(crate) file: FileId,
    pub(crate) extents: u64,
    pub(crate) bytes: u64,
    pub(crate) live_bytes: u64,
}

/// Extents of a queue that stand in some settled segments, in the order of their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) here: Settled,
    /// Nothing of the queue stands between it and the part before it.
    pub(crate) joins: bool,
}

impl Ledger {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { next_queue: QueueId(1), ..Self::default() }
    }

    /// Applies a committed batch whose group starts at that block.
    pub(crate) fn apply_changes(&mut self, segment: SegmentNo, block: u32, changes: &Changes) {
        for queue in &changes.queues_created {
            self.create_queue(*queue);
        }
        for &(queue, first, last) in &changes.holes {
            self.ack(queue, first, last);
        }
        for &(queue, first, last) in &changes.runs {
            self.put(segment, block, queue, (first, last));
        }
        for (queue, seq, blob) in &changes.blobs {
            self.name_blob(*queue, *seq, blob.place());
        }
        for &(queue, first, last) in &changes.acks {
            self.ack(queue, first, last);
        }
        for (key, value) in &changes.facts {
            match value {
                // Copied, so that what the batch holds beside it goes with the batch.
                Some(value) => self.set_fact(key, value),
                None => drop(self.facts.remove(&key[..])),
            }
        }
        for queue in &changes.queues_deleted {
            self.delete_queue(*queue);
        }
    }

    /// Applies the places of a message that a replay read, behind the checkpoint's cut.
    pub(crate) fn apply_put(
        &mut self,
        segment: SegmentNo,
        block: u32,
        targets: impl Iterator<Item = (QueueId, Seq)>,
        blob: Option<BlobPlace>,
    ) {
        for (queue, seq) in targets {
            self.put(segment, block, queue, (seq, seq));
            if let Some(place) = blob {
                self.name_blob(queue, seq, place);
            }
        }
    }

    /// Takes from a message's places, at or before the checkpoint's cut, what the checkpoint does not hold: where they
    /// stand.
    pub(crate) fn index_put(
        &mut self,
        segment: SegmentNo,
        block: u32,
        targets: impl Iterator<Item = (QueueId, Seq)>,
    ) {
        if segment < self.settled_below {
            return;
        }
        for (id, seq) in targets {
            if let Some(queue) = self.queues.get_mut(&id)
                && queue.is_live(seq)
            {
                Self::index(&mut self.segments, segment, block, id, queue, (seq, seq));
            }
        }
    }

    /// Applies a record that a replay read, behind the checkpoint's cut.
    pub(crate) fn apply_record(&mut self, segment: SegmentNo, block: u32, record: Record) {
        match record {
            Record::Put { targets, blob, .. } => self.apply_put(segment, block, targets.into_iter(), blob),
            Record::Ack { queue, first, last } => self.ack(queue, first, last),
            // Copied: a slice would keep the whole frame in memory, 4 KiB for a fact of a few bytes.
            Record::Fact { key, value } => self.set_fact(&key, &value),
            Record::Unfact { key } => drop(self.facts.remove(&key[..])),
            Record::QueueCreated { queue } => self.create_queue(queue),
            Record::QueueDeleted { queue } => self.delete_queue(queue),
        }
    }

    /// Takes from a record at or before the checkpoint's cut what the checkpoint does not hold: where puts stand.
    pub(crate) fn index_record(&mut self, segment: SegmentNo, block: u32, record: &Record) {
        if let Record::Put { targets, .. } = record {
            self.index_put(segment, block, targets.iter().copied());
        }
    }

    /// A recovery copied the record's group: its live places stand there now, behind all others.
    pub(crate) fn move_record(&mut self, segment: SegmentNo, block: u32, record: &Record) {
        let Record::Put { targets, .. } = record else { return };
        for &(id, seq) in targets {
            if let Some(queue) = self.queues.get_mut(&id)
                && queue.is_live(seq)
            {
                queue.unindex(seq, segment);
                Self::index(&mut self.segments, segment, block, id, queue, (seq, seq));
            }
        }
    }

    /// Whether a segment holds no live place. Gets cheaper the more of it was found dead before.
    pub(crate) fn is_dead(&mut self, segment: SegmentNo) -> bool {
        let Some(used) = self.segments.get_mut(&segment) else { return true };
        while let Some(index) = used.queues.len().checked_sub(used.found_dead + 1) {
            let queue = self.queues.get(&used.queues[index]);
            if queue.is_some_and(|queue| queue.lives_in(segment)) {
                return false;
            }
            used.found_dead += 1;
        }
        true
    }

    /// Per queue, what lives of a log segment from a 4 KiB block on.
    pub(crate) fn lives_from(&self, segment: SegmentNo, block: u32) -> Vec<(QueueId, u64)> {
        let live = |id: &QueueId| Some((*id, self.queues.get(id)?.lives_from(segment, block)));
        self.queues_in(segment).iter().filter_map(live).collect()
    }

    /// Forgets a dead segment.
    pub(crate) fn forget(&mut self, segment: SegmentNo) {
        let Some(used) = self.segments.remove(&segment) else { return };
        for id in used.queues {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.chunks.remove(&segment);
            }
        }
    }

    /// A settled segment is listed; its extents are told by [`Ledger::replace`].
    pub(crate) fn add_settled(&mut self, file: FileId) {
        self.settled.entry(file).or_default();
    }

    /// Takes a queue's places in log segments below `below`, and in settled segments that are `removed`, out of the
    /// index, and its extents of a listed settled segment in: at once, so that a reader always finds every place that
    /// lives.
    pub(crate) fn replace(
        &mut self,
        id: QueueId,
        below: SegmentNo,
        removed: &[FileId],
        file: FileId,
        extents: &[Extent],
    ) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if queue.chunks.first_key_value().is_some_and(|(first, _)| *first < below) {
            queue.chunks = queue.chunks.split_off(&below);
        }
        queue.replace_extents(removed, file, extents);
        for extent in extents {
            let used = self.settled.entry(file).or_default();
            used.extents += 1;
            used.bytes += extent.bytes;
            used.live_bytes += extent.bytes;
        }
    }

    /// Forgets a settled segment whose extents have left the index ([`Ledger::replace`]).
    pub(crate) fn forget_settled(&mut self, file: FileId) {
        self.settled.remove(&file);
    }

    /// The queues with places in a log segment.
    pub(crate) fn queues_in(&self, segment: SegmentNo) -> &[QueueId] {
        self.segments.get(&segment).map_or(&[], |used| &used.queues)
    }

    /// Parts of some settled segments, queue by queue from that one on, a bounded number of queues at a time so that the
    /// ledger is not held for long; and the queue to go on with, if there are more.
    pub(crate) fn parts(&self, files: &[FileId], from: QueueId) -> (Vec<Part>, Option<QueueId>) {
        let mut parts: Vec<Part> = Vec::new();
        let mut looked_at = 0;
        for (id, queue) in self.queues.range(from..) {
            if looked_at >= LOOK_EXTENTS + LOOK_QUEUES {
                return (parts, Some(*id));
            }
            looked_at += queue.extents().len() + 1;
            // One before it is of the same queue and taken as well.
            let mut before: Option<Extent> = None;
            for here in queue.extents() {
                if !files.contains(&here.file) {
                    before = None;
                    continue;
                }
                // What lives in between is in a settled segment that is missing, and may come back.
                let joins = before
                    .is_some_and(|before| queue.live_between(before.last.next(), here.extent.first) == 0);
                parts.push(Part { here: *here, joins });
                before = Some(here.extent);
            }
        }
        (parts, None)
    }

    /// Counts what lives of the settled segments that `count` names, some queues at a time; and the queue to go on with, if
    /// there are more.
    pub(crate) fn count_live(&self, count: &mut LiveCount<'_>, from: QueueId) -> Option<QueueId> {
        let mut looked_at = 0;
        for (id, queue) in self.queues.range(from..) {
            if looked_at >= LOOK_EXTENTS + LOOK_QUEUES {
                return Some(*id);
            }
            looked_at += queue.extents().len() + 1;
            for here in queue.extents() {
                count.add(here, queue.live_between(here.extent.first, here.extent.last.next()));
            }
        }
        None
    }

    /// Keeps what a survey found to live.
    pub(crate) fn set_live(&mut self, file: FileId, live_bytes: u64) {
        if let Some(used) = self.settled.get_mut(&file) {
            used.live_bytes = live_bytes;
        }
    }

    /// Every settled segment, with what the last survey found.
    pub(crate) fn settled_shares(&self) -> Vec<SettledShare> {
        let share = |(file, used): (&FileId, &SettledUse)| SettledShare {
            file: *file,
            extents: used.extents,
            bytes: used.bytes,
            live_bytes: used.live_bytes,
        };
        self.settled.iter().map(share).collect()
    }

    /// Everything that lives was possibly delivered before (an unclean open).
    pub(crate) fn mark_all_redelivered(&mut self) {
        for queue in self.queues.values_mut() {
            queue.redelivered_below = queue.next;
            queue.redelivered = Places::default();
        }
    }

    /// All facts, in one piece of memory, which goes at once when the owner has read them.
    pub(crate) fn facts_in_one_piece(&self) -> Vec<(Bytes, Bytes)> {
        let mut all = Vec::with_capacity(self.facts.iter().map(|(key, value)| key.len() + value.len()).sum());
        for (key, value) in &self.facts {
            all.extend_from_slice(key);
            all.extend_from_slice(value);
        }
        let mut rest = Bytes::from(all);
        self.facts.iter().map(|(key, value)| (rest.split_to(key.len()), rest.split_to(value.len()))).collect()
    }

    fn set_fact(&mut self, key: &[u8], value: &[u8]) {
        self.facts.insert(Box::from(key), Box::from(value));
    }

    fn create_queue(&mut self, queue: QueueId) {
        self.next_queue = self.next_queue.max(queue.next());
        self.queues.entry(queue).or_default();
    }

    /// Places that stand one after the other in the group at that block.
    fn put(&mut self, segment: SegmentNo, block: u32, id: QueueId, (first, last): (Seq, Seq)) {
        // A queue that is not there was deleted: its late puts are void.
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.next = queue.next.max(last.next());
        if segment >= self.settled_below {
            Self::index(&mut self.segments, segment, block, id, queue, (first, last));
        }
    }

    pub(crate) fn ack(&mut self, id: QueueId, first: Seq, last: Seq) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.kill(first, last);
        }
        self.release_blobs(id, first, last);
    }

    /// The message at a live place names a body: told by a checkpoint, or by a settled record at a repair.
    pub(crate) fn name_blob(&mut self, id: QueueId, seq: Seq, place: BlobPlace) {
        if self.queues.get_mut(&id).is_some_and(|queue| queue.name_blob(seq, place)) {
            self.blobs.name(place);
        }
    }

    /// These places name no bodies any more.
    pub(crate) fn release_blobs(&mut self, id: QueueId, first: Seq, last: Seq) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        for place in queue.take_blobs(first, last) {
            self.blobs.release(place);
        }
    }

    /// The bug of [`crate::Control::BlobFreedEarly`].
    pub(crate) fn free_early(&mut self, changes: &[Changes]) {
        for &(queue, first, last) in changes.iter().flat_map(|changes| &changes.acks) {
            self.release_blobs(queue, first, last);
        }
    }

    /// A queue is gone, with all that it held.
    pub(crate) fn delete_queue(&mut self, id: QueueId) {
        self.release_blobs(id, Seq(0), Seq(u64::MAX));
        self.queues.remove(&id);
    }

    fn index(
        segments: &mut BTreeMap<SegmentNo, SegmentUse>,
        segment: SegmentNo,
        block: u32,
        id: QueueId,
        queue: &mut Queue,
        (first, last): (Seq, Seq),
    ) {
        if let Some((newest, chunk)) = queue.chunks.iter_mut().next_back()
            && *newest != segment
        {
            // It does not grow any more.
            chunk.runs.shrink_to_fit();
        }
        let chunk = queue.chunks.entry(segment).or_insert_with(|| {
            let used = segments.entry(segment).or_default();
            used.queues.push(id);
            used.found_dead = 0;
            Chunk { first, last, runs: Vec::new() }
        });
        let delta = u32::try_from(first.0 - chunk.first.0).expect("a segment of 4 GiB holds fewer places");
        chunk.last = last;
        if chunk.runs.last().is_none_or(|run| run.block != block) {
            chunk.runs.push(Run { delta, block });
        }
    }
}
