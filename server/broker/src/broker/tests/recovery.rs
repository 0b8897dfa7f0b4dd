//! What a start finds: SEMANTICS 7, E10.

use super::world::{World, binding, bodies, consumer, exchange, get, message, queue, to_queue, transient};
use crate::ids::{QueueId, Seq};
use crate::input::{Consume, DeclareExchange, DeclareQueue, Hold, Op, Settle};

fn with(messages: &[&str]) -> World {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", messages);
    world
}

/// Bodies and redelivered flags of all that is ready.
fn found(world: &mut World) -> Vec<(String, bool)> {
    world.open(1, 1);
    let delivered = world.consume(1, "q", "c");
    bodies(&delivered).into_iter().zip(delivered.iter().map(|d| d.redelivered)).collect()
}

fn pairs(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
    expected.iter().map(|(body, redelivered)| (body.to_string(), *redelivered)).collect()
}

#[test]
fn durable_things_come_back_and_others_do_not() {
    let mut world = with(&["kept"]);
    world.publish(transient("q", "lost"));
    world.ok(Op::DeclareQueue(DeclareQueue { durable: false, ..queue("t") }));
    world.ok(Op::DeclareQueue(DeclareQueue { exclusive: true, ..queue("e") }));
    world.ok(Op::DeclareExchange(exchange("x", "topic")));
    world.ok(Op::DeclareExchange(DeclareExchange { durable: false, ..exchange("y", "topic") }));
    world.ok(Op::Bind(binding("x", "q", "a.#")));
    world.ok(Op::Bind(binding("x", "t", "t")));
    world.ok(Op::Bind(binding("y", "q", "y")));
    let mut world = world.restart();
    world.open(1, 1);
    assert_eq!(world.queue_names(), ["q"]);
    assert_eq!(world.binding_keys(), ["a.#"]);
    assert!(!world.exchange_names().contains(&"y".to_string()));
    world.publish(message("x", "a.b", "new"));
    assert_eq!(world.drain("q"), ["kept", "new"]);
}

#[test]
fn a_clean_close_knows_exactly_what_was_delivered() {
    let mut world = with(&["a", "b", "c", "d", "e"]);
    let held = world.leased("q", 3);
    world.settle_ids(&[held[1].ack_id], Settle::Ack);
    world.settle_ids(&[held[2].ack_id], Settle::Requeue);
    assert_eq!(world.broker.at_close(), [(QueueId(1), vec![(Seq(1), Seq(1)), (Seq(3), Seq(3))])]);
    let world = world.restart();
    assert_eq!(world.broker.at_close(), [(QueueId(1), vec![(Seq(1), Seq(1)), (Seq(3), Seq(3))])], "still");
    let mut world = world.restart();
    assert_eq!(found(&mut world), pairs(&[("a", true), ("c", true), ("d", false), ("e", false)]));
}

#[test]
fn after_a_crash_all_may_have_been_delivered() {
    let mut world = with(&["a", "b"]);
    world.leased("q", 1);
    let mut world = world.crash();
    world.open(1, 1);
    world.fill("q", &["c"]);
    assert_eq!(found(&mut world), pairs(&[("a", true), ("b", true), ("c", false)]));
    assert_eq!(world.broker.at_close(), [(QueueId(1), vec![(Seq(1), Seq(3))])]);
}

#[test]
fn a_mark_survives_a_close_without_deliveries() {
    let world = with(&["a", "b", "c"]).crash();
    assert_eq!(world.broker.at_close(), [(QueueId(1), vec![(Seq(1), Seq(3))])]);
    let mut world = world.restart();
    world.open(1, 1);
    world.got("q", 1, Hold::AutoAck);
    assert_eq!(
        world.broker.at_close(),
        [(QueueId(1), vec![(Seq(2), Seq(3))])],
        "in the window and in the tail"
    );
}

#[test]
fn counts_are_right_before_anything_is_read() {
    let mut world = with(&["a", "b", "c", "d"]);
    let held = world.leased("q", 4);
    world.settle_ids(&[held[0].ack_id, held[2].ack_id], Settle::Ack);
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(world.counts("q"), (2, 0));
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    assert_eq!(world.counts("q"), (1, 1));
    world.fill("q", &["e"]);
    assert_eq!(world.counts("q"), (2, 1));
    assert_eq!(world.drain("q"), ["d", "e"]);
}

#[test]
fn transient_messages_behind_a_recovered_tail_keep_their_place() {
    let world = with(&["a", "b"]);
    let mut world = world.crash();
    world.open(1, 1);
    world.publish(transient("q", "t"));
    world.publish(to_queue("q", "c"));
    assert_eq!(world.drain("q"), ["a", "b", "t", "c"]);
    // All of the old epoch is dead now, and the tail begins with a transient one.
    let mut world = world.crash();
    world.open(1, 1);
    world.publish(transient("q", "t"));
    assert_eq!(world.drain("q"), ["t"]);
}

#[test]
fn a_purge_of_a_recovered_queue_is_for_good() {
    let mut world = with(&["a", "b", "c"]);
    let held = world.leased("q", 2);
    world.settle_ids(&[held[1].ack_id], Settle::Ack);
    let mut world = world.crash();
    world.open(1, 1);
    world.publish(transient("q", "t"));
    world.ok(Op::PurgeQueue { name: "q".into() });
    assert!(world.stored("q").is_empty());
    let mut world = world.crash();
    world.open(1, 1);
    assert!(world.drain("q").is_empty());
}

#[test]
fn a_queue_declared_again_is_another_one() {
    let mut world = with(&["old"]);
    let held = world.leased("q", 1);
    world.ok(Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false });
    world.declare("q");
    world.fill("q", &["new"]);
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(world.settle_ids(&[held[0].ack_id], Settle::Ack), [Ok(())]);
    assert_eq!(world.drain("q"), ["new"]);
}

#[test]
fn a_lease_does_not_survive() {
    let mut world = with(&["a"]);
    world.leased("q", 1);
    let mut world = world.restart();
    world.open(1, 1);
    assert_eq!(world.counts("q"), (1, 0));
    match world.ok(Op::Get(get("q", 1, Hold::AutoAck))) {
        crate::effect::Reply::Got(got) => assert!(got.messages[0].redelivered),
        other => panic!("{other:?}"),
    }
}
