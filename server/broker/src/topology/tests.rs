mod naive;

use std::sync::Arc;

use bytes::Bytes;

use super::{BindError, ExchangeKind, ExchangeProps, Gone, RouteError, Routing, Topology};
use crate::ids::QueueId;
use crate::input::{Binding, DestinationKind};
use crate::properties::Properties;
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

fn with_alternate(kind: ExchangeKind, alternate: &str) -> ExchangeProps {
    let name = Value::Bytes(Bytes::copy_from_slice(alternate.as_bytes()));
    ExchangeProps { arguments: Table(vec![("alternate-exchange".into(), name)]), ..props(kind) }
}

fn route(topology: &mut Topology, exchange: &str, key: &str) -> Result<Vec<u64>, RouteError> {
    route_all(topology, exchange, &[key], &Table::default())
}

/// With several keys, and with headers.
fn route_all(
    topology: &mut Topology,
    exchange: &str,
    keys: &[&str],
    headers: &Table,
) -> Result<Vec<u64>, RouteError> {
    let keys: Vec<Arc<str>> = keys.iter().map(|key| Arc::from(*key)).collect();
    let properties = Properties { headers: Some(headers.clone()), ..Properties::default() };
    let routing = Routing {
        exchange: &Arc::from(exchange),
        key: &keys[0],
        more_keys: &keys[1..],
        properties: &properties.encode().expect("headers fit"),
    };
    topology.route(routing).map(|queues| queues.iter().map(|q| q.0).collect())
}

fn with(entries: &[(&str, Value)]) -> Table {
    Table(entries.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
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
    assert_eq!(missing, BindError::NoExchange(Arc::from("x")));
    let missing = topology.bind(binding("amq.topic", QUEUE, "q9", "")).unwrap_err();
    assert_eq!(missing, BindError::NoQueue(Arc::from("q9")));
    assert!(!topology.unbind(&binding("x", QUEUE, "q9", ""), &mut Gone::default()));
}

#[test]
fn headers_decide_anew_for_every_message() {
    let mut topology = with_queues(2);
    let asking = |queue: &str, value: i32| Binding {
        arguments: with(&[("a", Value::I32(value))]),
        ..binding("amq.headers", QUEUE, queue, "ignored")
    };
    topology.bind(asking("q1", 1)).unwrap();
    topology.bind(asking("q2", 2)).unwrap();
    for _ in 0..2 {
        for (value, queue) in [(1, 1), (2, 2)] {
            let headers = with(&[("a", Value::I64(value))]);
            assert_eq!(route_all(&mut topology, "amq.headers", &["k"], &headers), Ok(vec![queue]));
        }
        assert_eq!(route(&mut topology, "amq.headers", "k"), Ok(vec![]));
    }
    assert_eq!(topology.cache.len(), 0, "such a route holds for one message only");
    topology.unbind(&asking("q1", 1), &mut Gone::default());
    let headers = with(&[("a", Value::I64(1))]);
    assert_eq!(route_all(&mut topology, "amq.headers", &["k"], &headers), Ok(vec![]));
    let wrong = with(&[("x-match", Value::I32(1))]);
    let wrong = Binding { arguments: wrong, ..binding("amq.match", QUEUE, "q1", "") };
    assert!(matches!(topology.bind(wrong.clone()), Err(BindError::BadMatch(_))));
    let elsewhere = Binding { source: Arc::from("amq.topic"), ..wrong };
    assert_eq!(topology.bind(elsewhere), Ok(Some(true)), "other types do not care");
}

#[test]
fn headers_behind_another_exchange_keep_its_route_out_of_the_cache() {
    let mut topology = with_queues(2);
    topology.bind(binding("amq.fanout", EXCHANGE, "amq.headers", "")).unwrap();
    let wanted =
        Binding { arguments: with(&[("a", Value::Void)]), ..binding("amq.headers", QUEUE, "q1", "") };
    topology.bind(wanted).unwrap();
    assert_eq!(route(&mut topology, "amq.fanout", "k"), Ok(vec![]));
    let headers = with(&[("a", Value::Bool(false))]);
    assert_eq!(route_all(&mut topology, "amq.fanout", &["k"], &headers), Ok(vec![1]));
    assert_eq!(route(&mut topology, "amq.fanout", "k"), Ok(vec![]));
}

#[test]
fn an_alternate_exchange_takes_what_the_exchange_itself_routed_nowhere() {
    let mut topology = with_queues(3);
    topology.add_exchange(Arc::from("a"), with_alternate(ExchangeKind::Direct, "b"));
    topology.add_exchange(Arc::from("b"), with_alternate(ExchangeKind::Direct, "c"));
    assert_eq!(route(&mut topology, "a", "k"), Ok(vec![]), "the end of the chain does not exist yet");
    topology.add_exchange(Arc::from("c"), with_alternate(ExchangeKind::Fanout, "a"));
    assert_eq!(route(&mut topology, "a", "k"), Ok(vec![]), "and then it is a circle");
    topology.bind(binding("c", QUEUE, "q3", "")).unwrap();
    assert_eq!(route(&mut topology, "a", "k"), Ok(vec![3]), "through two of them");
    topology.bind(binding("b", QUEUE, "q2", "k")).unwrap();
    assert_eq!(route(&mut topology, "a", "k"), Ok(vec![2]));
    assert_eq!(route(&mut topology, "a", "other"), Ok(vec![3]));
    topology.bind(binding("a", EXCHANGE, "amq.direct", "k")).unwrap();
    assert_eq!(route(&mut topology, "a", "k"), Ok(vec![]), "an exchange is somewhere, whatever comes of it");
    topology.bind(binding("amq.fanout", EXCHANGE, "a", "")).unwrap();
    assert_eq!(route(&mut topology, "amq.fanout", "other"), Ok(vec![3]), "also of one on the way");
    topology.remove_exchange(&Arc::from("b"), &mut Gone::default());
    assert_eq!(route(&mut topology, "a", "other"), Ok(vec![]));
    topology.add_exchange(Arc::from("d"), with_alternate(ExchangeKind::Topic, ""));
    assert_eq!(route(&mut topology, "d", "q1"), Ok(vec![1]), "the default exchange is one, too");
}

#[test]
fn further_keys_reach_each_queue_once() {
    let mut topology = with_queues(3);
    let none = Table::default();
    for (queue, key) in [("q1", "a"), ("q1", "b"), ("q2", "b"), ("q3", "c")] {
        topology.bind(binding("amq.direct", QUEUE, queue, key)).unwrap();
    }
    assert_eq!(route_all(&mut topology, "amq.direct", &["a", "b"], &none), Ok(vec![1, 2]));
    assert_eq!(route(&mut topology, "amq.direct", "a"), Ok(vec![1]), "nothing of it is kept");
    assert_eq!(route_all(&mut topology, "amq.direct", &["a", "c"], &none), Ok(vec![1, 3]));
    assert_eq!(route_all(&mut topology, "", &["q1", "q3", "q1", "x"], &none), Ok(vec![1, 3]));
    topology.add_exchange(Arc::from("x"), with_alternate(ExchangeKind::Direct, "amq.fanout"));
    topology.bind(binding("x", QUEUE, "q2", "known")).unwrap();
    topology.bind(binding("amq.fanout", QUEUE, "q3", "")).unwrap();
    assert_eq!(route_all(&mut topology, "x", &["unknown", "known"], &none), Ok(vec![2]));
    assert_eq!(route_all(&mut topology, "x", &["unknown", "other"], &none), Ok(vec![3]));
}
