//! Spilled messages in the answer to a fetch: what the log and settled segments had for it is there already.

use bytes::Bytes;

use super::index::{Found, Run};
use crate::controls::Control;
use crate::fetch::{Fetch, Fetched};
use crate::format::volatile_name;
use crate::ids::{FileId, Seq};
use crate::record::{self, Message};
use crate::shared::{Counters, Shared, lock};

/// Adds the spilled messages to an answer, in order. Stepped like the reader, whose part it is.
#[derive(Debug)]
pub(crate) struct Reading {
    fetch: Fetch,
    answer: Fetched,
    /// Covered so far.
    at: Seq,
    /// The run that was read and is still to be looked through. A step of its own, since more may be spilled while a run
    /// is read: whoever drives the steps one by one comes between, as threads do.
    read: Option<Run>,
    messages: Vec<(Seq, Bytes)>,
    lost: Vec<(Seq, String)>,
    bytes: u64,
}

/// The run that was read last: who takes few messages at a time comes back to it.
#[derive(Debug)]
pub(crate) struct Recent {
    segment: FileId,
    offset: u32,
    bytes: u32,
    messages: Vec<Message>,
    /// Why what is not there cannot be read.
    broken: Option<String>,
}

impl Recent {
    /// Whether the run is in it: runs of several queues may begin at one message and end at others.
    fn has(&self, run: &Run) -> bool {
        self.segment == run.segment && self.offset == run.offset && self.bytes >= run.bytes
    }
}

impl Reading {
    /// Nothing to add where none of the places was spilled: gives the answer back then.
    pub(crate) fn begin(shared: &Shared, fetch: Fetch, answer: Fetched) -> Result<Self, Fetched> {
        if lock(&shared.volatile).index.find(fetch.queue, fetch.from, answer.upto).is_none() {
            return Err(answer);
        }
        let at = fetch.from;
        Ok(Self { fetch, answer, at, read: None, messages: Vec::new(), lost: Vec::new(), bytes: 0 })
    }

    /// Reads at most one run, or takes over what was read; true when the answer is complete.
    pub(crate) fn step(&mut self, shared: &Shared, recent: &mut Option<Recent>) -> bool {
        if let Some(run) = self.read.take() {
            return self.take_over(shared, &run, recent.as_ref());
        }
        let (queue, upto) = (self.fetch.queue, self.answer.upto);
        let Some((seq, found)) = lock(&shared.volatile).index.find(queue, self.at, upto) else {
            self.at = upto;
            return true;
        };
        self.at = seq;
        let Found { run, file } = found;
        if !recent.as_ref().is_some_and(|recent| recent.has(&run)) {
            let mut buffer = vec![0; run.bytes as usize];
            let (messages, broken) = match file.read_at(u64::from(run.offset), &mut buffer) {
                Ok(()) => record::decode_messages(Bytes::from(buffer)),
                Err(error) => (Vec::new(), Some(crate::codec::Malformed(error.to_string()))),
            };
            let broken = broken.map(|why| why.to_string());
            let (segment, offset, bytes) = (run.segment, run.offset, run.bytes);
            *recent = Some(Recent { segment, offset, bytes, messages, broken });
        }
        self.read = Some(run);
        false
    }

    fn take_over(&mut self, shared: &Shared, run: &Run, recent: Option<&Recent>) -> bool {
        let Some(read) = recent.filter(|recent| recent.has(run)) else { return false };
        let mut here: Vec<(Seq, &Bytes)> = Vec::new();
        for (targets, payload) in &read.messages {
            let wanted = |seq| (self.at..=run.last).contains(seq);
            let places = targets.iter().filter(|(of, seq)| *of == self.fetch.queue && wanted(seq));
            here.extend(places.map(|(_, seq)| (*seq, payload)));
        }
        here.sort_by_key(|(seq, _)| *seq);
        let upto = run.last.next().min(self.answer.upto);
        self.collect(shared, upto, &here, run, read.broken.as_deref())
    }

    /// Takes what lives below `upto`; true when the answer is complete.
    fn collect(
        &mut self,
        shared: &Shared,
        upto: Seq,
        here: &[(Seq, &Bytes)],
        run: &Run,
        broken: Option<&str>,
    ) -> bool {
        let mut volatile = lock(&shared.volatile);
        let live = volatile.index.live_between(self.fetch.queue, self.at, Seq(upto.0 - 1));
        for seq in live {
            if self.messages.len() as u64 >= u64::from(self.fetch.count_max.max(1)) {
                self.at = seq;
                return true;
            }
            match here.binary_search_by_key(&seq, |(place, _)| *place) {
                Ok(at) => {
                    let payload = here[at].1;
                    if self.bytes + payload.len() as u64 > self.fetch.bytes_max && !self.messages.is_empty() {
                        self.at = seq;
                        return true;
                    }
                    self.bytes += payload.len() as u64;
                    if shared.settings.has(Control::SpilledReadOnce) {
                        volatile.release(self.fetch.queue, seq, seq);
                    }
                    // Copied: a slice would keep all that was read with it in memory.
                    self.messages.push((seq, Bytes::copy_from_slice(payload)));
                }
                // It was spilled into the middle of the run while that was read: it stands elsewhere.
                Err(_) if !volatile.index.is_of_run(self.fetch.queue, seq, run) => {
                    self.at = seq;
                    return false;
                }
                Err(_) => {
                    let why = broken.unwrap_or("its record is not where the index says");
                    Counters::add(&shared.counters.unreadable, 1);
                    self.lost.push((seq, format!("{}: {why}", volatile_name(run.segment))));
                    // Nobody will ask for it again.
                    volatile.release(self.fetch.queue, seq, seq);
                }
            }
        }
        self.at = upto;
        upto >= self.answer.upto
    }

    /// The whole answer.
    pub(crate) fn finish(self) -> Fetched {
        let Self { fetch, mut answer, at, messages, lost, .. } = self;
        let mut upto = answer.upto.min(at);
        answer.messages.extend(messages);
        // Nothing stands in both: what is in the log was not spilled.
        answer.messages.sort_by_key(|(seq, _)| *seq);
        answer.lost.extend(lost);
        answer.lost.sort_by_key(|(seq, _)| *seq);
        let (mut count, mut bytes) = (0, 0);
        for (seq, payload) in &answer.messages {
            bytes += payload.len() as u64;
            if count >= u64::from(fetch.count_max.max(1)) || (count > 0 && bytes > fetch.bytes_max) {
                upto = upto.min(*seq);
                break;
            }
            count += 1;
        }
        answer.messages.retain(|(seq, _)| *seq < upto);
        answer.lost.retain(|(seq, _)| *seq < upto);
        answer.upto = upto;
        answer
    }
}
