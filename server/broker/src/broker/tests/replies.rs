//! Direct reply-to: SEMANTICS 4.

use std::sync::Arc;

use super::world::{World, binding, bodies, consumer, deliveries, get, queue, to_queue};
use crate::effect::{Effect, Reply};
use crate::ids::ChanId;
use crate::input::{Consume, DeclareQueue, Hold, Input, Op, Publish};
use crate::refusal::RefusalKind::{AccessRefused, NotFound, PreconditionFailed};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn replies(chan: u64, tag: &str) -> Consume {
    Consume { auto_ack: true, ..consumer(chan, REPLY_TO, tag) }
}

/// Starts a reply consumer and says where answers go.
fn ask_for_replies(world: &mut World, chan: u64) -> Arc<str> {
    match world.ok(Op::Consume(replies(chan, ""))) {
        Reply::Consuming { reply_to: Some(reply_to), consumer_tag } => {
            assert!(consumer_tag.starts_with("amq.ctag-"));
            reply_to
        }
        other => panic!("{other:?}"),
    }
}

fn passive(name: &str) -> Op {
    Op::DeclareQueue(DeclareQueue { passive: true, ..queue(name) })
}

#[test]
fn an_answer_reaches_whoever_asked() {
    let mut world = World::ready();
    world.open(2, 2);
    let reply_to = ask_for_replies(&mut world, 1);
    assert!(reply_to.starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
    let other = ask_for_replies(&mut world, 2);
    assert_ne!(reply_to, other);
    let answer = world.publish_input(2, to_queue(&reply_to, "42"));
    let mut effects = world.send(answer);
    let delivered = deliveries(&mut effects);
    assert_eq!((bodies(&delivered), delivered[0].chan), (vec!["42".to_string()], ChanId(1)));
    assert_eq!(&*delivered[0].message.routing_key, &*reply_to);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Append { .. })), "an answer is never in the log");
    assert_eq!(world.broker.stats().body_bytes, 0);
}

#[test]
fn a_reply_consumer_cannot_acknowledge_and_is_alone_on_its_channel() {
    let mut world = World::ready();
    let text = "reply consumer cannot acknowledge";
    world.refused_with(Op::Consume(consumer(1, REPLY_TO, "c")), PreconditionFailed, text);
    world.ok(Op::Consume(replies(1, "c")));
    world.refused_with(Op::Consume(replies(1, "d")), PreconditionFailed, "reply consumer already set");
    world.ok(Op::Cancel { chan: ChanId(1), consumer_tag: "c".into() });
    world.ok(Op::Consume(replies(1, "d")));
    assert_eq!(world.broker.queues.len(), 1);
}

#[test]
fn nobody_sees_or_touches_the_queue_behind_it() {
    let mut world = World::ready();
    world.open(2, 2);
    let name = ask_for_replies(&mut world, 1);
    assert!(world.queue_names().is_empty());
    match (world.ok(Op::ListConsumers), world.ok(Op::ListBindings)) {
        (Reply::Consumers(consumers), Reply::Bindings(bindings)) => {
            assert!(consumers.is_empty() && bindings.is_empty());
        }
        other => panic!("{other:?}"),
    }
    let stats = world.broker.stats();
    assert_eq!((stats.queues, stats.consumers), (0, 0));
    let text = format!("no queue '{name}' in vhost '/'");
    for op in [
        Op::ListQueues { name: Some(name.clone()) },
        Op::PurgeQueue { name: name.clone() },
        Op::Get(get(&name, 1, Hold::AutoAck)),
        Op::Consume(consumer(1, &name, "c")),
    ] {
        world.refused_with(op, NotFound, &text);
    }
    world.ok(Op::DeleteQueue { name: name.clone(), if_unused: false, if_empty: false });
    for name in [&*name, REPLY_TO] {
        let text = format!("queue '{name}' takes replies and cannot be bound");
        world.refused_with(Op::Bind(binding("amq.direct", name, "k")), AccessRefused, &text);
        world.refused_with(Op::Unbind(binding("amq.direct", name, "k")), AccessRefused, &text);
    }
    assert_eq!(bodies(&deliveries(&mut world.publish(to_queue(&name, "still there")))), ["still there"]);
}

#[test]
fn a_declare_asks_whether_somebody_is_there() {
    let mut world = World::ready();
    world.open(2, 2);
    let name = ask_for_replies(&mut world, 1);
    for op in [passive(&name), Op::DeclareQueue(queue(&name)), passive(REPLY_TO)] {
        match world.ask(Some(2), op).expect("also from another connection") {
            Reply::QueueDeclared { messages_ready: 0, consumers: 1, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    world.send(Input::ChannelClosed { chan: ChanId(1) });
    let text = format!("no queue '{name}' in vhost '/'");
    world.refused_with(passive(&name), NotFound, &text);
    world.refused_with(Op::DeclareQueue(queue(&name)), NotFound, &text);
    world.refused_with(
        passive("amq.rabbitmq.reply-to.forged"),
        NotFound,
        "no queue 'amq.rabbitmq.reply-to.forged' in vhost '/'",
    );
}

#[test]
fn it_goes_with_its_consumer_its_channel_and_its_connection() {
    let ends = [
        None,
        Some(Input::ChannelClosed { chan: ChanId(1) }),
        Some(Input::ConnectionClosed { conn: crate::ids::ConnId(1) }),
    ];
    for end in ends {
        let mut world = World::ready();
        world.open(2, 2);
        world.ok(Op::Consume(replies(1, "c")));
        let name = world.broker.default_vhost().queues().next().expect("it is there").0.clone();
        match end {
            Some(input) => {
                let effects = world.send(input);
                assert!(
                    !effects.iter().any(|e| matches!(e, Effect::ConsumerCancelled { .. })),
                    "{effects:?}"
                );
            }
            None => drop(world.ok(Op::Cancel { chan: ChanId(1), consumer_tag: "c".into() })),
        }
        assert!(world.broker.queues.is_empty());
        let answer = Publish { mandatory: true, ..to_queue(&name, "too late") };
        let answer = world.publish_input(2, answer);
        assert!(world.send(answer).iter().any(|e| matches!(e, Effect::Return { chan: ChanId(2), .. })));
    }
}

#[test]
fn credit_holds_answers_back() {
    let mut world = World::ready();
    world.send(super::world::channel_opened(1, 7, 100));
    let name = ask_for_replies(&mut world, 7);
    assert_eq!(deliveries(&mut world.publish(to_queue(&name, "1"))).len(), 1, "it may be overdrawn");
    assert!(deliveries(&mut world.publish(to_queue(&name, "2"))).is_empty());
    let effects = &mut world.send(Input::Writable { chan: ChanId(7), bytes: 1_000 });
    assert_eq!(bodies(&deliveries(effects)), ["2"]);
}

#[test]
fn a_refused_reply_consumer_leaves_no_queue() {
    let mut world = World::ready();
    world.declare("q");
    world.consume(1, "q", "c");
    assert_eq!(world.refused(Op::Consume(replies(1, "c"))).kind, crate::refusal::RefusalKind::NotAllowed);
    assert_eq!(world.refused(Op::Consume(replies(9, "c"))).kind, NotFound);
    assert_eq!(world.broker.queues.len(), 1);
}

#[test]
fn answers_that_nobody_reads_do_not_fill_the_memory() {
    let mut world = World::ready();
    world.send(super::world::channel_opened(1, 7, 1));
    let name = ask_for_replies(&mut world, 7);
    for n in 0..60 {
        world.publish(to_queue(&name, &format!("{n} {}", "b".repeat(40_000))));
    }
    let held = world.broker.stats().body_bytes;
    assert!((1 << 19..5 << 18).contains(&held), "{held} bytes");
    let effects = &mut world.send(Input::Writable { chan: ChanId(7), bytes: 1 << 30 });
    let newest = bodies(&deliveries(effects));
    assert!(newest.last().is_some_and(|body| body.starts_with("59 ")), "the newest are kept");
}
