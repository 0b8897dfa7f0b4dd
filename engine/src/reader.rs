//! The reader: answers fetches. Messages of the unsettled log are read by pread, under a pin that keeps the segment from
//! being recycled; those of settled segments through maps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::blobs::BlobRef;
use crate::disk::DiskFile;
use crate::fetch::{Fetch, Fetched};
use crate::format::{BLOCK_BYTES, segment_name};
use crate::group;
use crate::ids::{QueueId, SegmentNo, Seq};
use crate::ledger::{At, Found, Queue, Settled};
use crate::record::Record;
use crate::settled::{Kept, SettledFile, Window};
use crate::shared::{Counters, Shared, Step, lock};
use crate::volatile::{Reading, Recent};

/// Bytes read of an extent at a time, at least and at most; in between, what the fetch may take.
const WINDOW_BYTES_MIN: u64 = 64 << 10;
const WINDOW_BYTES_MAX: u64 = 1 << 20;
/// Lost places told by one answer: of a missing file there may be millions.
const LOST_MAX: usize = 1_000;

/// Answers fetches, one at a time, in the order in which they become answerable.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    current: Option<Work>,
    /// What was read last: a queue that is drained comes back to it.
    cache: Option<Cached>,
    /// An answer that spilled messages are to be added to.
    spilled: Option<Reading>,
    recent: Option<Recent>,
}

#[derive(Debug)]
struct Work {
    fetch: Fetch,
    answer: Fetched,
    bytes: u64,
    /// Where to read next.
    next: Option<(Found, Pin)>,
    /// Bodies in blob files that belong to messages of the answer, by their index.
    bodies: VecDeque<(usize, BlobRef, Arc<dyn DiskFile>)>,
    /// Nothing is left to do but those.
    done: bool,
}

/// Keeps what is read from being recycled or forgotten.
#[derive(Debug)]
enum Pin {
    Log(SegmentNo, LogPin),
    Settled(Arc<SettledFile>),
    /// It is not there: why.
    Gone(String),
}

#[derive(Debug)]
struct LogPin {
    file: Arc<dyn DiskFile>,
    name: String,
    end: u64,
}

#[derive(Debug)]
struct Cached {
    at: At,
    /// The places that were read, for a window of an extent.
    from: Seq,
    upto: Seq,
    /// Why what is not there cannot be read, where that is known.
    broken: Option<String>,
    /// Per queue, places and payloads in order.
    queues: BTreeMap<QueueId, Vec<(Seq, Kept)>>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, current: None, cache: None, spilled: None, recent: None }
    }

    /// Does the next bit of work: finds where to read next, or reads at most one group of frames or window of an extent.
    pub fn step(&mut self) -> Step {
        if self.shared.failure().is_some() || self.shared.writer_done.load(Ordering::Acquire) {
            return Step::Done;
        }
        if let Some(mut reading) = self.spilled.take() {
            match reading.step(&self.shared, &mut self.recent) {
                true => self.answer(reading.finish()),
                false => self.spilled = Some(reading),
            }
            return Step::Worked;
        }
        let Some(mut work) = self.current.take().or_else(|| self.next_work()) else {
            return Step::Idle { again_ms: None };
        };
        if let Some((index, blob, file)) = work.bodies.pop_front() {
            self.read_body(&mut work, index, blob, file.as_ref());
        } else {
            work.done = match work.next.take() {
                None => self.find(&mut work),
                Some((found, pin)) => self.read(&mut work, found, &pin),
            };
        }
        if work.done && work.bodies.is_empty() {
            work.drop_unread();
            match Reading::begin(&self.shared, work.fetch, work.answer) {
                Ok(reading) => self.spilled = Some(reading),
                Err(answer) => self.answer(answer),
            }
        } else {
            self.current = Some(work);
        }
        Step::Worked
    }

    fn answer(&self, answer: Fetched) {
        lock(&self.shared.answers).push(answer);
        self.shared.ring(|bells| bells.ring_owner());
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
            blobs: Vec::new(),
            lost: Vec::new(),
        };
        Some(Work { fetch, answer, bytes: 0, next: None, bodies: VecDeque::new(), done: false })
    }

    /// Finds where the next places stand, and pins it; true when the answer is complete.
    fn find(&self, work: &mut Work) -> bool {
        let ledger = lock(&self.shared.ledger);
        let Some(queue) = ledger.queues.get(&work.fetch.queue) else {
            work.answer.upto = work.fetch.upto;
            return true;
        };
        let Some(found) = queue.find(work.answer.upto).filter(|_| work.answer.upto < work.fetch.upto) else {
            // Nothing there or above: the rest is dead, or its records are lost.
            work.answer.upto =
                self.note_lost(work, queue, work.fetch.upto, "no file of the store holds its record");
            return true;
        };
        if found.upto <= work.answer.upto {
            // Never a round without progress: the index contradicts itself.
            let behind = work.answer.upto.next();
            work.answer.upto = self.note_lost(work, queue, behind, "the index says two things of its place");
            return work.answer.upto >= work.fetch.upto;
        }
        // Pinned while the ledger is held: whoever recycles looks at pins after it found the segment dead, and a settled
        // segment is forgotten by the ledger before it is closed.
        let pin = match found.at {
            At::Log { segment, .. } => self.pin(segment),
            At::Settled(Settled { file, .. }) => match lock(&self.shared.settled).get(&file) {
                Some(file) => Pin::Settled(Arc::clone(file)),
                None => Pin::Gone(format!("settled segment {file} is not open")),
            },
        };
        drop(ledger);
        work.next = Some((found, pin));
        false
    }

    /// Reads what was found; true when the answer is complete.
    fn read(&mut self, work: &mut Work, found: Found, pin: &Pin) -> bool {
        let from = work.answer.upto;
        let cached = |c: &Cached| same_group(c.at, found.at) && (c.from..c.upto).contains(&from);
        if !self.cache.as_ref().is_some_and(cached) {
            self.cache = None;
            let left = work.fetch.bytes_max.saturating_sub(work.bytes);
            let read = match (pin, found.at) {
                (Pin::Log(_, pin), At::Log { block, .. }) => read_group(pin, found.at, block),
                (Pin::Settled(file), At::Settled(here)) => read_window(file, here, from, left),
                (Pin::Gone(why), _) => Err(why.clone()),
                _ => unreachable!("what is found is pinned"),
            };
            match read {
                Ok(cached) => self.cache = Some(cached),
                Err(why) => {
                    self.unpin(pin);
                    return self.lose(work, found, &why);
                }
            }
        }
        self.unpin(pin);
        self.collect(work, found)
    }

    /// Takes the queue's live places of what was read; true when the answer is complete.
    fn collect(&self, work: &mut Work, found: Found) -> bool {
        let ledger = lock(&self.shared.ledger);
        let Some(queue) = ledger.queues.get(&work.fetch.queue) else {
            work.answer.upto = work.fetch.upto;
            return true;
        };
        let Some(cached) = &self.cache else { return false };
        let here = cached.queues.get(&work.fetch.queue).map_or(&[][..], Vec::as_slice);
        let start = here.partition_point(|(seq, _)| *seq < work.answer.upto);
        let covered = found.upto.min(work.fetch.upto).min(cached.upto);
        let mut stop = None;
        let mut taken = 0;
        for (seq, kept) in &here[start..] {
            if *seq >= covered {
                break;
            }
            if !queue.is_live(*seq) {
                continue;
            }
            let count = work.answer.messages.len() as u64;
            let bytes = kept.payload.len() as u64 + kept.blob.map_or(0, |place| place.bytes);
            let over = work.bytes + bytes > work.fetch.bytes_max;
            if count >= u64::from(work.fetch.count_max.max(1)) || (over && count > 0) {
                stop = Some(*seq);
                break;
            }
            work.bytes += bytes;
            taken += 1;
            // Copied: a slice would keep the whole group in memory.
            let payload = if matches!(cached.at, At::Settled(_)) {
                kept.payload.clone()
            } else {
                Bytes::copy_from_slice(&kept.payload)
            };
            if let Some(place) = kept.blob {
                // Held while the ledger is: it lives, and from here on it stays.
                let held = lock(&self.shared.blobs).hold(&self.shared, place);
                match held {
                    Ok((blob, file)) => {
                        work.bodies.push_back((work.answer.messages.len(), blob, file));
                    }
                    Err(why) => {
                        self.lost_body(&mut work.answer, *seq, why);
                        continue;
                    }
                }
            }
            work.answer.messages.push((*seq, payload));
        }
        let upto = stop.unwrap_or(covered).max(work.answer.upto);
        // What lives must have been there (E8): a file may be another one than it should be.
        if queue.live_between(work.answer.upto, upto) != taken {
            let why = cached.broken.as_deref().unwrap_or("its record is not where the index says");
            work.answer.upto = self.note_lost(work, queue, upto, why);
            return true;
        }
        work.answer.upto = upto;
        stop.is_some() || upto >= work.fetch.upto
    }

    /// Reads a message's body and joins it to what its record held. What cannot be read is lost.
    fn read_body(&self, work: &mut Work, index: usize, blob: BlobRef, file: &dyn DiskFile) {
        let place = blob.place();
        let (seq, head) = &work.answer.messages[index];
        let mut whole = vec![0; head.len() + place.bytes as usize];
        whole[..head.len()].copy_from_slice(head);
        match place.read(file, &mut whole[head.len()..]) {
            Ok(()) => {
                work.answer.blobs.push((*seq, blob));
                work.answer.messages[index].1 = whole.into();
            }
            Err(why) => {
                let seq = *seq;
                self.lost_body(&mut work.answer, seq, why);
            }
        }
    }

    fn lost_body(&self, answer: &mut Fetched, seq: Seq, why: String) {
        self.shared.find(format!("a message of queue {} cannot be read: {why}", answer.queue));
        Counters::add(&self.shared.counters.unreadable, 1);
        answer.lost.push((seq, why));
    }

    /// What was found could not be read: names the live places that go with it. True when the answer is complete.
    fn lose(&self, work: &mut Work, found: Found, why: &str) -> bool {
        let ledger = lock(&self.shared.ledger);
        let upto = found.upto.min(work.fetch.upto);
        work.answer.upto = match ledger.queues.get(&work.fetch.queue) {
            Some(queue) => self.note_lost(work, queue, upto, why),
            None => work.fetch.upto,
        };
        true
    }

    /// Tells which live places below `upto` the answer has no message for, up to a limit; gives the place behind what
    /// the answer covers then.
    fn note_lost(&self, work: &mut Work, queue: &Queue, upto: Seq, why: &str) -> Seq {
        let begin = work.answer.upto;
        let end = upto.max(begin);
        let upto = upto.min(queue.next);
        if queue.live_between(begin, upto) == 0 {
            return end;
        }
        let start = work.answer.messages.partition_point(|(seq, _)| *seq < begin);
        let mut there = work.answer.messages[start..].iter().map(|(seq, _)| *seq).peekable();
        for seq in begin.max(queue.head).0..upto.0 {
            if there.next_if_eq(&Seq(seq)).is_none() && queue.is_live(Seq(seq)) {
                if work.answer.lost.is_empty() {
                    self.shared.find(format!("messages of queue {} cannot be read: {why}", work.fetch.queue));
                }
                Counters::add(&self.shared.counters.unreadable, 1);
                work.answer.lost.push((Seq(seq), why.to_owned()));
                if work.answer.lost.len() >= LOST_MAX {
                    return Seq(seq + 1);
                }
            }
        }
        end
    }

    fn pin(&self, segment: SegmentNo) -> Pin {
        let mut log = lock(&self.shared.log);
        let Some(open) = log.segments.get_mut(&segment) else {
            return Pin::Gone(format!("log segment {segment} is gone"));
        };
        open.pins += 1;
        let end = open.end.map_or(self.shared.settings.segment_bytes, |end| end.bytes);
        let (file, name) = (Arc::clone(&open.file), segment_name(open.file_id));
        Pin::Log(segment, LogPin { file, name, end })
    }

    fn unpin(&self, pin: &Pin) {
        if let Pin::Log(segment, _) = pin
            && let Some(segment) = lock(&self.shared.log).segments.get_mut(segment)
        {
            segment.pins -= 1;
        }
    }
}

impl Work {
    /// Takes the messages out whose bodies could not be read.
    fn drop_unread(&mut self) {
        let Fetched { messages, lost, .. } = &mut self.answer;
        if !lost.is_empty() {
            lost.sort_by_key(|(seq, _)| *seq);
            messages.retain(|(seq, _)| lost.binary_search_by_key(seq, |(lost, _)| *lost).is_err());
        }
    }
}

/// Whether two places stand in what is read at once.
fn same_group(one: At, other: At) -> bool {
    match (one, other) {
        (At::Settled(one), At::Settled(other)) => {
            one.file == other.file && one.extent.offset == other.extent.offset
        }
        (one, other) => one == other,
    }
}

/// Reads and verifies a group, and sorts it by queue. That the records are there is what proves that the right group
/// was read (E8): queue and Seq stand in each of them.
fn read_group(pin: &LogPin, at: At, block: u32) -> Result<Cached, String> {
    let offset = u64::from(block) * BLOCK_BYTES as u64;
    let records =
        group::read_group(pin.file.as_ref(), &pin.name, offset, pin.end).map_err(|e| e.to_string())?;
    let mut queues: BTreeMap<QueueId, Vec<(Seq, Kept)>> = BTreeMap::new();
    for record in records {
        if let Record::Put { targets, payload, blob } = record {
            let kept = Kept { payload, blob };
            for (queue, seq) in targets {
                queues.entry(queue).or_default().push((seq, kept.clone()));
            }
        }
    }
    Ok(Cached { at, from: Seq(0), upto: Seq(u64::MAX), broken: None, queues })
}

fn read_window(file: &SettledFile, here: Settled, from: Seq, bytes: u64) -> Result<Cached, String> {
    let bytes = bytes.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
    let Window { records, upto, broken, read: _ } = file.window(&here.extent, from, bytes)?;
    let queues = BTreeMap::from([(here.extent.queue, records)]);
    Ok(Cached { at: At::Settled(here), from, upto: upto.unwrap_or(Seq(u64::MAX)), broken, queues })
}
