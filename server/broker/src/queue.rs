//! One queue: which messages are ready, which are out, and what of them is in memory.
//!
//! A queue has a [`level`] for each priority that it was ever sent a message with, the highest first; without
//! priorities there is one. Each level is a queue of its own to the store, so that priorities need no index of
//! messages: the next message is the first one of the highest level that has any. The level of priority 0 has the
//! queue's own number, the others are named in the queue's fact.

mod aside;
mod dying;
mod ending;
mod ids;
mod lengths;
mod level;
mod ranges;
mod recall;
mod spilled;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::arguments::{QueueArguments, QueueType};
use crate::budget::{Budget, Fresh};
use crate::consumers::{ConsumerId, Rings};
use crate::dispatch::PendingGet;
use crate::ids::{ConnId, QueueId, Seq};
use crate::message::Message;
use crate::recovered::RecoveredQueue;
use crate::seldom::Seldom;
use crate::value::Table;
use crate::vhosts::VhostRef;

pub(crate) use dying::Dead;
#[cfg(test)]
pub(crate) use dying::WAITING_MAX;
pub(crate) use ids::Standing;
pub(crate) use level::{Holder, Next, Out, Taken};
use level::{Keeps, Level};
pub(crate) use recall::OutBody;
pub(crate) use window::{Loss, Wants};

/// What a queue is declared with.
#[derive(Debug, Clone)]
pub(crate) struct QueueProps {
    pub(crate) vhost: VhostRef,
    pub(crate) name: Arc<str>,
    /// Survives a restart, so it is in the log. Never true for an exclusive queue.
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) exclusive_owner: Option<ConnId>,
    /// As they were declared.
    pub(crate) arguments: Table,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) props: QueueProps,
    /// What its arguments ask for.
    pub(crate) known: Seldom<QueueArguments>,
    pub(crate) consumers: BTreeSet<ConsumerId>,
    pub(crate) rings: Rings,
    /// The consumer that alone gets messages, where there is a single active one.
    pub(crate) active: Option<ConsumerId>,
    /// It had a consumer since it is here: auto-delete applies.
    pub(crate) had_consumer: bool,
    /// Gets that wait for messages to be read back, in order.
    pub(crate) gets: VecDeque<PendingGet>,
    /// Waits for dispatch at the end of this turn.
    pub(crate) dirty: bool,
    pub(crate) counters: QueueCounters,
    /// It was sent a message that expires by itself. Known for good once it is true: its fact says so.
    pub(crate) expiring: bool,
    /// When its next message expires, if a timer says so.
    pub(crate) timer_ms: Option<u64>,
    /// When it was last used, on the lease clock.
    pub(crate) used_ms: u64,
    /// A timer will look whether it is still used.
    pub(crate) watched: bool,
    /// The operator knows that dead letters of it would go in a circle.
    pub(crate) told_of_cycle: bool,
    /// By priority, the highest first. Never empty: the last one is that of priority 0.
    levels: Vec<Level>,
}

/// Counters of one queue since the start.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct QueueCounters {
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    pub(crate) redelivered: u64,
}

impl Queue {
    /// Somebody would take a message now: a consumer with room, or a get.
    pub(crate) fn is_awaited(&self) -> bool {
        self.rings.any() || !self.gets.is_empty()
    }

    /// An empty queue.
    pub(crate) fn new(id: QueueId, props: QueueProps) -> Self {
        let first = Seq(1);
        Self::recover(
            props,
            RecoveredQueue { queue: id, next: first, head: first, ..RecoveredQueue::default() },
        )
    }

    /// A queue as the store found it, without its levels above priority 0.
    pub(crate) fn recover(mut props: QueueProps, found: RecoveredQueue) -> Self {
        props.arguments.0.shrink_to_fit();
        let known = Seldom::new(QueueArguments::read(&props.arguments));
        let mut queue = Self {
            id: found.queue,
            props,
            known,
            consumers: BTreeSet::new(),
            rings: Rings::default(),
            active: None,
            had_consumer: false,
            gets: VecDeque::new(),
            dirty: false,
            counters: QueueCounters::default(),
            expiring: false,
            timer_ms: None,
            used_ms: 0,
            watched: false,
            told_of_cycle: false,
            levels: Vec::new(),
        };
        queue.recover_level(0, found);
        queue
    }

    /// One of its levels as the store found it.
    pub(crate) fn recover_level(&mut self, priority: u8, found: RecoveredQueue) {
        let level = Level::recover(priority, self.keeps(), self.known.bytes_max.is_some(), found);
        self.insert_level(level);
    }

    /// The priority under which this queue files a message of that one.
    pub(crate) fn priority(&self, priority: u8) -> u8 {
        priority.min(self.known.priority_max)
    }

    /// Whether it has a level for that priority.
    pub(crate) fn has_level(&self, priority: u8) -> bool {
        self.levels.iter().any(|level| level.priority == priority)
    }

    /// Makes a level for a priority that it has none for.
    pub(crate) fn add_level(&mut self, priority: u8, id: QueueId) {
        let level = Level::new(id, priority, self.keeps(), self.known.bytes_max.is_some());
        self.insert_level(level);
    }

    fn insert_level(&mut self, level: Level) {
        let at = self.levels.partition_point(|other| other.priority > level.priority);
        // Most queues have one, and are many.
        self.levels.reserve_exact(1);
        self.levels.insert(at, level);
    }

    /// Priorities and numbers of its levels above priority 0.
    pub(crate) fn upper_levels(&self) -> impl Iterator<Item = (u8, QueueId)> {
        self.levels.iter().filter(|level| level.priority > 0).map(|level| (level.priority, level.id))
    }

    fn keeps(&self) -> Keeps {
        match (self.props.durable, self.known.queue_type) {
            (false, _) => Keeps::Nothing,
            (true, QueueType::Classic) => Keeps::Persistent,
            (true, QueueType::Quorum) => Keeps::Everything,
        }
    }

    fn level(&self, id: QueueId) -> Option<&Level> {
        self.levels.iter().find(|level| level.id == id)
    }

    fn level_mut(&mut self, id: QueueId) -> Option<&mut Level> {
        self.levels.iter_mut().find(|level| level.id == id)
    }

    /// The level whose turn it is.
    fn head_level(&mut self) -> Option<&mut Level> {
        self.levels.iter_mut().find(|level| level.ready() > 0)
    }

    pub(crate) fn messages_ready(&self) -> u64 {
        self.levels.iter().map(Level::ready).sum()
    }

    pub(crate) fn messages_unacknowledged(&self) -> u64 {
        self.levels.iter().map(|level| level.out.len() as u64).sum()
    }

    #[cfg(test)]
    pub(crate) fn generation(&self, id: QueueId) -> Option<u64> {
        self.level(id).map(|level| level.generation)
    }

    /// What its messages in memory cost, each counted in full.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.memory_bytes).sum()
    }

    /// Whether this queue's place of the message goes to the log.
    pub(crate) fn stores(&self, message: &Message) -> bool {
        self.keeps().keeps(message)
    }

    /// Whether messages in it can expire.
    pub(crate) fn can_expire(&self) -> bool {
        self.expiring || self.known.message_ttl_ms.is_some()
    }

    /// When a message of it expires.
    pub(crate) fn deadline_ms(&self, message: &Message) -> Option<u64> {
        let ttl_ms = match (self.known.message_ttl_ms, message.expiration_ms) {
            (Some(queue), Some(message)) => queue.min(message),
            (queue, message) => queue.or(message)?,
        };
        Some(message.received_ms.saturating_add(ttl_ms))
    }

    /// Adds a message at the end of the level of that priority, which exists. The place that it takes is the answer.
    pub(crate) fn push(
        &mut self,
        fresh: &Fresh,
        priority: u8,
        budget: &mut Budget,
    ) -> Option<(QueueId, Seq)> {
        let taker = self.rings.any();
        let level = self.levels.iter_mut().find(|level| level.priority == priority)?;
        self.counters.published += 1;
        Some((level.id, level.push(fresh, taker, budget)))
    }

    /// The next ready message, if it is in memory.
    pub(crate) fn peek(&mut self) -> Option<&Arc<Message>> {
        self.head_level()?.peek()
    }

    /// How many of the next ready messages are in memory, counted up to `most`.
    pub(crate) fn in_memory(&mut self, most: usize) -> usize {
        let mut here = 0;
        for level in &mut self.levels {
            let count = level.in_memory(most - here);
            here += count;
            if here == most || (count as u64) < level.ready() {
                break;
            }
        }
        here
    }

    /// Takes the next ready message for a delivery, if it is in memory. The caller hands it to [`Queue::put_out`] or
    /// [`Queue::finish`].
    pub(crate) fn take(&mut self) -> Option<Taken> {
        let taken = self.remove()?;
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(taken.redelivered);
        Some(taken)
    }

    /// Takes the next ready message out without delivering it, if it is in memory. The caller hands it to
    /// [`Queue::discard`].
    pub(crate) fn remove(&mut self) -> Option<Taken> {
        self.head_level()?.take()
    }

    /// The taken message is now out.
    pub(crate) fn put_out(&mut self, taken: Taken, holder: Holder, budget: &mut Budget) {
        if let Some(level) = self.level_mut(taken.queue) {
            level.put_out(taken, holder, budget);
        }
    }

    /// The taken message is settled as it leaves.
    pub(crate) fn finish(&mut self, taken: Taken, budget: &mut Budget) {
        self.counters.acked += 1;
        self.discard(taken, budget);
    }

    /// The taken message leaves memory.
    pub(crate) fn discard(&mut self, taken: Taken, budget: &mut Budget) {
        if let Some(level) = self.level_mut(taken.queue) {
            level.drop_body(taken.body, budget);
        }
    }

    /// A message that is out is gone for good. Says what it was, if it was out.
    pub(crate) fn settle(&mut self, id: QueueId, seq: Seq, budget: &mut Budget) -> Option<Out> {
        let out = self.level_mut(id)?.settle(seq, budget)?;
        self.counters.acked += 1;
        Some(out)
    }

    /// A message that is out goes back to its old place. Says what it was, if it was out.
    pub(crate) fn requeue(&mut self, id: QueueId, seq: Seq, budget: &mut Budget) -> Option<Out> {
        self.level_mut(id)?.requeue(seq, budget)
    }

    /// Whether a message that is out was delivered more often than its queue allows, so that it does not come back.
    pub(crate) fn is_worn_out(&self, id: QueueId, seq: Seq) -> bool {
        let out = self.level(id).and_then(|level| level.out.get(seq.0));
        self.known.delivery_limit.zip(out).is_some_and(|(limit, out)| out.attempt > limit)
    }

    /// How often a message came back before this delivery, where its queue counts that.
    pub(crate) fn delivery_count(&self, attempt: u32) -> Option<u32> {
        (self.known.queue_type == QueueType::Quorum).then(|| attempt.saturating_sub(1))
    }
}
