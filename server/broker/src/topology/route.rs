//! From exchange and routing keys to queues.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use super::headers::MessageHeaders;
use super::{Exchange, Target, Topology};
use crate::hash::LookupMap;
use crate::ids::QueueId;
use crate::input::Publish;

/// Routes kept; a full cache is emptied.
const ROUTES_MAX: usize = 4096;

/// What routing looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Routing<'a> {
    pub(crate) exchange: &'a Arc<str>,
    pub(crate) key: &'a Arc<str>,
    /// Keys beside the first: a binding that any key fits takes the message.
    pub(crate) more_keys: &'a [Arc<str>],
    /// Encoded properties, with the headers among them.
    pub(crate) properties: &'a [u8],
}

/// Queues that a publish goes to: each once, in order of their ids. A single one, the commonest, is copied: what is shared
/// is counted, twice for each message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    One(QueueId),
    Shared(Arc<[QueueId]>),
}

/// Why a client's publish has no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteError {
    NoExchange,
    Internal,
}

/// Routes taken since the last change of the topology, so that a hot key walks its bindings once.
///
/// A look-up leaves the counters of the names alone: the front end that made them counts on another core.
#[derive(Debug, Default)]
pub(super) struct RouteCache {
    /// By exchange, then by routing key.
    routes: LookupMap<Arc<str>, Routes>,
    count: usize,
    last: Option<LastRoute>,
}

/// An exchange's, by routing key.
type Routes = LookupMap<Arc<str>, Route>;

/// The one that was taken last: mostly the next message goes the same way, and has its names from the same place.
#[derive(Debug)]
struct LastRoute {
    exchange: Arc<str>,
    key: Arc<str>,
    route: Route,
}

impl Deref for Route {
    type Target = [QueueId];

    fn deref(&self) -> &[QueueId] {
        match self {
            Self::One(queue) => std::slice::from_ref(queue),
            Self::Shared(queues) => queues,
        }
    }
}

impl From<BTreeSet<QueueId>> for Route {
    fn from(queues: BTreeSet<QueueId>) -> Self {
        match queues.first() {
            Some(queue) if queues.len() == 1 => Self::One(*queue),
            _ => Self::Shared(queues.into_iter().collect()),
        }
    }
}

impl<'a> Routing<'a> {
    pub(crate) fn of(publish: &'a Publish) -> Self {
        Self {
            exchange: &publish.exchange,
            key: &publish.routing_key,
            more_keys: publish.extras.as_ref().map_or(&[], |extras| &extras.routing_keys),
            properties: &publish.properties,
        }
    }
}

impl RouteCache {
    pub(super) fn clear(&mut self) {
        if self.count > 0 {
            *self = Self::default();
        }
    }

    fn get(&mut self, exchange: &Arc<str>, key: &Arc<str>) -> Option<Route> {
        if let Some(last) = &self.last
            && Arc::ptr_eq(&last.key, key)
            && Arc::ptr_eq(&last.exchange, exchange)
        {
            return Some(last.route.clone());
        }
        let route = self.routes.get(exchange)?.get(key)?.clone();
        self.last = Some(LastRoute { exchange: exchange.clone(), key: key.clone(), route: route.clone() });
        Some(route)
    }

    fn insert(&mut self, exchange: &Arc<str>, key: &Arc<str>, route: Route) {
        if self.count >= ROUTES_MAX {
            self.clear();
        }
        let replaced = self.routes.entry(exchange.clone()).or_default().insert(key.clone(), route);
        self.count += usize::from(replaced.is_none());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

impl Topology {
    /// The queues of a client's publish.
    pub(crate) fn route(&mut self, routing: Routing<'_>) -> Result<Route, RouteError> {
        if routing.more_keys.is_empty()
            && let Some(route) = self.cache.get(routing.exchange, routing.key)
        {
            return Ok(route);
        }
        self.open_to_clients(routing.exchange)?;
        let headers = MessageHeaders::of(routing.properties);
        let route = Route::from(self.walk(routing, &headers));
        // Only what depends on exchange and key alone is the same for the next message.
        if routing.more_keys.is_empty() && !headers.were_read() {
            self.cache.insert(routing.exchange, routing.key, route.clone());
        }
        Ok(route)
    }

    /// The queues of a message that the broker itself sends to an exchange, which may be an internal one, or none that is
    /// there.
    pub(crate) fn route_within(&self, routing: Routing<'_>) -> BTreeSet<QueueId> {
        self.walk(routing, &MessageHeaders::of(routing.properties))
    }

    /// Whether clients may publish to an exchange.
    pub(crate) fn open_to_clients(&self, exchange: &str) -> Result<(), RouteError> {
        match self.exchanges.get(exchange) {
            None => Err(RouteError::NoExchange),
            Some(exchange) if exchange.props.internal => Err(RouteError::Internal),
            Some(_) => Ok(()),
        }
    }

    fn walk(&self, routing: Routing<'_>, headers: &MessageHeaders<'_>) -> BTreeSet<QueueId> {
        let mut queues = BTreeSet::new();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut waiting: Vec<(&str, &Exchange)> = Vec::new();
        let start: &str = routing.exchange;
        if let Some(exchange) = self.exchanges.get(start) {
            seen.insert(start);
            waiting.push((start, exchange));
        }
        while let Some((name, exchange)) = waiting.pop() {
            let mut routed = false;
            // A cycle is cut: each exchange is visited once.
            let mut lead_to = |next: &Arc<str>| {
                if let Some((name, exchange)) = self.exchanges.get_key_value(next)
                    && seen.insert(name)
                {
                    waiting.push((&**name, exchange));
                }
            };
            let more_keys = if exchange.props.kind.has_keys() { routing.more_keys } else { &[] };
            for key in std::iter::once(routing.key).chain(more_keys) {
                if name.is_empty() {
                    // Every queue is bound to the default exchange by its own name.
                    queues.extend(self.queue(key));
                    continue;
                }
                exchange.targets(key, headers, |target| {
                    routed = true;
                    match target {
                        Target::Queue(queue) => drop(queues.insert(*queue)),
                        Target::Exchange(next) => lead_to(next),
                    }
                });
            }
            if !routed && let Some(alternate) = &exchange.alternate {
                lead_to(alternate);
            }
        }
        queues
    }
}
