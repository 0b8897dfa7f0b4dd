//! From ready messages to who wants them: gets that wait, then consumers in turn.
//!
//! A queue keeps its ready consumers in rings, one per priority. One that cannot take a message is parked, once, with
//! what it waits for: its own prefetch, or its channel. It costs nothing until that changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::broker::Broker;
use crate::channel::{Channel, Unacked};
use crate::effect::{Deliver, Effect, Got, GotMessage, Reply};
use crate::ids::{AckId, ChanId, QueueId, ReqId};
use crate::input::Hold;
use crate::queue::{Holder, Next, Taken, Wants};
use crate::refusal::{Refusal, RefusalKind};

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

    fn first(&self) -> Option<ConsumerId> {
        self.0.first_key_value().and_then(|(_, ring)| ring.front().copied())
    }

    fn pop(&mut self) {
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
    fn rotate(&mut self) {
        if let Some(mut ring) = self.0.first_entry() {
            ring.get_mut().rotate_left(1);
        }
    }
}

/// A get that waits for messages to be read back.
#[derive(Debug)]
pub(crate) struct PendingGet {
    pub(crate) req: ReqId,
    pub(crate) count: u32,
    pub(crate) bytes_max: u64,
    pub(crate) hold: Hold,
    /// A read was made on its behalf: it takes what is there now.
    pub(crate) waited: bool,
}

impl Broker {
    /// Marks a queue for dispatch at the end of the turn.
    pub(crate) fn mark_dirty(&mut self, queue: QueueId) {
        if let Some(queue) = self.queues.get_mut(&queue)
            && !queue.dirty
        {
            queue.dirty = true;
            self.dirty.push(queue.id);
        }
    }

    pub(crate) fn dispatch_dirty(&mut self, out: &mut Vec<Effect>) {
        loop {
            let mut at = 0;
            while at < self.dirty.len() {
                self.dispatch(self.dirty[at], out);
                at += 1;
            }
            self.dirty.clear();
            if self.letters.is_empty() {
                return;
            }
            self.send_letters(out);
        }
    }

    /// Hands out what a queue has, as far as somebody can take it, and reads on where that is worth it.
    pub(crate) fn dispatch(&mut self, id: QueueId, out: &mut Vec<Effect>) {
        self.tickets.flush_puts(out);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.dirty = false;
        if self.stopping {
            // Only what a client has rejected still moves.
            let fetch = queue.plan_fetch(Wants::default(), &self.budget, self.tickets.issued());
            out.extend(fetch.map(Effect::Fetch));
            return;
        }
        self.drop_expired(id, false);
        self.serve_gets(id, out);
        while self.deliver_one(id, out) {
            self.drop_expired(id, false);
        }
        self.drop_expired(id, true);
        self.drop_overflow(id);
        // What was behind those may have expired as well.
        self.drop_expired(id, true);
        self.arm(id);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let in_store = queue.next_ready() == Next::InStore;
        let wants = Wants {
            head: !queue.gets.is_empty() || (queue.rings.any() && in_store),
            glance: in_store && (queue.can_expire() || queue.is_over_limit()),
            ahead: !queue.consumers.is_empty(),
        };
        let fetch = queue.plan_fetch(wants, &self.budget, self.tickets.issued());
        out.extend(fetch.map(Effect::Fetch));
    }

    /// Delivers the next message to the consumer whose turn it is. False when either lacks.
    fn deliver_one(&mut self, id: QueueId, out: &mut Vec<Effect>) -> bool {
        let Some(queue) = self.queues.get_mut(&id) else { return false };
        if queue.next_ready() != Next::InMemory {
            return false;
        }
        let (consumer_id, consumer, channel) = loop {
            let Some(first) = queue.rings.first() else { return false };
            let Some(consumer) = self.consumers.get_mut(&first) else {
                queue.rings.pop();
                continue;
            };
            let Some(channel) = self.channels.get_mut(&consumer.chan) else {
                queue.rings.pop();
                continue;
            };
            consumer.seat = consumer.seat_for(channel);
            match consumer.seat {
                Seat::Ring => break (first, consumer, channel),
                Seat::OwnPrefetch => {}
                Seat::Channel => channel.parked.push(first),
            }
            queue.rings.pop();
        };
        let Some(taken) = queue.take() else { return false };
        queue.rings.rotate();

        let message = taken.message().clone();
        let cost_bytes = message.cost_bytes();
        let delivery_tag = channel.next_delivery_tag();
        channel.spend_credit(cost_bytes);
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(taken.redelivered);
        out.push(Effect::Deliver(Deliver {
            chan: consumer.chan,
            consumer_tag: consumer.tag.clone(),
            delivery_tag,
            ack_id: AckId { epoch: self.epoch, queue: taken.queue, seq: taken.seq, attempt: taken.attempt },
            redelivered: taken.redelivered,
            attempt: taken.attempt,
            delivery_count: queue.delivery_count(taken.attempt),
            message,
        }));
        if consumer.auto_ack {
            self.counters.acked += 1;
            if taken.stored {
                self.tickets.ack(taken.queue, taken.seq);
            }
            queue.finish(taken, &mut self.budget);
        } else {
            consumer.out_messages += 1;
            consumer.out_bytes += cost_bytes;
            let unacked =
                Unacked { queue: taken.queue, seq: taken.seq, consumer: Some(consumer_id), cost_bytes };
            channel.unacked.insert(delivery_tag, unacked);
            queue.put_out(taken, Holder::Channel(consumer.chan, delivery_tag), &mut self.budget);
        }
        true
    }

    /// Answers the gets that wait, as far as messages are in memory.
    pub(crate) fn serve_gets(&mut self, id: QueueId, out: &mut Vec<Effect>) {
        loop {
            let Some(queue) = self.queues.get_mut(&id) else { return };
            let Some(get) = queue.gets.front_mut() else { return };
            let (count, waited) = (get.count, std::mem::replace(&mut get.waited, true));
            let here = queue.in_memory(count as usize) as u64;
            let all = queue.messages_ready().min(u64::from(count));
            if here < all && (here == 0 || !waited) {
                let wants = Wants { head: true, ..Wants::default() };
                let fetch = queue.plan_fetch(wants, &self.budget, self.tickets.issued());
                out.extend(fetch.map(Effect::Fetch));
                // It waits only for a read that will be answered.
                if queue.is_fetching() {
                    return;
                }
            }
            if let Some(get) = queue.gets.pop_front() {
                let got = self.take_for(id, &get);
                out.push(Effect::Reply { req: get.req, result: Ok(Reply::Got(got)) });
            }
        }
    }

    /// Ends the gets that wait on a queue which cannot serve them any more.
    pub(crate) fn refuse_gets(&mut self, id: QueueId, kind: RefusalKind, text: &str, out: &mut Vec<Effect>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        for get in queue.gets.drain(..) {
            out.push(Effect::Reply { req: get.req, result: Err(Refusal::new(kind, text)) });
        }
    }

    fn take_for(&mut self, id: QueueId, get: &PendingGet) -> Got {
        self.used(id);
        let mut got = Got::default();
        let mut bytes = 0;
        // Without its channel nobody is left to hold anything.
        let held = match get.hold {
            Hold::Channel(chan) => self.channels.contains_key(&chan),
            Hold::AutoAck | Hold::Lease { .. } => true,
        };
        while held && got.messages.len() < get.count as usize {
            // Only a consumer can take at once what has no time at all.
            self.drop_expired(id, true);
            let Some(queue) = self.queues.get_mut(&id) else { return got };
            let Some(message) = queue.peek() else { break };
            bytes += message.body.len() as u64;
            if bytes > get.bytes_max && !got.messages.is_empty() {
                break;
            }
            let Some(taken) = queue.take() else { break };
            got.messages.push(self.got(id, taken, get.hold));
        }
        got.messages_ready = self.queues.get(&id).map_or(0, |queue| queue.messages_ready());
        got
    }

    /// Gives a taken message to who asked for it.
    fn got(&mut self, id: QueueId, taken: Taken, hold: Hold) -> GotMessage {
        let message = taken.message().clone();
        let (level, seq, attempt, redelivered) = (taken.queue, taken.seq, taken.attempt, taken.redelivered);
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(redelivered);
        let mut got = GotMessage {
            ack_id: AckId { epoch: self.epoch, queue: level, seq, attempt },
            delivery_tag: 0,
            redelivered,
            attempt,
            delivery_count: None,
            message,
        };
        let Some(queue) = self.queues.get_mut(&id) else { return got };
        got.delivery_count = queue.delivery_count(attempt);
        let cost_bytes = got.message.cost_bytes();
        let channel = match hold {
            Hold::Channel(chan) => self.channels.get_mut(&chan).map(|channel| (chan, channel)),
            Hold::AutoAck | Hold::Lease { .. } => None,
        };
        match (hold, channel) {
            (Hold::Channel(_), Some((chan, channel))) => {
                got.delivery_tag = channel.next_delivery_tag();
                let unacked = Unacked { queue: level, seq, consumer: None, cost_bytes };
                channel.unacked.insert(got.delivery_tag, unacked);
                queue.put_out(taken, Holder::Channel(chan, got.delivery_tag), &mut self.budget);
            }
            (Hold::Lease { lease_ms }, _) => {
                let deadline = self.lease_clock_ms.saturating_add(lease_ms);
                self.leases.insert((deadline, level, seq));
                queue.put_out(taken, Holder::Lease(deadline), &mut self.budget);
            }
            _ => {
                self.counters.acked += 1;
                if taken.stored {
                    self.tickets.ack(level, seq);
                }
                queue.finish(taken, &mut self.budget);
            }
        }
        got
    }
}
