//! Consumers, and the order in which those of a queue take their turns.
//!
//! A queue keeps its ready consumers in rings, one per priority. One that cannot take a message is parked, once, with
//! what it waits for: its own prefetch, its channel, or the end of the one that is active in its place. It costs nothing
//! until that changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::channel::Channel;
use crate::ids::{ChanId, QueueId};

/// One consumer of the core. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConsumerId(pub(crate) u64);

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) chan: ChanId,
    pub(crate) queue: QueueId,
    pub(crate) tag: Arc<str>,
    pub(crate) prefetch_messages: u32,
    pub(crate) prefetch_bytes: u64,
    pub(crate) auto_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) priority: i32,
    pub(crate) out_messages: u64,
    pub(crate) out_bytes: u64,
    pub(crate) seat: Seat,
}

/// Where a consumer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seat {
    /// In its queue's ring, for a message.
    Ring,
    /// For one of its own deliveries to be settled.
    OwnPrefetch,
    /// In its channel's list, for credit or shared prefetch.
    Channel,
    /// Behind the single active consumer of its queue.
    Standby,
}

impl Consumer {
    /// Where this consumer belongs now.
    pub(crate) fn seat_for(&self, channel: &Channel) -> Seat {
        if !channel.has_credit() {
            return Seat::Channel;
        }
        if self.auto_ack {
            return Seat::Ring;
        }
        let messages = self.prefetch_messages == 0 || self.out_messages < u64::from(self.prefetch_messages);
        let bytes = self.prefetch_bytes == 0 || self.out_bytes < self.prefetch_bytes;
        match (messages && bytes, channel.has_prefetch()) {
            (false, _) => Seat::OwnPrefetch,
            (true, false) => Seat::Channel,
            (true, true) => Seat::Ring,
        }
    }
}

/// The ready consumers of a queue: one ring per priority, the highest first.
#[derive(Debug, Default)]
pub(crate) struct Rings(BTreeMap<Reverse<i32>, VecDeque<ConsumerId>>);

impl Rings {
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn push(&mut self, priority: i32, consumer: ConsumerId) {
        self.0.entry(Reverse(priority)).or_default().push_back(consumer);
    }

    pub(crate) fn first(&self) -> Option<ConsumerId> {
        self.0.first_key_value().and_then(|(_, ring)| ring.front().copied())
    }

    pub(crate) fn pop(&mut self) {
        let Some(mut ring) = self.0.first_entry() else { return };
        ring.get_mut().pop_front();
        if ring.get().is_empty() {
            ring.remove();
        }
    }

    /// A consumer ends.
    pub(crate) fn remove(&mut self, priority: i32, consumer: ConsumerId) {
        let Some(ring) = self.0.get_mut(&Reverse(priority)) else { return };
        ring.retain(|id| *id != consumer);
        if ring.is_empty() {
            self.0.remove(&Reverse(priority));
        }
    }

    /// The first consumer had its turn.
    pub(crate) fn rotate(&mut self) {
        if let Some(mut ring) = self.0.first_entry() {
            ring.get_mut().rotate_left(1);
        }
    }
}
