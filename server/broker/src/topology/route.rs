//! From exchange and routing key to queues.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Exchange, ExchangeKind, Index, Target, Topology};
use crate::hash::LookupMap;
use crate::ids::QueueId;

/// Routes kept; a full cache is emptied.
const ROUTES_MAX: usize = 4096;

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
    pub(crate) fn route(
        &mut self,
        exchange: &Arc<str>,
        key: &Arc<str>,
    ) -> Result<Arc<[QueueId]>, RouteError> {
        let cached = (exchange.clone(), key.clone());
        if let Some(route) = self.cache.0.get(&cached) {
            return Ok(route.clone());
        }
        let start = self.exchanges.get(exchange).ok_or(RouteError::NoExchange)?;
        if start.props.internal {
            return Err(RouteError::Internal);
        }
        let route: Arc<[QueueId]> = self.walk(exchange, start, key).into_iter().collect();
        if self.cache.0.len() >= ROUTES_MAX {
            self.cache.0.clear();
        }
        self.cache.0.insert(cached, route.clone());
        Ok(route)
    }

    /// The queues of a message that the broker itself sends to an exchange, which may be an internal one.
    pub(crate) fn route_within(
        &mut self,
        exchange: &Arc<str>,
        key: &Arc<str>,
    ) -> Result<Arc<[QueueId]>, RouteError> {
        match self.route(exchange, key) {
            Err(RouteError::Internal) => {
                let start = self.exchanges.get(exchange).ok_or(RouteError::NoExchange)?;
                Ok(self.walk(exchange, start, key).into_iter().collect())
            }
            route => route,
        }
    }

    fn walk(&self, name: &Arc<str>, start: &Exchange, key: &Arc<str>) -> BTreeSet<QueueId> {
        let mut queues = BTreeSet::new();
        if name.is_empty() {
            // Every queue is bound to the default exchange by its own name.
            queues.extend(self.queue(key));
            return queues;
        }
        let mut seen: BTreeSet<&str> = BTreeSet::from([&**name]);
        let mut waiting = vec![start];
        while let Some(exchange) = waiting.pop() {
            exchange.targets(key, |target| match target {
                Target::Queue(queue) => drop(queues.insert(*queue)),
                // A cycle is cut: each exchange is visited once.
                Target::Exchange(next) => {
                    if seen.insert(next) {
                        waiting.extend(self.exchanges.get(next));
                    }
                }
            });
        }
        queues
    }
}

impl Exchange {
    fn targets<'a>(&'a self, key: &str, mut found: impl FnMut(&'a Target)) {
        match &self.index {
            Index::Keys(keys) => {
                let key = if self.props.kind == ExchangeKind::Fanout { "" } else { key };
                keys.get(key).into_iter().flatten().for_each(&mut found);
            }
            Index::Patterns(trie) => trie.matches(key, found),
        }
    }
}
