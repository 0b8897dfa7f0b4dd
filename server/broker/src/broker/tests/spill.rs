//! Transient messages beyond the memory budget: spilled, read back, and released when they are gone.

use std::sync::Arc;

use super::world::{
    SETTINGS, World, bodies, consumer, deliveries, numbers_from as numbers, queue, to_queue, transient,
    warnings,
};
use crate::Settings;
use crate::effect::Effect;
use crate::ids::{ChanId, QueueId, Seq, Ticket};
use crate::input::{Binding, DeclareQueue, DestinationKind, Input, Op, Settle};
use crate::value::Table;

fn with_budget(memory_budget_bytes: u64) -> World {
    let mut world = World::with(Settings { memory_budget_bytes, ..SETTINGS });
    world.open(1, 1);
    world.declare("q");
    world
}

fn fill(world: &mut World, from: u64, upto: u64) {
    for body in numbers(from, upto) {
        world.publish(transient("q", &body));
    }
}

fn body_bytes(world: &World) -> u64 {
    world.broker.stats().body_bytes
}

#[test]
fn a_transient_backlog_stays_in_the_budget_and_comes_back_in_order() {
    for durable in [true, false] {
        let mut world = World::with(Settings { memory_budget_bytes: 4_000, ..SETTINGS });
        world.open(1, 1);
        world.ok(Op::DeclareQueue(DeclareQueue { durable, ..queue("q") }));
        fill(&mut world, 0, 2_000);
        assert!(body_bytes(&world) <= 4_000);
        assert!(world.store.spilled.len() > 1_900);
        assert_eq!(world.counts("q"), (2_000, 0));
        assert_eq!(world.drain("q"), numbers(0, 2_000));
        assert_eq!((body_bytes(&world), world.row("q").memory_bytes), (0, 0));
        assert!(world.store.spilled.is_empty(), "what was acked is released");
    }
}

#[test]
fn a_message_leaves_memory_only_when_it_is_written() {
    let mut world = with_budget(0);
    world.prompt = false;
    fill(&mut world, 0, 3);
    let held = body_bytes(&world);
    assert!(held > 0);
    assert_eq!(world.spills.len(), 3);
    // One of them goes while it waits.
    let delivered = world.consume(1, "q", "c");
    assert_eq!(bodies(&delivered), numbers(0, 3), "it is delivered from memory");
    world.ack(1, 1);
    world.spill();
    assert_eq!(body_bytes(&world), 0, "the others are out, and their bodies are elsewhere");
    assert_eq!(world.store.spilled.len(), 2, "what was gone is released again");
    world.settle(1, 0, true, Settle::Requeue);
    world.prompt = true;
    assert_eq!(bodies(&deliveries(&mut world.answer())), ["1", "2"], "read back");
    world.settle(1, 0, true, Settle::Ack);
    assert!(world.store.spilled.is_empty());
}

#[test]
fn a_message_that_is_spilled_while_a_read_passes_it_is_read_again() {
    let mut world = with_budget(2_000);
    world.declare("full");
    let fill_memory = |world: &mut World| {
        for _ in 0..20 {
            world.publish(to_queue("full", "x"));
        }
    };
    fill_memory(&mut world);
    fill(&mut world, 0, 2);
    world.prompt = false;
    fill(&mut world, 2, 3);
    world.publish(to_queue("q", "3"));
    world.send(Input::Confirmable { ticket: Ticket(world.store.issued) });
    // Room to read, and none any more when the message is spilled.
    let purge = world.request(Some(1), Op::PurgeQueue { name: "full".into() });
    world.send(purge);
    let consume = world.request(Some(1), Op::Consume(consumer(1, "q", "c")));
    let mut effects = world.send(consume);
    let [fetch] = &world.fetches[..] else { panic!("{:?}", world.fetches) };
    assert_eq!((fetch.from, fetch.upto), (Seq(1), Seq(5)), "over the one that is in memory alone");
    let late = world.store.answer(fetch);
    assert_eq!(late.records.len(), 3);
    world.fetches.clear();
    fill_memory(&mut world);
    effects.extend(world.spill());
    world.prompt = true;
    effects.extend(world.send(Input::Fetched(late)));
    assert_eq!(warnings(&effects), [""; 0]);
    assert_eq!(bodies(&deliveries(&mut effects)), numbers(0, 4));
    assert_eq!(world.counts("q"), (0, 4));
}

#[test]
fn what_is_out_is_spilled_when_memory_gets_short() {
    let mut world = with_budget(300);
    world.consume(1, "q", "c");
    fill(&mut world, 0, 100);
    assert_eq!(world.counts("q"), (0, 100));
    assert!(body_bytes(&world) <= 300, "unacked ones are in memory no more than others");
    world.ok(Op::Cancel { chan: ChanId(1), consumer_tag: "c".into() });
    world.settle(1, 0, true, Settle::Requeue);
    assert_eq!(world.drain("q"), numbers(0, 100));
    assert!(world.store.spilled.is_empty());
}

#[test]
fn a_message_to_many_queues_is_spilled_once() {
    let mut world = with_budget(0);
    for name in ["q", "r", "s"] {
        world.declare(name);
        let (source, destination) = (Arc::from("amq.fanout"), Arc::from(name));
        let arguments = Table::default();
        let destination_kind = DestinationKind::Queue;
        let routing_key = Arc::from("");
        let binding = Binding { source, destination, destination_kind, routing_key, arguments };
        world.ok(Op::Bind(binding));
    }
    let mut publish = transient("", "all");
    publish.exchange = Arc::from("amq.fanout");
    world.prompt = false;
    world.publish(publish);
    let [put] = &world.spills[..] else { panic!("{:?}", world.spills) };
    assert_eq!(put.targets[..], [1, 2, 3].map(|queue| (QueueId(queue), Seq(1))));
    world.spill();
    assert_eq!(body_bytes(&world), 0);
    world.prompt = true;
    for name in ["q", "r", "s"] {
        assert_eq!(world.drain(name), ["all"]);
    }
    assert!(world.store.spilled.is_empty());
}

#[test]
fn a_purge_releases_what_is_ready_and_leaves_what_is_out() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 2);
    world.consume(1, "q", "c");
    world.ok(Op::Cancel { chan: ChanId(1), consumer_tag: "c".into() });
    fill(&mut world, 2, 10);
    assert_eq!(world.counts("q"), (8, 2));
    world.ok(Op::PurgeQueue { name: "q".into() });
    assert_eq!(world.counts("q"), (0, 2));
    assert_eq!(world.store.spilled.len(), 2);
    world.settle(1, 0, true, Settle::Requeue);
    assert_eq!(world.drain("q"), ["0", "1"]);
    assert!(world.store.spilled.is_empty());
}

#[test]
fn the_end_of_a_queue_releases_all_of_it() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 5);
    world.prompt = false;
    fill(&mut world, 5, 7);
    let input =
        world.request(Some(1), Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false });
    world.send(input);
    assert!(world.store.spilled.is_empty());
    world.spill();
    assert!(world.store.spilled.is_empty(), "also what was written after it");
    assert_eq!(body_bytes(&world), 0);
}

#[test]
fn a_spilled_message_that_cannot_be_read_is_told_and_passed_over() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 4);
    world.store.broken.insert((QueueId(1), 2));
    let effects = world.consume_with(consumer(1, "q", "c"));
    assert_eq!(bodies(&effects), ["0", "2", "3"]);
    assert_eq!(world.counts("q"), (0, 3));
}

#[test]
fn messages_with_room_are_not_spilled() {
    let mut world = World::ready();
    world.declare("q");
    let mut effects = Vec::new();
    for body in numbers(0, 100) {
        effects.extend(world.publish(transient("q", &body)));
        effects.extend(world.publish(to_queue("q", &body)));
    }
    assert_eq!(world.drain("q").len(), 200);
    effects.extend(world.send(Input::Tick { now_ms: 2_000 }));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Spill(_) | Effect::Release { .. })));
}
