//! From ready messages to who wants them: gets that wait, then consumers in turn.

use std::sync::Arc;

use crate::broker::Broker;
use crate::channel::Unacked;
use crate::consumers::Seat;
use crate::effect::{Deliver, Effect, Got, GotMessage, Reply};
use crate::ids::{AckId, ChanId, QueueId, ReqId};
use crate::input::Hold;
use crate::queue::{Holder, Next, Taken, Wants};
use crate::refusal::{Refusal, RefusalKind};

/// A get that waits for messages to be read back.
#[derive(Debug)]
pub(crate) struct PendingGet {
    pub(crate) req: ReqId,
    pub(crate) user: Option<Arc<str>>,
    /// The strict channel that it is made on, if any.
    pub(crate) chan: Option<ChanId>,
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
        while !self.head_waits(id) && self.deliver_one(id, out) {
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
                Seat::OwnPrefetch | Seat::Standby => {}
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
            self.tickets.leave(taken.queue, taken.seq, taken.kept, &mut self.budget);
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
                self.forget_get(&get, id);
                let got = self.take_for(id, &get);
                out.push(Effect::Reply { req: get.req, result: Ok(Reply::Got(got)) });
            }
        }
    }

    /// Ends the gets that wait on a queue which cannot serve them any more, and with each the strict channel that it
    /// was made on.
    pub(crate) fn refuse_gets(&mut self, id: QueueId, kind: RefusalKind, text: &str, out: &mut Vec<Effect>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        for get in std::mem::take(&mut queue.gets) {
            self.forget_get(&get, id);
            if get.chan.is_some_and(|chan| self.failed_channels.contains_key(&chan)) {
                out.push(Effect::Dropped { req: get.req });
                continue;
            }
            self.fail_channel(get.chan, out);
            out.push(Effect::Reply { req: get.req, result: Err(Refusal::new(kind, text)) });
        }
    }

    /// Drops the gets that wait on behalf of a strict channel that ends.
    pub(crate) fn drop_gets(&mut self, chan: ChanId, waiting: &[QueueId], out: &mut Vec<Effect>) {
        for id in waiting {
            let Some(queue) = self.queues.get_mut(id) else { continue };
            queue.gets.retain(|get| {
                let stays = get.chan != Some(chan);
                if !stays {
                    out.push(Effect::Dropped { req: get.req });
                }
                stays
            });
            // Those behind them may be served now.
            self.mark_dirty(*id);
        }
    }

    fn forget_get(&mut self, get: &PendingGet, queue: QueueId) {
        if let Some(channel) = get.chan.and_then(|chan| self.channels.get_mut(&chan)) {
            channel.forget_get(queue);
        }
    }

    fn take_for(&mut self, id: QueueId, get: &PendingGet) -> Got {
        self.used(id);
        let mut got = Got::default();
        let mut bytes = 0;
        // Without its channel nobody is left to hold anything.
        let held = match get.hold {
            Hold::Channel(chan) | Hold::AutoAckOn(chan) => self.channels.contains_key(&chan),
            Hold::AutoAck | Hold::Lease { .. } => true,
        };
        while held && got.messages.len() < get.count as usize {
            // Only a consumer can take at once what has no time at all.
            self.drop_expired(id, true);
            if self.head_waits(id) {
                break;
            }
            let Some(queue) = self.queues.get_mut(&id) else { return got };
            let Some(message) = queue.peek() else { break };
            bytes += message.body.len() as u64;
            if bytes > get.bytes_max && !got.messages.is_empty() {
                break;
            }
            let Some(taken) = queue.take() else { break };
            got.messages.push(self.got(id, taken, get));
        }
        got.messages_ready = self.queues.get(&id).map_or(0, |queue| queue.messages_ready());
        got
    }

    /// Gives a taken message to who asked for it.
    fn got(&mut self, id: QueueId, taken: Taken, get: &PendingGet) -> GotMessage {
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
        let channel = match get.hold {
            Hold::Channel(chan) | Hold::AutoAckOn(chan) => {
                self.channels.get_mut(&chan).map(|channel| (chan, channel))
            }
            Hold::AutoAck | Hold::Lease { .. } => None,
        };
        match (get.hold, channel) {
            (Hold::Channel(_), Some((chan, channel))) => {
                got.delivery_tag = channel.next_delivery_tag();
                let unacked = Unacked { queue: level, seq, consumer: None, cost_bytes };
                channel.unacked.insert(got.delivery_tag, unacked);
                queue.put_out(taken, Holder::Channel(chan, got.delivery_tag), &mut self.budget);
            }
            (Hold::Lease { lease_ms }, _) => {
                let deadline = self.lease_clock_ms.saturating_add(lease_ms);
                self.leases.insert((deadline, level, seq), get.user.clone());
                queue.put_out(taken, Holder::Lease(deadline), &mut self.budget);
            }
            (_, channel) => {
                got.delivery_tag = channel.map_or(0, |(_, channel)| channel.next_delivery_tag());
                self.counters.acked += 1;
                self.tickets.leave(level, seq, taken.kept, &mut self.budget);
                queue.finish(taken, &mut self.budget);
            }
        }
        got
    }
}
