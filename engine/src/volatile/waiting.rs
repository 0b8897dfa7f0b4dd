//! Messages on their way to a volatile segment. Until they are there their owner holds them in memory as well, so
//! nothing is lost by a write that fails; and what is released meanwhile is not written at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::Put;
use crate::ids::{QueueId, Seq};

/// What a message that waits takes beside its payload, about.
const MESSAGE_BYTES: u64 = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    next: u64,
    /// In the order in which they came.
    messages: BTreeMap<u64, Put>,
    places: BTreeMap<(QueueId, Seq), u64>,
    bytes: u64,
    /// Places of those that are being written.
    writing: BTreeSet<(QueueId, Seq)>,
}

/// Messages that are written at once, with their numbers.
pub(crate) type Batch = Vec<(u64, Put)>;

impl Waiting {
    /// What they take of memory, those that are being written left out.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn push(&mut self, put: Put) {
        let number = self.next;
        self.next += 1;
        self.add(number, put);
    }

    fn add(&mut self, number: u64, put: Put) {
        self.bytes += bytes(&put);
        self.places.extend(put.targets.iter().map(|place| (*place, number)));
        self.messages.insert(number, put);
    }

    /// Takes the oldest ones, up to so many bytes, and one in any case.
    pub(crate) fn take(&mut self, bytes_max: u64) -> Batch {
        let (mut batch, mut taken) = (Vec::new(), 0);
        while let Some(entry) = self.messages.first_entry() {
            let bytes = bytes(entry.get());
            if taken > 0 && taken + bytes > bytes_max {
                break;
            }
            taken += bytes;
            let (number, put) = entry.remove_entry();
            for place in &put.targets {
                self.places.remove(place);
                self.writing.insert(*place);
            }
            batch.push((number, put));
        }
        self.bytes -= taken;
        batch
    }

    /// They are written: says which of their places are still wanted.
    pub(crate) fn written(&mut self) -> BTreeSet<(QueueId, Seq)> {
        std::mem::take(&mut self.writing)
    }

    /// They could not be written, and wait again, as far as they are still wanted.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        let wanted = self.written();
        for (number, mut put) in batch {
            put.targets.retain(|place| wanted.contains(place));
            if !put.targets.is_empty() {
                self.add(number, put);
            }
        }
    }

    /// The places of an inclusive range are not wanted any more.
    pub(crate) fn release(&mut self, queue: QueueId, first: Seq, last: Seq) {
        let range = (queue, first)..=(queue, last);
        let gone: Vec<_> =
            self.places.range(range.clone()).map(|(place, number)| (*place, *number)).collect();
        for (place, number) in gone {
            self.places.remove(&place);
            if let Some(put) = self.messages.get_mut(&number) {
                put.targets.retain(|target| *target != place);
                if put.targets.is_empty() {
                    self.bytes -= bytes(put);
                    self.messages.remove(&number);
                }
            }
        }
        let gone: Vec<_> = self.writing.range(range).copied().collect();
        for place in gone {
            self.writing.remove(&place);
        }
    }
}

fn bytes(put: &Put) -> u64 {
    (put.payload.head.len() + put.payload.body.len()) as u64 + MESSAGE_BYTES
}
