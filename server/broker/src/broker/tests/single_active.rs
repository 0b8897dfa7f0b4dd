//! Single active consumers: SEMANTICS 5.

use bytes::Bytes;

use super::world::{World, bodies, channel_opened, consumer, deliveries, get, queue, shares, to_queue};
use crate::effect::{ConsumerRow, Reply};
use crate::ids::ChanId;
use crate::input::{Consume, DeclareQueue, Hold, Input, Op, Settle};
use crate::refusal::RefusalKind::{AccessRefused, ResourceLocked};
use crate::value::{Table, Value};

fn world() -> World {
    let mut world = World::ready();
    world.send(channel_opened(1, 2, 1 << 40));
    let arguments = Table(vec![("x-single-active-consumer".into(), Value::Bool(true))]);
    world.ok(Op::DeclareQueue(DeclareQueue { arguments, ..queue("q") }));
    world
}

fn cancel(chan: u64, tag: &str) -> Op {
    Op::Cancel { chan: ChanId(chan), consumer_tag: tag.into() }
}

/// Tags in the order in which they came, and which of them are active.
fn active(world: &mut World) -> Vec<(String, bool)> {
    let row = |row: ConsumerRow| (row.consumer_tag.to_string(), row.active);
    match world.ok(Op::ListConsumers) {
        Reply::Consumers(rows) => rows.into_iter().map(row).collect(),
        other => panic!("{other:?}"),
    }
}

fn deal(world: &mut World, messages: &[&str]) -> Vec<(String, String)> {
    let inputs = messages.iter().map(|m| world.publish_input(1, to_queue("q", m))).collect();
    shares(&deliveries(&mut world.turn(inputs)))
}

fn all_to(tag: &str, messages: &[&str]) -> Vec<(String, String)> {
    messages.iter().map(|m| (tag.to_string(), m.to_string())).collect()
}

#[test]
fn one_gets_everything_and_the_oldest_follows() {
    let mut world = world();
    for (chan, tag) in [(1, "a"), (2, "b"), (1, "c")] {
        world.consume(chan, "q", tag);
    }
    assert_eq!(deal(&mut world, &["1", "2", "3"]), all_to("a", &["1", "2", "3"]));
    assert_eq!(active(&mut world), [("a".into(), true), ("b".into(), false), ("c".into(), false)]);
    world.ok(cancel(1, "c"));
    world.consume(1, "q", "d");
    world.ok(cancel(1, "a"));
    assert_eq!(deal(&mut world, &["4"]), all_to("b", &["4"]), "one in the middle has gone");
    let effects = &mut world.send(Input::ChannelClosed { chan: ChanId(2) });
    assert_eq!(shares(&deliveries(effects)), all_to("d", &["4"]), "what b had goes to d");
    assert_eq!(active(&mut world), [("d".into(), true)]);
    world.ok(cancel(1, "d"));
    assert!(deal(&mut world, &["5"]).is_empty());
    assert_eq!(bodies(&world.consume(1, "q", "e")), ["5"]);
}

#[test]
fn the_highest_priority_follows_and_nobody_is_pushed_aside() {
    let mut world = world();
    world.consume(1, "q", "first");
    for (tag, priority) in [("low", -1), ("high", 5), ("late high", 5), ("middle", 0)] {
        world.consume_with(Consume { priority, ..consumer(2, "q", tag) });
    }
    assert_eq!(deal(&mut world, &["1"]), all_to("first", &["1"]));
    world.ok(cancel(1, "first"));
    for tag in ["high", "late high", "middle", "low"] {
        assert_eq!(deal(&mut world, &["m"]), all_to(tag, &["m"]));
        world.ok(cancel(2, tag));
    }
}

#[test]
fn the_others_wait_also_when_it_can_take_no_more() {
    let mut world = world();
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "a") });
    world.consume(2, "q", "b");
    assert_eq!(deal(&mut world, &["1", "2"]), all_to("a", &["1"]));
    assert_eq!(active(&mut world), [("a".into(), false), ("b".into(), false)], "a could not take one now");
    assert_eq!(shares(&deliveries(&mut world.ack(1, 1))), all_to("a", &["2"]));
    world.ok(cancel(1, "a"));
    assert_eq!(deal(&mut world, &["3"]), all_to("b", &["3"]), "although a still has one");
    let again = shares(&deliveries(&mut world.settle(1, 2, false, Settle::Requeue)));
    assert_eq!(again, all_to("b", &["2"]));
}

#[test]
fn all_consumers_of_a_closing_channel_go_at_once() {
    let mut world = world();
    for (chan, tag) in [(1, "a"), (1, "b"), (2, "c"), (1, "d")] {
        world.consume(chan, "q", tag);
    }
    deal(&mut world, &["1", "2"]);
    let effects = &mut world.send(Input::ChannelClosed { chan: ChanId(1) });
    assert_eq!(shares(&deliveries(effects)), all_to("c", &["1", "2"]));
}

#[test]
fn an_exclusive_one_is_refused() {
    let mut world = world();
    let text = "queue 'q' in vhost '/' in exclusive use";
    let alone = Consume { exclusive: true, ..consumer(1, "q", "c") };
    world.refused_with(Op::Consume(alone.clone()), AccessRefused, text);
    world.consume(1, "q", "c");
    world.refused_with(Op::Consume(Consume { consumer_tag: "d".into(), ..alone }), AccessRefused, text);
}

#[test]
fn a_get_is_refused_on_a_quorum_queue_only() {
    let mut world = world();
    deal(&mut world, &["1"]);
    assert_eq!(world.got("q", 1, Hold::AutoAck).messages.len(), 1);
    let quorum = ("x-queue-type".to_string(), Value::Bytes(Bytes::from_static(b"quorum")));
    let queue = world.broker.queues.values_mut().next().expect("one queue");
    queue.props.arguments.0.push(quorum);
    let text = "cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are not supported by \
                quorum queues with single active consumer";
    world.refused_with(Op::Get(get("q", 1, Hold::AutoAck)), ResourceLocked, text);
}
