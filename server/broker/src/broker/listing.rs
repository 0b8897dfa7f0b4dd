//! Listings and counters.

use std::sync::Arc;

use super::Broker;
use super::request::Who;
use crate::consumers::Seat;
use crate::effect::{BindingRow, ChannelRow, ConnectionRow, ConsumerRow, CoreStats, ExchangeRow, QueueRow};
use crate::input::{Binding, DestinationKind};
use crate::names::is_reply_queue;
use crate::queue::Queue;
use crate::refusal::Refusal;
use crate::topology::{Exchange, Topology};
use crate::value::Table;
use crate::vhosts::VhostRef;

impl Broker {
    /// Counters of the core, and what it holds now.
    pub fn stats(&self) -> CoreStats {
        // Nobody sees them in listings. Each has its one consumer.
        let reply_queues =
            self.queues.values().filter(|queue| is_reply_queue(&queue.props.name)).count() as u64;
        CoreStats {
            connections: self.connections.len() as u64,
            channels: self.channels.len() as u64,
            exchanges: self.vhosts.iter().map(|vhost| vhost.topology.exchanges().len() as u64).sum(),
            queues: self.queues.len() as u64 - reply_queues,
            bindings: self.vhosts.iter().map(|vhost| vhost.topology.binding_count()).sum(),
            consumers: self.consumers.len() as u64 - reply_queues,
            messages_ready: self.queues.values().map(|q| q.messages_ready()).sum(),
            messages_unacknowledged: self.queues.values().map(|q| q.messages_unacknowledged()).sum(),
            body_bytes: self.budget.used(),
            ..self.counters.clone()
        }
    }

    /// The same for the user of a request: over all there is for who may see that, else of what the user sees, and then
    /// totals are those of the queues that there are.
    pub(super) fn stats_for(&self, who: &Who) -> CoreStats {
        if who.user.as_ref().is_none_or(|user| self.sees_all(user)) {
            return self.stats();
        }
        let vhosts = || self.vhosts.iter().filter(|vhost| self.sees_vhost(who, vhost));
        let queues = || vhosts().flat_map(|vhost| self.listed_queues(&vhost.topology));
        let sum = |count: fn(&Queue) -> u64| queues().map(count).sum();
        CoreStats {
            partial: true,
            connections: self.connection_rows(who).len() as u64,
            channels: self.channel_rows(who).len() as u64,
            exchanges: vhosts().map(|vhost| vhost.topology.exchanges().len() as u64).sum(),
            queues: queues().count() as u64,
            bindings: vhosts().map(|vhost| vhost.topology.binding_count()).sum(),
            consumers: sum(|queue| queue.consumers.len() as u64),
            messages_ready: sum(Queue::messages_ready),
            messages_unacknowledged: sum(Queue::messages_unacknowledged),
            body_bytes: sum(Queue::memory_bytes),
            published: sum(|queue| queue.counters.published),
            delivered: sum(|queue| queue.counters.delivered),
            redelivered: sum(|queue| queue.counters.redelivered),
            acked: sum(|queue| queue.counters.acked),
            ..CoreStats::default()
        }
    }

    pub(super) fn exchange_rows(&self, vhost: &VhostRef) -> Result<Vec<ExchangeRow>, Refusal> {
        let row = |name: &Arc<str>, exchange: &Exchange| {
            let props = &exchange.props;
            ExchangeRow {
                name: name.clone(),
                kind: props.kind.name(),
                durable: props.durable,
                auto_delete: props.auto_delete,
                internal: props.internal,
                arguments: props.arguments.clone(),
            }
        };
        Ok(self.topology(vhost)?.exchanges().map(|(name, exchange)| row(name, exchange)).collect())
    }

    pub(super) fn queue_rows(
        &self,
        vhost: &VhostRef,
        name: Option<&Arc<str>>,
    ) -> Result<Vec<QueueRow>, Refusal> {
        match name {
            Some(name) => {
                let id = self.named_queue(vhost, name)?;
                Ok(self.queues.get(&id).map(|queue| queue_row(queue)).into_iter().collect())
            }
            None => Ok(self.listed_queues(self.topology(vhost)?).map(queue_row).collect()),
        }
    }

    /// In order of their names.
    fn listed_queues<'a>(&'a self, topology: &'a Topology) -> impl Iterator<Item = &'a Queue> {
        let listed = topology.queues().filter(|(name, _)| !is_reply_queue(name));
        listed.filter_map(|(_, id)| self.queues.get(&id).map(|queue| &**queue))
    }

    pub(super) fn binding_rows(&self, vhost: &VhostRef) -> Result<Vec<BindingRow>, Refusal> {
        let topology = self.topology(vhost)?;
        // Every queue is bound to the default exchange by its name.
        let by_name = self.listed_queues(topology).map(|queue| {
            let name = &queue.props.name;
            let binding = Binding {
                source: "".into(),
                destination_kind: DestinationKind::Queue,
                destination: name.clone(),
                routing_key: name.clone(),
                arguments: Table::default(),
            };
            BindingRow { binding, durable: queue.props.durable }
        });
        let bound = topology.bindings().map(|(binding, durable)| BindingRow { binding, durable });
        Ok(by_name.chain(bound).collect())
    }

    pub(super) fn consumer_rows(&self, vhost: &VhostRef) -> Result<Vec<ConsumerRow>, Refusal> {
        let queues = self.listed_queues(self.topology(vhost)?);
        let consumers = queues.flat_map(|queue| queue.consumers.iter().map(move |id| (queue, id)));
        let rows = consumers.filter_map(|(queue, id)| {
            let consumer = self.consumers.get(id)?;
            let channel = self.channels.get(&consumer.chan)?;
            Some(ConsumerRow {
                queue: queue.props.name.clone(),
                chan: consumer.chan,
                consumer_tag: consumer.tag.clone(),
                ack_required: !consumer.auto_ack,
                prefetch_messages: consumer.prefetch_messages,
                unacknowledged: consumer.out_messages,
                exclusive: consumer.exclusive,
                priority: consumer.priority,
                active: consumer.seat != Seat::Standby && consumer.seat_for(channel) == Seat::Ring,
            })
        });
        Ok(rows.collect())
    }

    pub(super) fn connection_rows(&self, who: &Who) -> Vec<ConnectionRow> {
        let seen = self.connections.iter().filter(|(_, connection)| self.sees(who, &connection.info));
        let rows = seen.map(|(conn, connection)| ConnectionRow {
            conn: *conn,
            info: connection.info.clone(),
            channels: connection.channels.len() as u64,
            connected_at_ms: connection.connected_at_ms,
        });
        rows.collect()
    }

    pub(super) fn channel_rows(&self, who: &Who) -> Vec<ChannelRow> {
        let seen = self.channels.iter().filter(|(_, channel)| {
            self.connections.get(&channel.conn).is_some_and(|connection| self.sees(who, &connection.info))
        });
        let rows = seen.map(|(chan, channel)| ChannelRow {
            chan: *chan,
            conn: channel.conn,
            consumers: channel.consumers.len() as u64,
            messages_unacknowledged: channel.messages_out() as u64,
            messages_unconfirmed: channel.confirms.published.saturating_sub(channel.confirms.confirmed)
                + channel.messages_uncommitted(),
            prefetch_messages: channel.prefetch_messages,
        });
        rows.collect()
    }
}

fn queue_row(queue: &Queue) -> QueueRow {
    let props = &queue.props;
    QueueRow {
        name: props.name.clone(),
        durable: props.durable,
        auto_delete: props.auto_delete,
        exclusive_owner: props.exclusive_owner,
        arguments: props.arguments.clone(),
        messages_ready: queue.messages_ready(),
        messages_unacknowledged: queue.messages_unacknowledged(),
        memory_bytes: queue.memory_bytes(),
        consumers: queue.consumers.len() as u64,
        published: queue.counters.published,
        delivered: queue.counters.delivered,
        acked: queue.counters.acked,
        redelivered: queue.counters.redelivered,
    }
}
