//! Transactions: publishes and settlements that wait for a commit, and are then one append.

use super::Broker;
use super::publish::publish_bytes;
use crate::channel::{Channel, Tx, TxPublish};
use crate::effect::{Batch, Effect, Reply};
use crate::ids::{ChanId, QueueId};
use crate::input::Publish;
use crate::message::MESSAGE_OVERHEAD_BYTES;
use crate::refusal::{Refusal, RefusalKind};
use crate::vhosts::VhostId;

use std::collections::BTreeMap;
use std::sync::Arc;

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

    /// Carries out all of a transaction as one append, or nothing of it.
    pub(super) fn tx_commit(&mut self, chan: ChanId, out: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        let tx = std::mem::take(self.tx(chan)?);
        let routes = match self.routes_of(&tx) {
            Ok(routes) => routes,
            Err(why) => {
                // It goes back, so that the end of the channel finds what is out.
                *self.tx(chan)? = tx;
                let text = format!("partial tx completion: {}", why.text);
                return Err(Refusal::new(RefusalKind::PreconditionFailed, text));
            }
        };
        self.budget.discharge(tx.charged_bytes);
        self.tickets.begin_group(out);
        for (waiting, queues) in tx.publishes.into_iter().zip(routes) {
            self.carry_out(chan, waiting.tag, waiting.publish, &queues, out);
        }
        for (unacked, how) in tx.settled.values() {
            self.settle_unacked(unacked, *how);
        }
        // What it rejects moves on with it, unless it has to be read first.
        self.send_letters(out);
        self.tickets.end_group(out);
        self.pass_through(out);
        self.wake_channel(chan);
        Ok(Reply::Done)
    }

    /// Forgets a transaction: what it was to settle is out again.
    pub(super) fn tx_rollback(&mut self, chan: ChanId) -> Result<Reply, Refusal> {
        let tx = std::mem::take(self.tx(chan)?);
        self.budget.discharge(tx.charged_bytes);
        if let Some(channel) = self.channels.get_mut(&chan) {
            channel.unacked.extend(tx.settled.into_iter().map(|(tag, (unacked, _))| (tag, unacked)));
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

    /// Where the publishes of a transaction go, if all of it can be carried out as one append.
    fn routes_of(&mut self, tx: &Tx) -> Result<Vec<Arc<[QueueId]>>, Refusal> {
        let mut routes = Vec::with_capacity(tx.publishes.len());
        // What each queue that may refuse has taken so far.
        let mut taken: BTreeMap<QueueId, (u64, u64)> = BTreeMap::new();
        let mut bytes = Batch::ack_bytes(tx.settled.len() as u64);
        for TxPublish { vhost, publish, .. } in &tx.publishes {
            let queues = self.route(*vhost, publish)?;
            bytes += self.append_bytes(publish, &queues);
            let size = publish.body.len() as u64;
            for id in queues.iter() {
                let Some(queue) = self.queues.get(id) else { continue };
                let so_far = taken.entry(*id).or_default();
                if queue.refuses_after(size, *so_far) {
                    return Err(self.full(*id));
                }
                *so_far = (so_far.0 + 1, so_far.1 + size);
            }
            routes.push(queues);
        }
        self.fits(bytes)?;
        Ok(routes)
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
        let done = self.enqueue(&message, priority, queues, out);
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

/// What a publish costs while it waits.
fn cost_bytes(publish: &Publish) -> u64 {
    let more_keys = publish.extras.iter().flat_map(|extras| &extras.routing_keys);
    let keys: usize = more_keys.map(|key| key.len() + size_of_val(key)).sum();
    let names = publish.exchange.len() + publish.routing_key.len();
    (publish.body.len() + publish.properties.len() + names + keys) as u64 + MESSAGE_OVERHEAD_BYTES
}
