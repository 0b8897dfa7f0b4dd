//! Transactions: publishes and settlements that wait for a commit, and are then one append.

use std::collections::BTreeMap;

use super::Broker;
use super::publish::publish_bytes;
use crate::channel::{Channel, Tx, TxPublish};
use crate::death::Reason;
use crate::effect::{Batch, Effect, Reply};
use crate::ids::{ChanId, QueueId, ReqId, Seq};
use crate::input::{Publish, Settle};
use crate::message::MESSAGE_OVERHEAD_BYTES;
use crate::queue::OutBody;
use crate::refusal::{Refusal, RefusalKind};
use crate::tickets::Waiter;
use crate::topology::Route;
use crate::vhosts::VhostId;

/// A commit that waits for bodies of what it rejects.
#[derive(Debug)]
pub(crate) struct Commit {
    chan: ChanId,
    req: ReqId,
    routes: Vec<Route>,
}

impl Broker {
    pub(super) fn tx_select(&mut self, chan: ChanId) -> Result<Reply, Refusal> {
        let channel = self.channels.get_mut(&chan).ok_or_else(|| super::consume::no_channel(chan))?;
        if !channel.strict {
            // What is refused between two commits has to end the channel, or the commit would carry out the rest.
            let text = format!("channel {chan} is not strict and cannot be transactional");
            return Err(Refusal::new(RefusalKind::NotAllowed, text));
        }
        channel.tx.get_or_insert_default();
        Ok(Reply::Done)
    }

    /// Keeps a publish for the commit. What can be refused already is refused now.
    pub(super) fn publish_in_tx(
        &mut self,
        chan: ChanId,
        tag: u64,
        vhost: Result<VhostId, Refusal>,
        publish: Publish,
        out: &mut Vec<Effect>,
    ) {
        let most = self.settings.append_bytes_max;
        let least = publish_bytes(&publish, 0);
        let checked = vhost.and_then(|vhost| self.check_route(vhost, &publish).map(|()| vhost));
        let Some(tx) = self.channels.get_mut(&chan).and_then(|channel| channel.tx.as_mut()) else { return };
        let checked = checked.and_then(|vhost| match tx.append_bytes + least {
            bytes if bytes > most => {
                let text = format!(
                    "the transaction takes {bytes} bytes of the log, and what is atomic must fit into one log segment, \
                     which takes {most}: commit more often, or raise segment-size"
                );
                Err(Refusal::new(RefusalKind::TooLarge, text))
            }
            _ => Ok(vhost),
        });
        let vhost = match checked {
            Ok(vhost) => vhost,
            Err(refusal) => {
                self.counters.confirmed += 1;
                return self.fail_publish(chan, tag, refusal, out);
            }
        };
        let bytes = cost_bytes(&publish);
        tx.append_bytes += least;
        tx.charged_bytes += bytes;
        tx.publishes.push(TxPublish { tag, vhost, publish });
        self.budget.charge(bytes);
    }

    /// Carries out all of a transaction as one append, or nothing of it. Answered once that is durable. What it rejects
    /// into a dead letter exchange is read back before, where it is not in memory: the commit waits for it.
    pub(super) fn tx_commit(
        &mut self,
        chan: ChanId,
        req: ReqId,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.tx(chan)?;
        self.may_still_publish(chan)?;
        let routes = self.route_all(chan).and_then(|routes| self.can_fit(chan).map(|()| routes));
        let routes = routes.map_err(|why| partial(&why))?;
        if self.recall_letters(chan) {
            self.commits.push(Commit { chan, req, routes });
            return Ok(());
        }
        self.commit_now(chan, routes, out)?;
        self.tickets.wait_for_acks(Waiter::Reply { req, result: Box::new(Ok(Reply::Done)) });
        Ok(())
    }

    /// Goes on with the commits that waited for bodies, as far as these are here now.
    pub(super) fn resume_commits(&mut self, out: &mut Vec<Effect>) {
        for Commit { chan, req, routes } in std::mem::take(&mut self.commits) {
            if !self.channels.contains_key(&chan) {
                out.push(Effect::Dropped { req });
            } else if self.awaits_letters(chan) {
                self.commits.push(Commit { chan, req, routes });
            } else if let Err(refusal) = self.commit_now(chan, routes, out) {
                self.fail_channel(Some(chan), out);
                self.reply_when_durable(req, Err(refusal));
            } else {
                self.tickets.wait_for_acks(Waiter::Reply { req, result: Box::new(Ok(Reply::Done)) });
            }
        }
    }

    fn commit_now(&mut self, chan: ChanId, routes: Vec<Route>, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let tx = std::mem::take(self.tx(chan)?);
        if let Err(why) = self.is_one_append(&tx, &routes, out) {
            // It goes back, so that the end of the channel finds what is out.
            *self.tx(chan)? = tx;
            return Err(partial(&why));
        }
        self.budget.discharge(tx.charged_bytes);
        self.tickets.begin_group(out);
        for (waiting, queues) in tx.publishes.into_iter().zip(routes) {
            self.carry_out(chan, waiting.tag, waiting.publish, &queues, out);
        }
        for (unacked, how) in tx.settled.values() {
            self.settle_unacked(unacked, *how);
        }
        // What it rejects moves on with it.
        self.send_letters(out);
        self.tickets.end_group(out);
        self.pass_through(out);
        self.wake_channel(chan);
        Ok(())
    }

    /// Forgets a transaction: what it was to settle is out again.
    pub(super) fn tx_rollback(&mut self, chan: ChanId) -> Result<Reply, Refusal> {
        let tx = std::mem::take(self.tx(chan)?);
        self.budget.discharge(tx.charged_bytes);
        if let Some(channel) = self.channels.get_mut(&chan) {
            tx.settled.into_iter().for_each(|(tag, (unacked, _))| channel.unacked.insert(tag, unacked));
        }
        Ok(Reply::Done)
    }

    fn tx(&mut self, chan: ChanId) -> Result<&mut Tx, Refusal> {
        let channel = self.channels.get_mut(&chan).ok_or_else(|| super::consume::no_channel(chan))?;
        channel
            .tx
            .as_mut()
            .ok_or_else(|| Refusal::new(RefusalKind::PreconditionFailed, "channel is not transactional"))
    }

    /// What a transaction gives up for dead letters: where it is out, and why it goes.
    fn given_up(&self, tx: &Tx) -> Vec<(QueueId, (QueueId, Seq), Reason)> {
        let given_up = tx.settled.values().filter_map(|(unacked, how)| {
            let id = self.owner(unacked.queue);
            let queue = self.queues.get(&id).filter(|queue| queue.known.dead_letter.is_some())?;
            let reason = match how {
                Settle::Drop => Reason::Rejected,
                Settle::Requeue if queue.is_worn_out(unacked.queue, unacked.seq) => Reason::DeliveryLimit,
                Settle::Requeue | Settle::Ack => return None,
            };
            Some((id, (unacked.queue, unacked.seq), reason))
        });
        given_up.collect()
    }

    /// Refuses what cannot be one append before anything is read for it.
    fn can_fit(&self, chan: ChanId) -> Result<(), Refusal> {
        let Some(tx) = self.channels.get(&chan).and_then(|channel| channel.tx.as_ref()) else {
            return Ok(());
        };
        let sizes = self
            .given_up(tx)
            .into_iter()
            .filter_map(|(id, (level, seq), _)| self.queues.get(&id).map(|queue| queue.out_size(level, seq)));
        self.fits(tx.append_bytes + sizes.sum::<u64>())
    }

    /// Asks for the bodies that a channel's transaction is to move and that are not in memory. Whether there are any.
    fn recall_letters(&mut self, chan: ChanId) -> bool {
        let Some(tx) = self.channels.get(&chan).and_then(|channel| channel.tx.as_ref()) else { return false };
        let mut awaits = false;
        for (id, (level, seq), _) in self.given_up(tx) {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            match queue.out_body(level, seq) {
                OutBody::Here | OutBody::Gone => {}
                OutBody::Recalled => awaits = true,
                OutBody::Away => {
                    queue.recall(level, seq);
                    self.mark_dirty(id);
                    awaits = true;
                }
            }
        }
        awaits
    }

    /// Whether a body that was asked for is still being read.
    fn awaits_letters(&self, chan: ChanId) -> bool {
        let Some(tx) = self.channels.get(&chan).and_then(|channel| channel.tx.as_ref()) else { return false };
        self.given_up(tx).into_iter().any(|(id, (level, seq), _)| {
            let queue = self.queues.get(&id);
            queue.is_some_and(|queue| queue.out_body(level, seq) == OutBody::Recalled)
        })
    }

    /// Upper bound of what the dead letters of a transaction take in the log.
    fn letters_bytes(&mut self, tx: &Tx, out: &mut Vec<Effect>) -> u64 {
        let mut bytes = 0;
        for (id, (level, seq), reason) in self.given_up(tx) {
            let message = self.queues.get(&id).and_then(|queue| queue.out_message(level, seq)).cloned();
            bytes += message.map_or(0, |message| self.letter_bytes(id, &message, reason, out));
        }
        bytes
    }

    /// Refuses what the user may not publish any more. Each publish was checked when it came; what was taken away since
    /// holds as well, since only the commit makes it a message.
    fn may_still_publish(&mut self, chan: ChanId) -> Result<(), Refusal> {
        let Some(Channel { user: Some(user), passes, tx: Some(tx), .. }) = self.channels.get_mut(&chan)
        else {
            return Ok(());
        };
        tx.publishes.iter().try_for_each(|TxPublish { vhost, publish, .. }| match self.vhosts.get(*vhost) {
            Some(vhost) => self.access.check_publish(user, passes, vhost, publish),
            // It goes nowhere, and is told so.
            None => Ok(()),
        })
    }

    /// Where the publishes of a transaction go: decided when the commit comes, also where it is carried out later.
    fn route_all(&mut self, chan: ChanId) -> Result<Vec<Route>, Refusal> {
        let tx = std::mem::take(self.tx(chan)?);
        let routes = tx.publishes.iter().map(|waiting| self.route(waiting.vhost, &waiting.publish)).collect();
        *self.tx(chan)? = tx;
        routes
    }

    /// Whether all of a transaction can be carried out as one append, and no queue refuses its part.
    fn is_one_append(&mut self, tx: &Tx, routes: &[Route], out: &mut Vec<Effect>) -> Result<(), Refusal> {
        // What each queue that may refuse has taken so far.
        let mut taken: BTreeMap<QueueId, (u64, u64)> = BTreeMap::new();
        let mut bytes = Batch::ack_bytes(tx.settled.len() as u64) + self.letters_bytes(tx, out);
        for (TxPublish { publish, .. }, queues) in tx.publishes.iter().zip(routes) {
            bytes += self.append_bytes(publish, queues);
            let size = publish.body.len() as u64;
            for id in queues.iter() {
                let Some(queue) = self.queues.get(id) else { continue };
                let so_far = taken.entry(*id).or_default();
                if queue.refuses_after(size, *so_far) {
                    return Err(self.full(*id));
                }
                *so_far = (so_far.0 + 1, so_far.1 + size);
            }
        }
        self.fits(bytes)
    }

    fn carry_out(
        &mut self,
        chan: ChanId,
        tag: u64,
        publish: Publish,
        queues: &[QueueId],
        out: &mut Vec<Effect>,
    ) {
        let mandatory = publish.mandatory;
        let (message, priority) = self.message(publish);
        if mandatory && queues.is_empty() {
            out.push(Effect::Return { chan, tag, message: message.clone() });
        }
        let done = self.enqueue(message, priority, queues, out);
        let outcome = done.outcome();
        if let Some(put) = done.put {
            self.tickets.put(put, out);
        }
        self.count(outcome);
        self.counters.confirmed += 1;
    }
}

impl Channel {
    /// Publishes on it that nobody has heard of yet, because they wait for a commit.
    pub(super) fn messages_uncommitted(&self) -> u64 {
        self.tx.as_ref().map_or(0, |tx| tx.publishes.len() as u64)
    }
}

/// AMQP clients know a commit that cannot be carried out by this.
fn partial(why: &Refusal) -> Refusal {
    Refusal::new(RefusalKind::PreconditionFailed, format!("partial tx completion: {}", why.text))
}

/// What a publish costs while it waits.
fn cost_bytes(publish: &Publish) -> u64 {
    let more_keys = publish.extras.iter().flat_map(|extras| &extras.routing_keys);
    let keys: usize = more_keys.map(|key| key.len() + size_of_val(key)).sum();
    let names = publish.exchange.len() + publish.routing_key.len();
    (publish.body.len() + publish.properties.len() + names + keys) as u64 + MESSAGE_OVERHEAD_BYTES
}
