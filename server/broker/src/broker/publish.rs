//! Publishes: one by one on a channel, or as a batch.

use std::sync::Arc;

use super::Broker;
use super::access::vhost_refused;
use super::declare::{exchange_at, no_exchange};
use super::request::{Who, no_vhost};
use crate::access::{Access, Passes};
use crate::blob::logged_bytes;
use crate::channel::Channel;
use crate::effect::{Batch, Cause, Effect, Outcome, Reply};
use crate::ids::{ChanId, ReqId};
use crate::input::Publish;
use crate::message::Message;
use crate::names;
use crate::record;
use crate::refusal::{Refusal, RefusalKind};
use crate::tickets::Waiter;
use crate::topology::{Route, RouteError, Routing};
use crate::vhosts::{VhostId, Vhosts};

impl Broker {
    pub(super) fn publish(
        &mut self,
        chan: ChanId,
        tag: u64,
        vhost: &Arc<str>,
        publish: Publish,
        out: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get_mut(&chan) else { return };
        let vhost = channel.vhost_of(&publish, vhost, &self.vhosts, &self.access);
        if channel.tx.is_some() {
            return self.publish_in_tx(chan, tag, vhost, publish, out);
        }
        channel.confirms.published = tag;
        let strict = channel.strict;
        let mandatory = publish.mandatory;
        let routed = vhost.and_then(|vhost| {
            let queues = self.route(vhost, &publish)?;
            self.fits(self.append_bytes(&publish, &queues))?;
            Ok(queues)
        });
        let outcome = match routed {
            Err(refusal) if strict => return self.fail_publish(chan, tag, refusal, out),
            Err(refusal) => Outcome::Rejected(refusal.kind),
            Ok(queues) => {
                let (message, priority) = self.message(publish);
                if queues.is_empty() && mandatory {
                    out.push(Effect::Return { chan, tag, message: message.clone() });
                }
                let done = self.enqueue(message, priority, &queues, out);
                let outcome = done.outcome();
                if let Some(put) = done.put {
                    self.tickets.put(put, out);
                }
                // Where nobody is ready for it, the messages of a turn stay together, in one append.
                if queues.iter().any(|id| self.queues.get(id).is_some_and(|queue| queue.is_awaited())) {
                    self.pass_through(out);
                }
                outcome
            }
        };
        self.count(outcome);
        self.tickets.wait(Waiter::Confirm { chan, upto: tag, outcome });
    }

    /// Ends a strict channel by a publish that is refused.
    pub(super) fn fail_publish(&mut self, chan: ChanId, tag: u64, refusal: Refusal, out: &mut Vec<Effect>) {
        self.count(Outcome::Rejected(refusal.kind));
        self.fail_channel(Some(chan), out);
        out.push(Effect::ChannelFailed { chan, cause: Cause::Publish { tag }, refusal });
    }

    /// A batch is one append. What is rejected of it stands in the answer, the rest is published.
    pub(super) fn publish_batch(
        &mut self,
        req: ReqId,
        who: &Who,
        publishes: Vec<Publish>,
        out: &mut Vec<Effect>,
    ) {
        let mut passes = Passes::default();
        let routes = publishes.iter().map(|publish| {
            if let Some(user) = &who.user
                && let Some(vhost) = self.vhosts.get(who.vhost.id)
            {
                self.access.check_publish(user, &mut passes, vhost, publish)?;
            }
            self.route(who.vhost.id, publish)
        });
        let routes: Vec<_> = routes.collect();
        let routed = publishes.iter().zip(&routes);
        let bytes = routed
            .filter_map(|(publish, route)| Some(self.append_bytes(publish, route.as_ref().ok()?)))
            .sum();
        if let Err(refusal) = self.fits(bytes) {
            return self.reply_when_durable(req, Err(refusal));
        }
        self.tickets.begin_group(out);
        let mut results = Vec::with_capacity(publishes.len());
        for (publish, route) in publishes.into_iter().zip(routes) {
            let result = match route {
                Err(refusal) => (Outcome::Rejected(refusal.kind), Some(refusal)),
                Ok(queues) => {
                    let (message, priority) = self.message(publish);
                    let done = self.enqueue(message, priority, &queues, out);
                    let (outcome, refused) = (done.outcome(), done.refused);
                    if let Some(put) = done.put {
                        self.tickets.put(put, out);
                    }
                    (outcome, refused.map(|id| self.full(id)))
                }
            };
            self.count(result.0);
            self.counters.confirmed += 1;
            results.push(result);
        }
        self.tickets.end_group(out);
        self.pass_through(out);
        self.reply_when_durable(req, Ok(Reply::Published(results)));
    }

    /// The queues of a publish.
    pub(super) fn route(&mut self, vhost: VhostId, publish: &Publish) -> Result<Route, Refusal> {
        self.check_publish(publish)?;
        let Some(topology) = self.vhosts.topology_mut(vhost) else { return Err(vhost_gone()) };
        topology.route(Routing::of(publish)).map_err(|error| self.unroutable(error, vhost, &publish.exchange))
    }

    /// Refuses what no exchange may take.
    fn check_publish(&self, publish: &Publish) -> Result<(), Refusal> {
        let size = publish.body.len() as u64;
        if size > self.settings.message_bytes_max {
            let most = self.settings.message_bytes_max;
            let text = format!("message size {size} is larger than configured max size {most}");
            return Err(Refusal::new(RefusalKind::TooLarge, text));
        }
        names::check_length("routing key", &publish.routing_key)?;
        let mut more_keys = publish.extras.iter().flat_map(|extras| &extras.routing_keys);
        more_keys.try_for_each(|key| names::check_length("routing key", key))
    }

    /// Refuses what would be refused whatever the routing key.
    pub(super) fn check_route(&self, vhost: VhostId, publish: &Publish) -> Result<(), Refusal> {
        self.check_publish(publish)?;
        let Some(topology) = self.vhosts.topology(vhost) else { return Err(vhost_gone()) };
        let open = topology.open_to_clients(&publish.exchange);
        open.map_err(|error| self.unroutable(error, vhost, &publish.exchange))
    }

    fn unroutable(&self, error: RouteError, vhost: VhostId, exchange: &Arc<str>) -> Refusal {
        let vhost = self.vhosts.get(vhost).map_or("", |vhost| &vhost.name);
        match error {
            RouteError::NoExchange => no_exchange(vhost, exchange),
            RouteError::Internal => {
                let text = format!("cannot publish to internal {}", exchange_at(vhost, exchange));
                Refusal::new(RefusalKind::AccessRefused, text).with("exchange", &**exchange)
            }
        }
    }

    /// Refuses what the store could not take as one append.
    pub(super) fn fits(&self, bytes: u64) -> Result<(), Refusal> {
        let most = self.settings.append_bytes_max;
        if bytes <= most {
            return Ok(());
        }
        let text = format!(
            "the publish takes {bytes} bytes of the log, and what is atomic must fit into one log segment, which takes \
             {most}: publish fewer messages at once, or to fewer queues, or raise segment-size"
        );
        Err(Refusal::new(RefusalKind::TooLarge, text))
    }

    /// The message of a publish, and its priority.
    pub(super) fn message(&self, publish: Publish) -> (Arc<Message>, u8) {
        let extras = publish.extras.unwrap_or_default();
        let message = Arc::new(Message {
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            properties: publish.properties,
            body: publish.body,
            blob: publish.blob,
            received_ms: self.now_ms,
            persistent: publish.persistent,
            expiration_ms: extras.expiration_ms,
            dead_lettered: false,
        });
        (message, extras.priority)
    }

    /// With a full budget, hands out at once: what a consumer takes frees its room for the next message. Only after
    /// the append, since reads that follow from it wait for the newest append.
    pub(super) fn pass_through(&mut self, out: &mut Vec<Effect>) {
        if !self.budget.has_room_to_stay() {
            self.dispatch_dirty(out);
        }
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        self.counters.published += 1;
        match outcome {
            Outcome::Routed { .. } => {}
            Outcome::Unrouted => self.counters.unrouted += 1,
            Outcome::Rejected(_) => self.counters.rejected += 1,
        }
    }
}

impl Channel {
    /// Where a publish on it goes, if its user may make it.
    fn vhost_of(
        &mut self,
        publish: &Publish,
        name: &Arc<str>,
        vhosts: &Vhosts,
        access: &Access,
    ) -> Result<VhostId, Refusal> {
        let vhost = self.last_vhost.find(name, vhosts);
        let Some(user) = &self.user else { return vhost.ok_or_else(|| no_vhost(name)) };
        let Some(vhost) = vhost.and_then(|id| vhosts.get(id)) else { return Err(vhost_refused(user, name)) };
        access.check_publish(user, &mut self.passes, vhost, publish)?;
        Ok(vhost.id)
    }
}

/// Upper bound of what a publish to so many queues takes in the log.
pub(super) fn publish_bytes(publish: &Publish, queues: usize) -> u64 {
    let names = publish.exchange.len() + publish.routing_key.len();
    let body = logged_bytes(publish.body.len(), publish.blob.as_ref());
    let bytes = body + (publish.properties.len() + names) as u64 + record::HEADER_FIXED_BYTES;
    Batch::put_bytes(bytes, queues as u64)
}

/// A virtual host was deleted between two steps that belong together.
fn vhost_gone() -> Refusal {
    Refusal::new(RefusalKind::NotFound, "the vhost is gone")
}
