//! Settlements by tag and by id: SEMANTICS 5, E9.

use super::world::{World, bodies, channel_opened, consumer, deliveries, to_queue, transient};
use crate::effect::Effect;
use crate::ids::{AckId, ChanId, Epoch, QueueId, Seq};
use crate::input::{Consume, Hold, Input, Op, Settle};
use crate::refusal::RefusalKind::AckIdStale;

fn with(messages: &[&str]) -> World {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", messages);
    world
}

#[test]
fn returned_messages_go_to_their_old_places() {
    let mut world = with(&["a", "b", "c", "d", "e"]);
    world.consume_with(Consume { prefetch_messages: 4, ..consumer(1, "q", "c") });
    world.ok(Op::Cancel { chan: ChanId(1), consumer_tag: "c".into() });
    world.settle(1, 3, false, Settle::Requeue);
    world.settle(1, 1, false, Settle::Requeue);
    world.fill("q", &["f"]);
    assert_eq!(world.counts("q"), (4, 2));
    world.settle(1, 0, true, Settle::Requeue);
    let delivered = world.consume(1, "q", "d");
    assert_eq!(bodies(&delivered), ["a", "b", "c", "d", "e", "f"]);
    let redelivered: Vec<bool> = delivered.iter().map(|d| d.redelivered).collect();
    assert_eq!(redelivered, [true, true, true, true, false, false]);
}

#[test]
fn multiple_takes_all_up_to_the_tag() {
    let mut world = with(&["a", "b", "c", "d"]);
    world.consume(1, "q", "c");
    world.settle(1, 2, false, Settle::Drop);
    world.settle(1, 3, true, Settle::Ack);
    assert_eq!(world.stored("q"), ["d"]);
    world.settle(1, 3, true, Settle::Ack);
    assert_eq!(world.stored("q"), ["d"], "the tag itself must be out");
    world.settle(1, 0, true, Settle::Drop);
    assert!(world.stored("q").is_empty());
    let stats = world.broker.stats();
    assert_eq!((stats.acked, stats.body_bytes, stats.messages_unacknowledged), (4, 0, 0));
}

#[test]
fn an_id_settles_from_anywhere() {
    let mut world = with(&["a", "b", "c"]);
    let delivered = world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    let id = delivered[0].ack_id;
    let op = Op::SettleIds { ids: vec![id], how: Settle::Ack };
    let input = world.request(None, op);
    let mut effects = world.send(input);
    assert_eq!(bodies(&deliveries(&mut effects)), ["b"], "the channel's consumer has its place back");
    assert_eq!(world.stored("q"), ["b", "c"]);
    assert_eq!(super::world::settled(&world.ack(1, 1), 1), [(1, vec![(1, 1)])], "its tag is gone");
}

#[test]
fn ids_of_this_epoch() {
    let mut world = with(&["a", "b", "c"]);
    let held = world.leased("q", 2);
    let (first, second) = (held[0].ack_id, held[1].ack_id);
    let wrong = [
        AckId { attempt: 2, ..first },
        AckId { attempt: 0, ..first },
        AckId { seq: Seq(3), ..first },
        AckId { seq: Seq(4), ..first },
        AckId { seq: Seq(0), ..first },
        AckId { epoch: Epoch(first.epoch.0 + 1), ..first },
    ];
    assert_eq!(world.settle_ids(&wrong, Settle::Ack), [Err(AckIdStale); 6]);
    let unknown = AckId { queue: QueueId(99), ..first };
    assert_eq!(world.settle_ids(&[first, unknown, first], Settle::Ack), [Ok(()); 3]);
    assert_eq!(world.settle_ids(&[second], Settle::Requeue), [Ok(())]);
    assert_eq!(world.settle_ids(&[second], Settle::Requeue), [Err(AckIdStale)], "it is ready again");
    assert_eq!(world.drain("q"), ["b", "c"]);
    assert_eq!(world.settle_ids(&[second, first], Settle::Ack), [Ok(()), Ok(())]);
}

#[test]
fn ids_of_an_older_epoch() {
    let mut world = with(&["a", "b", "c"]);
    world.publish(transient("q", "t"));
    let held = world.leased("q", 4);
    let ids: Vec<AckId> = held.iter().map(|m| m.ack_id).collect();
    world.settle_ids(&ids[1..2], Settle::Ack);
    let mut world = world.crash();
    world.open(1, 1);
    let results = world.settle_ids(&ids, Settle::Ack);
    assert_eq!(
        results,
        [Err(AckIdStale), Ok(()), Err(AckIdStale), Ok(())],
        "live, acked, live, never durable"
    );
    world.publish(to_queue("q", "new in place 4"));
    assert_eq!(world.settle_ids(&ids[3..], Settle::Ack), [Ok(())]);
    let again = world.leased("q", 1);
    assert_eq!((again[0].redelivered, again[0].attempt), (true, 1));
    assert_eq!(world.settle_ids(&ids[..1], Settle::Ack), [Err(AckIdStale)], "out, under another id");
    world.settle_ids(&[again[0].ack_id], Settle::Requeue);
    assert_eq!(world.settle_ids(&ids[..1], Settle::Ack), [Err(AckIdStale)], "returned");
    assert_eq!(world.drain("q"), ["a", "c", "new in place 4"]);
    assert_eq!(world.settle_ids(&ids, Settle::Ack), [Ok(()); 4]);
}

#[test]
fn an_answer_waits_for_the_acks_it_speaks_of() {
    let mut world = with(&["a"]);
    let held = world.leased("q", 1);
    world.prompt = false;
    let op = || Op::SettleIds { ids: vec![held[0].ack_id], how: Settle::Ack };
    assert!(world.try_ask(None, op()).is_none());
    assert!(world.try_ask(None, op()).is_none(), "already gone, but not yet for good");
    let answered = world.confirm().iter().filter(|e| matches!(e, Effect::Reply { .. })).count();
    assert_eq!(answered, 2);
}

#[test]
fn the_same_id_twice_in_one_turn() {
    let mut world = with(&["a"]);
    let held = world.leased("q", 1);
    world.prompt = false;
    let op = || Op::SettleIds { ids: vec![held[0].ack_id], how: Settle::Ack };
    let inputs = vec![world.request(None, op()), world.request(None, op())];
    let effects = world.turn(inputs);
    let appends = effects.iter().filter(|e| matches!(e, Effect::Append { .. })).count();
    assert_eq!((appends, effects.len()), (1, 1));
    assert_eq!(world.confirm().len(), 2);
}

#[test]
fn transient_messages_settle_without_the_log() {
    let mut world = with(&[]);
    for body in ["a", "b"] {
        world.publish(transient("q", body));
    }
    let issued = world.store.issued;
    let held = world.leased("q", 1);
    assert_eq!(world.settle_ids(&[held[0].ack_id], Settle::Ack), [Ok(())]);
    let held = world.leased("q", 1);
    assert_eq!(world.settle_ids(&[held[0].ack_id], Settle::Requeue), [Ok(())]);
    assert_eq!(world.drain("q"), ["b"]);
    assert_eq!(world.store.issued, issued);
    let (stats, row) = (world.broker.stats(), world.row("q"));
    assert_eq!((stats.acked, stats.requeued, stats.delivered, stats.redelivered), (2, 1, 3, 1));
    assert_eq!((row.published, row.delivered, row.acked, row.redelivered), (2, 3, 2, 1));
}

#[test]
fn a_returned_message_goes_to_whoever_is_ready() {
    let mut world = with(&["a"]);
    world.send(channel_opened(1, 2, 1 << 30));
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "one") });
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(2, "q", "two") });
    let delivered = deliveries(&mut world.send(Input::ChannelClosed { chan: ChanId(1) }));
    assert_eq!(super::world::shares(&delivered), [("two".to_string(), "a".to_string())]);
    let got = world.got("q", 1, Hold::AutoAck);
    assert!(got.messages.is_empty());
}
