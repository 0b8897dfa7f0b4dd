//! Consumers that start and end, gets, and prefetch.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Broker;
use super::declare::{no_queue, queue_at};
use super::request::Who;
use crate::arguments::QueueType;
use crate::consumers::{Consumer, ConsumerId, Seat};
use crate::dispatch::PendingGet;
use crate::effect::{Batch, Effect, Reply};
use crate::ids::{ChanId, QueueId, ReqId};
use crate::input::{Consume, Get, Hold};
use crate::names;
use crate::refusal::{Refusal, RefusalKind};

impl Broker {
    pub(super) fn consume(
        &mut self,
        who: &Who,
        consume: &Consume,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let tag = names::clean("consumer tag", &consume.consumer_tag)?;
        let channel = self.channels.get(&consume.chan).ok_or_else(|| no_channel(consume.chan))?;
        if channel.consumers.contains_key(&tag) {
            let text = format!("attempt to reuse consumer tag '{tag}'");
            return Err(Refusal::new(RefusalKind::NotAllowed, text).with("consumer_tag", &*tag));
        }
        if *consume.queue == *names::REPLY_TO {
            let (id, reply_to) = self.open_reply_queue(&who.vhost, consume, out)?;
            let consumer_tag = self.add_consumer(id, tag, consume);
            return Ok(Reply::Consuming { consumer_tag, reply_to: Some(reply_to) });
        }
        let id = self.readable_queue(who, &consume.queue)?;
        let queue = self.queues.get(&id).ok_or_else(|| no_queue(&who.vhost.name, &consume.queue))?;
        // As on RabbitMQ a quorum queue takes no notice of it.
        let exclusive = consume.exclusive && queue.known.queue_type == QueueType::Classic;
        let taken = queue.consumers.first().and_then(|first| self.consumers.get(first));
        let taken = taken.is_some_and(|first| exclusive || first.exclusive);
        if taken || (exclusive && queue.known.single_active_consumer) {
            let text = format!("{} in exclusive use", queue_at(&who.vhost.name, &queue.props.name));
            return Err(Refusal::new(RefusalKind::AccessRefused, text).with("queue", &*queue.props.name));
        }
        let consumer_tag = self.add_consumer(id, tag, &Consume { exclusive, ..consume.clone() });
        Ok(Reply::Consuming { consumer_tag, reply_to: None })
    }

    /// Adds a consumer to its queue and its channel. The answer is its tag.
    fn add_consumer(&mut self, queue: QueueId, tag: Arc<str>, consume: &Consume) -> Arc<str> {
        let tag = if tag.is_empty() { self.names.name("amq.ctag-") } else { tag };
        let id = self.next_consumer_id;
        self.next_consumer_id = ConsumerId(id.0 + 1);
        if let Some(channel) = self.channels.get_mut(&consume.chan) {
            channel.consumers.insert(tag.clone(), id);
        }
        let single_active = self.queues.get_mut(&queue).is_some_and(|queue| {
            queue.consumers.insert(id);
            queue.had_consumer = true;
            queue.known.single_active_consumer
        });
        let consumer = Consumer {
            chan: consume.chan,
            queue,
            tag: tag.clone(),
            prefetch_messages: consume.prefetch_messages,
            prefetch_bytes: consume.prefetch_bytes,
            auto_ack: consume.auto_ack,
            exclusive: consume.exclusive,
            priority: consume.priority,
            out_messages: 0,
            out_bytes: 0,
            seat: Seat::Standby,
        };
        self.consumers.insert(id, consumer);
        if single_active {
            self.activate_next(queue);
        } else {
            self.seat(id);
        }
        tag
    }

    /// Ends a consumer. One that is not there is fine.
    pub(super) fn cancel(&mut self, chan: ChanId, tag: &Arc<str>, out: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get_mut(&chan) else { return };
        let Some(id) = channel.consumers.remove(tag) else { return };
        if let Some(queue) = self.remove_consumer(id) {
            self.delete_if_abandoned(queue, out);
        }
    }

    /// Takes a consumer out of its queue, which is the answer. What it has out stays out.
    pub(super) fn remove_consumer(&mut self, id: ConsumerId) -> Option<QueueId> {
        let consumer = self.consumers.remove(&id)?;
        if consumer.seat == Seat::Channel
            && let Some(channel) = self.channels.get_mut(&consumer.chan)
        {
            channel.parked.retain(|parked| *parked != id);
        }
        let queue = self.queues.get_mut(&consumer.queue)?;
        queue.consumers.remove(&id);
        if consumer.seat == Seat::Ring {
            queue.rings.remove(consumer.priority, id);
        }
        if queue.active == Some(id) {
            queue.active = None;
            self.activate_next(consumer.queue);
        }
        self.used(consumer.queue);
        Some(consumer.queue)
    }

    /// Lets the next consumer of a queue with a single active one take over: the oldest of the highest priority. One
    /// that is active stays so, whoever comes later.
    fn activate_next(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if !queue.known.single_active_consumer || queue.active.is_some() {
            return;
        }
        let rank = |id: &ConsumerId| (self.consumers.get(id).map(|c| Reverse(c.priority)), *id);
        queue.active = queue.consumers.iter().copied().min_by_key(rank);
        if let Some(next) = queue.active {
            self.seat(next);
        }
    }

    /// Deletes an auto-delete queue whose last consumer has gone.
    pub(super) fn delete_if_abandoned(&mut self, id: QueueId, out: &mut Vec<Effect>) {
        let Some(queue) = self.queues.get(&id) else { return };
        if queue.props.auto_delete && queue.had_consumer && queue.consumers.is_empty() {
            let mut batch = Batch::default();
            self.remove_queue(id, &mut batch, out);
            self.append_unless_empty(batch, out);
        }
    }

    pub(super) fn channel_prefetch(&mut self, chan: ChanId, messages: u32) -> Result<Reply, Refusal> {
        let channel = self.channels.get_mut(&chan).ok_or_else(|| no_channel(chan))?;
        channel.prefetch_messages = messages;
        self.wake_channel(chan);
        Ok(Reply::Done)
    }

    /// Answers at once, unless messages have to be read back first. A refusal is the caller's to tell.
    pub(super) fn get(
        &mut self,
        req: ReqId,
        who: &Who,
        get: &Get,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let id = self.check_get(who, get)?;
        let chan = who.chan;
        let (count, bytes_max, hold) = (get.count.max(1), get.bytes_max, get.hold);
        if let Some(queue) = self.queues.get_mut(&id) {
            let user = who.user.clone();
            queue.gets.push_back(PendingGet { req, user, chan, count, bytes_max, hold, waited: false });
        }
        if let Some(channel) = chan.and_then(|chan| self.channels.get_mut(&chan)) {
            channel.gets.push(id);
        }
        self.dispatch(id, out);
        Ok(())
    }

    fn check_get(&self, who: &Who, get: &Get) -> Result<QueueId, Refusal> {
        if self.stopping {
            return Err(Refusal::new(RefusalKind::ShuttingDown, "the broker is shutting down"));
        }
        if let Hold::Channel(chan) | Hold::AutoAckOn(chan) = get.hold
            && !self.channels.contains_key(&chan)
        {
            return Err(no_channel(chan));
        }
        let id = self.readable_queue(who, &get.queue)?;
        let known = |queue: &&crate::queue::Queue| {
            queue.known.queue_type == QueueType::Quorum && queue.known.single_active_consumer
        };
        if let Some(props) =
            self.queues.get(&id).map(|queue| &**queue).filter(known).map(|queue| &queue.props)
        {
            let text = format!(
                "cannot obtain access to locked {}. basic.get operations are not supported by quorum queues with single \
                 active consumer",
                queue_at(&props.vhost.name, &props.name)
            );
            return Err(Refusal::new(RefusalKind::ResourceLocked, text).with("queue", &*props.name));
        }
        Ok(id)
    }
}

pub(super) fn no_channel(chan: ChanId) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("channel {chan} is not open"))
}
