//! Exchanges in the core as a whole, and the order in which what is wrong is found: SEMANTICS 3, line by line as far as
//! `declare` does not have it.

use bytes::Bytes;

use super::world::{World, binding, confirms, consumer, exchange, message, queue};
use crate::effect::{Effect, Outcome, Reply};
use crate::input::{Binding, DeclareExchange, DeclareQueue, DestinationKind, Op, Publish, PublishExtras};
use crate::properties::Properties;
use crate::refusal::RefusalKind::{AccessRefused, NotFound, PreconditionFailed, ResourceLocked};
use crate::value::{Table, Value};

fn string(value: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(value.as_bytes()))
}

fn table(entries: &[(&str, Value)]) -> Table {
    Table(entries.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
}

fn with_alternate(name: &str, kind: &str, alternate: &'static str) -> DeclareExchange {
    let arguments = table(&[("alternate-exchange", string(alternate))]);
    DeclareExchange { arguments, ..exchange(name, kind) }
}

fn asking(source: &str, queue: &str, arguments: &[(&str, Value)]) -> Binding {
    Binding { arguments: table(arguments), ..binding(source, queue, "") }
}

/// A message to amq.headers.
fn with_headers(headers: &[(&str, Value)], body: &str) -> Publish {
    let headers = Some(table(headers));
    let properties = Properties { headers, delivery_mode: Some(2), ..Properties::default() };
    Publish { properties: properties.encode().expect("it fits"), ..message("amq.headers", "k", body) }
}

#[test]
fn headers_exchanges_route_by_headers_also_after_a_crash() {
    let mut world = World::ready();
    for name in ["all", "any", "none"] {
        world.declare(name);
    }
    let wanted = |how| [("x-match", string(how)), ("a", Value::I32(1)), ("b", string("x"))];
    world.ok(Op::Bind(asking("amq.headers", "all", &wanted("all"))));
    world.ok(Op::Bind(asking("amq.headers", "any", &wanted("any"))));
    world.ok(Op::Bind(asking("amq.match", "none", &[])));
    let mut world = world.crash();
    world.open(1, 1);
    world.publish(with_headers(&[("b", string("x")), ("a", Value::I64(1))], "both"));
    world.publish(with_headers(&[("a", Value::I64(1))], "one"));
    world.publish(with_headers(&[("c", Value::I64(1))], "other"));
    world.publish(message("amq.headers", "k", "no headers"));
    world.publish(message("amq.match", "k", "everything"));
    assert_eq!(world.drain("all"), ["both"]);
    assert_eq!(world.drain("any"), ["both", "one"]);
    assert_eq!(world.drain("none"), ["everything"]);
    assert_eq!(world.broker.stats().unrouted, 2);
}

#[test]
fn a_wrong_x_match_is_refused_when_it_is_bound() {
    let mut world = World::ready();
    world.declare("q");
    let text = "Invalid x-match field value 'most'; expected all, any, all-with-x, or any-with-x";
    let wrong = asking("amq.headers", "q", &[("x-match", string("most"))]);
    world.refused_with(Op::Bind(wrong.clone()), PreconditionFailed, text);
    world.ok(Op::Unbind(wrong));
    assert_eq!(world.broker.stats().bindings, 0);
    world.ok(Op::DeclareExchange(exchange("h", "headers")));
    assert_eq!(
        world.refused(Op::Bind(asking("h", "q", &[("x-match", Value::Void)]))).kind,
        PreconditionFailed
    );
}

#[test]
fn an_alternate_exchange_counts_as_routed() {
    let mut world = World::ready();
    world.declare("q");
    world.ok(Op::DeclareExchange(with_alternate("x", "direct", "late")));
    let mandatory = |key, body| Publish { mandatory: true, ..message("x", key, body) };
    let effects = world.publish(mandatory("k", "lost"));
    assert!(effects.iter().any(|e| matches!(e, Effect::Return { .. })), "it may be missing");
    let internal = DeclareExchange { internal: true, ..exchange("late", "fanout") };
    world.ok(Op::DeclareExchange(internal));
    world.ok(Op::Bind(binding("late", "q", "")));
    let mut world = world.crash();
    world.open(1, 1);
    let effects = world.publish(mandatory("k", "caught"));
    assert_eq!(confirms(&effects, 1), [(1, vec![])]);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Return { .. })));
    world.ok(Op::Bind(binding("x", "q", "known")));
    world.publish(mandatory("known", "once"));
    assert_eq!(world.drain("q"), ["caught", "once"], "an internal exchange takes it");
}

#[test]
fn further_routing_keys_are_checked_and_obeyed() {
    let mut world = World::ready();
    for name in ["a", "b", "c"] {
        world.declare(name);
    }
    let with_keys = |keys: &[&str]| {
        let routing_keys = keys.iter().map(|key| (*key).into()).collect();
        let extras = PublishExtras { routing_keys, ..PublishExtras::default() };
        Publish { extras: Some(Box::new(extras)), ..message("", "a", "m") }
    };
    let effects = world.publish(with_keys(&["b", "a", "missing"]));
    assert_eq!(confirms(&effects, 1), [(1, vec![])]);
    assert_eq!(
        (world.drain("a"), world.drain("b"), world.drain("c")),
        (vec!["m".into()], vec!["m".into()], vec![])
    );
    let long = "k".repeat(256);
    let effects = world.publish(with_keys(&["b", &long]));
    let rejected = Outcome::Rejected(crate::refusal::RefusalKind::InvalidArgument);
    assert_eq!(confirms(&effects, 1), [(2, vec![(2, rejected)])]);
    assert_eq!(world.counts("b"), (0, 0));
}

#[test]
fn line_1_the_owner_goes_before_durable_before_auto_delete_before_arguments() {
    let mut world = World::ready();
    world.open(2, 2);
    world.ok(Op::DeclareQueue(DeclareQueue { exclusive: true, ..queue("e") }));
    let arguments = table(&[("x-single-active-consumer", Value::Bool(true))]);
    let other = DeclareQueue { auto_delete: true, arguments, ..queue("e") };
    let refusal = world.ask(Some(2), Op::DeclareQueue(other.clone())).expect_err("it is another's");
    assert_eq!(refusal.kind, ResourceLocked);
    assert_eq!(world.refused(Op::DeclareQueue(other.clone())).kind, ResourceLocked, "exclusive differs");
    world.declare("q");
    let mut other = DeclareQueue { name: "q".into(), durable: false, ..other };
    for field in ["durable", "auto_delete", "x-single-active-consumer"] {
        let refusal = world.refused(Op::DeclareQueue(other.clone()));
        assert_eq!((refusal.kind, &*refusal.details[0].1), (PreconditionFailed, field));
        (other.durable, other.auto_delete) = (true, field == "durable");
    }
}

#[test]
fn line_2_of_the_arguments_of_exchanges_only_the_alternate_counts() {
    let mut world = World::ready();
    world.ok(Op::DeclareExchange(with_alternate("x", "topic", "a")));
    let same = table(&[("x-any", Value::I32(1)), ("alternate-exchange", string("a"))]);
    world.ok(Op::DeclareExchange(DeclareExchange { arguments: same, ..exchange("x", "topic") }));
    let text = "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': received none but current is the \
                value 'a' of type 'longstr'";
    world.refused_with(Op::DeclareExchange(exchange("x", "topic")), PreconditionFailed, text);
    let refusal = world.refused(Op::DeclareExchange(with_alternate("x", "topic", "b")));
    assert_eq!(refusal.kind, PreconditionFailed);
    let flags = DeclareExchange { durable: false, ..with_alternate("x", "direct", "b") };
    assert_eq!(world.refused(Op::DeclareExchange(flags)).details[0].1, "type", "type goes before all else");
}

#[test]
fn line_6_reserved_names_matter_only_to_what_is_created_or_deleted() {
    let mut world = World::ready();
    for (name, kind) in [("amq.headers", "headers"), ("amq.match", "headers"), ("amq.fanout", "fanout")] {
        world.ok(Op::DeclareExchange(exchange(name, kind)));
        world.ok(Op::DeclareExchange(DeclareExchange { passive: true, ..exchange(name, "any") }));
        let op = Op::DeleteExchange { name: format!("{name}\r\n").into(), if_unused: true };
        let text = format!("deletion of system exchange '{name}' in vhost '/' not allowed");
        world.refused_with(op, AccessRefused, &text);
    }
    let op = Op::DeleteExchange { name: "amq.missing".into(), if_unused: false };
    assert_eq!(world.refused(op).kind, AccessRefused, "whether it is there or not");
    let refusal = world.refused(Op::DeclareExchange(exchange("amq.topic", "direct")));
    assert_eq!(refusal.kind, PreconditionFailed, "it is there, so it is compared");
}

#[test]
fn line_7_an_unknown_type_is_refused_before_the_name_is_looked_at() {
    let mut world = World::ready();
    for name in ["x", "amq.x", "amq.topic"] {
        let text = "unknown exchange type 'x-magic'";
        world.refused_with(Op::DeclareExchange(exchange(name, "x-magic")), PreconditionFailed, text);
    }
    world.ok(Op::DeclareExchange(DeclareExchange { passive: true, ..exchange("amq.topic", "x-magic") }));
    let kinds: Vec<_> = match world.ok(Op::ListExchanges) {
        Reply::Exchanges(rows) => {
            rows.into_iter().map(|row| (row.name.to_string(), row.kind, row.internal)).collect()
        }
        other => panic!("{other:?}"),
    };
    let expected = [
        ("", "direct", false),
        ("amq.direct", "direct", false),
        ("amq.fanout", "fanout", false),
        ("amq.headers", "headers", false),
        ("amq.match", "headers", false),
        ("amq.rabbitmq.trace", "topic", true),
        ("amq.topic", "topic", false),
    ];
    assert_eq!(kinds, expected.map(|(name, kind, internal)| (name.to_string(), kind, internal)));
}

#[test]
fn line_11_what_stands_in_the_way_of_a_delete() {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", &["a", "b"]);
    world.consume_with(crate::input::Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    let op = Op::DeleteQueue { name: "q".into(), if_unused: true, if_empty: true };
    world.refused_with(op, PreconditionFailed, "queue 'q' in vhost '/' not empty");
    world.ok(Op::DeclareExchange(exchange("x", "fanout")));
    let inbound = Binding { destination_kind: DestinationKind::Exchange, ..binding("amq.fanout", "x", "") };
    world.ok(Op::Bind(inbound));
    let op = || Op::DeleteExchange { name: "x".into(), if_unused: true };
    world.ok(Op::Bind(binding("x", "q", "")));
    world.refused_with(op(), PreconditionFailed, "exchange 'x' in vhost '/' in use");
    world.ok(Op::Unbind(binding("x", "q", "")));
    world.ok(op());
    assert_eq!(world.broker.stats().bindings, 0, "those that lead to it do not hold it");
}

#[test]
fn line_12_missing_goes_before_locked_before_wrong_arguments() {
    let mut world = World::ready();
    world.open(2, 2);
    world.ok(Op::DeclareQueue(DeclareQueue { exclusive: true, ..queue("e") }));
    let wrong = |source, queue| Op::Bind(asking(source, queue, &[("x-match", Value::I32(1))]));
    let mut kind = |op| world.ask(Some(2), op).expect_err("it is refused").kind;
    assert_eq!(kind(wrong("missing", "e")), NotFound);
    assert_eq!(kind(wrong("amq.headers", "missing")), NotFound);
    assert_eq!(kind(wrong("amq.headers", "e")), ResourceLocked);
    assert_eq!(world.refused(wrong("amq.headers", "e")).kind, PreconditionFailed);
}

#[test]
fn line_15_an_internal_exchange_is_closed_to_clients_only() {
    let mut world = World::ready();
    world.declare("q");
    world.ok(Op::DeclareExchange(DeclareExchange { internal: true, ..exchange("in", "headers") }));
    world.ok(Op::Bind(binding("in", "q", "")));
    world.ok(Op::DeclareExchange(with_alternate("x", "topic", "in")));
    let effects = world.publish(message("in", "", "refused"));
    assert_eq!(confirms(&effects, 1), [(1, vec![(1, Outcome::Rejected(AccessRefused))])]);
    world.publish(message("x", "", "through"));
    assert_eq!(world.drain("q"), ["through"]);
}
