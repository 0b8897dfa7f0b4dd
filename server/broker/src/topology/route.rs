//! From exchange and routing keys to queues.

use std::collections::BTreeSet;
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

/// Why a client's publish has no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteError {
    NoExchange,
    Internal,
}

/// Routes taken since the last change of the topology, so that a hot key walks its bindings once.
#[derive(Debug, Default)]
pub(super) struct RouteCache(LookupMap<RouteKey, Arc<[QueueId]>>);

/// Exchange and routing key.
type RouteKey = (Arc<str>, Arc<str>);

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
        if !self.0.is_empty() {
            self.0.clear();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Topology {
    /// The queues of a client's publish: each once, in order of their ids.
    pub(crate) fn route(&mut self, routing: Routing<'_>) -> Result<Arc<[QueueId]>, RouteError> {
        let cached = (routing.exchange.clone(), routing.key.clone());
        if routing.more_keys.is_empty()
            && let Some(route) = self.cache.0.get(&cached)
        {
            return Ok(route.clone());
        }
        self.open_to_clients(routing.exchange)?;
        let headers = MessageHeaders::of(routing.properties);
        let route: Arc<[QueueId]> = self.walk(routing, &headers).into_iter().collect();
        // Only what depends on exchange and key alone is the same for the next message.
        if routing.more_keys.is_empty() && !headers.were_read() {
            if self.cache.0.len() >= ROUTES_MAX {
                self.cache.0.clear();
            }
            self.cache.0.insert(cached, route.clone());
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
