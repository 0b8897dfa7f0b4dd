//! What must be left after a crash or a close.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::oracle::{Message, No, Oracle, Queue, State};
use super::run::number;
use crate::broker::tests::store::Store;
use crate::ids::QueueId;
use crate::record;

/// What clients were told and what thus must survive.
#[derive(Default)]
pub(super) struct Promises {
    pub(super) stored: BTreeSet<(QueueId, No)>,
    pub(super) gone: BTreeSet<(QueueId, No)>,
    pub(super) declared: BTreeSet<QueueId>,
    pub(super) deleted: BTreeSet<QueueId>,
}

impl Promises {
    /// Whether a store that a crash or a close left keeps them.
    pub(super) fn check(&self, oracle: &Oracle, store: &Store) {
        for (queue, no) in &self.stored {
            let removed = oracle.queues.get(queue).is_none_or(|q| !q.messages.contains_key(no));
            let there = store.queues.contains_key(queue) && stored(store, *queue).contains_key(no);
            assert!(there || removed, "confirmed message {no} is lost");
        }
        for (queue, no) in &self.gone {
            let there = store.queues.contains_key(queue) && stored(store, *queue).contains_key(no);
            assert!(!there, "message {no} came back after its ack was confirmed");
        }
        for id in self.declared.iter().filter(|id| oracle.queues.get(id).is_some_and(|q| q.durable)) {
            assert!(store.queues.contains_key(id), "a declared queue is lost");
        }
        for id in &self.deleted {
            assert!(!store.queues.contains_key(id), "a deleted queue is back");
        }
    }
}

/// The model of what a store holds.
pub(super) fn survivors(oracle: &Oracle, store: &Store, clean: bool) -> BTreeMap<QueueId, Queue> {
    let mut queues = BTreeMap::new();
    for id in store.queues.keys() {
        let old = oracle.queues.get(id);
        let mut queue = Queue { durable: true, ..Queue::default() };
        for no in stored(store, *id).into_keys() {
            let delivered = match old.and_then(|q| q.messages.get(&no)) {
                Some(message) if clean => {
                    assert!(message.persistent);
                    message.delivered
                }
                _ => true,
            };
            assert!(old.is_none_or(|q| q.ever.contains(&no)), "message {no} was never published there");
            let message = Message { state: State::Ready, attempts: 0, delivered, persistent: true };
            queue.messages.insert(no, message);
            queue.ever.insert(no);
        }
        queues.insert(*id, queue);
    }
    if clean {
        for (id, old) in oracle.queues.iter().filter(|(_, q)| q.durable) {
            let kept = old.messages.iter().filter(|(_, m)| m.persistent).map(|(no, _)| no);
            assert!(kept.eq(queues[id].messages.keys()), "a clean restart keeps all");
        }
    }
    queues
}

fn stored(store: &Store, queue: QueueId) -> BTreeMap<No, u64> {
    let live = &store.queues[&queue].live;
    let no = |record: &Bytes| number(&record::decode_message(record).expect("a message"));
    live.iter().map(|(seq, record)| (no(record), *seq)).collect()
}
