//! Consumers that start and end, gets, and prefetch.

use std::sync::Arc;

use super::Broker;
use crate::dispatch::{Consumer, ConsumerId, PendingGet, Seat};
use crate::effect::{Batch, Effect, Reply};
use crate::ids::{ChanId, ConnId, QueueId, ReqId};
use crate::input::{Consume, Get, Hold};
use crate::names;
use crate::refusal::{Refusal, RefusalKind};
use crate::topology::VHOST;

impl Broker {
    pub(super) fn consume(&mut self, conn: Option<ConnId>, consume: Consume) -> Result<Reply, Refusal> {
        let id = self.accessible_queue(conn, &consume.queue)?;
        let wanted = names::clean("consumer tag", &consume.consumer_tag)?;
        let Some(channel) = self.channels.get_mut(&consume.chan) else {
            return Err(no_channel(consume.chan));
        };
        if channel.consumers.contains_key(&wanted) {
            let text = format!("attempt to reuse consumer tag '{wanted}'");
            return Err(Refusal::new(RefusalKind::NotAllowed, text).with("consumer_tag", &*wanted));
        }
        let queue = self.queues.get_mut(&id).ok_or_else(|| super::declare::no_queue(&consume.queue))?;
        let taken = queue.consumers.first().and_then(|first| self.consumers.get(first));
        if taken.is_some_and(|first| consume.exclusive || first.exclusive) {
            let text = format!("queue '{}' in vhost '{VHOST}' in exclusive use", queue.props.name);
            return Err(Refusal::new(RefusalKind::AccessRefused, text).with("queue", &*queue.props.name));
        }

        let tag = if wanted.is_empty() { self.names.name("amq.ctag-") } else { wanted };
        let consumer_id = self.next_consumer_id;
        self.next_consumer_id = ConsumerId(consumer_id.0 + 1);
        channel.consumers.insert(tag.clone(), consumer_id);
        queue.consumers.insert(consumer_id);
        queue.had_consumer = true;
        let consumer = Consumer {
            chan: consume.chan,
            queue: id,
            tag: tag.clone(),
            prefetch_messages: consume.prefetch_messages,
            prefetch_bytes: consume.prefetch_bytes,
            auto_ack: consume.auto_ack,
            exclusive: consume.exclusive,
            priority: consume.priority,
            out_messages: 0,
            out_bytes: 0,
            seat: Seat::Channel,
        };
        self.consumers.insert(consumer_id, consumer);
        self.seat(consumer_id);
        Ok(Reply::Consuming { consumer_tag: tag, reply_to: None })
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
        Some(consumer.queue)
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
        conn: Option<ConnId>,
        get: &Get,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let id = self.check_get(conn, get)?;
        let (count, bytes_max, hold) = (get.count.max(1), get.bytes_max, get.hold);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.gets.push_back(PendingGet { req, count, bytes_max, hold, waited: false });
        }
        self.dispatch(id, out);
        Ok(())
    }

    fn check_get(&self, conn: Option<ConnId>, get: &Get) -> Result<QueueId, Refusal> {
        if self.stopping {
            return Err(Refusal::new(RefusalKind::ShuttingDown, "the broker is shutting down"));
        }
        match get.hold {
            Hold::Channel(chan) if !self.channels.contains_key(&chan) => Err(no_channel(chan)),
            _ => self.accessible_queue(conn, &get.queue),
        }
    }
}

pub(super) fn no_channel(chan: ChanId) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("channel {chan} is not open"))
}
