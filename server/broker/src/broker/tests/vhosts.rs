//! Several virtual hosts: each with names of its own, and their end.

use super::world::{World, binding, confirms, consumer, exchange, get, queue, to_queue};
use crate::effect::{Effect, Outcome, Reply};
use crate::ids::ChanId;
use crate::input::{Binding, DeclareExchange, DeclareQueue, DestinationKind, Hold, Input, Op, Publish};
use crate::refusal::Refusal;
use crate::refusal::RefusalKind::{InvalidArgument, NotFound, PreconditionFailed};
use crate::value::{Table, Value};
use crate::{AddVhost, Settings, VhostRow};

/// A world with connection 1, channel 1 and a virtual host "v" beside the default one.
fn two() -> World {
    let mut world = World::ready();
    world.ok(add("v"));
    world
}

fn add(name: &str) -> Op {
    Op::AddVhost(AddVhost { name: name.into(), description: "".into(), tags: Vec::new() })
}

fn names(world: &mut World) -> Vec<String> {
    let Reply::Vhosts(rows) = world.ok(Op::ListVhosts) else { unreachable!() };
    rows.iter().map(|row| row.name.to_string()).collect()
}

fn publish_in(world: &mut World, vhost: &str, publish: Publish) -> Outcome {
    let mut input = world.publish_input(1, publish);
    let Input::Publish { vhost: to, tag, .. } = &mut input else { unreachable!() };
    *to = vhost.into();
    let tag = *tag;
    let effects = world.send(input);
    let told = confirms(&effects, 1);
    assert_eq!(told.last().map(|(upto, _)| *upto), Some(tag));
    let mut others = told.into_iter().flat_map(|(_, others)| others);
    others.next_back().map_or(Outcome::Routed { queues: 1 }, |(_, outcome)| outcome)
}

fn bodies_in(world: &mut World, vhost: &str, queue: &str) -> Vec<String> {
    let Ok(Reply::Got(got)) = world.ask_in(vhost, Op::Get(get(queue, 100, Hold::AutoAck))) else {
        unreachable!()
    };
    got.messages.iter().map(|got| super::world::text(&got.message.body)).collect()
}

#[test]
fn vhosts_are_added_and_listed_and_last() {
    let mut world = World::ready();
    assert_eq!(names(&mut world), ["/"]);
    let v = AddVhost { name: "v".into(), description: "for v".into(), tags: vec!["a".into()] };
    world.ok(Op::AddVhost(v.clone()));
    world.ok(Op::AddVhost(AddVhost { description: "another".into(), ..v.clone() }));
    let mut world = world.crash();
    world.open(1, 1);
    let Reply::Vhosts(rows) = world.ok(Op::ListVhosts) else { unreachable!() };
    let AddVhost { name, description, tags } = v;
    assert_eq!(rows[1], VhostRow { name, description, tags }, "what was said first holds");
    world.refused_with(add(""), InvalidArgument, "the name of a vhost must not be empty");
    world.refused_with(add("a\nb"), InvalidArgument, "the vhost name 'a\\nb' contains control characters");
    assert_eq!(world.refused(add(&"v".repeat(256))).kind, InvalidArgument);
    world.refused_with(Op::DeleteVhost { name: "w".into() }, NotFound, "vhost 'w' not found");
    let text = "vhost '/' cannot be deleted before the store was given its defaults";
    world.refused_with(Op::DeleteVhost { name: "/".into() }, PreconditionFailed, text);
    assert_eq!(names(&mut world), ["/", "v"]);
}

#[test]
fn the_same_name_is_another_thing_in_another_vhost() {
    let mut world = two();
    world.declare("q");
    assert_eq!(world.ask_in("v", Op::ListQueues { name: None }).map(queue_count), Ok(0));
    let refusal = refused_in(&mut world, "v", Op::PurgeQueue { name: "q".into() });
    assert_eq!((refusal.kind, &*refusal.text), (NotFound, "no queue 'q' in vhost 'v'"));
    world.ask_in("v", Op::DeclareQueue(DeclareQueue { durable: false, ..queue("q") })).unwrap();
    world.ask_in("v", Op::DeclareExchange(exchange("x", "fanout"))).unwrap();
    assert_eq!(world.exchange_names().len(), 7, "x is not in the default one");
    let stray = binding("x", "q", "");
    let refusal = world.refused(Op::Bind(stray.clone()));
    assert_eq!((refusal.kind, &*refusal.text), (NotFound, "no exchange 'x' in vhost '/'"));
    world.ask_in("v", Op::Bind(stray)).unwrap();

    assert_eq!(publish_in(&mut world, "/", to_queue("q", "one")), Outcome::Routed { queues: 1 });
    assert_eq!(publish_in(&mut world, "v", to_queue("q", "two")), Outcome::Routed { queues: 1 });
    let to_x = Publish { exchange: "x".into(), ..to_queue("any", "three") };
    assert_eq!(publish_in(&mut world, "v", to_x.clone()), Outcome::Routed { queues: 1 });
    assert_eq!(publish_in(&mut world, "/", to_x), Outcome::Rejected(NotFound));
    assert_eq!(publish_in(&mut world, "w", to_queue("q", "nowhere")), Outcome::Rejected(NotFound));
    assert_eq!(bodies_in(&mut world, "/", "q"), ["one"]);
    assert_eq!(bodies_in(&mut world, "v", "q"), ["two", "three"]);
}

#[test]
fn what_is_in_a_vhost_is_there_after_a_crash() {
    let mut world = two();
    world.declare("q");
    world.ask_in("v", Op::DeclareQueue(queue("q"))).unwrap();
    world.ask_in("v", Op::DeclareExchange(exchange("x", "topic"))).unwrap();
    world.ask_in("v", Op::Bind(binding("x", "q", "a.#"))).unwrap();
    publish_in(&mut world, "v", Publish { exchange: "x".into(), ..to_queue("a.b", "kept") });
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(world.drain("q"), [""; 0]);
    assert_eq!(bodies_in(&mut world, "v", "q"), ["kept"]);
    publish_in(&mut world, "v", Publish { exchange: "x".into(), ..to_queue("a", "routed") });
    assert_eq!(bodies_in(&mut world, "v", "q"), ["routed"]);
}

#[test]
fn dead_letters_stay_in_their_vhost() {
    let mut world = two();
    world.declare("morgue");
    world.ask_in("v", Op::DeclareQueue(queue("morgue"))).unwrap();
    let string = |text: &'static str| Value::Bytes(text.into());
    let arguments = Table(vec![
        ("x-dead-letter-exchange".into(), string("")),
        ("x-dead-letter-routing-key".into(), string("morgue")),
        ("x-max-length".into(), Value::I32(0)),
    ]);
    world.ask_in("v", Op::DeclareQueue(DeclareQueue { arguments, ..queue("q") })).unwrap();
    publish_in(&mut world, "v", to_queue("q", "dead"));
    assert_eq!(bodies_in(&mut world, "v", "morgue"), ["dead"]);
    assert_eq!(world.drain("morgue"), [""; 0]);
}

#[test]
fn a_deleted_vhost_takes_everything_with_it() {
    let mut world = two();
    world.declare("stays");
    for name in ["a", "b"] {
        world.ask_in("v", Op::DeclareQueue(queue(name))).unwrap();
    }
    world.ask_in("v", Op::DeclareExchange(exchange("x", "fanout"))).unwrap();
    world
        .ask_in("v", Op::DeclareExchange(DeclareExchange { auto_delete: true, ..exchange("y", "fanout") }))
        .unwrap();
    let to_exchange = |source: &str, to: &str| {
        let destination_kind = DestinationKind::Exchange;
        Op::Bind(Binding { destination_kind, ..binding(source, to, "k") })
    };
    for op in [to_exchange("x", "y"), to_exchange("amq.topic", "amq.fanout"), to_exchange("amq.direct", "x")]
    {
        world.ask_in("v", op).unwrap();
    }
    world.ask_in("v", Op::Bind(binding("x", "a", ""))).unwrap();
    publish_in(&mut world, "v", to_queue("a", "gone"));
    let mut effects = world.ask_effects_in("v", Op::Consume(consumer(1, "b", "t")));
    effects.extend(world.ask_effects_in("/", Op::DeleteVhost { name: "v".into() }));
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::ConsumerCancelled { chan: ChanId(1), consumer_tag } if **consumer_tag == *"t"
    )));
    assert_eq!(names(&mut world), ["/"]);
    assert_eq!(publish_in(&mut world, "v", to_queue("a", "late")), Outcome::Rejected(NotFound));
    let refusal = refused_in(&mut world, "v", Op::ListExchanges);
    assert_eq!((refusal.kind, &*refusal.text), (NotFound, "vhost 'v' not found"));
    assert_eq!((world.store.queues.len(), world.store.facts.len()), (1, 1), "only 'stays' stays");

    // One of the same name is a new one, also to a channel that knew the old one.
    world.ok(add("v"));
    world.ask_in("v", Op::DeclareQueue(queue("a"))).unwrap();
    assert_eq!(publish_in(&mut world, "v", to_queue("a", "new")), Outcome::Routed { queues: 1 });
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(bodies_in(&mut world, "v", "a"), ["new"]);
}

#[test]
fn a_large_vhost_is_deleted_in_appends_that_fit_and_a_crash_between_them_is_sound() {
    let settings = Settings { append_bytes_max: 8_192, ..super::world::SETTINGS };
    let large = || {
        let mut world = World::with(settings.clone());
        world.open(1, 1);
        world.ok(add("v"));
        for number in 0..100 {
            let name = format!("q{number}");
            world.ask_in("v", Op::DeclareQueue(queue(&name))).unwrap();
            world.ask_in("v", Op::Bind(binding("amq.topic", &name, &name))).unwrap();
        }
        world
    };
    let mut world = large();
    let before = world.store.issued;
    world.ok(Op::DeleteVhost { name: "v".into() });
    let appends = world.store.issued - before;
    assert!((2..20).contains(&appends), "{appends} appends of at most 8 KiB");
    assert!(world.store.facts.is_empty() && world.store.queues.is_empty());

    for survive in 0..appends as usize {
        let mut world = large();
        let mut store = world.store.clone();
        let effects = world.ask_effects_in("/", Op::DeleteVhost { name: "v".into() });
        let batches = effects.iter().filter_map(|effect| match effect {
            Effect::Append { ticket, batch, .. } => Some((ticket, batch)),
            _ => None,
        });
        batches.take(survive).for_each(|(ticket, batch)| store.apply(*ticket, batch));
        let mut world = World::crashed(store, settings.clone());
        world.open(1, 1);
        assert_eq!(names(&mut world), ["/", "v"], "what is not done is not told");
        world.ok(Op::DeleteVhost { name: "v".into() });
        assert!(world.store.facts.is_empty() && world.store.queues.is_empty());
    }
}

fn queue_count(reply: Reply) -> usize {
    let Reply::Queues(rows) = reply else { unreachable!() };
    rows.len()
}

#[track_caller]
fn refused_in(world: &mut World, vhost: &str, op: Op) -> Refusal {
    world.ask_in(vhost, op).expect_err("it is refused")
}
