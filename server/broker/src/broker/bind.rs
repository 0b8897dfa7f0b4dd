//! Bindings.

use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::declare::{default_exchange, no_exchange, no_queue};
use super::request::Who;
use crate::effect::{Batch, Effect, Reply};
use crate::input::{Binding, DestinationKind};
use crate::names;
use crate::record::fact::{BindingFact, ExchangeFact, Fact, fields};
use crate::refusal::{Refusal, RefusalKind};
use crate::topology::{BindError, ExchangeProps, Gone};

impl Broker {
    pub(super) fn bind(
        &mut self,
        who: &Who,
        binding: Binding,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let binding = checked(binding)?;
        self.may_bind(who, &binding)?;
        // What does not exist goes before what is locked, and both before what is wrong with the arguments.
        let vhost = &who.vhost;
        if self.topology(vhost)?.exchange(&binding.source).is_none() {
            return Err(no_exchange(&vhost.name, &binding.source));
        }
        self.check_destination(who, &binding)?;
        let fact = Fact::Binding(BindingFact::new(&vhost.name, &binding));
        let bound = self.topology_mut(vhost)?.bind(binding).map_err(|error| match error {
            BindError::NoExchange(name) => no_exchange(&vhost.name, &name),
            BindError::NoQueue(name) => no_queue(&vhost.name, &name),
            BindError::BadMatch(text) => {
                Refusal::new(RefusalKind::PreconditionFailed, text).with("field", "x-match")
            }
        })?;
        if bound == Some(true) {
            let facts = vec![(fact.key(), Some(fact.value()))];
            self.tickets.append(Batch { facts, ..Batch::default() }, out);
        }
        Ok(Reply::Done)
    }

    pub(super) fn unbind(
        &mut self,
        who: &Who,
        binding: Binding,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let binding = checked(binding)?;
        self.may_bind(who, &binding)?;
        self.check_destination(who, &binding)?;
        let mut gone = Gone::default();
        self.topology_mut(&who.vhost)?.unbind(&binding, &mut gone);
        let mut batch = Batch::default();
        remove_facts(&who.vhost.name, gone, &mut batch);
        self.append_unless_empty(batch, out);
        Ok(Reply::Done)
    }

    pub(super) fn append_unless_empty(&mut self, batch: Batch, out: &mut Vec<Effect>) {
        if batch != Batch::default() {
            self.tickets.append(batch, out);
        }
    }

    fn check_destination(&self, who: &Who, binding: &Binding) -> Result<(), Refusal> {
        match self.topology(&who.vhost)?.queue(&binding.destination) {
            Some(id) if binding.destination_kind == DestinationKind::Queue => self.check_access(who.conn, id),
            _ => Ok(()),
        }
    }
}

/// The binding with its names cleaned, if it may be at all.
fn checked(mut binding: Binding) -> Result<Binding, Refusal> {
    binding.source = names::clean("exchange", &binding.source)?;
    names::check_length("routing key", &binding.routing_key)?;
    binding.destination = match binding.destination_kind {
        DestinationKind::Queue => names::clean("queue", &binding.destination)?,
        DestinationKind::Exchange => names::clean("exchange", &binding.destination)?,
    };
    let to_default = binding.destination_kind == DestinationKind::Exchange && binding.destination.is_empty();
    if binding.source.is_empty() || to_default {
        return Err(default_exchange());
    }
    if binding.destination_kind == DestinationKind::Queue && names::is_reply_queue(&binding.destination) {
        let text = format!("queue '{}' takes replies and cannot be bound", binding.destination);
        return Err(Refusal::new(RefusalKind::AccessRefused, text).with("queue", &*binding.destination));
    }
    Ok(binding)
}

/// Adds the end of those facts to a batch.
pub(super) fn remove_facts(vhost: &str, gone: Gone, batch: &mut Batch) {
    let exchanges = gone.exchanges.iter().map(|(name, props)| exchange_fact(vhost, name, props));
    let bindings = gone.bindings.iter().map(|binding| Fact::Binding(BindingFact::new(vhost, binding)));
    // Should the batch be too large for one append: what hangs on an exchange goes before it.
    batch.facts.extend(bindings.chain(exchanges).map(|fact| (fact.key(), None::<Bytes>)));
}

pub(super) fn exchange_fact(vhost: &str, name: &Arc<str>, props: &ExchangeProps) -> Fact {
    Fact::Exchange(ExchangeFact {
        vhost: vhost.to_string(),
        name: name.to_string(),
        kind: props.kind.name().to_string(),
        auto_delete: props.auto_delete,
        internal: props.internal,
        arguments: fields(&props.arguments),
    })
}
