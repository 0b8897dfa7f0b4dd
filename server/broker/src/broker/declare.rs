//! Exchanges and queues that are declared, purged and deleted.

use std::sync::Arc;

use super::Broker;
use super::bind::{exchange_fact, remove_facts};
use super::request::Who;
use crate::access::{Right, Thing};
use crate::arguments::{self, QueueFlags};
use crate::effect::{Batch, Effect, Reply};
use crate::ids::{ConnId, QueueId};
use crate::input::{DeclareExchange, DeclareQueue};
use crate::names;
use crate::queue::{Queue, QueueProps};
use crate::record::fact::{Fact, LevelFact, QueueFact, fields};
use crate::refusal::{Refusal, RefusalKind};
use crate::topology::{ExchangeKind, ExchangeProps, Gone};
use crate::vhosts::VhostRef;

impl Broker {
    pub(super) fn declare_exchange(
        &mut self,
        who: &Who,
        declare: DeclareExchange,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let name = names::clean("exchange", &declare.name)?;
        if name.is_empty() {
            return Err(default_exchange());
        }
        let vhost = &who.vhost;
        let existing = self.topology(vhost)?.exchange(&name).map(|exchange| &exchange.props);
        if declare.passive {
            return existing.map(|_| Reply::Done).ok_or_else(|| no_exchange(&vhost.name, &name));
        }
        self.may(who, Right::Configure, Thing::Exchange, &name)?;
        let kind = ExchangeKind::parse(&declare.kind).ok_or_else(|| unknown_kind(&declare.kind))?;
        if let Some(existing) = existing {
            same_exchange(&exchange_at(&vhost.name, &name), existing, kind, &declare)?;
            return Ok(Reply::Done);
        }

        names::refuse_reserved("exchange", &name)?;
        arguments::exchange::check(&exchange_at(&vhost.name, &name), &declare.arguments)?;
        if let Some(to) = arguments::exchange::alternate(&declare.arguments) {
            self.may_lead_on(who, Thing::Exchange, &name, &to)?;
        }
        let props = ExchangeProps {
            kind,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments,
        };
        if props.durable {
            let fact = exchange_fact(&vhost.name, &name, &props);
            let facts = vec![(fact.key(), Some(fact.value()))];
            self.tickets.append(Batch { facts, ..Batch::default() }, out);
        }
        self.topology_mut(vhost)?.add_exchange(name, props);
        Ok(Reply::Done)
    }

    pub(super) fn delete_exchange(
        &mut self,
        who: &Who,
        name: &Arc<str>,
        if_unused: bool,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let name = names::clean("exchange", name)?;
        if name.is_empty() {
            return Err(default_exchange());
        }
        let vhost = &who.vhost;
        if name.starts_with("amq.") {
            let text = format!("deletion of system exchange '{name}' in vhost '{}' not allowed", vhost.name);
            return Err(Refusal::new(RefusalKind::AccessRefused, text).with("exchange", &*name));
        }
        self.may(who, Right::Configure, Thing::Exchange, &name)?;
        let topology = self.topology_mut(vhost)?;
        let Some(exchange) = topology.exchange(&name) else { return Ok(Reply::Done) };
        if if_unused && exchange.has_bindings() {
            let text = format!("{} in use", exchange_at(&vhost.name, &name));
            return Err(Refusal::new(RefusalKind::PreconditionFailed, text).with("exchange", &*name));
        }
        let mut gone = Gone::default();
        topology.remove_exchange(&name, &mut gone);
        let mut batch = Batch::default();
        remove_facts(&vhost.name, gone, &mut batch);
        self.append_unless_empty(batch, out);
        Ok(Reply::Done)
    }

    pub(super) fn declare_queue(
        &mut self,
        who: &Who,
        declare: DeclareQueue,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let name = names::clean("queue", &declare.name)?;
        if names::is_reply_queue(&name) {
            return self.declare_reply_queue(&who.vhost, &name);
        }
        if declare.passive {
            let id = self.accessible_queue(who, &name)?;
            return self.declared(&who.vhost, id, &name);
        }
        let owner = match (declare.exclusive, who.conn) {
            (false, _) => None,
            (true, Some(conn)) if self.connections.contains_key(&conn) => Some(conn),
            (true, _) => {
                let text = "an exclusive queue belongs to a connection or session: open a session and name it in \
                            the request, or declare the queue without exclusive";
                return Err(Refusal::new(RefusalKind::SessionRequired, text).with("queue", &*name));
            }
        };
        if name.is_empty() && who.conn.is_none() {
            let text = "a queue whose name the server chooses belongs to a connection or session: open a session and \
                        name it in the request, or choose a name";
            return Err(Refusal::new(RefusalKind::SessionRequired, text));
        }
        let vhost = &who.vhost;
        let server_named = name.is_empty();
        let name = if server_named { self.unused_queue_name(vhost)? } else { name };
        self.may(who, Right::Configure, Thing::Queue, &name)?;
        if let Some(id) = self.topology(vhost)?.queue(&name) {
            let queue = self.queues.get(&id).ok_or_else(|| no_queue(&vhost.name, &name))?;
            same_queue(&queue.props, owner, &declare)?;
            return self.declared(vhost, id, &name);
        }

        let asked = if server_named { "" } else { &*name };
        names::refuse_reserved("queue", asked)?;
        let flags = QueueFlags {
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            server_named,
        };
        let known = arguments::check_queue(&queue_at(&vhost.name, asked), flags, &declare.arguments)?;
        if let Some(to) = known.dead_letter {
            self.may_lead_on(who, Thing::Queue, &name, &to.exchange)?;
        }
        let props = QueueProps {
            vhost: vhost.clone(),
            name: name.clone(),
            durable: declare.durable && owner.is_none(),
            auto_delete: declare.auto_delete,
            exclusive_owner: owner,
            arguments: declare.arguments,
        };
        let id = self.add_queue(props, out);
        self.declared(vhost, id, &name)
    }

    /// Creates a queue, which does not exist yet.
    pub(super) fn add_queue(&mut self, props: QueueProps, out: &mut Vec<Effect>) -> QueueId {
        let id = self.next_queue_id;
        self.next_queue_id = QueueId(id.0 + 1);
        let (vhost, name) = (props.vhost.id, props.name.clone());
        let (durable, owner) = (props.durable, props.exclusive_owner);
        let queue = Queue::new(id, props);
        if durable {
            let fact = queue_fact(&queue);
            let facts = vec![(fact.key(), Some(fact.value()))];
            self.tickets.append(Batch { queues_created: vec![id], facts, ..Batch::default() }, out);
        }
        if let Some(owner) = owner.and_then(|owner| self.connections.get_mut(&owner)) {
            owner.exclusive_queues.insert(id);
        }
        if let Some(topology) = self.vhosts.topology_mut(vhost) {
            topology.add_queue(name, id, durable);
        }
        self.queues.insert(id, Box::new(queue));
        id
    }

    pub(super) fn delete_queue(
        &mut self,
        who: &Who,
        name: &Arc<str>,
        if_unused: bool,
        if_empty: bool,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let name = names::clean("queue", name)?;
        self.may(who, Right::Configure, Thing::Queue, &name)?;
        let Ok(id) = self.named_queue(&who.vhost, &name) else { return Ok(Reply::Removed { messages: 0 }) };
        self.check_access(who.conn, id)?;
        let queue = self.queues.get(&id).ok_or_else(|| no_queue(&who.vhost.name, &name))?;
        let messages = queue.messages_ready();
        let refuse = |why: &str| {
            let text = format!("{} {why}", queue_at(&who.vhost.name, &name));
            Err(Refusal::new(RefusalKind::PreconditionFailed, text).with("queue", &*name))
        };
        if if_empty && messages > 0 {
            return refuse("not empty");
        }
        if if_unused && !queue.consumers.is_empty() {
            return refuse("in use");
        }
        let mut batch = Batch::default();
        self.remove_queue(id, &mut batch, out);
        self.append_unless_empty(batch, out);
        Ok(Reply::Removed { messages })
    }

    pub(super) fn purge_queue(
        &mut self,
        who: &Who,
        name: &Arc<str>,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let name = names::clean("queue", name)?;
        let id = self.readable_queue(who, &name)?;
        let queue = self.queues.get_mut(&id).ok_or_else(|| no_queue(&who.vhost.name, &name))?;
        let (messages, places) = queue.purge(&mut self.budget);
        self.append_unless_empty(Batch { acks: places, ..Batch::default() }, out);
        // Gets that waited for what is gone now have their answer.
        self.mark_dirty(id);
        Ok(Reply::Removed { messages })
    }

    /// Takes a queue out of everything that knows it. What the log has to know is added to `batch`, which is to be
    /// appended at once.
    pub(super) fn remove_queue(&mut self, id: QueueId, batch: &mut Batch, out: &mut Vec<Effect>) {
        let Some(props) = self.queues.get(&id).map(|queue| &queue.props) else { return };
        let (vhost, name) = (props.vhost.clone(), props.name.clone());
        // What left it before its end still goes where it was to go.
        self.send_letters(out);
        self.disarm(id);
        let gone = no_queue(&vhost.name, &name);
        self.refuse_gets(id, gone.kind, &gone.text, out);
        let Some(mut queue) = self.queues.remove(&id) else { return };
        for consumer_id in &queue.consumers {
            let Some(consumer) = self.consumers.remove(consumer_id) else { continue };
            if let Some(channel) = self.channels.get_mut(&consumer.chan) {
                channel.consumers.remove(&consumer.tag);
                channel.parked.retain(|parked| parked != consumer_id);
            }
            out.push(Effect::ConsumerCancelled { chan: consumer.chan, consumer_tag: consumer.tag });
        }
        for lease in queue.leases() {
            self.leases.remove(&lease);
        }
        if let Some(owner) = queue.props.exclusive_owner.and_then(|owner| self.connections.get_mut(&owner)) {
            owner.exclusive_queues.remove(&id);
        }
        let mut gone = Gone::default();
        if let Some(topology) = self.vhosts.topology_mut(vhost.id) {
            topology.remove_queue(&name, &mut gone);
        }
        remove_facts(&vhost.name, gone, batch);
        if queue.props.durable {
            batch.facts.push((queue_fact(&queue).key(), None));
            batch.queues_deleted.push(id);
            self.tickets.forget_acks(id);
        }
        for (_, level) in queue.upper_levels() {
            self.levels.remove(&level);
            if queue.props.durable {
                batch.queues_deleted.push(level);
                self.tickets.forget_acks(level);
            }
        }
        self.tickets.end_dying(queue.dying());
        queue.clear(&mut self.budget);
    }

    /// The queue of that name, unless it is another connection's own.
    pub(super) fn accessible_queue(&self, who: &Who, name: &Arc<str>) -> Result<QueueId, Refusal> {
        let name = names::clean("queue", name)?;
        let id = self.named_queue(&who.vhost, &name)?;
        self.check_access(who.conn, id)?;
        Ok(id)
    }

    /// The same, for who wants its messages.
    pub(super) fn readable_queue(&self, who: &Who, name: &Arc<str>) -> Result<QueueId, Refusal> {
        let name = names::clean("queue", name)?;
        self.may(who, Right::Read, Thing::Queue, &name)?;
        self.accessible_queue(who, &name)
    }

    /// The queue of that name. Queues for replies are not for clients to touch.
    pub(super) fn named_queue(&self, vhost: &VhostRef, name: &str) -> Result<QueueId, Refusal> {
        let named = self.topology(vhost)?.queue(name).filter(|_| !names::is_reply_queue(name));
        named.ok_or_else(|| no_queue(&vhost.name, name))
    }

    pub(super) fn check_access(&self, conn: Option<ConnId>, id: QueueId) -> Result<(), Refusal> {
        let Some(queue) = self.queues.get(&id) else { return Ok(()) };
        match queue.props.exclusive_owner {
            Some(owner) if Some(owner) != conn => Err(locked(&queue.props)),
            _ => Ok(()),
        }
    }

    fn declared(&mut self, vhost: &VhostRef, id: QueueId, name: &Arc<str>) -> Result<Reply, Refusal> {
        self.used(id);
        let queue = self.queues.get(&id).ok_or_else(|| no_queue(&vhost.name, name))?;
        Ok(Reply::QueueDeclared {
            name: queue.props.name.clone(),
            messages_ready: queue.messages_ready(),
            consumers: queue.consumers.len() as u64,
        })
    }

    fn unused_queue_name(&mut self, vhost: &VhostRef) -> Result<Arc<str>, Refusal> {
        loop {
            let name = self.names.name("amq.gen-");
            if self.topology(vhost)?.queue(&name).is_none() {
                return Ok(name);
            }
        }
    }
}

/// An exchange in a sentence.
pub(super) fn exchange_at(vhost: &str, name: &str) -> String {
    format!("exchange '{name}' in vhost '{vhost}'")
}

/// A queue in a sentence.
pub(super) fn queue_at(vhost: &str, name: &str) -> String {
    format!("queue '{name}' in vhost '{vhost}'")
}

pub(super) fn no_exchange(vhost: &str, name: &str) -> Refusal {
    let text = format!("no {}", exchange_at(vhost, name));
    Refusal::new(RefusalKind::NotFound, text).with("exchange", name)
}

pub(super) fn no_queue(vhost: &str, name: &str) -> Refusal {
    let text = match name {
        "" => "no previously declared queue".to_string(),
        _ => format!("no {}", queue_at(vhost, name)),
    };
    Refusal::new(RefusalKind::NotFound, text).with("queue", name)
}

pub(super) fn default_exchange() -> Refusal {
    Refusal::new(RefusalKind::AccessRefused, "operation not permitted on the default exchange")
}

fn locked(queue: &QueueProps) -> Refusal {
    let text = format!(
        "cannot obtain exclusive access to locked {}. It could be originally declared on another connection or the \
         exclusive property value does not match that of the original declaration.",
        queue_at(&queue.vhost.name, &queue.name)
    );
    Refusal::new(RefusalKind::ResourceLocked, text).with("queue", &*queue.name)
}

fn unknown_kind(kind: &str) -> Refusal {
    let text = format!("unknown exchange type '{kind}'");
    Refusal::new(RefusalKind::PreconditionFailed, text).with("field", "type").with("actual", kind)
}

fn same_exchange(
    what: &str,
    existing: &ExchangeProps,
    kind: ExchangeKind,
    declare: &DeclareExchange,
) -> Result<(), Refusal> {
    if kind != existing.kind {
        return Err(arguments::inequivalent("type", what, kind.name(), existing.kind.name()));
    }
    arguments::same_flag("durable", what, declare.durable, existing.durable)?;
    arguments::same_flag("auto_delete", what, declare.auto_delete, existing.auto_delete)?;
    arguments::same_flag("internal", what, declare.internal, existing.internal)?;
    arguments::exchange::same(what, &declare.arguments, &existing.arguments)
}

fn same_queue(existing: &QueueProps, owner: Option<ConnId>, declare: &DeclareQueue) -> Result<(), Refusal> {
    if existing.exclusive_owner != owner {
        return Err(locked(existing));
    }
    let what = queue_at(&existing.vhost.name, &existing.name);
    // An exclusive queue is never durable, whatever its owner says.
    arguments::same_flag("durable", &what, declare.durable && owner.is_none(), existing.durable)?;
    arguments::same_flag("auto_delete", &what, declare.auto_delete, existing.auto_delete)?;
    arguments::same(&arguments::QUEUE, &what, &declare.arguments, &existing.arguments)
}

pub(super) fn queue_fact(queue: &Queue) -> Fact {
    let props = &queue.props;
    let level = |(priority, id): (u8, QueueId)| LevelFact { priority: u32::from(priority), queue: id.0 };
    Fact::Queue(QueueFact {
        vhost: props.vhost.name.to_string(),
        name: props.name.to_string(),
        queue: queue.id.0,
        auto_delete: props.auto_delete,
        arguments: fields(&props.arguments),
        levels: queue.upper_levels().map(level).collect(),
        expiring: queue.expiring,
    })
}
