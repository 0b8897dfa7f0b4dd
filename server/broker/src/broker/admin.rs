//! Requests: the table of verbs, listings and counters.

use std::sync::Arc;

use super::Broker;
use crate::consumers::Seat;
use crate::effect::{
    BindingRow, ChannelRow, ConnectionRow, ConsumerRow, CoreStats, Effect, ExchangeRow, QueueRow, Reply,
};
use crate::ids::{ChanId, ConnId, ReqId};
use crate::input::{Binding, DestinationKind, Op};
use crate::names::is_reply_queue;
use crate::queue::Queue;
use crate::refusal::{Refusal, RefusalKind};
use crate::tickets::Waiter;
use crate::topology::VHOST;
use crate::value::Table;

/// Who makes a request.
pub(super) struct Request {
    pub(super) req: ReqId,
    pub(super) conn: Option<ConnId>,
    pub(super) chan: Option<ChanId>,
    pub(super) vhost: Arc<str>,
}

impl Broker {
    pub(super) fn request(&mut self, request: Request, op: Op, out: &mut Vec<Effect>) {
        let Request { req, conn, chan, vhost } = request;
        if chan.is_some_and(|chan| self.failed_channels.contains_key(&chan))
            && !matches!(op, Op::CloseChannel { .. } | Op::CloseConnection)
        {
            out.push(Effect::Dropped { req });
            return;
        }
        if vhost_matters(&op) && *vhost != *VHOST {
            self.fail_channel(chan, out);
            out.push(Effect::Reply { req, result: Err(no_vhost(&vhost)) });
            return;
        }
        // Answers with counts speak of a queue that has handed out what it can.
        if !matches!(op, Op::Publish(_) | Op::SettleIds { .. }) {
            self.dispatch_dirty(out);
        }
        let (result, at_once) = match op {
            // These answer in their own time.
            Op::Publish(publishes) => return self.publish_batch(req, &vhost, publishes, out),
            Op::SettleIds { ids, how } => return self.settle_ids(req, &ids, how),
            Op::Get(get) => match self.get(req, (conn, chan), &get, out) {
                Ok(()) => return,
                Err(refusal) => (Err(refusal), true),
            },
            Op::WhenIdle { chan } => {
                self.idle.insert((chan, req));
                return;
            }
            // These speak of what has to be durable.
            Op::DeclareExchange(declare) => (self.declare_exchange(declare, out), false),
            Op::DeleteExchange { name, if_unused } => (self.delete_exchange(&name, if_unused, out), false),
            Op::DeclareQueue(declare) => (self.declare_queue(conn, declare, out), false),
            Op::DeleteQueue { name, if_unused, if_empty } => {
                (self.delete_queue(conn, &name, if_unused, if_empty, out), false)
            }
            Op::PurgeQueue { name } => (self.purge_queue(conn, &name, out), false),
            Op::Bind(binding) => (self.bind(conn, binding, out), false),
            Op::Unbind(binding) => (self.unbind(conn, binding, out), false),
            Op::TxCommit { chan } => match self.tx_commit(chan, out) {
                // What it rejected may have to be read before it can move on.
                Ok(reply) => {
                    return self.tickets.wait_for_acks(Waiter::Reply { req, result: Box::new(Ok(reply)) });
                }
                Err(refusal) => (Err(refusal), false),
            },
            // These are answered at once.
            Op::Consume(consume) => (self.consume(conn, &consume, out), true),
            Op::Cancel { chan, consumer_tag } => {
                self.cancel(chan, &consumer_tag, out);
                (Ok(Reply::Done), true)
            }
            Op::ChannelPrefetch { chan, messages } => (self.channel_prefetch(chan, messages), true),
            Op::TxSelect { chan } => (self.tx_select(chan), true),
            Op::TxRollback { chan } => (self.tx_rollback(chan), true),
            Op::Recover { chan } => (self.recover(chan), true),
            Op::CloseChannel { chan } => {
                self.channel_closed(chan, out);
                (Ok(Reply::Done), true)
            }
            Op::CloseConnection => {
                if let Some(conn) = conn {
                    self.connection_closed(conn, out);
                }
                (Ok(Reply::Done), true)
            }
            Op::Barrier => (Ok(Reply::Done), true),
            Op::ListExchanges => (Ok(Reply::Exchanges(self.exchange_rows())), true),
            Op::ListQueues { name } => (self.queue_rows(name.as_ref()).map(Reply::Queues), true),
            Op::ListBindings => (Ok(Reply::Bindings(self.binding_rows())), true),
            Op::ListConsumers => (Ok(Reply::Consumers(self.consumer_rows())), true),
            Op::ListConnections => (Ok(Reply::Connections(self.connection_rows())), true),
            Op::ListChannels => (Ok(Reply::Channels(self.channel_rows())), true),
            Op::Stats => (Ok(Reply::Stats(self.stats())), true),
            Op::MakeDefaults { .. }
            | Op::AddVhost(_)
            | Op::DeleteVhost { .. }
            | Op::ListVhosts
            | Op::AddUser(_)
            | Op::ChangePassword { .. }
            | Op::DeleteUser { .. }
            | Op::SetUserTags { .. }
            | Op::ListUsers
            | Op::SetPermissions(_)
            | Op::ClearPermissions { .. }
            | Op::ListPermissions { .. }
            | Op::ListUserPermissions { .. }
            | Op::SetTopicPermissions(_)
            | Op::ClearTopicPermissions { .. }
            | Op::ListTopicPermissions { .. }
            | Op::LookUpUser { .. }
            | Op::EnterVhost { .. } => {
                let text = "users, virtual hosts and permissions are not there yet";
                (Err(Refusal::new(RefusalKind::NotImplemented, text)), true)
            }
        };
        if result.is_err() {
            self.fail_channel(chan, out);
        }
        if at_once {
            out.push(Effect::Reply { req, result });
        } else {
            self.reply_when_durable(req, result);
        }
    }

    /// Counters of the core, and what it holds now.
    pub fn stats(&self) -> CoreStats {
        // Nobody sees them in listings. Each has its one consumer.
        let reply_queues =
            self.queues.values().filter(|queue| is_reply_queue(&queue.props.name)).count() as u64;
        CoreStats {
            connections: self.connections.len() as u64,
            channels: self.channels.len() as u64,
            exchanges: self.topology.exchanges().len() as u64,
            queues: self.queues.len() as u64 - reply_queues,
            bindings: self.topology.binding_count(),
            consumers: self.consumers.len() as u64 - reply_queues,
            messages_ready: self.queues.values().map(|q| q.messages_ready()).sum(),
            messages_unacknowledged: self.queues.values().map(|q| q.messages_unacknowledged()).sum(),
            body_bytes: self.budget.used(),
            ..self.counters.clone()
        }
    }

    fn exchange_rows(&self) -> Vec<ExchangeRow> {
        let row = |name: &Arc<str>, exchange: &crate::topology::Exchange| {
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
        self.topology.exchanges().map(|(name, exchange)| row(name, exchange)).collect()
    }

    fn queue_rows(&self, name: Option<&Arc<str>>) -> Result<Vec<QueueRow>, Refusal> {
        match name {
            Some(name) => {
                let id = self.named_queue(name)?;
                Ok(self.queues.get(&id).map(queue_row).into_iter().collect())
            }
            None => Ok(self.listed_queues().map(queue_row).collect()),
        }
    }

    /// In order of their names.
    fn listed_queues(&self) -> impl Iterator<Item = &Queue> {
        let listed = self.topology.queues().filter(|(name, _)| !is_reply_queue(name));
        listed.filter_map(|(_, id)| self.queues.get(&id))
    }

    fn binding_rows(&self) -> Vec<BindingRow> {
        // Every queue is bound to the default exchange by its name.
        let by_name = self.listed_queues().map(|queue| {
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
        let bound = self.topology.bindings();
        let bound = bound.map(|bound| BindingRow { binding: bound.binding.clone(), durable: bound.durable });
        by_name.chain(bound).collect()
    }

    fn consumer_rows(&self) -> Vec<ConsumerRow> {
        let consumers =
            self.listed_queues().flat_map(|queue| queue.consumers.iter().map(move |id| (queue, id)));
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
        rows.collect()
    }

    fn connection_rows(&self) -> Vec<ConnectionRow> {
        let rows = self.connections.iter().map(|(conn, connection)| ConnectionRow {
            conn: *conn,
            info: connection.info.clone(),
            channels: connection.channels.len() as u64,
            connected_at_ms: connection.connected_at_ms,
        });
        rows.collect()
    }

    fn channel_rows(&self) -> Vec<ChannelRow> {
        let rows = self.channels.iter().map(|(chan, channel)| ChannelRow {
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

/// Whether a request speaks of things in a virtual host.
fn vhost_matters(op: &Op) -> bool {
    !matches!(
        op,
        Op::SettleIds { .. }
            | Op::Cancel { .. }
            | Op::ChannelPrefetch { .. }
            | Op::TxSelect { .. }
            | Op::TxCommit { .. }
            | Op::TxRollback { .. }
            | Op::Recover { .. }
            | Op::WhenIdle { .. }
            | Op::CloseChannel { .. }
            | Op::CloseConnection
            | Op::Barrier
            | Op::ListConnections
            | Op::ListChannels
            | Op::Stats
    )
}

pub(super) fn no_vhost(vhost: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("vhost '{vhost}' not found")).with("vhost", vhost)
}
