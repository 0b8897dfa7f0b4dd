//! Queues that may only get so long: SEMANTICS 6.

use super::world::{
    SETTINGS, World, binding, confirms, consumer, message, numbers_from, string, to_queue, transient,
};
use crate::Settings;
use crate::effect::{Effect, Outcome, Reply};
use crate::input::{Consume, Hold, Op, Settle};
use crate::refusal::RefusalKind::Overflow;
use crate::value::Value;

fn with(arguments: &[(&str, Value)]) -> World {
    let mut world = World::ready();
    world.declare_with("q", arguments);
    world
}

fn length(most: i32) -> (&'static str, Value) {
    ("x-max-length", Value::I32(most))
}

fn bytes(most: i32) -> (&'static str, Value) {
    ("x-max-length-bytes", Value::I32(most))
}

fn rejecting() -> (&'static str, Value) {
    ("x-overflow", string("reject-publish"))
}

/// The outcome of the newest publish on channel 1.
fn outcome(effects: &[Effect]) -> Option<Outcome> {
    let (upto, others) = confirms(effects, 1).pop().expect("a confirm");
    others.into_iter().find(|(tag, _)| *tag == upto).map(|(_, outcome)| outcome)
}

#[test]
fn the_oldest_message_gives_way() {
    let mut world = with(&[length(2)]);
    world.fill("q", &["a"]);
    world.publish(transient("q", "t"));
    world.fill("q", &["c", "d"]);
    assert_eq!((world.counts("q"), world.stored("q")), ((2, 0), vec!["c".into(), "d".into()]));
    assert_eq!(world.broker.stats().dropped, 2);
    assert_eq!(world.drain("q"), ["c", "d"]);
    assert_eq!(world.broker.stats().body_bytes, 0);
}

#[test]
fn only_ready_messages_count() {
    let mut world = with(&[length(1)]);
    world.fill("q", &["a"]);
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    world.fill("q", &["b"]);
    assert_eq!(world.counts("q"), (1, 1));
    world.ok(Op::Cancel { chan: crate::ChanId(1), consumer_tag: "c".into() });
    world.settle(1, 1, false, Settle::Requeue);
    assert_eq!(world.stored("q"), ["b"], "what comes back to a full queue is its oldest");
}

#[test]
fn bytes_are_those_of_bodies() {
    let mut world = with(&[bytes(10)]);
    world.fill("q", &["aaaa", "bbbb"]);
    assert_eq!(world.counts("q"), (2, 0));
    world.fill("q", &["cccc"]);
    assert_eq!(world.stored("q"), ["bbbb", "cccc"]);
    world.fill("q", &["dddddddddd"]);
    assert_eq!(world.stored("q"), ["dddddddddd"]);
    world.fill("q", &["eeeeeeeeeee"]);
    assert!(world.stored("q").is_empty(), "larger than the queue may be");
    world.fill("q", &["ffffffffff"]);
    let held = world.leased("q", 1);
    world.fill("q", &["gg"]);
    assert_eq!(world.counts("q"), (1, 1), "what is out does not count");
    world.settle_ids(&[held[0].ack_id], Settle::Requeue);
    assert_eq!(world.stored("q"), ["gg"]);
}

#[test]
fn the_bytes_are_known_after_a_start() {
    let mut world = with(&[bytes(100)]);
    let body = "b".repeat(30);
    world.fill("q", &[body.as_str(); 3]);
    let mut world = world.crash();
    world.open(1, 1);
    world.publish(to_queue("q", &"c".repeat(30)));
    assert_eq!(world.counts("q"), (3, 0), "those from before count");
    // Some leave while they are counted.
    let mut world = world.crash();
    world.prompt = false;
    world.tick(0);
    assert_eq!(world.fetches.len(), 1, "read through once");
    world.open(1, 1);
    let fetch = world.fetches.remove(0);
    let answer = world.store.answer(&fetch);
    world.prompt = true;
    let input = world.request(Some(1), Op::PurgeQueue { name: "q".into() });
    world.send(input);
    world.send(crate::Input::Fetched(answer));
    world.fill("q", &[body.as_str(); 3]);
    assert_eq!(world.counts("q"), (3, 0), "what was purged does not count");
}

#[test]
fn messages_that_leave_while_they_are_counted() {
    let mut world = with(&[bytes(60)]);
    world.fill("q", &["a".repeat(30).as_str(), "b".repeat(30).as_str()]);
    let mut world = world.crash();
    world.prompt = false;
    world.tick(0);
    world.open(1, 1);
    assert_eq!(world.fetches.len(), 1);
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    world.answer();
    assert_eq!(world.fetches.len(), 1, "one read at a time");
    world.answer();
    assert_eq!(world.counts("q"), (1, 1));
    world.prompt = true;
    world.fill("q", &["c".repeat(30).as_str()]);
    assert_eq!(world.counts("q"), (2, 1));
    world.fill("q", &["d"]);
    assert_eq!(world.counts("q"), (2, 1));
    world.ack(1, 1);
    assert_eq!(world.counts("q"), (1, 1));
}

#[test]
fn a_cold_head_is_dropped_unread() {
    let mut world = World::with(Settings { memory_budget_bytes: 0, ..SETTINGS });
    world.open(1, 1);
    world.declare_with("q", &[length(10)]);
    world.prompt = false;
    for body in numbers_from(0, 100) {
        world.publish(to_queue("q", &body));
    }
    assert!(world.fetches.is_empty());
    world.prompt = true;
    assert_eq!((world.counts("q"), world.stored("q")), ((10, 0), numbers_from(90, 100)));
    let held = world.leased("q", 2);
    let ids: Vec<_> = held.iter().map(|m| m.ack_id).collect();
    for body in ["100", "101"] {
        world.publish(to_queue("q", body));
    }
    world.settle_ids(&ids, Settle::Requeue);
    assert_eq!(world.drain("q"), numbers_from(92, 102), "returned ones are the oldest");
}

#[test]
fn a_cold_head_that_a_read_is_bringing_is_dropped_too() {
    let mut world = World::with(Settings { memory_budget_bytes: 0, ..SETTINGS });
    world.open(1, 1);
    world.declare_with("q", &[length(3)]);
    for body in ["a", "b", "c"] {
        world.publish(to_queue("q", body));
    }
    world.prompt = false;
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    assert_eq!(world.fetches.len(), 1);
    for body in ["d", "e", "f", "g"] {
        world.publish(to_queue("q", body));
    }
    world.prompt = true;
    let delivered = super::world::deliveries(&mut world.answer());
    assert_eq!(super::world::bodies(&delivered), ["e"]);
    assert_eq!(world.drain("q"), ["f", "g"]);
}

#[test]
fn a_full_queue_refuses_and_the_others_keep_it() {
    let mut world = with(&[length(1), rejecting()]);
    world.declare("other");
    for name in ["q", "other"] {
        world.ok(Op::Bind(binding("amq.fanout", name, "")));
    }
    world.publish(message("amq.fanout", "", "a"));
    let effects = world.publish(message("amq.fanout", "", "b"));
    assert_eq!(outcome(&effects), Some(Outcome::Rejected(Overflow)));
    assert_eq!((world.stored("q"), world.stored("other").len()), (vec!["a".to_string()], 2));
    assert_eq!(world.broker.stats().rejected, 1);
    let batch = vec![to_queue("q", "c"), to_queue("other", "c")];
    let Reply::Published(results) = world.ok(Op::Publish(batch)) else { panic!("published") };
    let refusal = results[0].1.as_ref().expect("a reason");
    assert_eq!(refusal.text, "queue 'q' in vhost '/' is full and takes no more messages");
    assert_eq!((results[0].0, results[1].0), (Outcome::Rejected(Overflow), Outcome::Routed { queues: 1 }));
    world.drain("q");
    assert_eq!(outcome(&world.publish(to_queue("q", "d"))), None);
}

#[test]
fn what_a_consumer_takes_at_once_does_not_fill_a_queue() {
    let mut world = with(&[length(1), rejecting()]);
    world.consume_with(Consume { prefetch_messages: 3, ..consumer(1, "q", "c") });
    let inputs: Vec<_> =
        ["a", "b", "c", "d", "e"].map(|body| world.publish_input(1, to_queue("q", body))).into();
    let effects = world.turn(inputs);
    let refused: Vec<_> = confirms(&effects, 1).into_iter().flat_map(|(_, others)| others).collect();
    assert_eq!(refused, [(5, Outcome::Rejected(Overflow))]);
    assert_eq!(world.counts("q"), (1, 3));
}

#[test]
fn a_queue_that_refuses_by_bytes() {
    let mut world = with(&[bytes(5), rejecting()]);
    assert_eq!(outcome(&world.publish(to_queue("q", "aaaaaa"))), Some(Outcome::Rejected(Overflow)));
    assert_eq!(outcome(&world.publish(to_queue("q", "aaa"))), None);
    assert_eq!(outcome(&world.publish(to_queue("q", "bbb"))), Some(Outcome::Rejected(Overflow)));
    assert_eq!(outcome(&world.publish(to_queue("q", "bb"))), None);
    let held = world.leased("q", 2);
    world.fill("q", &["ccccc"]);
    world.settle_ids(&held.iter().map(|m| m.ack_id).collect::<Vec<_>>(), Settle::Requeue);
    assert_eq!(world.counts("q"), (3, 0), "nothing that it has taken is dropped");
    assert_eq!(world.got("q", 9, Hold::AutoAck).messages.len(), 3);
}

#[test]
fn a_refused_message_is_dead_lettered_where_the_queue_says_so() {
    let mut world = World::ready();
    world.declare("dead");
    let arguments = [
        length(1),
        ("x-overflow", string("reject-publish-dlx")),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    world.declare_with("q", &arguments);
    assert_eq!(outcome(&world.publish(to_queue("q", "a"))), None);
    assert_eq!(outcome(&world.publish(to_queue("q", "b"))), Some(Outcome::Rejected(Overflow)));
    assert_eq!((world.stored("q"), world.stored("dead")), (vec!["a".into()], vec!["b".into()]));
}
