//! From a message and its queues to places in them. Publishes and dead letters both come this way.

use std::sync::Arc;

use super::Broker;
use super::declare::{queue_at, queue_fact};
use super::publish::publish_bytes;
use crate::arguments::Overflow;
use crate::budget::{Fresh, Kept};
use crate::death::Reason;
use crate::effect::{Batch, Effect, Outcome, Put, Targets};
use crate::ids::{QueueId, Seq};
use crate::input::Publish;
use crate::message::Message;
use crate::queue::{Dead, Queue};
use crate::refusal::{Refusal, RefusalKind};

/// Upper bound of what a queue's fact takes beside its value as it is, when it learns of a level or of messages that
/// expire; with the level's beginning.
const LEARNED_BYTES: u64 = 512;

/// Upper bound of what a queue may have to write of itself before a message of a new kind.
pub(super) fn learned_bytes(queue: &Queue) -> u64 {
    if queue.props.durable { LEARNED_BYTES + queue_fact(queue).value().len() as u64 } else { 0 }
}

/// What became of a message.
#[derive(Debug, Default)]
pub(super) struct Enqueued {
    /// What has to go to the log for it.
    pub(super) put: Option<Put>,
    /// Queues that have it now.
    pub(super) queues: u32,
    /// A queue that refused it, being full.
    pub(super) refused: Option<QueueId>,
}

impl Enqueued {
    pub(super) fn outcome(&self) -> Outcome {
        match (self.refused, self.queues) {
            (Some(_), _) => Outcome::Rejected(RefusalKind::Overflow),
            (None, 0) => Outcome::Unrouted,
            (None, queues) => Outcome::Routed { queues },
        }
    }
}

impl Broker {
    /// Puts a message into its queues, those apart that are full and refuse more.
    pub(super) fn enqueue(
        &mut self,
        message: Arc<Message>,
        priority: u8,
        queues: &[QueueId],
        out: &mut Vec<Effect>,
    ) -> Enqueued {
        let fresh = Fresh::new(message, queues.len());
        let mut done = Enqueued::default();
        let mut targets = Targets::new();
        for id in queues {
            if self.is_refused(*id, fresh.message(), out) {
                done.refused = Some(*id);
                continue;
            }
            self.prepare(*id, fresh.message(), priority, out);
            let Some(queue) = self.queues.get_mut(id) else { continue };
            let level = queue.priority(priority);
            let Some(place) = queue.push(&fresh, level, &mut self.budget) else { continue };
            done.queues += 1;
            if queue.stores(fresh.message()) {
                targets.push(place);
            }
            if !std::mem::replace(&mut queue.dirty, true) {
                self.dirty.push(*id);
            }
        }
        if !targets.is_empty() {
            done.put = Some(Put { targets, message: fresh.into_message() });
        }
        done
    }

    /// Why a full queue refused a message.
    pub(super) fn full(&self, id: QueueId) -> Refusal {
        let (what, name) = self.queues.get(&id).map_or((String::new(), ""), |queue| {
            (queue_at(&queue.props.vhost.name, &queue.props.name), &queue.props.name)
        });
        let text = format!("{what} is full and takes no more messages");
        Refusal::new(RefusalKind::Overflow, text).with("queue", name)
    }

    /// Whether a queue is full and refuses the message, which then is dead-lettered if the queue says so.
    fn is_refused(&mut self, id: QueueId, message: &Arc<Message>, out: &mut Vec<Effect>) -> bool {
        let refuses = |broker: &Self| broker.queues.get(&id).is_some_and(|queue| queue.refuses(message));
        if !refuses(self) {
            return false;
        }
        // What a consumer is ready for is not in the way. Within a group nothing is handed out or read: messages of it are
        // not appended yet.
        if !self.tickets.is_grouping() && self.queues.get(&id).is_some_and(|queue| queue.dirty) {
            self.dispatch(id, out);
            if !refuses(self) {
                return false;
            }
        }
        if let Some(queue) = self.queues.get(&id)
            && queue.known.overflow == Overflow::RejectPublishDlx
        {
            let (seq, kept, reason) = (Seq(0), Kept::Nowhere, Reason::MaxLen);
            let message = message.clone();
            self.letters.push_back(Dead { queue: id, seq, kept, reason, message });
        }
        true
    }

    /// Upper bound of what a publish to these queues takes in the log, with what they have to learn for it.
    pub(super) fn append_bytes(&self, publish: &Publish, queues: &[QueueId]) -> u64 {
        let learned = publish.extras.as_ref().map_or(0, |extras| {
            let queues = queues.iter().filter_map(|id| self.queues.get(id));
            let learns = queues.filter(|queue| {
                let expires = extras.expiration_ms.is_some() && !queue.expiring;
                queue.props.durable && (expires || !queue.has_level(queue.priority(extras.priority)))
            });
            learns.map(|queue| learned_bytes(queue)).sum()
        });
        publish_bytes(publish, queues.len()) + learned
    }

    /// Sees to it that a queue has a level for the message's priority, and knows that messages of it expire. Both go to
    /// the log before the message does, and only for the first such message.
    fn prepare(&mut self, id: QueueId, message: &Message, priority: u8, out: &mut Vec<Effect>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let priority = queue.priority(priority);
        let mut batch = Batch::default();
        if !queue.has_level(priority) {
            let level = self.next_queue_id;
            self.next_queue_id = QueueId(level.0 + 1);
            queue.add_level(priority, level);
            self.levels.insert(level, id);
            batch.queues_created.push(level);
        } else if message.expiration_ms.is_none() || queue.expiring {
            return;
        }
        queue.expiring |= message.expiration_ms.is_some();
        if queue.props.durable {
            let fact = queue_fact(queue);
            batch.facts.push((fact.key(), Some(fact.value())));
            self.tickets.append(batch, out);
        }
    }
}
