//! Queues with priorities: SEMANTICS 6.

use super::world::{
    SETTINGS, World, bodies, consumer, deliveries, string, to_queue, transient, with_properties,
};
use crate::Settings;
use crate::effect::Effect;
use crate::ids::ChanId;
use crate::input::{Consume, Hold, Op, Publish, Settle};
use crate::properties::Properties;
use crate::value::Value;

fn with(arguments: &[(&str, Value)]) -> World {
    let mut world = World::ready();
    declare(&mut world, arguments);
    world
}

fn declare(world: &mut World, arguments: &[(&str, Value)]) {
    world.declare_with("q", &[&[("x-max-priority", Value::I32(5))], arguments].concat());
}

fn prior(body: &str, priority: u8) -> Publish {
    with_properties("q", body, &Properties { priority: Some(priority), ..Properties::default() })
}

fn fill(world: &mut World, messages: &[(&str, u8)]) {
    for (body, priority) in messages {
        world.publish(prior(body, *priority));
    }
}

#[test]
fn higher_ones_come_first() {
    let mut world = with(&[]);
    fill(&mut world, &[("a0", 0), ("b2", 2), ("c9", 9), ("d5", 5), ("e2", 2)]);
    world.publish(to_queue("q", "f"));
    assert_eq!(world.counts("q"), (6, 0));
    assert_eq!(world.drain("q"), ["c9", "d5", "b2", "e2", "a0", "f"]);
    assert_eq!((world.counts("q"), world.broker.stats().body_bytes), ((0, 0), 0));
}

#[test]
fn a_queue_without_them_ignores_them() {
    let mut world = World::ready();
    world.declare("q");
    fill(&mut world, &[("a", 1), ("b", 9)]);
    assert_eq!(world.drain("q"), ["a", "b"]);
    assert_eq!(world.store.queues.len(), 1);
}

#[test]
fn they_survive_a_start() {
    let mut world = with(&[]);
    fill(&mut world, &[("a0", 0), ("b2", 2), ("c5", 5), ("d2", 2)]);
    world.publish(Publish { persistent: false, ..prior("t3", 3) });
    let held = world.leased("q", 2);
    world.settle_ids(&[held[0].ack_id], Settle::Ack);
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(world.counts("q"), (3, 0));
    fill(&mut world, &[("e4", 4), ("f2", 2)]);
    let world = world.restart();
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(world.drain("q"), ["e4", "b2", "d2", "f2", "a0"]);
    world.ok(Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: true });
    assert!(world.store.queues.is_empty() && world.store.facts.is_empty(), "with all its levels");
}

#[test]
fn a_clean_close_knows_what_was_delivered_of_each() {
    let mut world = with(&[]);
    fill(&mut world, &[("a0", 0), ("b2", 2), ("c2", 2)]);
    world.leased("q", 1);
    let mut world = world.restart();
    world.open(1, 1);
    let delivered = world.consume(1, "q", "c");
    let seen: Vec<_> = bodies(&delivered).into_iter().zip(delivered.iter().map(|d| d.redelivered)).collect();
    assert_eq!(seen, [("b2".into(), true), ("c2".into(), false), ("a0".into(), false)]);
}

#[test]
fn a_returned_message_goes_to_its_old_place_in_its_level() {
    let mut world = with(&[]);
    fill(&mut world, &[("a1", 1), ("b3", 3), ("c3", 3), ("d1", 1)]);
    world.consume_with(Consume { prefetch_messages: 3, ..consumer(1, "q", "c") });
    world.ok(Op::Cancel { chan: ChanId(1), consumer_tag: "c".into() });
    world.settle(1, 3, false, Settle::Requeue);
    world.settle(1, 1, false, Settle::Requeue);
    fill(&mut world, &[("e3", 3), ("f2", 2)]);
    assert_eq!(world.counts("q"), (5, 1));
    let delivered = world.consume(1, "q", "d");
    assert_eq!(bodies(&delivered), ["b3", "e3", "f2", "a1", "d1"]);
    world.settle(1, 0, true, Settle::Ack);
    assert!(world.stored("q").is_empty());
}

#[test]
fn ids_and_leases_of_any_level() {
    let mut world = with(&[]);
    fill(&mut world, &[("a0", 0), ("b3", 3)]);
    let held = world.leased("q", 2);
    world.tick(1_000);
    assert_eq!(world.counts("q"), (2, 0));
    let again = world.leased("q", 2);
    let ids: Vec<_> = again.iter().map(|m| m.ack_id).collect();
    assert_eq!(world.settle_ids(&ids, Settle::Ack), [Ok(()), Ok(())]);
    assert_eq!(world.settle_ids(&[held[0].ack_id], Settle::Ack), [Ok(())]);
    assert_eq!((world.counts("q"), world.stored("q").len()), ((0, 0), 0));
}

#[test]
fn a_cold_backlog_is_read_by_priority() {
    let mut world = World::with(Settings { memory_budget_bytes: 2_000, ..SETTINGS });
    world.open(1, 1);
    declare(&mut world, &[]);
    let mut expected = Vec::new();
    for n in 0..600u32 {
        let priority = (n % 4) as u8;
        world.publish(prior(&n.to_string(), priority));
        expected.push((3 - priority, n));
    }
    expected.sort_unstable();
    assert!(world.broker.stats().body_bytes <= 2_000);
    let expected: Vec<String> = expected.into_iter().map(|(_, n)| n.to_string()).collect();
    assert_eq!(world.drain("q"), expected);
}

#[test]
fn a_higher_one_overtakes_what_is_in_memory_but_not_what_is_out() {
    let mut world = with(&[]);
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    fill(&mut world, &[("a1", 1), ("b1", 1), ("c2", 2)]);
    assert_eq!(bodies(&deliveries(&mut world.ack(1, 1))), ["c2"]);
    world.publish(transient("q", "t"));
    assert_eq!(bodies(&deliveries(&mut world.ack(1, 2))), ["b1"]);
    assert_eq!(bodies(&deliveries(&mut world.ack(1, 3))), ["t"]);
}

#[test]
fn a_lower_one_expires_when_it_is_next() {
    let mut world = with(&[]);
    let properties = Properties { expiration: Some("10".into()), ..Properties::default() };
    world.publish(with_properties("q", "low", &properties));
    fill(&mut world, &[("high", 5)]);
    world.tick(20);
    assert_eq!(world.counts("q"), (2, 0));
    assert_eq!(world.got("q", 1, Hold::AutoAck).messages.len(), 1);
    assert_eq!((world.counts("q"), world.stored("q").len()), ((0, 0), 0));
}

#[test]
fn a_full_queue_drops_the_oldest_of_the_highest() {
    let mut world = with(&[("x-max-length", Value::I32(2))]);
    fill(&mut world, &[("a1", 1), ("b5", 5), ("c5", 5)]);
    assert_eq!(world.stored("q"), ["c5", "a1"]);
    fill(&mut world, &[("d0", 0)]);
    assert_eq!(world.stored("q"), ["a1", "d0"]);
}

#[test]
fn bytes_are_counted_over_all_levels() {
    let mut world = with(&[("x-max-length-bytes", Value::I32(10))]);
    fill(&mut world, &[("aaaa", 1), ("bbbb", 2)]);
    let mut world = world.crash();
    world.open(1, 1);
    fill(&mut world, &[("cccc", 0)]);
    assert_eq!(world.stored("q"), ["aaaa", "cccc"]);
}

#[test]
fn a_level_is_in_the_log_before_its_first_message() {
    let mut world = with(&[("x-overflow", string("drop-head"))]);
    let input = world.publish_input(1, prior("a", 3));
    let effects = world.turn(vec![input]);
    let appends: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Append { batch, .. } => {
                Some((batch.queues_created.len(), batch.facts.len(), batch.puts.len()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(appends, [(1, 1, 0), (0, 0, 1)]);
    let effects = world.publish(prior("b", 3));
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Append { .. })).count(), 1);
    let world = world.crash();
    assert_eq!(world.stored("q"), ["a", "b"]);
}
