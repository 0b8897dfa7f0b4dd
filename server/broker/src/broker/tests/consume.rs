//! Consumers, dispatch and prefetch: SEMANTICS 5.

use std::sync::Arc;

use super::world::{
    World, bodies, channel_opened, consumer, deliveries, queue, settlement, shares, to_queue, transient,
};
use crate::effect::{ConsumerRow, Effect, Reply};
use crate::ids::ChanId;
use crate::input::{Consume, DeclareQueue, Input, Op, Settle};
use crate::message::MESSAGE_OVERHEAD_BYTES;
use crate::refusal::RefusalKind::{AccessRefused, NotAllowed, NotFound};

fn cancel(chan: u64, tag: &str) -> Op {
    Op::Cancel { chan: ChanId(chan), consumer_tag: Arc::from(tag) }
}

fn prefetch(chan: u64, tag: &str, messages: u32) -> Consume {
    Consume { prefetch_messages: messages, ..consumer(chan, "q", tag) }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

/// Publishes in one turn and says who got what.
fn deal(world: &mut World, messages: &[&str]) -> Vec<(String, String)> {
    let inputs = messages.iter().map(|m| world.publish_input(1, to_queue("q", m))).collect();
    shares(&deliveries(&mut world.turn(inputs)))
}

fn rows(world: &mut World) -> Vec<ConsumerRow> {
    match world.ok(Op::ListConsumers) {
        Reply::Consumers(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn with_queue() -> World {
    let mut world = World::ready();
    world.declare("q");
    world
}

#[test]
fn the_answer_comes_before_the_first_delivery() {
    let mut world = with_queue();
    world.fill("q", &["a", "b"]);
    let input = world.request(Some(1), Op::Consume(consumer(1, "q", "")));
    let effects = world.send(input);
    let [
        Effect::Reply { result: Ok(Reply::Consuming { consumer_tag, .. }), .. },
        Effect::Deliver(first),
        Effect::Deliver(second),
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert!(consumer_tag.starts_with("amq.ctag-"));
    assert_eq!(consumer_tag, &first.consumer_tag);
    assert_eq!((first.delivery_tag, second.delivery_tag), (1, 2));
    assert_eq!((first.redelivered, first.attempt, first.ack_id.seq.0), (false, 1, 1));
}

#[test]
fn consumers_that_cannot_be() {
    let mut world = with_queue();
    world.refused_with(Op::Consume(consumer(1, "x", "c")), NotFound, "no queue 'x' in vhost '/'");
    world.refused_with(Op::Consume(consumer(9, "q", "c")), NotFound, "channel 9 is not open");
    world.consume(1, "q", "c");
    world.refused_with(Op::Consume(consumer(1, "q", "c")), NotAllowed, "attempt to reuse consumer tag 'c'");
    let text = "queue 'q' in vhost '/' in exclusive use";
    let alone = Consume { exclusive: true, ..consumer(1, "q", "alone") };
    world.refused_with(Op::Consume(alone.clone()), AccessRefused, text);
    world.ok(cancel(1, "c"));
    world.ok(Op::Consume(alone));
    world.refused_with(Op::Consume(consumer(1, "q", "d")), AccessRefused, text);
    world.ok(cancel(1, "alone"));
    world.ok(cancel(1, "alone"));
    world.ok(cancel(9, "any"));
    world.ok(Op::Consume(consumer(1, "q", "d")));
}

#[test]
fn consumers_take_turns() {
    let mut world = with_queue();
    for tag in ["a", "b", "c"] {
        world.consume(1, "q", tag);
    }
    assert_eq!(
        deal(&mut world, &["1", "2", "3", "4"]),
        pairs(&[("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")])
    );
    assert_eq!(deal(&mut world, &["5"]), pairs(&[("b", "5")]), "over turns, too");
}

#[test]
fn higher_priorities_first_as_long_as_they_can() {
    let mut world = with_queue();
    world.consume_with(Consume { priority: -1, ..consumer(1, "q", "low") });
    world.consume_with(Consume { priority: 10, ..prefetch(1, "high", 2) });
    world.consume_with(consumer(1, "q", "middle"));
    let expected = [("high", "1"), ("high", "2"), ("middle", "3"), ("middle", "4")];
    assert_eq!(deal(&mut world, &["1", "2", "3", "4"]), pairs(&expected));
    world.ack(1, 1);
    assert_eq!(deal(&mut world, &["5", "6"]), pairs(&[("high", "5"), ("middle", "6")]));
}

#[test]
fn prefetch_counts_what_is_out_per_consumer() {
    let mut world = with_queue();
    world.consume_with(prefetch(1, "one", 1));
    world.consume_with(prefetch(1, "two", 2));
    let dealt = deal(&mut world, &["1", "2", "3", "4", "5"]);
    assert_eq!(dealt, pairs(&[("one", "1"), ("two", "2"), ("two", "3")]));
    assert_eq!(world.counts("q"), (2, 3));
    let dealt = shares(&deliveries(&mut world.ack(1, 1)));
    assert_eq!(dealt, pairs(&[("one", "4")]));
    let dealt = shares(&deliveries(&mut world.ack(1, 99)));
    assert!(dealt.is_empty());
    assert_eq!(world.broker.consumers.values().map(|c| c.out_messages).sum::<u64>(), 3);
    let active: Vec<bool> = rows(&mut world).iter().map(|r| r.active).collect();
    assert_eq!(active, [false, false]);
}

#[test]
fn prefetch_in_bytes_may_be_overdrawn_by_one() {
    let mut world = with_queue();
    world.consume_with(Consume { prefetch_bytes: 400, ..consumer(1, "q", "c") });
    let dealt = deal(&mut world, &["a", "b", "c"]);
    assert_eq!(dealt.len(), 2, "the second message overdraws it");
    assert_eq!(deliveries(&mut world.ack(1, 1)).len(), 1);
}

#[test]
fn a_channels_prefetch_is_shared() {
    let mut world = with_queue();
    world.declare("other");
    world.ok(Op::ChannelPrefetch { chan: ChanId(1), messages: 2 });
    world.consume_with(prefetch(1, "a", 1));
    world.consume_with(prefetch(1, "b", 5));
    world.consume(1, "other", "c");
    assert_eq!(deal(&mut world, &["1", "2", "3"]), pairs(&[("a", "1"), ("b", "2")]));
    world.fill("other", &["x"]);
    assert_eq!(world.counts("other"), (1, 0));
    let dealt = deliveries(&mut world.ack(1, 2));
    assert_eq!(dealt.len(), 1, "one place is free for all three");
    let input = world.request(Some(1), Op::ChannelPrefetch { chan: ChanId(1), messages: 0 });
    let dealt = deliveries(&mut world.send(input));
    assert_eq!(dealt.len(), 1, "and now for everyone");
    assert_eq!((world.counts("q").0, world.counts("other").0), (0, 0));
    world.refused_with(
        Op::ChannelPrefetch { chan: ChanId(9), messages: 1 },
        NotFound,
        "channel 9 is not open",
    );
}

#[test]
fn auto_ack_settles_as_it_leaves() {
    let mut world = with_queue();
    world.ok(Op::ChannelPrefetch { chan: ChanId(1), messages: 1 });
    world.consume_with(Consume { auto_ack: true, ..prefetch(1, "c", 1) });
    assert_eq!(deal(&mut world, &["1", "2", "3"]).len(), 3, "no prefetch counts");
    assert_eq!(world.counts("q"), (0, 0));
    assert!(world.stored("q").is_empty());
    let notices = super::world::settled(&world.ack(1, 1), 1);
    assert_eq!(notices, [(1, vec![(1, 1)])], "it is not out");
}

#[test]
fn credit_stops_a_channel_that_does_not_read() {
    let mut world = with_queue();
    // A message costs two bytes more than the overhead: its body and the name of its queue.
    let credit = 2 * (MESSAGE_OVERHEAD_BYTES + 2) - 56;
    world.send(channel_opened(1, 2, credit));
    world.consume(2, "q", "slow");
    world.consume_with(Consume { auto_ack: true, ..consumer(2, "q", "slow auto") });
    assert_eq!(deal(&mut world, &["1", "2", "3"]).len(), 2, "the second overdraws the credit");
    world.consume(1, "q", "quick");
    assert_eq!(deal(&mut world, &["4"]), pairs(&[("quick", "4")]));
    world.ok(cancel(1, "quick"));
    assert!(deal(&mut world, &["5"]).is_empty());
    let writable = |bytes| Input::Writable { chan: ChanId(2), bytes };
    assert!(deliveries(&mut world.send(writable(10))).is_empty(), "still overdrawn");
    assert_eq!(bodies(&deliveries(&mut world.send(writable(60)))), ["5"]);
    assert_eq!(world.counts("q").0, 0);
}

#[test]
fn a_thousand_blocked_consumers_cost_nothing() {
    let mut world = with_queue();
    for n in 0..1_000 {
        world.consume_with(prefetch(1, &format!("c{n}"), 1));
    }
    let first: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    assert_eq!(deal(&mut world, &first).len(), 1_000);
    assert!(deal(&mut world, &["blocked"]).is_empty());
    let queue = world.broker.queues.values().next().expect("one queue");
    assert!(!queue.rings.any(), "nobody is looked at again");
    let dealt = shares(&deliveries(&mut world.ack(1, 500)));
    assert_eq!(dealt, pairs(&[("c499", "blocked")]));
}

#[test]
fn cancel_leaves_out_what_is_out() {
    let mut world = with_queue();
    world.fill("q", &["a", "b"]);
    world.consume_with(prefetch(1, "c", 1));
    world.ok(cancel(1, "c"));
    assert_eq!(world.counts("q"), (1, 1));
    assert!(deal(&mut world, &["c"]).is_empty());
    world.settle(1, 1, false, Settle::Requeue);
    assert_eq!(world.drain("q"), ["a", "b", "c"]);
    world.consume(1, "q", "c");
}

#[test]
fn listings_show_consumers() {
    let mut world = with_queue();
    world.consume_with(Consume { exclusive: true, priority: 3, ..prefetch(1, "c", 7) });
    deal(&mut world, &["1", "2"]);
    let row = &rows(&mut world)[0];
    assert_eq!((&*row.queue, row.chan, &*row.consumer_tag), ("q", ChanId(1), "c"));
    assert_eq!((row.ack_required, row.prefetch_messages, row.unacknowledged), (true, 7, 2));
    assert_eq!((row.exclusive, row.priority, row.active), (true, 3, true));
}

#[test]
fn a_requeued_message_may_come_straight_back() {
    let mut world = with_queue();
    world.fill("q", &["a", "b"]);
    world.consume_with(prefetch(1, "c", 1));
    let again = deliveries(&mut world.settle(1, 1, false, Settle::Requeue));
    assert_eq!(bodies(&again), ["a"]);
    assert_eq!((again[0].redelivered, again[0].attempt, again[0].delivery_tag), (true, 2, 2));
}

#[test]
fn no_deliveries_once_stopping() {
    let mut world = with_queue();
    world.consume_with(prefetch(1, "c", 1));
    deal(&mut world, &["1", "2"]);
    world.send(Input::StopDeliveries);
    assert!(deliveries(&mut world.ack(1, 1)).is_empty());
    assert!(deal(&mut world, &["3"]).is_empty());
    assert_eq!(world.stored("q"), ["2", "3"], "publishes and acks go on");
    world.declare("new");
    let refusal = world.refused(Op::Get(super::world::get("q", 1, crate::input::Hold::AutoAck)));
    assert_eq!(refusal.kind, crate::refusal::RefusalKind::ShuttingDown);
}

#[test]
fn a_transient_queue_serves_like_any_other() {
    let mut world = World::ready();
    world.ok(Op::DeclareQueue(DeclareQueue { durable: false, ..queue("q") }));
    world.consume(1, "q", "c");
    assert_eq!(deal(&mut world, &["1"]).len(), 1);
    world.publish(transient("q", "2"));
    let effects = world.turn(vec![settlement(1, 2, true, Settle::Ack)]);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Append { .. })));
    assert_eq!(world.counts("q"), (0, 0));
    assert_eq!(world.broker.stats().body_bytes, 0);
}

#[test]
fn a_deleted_queue_does_not_disturb_the_channels_other_consumers() {
    let mut world = with_queue();
    world.declare("gone");
    world.consume_with(prefetch(1, "stays", 1));
    world.consume_with(Consume { queue: "gone".into(), ..prefetch(1, "goes", 1) });
    deal(&mut world, &["1", "2"]);
    world.fill("gone", &["x", "y"]);
    world.ok(Op::DeleteQueue { name: "gone".into(), if_unused: false, if_empty: false });
    assert_eq!(rows(&mut world).len(), 1);
    let dealt = shares(&deliveries(&mut world.settle(1, 0, true, Settle::Requeue)));
    assert_eq!(dealt, pairs(&[("stays", "1")]));
    world.declare("gone");
    world.consume_with(Consume { queue: "gone".into(), ..prefetch(1, "goes", 1) });
    assert_eq!(world.counts("gone"), (0, 0));
}
