//! The memory budget and reading back: P7, E8.

use super::world::{
    SETTINGS, World, bodies, consumer, deliveries, get, numbers_from as numbers, text, to_queue, transient,
    warnings,
};
use crate::Settings;
use crate::ids::{ChanId, QueueId, Ticket};
use crate::input::{Consume, Hold, Input, Op, Settle};
use crate::message::MESSAGE_OVERHEAD_BYTES;

/// Room for so many bytes.
fn with_budget(memory_budget_bytes: u64) -> World {
    let mut world = World::with(Settings { memory_budget_bytes, ..SETTINGS });
    world.open(1, 1);
    world.declare("q");
    world
}

fn fill(world: &mut World, from: u64, upto: u64) {
    for body in numbers(from, upto) {
        world.publish(to_queue("q", &body));
    }
}

#[test]
fn a_backlog_stays_in_the_budget_and_comes_back_in_order() {
    let mut world = with_budget(4_000);
    fill(&mut world, 0, 2_000);
    assert!(world.broker.stats().body_bytes <= 4_000);
    assert_eq!(world.counts("q"), (2_000, 0));
    assert_eq!(world.drain("q"), numbers(0, 2_000));
    assert_eq!((world.broker.stats().body_bytes, world.row("q").memory_bytes), (0, 0));
    fill(&mut world, 0, 3);
    assert!(world.broker.stats().body_bytes > 0, "the window reaches the tail again");
}

#[test]
fn one_read_at_a_time_behind_the_newest_append() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 10);
    world.prompt = false;
    world.consume(1, "q", "c");
    let [fetch] = &world.fetches[..] else { panic!("{:?}", world.fetches) };
    assert_eq!((fetch.queue, fetch.from.0, fetch.upto.0), (QueueId(1), 1, 11));
    assert_eq!((fetch.after, fetch.bytes_max), (Ticket(world.store.issued), 1));
    world.fill("q", &["10"]);
    world.consume(1, "q", "d");
    assert_eq!(world.fetches.len(), 1);
    assert_eq!(bodies(&deliveries(&mut world.answer())), ["0"], "one message at least");
    assert_eq!(world.fetches.len(), 1);
}

#[test]
fn a_consumer_reads_through_a_full_budget() {
    let mut world = with_budget(1_000);
    world.declare("hog");
    world.prompt = false;
    world.fill("hog", &["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    for body in ["a", "b", "c"] {
        world.publish(transient("hog", body));
    }
    assert!(world.broker.stats().body_bytes > 1_000, "what is not spilled yet stays in memory");
    // Their writes do not come to an end before the others are through.
    let spills = std::mem::take(&mut world.spills);
    world.prompt = true;
    fill(&mut world, 0, 50);
    let delivered = world.consume_with(Consume { auto_ack: true, ..consumer(1, "q", "c") });
    assert_eq!(bodies(&delivered), numbers(0, 50));
    let mut effects = Vec::new();
    for body in numbers(50, 60) {
        effects.extend(world.publish(to_queue("q", &body)));
    }
    assert!(!effects.iter().any(|e| matches!(e, crate::effect::Effect::Fetch(_))), "passed through");
    assert_eq!(bodies(&deliveries(&mut effects)), numbers(50, 60));
    world.spills = spills;
    world.spill();
    assert!(world.broker.stats().body_bytes <= 1_000);
    assert_eq!(world.drain("hog").len(), 12);
    assert_eq!(world.broker.stats().body_bytes, 0);
}

#[test]
fn transient_messages_among_others_stay_in_order() {
    let mut world = with_budget(300);
    for n in 0..100 {
        let body = n.to_string();
        let publish = if n % 3 == 0 { transient("q", &body) } else { to_queue("q", &body) };
        world.publish(publish);
    }
    assert_eq!(world.drain("q"), numbers(0, 100));
    world.publish(to_queue("q", "x"));
    for body in ["a", "b"] {
        world.publish(transient("q", body));
    }
    assert_eq!(world.drain("q"), ["x", "a", "b"]);
}

#[test]
fn bodies_that_are_out_are_dropped_and_read_again() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 100);
    world.publish(transient("q", "100"));
    let delivered = world.consume(1, "q", "c");
    assert_eq!(delivered.len(), 101);
    assert!(world.broker.stats().body_bytes < 500, "only what is transient");
    world.ok(Op::Cancel { chan: ChanId(1), consumer_tag: "c".into() });
    for tag in [10, 50, 51, 90] {
        world.ack(1, tag);
    }
    world.settle(1, 0, true, Settle::Requeue);
    let mut expected = numbers(0, 101);
    for gone in ["9", "49", "50", "89"] {
        expected.retain(|body| body != gone);
    }
    let again = world.consume(1, "q", "d");
    assert_eq!(bodies(&again), expected);
    assert!(again.iter().all(|d| d.redelivered && d.attempt == 2));
    world.settle(1, 0, true, Settle::Ack);
    assert_eq!((world.counts("q"), world.broker.stats().body_bytes), ((0, 0), 0));
    assert!(world.stored("q").is_empty());
}

#[test]
fn a_late_answer_after_a_purge_is_dropped() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 5);
    world.prompt = false;
    world.consume(1, "q", "c");
    let late: Vec<Input> = world.fetches.drain(..).map(|f| Input::Fetched(world.store.answer(&f))).collect();
    let purge = world.request(Some(1), Op::PurgeQueue { name: "q".into() });
    world.send(purge);
    let mut effects = world.turn(late);
    assert!(deliveries(&mut effects).is_empty());
    assert_eq!(world.counts("q"), (0, 0));
    world.prompt = true;
    let mut effects = world.publish(to_queue("q", "new"));
    assert_eq!(bodies(&deliveries(&mut effects)), ["new"]);
}

#[test]
fn an_answer_of_another_generation_is_dropped() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 1);
    world.ok(Op::PurgeQueue { name: "q".into() });
    fill(&mut world, 1, 2);
    world.prompt = false;
    world.consume(1, "q", "c");
    let fetch = world.fetches[0].clone();
    assert_eq!(fetch.generation, 1);
    let mut late = world.store.answer(&fetch);
    late.generation = 0;
    assert!(deliveries(&mut world.send(Input::Fetched(late))).is_empty());
    assert_eq!(bodies(&deliveries(&mut world.answer())), ["1"]);
}

#[test]
fn what_comes_while_a_read_catches_up_is_not_read_back() {
    let mut world = with_budget(4 << 20);
    fill(&mut world, 0, 3);
    let mut world = world.crash();
    world.open(1, 1);
    world.prompt = false;
    world.consume(1, "q", "c");
    fill(&mut world, 3, 6);
    world.publish(transient("q", "6"));
    assert_eq!(world.fetches.len(), 1);
    let mut effects = world.answer();
    effects.extend(world.publish(to_queue("q", "7")));
    assert_eq!(bodies(&deliveries(&mut effects)), numbers(0, 8));
    assert!(world.fetches.is_empty(), "nothing is left to read");
}

#[test]
fn the_window_is_at_the_end_again_behind_a_blocked_consumer() {
    let mut world = with_budget(4 << 20);
    fill(&mut world, 0, 3);
    let mut world = world.crash();
    world.open(1, 1);
    world.prompt = false;
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    fill(&mut world, 3, 4);
    world.answer();
    fill(&mut world, 4, 6);
    assert!(world.fetches.is_empty());
    let effects: Vec<_> = (1..6).flat_map(|tag| world.ack(1, tag)).collect();
    assert!(world.fetches.is_empty());
    let mut effects = effects;
    assert_eq!(bodies(&deliveries(&mut effects)), numbers(1, 6));
}

#[test]
fn places_that_cannot_be_read_are_reported_and_not_acked() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 5);
    world.store.broken.insert((QueueId(1), 2));
    world.store.broken.insert((QueueId(1), 5));
    let input = world.request(Some(1), Op::Consume(consumer(1, "q", "c")));
    let mut effects = world.send(input);
    assert_eq!(bodies(&deliveries(&mut effects)), ["0", "2", "3"]);
    let texts = warnings(&effects);
    assert_eq!(texts.len(), 2);
    assert_eq!(texts[0], "message 2 of queue 'q' could not be read and is passed over: bad checksum");
    assert_eq!(world.counts("q"), (0, 3));
    world.settle(1, 0, true, Settle::Ack);
    assert_eq!(world.stored("q"), ["1", "4"], "nothing is deleted because it looked corrupt");
    fill(&mut world, 9, 10);
    assert_eq!(world.counts("q"), (0, 1));
}

#[test]
fn a_returned_message_that_cannot_be_read_is_passed_over() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 3);
    let held = world.leased("q", 3);
    assert_eq!(held.len(), 1, "as far as the budget goes");
    let held: Vec<_> = held.into_iter().chain(world.leased("q", 1)).map(|m| m.ack_id).collect();
    world.store.broken.insert((QueueId(1), 1));
    world.settle_ids(&held, Settle::Requeue);
    assert_eq!(world.counts("q"), (3, 0));
    assert_eq!(world.drain("q"), ["1", "2"]);
    assert_eq!(world.counts("q"), (0, 0));
}

#[test]
fn what_the_store_does_not_have_is_reported_and_counted_off() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 5);
    world.store.queues.get_mut(&QueueId(1)).expect("the queue").live.remove(&3);
    let input = world.request(Some(1), Op::Consume(consumer(1, "q", "c")));
    let mut effects = world.send(input);
    assert_eq!(bodies(&deliveries(&mut effects)), ["0", "1", "3", "4"]);
    assert_eq!(warnings(&effects).len(), 1);
    assert_eq!(world.counts("q"), (0, 4));
}

#[test]
fn an_empty_answer_does_not_turn_in_a_circle() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 2);
    world.prompt = false;
    world.consume(1, "q", "c");
    let fetch = world.fetches.remove(0);
    let mut answer = world.store.answer(&fetch);
    (answer.upto, answer.records) = (answer.from, Vec::new());
    world.send(Input::Fetched(answer));
    assert!(world.fetches.is_empty());
    world.prompt = true;
    assert_eq!(bodies(&deliveries(&mut world.publish(to_queue("q", "2")))), ["0", "1", "2"]);
}

#[test]
fn a_get_waits_for_what_has_to_be_read() {
    let mut world = with_budget(2_000);
    fill(&mut world, 0, 100);
    let in_memory = world.broker.stats().body_bytes / 150;
    assert!(in_memory < 50);
    let got = world.got("q", 12, Hold::Lease { lease_ms: 1 });
    assert_eq!(got.messages.len(), 12, "more than was in memory");
    assert_eq!(text(&got.messages[11].message.body), "11");
}

#[test]
fn gets_that_wait_are_served_in_order() {
    let mut world = with_budget(0);
    fill(&mut world, 0, 3);
    world.prompt = false;
    for _ in 0..4 {
        assert!(world.try_ask(Some(1), Op::Get(get("q", 1, Hold::AutoAck))).is_none());
    }
    let mut order = Vec::new();
    while !world.fetches.is_empty() {
        for effect in world.answer() {
            if let crate::effect::Effect::Reply { req, result: Ok(crate::effect::Reply::Got(got)) } = effect {
                order.push((req.0, got.messages.first().map(|m| text(&m.message.body))));
            }
        }
    }
    let first = order[0].0;
    let expected: Vec<_> = (0..4).map(|n| (first + n, (n < 3).then(|| n.to_string()))).collect();
    assert_eq!(order, expected);
}

#[test]
fn one_body_in_many_queues_is_charged_once() {
    let mut world = with_budget(1 << 20);
    for n in 0..10 {
        let name = format!("fan{n}");
        world.declare(&name);
        world.ok(Op::Bind(super::world::binding("amq.fanout", &name, "")));
    }
    let body = "b".repeat(10_000);
    world.publish(super::world::message("amq.fanout", "", &body));
    let held = world.broker.stats().body_bytes;
    assert!((10_000..10_100 + 11 * MESSAGE_OVERHEAD_BYTES).contains(&held), "{held}");
    for n in 0..10 {
        assert!(world.broker.stats().body_bytes >= 10_000);
        world.drain(&format!("fan{n}"));
    }
    assert_eq!(world.broker.stats().body_bytes, 0);
}
