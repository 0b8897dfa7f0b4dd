//! Exchanges, bindings and the names of queues of one virtual host, and the way from a publish to its queues.

mod exchange;
mod headers;
mod route;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ids::QueueId;
use crate::input::{Binding, DestinationKind};
use crate::record::fact;
use crate::value::Table;

pub(crate) use exchange::{Exchange, ExchangeKind, ExchangeProps};
use headers::HeadersMatch;
use route::RouteCache;
pub(crate) use route::{Route, RouteError, Routing};

/// Identity of a binding below its source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BindingKey {
    kind: DestinationKind,
    destination: Arc<str>,
    routing_key: Arc<str>,
    /// Their canonical bytes.
    arguments: Arc<[u8]>,
}

/// The rest of a binding, beside its identity and its source. There are many: no name stands here twice.
#[derive(Debug)]
struct Bound {
    /// As they were given.
    arguments: Table,
    durable: bool,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Queue(QueueId),
    Exchange(Arc<str>),
}

/// Durable things that ended with a change: their facts are to be removed.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    pub(crate) exchanges: Vec<(Arc<str>, ExchangeProps)>,
    pub(crate) bindings: Vec<Binding>,
}

/// A queue as bindings see it.
#[derive(Debug, Clone, Copy)]
struct QueueEnd {
    id: QueueId,
    durable: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Topology {
    exchanges: BTreeMap<Arc<str>, Exchange>,
    queues: BTreeMap<Arc<str>, QueueEnd>,
    /// Bindings by destination, so that the end of a queue or exchange finds those that lead to it. One set for all: most
    /// queues have a binding or two, and a set of its own would take a kilobyte.
    inbound: BTreeSet<Inbound>,
    bindings: u64,
    cache: RouteCache,
}

/// A binding, which begins with where it leads to, and its source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Inbound {
    key: BindingKey,
    source: Arc<str>,
}

/// What a bind found wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BindError {
    #[error("exchange '{0}' does not exist")]
    NoExchange(Arc<str>),
    #[error("queue '{0}' does not exist")]
    NoQueue(Arc<str>),
    #[error("{0}")]
    BadMatch(String),
}

impl Topology {
    /// With what every virtual host has.
    pub(crate) fn new() -> Self {
        let mut topology = Self {
            exchanges: BTreeMap::new(),
            queues: BTreeMap::new(),
            inbound: BTreeSet::new(),
            bindings: 0,
            cache: RouteCache::default(),
        };
        for (name, kind, internal) in [
            ("", ExchangeKind::Direct, false),
            ("amq.direct", ExchangeKind::Direct, false),
            ("amq.fanout", ExchangeKind::Fanout, false),
            ("amq.headers", ExchangeKind::Headers, false),
            ("amq.match", ExchangeKind::Headers, false),
            ("amq.topic", ExchangeKind::Topic, false),
            ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
        ] {
            let arguments = Table::default();
            let props = ExchangeProps { kind, durable: true, auto_delete: false, internal, arguments };
            topology.add_exchange(Arc::from(name), props);
        }
        topology
    }

    pub(crate) fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(name)
    }

    /// All exchanges in order of their names.
    pub(crate) fn exchanges(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Exchange)> {
        self.exchanges.iter()
    }

    /// All bindings in order of source, destination and key, and whether they are durable.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = (Binding, bool)> {
        self.exchanges.iter().flat_map(|(source, exchange)| {
            let whole = |(key, bound): (&BindingKey, &Bound)| {
                (key.binding(source.clone(), bound.arguments.clone()), bound.durable)
            };
            exchange.bindings.iter().map(whole)
        })
    }

    pub(crate) fn binding_count(&self) -> u64 {
        self.bindings
    }

    pub(crate) fn queue(&self, name: &str) -> Option<QueueId> {
        self.queues.get(name).map(|end| end.id)
    }

    /// All queues in order of their names.
    pub(crate) fn queues(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, QueueId)> {
        self.queues.iter().map(|(name, end)| (name, end.id))
    }

    pub(crate) fn add_exchange(&mut self, name: Arc<str>, props: ExchangeProps) {
        self.cache.clear();
        self.exchanges.insert(name, Exchange::new(props));
    }

    pub(crate) fn add_queue(&mut self, name: Arc<str>, id: QueueId, durable: bool) {
        self.cache.clear();
        self.queues.insert(name, QueueEnd { id, durable });
    }

    /// Adds a binding. Some(whether it is durable) when it is new.
    pub(crate) fn bind(&mut self, mut binding: Binding) -> Result<Option<bool>, BindError> {
        self.share_names(&mut binding);
        let Some(source) = self.exchanges.get(&binding.source) else {
            return Err(BindError::NoExchange(binding.source));
        };
        let to = &binding.destination;
        let (target, end_durable) = match binding.destination_kind {
            DestinationKind::Queue => match self.queues.get(to) {
                Some(end) => (Target::Queue(end.id), end.durable),
                None => return Err(BindError::NoQueue(to.clone())),
            },
            DestinationKind::Exchange => match self.exchanges.get(to) {
                Some(exchange) => (Target::Exchange(to.clone()), exchange.props.durable),
                None => return Err(BindError::NoExchange(to.clone())),
            },
        };
        let durable = source.props.durable && end_durable;
        let key = BindingKey::of(&binding);
        if source.bindings.contains_key(&key) {
            return Ok(None);
        }
        let wanted = match source.props.kind {
            ExchangeKind::Headers => HeadersMatch::parse(&binding.arguments).map_err(BindError::BadMatch)?,
            ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::Topic => HeadersMatch::default(),
        };
        self.cache.clear();
        self.bindings += 1;
        self.inbound.insert(Inbound { key: key.clone(), source: binding.source.clone() });
        if let Some(source) = self.exchanges.get_mut(&binding.source) {
            source.insert(key, Bound { arguments: binding.arguments, durable, target }, wanted);
        }
        Ok(Some(durable))
    }

    /// Removes a binding, and auto-delete exchanges that thereby lose their last one. False when there is none such.
    pub(crate) fn unbind(&mut self, binding: &Binding, gone: &mut Gone) -> bool {
        let key = BindingKey::of(binding);
        let found = self.exchanges.get(&binding.source).is_some_and(|e| e.bindings.contains_key(&key));
        if found {
            self.remove_bindings(vec![Inbound { key, source: binding.source.clone() }], gone);
        }
        found
    }

    /// Removes a queue's name and bindings.
    pub(crate) fn remove_queue(&mut self, name: &Arc<str>, gone: &mut Gone) {
        self.cache.clear();
        self.queues.remove(name);
        self.remove_bindings(self.leading_to(DestinationKind::Queue, name), gone);
    }

    /// Removes an exchange and the bindings from and to it.
    pub(crate) fn remove_exchange(&mut self, name: &Arc<str>, gone: &mut Gone) {
        let bindings = self.drop_exchange(name, gone);
        self.remove_bindings(bindings, gone);
    }

    /// Ends everything, queues apart, which are gone already: what ended with each exchange that was declared, and last
    /// what ended with those that always are there.
    pub(crate) fn remove_all(&mut self) -> Vec<Gone> {
        debug_assert!(self.queues.is_empty());
        let declared = self.exchanges.keys().filter(|name| !name.is_empty() && !name.starts_with("amq."));
        let mut all = Vec::new();
        for name in declared.cloned().collect::<Vec<_>>() {
            let mut gone = Gone::default();
            self.remove_exchange(&name, &mut gone);
            all.push(gone);
        }
        let left = self.bindings().filter_map(|(binding, durable)| durable.then_some(binding));
        all.push(Gone { bindings: left.collect(), exchanges: Vec::new() });
        all
    }

    /// Takes the exchange out and says which bindings led to it.
    fn drop_exchange(&mut self, name: &Arc<str>, gone: &mut Gone) -> Vec<Inbound> {
        self.cache.clear();
        let Some(exchange) = self.exchanges.remove(name) else { return Vec::new() };
        for (key, bound) in exchange.bindings {
            self.bindings -= 1;
            self.forget_inbound(name, &key);
            if bound.durable {
                gone.bindings.push(key.binding(name.clone(), bound.arguments));
            }
        }
        if exchange.props.durable {
            gone.exchanges.push((name.clone(), exchange.props));
        }
        self.leading_to(DestinationKind::Exchange, name)
    }

    /// The bindings that lead to a queue or exchange.
    fn leading_to(&self, kind: DestinationKind, name: &Arc<str>) -> Vec<Inbound> {
        let nothing: Arc<str> = Arc::from("");
        // Nothing is below it of all that lead there.
        let key = BindingKey {
            kind,
            destination: name.clone(),
            routing_key: nothing.clone(),
            arguments: Arc::default(),
        };
        let from = Inbound { key, source: nothing };
        let there = |inbound: &&Inbound| inbound.key.kind == kind && inbound.key.destination == *name;
        self.inbound.range(from..).take_while(there).cloned().collect()
    }

    /// Gives a binding the names that its ends have in memory already, rather than copies of them.
    fn share_names(&self, binding: &mut Binding) {
        let source = self.exchanges.get_key_value(&binding.source).map(|(name, _)| name.clone());
        let destination = match binding.destination_kind {
            DestinationKind::Queue => self.queues.get_key_value(&binding.destination).map(|(name, _)| name),
            DestinationKind::Exchange => {
                self.exchanges.get_key_value(&binding.destination).map(|(name, _)| name)
            }
        };
        binding.destination = destination.cloned().unwrap_or_else(|| binding.destination.clone());
        binding.source = source.unwrap_or_else(|| binding.source.clone());
        // Named like its queue, as often.
        if binding.routing_key == binding.destination {
            binding.routing_key = binding.destination.clone();
        }
    }

    fn remove_bindings(&mut self, mut waiting: Vec<Inbound>, gone: &mut Gone) {
        self.cache.clear();
        while let Some(Inbound { key, source }) = waiting.pop() {
            let Some(exchange) = self.exchanges.get_mut(&source) else { continue };
            let Some(bound) = exchange.remove(&key) else { continue };
            let ends = exchange.props.auto_delete && exchange.bindings.is_empty();
            self.bindings -= 1;
            self.forget_inbound(&source, &key);
            if bound.durable {
                gone.bindings.push(key.binding(source.clone(), bound.arguments));
            }
            if ends {
                waiting.extend(self.drop_exchange(&source, gone));
            }
        }
    }

    fn forget_inbound(&mut self, source: &Arc<str>, key: &BindingKey) {
        self.inbound.remove(&Inbound { key: key.clone(), source: source.clone() });
    }
}

impl BindingKey {
    fn of(binding: &Binding) -> Self {
        Self {
            kind: binding.destination_kind,
            destination: binding.destination.clone(),
            routing_key: binding.routing_key.clone(),
            arguments: match fact::canonical(&binding.arguments) {
                // One empty slice for all that have none.
                none if none.is_empty() => Arc::default(),
                some => Arc::from(&some[..]),
            },
        }
    }

    fn binding(&self, source: Arc<str>, arguments: Table) -> Binding {
        Binding {
            source,
            destination_kind: self.kind,
            destination: self.destination.clone(),
            routing_key: self.routing_key.clone(),
            arguments,
        }
    }
}
