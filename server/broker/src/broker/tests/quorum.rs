//! Queues of type quorum: SEMANTICS 5 and 7.

use super::world::{
    SETTINGS, World, arguments_of, channel_opened, consumer, deliveries, queue, string, to_queue, transient,
    warnings,
};
use crate::Settings;
use crate::ids::{ChanId, QueueId};
use crate::input::{Consume, DeclareQueue, Hold, Input, Op, Settle};
use crate::refusal::RefusalKind::PreconditionFailed;
use crate::value::Value;

fn with(arguments: &[(&str, Value)]) -> World {
    let mut world = World::ready();
    declare(&mut world, arguments);
    world
}

fn declare(world: &mut World, arguments: &[(&str, Value)]) {
    let quorum = [("x-queue-type", string("quorum"))];
    world.declare_with("q", &[&quorum[..], arguments].concat());
}

fn limit(limit: i32) -> (&'static str, Value) {
    ("x-delivery-limit", Value::I32(limit))
}

fn to_dead() -> [(&'static str, Value); 2] {
    [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string("dead"))]
}

/// Takes the first message and gives it back so often.
fn bounce(world: &mut World, times: usize) {
    for _ in 0..times {
        let held = world.leased("q", 1);
        world.settle_ids(&[held[0].ack_id], Settle::Requeue);
    }
}

#[test]
fn every_message_is_kept_whatever_its_mode() {
    let mut world = with(&[]);
    world.publish(transient("q", "t"));
    world.fill("q", &["p"]);
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(world.drain("q"), ["t", "p"]);
}

#[test]
fn a_declaration_that_cannot_be_is_refused() {
    let mut world = World::ready();
    let arguments = arguments_of(&[("x-queue-type", string("quorum"))]);
    let quorum = |name: &str| DeclareQueue { arguments: arguments.clone(), ..queue(name) };
    let text = "invalid property 'non-durable' for queue 'q' in vhost '/'";
    let op = Op::DeclareQueue(DeclareQueue { durable: false, ..quorum("q") });
    world.refused_with(op, PreconditionFailed, text);
    let text = "invalid property 'exclusive-owner' for queue 'q' in vhost '/'";
    let op = Op::DeclareQueue(DeclareQueue { exclusive: true, ..quorum("q") });
    world.refused_with(op, PreconditionFailed, text);
    let text = "Cannot declare a server-named queue for type quorum";
    world.refused_with(Op::DeclareQueue(quorum("")), PreconditionFailed, text);
    world.ok(Op::DeclareQueue(quorum("q")));
    world.ok(Op::DeclareQueue(quorum("q")));
    assert_eq!(world.refused(Op::DeclareQueue(queue("q"))).kind, PreconditionFailed);
}

#[test]
fn deliveries_say_how_often_the_message_came_back() {
    let mut world = with(&[]);
    world.declare("classic");
    world.fill("q", &["a"]);
    world.fill("classic", &["a"]);
    bounce(&mut world, 2);
    let got = world.got("q", 1, Hold::Channel(ChanId(1)));
    assert_eq!(got.messages[0].delivery_count, Some(2));
    world.settle(1, 1, false, Settle::Requeue);
    let delivered = world.consume(1, "q", "c");
    assert_eq!((delivered[0].delivery_count, delivered[0].redelivered), (Some(3), true));
    assert_eq!(world.consume(1, "classic", "d")[0].delivery_count, None);
    let mut effects = world.publish(to_queue("q", "b"));
    assert_eq!(deliveries(&mut effects)[0].delivery_count, Some(0));
}

#[test]
fn a_message_that_comes_back_too_often_is_dropped() {
    let mut world = with(&[limit(2)]);
    world.fill("q", &["a", "b"]);
    bounce(&mut world, 2);
    assert_eq!(world.counts("q"), (2, 0));
    bounce(&mut world, 1);
    assert_eq!((world.counts("q"), world.stored("q")), ((1, 0), vec!["b".to_string()]));
    let mut world = with(&[]);
    world.fill("q", &["a"]);
    bounce(&mut world, 20);
    assert_eq!(world.counts("q"), (1, 0));
    bounce(&mut world, 1);
    assert_eq!(world.counts("q"), (0, 0), "the limit is 20 unless it is set");
    let mut world = with(&[limit(-1)]);
    world.fill("q", &["a"]);
    bounce(&mut world, 100);
    assert_eq!(world.counts("q"), (1, 0));
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", &["a"]);
    bounce(&mut world, 100);
    assert_eq!(world.counts("q"), (1, 0), "a classic queue has no limit");
}

#[test]
fn however_it_comes_back() {
    let mut world = World::ready();
    world.declare("dead");
    declare(&mut world, &[&to_dead()[..], &[limit(0)]].concat());
    world.fill("q", &["channel", "lease", "recover"]);
    world.send(channel_opened(1, 2, 1 << 30));
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(2, "q", "c") });
    world.leased("q", 1);
    world.got("q", 1, Hold::Channel(ChanId(1)));
    world.send(Input::ChannelClosed { chan: ChanId(2) });
    assert_eq!(world.stored("dead"), ["channel"]);
    world.tick(1_000);
    assert_eq!(world.stored("dead"), ["channel", "lease"]);
    world.ok(Op::Recover { chan: ChanId(1) });
    assert_eq!(world.stored("dead"), ["channel", "lease", "recover"]);
    assert_eq!((world.counts("q"), world.stored("q").len()), ((0, 0), 0));
}

#[test]
fn one_that_is_not_in_memory_is_read_first() {
    let mut world = World::with(Settings { memory_budget_bytes: 0, ..SETTINGS });
    world.open(1, 1);
    world.declare("dead");
    declare(&mut world, &[&to_dead()[..], &[limit(0)]].concat());
    world.fill("q", &["a", "b", "c"]);
    let held: Vec<_> = (0..3).flat_map(|_| world.leased("q", 1)).map(|m| m.ack_id).collect();
    world.prompt = false;
    let input = world.request(Some(1), Op::SettleIds { ids: held.clone(), how: Settle::Requeue });
    world.send(input);
    assert_eq!((world.stored("q").len(), world.stored("dead").len()), (3, 0));
    assert_eq!(world.counts("q"), (0, 0), "neither ready nor out");
    let delivered = world.broker.at_close();
    assert_eq!(delivered.iter().find(|(id, _)| *id == QueueId(2)).map(|(_, places)| places.len()), Some(1));
    let [fetch] = &world.fetches[..] else { panic!("{:?}", world.fetches) };
    assert_eq!((fetch.queue, fetch.from.0, fetch.upto.0), (QueueId(2), 1, 4));
    world.store.broken.insert((QueueId(2), 2));
    world.prompt = true;
    let effects = world.answer();
    assert_eq!(warnings(&effects).len(), 1);
    assert_eq!((world.stored("q"), world.stored("dead")), (vec!["b".into()], vec!["a".into(), "c".into()]));
    assert_eq!(world.settle_ids(&held, Settle::Ack), [Ok(()); 3], "gone, as far as anybody can tell");
}

#[test]
fn an_exclusive_consumer_is_not_alone() {
    let mut world = with(&[]);
    world.ok(Op::Consume(Consume { exclusive: true, ..consumer(1, "q", "first") }));
    world.ok(Op::Consume(consumer(1, "q", "second")));
    world.ok(Op::Consume(Consume { exclusive: true, ..consumer(1, "q", "third") }));
}
