//! Gets: held by nobody, by a lease, by a channel.

use super::world::{World, channel_opened, get, replies, settled, text, to_queue};
use crate::effect::{Effect, Reply};
use crate::ids::ChanId;
use crate::input::{Get, Hold, Input, Op, Settle};
use crate::refusal::RefusalKind::{AckIdStale, NotFound, ShuttingDown};

fn with(messages: &[&str]) -> World {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", messages);
    world
}

fn bodies(world: &mut World, get: Get) -> (Vec<String>, u64) {
    match world.ok(Op::Get(get)) {
        Reply::Got(got) => (got.messages.iter().map(|m| text(&m.message.body)).collect(), got.messages_ready),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_get_takes_from_the_front() {
    let mut world = with(&["a", "b", "c", "d"]);
    let hold = Hold::Lease { lease_ms: 1_000 };
    assert_eq!(bodies(&mut world, get("q", 1, hold)), (vec!["a".to_string()], 3));
    assert_eq!(bodies(&mut world, get("q", 0, hold)).0, ["b"], "at least one is asked for");
    assert_eq!(bodies(&mut world, get("q", 9, hold)), (vec!["c".to_string(), "d".to_string()], 0));
    assert_eq!(bodies(&mut world, get("q", 1, hold)), (vec![], 0));
    world.refused_with(Op::Get(get("x", 1, hold)), NotFound, "no queue 'x' in vhost '/'");
    let text = "channel 9 is not open";
    world.refused_with(Op::Get(get("q", 1, Hold::Channel(ChanId(9)))), NotFound, text);
}

#[test]
fn bytes_bound_a_get_except_for_its_first_message() {
    let mut world = with(&["aaaa", "bb", "cc", "d"]);
    let bounded = |bytes_max| Get { bytes_max, ..get("q", 9, Hold::AutoAck) };
    assert_eq!(bodies(&mut world, bounded(1)).0, ["aaaa"]);
    assert_eq!(bodies(&mut world, bounded(4)).0, ["bb", "cc"]);
}

#[test]
fn auto_ack_is_for_good() {
    let mut world = with(&["a", "b"]);
    let got = world.got("q", 1, Hold::AutoAck);
    assert_eq!((got.messages[0].delivery_tag, got.messages_ready), (0, 1));
    assert_eq!(world.counts("q"), (1, 0));
    assert_eq!(world.stored("q"), ["b"]);
    assert_eq!(world.settle_ids(&[got.messages[0].ack_id], Settle::Ack), [Ok(())], "already gone");
}

#[test]
fn a_lease_ends_with_its_time() {
    let mut world = with(&["a", "b", "c"]);
    let held = world.leased("q", 2);
    world.settle_ids(&[held[1].ack_id], Settle::Ack);
    assert_eq!(world.broker.next_deadline_ms(), Some(2_000));
    world.tick(999);
    assert_eq!(world.counts("q"), (1, 1));
    world.tick(1);
    assert_eq!((world.counts("q"), world.broker.next_deadline_ms()), ((2, 0), None));
    assert_eq!(world.settle_ids(&[held[0].ack_id], Settle::Ack), [Err(AckIdStale)]);
    let again = world.leased("q", 2);
    assert_eq!(again.iter().map(|m| text(&m.message.body)).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!((again[0].redelivered, again[0].attempt), (true, 2));
    assert_eq!((again[1].redelivered, again[1].attempt), (false, 1));
    assert_eq!(world.settle_ids(&[held[0].ack_id], Settle::Ack), [Err(AckIdStale)]);
    assert_eq!(world.settle_ids(&[again[0].ack_id, again[0].ack_id], Settle::Ack), [Ok(()), Ok(())]);
    assert_eq!(world.settle_ids(&[held[0].ack_id], Settle::Ack), [Ok(())], "gone, whoever did it");
}

#[test]
fn a_clock_set_back_does_not_stretch_a_lease() {
    let mut world = with(&["a"]);
    world.leased("q", 1);
    world.send(Input::Tick { now_ms: 10 });
    world.send(Input::Tick { now_ms: 1_009 });
    assert_eq!(world.counts("q"), (0, 1));
    world.send(Input::Tick { now_ms: 1_010 });
    assert_eq!(world.counts("q"), (1, 0));
}

#[test]
fn a_lease_outlives_its_connection() {
    let mut world = with(&["a"]);
    world.leased("q", 1);
    world.send(Input::ConnectionClosed { conn: crate::ids::ConnId(1) });
    assert_eq!(world.broker.stats().messages_unacknowledged, 1);
}

#[test]
fn a_channel_holds_what_it_got() {
    let mut world = with(&["a", "b", "c"]);
    world.consume_with(crate::input::Consume { prefetch_messages: 1, ..super::world::consumer(1, "q", "c") });
    let got = world.got("q", 1, Hold::Channel(ChanId(1)));
    assert_eq!(got.messages[0].delivery_tag, 2, "tags are shared with deliveries");
    assert_eq!(world.counts("q"), (1, 2));
    assert_eq!(settled(&world.settle(1, 2, false, Settle::Requeue), 1), [(1, vec![])]);
    world.got("q", 2, Hold::Channel(ChanId(1)));
    world.send(channel_opened(1, 2, 1 << 30));
    world.send(Input::ChannelClosed { chan: ChanId(1) });
    assert_eq!(world.counts("q"), (3, 0));
    let delivered = world.consume(2, "q", "d");
    assert_eq!(super::world::bodies(&delivered), ["a", "b", "c"]);
    assert!(delivered.iter().all(|d| d.redelivered));
}

#[test]
fn gets_that_wait_are_answered_when_their_queue_ends() {
    for stop in [true, false] {
        let mut world = World::with(crate::Settings { memory_budget_bytes: 0, ..super::world::SETTINGS });
        world.open(1, 1);
        world.declare("q");
        world.fill("q", &["a"]);
        world.prompt = false;
        assert!(world.try_ask(Some(1), Op::Get(get("q", 1, Hold::AutoAck))).is_none(), "a read is under way");
        let waiting = crate::ids::ReqId(2);
        let input = match stop {
            true => Input::StopDeliveries,
            false => {
                let op = Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false };
                world.request(Some(1), op)
            }
        };
        let effects = world.send(input);
        let kind = if stop { ShuttingDown } else { NotFound };
        let answer = effects.into_iter().find_map(|e| match e {
            Effect::Reply { req, result } if req == waiting => Some(result.unwrap_err().kind),
            _ => None,
        });
        assert_eq!(answer, Some(kind));
        assert_eq!(world.fetches.len(), 1);
        world.answer();
        world.confirm();
    }
}

#[test]
fn a_purge_answers_the_gets_that_wait() {
    let mut world = World::with(crate::Settings { memory_budget_bytes: 0, ..super::world::SETTINGS });
    world.open(1, 1);
    world.declare("q");
    world.fill("q", &["a"]);
    world.prompt = false;
    world.try_ask(Some(1), Op::Get(get("q", 1, Hold::AutoAck)));
    let input = world.request(Some(1), Op::PurgeQueue { name: "q".into() });
    let effects = world.send(input);
    match replies(effects, 2) {
        Some(Ok(Reply::Got(got))) => assert!(got.messages.is_empty()),
        other => panic!("{other:?}"),
    }
    world.answer();
    assert_eq!(world.counts("q"), (0, 0));
}

#[test]
fn a_consumer_is_served_before_a_later_get() {
    let mut world = with(&[]);
    world.consume(1, "q", "c");
    let publish = world.publish_input(1, to_queue("q", "m"));
    let request = world.request(Some(1), Op::Get(get("q", 1, Hold::AutoAck)));
    let mut effects = world.turn(vec![publish, request]);
    assert_eq!(super::world::deliveries(&mut effects).len(), 1);
}

#[test]
fn what_a_channel_gets_and_nobody_holds_has_a_tag_too() {
    let mut world = with(&["a", "b", "c"]);
    world.open(1, 7);
    let tag = |world: &mut World, hold| world.got("q", 1, hold).messages[0].delivery_tag;
    let (on, held) = (Hold::AutoAckOn(ChanId(7)), Hold::Channel(ChanId(7)));
    assert_eq!(tag(&mut world, on), 1);
    assert_eq!(tag(&mut world, held), 2, "tags count on over both kinds");
    assert_eq!(tag(&mut world, Hold::AutoAck), 0, "of no channel");
    world.refused_with(Op::Get(get("q", 1, Hold::AutoAckOn(ChanId(9)))), NotFound, "channel 9 is not open");
}
