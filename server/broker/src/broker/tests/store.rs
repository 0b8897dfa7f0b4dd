//! A store in memory that obeys ENGINE's rules as the core sees them, and panics where the core breaks one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::effect::{Batch, Fetch, Put};
use crate::ids::{Epoch, QueueId, Seq, Ticket};
use crate::input::Fetched;
use crate::recovered::{Recovered, RecoveredQueue};

/// What a clean close leaves: what was delivered of each queue.
pub(crate) type Mark = Vec<(QueueId, Vec<(Seq, Seq)>)>;

#[derive(Debug, Default, Clone)]
pub(crate) struct StoreQueue {
    pub(crate) next: u64,
    pub(crate) live: BTreeMap<u64, Bytes>,
    redelivered_below: u64,
    redelivered: Vec<(Seq, Seq)>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Store {
    pub(crate) issued: u64,
    pub(crate) facts: BTreeMap<Bytes, Bytes>,
    pub(crate) queues: BTreeMap<QueueId, StoreQueue>,
    ended: BTreeSet<QueueId>,
    next_queue_id: u64,
    epoch: u64,
    /// Messages outside of the log, by queue and place. A restart forgets them.
    pub(crate) spilled: BTreeMap<(QueueId, u64), Bytes>,
    /// Places that cannot be read.
    pub(crate) broken: BTreeSet<(QueueId, u64)>,
}

impl Store {
    pub(crate) fn apply(&mut self, ticket: Ticket, batch: &Batch) {
        self.issued += 1;
        assert_eq!(ticket.0, self.issued, "tickets count the appends");
        assert_ne!(*batch, Batch::default(), "an append of nothing");
        for id in &batch.queues_created {
            assert!(id.0 >= self.next_queue_id, "queue ids are never reused");
            self.next_queue_id = id.0 + 1;
            self.queues.insert(*id, StoreQueue { next: 1, ..StoreQueue::default() });
        }
        for put in &batch.puts {
            assert!(!put.targets.is_empty(), "a put without targets");
            let bytes = put.record();
            for (id, seq) in &put.targets {
                let queue = self.queues.get_mut(id).expect("a put names a queue of the store");
                assert!(seq.0 >= queue.next, "places rise");
                queue.next = seq.0 + 1;
                queue.live.insert(seq.0, bytes.clone());
            }
        }
        for (id, from, last) in &batch.acks {
            assert!(!self.ended.contains(id), "an ack behind its queue's end");
            let queue = self.queues.get_mut(id).expect("an ack names a queue of the store");
            assert!(
                from <= last && last.0 < queue.next,
                "acks name places that were put, not {from} to {last}"
            );
            let mut rest = queue.live.split_off(&from.0);
            queue.live.append(&mut rest.split_off(&(last.0 + 1)));
        }
        for (key, value) in &batch.facts {
            match value {
                Some(value) => drop(self.facts.insert(key.clone(), value.clone())),
                None => assert!(self.facts.remove(key).is_some(), "the end of a fact that is not there"),
            }
        }
        for id in &batch.queues_deleted {
            assert!(self.queues.remove(id).is_some(), "the end of a queue that is not there");
            self.ended.insert(*id);
        }
    }

    /// Writes a message to a volatile segment: Ok with its places.
    pub(crate) fn spill(&mut self, put: &Put) -> Vec<(QueueId, Seq)> {
        assert!(!put.targets.is_empty(), "a message without places");
        let bytes = put.record();
        for (id, seq) in &put.targets {
            let logged = self.queues.get(id).is_some_and(|queue| queue.live.contains_key(&seq.0));
            assert!(!logged, "what is in the log is not spilled");
            assert!(self.spilled.insert((*id, seq.0), bytes.clone()).is_none(), "spilled twice");
        }
        put.targets.to_vec()
    }

    pub(crate) fn release(&mut self, places: &[(QueueId, Seq, Seq)]) {
        for (id, first, last) in places {
            assert!(first <= last, "a range of places, not {first} to {last}");
            let gone: Vec<_> =
                self.spilled.range((*id, first.0)..=(*id, last.0)).map(|(place, _)| *place).collect();
            gone.iter().for_each(|place| drop(self.spilled.remove(place)));
        }
    }

    pub(crate) fn answer(&self, fetch: &Fetch) -> Fetched {
        assert!(fetch.after.0 <= self.issued, "a fetch waits for an append that was issued");
        assert!(fetch.from < fetch.upto, "a fetch of nothing");
        let (mut records, mut lost) = (Vec::new(), Vec::new());
        let (mut upto, mut bytes, mut count) = (fetch.upto, 0, 0);
        let logged =
            self.queues.get(&fetch.queue).into_iter().flat_map(|q| q.live.range(fetch.from.0..fetch.upto.0));
        let spilled = self.spilled.range((fetch.queue, fetch.from.0)..(fetch.queue, fetch.upto.0));
        let spilled = spilled.map(|((_, seq), record)| (seq, record));
        let live: BTreeMap<&u64, &Bytes> = logged.chain(spilled).collect();
        for (seq, record) in live {
            if count >= fetch.count_max || (count > 0 && bytes + record.len() as u64 > fetch.bytes_max) {
                upto = Seq(*seq);
                break;
            }
            count += 1;
            bytes += record.len() as u64;
            if self.broken.contains(&(fetch.queue, *seq)) {
                lost.push((Seq(*seq), "bad checksum".to_string()));
            } else {
                records.push((Seq(*seq), record.clone().into()));
            }
        }
        Fetched { queue: fetch.queue, generation: fetch.generation, from: fetch.from, upto, records, lost }
    }

    /// Opens the store again, after a clean close with its mark or after a crash.
    pub(crate) fn reopen(&mut self, mark: Option<Mark>) -> Recovered {
        self.epoch += 1;
        self.issued = 0;
        self.spilled.clear();
        match mark {
            None => self.queues.values_mut().for_each(|q| q.redelivered_below = q.next),
            Some(mark) => {
                for queue in self.queues.values_mut() {
                    queue.redelivered_below = 0;
                    queue.redelivered.clear();
                }
                for (id, places) in mark {
                    self.queues.get_mut(&id).expect("the mark names a queue of the store").redelivered =
                        places;
                }
            }
        }
        Recovered {
            epoch: Epoch(self.epoch),
            next_queue_id: QueueId(self.next_queue_id.max(1)),
            facts: self.facts.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            queues: self.queues.iter().map(|(id, queue)| queue.recovered(*id)).collect(),
        }
    }
}

impl StoreQueue {
    fn recovered(&self, id: QueueId) -> RecoveredQueue {
        let head = self.live.first_key_value().map_or(self.next, |(seq, _)| *seq);
        let mut dead = Vec::new();
        let mut free = head;
        for seq in self.live.keys().copied().chain([self.next]) {
            if seq > free {
                dead.push((Seq(free), Seq(seq - 1)));
            }
            free = seq + 1;
        }
        RecoveredQueue {
            queue: id,
            next: Seq(self.next),
            head: Seq(head),
            live: self.live.len() as u64,
            dead,
            redelivered_below: Seq(self.redelivered_below),
            redelivered: self.redelivered.clone(),
        }
    }
}
