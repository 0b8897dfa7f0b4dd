//! Direct reply-to: a consumer of `amq.rabbitmq.reply-to` has a queue of its own for the answers it asks for.
//!
//! The queue is like any other in what it does with messages, credit and its consumer; of answers that nobody reads it
//! keeps the newest, so that they do not fill the memory: at most once is all that is promised. It is transient, belongs to the
//! channel's connection, goes with its consumer, and its name is a secret that only messages carry: no listing shows
//! it, and nobody can bind, consume, purge or delete it.

use std::sync::Arc;

use super::Broker;
use crate::effect::{Effect, Reply};
use crate::ids::QueueId;
use crate::input::Consume;
use crate::names;
use crate::queue::QueueProps;
use crate::refusal::{Refusal, RefusalKind};
use crate::value::{Table, Value};
use crate::vhosts::VhostRef;

/// Bytes of answers that wait: this part of the memory budget, or this much.
const WAITING_PART: u64 = 8;
const WAITING_BYTES_MIN: u64 = 1 << 20;

impl Broker {
    /// A new queue for a consumer of replies, and its name.
    pub(super) fn open_reply_queue(
        &mut self,
        vhost: &VhostRef,
        consume: &Consume,
        out: &mut Vec<Effect>,
    ) -> Result<(QueueId, Arc<str>), Refusal> {
        let Some(channel) = self.channels.get(&consume.chan) else {
            return Err(super::consume::no_channel(consume.chan));
        };
        let refuse = |text: &str| Err(Refusal::new(RefusalKind::PreconditionFailed, text));
        let consumers = channel.consumers.values().filter_map(|id| self.consumers.get(id));
        let mut queues = consumers.filter_map(|consumer| self.queues.get(&consumer.queue));
        if queues.any(|queue| names::is_reply_queue(&queue.props.name)) {
            return refuse("reply consumer already set");
        }
        if !consume.auto_ack {
            return refuse("reply consumer cannot acknowledge");
        }
        let owner = channel.conn;
        let name = self.names.name(&format!("{}.", names::REPLY_TO));
        let most = (self.settings.memory_budget_bytes / WAITING_PART).max(WAITING_BYTES_MIN);
        let most = Value::I64(i64::try_from(most).unwrap_or(i64::MAX));
        let props = QueueProps {
            vhost: vhost.clone(),
            name: name.clone(),
            durable: false,
            auto_delete: true,
            exclusive_owner: Some(owner),
            arguments: Table(vec![("x-max-length-bytes".into(), most)]),
        };
        Ok((self.add_queue(props, out), name))
    }

    /// A declare of a queue for replies, whoever asks: is somebody there to take them?
    pub(super) fn declare_reply_queue(&self, vhost: &VhostRef, name: &Arc<str>) -> Result<Reply, Refusal> {
        if **name != *names::REPLY_TO && self.topology(vhost)?.queue(name).is_none() {
            return Err(super::declare::no_queue(&vhost.name, name));
        }
        Ok(Reply::QueueDeclared { name: name.clone(), messages_ready: 0, consumers: 1 })
    }
}
