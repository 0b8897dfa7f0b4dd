//! Declare, delete and bind: SEMANTICS 3.

use std::sync::Arc;

use bytes::Bytes;

use super::world::{World, binding, consumer, exchange, message, queue, to_queue};
use crate::effect::{Effect, Reply};
use crate::input::{Binding, DeclareExchange, DeclareQueue, DestinationKind, Input, Op};
use crate::refusal::RefusalKind::{
    AccessRefused, InvalidArgument, NotFound, NotImplemented, PreconditionFailed, ResourceLocked,
    SessionRequired,
};
use crate::value::{Table, Value};

const PREDECLARED: [&str; 7] =
    ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic"];

fn declare(queue: DeclareQueue) -> Op {
    Op::DeclareQueue(queue)
}

fn exclusive(name: &str) -> DeclareQueue {
    DeclareQueue { exclusive: true, ..queue(name) }
}

fn with_argument(name: &str, value: Value) -> Table {
    Table(vec![(name.to_string(), value)])
}

fn string(value: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(value.as_bytes()))
}

fn delete_queue(name: &str) -> Op {
    Op::DeleteQueue { name: Arc::from(name), if_unused: false, if_empty: false }
}

fn delete_exchange(name: &str) -> Op {
    Op::DeleteExchange { name: Arc::from(name), if_unused: false }
}

fn to_exchange(source: &str, destination: &str, key: &str) -> Binding {
    Binding { destination_kind: DestinationKind::Exchange, ..binding(source, destination, key) }
}

fn removed(reply: Reply) -> u64 {
    match reply {
        Reply::Removed { messages } => messages,
        other => panic!("{other:?}"),
    }
}

fn declared(reply: Reply) -> (String, u64, u64) {
    match reply {
        Reply::QueueDeclared { name, messages_ready, consumers } => {
            (name.to_string(), messages_ready, consumers)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_queue_is_declared_once_and_again() {
    let mut world = World::ready();
    assert_eq!(declared(world.ok(declare(queue("q")))), ("q".into(), 0, 0));
    world.fill("q", &["a", "b"]);
    world.consume_with(crate::input::Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    assert_eq!(declared(world.ok(declare(queue("q")))), ("q".into(), 1, 1), "ready only, and consumers");
    let passive = DeclareQueue { passive: true, durable: false, ..queue("q") };
    assert_eq!(declared(world.ok(declare(passive))), ("q".into(), 1, 1), "passive compares nothing");
}

#[test]
fn a_passive_declare_creates_nothing() {
    let mut world = World::ready();
    let op = declare(DeclareQueue { passive: true, ..queue("q") });
    world.refused_with(op, NotFound, "no queue 'q' in vhost '/'");
    let op = declare(DeclareQueue { passive: true, ..queue("") });
    world.refused_with(op, NotFound, "no previously declared queue");
    let op = Op::DeclareExchange(DeclareExchange { passive: true, ..exchange("x", "direct") });
    world.refused_with(op, NotFound, "no exchange 'x' in vhost '/'");
    world.ok(Op::DeclareExchange(exchange("x", "direct")));
    world.ok(Op::DeclareExchange(DeclareExchange { passive: true, ..exchange("x", "fanout") }));
    let op = Op::DeclareExchange(DeclareExchange { passive: true, ..exchange("", "direct") });
    world.refused_with(op, AccessRefused, "operation not permitted on the default exchange");
}

#[test]
fn a_queue_that_differs_is_refused_in_rabbitmq_words() {
    let mut world = World::ready();
    world.declare("q");
    let other = declare(DeclareQueue { durable: false, ..queue("q") });
    let text =
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'";
    let refusal = world.refused(other);
    assert_eq!((refusal.kind, &*refusal.text), (PreconditionFailed, text));
    let details = [("field", "durable"), ("expected", "true"), ("actual", "false")];
    assert_eq!(refusal.details, details.map(|(k, v)| (k, v.to_string())));
    let other = declare(DeclareQueue { auto_delete: true, ..queue("q") });
    let text =
        "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'";
    world.refused_with(other, PreconditionFailed, text);
    let arguments = with_argument("x-message-ttl", Value::I32(5));
    let other = declare(DeclareQueue { arguments, ..queue("q") });
    let text = "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '5' of type \
                'signedint' but current is none";
    world.refused_with(other, PreconditionFailed, text);
    let classic = with_argument("x-queue-type", string("classic"));
    world.ok(declare(DeclareQueue { arguments: classic, ..queue("q") }));
    let unknown = with_argument("x-nobody-knows", Value::Void);
    world.ok(declare(DeclareQueue { arguments: unknown, ..queue("q") }));
}

#[test]
fn an_exchange_that_differs_is_refused_in_rabbitmq_words() {
    let mut world = World::ready();
    world.ok(Op::DeclareExchange(exchange("x", "direct")));
    world.ok(Op::DeclareExchange(exchange("x", "direct")));
    let cases = [
        (exchange("x", "fanout"), "'type'", "'fanout' but current is 'direct'"),
        (
            DeclareExchange { durable: false, ..exchange("x", "direct") },
            "'durable'",
            "'false' but current is 'true'",
        ),
        (
            DeclareExchange { auto_delete: true, ..exchange("x", "direct") },
            "'auto_delete'",
            "'true' but current is 'false'",
        ),
        (
            DeclareExchange { internal: true, ..exchange("x", "direct") },
            "'internal'",
            "'true' but current is 'false'",
        ),
    ];
    for (other, field, values) in cases {
        let text = format!("inequivalent arg {field} for exchange 'x' in vhost '/': received {values}");
        world.refused_with(Op::DeclareExchange(other), PreconditionFailed, &text);
    }
}

#[test]
fn names_are_checked_and_cleaned() {
    let mut world = World::ready();
    let text = "queue name 'amq.q' contains reserved prefix 'amq.*'";
    world.refused_with(declare(queue("amq.q")), AccessRefused, text);
    let text = "exchange name 'amq.x' contains reserved prefix 'amq.*'";
    world.refused_with(Op::DeclareExchange(exchange("amq.x", "direct")), AccessRefused, text);
    world.ok(Op::DeclareExchange(exchange("amq.topic", "topic")));
    let long = "n".repeat(256);
    assert_eq!(world.refused(declare(queue(&long))).kind, InvalidArgument);
    assert_eq!(world.refused(Op::DeclareExchange(exchange(&long, "direct"))).kind, InvalidArgument);
    assert_eq!(world.refused(Op::Bind(binding("amq.topic", "q", &long))).kind, InvalidArgument);
    world.ok(declare(queue(&"n".repeat(255))));
    assert_eq!(declared(world.ok(declare(queue("li\r\nne")))).0, "line");
    world.ok(Op::Bind(binding("amq.\ntopic", "line\n", "k\r")));
    assert_eq!(world.binding_keys(), ["k\r"], "a routing key is no name");
}

#[test]
fn a_queue_without_a_name_gets_one() {
    let mut world = World::ready();
    let (first, ..) = declared(world.ok(declare(queue(""))));
    let (second, ..) = declared(world.ok(declare(exclusive(""))));
    assert!(first.starts_with("amq.gen-") && first.len() == 30, "{first}");
    assert_ne!(first, second);
    let again = DeclareQueue { name: Arc::from(&*first), ..queue("") };
    assert_eq!(declared(world.ok(declare(again))).0, first, "a reserved name that exists may be declared");
    world.ok(delete_queue(&first));
}

#[test]
fn the_default_and_the_system_exchanges_are_protected() {
    let mut world = World::ready();
    world.declare("q");
    let text = "operation not permitted on the default exchange";
    world.refused_with(Op::DeclareExchange(exchange("", "direct")), AccessRefused, text);
    world.refused_with(delete_exchange(""), AccessRefused, text);
    world.refused_with(Op::Bind(binding("", "q", "k")), AccessRefused, text);
    world.refused_with(Op::Unbind(binding("", "q", "q")), AccessRefused, text);
    world.refused_with(Op::Bind(to_exchange("amq.topic", "", "k")), AccessRefused, text);
    let text = "deletion of system exchange 'amq.topic' in vhost '/' not allowed";
    world.refused_with(delete_exchange("amq.topic"), AccessRefused, text);
    assert_eq!(world.exchange_names(), PREDECLARED);
}

#[test]
fn types_and_arguments_that_are_not_there_are_refused_by_name() {
    let mut world = World::ready();
    let text = "unknown exchange type 'x-magic'";
    world.refused_with(Op::DeclareExchange(exchange("x", "x-magic")), PreconditionFailed, text);
    let arguments = with_argument("x-queue-type", string("stream"));
    let refusal = world.refused(declare(DeclareQueue { arguments, ..queue("q") }));
    assert_eq!((refusal.kind, refusal.text.contains("stream")), (NotImplemented, true));
    assert!(world.queue_names().is_empty());
    let arguments = with_argument("x-queue-mode", string("lazy"));
    world.ok(declare(DeclareQueue { arguments: arguments.clone(), ..queue("q") }));
    assert_eq!(world.row("q").arguments, arguments, "kept and ignored");
}

#[test]
fn exclusive_queues_are_locked_to_others() {
    let mut world = World::ready();
    world.open(2, 2);
    assert_eq!(world.ask(None, declare(exclusive("e"))).unwrap_err().kind, SessionRequired);
    assert_eq!(
        world.ask(Some(9), declare(exclusive("e"))).unwrap_err().kind,
        SessionRequired,
        "no such session"
    );
    world.ok(declare(exclusive("e")));
    world.ok(declare(DeclareQueue { durable: false, ..exclusive("e") }));
    let text = "cannot obtain exclusive access to locked queue 'e' in vhost '/'. It could be originally declared on \
                another connection or the exclusive property value does not match that of the original declaration.";
    world.refused_with(declare(queue("e")), ResourceLocked, text);
    let name: Arc<str> = Arc::from("e");
    let bind = binding("amq.direct", "e", "k");
    let ops = || {
        [
            declare(exclusive("e")),
            declare(DeclareQueue { passive: true, ..queue("e") }),
            Op::Consume(consumer(2, "e", "c")),
            Op::Get(super::world::get("e", 1, crate::input::Hold::AutoAck)),
            Op::Bind(bind.clone()),
            Op::Unbind(bind.clone()),
            Op::PurgeQueue { name: name.clone() },
            delete_queue("e"),
        ]
    };
    for conn in [Some(2), None] {
        for op in ops().into_iter().skip(usize::from(conn.is_none())) {
            let said = format!("{op:?}");
            assert_eq!(world.ask(conn, op).map(|_| said).unwrap_err().kind, ResourceLocked);
        }
    }
    let input = world.publish_input(2, to_queue("e", "from another"));
    world.send(input);
    assert_eq!(world.drain("e"), ["from another"]);
    assert_eq!(world.row("e").exclusive_owner, Some(crate::ids::ConnId(1)));
    assert_eq!(world.store.issued, 0, "an exclusive queue is never in the log");
    world.declare("free");
    world.refused_with(declare(exclusive("free")), ResourceLocked, &text.replace("'e'", "'free'"));
}

#[test]
fn a_deleted_queue_takes_all_of_it_along() {
    let mut world = World::ready();
    world.declare("q");
    world.ok(Op::DeclareExchange(exchange("x", "topic")));
    world.ok(Op::Bind(binding("x", "q", "a.#")));
    world.ok(Op::Bind(binding("x", "q", "b")));
    world.fill("q", &["a", "b", "c"]);
    world.consume_with(crate::input::Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    let appended = world.store.issued;
    let input = world.request(Some(1), delete_queue("q"));
    let effects = world.send(input);
    let cancelled = effects
        .iter()
        .any(|e| matches!(e, Effect::ConsumerCancelled { consumer_tag, .. } if &**consumer_tag == "c"));
    assert!(cancelled, "{effects:?}");
    let reply = effects.into_iter().find_map(|e| match e {
        Effect::Reply { result, .. } => Some(removed(result.unwrap())),
        _ => None,
    });
    assert_eq!(reply, Some(2), "ready messages only");
    assert_eq!(world.store.issued, appended + 1, "one append");
    assert_eq!(world.store.facts.len(), 1, "the exchange");
    assert!(world.store.queues.is_empty() && world.binding_keys().is_empty());
    assert_eq!(world.broker.stats().body_bytes, 0);
    let notice = super::world::settled(&world.ack(1, 1), 1);
    assert_eq!(notice, [(1, vec![])], "an ack for what is gone is accepted");
    assert_eq!(removed(world.ok(delete_queue("q"))), 0, "a queue that is not there is fine");
    world.declare("q");
    assert_eq!(world.drain("q"), Vec::<String>::new());
}

#[test]
fn delete_conditions() {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", &["a"]);
    let op = || Op::DeleteQueue { name: Arc::from("q"), if_unused: true, if_empty: true };
    world.refused_with(op(), PreconditionFailed, "queue 'q' in vhost '/' not empty");
    world.consume(1, "q", "c");
    world.refused_with(op(), PreconditionFailed, "queue 'q' in vhost '/' in use");
    world.ok(Op::Cancel { chan: crate::ids::ChanId(1), consumer_tag: Arc::from("c") });
    assert_eq!(removed(world.ok(op())), 0, "what is out does not count");

    world.declare("q");
    world.ok(Op::DeclareExchange(exchange("x", "fanout")));
    world.ok(Op::Bind(binding("x", "q", "")));
    let op = || Op::DeleteExchange { name: Arc::from("x"), if_unused: true };
    world.refused_with(op(), PreconditionFailed, "exchange 'x' in vhost '/' in use");
    world.ok(Op::Unbind(binding("x", "q", "")));
    world.ok(op());
    world.ok(op());
}

#[test]
fn bindings_are_known_by_all_their_fields() {
    let mut world = World::ready();
    world.declare("q");
    world.ok(Op::Bind(binding("amq.direct", "q", "k")));
    let appended = world.store.issued;
    world.ok(Op::Bind(binding("amq.direct", "q", "k")));
    assert_eq!(world.store.issued, appended, "idempotent");
    let other = Binding { arguments: with_argument("a", Value::I32(1)), ..binding("amq.direct", "q", "k") };
    world.ok(Op::Bind(other.clone()));
    assert_eq!(world.binding_keys().len(), 2);
    world.ok(Op::Unbind(binding("amq.direct", "q", "k")));
    world.publish(message("amq.direct", "k", "m"));
    assert_eq!(world.drain("q"), ["m"], "the other one still leads there");
    world.ok(Op::Unbind(other.clone()));
    world.ok(Op::Unbind(other));
    world.publish(message("amq.direct", "k", "m"));
    assert!(world.drain("q").is_empty());
    assert_eq!(world.store.facts.len(), 1);
}

#[test]
fn bindings_need_both_ends() {
    let mut world = World::ready();
    world.refused_with(Op::Bind(binding("x", "q", "")), NotFound, "no exchange 'x' in vhost '/'");
    world.refused_with(Op::Bind(binding("amq.direct", "q", "")), NotFound, "no queue 'q' in vhost '/'");
    world.refused_with(
        Op::Bind(to_exchange("amq.direct", "y", "")),
        NotFound,
        "no exchange 'y' in vhost '/'",
    );
    world.ok(Op::Unbind(binding("x", "q", "")));
    world.ok(Op::Unbind(binding("amq.direct", "q", "")));
}

#[test]
fn a_binding_is_durable_when_both_ends_are() {
    let mut world = World::ready();
    world.declare("d");
    world.ok(declare(DeclareQueue { durable: false, ..queue("t") }));
    world.ok(Op::DeclareExchange(DeclareExchange { durable: false, ..exchange("x", "direct") }));
    let facts = world.store.facts.len();
    world.ok(Op::Bind(binding("amq.direct", "t", "1")));
    world.ok(Op::Bind(binding("x", "d", "2")));
    world.ok(Op::Bind(to_exchange("amq.direct", "x", "3")));
    assert_eq!(world.store.facts.len(), facts);
    world.ok(Op::Bind(binding("amq.direct", "d", "4")));
    world.ok(Op::Bind(to_exchange("amq.direct", "amq.topic", "5")));
    assert_eq!(world.store.facts.len(), facts + 2);
    world.ok(delete_queue("d"));
    assert_eq!(world.store.facts.len(), 1);
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding_and_so_on() {
    let mut world = World::ready();
    let auto = |name| DeclareExchange { auto_delete: true, ..exchange(name, "fanout") };
    world.declare("q");
    world.ok(Op::DeclareExchange(auto("x")));
    world.ok(Op::DeclareExchange(auto("y")));
    world.ok(Op::Unbind(binding("y", "q", "")));
    assert!(world.exchange_names().contains(&"y".to_string()), "it never had a binding");
    world.ok(Op::Bind(to_exchange("x", "y", "")));
    world.ok(Op::Bind(binding("y", "q", "")));
    let appended = world.store.issued;
    world.ok(delete_queue("q"));
    assert_eq!(world.exchange_names(), PREDECLARED);
    assert_eq!(world.store.issued, appended + 1);
    assert!(world.store.facts.is_empty());
}

#[test]
fn a_deleted_exchange_takes_its_bindings_along() {
    let mut world = World::ready();
    world.declare("q");
    world.ok(Op::DeclareExchange(exchange("x", "direct")));
    world.ok(Op::Bind(binding("x", "q", "out")));
    world.ok(Op::Bind(to_exchange("amq.topic", "x", "in")));
    world.ok(Op::Bind(to_exchange("x", "x", "self")));
    assert_eq!(world.broker.stats().bindings, 3);
    world.ok(delete_exchange("x"));
    assert_eq!((world.broker.stats().bindings, world.store.facts.len()), (0, 1));
    world.ok(Op::DeclareExchange(exchange("x", "direct")));
    world.publish(message("amq.topic", "in", "m"));
    world.publish(message("x", "out", "m"));
    assert!(world.drain("q").is_empty());
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let mut world = World::ready();
    let auto = DeclareQueue { auto_delete: true, ..queue("a") };
    world.ok(declare(auto.clone()));
    world.fill("a", &["m"]);
    assert_eq!(world.queue_names(), ["a"], "it never had a consumer");
    world.consume(1, "a", "one");
    world.consume(1, "a", "two");
    world.ok(Op::Cancel { chan: crate::ids::ChanId(1), consumer_tag: Arc::from("one") });
    assert_eq!(world.queue_names(), ["a"]);
    world.ok(Op::Cancel { chan: crate::ids::ChanId(1), consumer_tag: Arc::from("two") });
    assert!(world.queue_names().is_empty() && world.store.facts.is_empty());
    world.ok(declare(auto));
    world.send(super::world::channel_opened(1, 5, 1));
    world.consume(5, "a", "c");
    world.send(Input::ChannelClosed { chan: crate::ids::ChanId(5) });
    assert!(world.queue_names().is_empty(), "a closed channel ends its consumers");
}

#[test]
fn purge_removes_what_is_ready_for_good() {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", &["a", "b", "c"]);
    let out = world.leased("q", 1);
    world.publish(super::world::transient("q", "t"));
    assert_eq!(removed(world.ok(Op::PurgeQueue { name: Arc::from("q") })), 3);
    assert_eq!(world.counts("q"), (0, 1));
    assert_eq!(world.stored("q"), ["a"]);
    world.settle_ids(&[out[0].ack_id], crate::input::Settle::Requeue);
    assert_eq!(world.drain("q"), ["a"]);
    world.refused_with(Op::PurgeQueue { name: Arc::from("x") }, NotFound, "no queue 'x' in vhost '/'");
    assert_eq!(removed(world.ok(Op::PurgeQueue { name: Arc::from("q") })), 0);
}

#[test]
fn other_vhosts_do_not_exist() {
    let mut world = World::ready();
    let input = Input::Request {
        req: crate::ids::ReqId(77),
        conn: None,
        chan: None,
        user: None,
        vhost: Arc::from("other"),
        op: declare(queue("q")),
    };
    let effects = world.send(input);
    let refusal = super::world::replies(effects, 77).expect("an answer").unwrap_err();
    assert_eq!((refusal.kind, &*refusal.text), (NotFound, "vhost 'other' not found"));
}

#[test]
fn declares_wait_until_they_are_durable_and_so_do_those_that_only_look() {
    let mut world = World::ready();
    world.prompt = false;
    assert!(world.try_ask(Some(1), declare(queue("q"))).is_none());
    assert!(world.try_ask(Some(1), declare(queue("q"))).is_none(), "the same again waits too");
    assert!(world.try_ask(None, declare(DeclareQueue { passive: true, ..queue("q") })).is_none());
    assert!(world.try_ask(Some(1), Op::Bind(binding("amq.direct", "q", ""))).is_none());
    assert!(
        world.try_ask(None, declare(DeclareQueue { durable: false, ..queue("t") })).is_none(),
        "in order"
    );
    let answered = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Reply { .. })).count();
    let effects = world.send(Input::Confirmable { ticket: crate::ids::Ticket(1) });
    assert_eq!(answered(&effects), 3);
    assert_eq!(answered(&world.confirm()), 2);
    assert!(world.try_ask(None, declare(DeclareQueue { durable: false, ..queue("u") })).is_some());
    assert!(world.try_ask(Some(1), delete_queue("q")).is_none());
    assert!(world.try_ask(Some(1), delete_queue("q")).is_none(), "gone, but not yet for good");
    assert_eq!(answered(&world.confirm()), 2);
}
