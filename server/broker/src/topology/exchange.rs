//! One exchange: its properties, its bindings, and which of them a message takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::headers::{HeadersMatch, MessageHeaders};
use super::{BindingKey, Bound, Target};
use crate::arguments;
use crate::topic::Trie;
use crate::value::Table;

/// Exchange types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl ExchangeKind {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "direct" => Some(Self::Direct),
            "fanout" => Some(Self::Fanout),
            "topic" => Some(Self::Topic),
            "headers" => Some(Self::Headers),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    /// Whether routing keys choose among its bindings.
    pub(super) fn has_keys(self) -> bool {
        matches!(self, Self::Direct | Self::Topic)
    }
}

/// What an exchange is declared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExchangeProps {
    pub(crate) kind: ExchangeKind,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Table,
}

#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) props: ExchangeProps,
    /// Where a message goes that none of its bindings takes. It may not exist.
    pub(super) alternate: Option<Arc<str>>,
    /// Bindings of which it is the source.
    pub(super) bindings: BTreeMap<BindingKey, Bound>,
    index: Index,
}

/// Bindings by what a message has to bring. In the first two a target stands once per binding.
#[derive(Debug)]
enum Index {
    /// By binding key; "" holds all of a fanout exchange's.
    Keys(BTreeMap<Arc<str>, Vec<Target>>),
    Patterns(Trie<Target>),
    /// Looked through one by one, as in RabbitMQ.
    Headers(BTreeMap<BindingKey, (HeadersMatch, Target)>),
}

impl Exchange {
    pub(super) fn new(props: ExchangeProps) -> Self {
        let index = match props.kind {
            ExchangeKind::Direct | ExchangeKind::Fanout => Index::Keys(BTreeMap::new()),
            ExchangeKind::Topic => Index::Patterns(Trie::default()),
            ExchangeKind::Headers => Index::Headers(BTreeMap::new()),
        };
        let alternate = arguments::exchange::alternate(&props.arguments);
        Self { props, alternate, bindings: BTreeMap::new(), index }
    }

    pub(crate) fn has_bindings(&self) -> bool {
        !self.bindings.is_empty()
    }

    /// Calls `found` for the target of every binding that takes the message; for one target perhaps several times.
    pub(super) fn targets<'a>(
        &'a self,
        key: &str,
        headers: &MessageHeaders<'_>,
        mut found: impl FnMut(&'a Target),
    ) {
        match &self.index {
            Index::Keys(keys) => {
                let key = if self.props.kind == ExchangeKind::Fanout { "" } else { key };
                keys.get(key).into_iter().flatten().for_each(&mut found);
            }
            Index::Patterns(trie) => trie.matches(key, found),
            Index::Headers(bindings) => {
                let taking = bindings.values().filter(|(wanted, _)| wanted.takes(headers));
                taking.for_each(|(_, target)| found(target));
            }
        }
    }

    pub(super) fn insert(&mut self, key: BindingKey, bound: Bound, wanted: HeadersMatch) {
        let index_key = self.index_key(&key.routing_key);
        let target = bound.target.clone();
        match &mut self.index {
            Index::Keys(keys) => {
                let targets = keys.entry(index_key).or_default();
                if targets.is_empty() {
                    // Most keys lead to one.
                    targets.reserve_exact(1);
                }
                targets.push(target);
            }
            Index::Patterns(trie) => trie.insert(&index_key, target),
            Index::Headers(bindings) => drop(bindings.insert(key.clone(), (wanted, target))),
        }
        self.bindings.insert(key, bound);
    }

    pub(super) fn remove(&mut self, key: &BindingKey) -> Option<Bound> {
        let bound = self.bindings.remove(key)?;
        let index_key = self.index_key(&key.routing_key);
        match &mut self.index {
            Index::Keys(keys) => {
                if let Some(targets) = keys.get_mut(&index_key) {
                    if let Some(place) = targets.iter().position(|t| *t == bound.target) {
                        targets.swap_remove(place);
                    }
                    if targets.is_empty() {
                        keys.remove(&index_key);
                    }
                }
            }
            Index::Patterns(trie) => trie.remove(&index_key, &bound.target),
            Index::Headers(bindings) => drop(bindings.remove(key)),
        }
        Some(bound)
    }

    fn index_key(&self, key: &Arc<str>) -> Arc<str> {
        if self.props.kind == ExchangeKind::Fanout { Arc::from("") } else { key.clone() }
    }
}
