//! One queue as of the newest durable frame: which of its places are dead, and where the live ones stand.

use std::collections::BTreeMap;

use crate::blobs::BlobPlace;
use crate::ids::{FileId, SegmentNo, Seq};
use crate::ranges::Places;
use crate::settled::Extent;

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
    pub(super) chunks: BTreeMap<SegmentNo, Chunk>,
    /// In the order of their places. All of them are below all chunks. With very many queues each has few: no map, whose
    /// first node has room for many.
    extents: Vec<Settled>,
    /// Live places whose body stands in a blob file.
    pub(crate) blobs: BTreeMap<Seq, BlobPlace>,
}

/// A queue's places in one log segment. At most 8 bytes for the places that stand together in one group of frames.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chunk {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    /// The run's first place, from the chunk's first.
    pub(super) delta: u32,
    /// 4 KiB block of the group's first frame.
    pub(super) block: u32,
}

/// A queue's places in a settled segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) file: FileId,
    pub(crate) extent: Extent,
}

/// Where the next live places of a queue stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: At,
    /// No place of the queue below this one, and at or above the one asked for, stands anywhere else.
    pub(crate) upto: Seq,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// In the group of frames that begins at this 4 KiB block.
    Log { segment: SegmentNo, block: u32 },
    /// In an extent.
    Settled(Settled),
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
            extents: Vec::new(),
            blobs: BTreeMap::new(),
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
        Self { next, head, dead, redelivered_below, redelivered, ..Self::default() }
    }

    /// Live places: span less dead set, never a count less acks (E7).
    pub(crate) fn live(&self) -> u64 {
        self.live_between(self.head, self.next)
    }

    /// Live places from `first` to before `upto`.
    pub(crate) fn live_between(&self, first: Seq, upto: Seq) -> u64 {
        let (first, upto) = (first.max(self.head), upto.min(self.next));
        if first >= upto {
            return 0;
        }
        upto.0 - first.0 - self.dead.count(first, Seq(upto.0 - 1))
    }

    /// Live places of which no record is known: they were in a settled segment that is missing or damaged.
    pub(crate) fn lost(&self) -> u64 {
        let chunks = self.chunks.values().map(|chunk| (chunk.first, chunk.last));
        let known = self.extents.iter().map(|here| (here.extent.first, here.extent.last)).chain(chunks);
        let there: u64 = known.map(|(first, last)| self.live_between(first, last.next())).sum();
        self.live().saturating_sub(there)
    }

    /// Its extents in settled segments, in the order of their places.
    pub(crate) fn extents(&self) -> &[Settled] {
        &self.extents
    }

    /// Takes extents in, and those of `removed` settled segments out.
    pub(super) fn replace_extents(&mut self, removed: &[FileId], file: FileId, extents: &[Extent]) {
        if !removed.is_empty() {
            self.extents.retain(|here| !removed.contains(&here.file));
        }
        self.extents.reserve_exact(extents.len());
        for &extent in extents {
            let here = Settled { file, extent };
            match self.extents.last() {
                Some(last) if last.extent.first >= extent.first => {
                    let found = self.extents.binary_search_by_key(&extent.first, |here| here.extent.first);
                    match found {
                        Ok(index) => self.extents[index] = here,
                        Err(index) => self.extents.insert(index, here),
                    }
                }
                _ => self.extents.push(here),
            }
        }
        if self.extents.capacity() > 2 * self.extents.len() {
            self.extents.shrink_to_fit();
        }
    }

    /// Whether a message may stand at that place.
    pub(crate) fn is_live(&self, seq: Seq) -> bool {
        seq >= self.head && seq < self.next && !self.dead.contains(seq)
    }

    /// Finds where the first live place at or above `from` may stand.
    pub(crate) fn find(&self, from: Seq) -> Option<Found> {
        let from = from.max(self.head);
        let begin = self.extents.partition_point(|here| here.extent.first <= from).saturating_sub(1);
        let lives =
            |here: &Settled| self.live_between(here.extent.first.max(from), here.extent.last.next()) > 0;
        if let Some(index) = self.extents[begin..].iter().position(lives).map(|index| begin + index) {
            let next = self.extents.get(index + 1).map(|here| here.extent.first);
            let next = next.or_else(|| self.chunks.values().next().map(|chunk| chunk.first));
            return Some(Found { at: At::Settled(self.extents[index]), upto: next.unwrap_or(self.next) });
        }
        let mut chunks = self.chunks.iter().skip_while(|(_, chunk)| chunk.last < from);
        let (&segment, chunk) = chunks.next()?;
        let wanted = from.max(chunk.first);
        let delta = wanted.0 - chunk.first.0;
        let index = chunk.runs.partition_point(|run| u64::from(run.delta) <= delta) - 1;
        let upto = match chunk.runs.get(index + 1) {
            Some(next) => Seq(chunk.first.0 + u64::from(next.delta)),
            None => chunks.next().map_or(self.next, |(_, chunk)| chunk.first),
        };
        Some(Found { at: At::Log { segment, block: chunk.runs[index].block }, upto })
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

    /// The message at that place names a body. Whether that is news: it lives, and was not known to.
    pub(super) fn name_blob(&mut self, seq: Seq, place: BlobPlace) -> bool {
        self.is_live(seq) && self.blobs.insert(seq, place).is_none()
    }

    /// Takes out the bodies that these places name.
    pub(super) fn take_blobs(&mut self, first: Seq, last: Seq) -> Vec<BlobPlace> {
        if self.blobs.is_empty() {
            return Vec::new();
        }
        let named: Vec<(Seq, BlobPlace)> = self.blobs.range(first..=last).map(|(s, p)| (*s, *p)).collect();
        for (seq, _) in &named {
            self.blobs.remove(seq);
        }
        named.into_iter().map(|(_, place)| place).collect()
    }

    /// Takes the newest places, from `seq` on, out of every segment but that one.
    pub(super) fn unindex(&mut self, seq: Seq, but: SegmentNo) {
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

    /// Live places that stand in a log segment from a block on.
    pub(super) fn lives_from(&self, segment: SegmentNo, block: u32) -> u64 {
        let Some(chunk) = self.chunks.get(&segment) else { return 0 };
        let Some(run) = chunk.runs.iter().find(|run| run.block >= block) else { return 0 };
        self.live_between(Seq(chunk.first.0 + u64::from(run.delta)), chunk.last.next())
    }

    pub(super) fn lives_in(&self, segment: SegmentNo) -> bool {
        self.chunks.get(&segment).is_some_and(|chunk| self.live_between(chunk.first, chunk.last.next()) > 0)
    }
}
