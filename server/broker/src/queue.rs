//! One queue: which places are ready, which are out, and what of them is in memory.
//!
//! ```text
//!  1 ........ cursor ............ loaded_to .................. next
//!    gone,    |  loaded: ready,   |  tail: ready, only counted; |  free places
//!    out or   |  in memory        |  stored ones are fetched,   |
//!    returned |                   |  some are `resident`        |
//! ```
//!
//! `returned` are messages below the cursor that were given back; they are served first, in order, which is their old
//! place (P4). A queue thus holds runs and not messages: a cold backlog costs nothing here (P7). The store alone knows
//! for good which places are dead; the core knows those of its own epoch, since what was never out is not dead, and is
//! told the older ones at the start.

mod ending;
mod ids;
mod ranges;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::budget::{Body, Budget, Fresh};
use crate::consumers::{ConsumerId, Rings};
use crate::dispatch::PendingGet;
use crate::ids::{ChanId, ConnId, QueueId, Seq};
use crate::message::Message;
use crate::recovered::RecoveredQueue;
use crate::value::{Table, Value};

pub(crate) use ids::Standing;
use ranges::Ranges;
use window::Fetching;
pub(crate) use window::Loss;

/// What a queue is declared with.
#[derive(Debug, Clone)]
pub(crate) struct QueueProps {
    pub(crate) name: Arc<str>,
    /// Survives a restart, so it is in the log. Never true for an exclusive queue.
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) exclusive_owner: Option<ConnId>,
    pub(crate) arguments: Table,
}

impl QueueProps {
    /// Whether one consumer at a time gets messages.
    pub(crate) fn single_active(&self) -> bool {
        self.arguments.get("x-single-active-consumer") == Some(&Value::Bool(true))
    }

    /// Of type quorum.
    pub(crate) fn quorum(&self) -> bool {
        matches!(self.arguments.get("x-queue-type"), Some(Value::Bytes(kind)) if &kind[..] == b"quorum")
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) props: QueueProps,
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

    next: u64,
    next_at_open: u64,
    /// The last place that is in the log, or was before a purge.
    last_stored: u64,
    loaded: VecDeque<(u64, Body)>,
    loaded_to: u64,
    /// Ready places in `[loaded_to, next)`.
    tail: u64,
    /// Those of the tail that are in memory: all transient messages, which the store does not have, and stored ones
    /// that came while a read that nearly catches up was under way.
    resident: BTreeMap<u64, Body>,
    /// Behind the last place of the tail that is not resident.
    absent_to: u64,
    returned: BTreeMap<u64, Returned>,
    /// Places of `returned` without a body.
    bodiless: BTreeSet<u64>,
    out: BTreeMap<u64, Out>,
    generation: u64,
    fetching: Option<Fetching>,
    /// Dead places from before this epoch, as far as the tail still reaches over them.
    dead_at_open: Ranges,
    redelivered_below: u64,
    redelivered: Ranges,
    memory_bytes: u64,
}

/// Counters of one queue since the start.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct QueueCounters {
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    pub(crate) redelivered: u64,
}

/// A message that was out and is ready again.
#[derive(Debug)]
struct Returned {
    attempt: u32,
    /// None: to be fetched.
    body: Option<Body>,
    stored: bool,
}

/// A message that is out.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) attempt: u32,
    pub(crate) holder: Holder,
    /// It is in the log, so its ack goes there.
    pub(crate) stored: bool,
    /// Kept for a requeue as long as the budget has room; always when it is not stored.
    body: Option<Body>,
}

/// Who has a message that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A channel, under this delivery tag.
    Channel(ChanId, u64),
    /// A lease, until this time on the lease clock.
    Lease(u64),
}

/// A ready message taken from the queue, on its way out.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) seq: Seq,
    pub(crate) attempt: u32,
    pub(crate) redelivered: bool,
    pub(crate) stored: bool,
    body: Body,
}

impl Taken {
    pub(crate) fn message(&self) -> &Arc<Message> {
        self.body.message()
    }
}

/// Where the next ready message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    InMemory,
    InStore,
    Nothing,
}

impl Queue {
    /// An empty queue.
    pub(crate) fn new(id: QueueId, props: QueueProps) -> Self {
        let first = Seq(1);
        Self::recover(
            props,
            RecoveredQueue { queue: id, next: first, head: first, ..RecoveredQueue::default() },
        )
    }

    /// A queue as the store found it.
    pub(crate) fn recover(props: QueueProps, found: RecoveredQueue) -> Self {
        let next = found.next.0.max(1);
        let head = found.head.0.clamp(1, next);
        let dead_at_open = Ranges::new(&found.dead);
        Self {
            id: found.queue,
            props,
            consumers: BTreeSet::new(),
            rings: Rings::default(),
            active: None,
            had_consumer: false,
            gets: VecDeque::new(),
            dirty: false,
            counters: QueueCounters::default(),
            next,
            next_at_open: next,
            last_stored: next - 1,
            loaded: VecDeque::new(),
            loaded_to: head,
            tail: next - head - dead_at_open.count(head, next),
            resident: BTreeMap::new(),
            absent_to: next,
            returned: BTreeMap::new(),
            bodiless: BTreeSet::new(),
            out: BTreeMap::new(),
            generation: 0,
            fetching: None,
            dead_at_open,
            redelivered_below: found.redelivered_below.0,
            redelivered: Ranges::new(&found.redelivered),
            memory_bytes: 0,
        }
    }

    pub(crate) fn messages_ready(&self) -> u64 {
        self.loaded.len() as u64 + self.tail + self.returned.len() as u64
    }

    pub(crate) fn messages_unacknowledged(&self) -> u64 {
        self.out.len() as u64
    }

    #[cfg(test)]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// What its messages in memory cost, each counted in full.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Whether this queue's place of the message goes to the log.
    pub(crate) fn stores(&self, message: &Message) -> bool {
        self.props.durable && message.persistent
    }

    /// Adds a message at the end.
    pub(crate) fn push(&mut self, fresh: &Fresh, budget: &mut Budget) -> Seq {
        let seq = self.next;
        if self.tail == 0 {
            self.loaded_to = seq;
        }
        self.next += 1;
        self.counters.published += 1;
        let stored = self.stores(fresh.message());
        if stored {
            self.last_stored = seq;
        }
        let has_room = budget.has_room_to_stay();
        if self.loaded_to == seq {
            // A ready consumer may always have one message, or a full budget would stop all queues.
            let first = self.loaded.is_empty() && self.returned.is_empty() && self.rings.any();
            if !stored || has_room || first {
                let body = self.hold(fresh, budget);
                self.loaded.push_back((seq, body));
                self.loaded_to = self.next;
                return Seq(seq);
            }
        }
        self.tail += 1;
        if !stored || (has_room && self.nearly_caught_up()) {
            let body = self.hold(fresh, budget);
            self.resident.insert(seq, body);
        } else {
            self.absent_to = self.next;
        }
        Seq(seq)
    }

    /// Where the next ready message is.
    pub(crate) fn next_ready(&mut self) -> Next {
        if let Some((_, first)) = self.returned.first_key_value() {
            return if first.body.is_some() { Next::InMemory } else { Next::InStore };
        }
        if self.loaded.is_empty() {
            self.promote_residents();
        }
        match (self.loaded.is_empty(), self.tail) {
            (false, _) => Next::InMemory,
            (true, 0) => Next::Nothing,
            (true, _) => Next::InStore,
        }
    }

    /// The next ready message, if it is in memory.
    pub(crate) fn peek(&mut self) -> Option<&Arc<Message>> {
        if self.next_ready() != Next::InMemory {
            return None;
        }
        let body = match self.returned.first_key_value() {
            Some((_, returned)) => returned.body.as_ref(),
            None => self.loaded.front().map(|(_, body)| body),
        };
        body.map(Body::message)
    }

    /// How many of the next ready messages are in memory, counted up to `most`.
    pub(crate) fn in_memory(&mut self, most: usize) -> usize {
        let returned = self.returned.values().take(most).take_while(|r| r.body.is_some()).count();
        if returned == most || returned < self.returned.len() {
            return returned;
        }
        self.promote_residents();
        most.min(returned + self.loaded.len())
    }

    /// Takes the next ready message, if it is in memory. The caller hands it to [`Queue::put_out`] or
    /// [`Queue::finish`].
    pub(crate) fn take(&mut self) -> Option<Taken> {
        if self.next_ready() != Next::InMemory {
            return None;
        }
        self.counters.delivered += 1;
        if let Some((seq, returned)) = self.returned.pop_first() {
            let body = returned.body?;
            self.counters.redelivered += 1;
            let attempt = returned.attempt + 1;
            return Some(Taken { seq: Seq(seq), attempt, redelivered: true, stored: returned.stored, body });
        }
        let (seq, body) = self.loaded.pop_front()?;
        let redelivered = self.was_delivered_before(seq);
        self.counters.redelivered += u64::from(redelivered);
        let stored = self.stores(body.message());
        Some(Taken { seq: Seq(seq), attempt: 1, redelivered, stored, body })
    }

    /// The taken message is now out.
    pub(crate) fn put_out(&mut self, taken: Taken, holder: Holder, budget: &mut Budget) {
        let body = self.keep_body(taken.body, taken.stored, budget);
        self.out.insert(taken.seq.0, Out { attempt: taken.attempt, holder, stored: taken.stored, body });
    }

    /// The taken message is settled as it leaves.
    pub(crate) fn finish(&mut self, taken: Taken, budget: &mut Budget) {
        self.counters.acked += 1;
        self.drop_body(taken.body, budget);
    }

    /// A message that is out is gone for good. Says what it was, if it was out.
    pub(crate) fn settle(&mut self, seq: Seq, budget: &mut Budget) -> Option<Out> {
        let mut out = self.out.remove(&seq.0)?;
        self.counters.acked += 1;
        if let Some(body) = out.body.take() {
            self.drop_body(body, budget);
        }
        Some(out)
    }

    /// A message that is out goes back to its old place. Says what it was, if it was out.
    pub(crate) fn requeue(&mut self, seq: Seq, budget: &mut Budget) -> Option<Out> {
        let mut out = self.out.remove(&seq.0)?;
        let body = out.body.take().and_then(|body| self.keep_body(body, out.stored, budget));
        if body.is_none() {
            self.bodiless.insert(seq.0);
        }
        self.returned.insert(seq.0, Returned { attempt: out.attempt, body, stored: out.stored });
        Some(out)
    }

    fn was_delivered_before(&self, seq: u64) -> bool {
        seq < self.next_at_open && (seq < self.redelivered_below || self.redelivered.contains(seq))
    }

    fn hold(&mut self, fresh: &Fresh, budget: &mut Budget) -> Body {
        let body = budget.hold(fresh);
        self.memory_bytes += body.cost_bytes();
        body
    }

    fn drop_body(&mut self, body: Body, budget: &mut Budget) {
        self.memory_bytes -= body.cost_bytes();
        budget.release(body);
    }

    /// Keeps a body that may be needed again, unless it is stored and the budget is short.
    fn keep_body(&mut self, body: Body, stored: bool, budget: &mut Budget) -> Option<Body> {
        if stored && !budget.has_room_to_stay() {
            self.drop_body(body, budget);
            return None;
        }
        Some(body)
    }
}
