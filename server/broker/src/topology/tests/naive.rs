//! Any topology against a walk over a plain list of bindings.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{EXCHANGE, QUEUE, binding, props, route_all, with, with_alternate};
use crate::ids::QueueId;
use crate::input::Binding;
use crate::topology::{ExchangeKind, Gone, Topology};
use crate::value::{Table, Value};

const EXCHANGES: u8 = 7;
const QUEUES: u8 = 5;

/// Source, whether it leads to an exchange, destination, key, number of its arguments.
type Line = (u8, bool, u8, &'static str, usize);

/// A change of the topology, drawn from few names so that they meet.
#[derive(Debug, Clone)]
enum Change {
    Bind(Line),
    Unbind(Line),
    RemoveQueue(u8),
    /// Removes an exchange and declares it anew, perhaps with an alternate exchange.
    Redeclare(u8, Option<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let key = || prop::sample::select(&["a", "b", "a.b", "*", "#", "a.#", "#.b", ""][..]);
    let line = || (0..EXCHANGES, any::<bool>(), 0..QUEUES, key(), 0..7usize);
    prop_oneof![
        16 => line().prop_map(Change::Bind),
        4 => line().prop_map(Change::Unbind),
        1 => (0..QUEUES).prop_map(Change::RemoveQueue),
        3 => (0..EXCHANGES, prop::option::of(0..EXCHANGES)).prop_map(|(n, to)| Change::Redeclare(n, to)),
    ]
}

fn kind_of(exchange: u8) -> ExchangeKind {
    let kinds = [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic, ExchangeKind::Headers];
    kinds[usize::from(exchange % 4)]
}

fn string(value: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(value.as_bytes()))
}

fn arguments(number: usize) -> Table {
    let one = |name| (name, Value::I32(1));
    match number {
        0 => Table::default(),
        1 => with(&[("x-match", string("any"))]),
        2 => with(&[one("a")]),
        3 => with(&[("x-match", string("any")), one("a"), ("b", string("x"))]),
        4 => with(&[("a", Value::Void)]),
        5 => with(&[("x-match", string("all-with-x")), one("x-a")]),
        _ => with(&[one("x-a"), one("a")]),
    }
}

/// What a message has: a (0: none), whether b is "x", whether x-a is 1.
type Headers = (i64, bool, bool);

const HEADERS: [Headers; 5] =
    [(0, false, false), (1, false, false), (2, true, false), (0, true, true), (1, false, true)];

fn headers((a, b, x_a): Headers) -> Table {
    let mut headers = Vec::new();
    if a != 0 {
        headers.push(("a", Value::I64(a)));
    }
    if b {
        headers.push(("b", string("x")));
    }
    if x_a {
        headers.push(("x-a", Value::U8(1)));
    }
    with(&headers)
}

/// What [`arguments`] say, said otherwise.
fn asked(number: usize, (a, b, x_a): Headers) -> bool {
    match number {
        0 => true,
        1 => false,
        2 | 6 => a == 1,
        3 => a == 1 || b,
        4 => a != 0,
        _ => x_a,
    }
}

/// All queues that a walk over a plain list reaches.
fn naive(
    bindings: &[Line],
    alternates: &[Option<u8>],
    from: u8,
    keys: &[&str],
    has: Headers,
) -> BTreeSet<u64> {
    let mut queues = BTreeSet::new();
    let mut seen = BTreeSet::from([from]);
    let mut waiting = vec![from];
    while let Some(at) = waiting.pop() {
        let mut next = BTreeSet::new();
        let mut routed = false;
        for (source, to_exchange, destination, pattern, number) in bindings {
            let matches = match kind_of(at) {
                ExchangeKind::Direct => keys.contains(pattern),
                ExchangeKind::Fanout => true,
                ExchangeKind::Topic => keys.iter().any(|key| topic(pattern, key)),
                ExchangeKind::Headers => asked(*number, has),
            };
            if *source != at || !matches {
                continue;
            }
            routed = true;
            if *to_exchange {
                next.insert(*destination);
            } else {
                queues.insert(u64::from(*destination));
            }
        }
        if !routed {
            next.extend(alternates[usize::from(at)]);
        }
        waiting.extend(next.into_iter().filter(|exchange| seen.insert(*exchange)));
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

fn exchange(n: u8) -> Arc<str> {
    Arc::from(format!("x{n}"))
}

fn queue(n: u8) -> Arc<str> {
    Arc::from(format!("q{n}"))
}

fn form((source, to_exchange, destination, key, number): Line) -> Binding {
    let (kind, name) =
        if to_exchange { (EXCHANGE, exchange(destination)) } else { (QUEUE, queue(destination)) };
    Binding { arguments: arguments(number), ..binding(&exchange(source), kind, &name, key) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn routes_agree_with_a_plain_list(changes in prop::collection::vec(change(), 1..50)) {
        let mut topology = Topology::new();
        let mut bindings: Vec<Line> = Vec::new();
        let mut alternates = vec![None; usize::from(EXCHANGES)];
        (0..EXCHANGES).for_each(|n| topology.add_exchange(exchange(n), props(kind_of(n))));
        (0..QUEUES).for_each(|n| topology.add_queue(queue(n), QueueId(u64::from(n)), true));
        for change in changes {
            let mut gone = Gone::default();
            match change {
                Change::Bind(line) => {
                    let new = topology.bind(form(line)).unwrap().is_some();
                    prop_assert_eq!(new, !bindings.contains(&line));
                    if new {
                        bindings.push(line);
                    }
                }
                Change::Unbind(line) => {
                    let was = topology.unbind(&form(line), &mut gone);
                    prop_assert_eq!(was, bindings.contains(&line));
                    bindings.retain(|b| *b != line);
                }
                Change::RemoveQueue(n) => {
                    topology.remove_queue(&queue(n), &mut gone);
                    topology.add_queue(queue(n), QueueId(u64::from(n)), true);
                    bindings.retain(|(_, e, d, ..)| *e || *d != n);
                }
                Change::Redeclare(n, alternate) => {
                    topology.remove_exchange(&exchange(n), &mut gone);
                    let anew = match alternate {
                        Some(to) => with_alternate(kind_of(n), &exchange(to)),
                        None => props(kind_of(n)),
                    };
                    topology.add_exchange(exchange(n), anew);
                    alternates[usize::from(n)] = alternate;
                    bindings.retain(|(s, e, d, ..)| *s != n && (!*e || *d != n));
                }
            }
            prop_assert_eq!(topology.binding_count(), bindings.len() as u64);
            prop_assert_eq!(topology.bindings().count(), bindings.len());
            prop_assert_eq!(topology.inbound.len(), bindings.len());
            for from in 0..EXCHANGES {
                for (n, keys) in [&["a"][..], &["a.b"], &[""], &["b.a.b"], &["b", "a"], &["", "a.b"]].into_iter().enumerate() {
                    // Twice with other headers, so that a route that was kept in error is found.
                    for has in [HEADERS[n % 5], HEADERS[(n + usize::from(from)) % 5]] {
                        let expected: Vec<u64> =
                            naive(&bindings, &alternates, from, keys, has).into_iter().collect();
                        let found = route_all(&mut topology, &exchange(from), keys, &headers(has));
                        prop_assert_eq!(found, Ok(expected));
                    }
                }
            }
        }
    }
}
