//! Where spilled messages stand: per queue, runs of places that stand together in a segment.
//!
//! A run costs about 50 bytes of memory whatever its length, a place in it about a bit; runs are as long as what one write
//! had of a queue. Runs of a queue do not overlap, though their segments may come in any order.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::ids::{FileId, QueueId, Seq};
use crate::ranges::Places;

/// What a run costs of memory, and what a queue does, about.
const RUN_BYTES: u64 = 56;
const QUEUE_BYTES: u64 = 200;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    queues: BTreeMap<QueueId, Spilled>,
    pub(crate) segments: BTreeMap<FileId, Segment>,
    runs: u64,
}

#[derive(Debug, Default)]
struct Spilled {
    live: Places,
    /// By first place.
    runs: BTreeMap<Seq, Run>,
}

/// Places of a queue whose records stand between two offsets of a segment, with those of others perhaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) last: Seq,
    pub(crate) segment: FileId,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    /// What of its bytes lives, about. With several queues in them they count for each.
    share: u32,
}

/// A segment's file, and what of it lives.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn DiskFile>,
    /// Its length.
    pub(crate) bytes: u64,
    /// What was written at once: offsets and lengths.
    pub(crate) chunks: Vec<(u32, u32)>,
    /// Live places.
    pub(crate) live: u64,
    /// Shares of the runs that were ever in it, and what is left of them.
    shares: u64,
    shares_live: u64,
    /// It could not be read through when it was to be given up.
    pub(crate) unreadable: bool,
}

/// A place that lives, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) run: Run,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl Segment {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        let (chunks, unreadable) = (Vec::new(), false);
        Self { file, bytes: 0, chunks, live: 0, shares: 0, shares_live: 0, unreadable }
    }

    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn shares_left(&self) -> u64 {
        self.shares_live
    }

    /// What of it lives, about.
    fn live_bytes(&self) -> u64 {
        (u128::from(self.bytes) * u128::from(self.shares_live) / u128::from(self.shares.max(1))) as u64
    }

    /// Less than half of it lives, so that it costs more than it holds.
    fn is_thin(&self) -> bool {
        !self.unreadable && self.shares_live * 2 < self.shares
    }
}

impl Index {
    /// Adds places of a queue, in order, whose records stand within `bytes` from `offset` on in that segment. None of
    /// them lives in it yet.
    pub(crate) fn insert(
        &mut self,
        queue: QueueId,
        places: &[Seq],
        segment: FileId,
        (offset, bytes): (u32, u32),
    ) {
        let spilled = self.queues.entry(queue).or_default();
        let all = places.len() as u64;
        let mut at = 0;
        while at < places.len() {
            let first = places[at];
            let mut end = at + 1;
            // What lives between two places stands elsewhere: runs must not overlap.
            while end < places.len()
                && (places[end] == places[end - 1].next()
                    || spilled.live.count(places[end - 1].next(), places[end]) == 0)
            {
                end += 1;
            }
            let last = places[end - 1];
            self.runs += spilled.make_room(first, last);
            let share = (u64::from(bytes) * (end - at) as u64 / all) as u32;
            spilled.runs.insert(first, Run { last, segment, offset, bytes, share });
            self.runs += 1;
            if let Some(segment) = self.segments.get_mut(&segment) {
                segment.shares += u64::from(share);
                segment.shares_live += u64::from(share);
            }
            at = end;
        }
        for together in places.chunk_by(|one, other| one.next() == *other) {
            spilled.live.insert(together[0], together[together.len() - 1]);
        }
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.live += all;
        }
    }

    /// Forgets the places of an inclusive range.
    pub(crate) fn release(&mut self, queue: QueueId, first: Seq, last: Seq) {
        let Some(spilled) = self.queues.get_mut(&queue) else { return };
        // All that there are may be asked for.
        let last = spilled.live.last().map_or(last, |end| end.min(last));
        if first > last {
            return;
        }
        let start = spilled.runs.range(..=first).next_back().map_or(first, |(seq, _)| *seq);
        let mut ended = Vec::new();
        for (&from, run) in spilled.runs.range_mut(start..=last) {
            let gone = spilled.live.count(from.max(first), run.last.min(last));
            if gone == 0 {
                continue;
            }
            let lived = spilled.live.count(from, run.last);
            let share = (u64::from(run.share) * gone / lived) as u32;
            run.share -= share;
            if gone == lived {
                ended.push(from);
            }
            if let Some(segment) = self.segments.get_mut(&run.segment) {
                segment.live -= gone;
                segment.shares_live -= u64::from(share);
            }
        }
        spilled.live.remove(first, last);
        self.runs -= ended.len() as u64;
        for from in ended {
            spilled.runs.remove(&from);
        }
        if spilled.runs.is_empty() {
            self.queues.remove(&queue);
        }
    }

    /// Whether a place lives and its record is in that segment.
    pub(crate) fn stands_in(&self, queue: QueueId, seq: Seq, segment: FileId) -> bool {
        self.queues.get(&queue).is_some_and(|spilled| {
            let run = spilled.runs.range(..=seq).next_back();
            spilled.live.contains(seq) && run.is_some_and(|(_, run)| run.segment == segment)
        })
    }

    /// The first live place in `[from, upto)`, with its run.
    pub(crate) fn find(&self, queue: QueueId, from: Seq, upto: Seq) -> Option<(Seq, Found)> {
        let spilled = self.queues.get(&queue)?;
        let seq = spilled.live.first_from(from).filter(|seq| *seq < upto)?;
        let (_, &run) = spilled.runs.range(..=seq).next_back()?;
        let file = Arc::clone(&self.segments.get(&run.segment)?.file);
        Some((seq, Found { run, file }))
    }

    /// Whether a place is found where that run stands.
    pub(crate) fn is_of_run(&self, queue: QueueId, seq: Seq, run: &Run) -> bool {
        self.find(queue, seq, seq.next()).is_some_and(|(_, found)| {
            let found = found.run;
            (found.segment, found.offset, found.bytes) == (run.segment, run.offset, run.bytes)
        })
    }

    /// Live places of an inclusive range.
    pub(crate) fn live_between(&self, queue: QueueId, first: Seq, last: Seq) -> Vec<Seq> {
        let Some(spilled) = self.queues.get(&queue) else { return Vec::new() };
        let mut found = Vec::new();
        let mut next = spilled.live.first_from(first).filter(|seq| *seq <= last);
        while let Some(seq) = next {
            found.push(seq);
            next = spilled.live.first_from(seq.next()).filter(|seq| *seq <= last);
        }
        found
    }

    /// The segment of which least lives, where the files take more than twice what lives and two segments: below that,
    /// what is read in order would be moved right before it goes anyway.
    pub(crate) fn thinnest(&self, but: Option<FileId>, segment_bytes: u64) -> Option<FileId> {
        let (files, live) = self
            .segments
            .values()
            .fold((0, 0), |(files, live), segment| (files + segment.bytes, live + segment.live_bytes()));
        if files <= 2 * live + 2 * segment_bytes {
            return None;
        }
        let others = self.segments.iter().filter(|(id, segment)| Some(**id) != but && segment.is_thin());
        others.min_by_key(|(_, segment)| segment.live_bytes()).map(|(id, _)| *id)
    }

    /// Messages, counted once for each queue.
    pub(crate) fn places(&self) -> u64 {
        self.segments.values().map(|segment| segment.live).sum()
    }

    /// Bytes of the segments' files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// What it takes of memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.queues.len() as u64 * QUEUE_BYTES + self.runs * RUN_BYTES + self.places() / 8
    }
}

impl Spilled {
    /// Takes an inclusive range, in which nothing lives, out of the runs that reach into it. How many more runs there
    /// are then.
    fn make_room(&mut self, first: Seq, last: Seq) -> u64 {
        let (behind, mut more) = (last.next(), 0);
        if let Some((&from, run)) = self.runs.range_mut(..first).next_back()
            && run.last >= first
        {
            let whole = std::mem::replace(&mut run.last, Seq(first.0 - 1));
            let (below, above) = (self.live.count(from, run.last), self.live.count(behind, whole));
            if above > 0 {
                let share = (u64::from(run.share) * above / (below + above)) as u32;
                run.share -= share;
                let rest = Run { last: whole, share, ..*run };
                self.runs.insert(behind, rest);
                more += 1;
                if below == 0 {
                    self.runs.remove(&from);
                    more -= 1;
                }
            }
        }
        // One that begins in the range lives behind it, or it would be gone.
        let begun = self.runs.range(first..=last).next_back().map(|(seq, _)| *seq);
        if let Some(run) = begun.and_then(|seq| self.runs.remove(&seq)) {
            self.runs.insert(behind, run);
        }
        more
    }
}
