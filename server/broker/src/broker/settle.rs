//! Settlements: by delivery tag on a channel, by ack id from anywhere, and by the end of a lease.

use super::Broker;
use super::request::Who;
use crate::access::{Right, Thing};
use crate::channel::Unacked;
use crate::consumers::{ConsumerId, Seat};
use crate::death::Reason;
use crate::effect::{Cause, Effect, Reply};
use crate::ids::{AckId, ChanId, QueueId, ReqId, Seq};
use crate::input::Settle;
use crate::queue::{Holder, Out, Queue, QueueProps, Standing};
use crate::refusal::{Refusal, RefusalKind};
use crate::tickets::Waiter;

impl Broker {
    pub(super) fn settle(
        &mut self,
        chan: ChanId,
        tag: u64,
        multiple: bool,
        how: Settle,
        out: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get_mut(&chan) else { return };
        let strict = channel.strict;
        if !strict {
            channel.settlements.count += 1;
            if !std::mem::replace(&mut channel.settlements.due, true) {
                self.settling.push(chan);
            }
        }
        let Some(taken) = channel.take_unacked(tag, multiple) else {
            if strict {
                let text = format!("unknown delivery tag {tag}");
                let refusal = Refusal::new(RefusalKind::PreconditionFailed, text);
                self.fail_channel(Some(chan), out);
                out.push(Effect::ChannelFailed { chan, cause: Cause::Settle { how, tag }, refusal });
                return;
            }
            let number = channel.settlements.count;
            channel.settlements.unknown.push((number, tag));
            return;
        };
        if let Some(tx) = &mut channel.tx {
            tx.settled.extend(taken.into_iter().map(|(tag, unacked)| (tag, (unacked, how))));
            return;
        }
        for (_, unacked) in taken {
            self.settle_unacked(&unacked, how);
        }
        self.wake_channel(chan);
    }

    /// Requeues all that is out on a channel, which stays open.
    pub(super) fn recover(&mut self, chan: ChanId) -> Result<Reply, Refusal> {
        let channel = self.channels.get_mut(&chan).ok_or_else(|| super::consume::no_channel(chan))?;
        for (_, unacked) in std::mem::take(&mut channel.unacked) {
            self.settle_unacked(&unacked, Settle::Requeue);
        }
        self.wake_channel(chan);
        Ok(Reply::Done)
    }

    /// Settles a delivery that its channel has let go of. Its queue may be gone.
    pub(super) fn settle_unacked(&mut self, unacked: &Unacked, how: Settle) {
        self.settle_place(unacked.queue, unacked.seq, how);
        self.free_prefetch(unacked);
    }

    pub(super) fn settle_ids(&mut self, req: ReqId, who: &Who, ids: &[AckId], how: Settle) {
        let results = ids.iter().map(|id| self.settle_id(who, *id, how)).collect();
        // Ids that were settled before, perhaps in this very turn, wait for those acks too.
        let result = Box::new(Ok(Reply::SettledIds(results)));
        self.tickets.wait_for_acks(Waiter::Reply { req, result });
    }

    fn settle_id(&mut self, who: &Who, id: AckId, how: Settle) -> Result<(), Refusal> {
        let queue = self.queues.get(&self.owner(id.queue));
        let Some(queue) = queue.filter(|queue| self.may_settle(who, queue, id)) else {
            return self.no_delivery_of(who);
        };
        match queue.standing(id, self.epoch) {
            Standing::Gone => Ok(()),
            Standing::Stale => {
                let text = "the delivery was taken back, or the message was never delivered under this id; \
                            get it again";
                Err(Refusal::new(RefusalKind::AckIdStale, text).with("queue", &*queue.props.name))
            }
            Standing::Out => {
                match self.settle_place(id.queue, id.seq, how).map(|out| out.holder) {
                    Some(Holder::Channel(chan, tag)) => self.let_go(chan, tag),
                    Some(Holder::Lease(deadline)) => drop(self.leases.remove(&(deadline, id.queue, id.seq))),
                    None => {}
                }
                Ok(())
            }
        }
    }

    /// Whether who makes a request may settle a delivery of a queue: who may read the queue, and whom the delivery was
    /// made to, as with a delivery tag.
    fn may_settle(&self, who: &Who, queue: &Queue, id: AckId) -> bool {
        let Some(user) = &who.user else { return true };
        let QueueProps { vhost, name, .. } = &queue.props;
        let reads = || self.access.check(user, &vhost.name, Right::Read, Thing::Queue, name).is_ok();
        let is_held = || match queue.holder(id, self.epoch) {
            Some(Holder::Channel(chan, _)) => self.channels.get(&chan).and_then(|chan| chan.user.as_ref()),
            Some(Holder::Lease(deadline)) => {
                self.leases.get(&(deadline, id.queue, id.seq)).and_then(Option::as_ref)
            }
            None => None,
        };
        (self.check_access(who.conn, queue.id).is_ok() && reads()) || is_held() == Some(user)
    }

    /// The answer for an id of which the user is not to know whether there is, or ever was, such a queue. It has to be
    /// that of a queue that is gone: who could read it must be able to settle again what was settled before its end,
    /// and what a user could read of it is not known any more. Only who reads nothing anywhere can be refused.
    fn no_delivery_of(&self, who: &Who) -> Result<(), Refusal> {
        match &who.user {
            Some(user) if !self.access.reads_anything(user) => {
                let text = format!("user '{user}' may not read any queue");
                Err(Refusal::new(RefusalKind::AccessRefused, text))
            }
            _ => Ok(()),
        }
    }

    /// Requeues what is held under leases that have ended.
    pub(super) fn end_leases(&mut self) {
        while let Some((&(deadline, queue, seq), _)) = self.leases.first_key_value()
            && deadline <= self.lease_clock_ms
        {
            self.leases.pop_first();
            self.settle_place(queue, seq, Settle::Requeue);
        }
    }

    /// Settles what is out at a place, and leaves its holder to the caller.
    fn settle_place(&mut self, level: QueueId, seq: Seq, how: Settle) -> Option<Out> {
        let id = self.owner(level);
        let queue = self.queues.get_mut(&id)?;
        let place = (level, seq);
        match how {
            Settle::Ack => {
                let out = queue.settle(level, seq, &mut self.budget)?;
                self.counters.acked += 1;
                self.tickets.leave(level, seq, out.kept, &mut self.budget);
                Some(out)
            }
            Settle::Drop => {
                let out = self.give_up_out(id, place, Reason::Rejected)?;
                self.counters.acked += 1;
                Some(out)
            }
            Settle::Requeue if queue.is_worn_out(level, seq) => {
                self.give_up_out(id, place, Reason::DeliveryLimit)
            }
            Settle::Requeue => {
                let out = queue.requeue(level, seq, &mut self.budget)?;
                self.counters.requeued += 1;
                self.mark_dirty(id);
                Some(out)
            }
        }
    }

    fn let_go(&mut self, chan: ChanId, tag: u64) {
        let Some(channel) = self.channels.get_mut(&chan) else { return };
        if let Some(unacked) = channel.let_go(tag) {
            self.free_prefetch(&unacked);
            self.wake_channel(chan);
        }
    }

    fn free_prefetch(&mut self, unacked: &Unacked) {
        let Some(id) = unacked.consumer else { return };
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.out_messages -= 1;
        consumer.out_bytes -= unacked.cost_bytes;
        if consumer.seat == Seat::OwnPrefetch {
            self.seat(id);
        }
    }

    /// Seats again the consumers that waited for their channel, if that can have changed.
    pub(super) fn wake_channel(&mut self, chan: ChanId) {
        let Some(channel) = self.channels.get_mut(&chan) else { return };
        if channel.parked.is_empty() || !channel.has_credit() {
            return;
        }
        for id in std::mem::take(&mut channel.parked) {
            self.seat(id);
        }
    }

    /// Puts a consumer that is in no ring where it belongs now.
    pub(super) fn seat(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let Some(channel) = self.channels.get_mut(&consumer.chan) else { return };
        consumer.seat = consumer.seat_for(channel);
        match consumer.seat {
            Seat::OwnPrefetch | Seat::Standby => {}
            Seat::Channel => channel.parked.push(id),
            Seat::Ring => {
                let (queue, priority) = (consumer.queue, consumer.priority);
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.rings.push(priority, id);
                }
                self.mark_dirty(queue);
            }
        }
    }
}
