//! Where messages go that a queue gives up: SEMANTICS 6, P5.

use std::sync::Arc;

use bytes::Bytes;

use super::world::{
    SETTINGS, World, arguments_of, binding, consumer, exchange, expiring, message, numbers_from, queue,
    string, text, to_queue, transient, warnings, with_properties,
};
use crate::Settings;
use crate::effect::{Batch, Effect};
use crate::ids::ChanId;
use crate::input::{Consume, DeclareExchange, DeclareQueue, Hold, Op, Settle};
use crate::message::Message;
use crate::properties::Properties;
use crate::value::{Table, Value};

/// A queue q whose dead letters go to the queue dead.
fn with(arguments: &[(&str, Value)]) -> World {
    with_budget(SETTINGS.memory_budget_bytes, arguments)
}

fn with_budget(memory_budget_bytes: u64, arguments: &[(&str, Value)]) -> World {
    let mut world = World::with(Settings { memory_budget_bytes, ..SETTINGS });
    world.open(1, 1);
    world.declare("dead");
    world.declare_with("q", &[&to("dead")[..], arguments].concat());
    world
}

fn to(queue: &str) -> [(&'static str, Value); 2] {
    [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string(queue))]
}

fn ttl(ms: i32) -> (&'static str, Value) {
    ("x-message-ttl", Value::I32(ms))
}

fn reject(world: &mut World, queue: &str) -> Vec<Effect> {
    let held = world.leased(queue, 1);
    let op = Op::SettleIds { ids: vec![held[0].ack_id], how: Settle::Drop };
    let input = world.request(Some(1), op);
    world.send(input)
}

/// The next message of a queue, which stays there.
#[track_caller]
fn next(world: &mut World, queue: &str) -> Arc<Message> {
    let held = world.leased(queue, 1);
    let message = held.first().expect("a message is there").message.clone();
    world.settle_ids(&[held[0].ack_id], Settle::Requeue);
    message
}

fn properties(message: &Message) -> Properties {
    Properties::decode(&message.properties).expect("they are sound")
}

fn headers(message: &Message) -> Table {
    properties(message).headers.expect("there are headers")
}

/// (queue, reason, count) of each entry of x-death.
fn deaths(message: &Message) -> Vec<(String, String, i64)> {
    let headers = headers(message);
    let Some(Value::Array(deaths)) = headers.get("x-death") else { panic!("{headers:?}") };
    let entry = |death: &Value| match death {
        Value::Table(death) => match (death.get("queue"), death.get("reason"), death.get("count")) {
            (Some(Value::Bytes(queue)), Some(Value::Bytes(reason)), Some(Value::I64(count))) => {
                (text(queue), text(reason), *count)
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    deaths.iter().map(entry).collect()
}

fn entry(queue: &str, reason: &str, count: i64) -> (String, String, i64) {
    (queue.to_string(), reason.to_string(), count)
}

fn appends(effects: &[Effect]) -> Vec<&Batch> {
    let batches = effects.iter().filter_map(|effect| match effect {
        Effect::Append { batch, .. } => Some(batch),
        _ => None,
    });
    batches.collect()
}

#[test]
fn a_rejected_message_moves_in_one_append() {
    let mut world = with(&[]);
    world.fill("q", &["a"]);
    let effects = reject(&mut world, "q");
    let [batch] = &appends(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((batch.puts.len(), batch.acks.len()), (1, 1));
    assert_eq!((world.stored("q").len(), world.stored("dead")), (0, vec!["a".to_string()]));
    let letter = next(&mut world, "dead");
    assert_eq!((&*letter.exchange, &*letter.routing_key), ("", "dead"));
    assert_eq!(deaths(&letter), [entry("q", "rejected", 1)]);
    assert_eq!(world.broker.stats().dead_lettered, 1);
    assert_eq!(properties(&letter).delivery_mode, Some(2));
}

#[test]
fn a_requeued_or_acked_message_does_not_move() {
    let mut world = with(&[]);
    world.fill("q", &["a", "b"]);
    let held = world.leased("q", 2);
    world.settle_ids(&[held[0].ack_id], Settle::Ack);
    world.settle_ids(&[held[1].ack_id], Settle::Requeue);
    assert_eq!((world.counts("q"), world.counts("dead")), ((1, 0), (0, 0)));
}

#[test]
fn each_reason_is_told() {
    let mut world = with(&[ttl(100)]);
    world.fill("q", &["a"]);
    world.tick(100);
    assert_eq!(deaths(&next(&mut world, "dead")), [entry("q", "expired", 1)]);
    let mut world = with(&[("x-max-length", Value::I32(1))]);
    world.fill("q", &["a", "b"]);
    assert_eq!(deaths(&next(&mut world, "dead")), [entry("q", "maxlen", 1)]);
    assert_eq!(world.stored("q"), ["b"]);
    let arguments = [("x-queue-type", string("quorum")), ("x-delivery-limit", Value::I32(0))];
    let mut world = with(&arguments);
    world.fill("q", &["a"]);
    let held = world.leased("q", 1);
    world.settle_ids(&[held[0].ack_id], Settle::Requeue);
    assert_eq!(deaths(&next(&mut world, "dead")), [entry("q", "delivery_limit", 1)]);
}

#[test]
fn what_the_letter_says() {
    let mut world = World::ready();
    world.ok(Op::DeclareExchange(exchange("dlx", "fanout")));
    world.declare("dead");
    world.ok(Op::Bind(binding("dlx", "dead", "")));
    world.declare_with("q", &[("x-dead-letter-exchange", string("dlx"))]);
    let cc = Value::Array(vec![string("copy")]);
    let headers = Table(vec![("mine".into(), Value::I32(1)), ("CC".into(), cc)]);
    let given = Properties {
        headers: Some(headers),
        expiration: Some("60".into()),
        message_id: Some("id".into()),
        delivery_mode: Some(2),
        ..Properties::default()
    };
    world.now_ms = 5_000;
    world.tick(0);
    world.publish(with_properties("q", "a", &given));
    world.tick(2_500);
    let letter = next(&mut world, "dead");
    assert_eq!((&*letter.exchange, &*letter.routing_key), ("dlx", "q"));
    assert_eq!((letter.received_ms, letter.expiration_ms, letter.dead_lettered), (7_500, None, true));
    let keys = Value::Array(vec![string("q"), string("copy")]);
    let death = Table(vec![
        ("count".into(), Value::I64(1)),
        ("reason".into(), string("expired")),
        ("queue".into(), string("q")),
        ("time".into(), Value::Timestamp(7)),
        ("exchange".into(), string("")),
        ("routing-keys".into(), keys),
        ("original-expiration".into(), string("60")),
    ]);
    let told = properties(&letter);
    assert_eq!((told.expiration.as_deref(), told.message_id.as_deref()), (None, Some("id")));
    let told = told.headers.expect("headers");
    assert_eq!(told.get("x-death"), Some(&Value::Array(vec![Value::Table(death)])));
    assert_eq!(told.get("mine"), Some(&Value::I32(1)));
    for about in ["x-first-death", "x-last-death"] {
        let about = |what: &str| told.get(&format!("{about}-{what}"));
        assert_eq!(about("queue"), Some(&string("q")));
        assert_eq!(about("reason"), Some(&string("expired")));
        assert_eq!(about("exchange"), Some(&string("")));
    }
}

#[test]
fn without_a_key_of_the_queue_a_letter_keeps_its_own_and_its_copies() {
    let mut world = World::ready();
    for name in ["one", "two", "three"] {
        world.declare(name);
        world.ok(Op::Bind(binding("amq.direct", name, name)));
    }
    world.declare_with("own", &[("x-dead-letter-exchange", string("amq.direct"))]);
    world.declare_with(
        "set",
        &[("x-dead-letter-exchange", string("amq.direct")), ("x-dead-letter-routing-key", string("three"))],
    );
    for name in ["own", "set"] {
        world.ok(Op::Bind(binding("amq.fanout", name, "")));
    }
    let headers = Table(vec![("CC".into(), Value::Array(vec![string("two"), Value::I32(1)]))]);
    let given = Properties { headers: Some(headers), ..Properties::default() };
    let publish = with_properties("", "a", &given);
    let publish = crate::Publish { exchange: "amq.fanout".into(), routing_key: "one".into(), ..publish };
    world.publish(publish);
    reject(&mut world, "own");
    assert_eq!(["one", "two", "three"].map(|name| world.stored(name).len()), [1, 1, 0]);
    assert!(headers_has(&next(&mut world, "one"), "CC"));
    reject(&mut world, "set");
    assert_eq!(["one", "two", "three"].map(|name| world.stored(name).len()), [1, 1, 1]);
    assert!(!headers_has(&next(&mut world, "three"), "CC"), "it was routed by another key");
}

fn headers_has(message: &Message, name: &str) -> bool {
    headers(message).get(name).is_some()
}

#[test]
fn deaths_add_up() {
    let mut world = World::ready();
    world.declare_with("q", &to("wait"));
    world.declare_with("wait", &[&to("q")[..], &[ttl(10)]].concat());
    world.fill("q", &["a"]);
    for round in 1..4 {
        reject(&mut world, "q");
        world.tick(10);
        let message = next(&mut world, "q");
        assert_eq!(deaths(&message), [entry("wait", "expired", round), entry("q", "rejected", round)]);
        let headers = headers(&message);
        assert_eq!(headers.get("x-first-death-queue"), Some(&string("q")));
        assert_eq!(headers.get("x-last-death-queue"), Some(&string("wait")));
        assert_eq!(headers.get("x-last-death-reason"), Some(&string("expired")));
    }
}

#[test]
fn what_a_client_says_of_deaths_is_not_believed() {
    let mut world = with(&[]);
    let lie = Table(vec![("queue".into(), string("q")), ("reason".into(), string("rejected"))]);
    let headers = Table(vec![
        ("x-death".into(), Value::Array(vec![Value::Table(lie)])),
        ("x-first-death-queue".into(), string("lie")),
        ("x-last-death-reason".into(), string("lie")),
        ("x-first-death".into(), string("kept")),
    ]);
    let given = Properties { headers: Some(headers), ..Properties::default() };
    world.publish(with_properties("q", "a", &given));
    reject(&mut world, "q");
    let letter = next(&mut world, "dead");
    assert_eq!(deaths(&letter), [entry("q", "rejected", 1)]);
    let told = super::dead_letter::headers(&letter);
    assert_eq!(told.get("x-first-death-queue"), Some(&string("q")));
    assert_eq!(told.get("x-first-death"), Some(&string("kept")));
}

#[test]
fn letters_do_not_go_in_a_circle_by_themselves() {
    let mut world = World::ready();
    world.declare_with("a", &[&to("b")[..], &[ttl(10)]].concat());
    world.declare_with("b", &[&to("a")[..], &[ttl(10)]].concat());
    world.fill("a", &["x", "y"]);
    let first = world.tick(10);
    assert!(warnings(&first).is_empty());
    assert_eq!((world.counts("a"), world.counts("b")), ((0, 0), (2, 0)));
    let second = world.tick(10);
    assert_eq!((world.counts("a"), world.counts("b")), ((0, 0), (0, 0)));
    let text = "dead letters of queue 'b' would come back to a queue that they died in before; such letters are dropped";
    assert_eq!(warnings(&second), [text], "told once");
    assert!(world.stored("a").is_empty() && world.stored("b").is_empty());

    let mut world = World::ready();
    world.declare_with("self", &[&to("self")[..], &[ttl(0)]].concat());
    world.fill("self", &["x"]);
    assert_eq!(world.counts("self"), (0, 0));
}

#[test]
fn a_reject_is_never_a_circle() {
    let mut world = World::ready();
    world.declare_with("q", &to("q"));
    world.fill("q", &["a"]);
    for round in 1..5 {
        reject(&mut world, "q");
        assert_eq!(deaths(&next(&mut world, "q")), [entry("q", "rejected", round)]);
    }
    assert_eq!(world.stored("q").len(), 1);
}

#[test]
fn an_exchange_that_is_not_there_leads_nowhere() {
    let mut world = World::ready();
    world.declare_with("q", &[("x-dead-letter-exchange", string("nothing"))]);
    world.fill("q", &["a"]);
    reject(&mut world, "q");
    assert_eq!((world.counts("q"), world.stored("q").len()), ((0, 0), 0));
    let internal = DeclareExchange { internal: true, ..exchange("nothing", "fanout") };
    world.ok(Op::DeclareExchange(internal));
    world.declare("dead");
    world.ok(Op::Bind(binding("nothing", "dead", "")));
    world.fill("q", &["b"]);
    reject(&mut world, "q");
    assert_eq!(world.stored("dead"), ["b"], "an internal one is for just that");
    assert!(world.refused_publish(message("nothing", "", "c")), "also afterwards");
}

#[test]
fn transient_sources_and_targets() {
    let mut world = World::ready();
    world.declare("dead");
    world.ok(Op::DeclareQueue(DeclareQueue { durable: false, ..queue("light") }));
    for name in ["dead", "light"] {
        world.ok(Op::Bind(binding("amq.fanout", name, "")));
    }
    world.declare_with("q", &[("x-dead-letter-exchange", string("amq.fanout"))]);
    world.publish(transient("q", "t"));
    reject(&mut world, "q");
    world.fill("q", &["p"]);
    let effects = reject(&mut world, "q");
    let [batch] = &appends(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((batch.puts[0].targets.len(), batch.acks.len()), (1, 1));
    assert_eq!((world.counts("dead"), world.counts("light")), ((2, 0), (2, 0)));
    assert_eq!(world.stored("dead"), ["p"]);
    let arguments = arguments_of(&to("dead"));
    world.ok(Op::DeclareQueue(DeclareQueue { durable: false, arguments, ..queue("t") }));
    world.fill("t", &["from light"]);
    reject(&mut world, "t");
    assert_eq!(world.stored("dead"), ["p", "from light"]);
}

#[test]
fn a_cold_head_is_read_before_it_is_dropped() {
    let mut world = with_budget(0, &[("x-max-length", Value::I32(10))]);
    for body in numbers_from(0, 50) {
        world.publish(to_queue("q", &body));
    }
    assert_eq!((world.counts("q"), world.counts("dead")), ((10, 0), (40, 0)));
    assert_eq!((world.drain("dead"), world.drain("q")), (numbers_from(0, 40), numbers_from(40, 50)));
}

#[test]
fn a_rejected_message_that_is_not_in_memory_is_read_before_it_moves() {
    let mut world = with_budget(0, &[]);
    world.fill("q", &["a", "b"]);
    let delivered = world.consume_with(Consume { prefetch_messages: 2, ..consumer(1, "q", "c") });
    assert_eq!(delivered.len(), 2);
    world.prompt = false;
    world.settle(1, 1, false, Settle::Drop);
    assert_eq!((world.stored("q").len(), world.stored("dead").len()), (2, 0));
    world.prompt = true;
    world.answer();
    assert_eq!((world.stored("q"), world.stored("dead")), (vec!["b".into()], vec!["a".into()]));
    assert_eq!(world.broker.stats().body_bytes, 0);
}

#[test]
fn an_answer_waits_until_the_message_has_moved() {
    let mut world = with_budget(0, &[]);
    world.fill("q", &["a", "b"]);
    let ids: Vec<_> = (0..2).flat_map(|_| world.leased("q", 1)).map(|m| m.ack_id).collect();
    world.prompt = false;
    assert!(world.try_ask(None, Op::SettleIds { ids: vec![ids[0]], how: Settle::Drop }).is_none());
    assert!(world.try_ask(None, Op::SettleIds { ids: vec![ids[1]], how: Settle::Ack }).is_none());
    let answered = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Reply { .. })).count();
    assert_eq!(answered(&world.confirm()), 0, "a crash now would bring it back");
    assert_eq!(answered(&world.answer()), 0);
    assert_eq!(world.stored("dead"), ["a"]);
    assert_eq!(answered(&world.confirm()), 2);
    // A queue that ends does not let anybody wait for ever.
    world.prompt = true;
    world.fill("q", &["c"]);
    let held = world.leased("q", 1);
    world.prompt = false;
    assert!(world.try_ask(None, Op::SettleIds { ids: vec![held[0].ack_id], how: Settle::Drop }).is_none());
    let delete = Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false };
    let delete = world.request(Some(1), delete);
    let effects = world.send(delete);
    assert_eq!(answered(&effects) + answered(&world.confirm()), 2);
}

#[test]
fn what_a_queue_gave_up_before_its_end_still_moves() {
    let mut world = with(&[]);
    let arguments = arguments_of(&to("dead"));
    world.ok(Op::DeclareQueue(DeclareQueue { auto_delete: true, arguments, ..queue("brief") }));
    world.fill("brief", &["a", "b"]);
    world.consume(1, "brief", "c");
    let inputs = vec![
        super::world::settlement(1, 1, false, Settle::Drop),
        crate::Input::ChannelClosed { chan: ChanId(1) },
    ];
    world.turn(inputs);
    assert_eq!(world.queue_names(), ["dead", "q"]);
    assert_eq!(world.stored("dead"), ["a"]);
}

#[test]
fn letters_have_priorities_and_times_in_their_new_queue() {
    let mut world = World::ready();
    world.declare_with("dead", &[("x-max-priority", Value::I32(9)), ttl(100)]);
    world.declare_with("q", &to("dead"));
    for (body, priority) in [("low", 1), ("high", 7)] {
        let given = Properties { priority: Some(priority), ..Properties::default() };
        world.publish(with_properties("q", body, &given));
    }
    world.tick(90);
    reject(&mut world, "q");
    reject(&mut world, "q");
    assert_eq!(world.stored("dead"), ["high", "low"]);
    world.tick(90);
    assert_eq!(world.counts("dead"), (2, 0), "their time begins anew");
    world.tick(10);
    assert_eq!(world.counts("dead"), (0, 0));
}

#[test]
fn a_letter_to_a_full_queue() {
    let mut world = World::ready();
    world.declare("last");
    let rejecting = |how: &str| [("x-max-length", Value::I32(1)), ("x-overflow", string(how))];
    world.declare_with("full", &[&to("last")[..], &rejecting("reject-publish-dlx")].concat());
    world.declare_with("q", &to("full"));
    world.fill("q", &["a", "b"]);
    reject(&mut world, "q");
    reject(&mut world, "q");
    assert_eq!((world.stored("full"), world.stored("last")), (vec!["a".into()], vec!["b".into()]));
    assert_eq!(deaths(&next(&mut world, "last")), [entry("full", "maxlen", 1), entry("q", "rejected", 1)]);
}

#[test]
fn properties_that_cannot_be_read_are_replaced() {
    let mut world = with(&[]);
    let broken = Bytes::from_static(&[0xff, 0xff, 1]);
    world.publish(crate::Publish { properties: broken, ..to_queue("q", "a") });
    reject(&mut world, "q");
    let letter = next(&mut world, "dead");
    assert_eq!(deaths(&letter), [entry("q", "rejected", 1)]);
    assert_eq!(properties(&letter).delivery_mode, Some(2));
}

#[test]
fn many_letters_of_a_turn_are_one_append() {
    let mut world = with(&[ttl(10)]);
    for n in 0..20 {
        world.publish(expiring("q", &n.to_string(), 10));
    }
    let effects = world.tick(10);
    let [batch] = &appends(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((batch.puts.len(), batch.acks.len()), (20, 20));
    assert_eq!(world.got("dead", 100, Hold::AutoAck).messages.len(), 20);
}
