//! What the store knows as of the newest durable frame: facts, queues, which places are dead, and where in the log
//! the live ones stand. Checkpoints, recycling and reads see this and nothing newer (E3).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::batch::Batch;
use crate::ids::{FrameNo, QueueId, SegmentNo, Seq};
use crate::ranges::Places;
use crate::record::Record;

#[cfg(test)]
mod tests;

/// The state. Only whole groups of frames are applied to it, in log order, once a sync has covered them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) facts: BTreeMap<Bytes, Bytes>,
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    /// Ids below it that are not in `queues` are deleted queues.
    pub(crate) next_queue: QueueId,
    /// The newest frame applied.
    pub(crate) cut: FrameNo,
    segments: BTreeMap<SegmentNo, SegmentUse>,
}

/// One queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Queue {
    /// The place after the newest one put.
    pub(crate) next: Seq,
    /// Everything below is dead.
    pub(crate) head: Seq,
    /// Dead places at or above `head`.
    pub(crate) dead: Places,
    /// Everything below may have been delivered before (E10).
    pub(crate) redelivered_below: Seq,
    /// Single places that were delivered before.
    pub(crate) redelivered: Places,
    chunks: BTreeMap<SegmentNo, Chunk>,
}

/// A queue's places in one log segment. At most 8 bytes for the places that stand together in one group of frames.
#[derive(Debug, Clone, PartialEq)]
struct Chunk {
    first: Seq,
    last: Seq,
    runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    /// The run's first place, from the chunk's first.
    delta: u32,
    /// 4 KiB block of the group's first frame.
    block: u32,
}

#[derive(Debug, Default)]
struct SegmentUse {
    /// Queues with places in the segment.
    queues: Vec<QueueId>,
    /// So many of them, from the end, were found without a live place in it. Dead stays dead.
    found_dead: usize,
}

/// Where the next live places of a queue stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) segment: SegmentNo,
    pub(crate) block: u32,
    /// No place of the queue below this one, and at or above the one asked for, stands anywhere else.
    pub(crate) upto: Seq,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            next: Seq(1),
            head: Seq(1),
            dead: Places::default(),
            redelivered_below: Seq(1),
            redelivered: Places::default(),
            chunks: BTreeMap::new(),
        }
    }
}

impl Ledger {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { next_queue: QueueId(1), ..Self::default() }
    }

    /// Applies a committed batch whose group starts at that block.
    pub(crate) fn apply_batch(&mut self, segment: SegmentNo, block: u32, batch: &Batch) {
        for queue in &batch.queues_created {
            self.create_queue(*queue);
        }
        for &(queue, first, last) in &batch.holes {
            self.ack(queue, first, last);
        }
        for put in &batch.puts {
            for &(queue, seq) in &put.targets {
                self.put(segment, block, queue, seq);
            }
        }
        for &(queue, first, last) in &batch.acks {
            self.ack(queue, first, last);
        }
        for (key, value) in &batch.facts {
            match value {
                Some(value) => drop(self.facts.insert(key.clone(), value.clone())),
                None => drop(self.facts.remove(key)),
            }
        }
        for queue in &batch.queues_deleted {
            self.queues.remove(queue);
        }
    }

    /// Applies a record that a replay read, behind the checkpoint's cut.
    pub(crate) fn apply_record(&mut self, segment: SegmentNo, block: u32, record: Record) {
        match record {
            Record::Put { targets, .. } => {
                for (queue, seq) in targets {
                    self.put(segment, block, queue, seq);
                }
            }
            Record::Ack { queue, first, last } => self.ack(queue, first, last),
            Record::Fact { key, value } => drop(self.facts.insert(key, value)),
            Record::Unfact { key } => drop(self.facts.remove(&key)),
            Record::QueueCreated { queue } => self.create_queue(queue),
            Record::QueueDeleted { queue } => drop(self.queues.remove(&queue)),
        }
    }

    /// Takes from a record at or before the checkpoint's cut what the checkpoint does not hold: where puts stand.
    pub(crate) fn index_record(&mut self, segment: SegmentNo, block: u32, record: &Record) {
        if let Record::Put { targets, .. } = record {
            for &(id, seq) in targets {
                if let Some(queue) = self.queues.get_mut(&id)
                    && queue.is_live(seq)
                {
                    Self::index(&mut self.segments, segment, block, id, queue, seq);
                }
            }
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
                Self::index(&mut self.segments, segment, block, id, queue, seq);
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

    /// Forgets a dead segment.
    pub(crate) fn forget(&mut self, segment: SegmentNo) {
        let Some(used) = self.segments.remove(&segment) else { return };
        for id in used.queues {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.chunks.remove(&segment);
            }
        }
    }

    /// Everything that lives was possibly delivered before (an unclean open).
    pub(crate) fn mark_all_redelivered(&mut self) {
        for queue in self.queues.values_mut() {
            queue.redelivered_below = queue.next;
            queue.redelivered = Places::default();
        }
    }

    /// Bytes that the index takes, about.
    pub(crate) fn index_bytes(&self) -> u64 {
        let chunk = |chunk: &Chunk| (size_of::<Chunk>() + chunk.runs.capacity() * size_of::<Run>()) as u64;
        self.queues.values().flat_map(|queue| queue.chunks.values()).map(chunk).sum()
    }

    fn create_queue(&mut self, queue: QueueId) {
        self.next_queue = self.next_queue.max(queue.next());
        self.queues.entry(queue).or_default();
    }

    fn put(&mut self, segment: SegmentNo, block: u32, id: QueueId, seq: Seq) {
        // A queue that is not there was deleted: its late puts are void.
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.next = queue.next.max(seq.next());
        Self::index(&mut self.segments, segment, block, id, queue, seq);
    }

    fn ack(&mut self, id: QueueId, first: Seq, last: Seq) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.kill(first, last);
        }
    }

    fn index(
        segments: &mut BTreeMap<SegmentNo, SegmentUse>,
        segment: SegmentNo,
        block: u32,
        id: QueueId,
        queue: &mut Queue,
        seq: Seq,
    ) {
        let chunk = queue.chunks.entry(segment).or_insert_with(|| {
            let used = segments.entry(segment).or_default();
            used.queues.push(id);
            used.found_dead = 0;
            Chunk { first: seq, last: seq, runs: Vec::new() }
        });
        let delta = u32::try_from(seq.0 - chunk.first.0).expect("a segment of 4 GiB holds fewer places");
        chunk.last = seq;
        if chunk.runs.last().is_none_or(|run| run.block != block) {
            chunk.runs.push(Run { delta, block });
        }
    }
}

impl Queue {
    /// A queue as a checkpoint holds it.
    pub(crate) fn restored(
        next: Seq,
        head: Seq,
        dead: Places,
        redelivered_below: Seq,
        redelivered: Places,
    ) -> Self {
        Self { next, head, dead, redelivered_below, redelivered, chunks: BTreeMap::new() }
    }

    /// Live places: span less dead set, never a count less acks (E7).
    pub(crate) fn live(&self) -> u64 {
        if self.head >= self.next {
            return 0;
        }
        self.next.0 - self.head.0 - self.dead.count(self.head, Seq(self.next.0 - 1))
    }

    /// Whether a message may stand at that place.
    pub(crate) fn is_live(&self, seq: Seq) -> bool {
        seq >= self.head && seq < self.next && !self.dead.contains(seq)
    }

    /// Finds where the first live place at or above `from` may stand.
    pub(crate) fn find(&self, from: Seq) -> Option<Found> {
        let from = from.max(self.head);
        let mut chunks = self.chunks.iter().skip_while(|(_, chunk)| chunk.last < from);
        let (&segment, chunk) = chunks.next()?;
        let wanted = from.max(chunk.first);
        let delta = wanted.0 - chunk.first.0;
        let index = chunk.runs.partition_point(|run| u64::from(run.delta) <= delta) - 1;
        let upto = match chunk.runs.get(index + 1) {
            Some(next) => Seq(chunk.first.0 + u64::from(next.delta)),
            None => chunks.next().map_or(self.next, |(_, chunk)| chunk.first),
        };
        Some(Found { segment, block: chunk.runs[index].block, upto })
    }

    pub(crate) fn kill(&mut self, first: Seq, last: Seq) {
        if last < self.head {
            return;
        }
        if first > self.head {
            self.dead.insert(first, last);
            return;
        }
        self.head = last.next();
        if !self.dead.is_empty() {
            self.dead.remove(Seq(0), last);
            while self.dead.contains(self.head) {
                self.dead.remove(self.head, self.head);
                self.head = self.head.next();
            }
        }
        if !self.redelivered.is_empty() {
            self.redelivered.remove(Seq(0), Seq(self.head.0 - 1));
        }
    }

    /// Takes the newest places, from `seq` on, out of every segment but that one.
    fn unindex(&mut self, seq: Seq, but: SegmentNo) {
        while let Some(mut entry) = self.chunks.last_entry() {
            if *entry.key() == but || entry.get().last < seq {
                return;
            }
            let chunk = entry.get_mut();
            if chunk.first >= seq {
                entry.remove();
                continue;
            }
            chunk.last = Seq(seq.0 - 1);
            let first = chunk.first.0;
            chunk.runs.retain(|run| first + u64::from(run.delta) < seq.0);
        }
    }

    fn lives_in(&self, segment: SegmentNo) -> bool {
        let Some(chunk) = self.chunks.get(&segment) else { return false };
        let first = chunk.first.max(self.head);
        first <= chunk.last && self.dead.count(first, chunk.last) < chunk.last.0 - first.0 + 1
    }
}
