//! The reader: answers fetches from the log by pread, under a pin that keeps the segment from being recycled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::disk::DiskFile;
use crate::fetch::{Fetch, Fetched};
use crate::format::{BLOCK_BYTES, segment_name};
use crate::group;
use crate::ids::{QueueId, SegmentNo, Seq};
use crate::ledger::Found;
use crate::record::Record;
use crate::shared::{Shared, Step, lock};

/// Answers fetches, one at a time, in the order in which they become answerable.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    current: Option<Work>,
    /// The group read last: a queue that is drained comes back to it.
    cache: Option<Cached>,
}

#[derive(Debug)]
struct Work {
    fetch: Fetch,
    answer: Fetched,
    bytes: u64,
}

#[derive(Debug)]
struct Cached {
    segment: SegmentNo,
    block: u32,
    /// Per queue, places and payloads in order: slices of the group.
    queues: BTreeMap<QueueId, Vec<(Seq, Bytes)>>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, current: None, cache: None }
    }

    /// Does the next bit of work: at most one group of frames is read.
    pub fn step(&mut self) -> Step {
        if self.shared.failure().is_some() || self.shared.writer_done.load(Ordering::Acquire) {
            return Step::Done;
        }
        let Some(mut work) = self.current.take().or_else(|| self.next_work()) else {
            return Step::Idle { again_ms: None };
        };
        if self.advance(&mut work) {
            lock(&self.shared.answers).push(work.answer);
            self.shared.ring(|bells| bells.ring_owner());
        } else {
            self.current = Some(work);
        }
        Step::Worked
    }

    fn next_work(&self) -> Option<Work> {
        let durable = self.shared.durable();
        let mut fetches = lock(&self.shared.fetches);
        let Some(index) = fetches.iter().position(|fetch| fetch.after <= durable) else {
            if !fetches.is_empty() {
                // What is asked for is committed, but under this policy nobody may be about to sync it.
                self.shared.sync_wanted.store(true, Ordering::Release);
                self.shared.ring(|bells| bells.ring_writer());
            }
            return None;
        };
        let fetch = fetches.remove(index)?;
        let answer = Fetched {
            queue: fetch.queue,
            generation: fetch.generation,
            from: fetch.from,
            upto: fetch.from,
            messages: Vec::new(),
            lost: Vec::new(),
        };
        Some(Work { fetch, answer, bytes: 0 })
    }

    /// Goes on with a fetch; true when its answer is complete.
    fn advance(&mut self, work: &mut Work) -> bool {
        let (found, pinned) = {
            let ledger = lock(&self.shared.ledger);
            let found = ledger.queues.get(&work.fetch.queue).and_then(|queue| queue.find(work.answer.upto));
            let Some(found) = found else {
                // Nothing there or above: the rest is dead, or the queue is gone.
                work.answer.upto = work.fetch.upto;
                return true;
            };
            // Pinned while the ledger is held: whoever recycles looks at pins after it found the segment dead.
            (found, self.pin(found.segment))
        };
        if self.cache.as_ref().is_none_or(|c| c.segment != found.segment || c.block != found.block) {
            self.cache = None;
            let read = match &pinned {
                Some((file, name, end)) => read(file.as_ref(), name, found, *end),
                None => Err(format!("log segment {} is gone", found.segment)),
            };
            match read {
                Ok(cached) => self.cache = Some(cached),
                Err(why) => {
                    self.unpin(found.segment, pinned.is_some());
                    self.lose(work, found, &why);
                    return work.answer.upto >= work.fetch.upto;
                }
            }
        }
        self.unpin(found.segment, pinned.is_some());
        self.collect(work, found)
    }

    /// Takes the queue's live places of the group at hand; true when the answer is complete.
    fn collect(&self, work: &mut Work, found: Found) -> bool {
        let ledger = lock(&self.shared.ledger);
        let Some(queue) = ledger.queues.get(&work.fetch.queue) else {
            work.answer.upto = work.fetch.upto;
            return true;
        };
        let here = self.cache.as_ref().and_then(|cached| cached.queues.get(&work.fetch.queue));
        let here = here.map_or(&[][..], Vec::as_slice);
        let start = here.partition_point(|(seq, _)| *seq < work.answer.upto);
        for (seq, payload) in &here[start..] {
            if *seq >= work.fetch.upto {
                break;
            }
            if !queue.is_live(*seq) {
                continue;
            }
            let count = work.answer.messages.len() as u64;
            let over = work.bytes + payload.len() as u64 > work.fetch.bytes_max;
            if count >= u64::from(work.fetch.count_max.max(1)) || (over && count > 0) {
                work.answer.upto = *seq;
                return true;
            }
            work.bytes += payload.len() as u64;
            // Copied: a slice would keep the whole group in memory.
            work.answer.messages.push((*seq, Bytes::copy_from_slice(payload)));
        }
        work.answer.upto = found.upto.min(work.fetch.upto).max(work.answer.upto);
        work.answer.upto >= work.fetch.upto
    }

    /// The group could not be read: names the live places that go with it.
    fn lose(&self, work: &mut Work, found: Found, why: &str) {
        let ledger = lock(&self.shared.ledger);
        let upto = found.upto.min(work.fetch.upto);
        if let Some(queue) = ledger.queues.get(&work.fetch.queue) {
            for seq in work.answer.upto.0..upto.0 {
                if queue.is_live(Seq(seq)) {
                    work.answer.lost.push((Seq(seq), why.to_owned()));
                }
            }
        }
        work.answer.upto = upto.max(work.answer.upto);
    }

    fn pin(&self, segment: SegmentNo) -> Option<(Arc<dyn DiskFile>, String, u64)> {
        let mut log = lock(&self.shared.log);
        let segment = log.segments.get_mut(&segment)?;
        segment.pins += 1;
        let end = segment.end.map_or(self.shared.settings.segment_bytes, |end| end.bytes);
        Some((Arc::clone(&segment.file), segment_name(segment.file_id), end))
    }

    fn unpin(&self, segment: SegmentNo, pinned: bool) {
        if pinned && let Some(segment) = lock(&self.shared.log).segments.get_mut(&segment) {
            segment.pins -= 1;
        }
    }
}

/// Reads and verifies a group, and sorts it by queue. That the records are there is what proves that the right group
/// was read (E8): queue and Seq stand in each of them.
fn read(file: &dyn DiskFile, name: &str, found: Found, end: u64) -> Result<Cached, String> {
    let offset = u64::from(found.block) * BLOCK_BYTES as u64;
    let records = group::read_group(file, name, offset, end).map_err(|e| e.to_string())?;
    let mut queues: BTreeMap<QueueId, Vec<(Seq, Bytes)>> = BTreeMap::new();
    for record in records {
        if let Record::Put { targets, payload } = record {
            for (queue, seq) in targets {
                queues.entry(queue).or_default().push((seq, payload.clone()));
            }
        }
    }
    Ok(Cached { segment: found.segment, block: found.block, queues })
}
