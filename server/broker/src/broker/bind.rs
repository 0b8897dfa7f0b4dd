//! Bindings.

use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::declare::{default_exchange, no_exchange, no_queue};
use crate::effect::{Batch, Effect, Reply};
use crate::ids::ConnId;
use crate::input::{Binding, DestinationKind};
use crate::names;
use crate::record::fact::{BindingFact, ExchangeFact, Fact, fields};
use crate::refusal::Refusal;
use crate::topology::{ExchangeProps, Gone, Missing, VHOST};

impl Broker {
    pub(super) fn bind(
        &mut self,
        conn: Option<ConnId>,
        binding: Binding,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let binding = self.checked(conn, binding)?;
        let fact = Fact::Binding(BindingFact::new(VHOST, &binding));
        let bound = self.topology.bind(binding).map_err(|missing| match missing {
            Missing::Exchange(name) => no_exchange(&name),
            Missing::Queue(name) => no_queue(&name),
        })?;
        if bound == Some(true) {
            let facts = vec![(fact.key(), Some(fact.value()))];
            self.tickets.append(Batch { facts, ..Batch::default() }, out);
        }
        Ok(Reply::Done)
    }

    pub(super) fn unbind(
        &mut self,
        conn: Option<ConnId>,
        binding: Binding,
        out: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let binding = self.checked(conn, binding)?;
        let mut gone = Gone::default();
        self.topology.unbind(&binding, &mut gone);
        let mut batch = Batch::default();
        remove_facts(gone, &mut batch);
        self.append_unless_empty(batch, out);
        Ok(Reply::Done)
    }

    pub(super) fn append_unless_empty(&mut self, batch: Batch, out: &mut Vec<Effect>) {
        if batch != Batch::default() {
            self.tickets.append(batch, out);
        }
    }

    fn checked(&self, conn: Option<ConnId>, mut binding: Binding) -> Result<Binding, Refusal> {
        binding.source = names::clean("exchange", &binding.source)?;
        names::check_length("routing key", &binding.routing_key)?;
        binding.destination = match binding.destination_kind {
            DestinationKind::Queue => names::clean("queue", &binding.destination)?,
            DestinationKind::Exchange => names::clean("exchange", &binding.destination)?,
        };
        let to_default =
            binding.destination_kind == DestinationKind::Exchange && binding.destination.is_empty();
        if binding.source.is_empty() || to_default {
            return Err(default_exchange());
        }
        if binding.destination_kind == DestinationKind::Queue
            && let Some(id) = self.topology.queue(&binding.destination)
        {
            self.check_access(conn, id)?;
        }
        Ok(binding)
    }
}

/// Adds the end of those facts to a batch.
pub(super) fn remove_facts(gone: Gone, batch: &mut Batch) {
    let exchanges = gone.exchanges.iter().map(|(name, props)| exchange_fact(name, props));
    let bindings = gone.bindings.iter().map(|binding| Fact::Binding(BindingFact::new(VHOST, binding)));
    // Should the batch be too large for one append: what hangs on an exchange goes before it.
    batch.facts.extend(bindings.chain(exchanges).map(|fact| (fact.key(), None::<Bytes>)));
}

pub(super) fn exchange_fact(name: &Arc<str>, props: &ExchangeProps) -> Fact {
    Fact::Exchange(ExchangeFact {
        vhost: VHOST.to_string(),
        name: name.to_string(),
        kind: props.kind.name().to_string(),
        auto_delete: props.auto_delete,
        internal: props.internal,
        arguments: fields(&props.arguments),
    })
}
