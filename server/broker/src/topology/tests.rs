use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::{ExchangeKind, ExchangeProps, Gone, Missing, RouteError, Topology};
use crate::ids::QueueId;
use crate::input::{Binding, DestinationKind};
use crate::value::{Table, Value};

fn props(kind: ExchangeKind) -> ExchangeProps {
    ExchangeProps { kind, durable: true, auto_delete: false, internal: false, arguments: Table::default() }
}

fn binding(source: &str, kind: DestinationKind, destination: &str, key: &str) -> Binding {
    Binding {
        source: Arc::from(source),
        destination_kind: kind,
        destination: Arc::from(destination),
        routing_key: Arc::from(key),
        arguments: Table::default(),
    }
}

fn route(topology: &mut Topology, exchange: &str, key: &str) -> Result<Vec<u64>, RouteError> {
    topology.route(&Arc::from(exchange), &Arc::from(key)).map(|queues| queues.iter().map(|q| q.0).collect())
}

fn with_queues(count: u64) -> Topology {
    let mut topology = Topology::new();
    for n in 1..=count {
        topology.add_queue(Arc::from(format!("q{n}")), QueueId(n), true);
    }
    topology
}

const QUEUE: DestinationKind = DestinationKind::Queue;
const EXCHANGE: DestinationKind = DestinationKind::Exchange;

#[test]
fn every_type_by_its_rule() {
    let mut topology = with_queues(3);
    topology.bind(binding("amq.direct", QUEUE, "q1", "k")).unwrap();
    topology.bind(binding("amq.direct", QUEUE, "q2", "k")).unwrap();
    topology.bind(binding("amq.direct", QUEUE, "q3", "other")).unwrap();
    topology.bind(binding("amq.fanout", QUEUE, "q2", "ignored")).unwrap();
    topology.bind(binding("amq.topic", QUEUE, "q1", "a.*")).unwrap();
    topology.bind(binding("amq.topic", QUEUE, "q1", "#.b")).unwrap();
    topology.bind(binding("amq.topic", QUEUE, "q3", "a.#")).unwrap();
    assert_eq!(route(&mut topology, "amq.direct", "k"), Ok(vec![1, 2]));
    assert_eq!(route(&mut topology, "amq.direct", ""), Ok(vec![]));
    assert_eq!(route(&mut topology, "amq.fanout", "anything"), Ok(vec![2]));
    assert_eq!(route(&mut topology, "amq.topic", "a.b"), Ok(vec![1, 3]), "once per queue");
    assert_eq!(route(&mut topology, "", "q3"), Ok(vec![3]));
    assert_eq!(route(&mut topology, "", "k"), Ok(vec![]));
    assert_eq!(route(&mut topology, "x", "k"), Err(RouteError::NoExchange));
    assert_eq!(route(&mut topology, "amq.rabbitmq.trace", "k"), Err(RouteError::Internal));
}

#[test]
fn cycles_are_cut() {
    let mut topology = with_queues(2);
    for name in ["a", "b"] {
        topology.add_exchange(Arc::from(name), props(ExchangeKind::Fanout));
    }
    topology.bind(binding("a", EXCHANGE, "b", "")).unwrap();
    topology.bind(binding("b", EXCHANGE, "a", "")).unwrap();
    topology.bind(binding("a", EXCHANGE, "a", "")).unwrap();
    topology.bind(binding("a", QUEUE, "q1", "")).unwrap();
    topology.bind(binding("b", QUEUE, "q2", "")).unwrap();
    assert_eq!(route(&mut topology, "a", ""), Ok(vec![1, 2]));
    assert_eq!(route(&mut topology, "b", ""), Ok(vec![1, 2]));
}

#[test]
fn routes_are_cached_until_something_changes() {
    let mut topology = with_queues(2);
    topology.bind(binding("amq.direct", QUEUE, "q1", "k")).unwrap();
    assert_eq!(route(&mut topology, "amq.direct", "k"), Ok(vec![1]));
    topology.bind(binding("amq.direct", QUEUE, "q2", "k")).unwrap();
    assert_eq!(route(&mut topology, "amq.direct", "k"), Ok(vec![1, 2]));
    let mut gone = Gone::default();
    assert!(topology.unbind(&binding("amq.direct", QUEUE, "q1", "k"), &mut gone));
    assert_eq!(route(&mut topology, "amq.direct", "k"), Ok(vec![2]));
    topology.remove_queue(&Arc::from("q2"), &mut gone);
    assert_eq!(route(&mut topology, "amq.direct", "k"), Ok(vec![]));
    assert_eq!(route(&mut topology, "", "q2"), Ok(vec![]));
    topology.add_queue(Arc::from("q2"), QueueId(7), true);
    assert_eq!(route(&mut topology, "", "q2"), Ok(vec![7]));
    assert_eq!(gone.bindings.len(), 2);
    for n in 0..10_000 {
        assert_eq!(route(&mut topology, "amq.direct", &n.to_string()), Ok(vec![]));
    }
    assert!(topology.cache.len() <= 4_096);
}

#[test]
fn arguments_make_bindings_differ_whatever_their_order() {
    let mut topology = with_queues(1);
    let with = |names: &[&str]| Binding {
        arguments: Table(names.iter().map(|n| (n.to_string(), Value::I32(1))).collect()),
        ..binding("amq.direct", QUEUE, "q1", "k")
    };
    assert_eq!(topology.bind(with(&["a", "b"])), Ok(Some(true)));
    assert_eq!(topology.bind(with(&["b", "a"])), Ok(None));
    assert_eq!(topology.bind(with(&["a"])), Ok(Some(true)));
    assert_eq!(topology.binding_count(), 2);
}

#[test]
fn missing_ends() {
    let mut topology = with_queues(1);
    let missing = topology.bind(binding("x", QUEUE, "q9", "")).unwrap_err();
    assert_eq!(missing, Missing::Exchange(Arc::from("x")));
    let missing = topology.bind(binding("amq.topic", QUEUE, "q9", "")).unwrap_err();
    assert_eq!(missing, Missing::Queue(Arc::from("q9")));
    assert!(!topology.unbind(&binding("x", QUEUE, "q9", ""), &mut Gone::default()));
}

/// A change of the topology, drawn from few names so that they meet.
#[derive(Debug, Clone)]
enum Change {
    Bind(u8, bool, u8, &'static str),
    Unbind(u8, bool, u8, &'static str),
    RemoveQueue(u8),
    RemoveExchange(u8),
}

fn change() -> impl Strategy<Value = Change> {
    let key = || prop::sample::select(&["a", "b", "a.b", "*", "#", "a.#", "#.b", ""][..]);
    prop_oneof![
        8 => (0..5u8, any::<bool>(), 0..5u8, key()).prop_map(|(s, e, d, k)| Change::Bind(s, e, d, k)),
        2 => (0..5u8, any::<bool>(), 0..5u8, key()).prop_map(|(s, e, d, k)| Change::Unbind(s, e, d, k)),
        1 => (0..5u8).prop_map(Change::RemoveQueue),
        1 => (0..5u8).prop_map(Change::RemoveExchange),
    ]
}

fn kind_of(exchange: u8) -> ExchangeKind {
    [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic][usize::from(exchange % 3)]
}

/// All queues that a walk over a plain list of bindings reaches.
fn naive(bindings: &[(u8, bool, u8, &'static str)], from: u8, key: &str) -> BTreeSet<u64> {
    let mut queues = BTreeSet::new();
    let mut seen = BTreeSet::from([from]);
    let mut waiting = vec![from];
    while let Some(at) = waiting.pop() {
        for (source, to_exchange, destination, pattern) in bindings {
            let matches = match kind_of(at) {
                ExchangeKind::Direct => *pattern == key,
                ExchangeKind::Fanout => true,
                ExchangeKind::Topic => topic(pattern, key),
            };
            if *source != at || !matches {
                continue;
            }
            if !to_exchange {
                queues.insert(u64::from(*destination));
            } else if seen.insert(*destination) {
                waiting.push(*destination);
            }
        }
    }
    queues
}

fn topic(pattern: &str, key: &str) -> bool {
    let words = |s: &str| if s.is_empty() { Vec::new() } else { s.split('.').map(String::from).collect() };
    fn at(pattern: &[String], key: &[String]) -> bool {
        match pattern.first().map(String::as_str) {
            None => key.is_empty(),
            Some("#") => (0..=key.len()).any(|n| at(&pattern[1..], &key[n..])),
            Some("*") => !key.is_empty() && at(&pattern[1..], &key[1..]),
            Some(word) => key.first().is_some_and(|k| k == word) && at(&pattern[1..], &key[1..]),
        }
    }
    at(&words(pattern), &words(key))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn routes_agree_with_a_plain_list(changes in prop::collection::vec(change(), 1..40)) {
        let mut topology = Topology::new();
        let mut bindings: Vec<(u8, bool, u8, &'static str)> = Vec::new();
        let exchange = |n: u8| -> Arc<str> { Arc::from(format!("x{n}")) };
        let queue = |n: u8| -> Arc<str> { Arc::from(format!("q{n}")) };
        for n in 0..5 {
            topology.add_exchange(exchange(n), props(kind_of(n)));
            topology.add_queue(queue(n), QueueId(u64::from(n)), true);
        }
        let form = |s: u8, e: bool, d: u8, k: &str| {
            let (kind, name) = if e { (EXCHANGE, exchange(d)) } else { (QUEUE, queue(d)) };
            binding(&exchange(s), kind, &name, k)
        };
        for change in changes {
            let mut gone = Gone::default();
            match change {
                Change::Bind(s, e, d, k) => {
                    let new = topology.bind(form(s, e, d, k)).unwrap().is_some();
                    prop_assert_eq!(new, !bindings.contains(&(s, e, d, k)));
                    if new {
                        bindings.push((s, e, d, k));
                    }
                }
                Change::Unbind(s, e, d, k) => {
                    let was = topology.unbind(&form(s, e, d, k), &mut gone);
                    prop_assert_eq!(was, bindings.contains(&(s, e, d, k)));
                    bindings.retain(|b| *b != (s, e, d, k));
                }
                Change::RemoveQueue(n) => {
                    topology.remove_queue(&queue(n), &mut gone);
                    topology.add_queue(queue(n), QueueId(u64::from(n)), true);
                    bindings.retain(|(_, e, d, _)| *e || *d != n);
                }
                Change::RemoveExchange(n) => {
                    topology.remove_exchange(&exchange(n), &mut gone);
                    topology.add_exchange(exchange(n), props(kind_of(n)));
                    bindings.retain(|(s, e, d, _)| *s != n && (!*e || *d != n));
                }
            }
            prop_assert_eq!(topology.binding_count(), bindings.len() as u64);
            prop_assert_eq!(topology.bindings().count(), bindings.len());
            prop_assert_eq!(topology.inbound.values().map(|i| i.len()).sum::<usize>(), bindings.len());
            for from in 0..5 {
                for key in ["a", "b", "a.b", "", "b.a.b"] {
                    let expected: Vec<u64> = naive(&bindings, from, key).into_iter().collect();
                    prop_assert_eq!(route(&mut topology, &exchange(from), key), Ok(expected));
                }
            }
        }
    }
}
