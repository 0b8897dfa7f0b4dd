//! Strict channels: SEMANTICS 1. The first refusal ends one, and nothing that was sent behind it counts.

use super::world::{World, confirms, consumer, deliveries, get, message, queue, settlement, to_queue};
use crate::effect::{Cause, Effect, Reply};
use crate::ids::{ChanId, ConnId, ReqId};
use crate::input::{Consume, DeclareQueue, Hold, Input, Op, Settle};
use crate::refusal::RefusalKind::{self, NotFound, PreconditionFailed};

const CHAN: ChanId = ChanId(5);

/// Queue q with messages, and the strict channel 5.
fn with(messages: &[&str]) -> World {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", messages);
    world.open_strict(CHAN.0);
    world
}

/// A get that waits for a read, made on the channel.
fn with_pending_get(hold: Hold) -> (World, ReqId) {
    let settings = crate::Settings { memory_budget_bytes: 0, ..super::world::SETTINGS };
    let mut world = World::with(settings);
    world.open(1, 1);
    world.declare("q");
    world.fill("q", &["a", "b"]);
    world.open_strict(CHAN.0);
    world.prompt = false;
    let input = world.request_on(CHAN.0, Op::Get(get("q", 1, hold)));
    let Input::Request { req, .. } = input else { unreachable!() };
    let effects = world.send(input);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Reply { .. })), "a read is under way");
    (world, req)
}

fn failures(effects: &[Effect]) -> Vec<(Cause, RefusalKind)> {
    let failed = effects.iter().filter_map(|e| match e {
        Effect::ChannelFailed { chan: CHAN, cause, refusal } => Some((*cause, refusal.kind)),
        _ => None,
    });
    failed.collect()
}

fn dropped(effects: &[Effect]) -> Vec<ReqId> {
    let dropped = effects.iter().filter_map(|e| match e {
        Effect::Dropped { req } => Some(*req),
        _ => None,
    });
    dropped.collect()
}

fn refusals(effects: &[Effect]) -> Vec<(ReqId, RefusalKind)> {
    let refused = effects.iter().filter_map(|e| match e {
        Effect::Reply { req, result: Err(refusal) } => Some((*req, refusal.kind)),
        _ => None,
    });
    refused.collect()
}

fn is_dead(world: &mut World) {
    let input = world.request_on(CHAN.0, Op::DeclareQueue(queue("never")));
    let publish = world.publish_input(CHAN.0, to_queue("q", "never"));
    let settle = settlement(CHAN.0, 0, true, Settle::Ack);
    let effects = world.turn(vec![publish, settle, input]);
    assert!(matches!(effects[..], [Effect::Dropped { .. }]), "{effects:?}");
    assert_eq!(world.broker.failed_channels.get(&CHAN), Some(&ConnId(1)));
}

#[test]
fn ten_publishes_behind_a_bad_one_are_not_accepted() {
    let mut world = with(&["a", "b"]);
    let consume = Consume { prefetch_messages: 1, ..consumer(CHAN.0, "q", "c") };
    assert_eq!(world.consume_with(consume).len(), 1);
    let mut inputs = vec![world.publish_input(CHAN.0, to_queue("q", "before"))];
    inputs.push(world.publish_input(CHAN.0, message("missing", "k", "bad")));
    inputs.extend((0..10).map(|n| world.publish_input(CHAN.0, to_queue("q", &format!("behind {n}")))));
    inputs.push(settlement(CHAN.0, 1, false, Settle::Ack));
    inputs.push(world.request_on(CHAN.0, Op::DeclareQueue(queue("never"))));
    let effects = world.turn(inputs);
    assert_eq!(failures(&effects), [(Cause::Publish { tag: 2 }, NotFound)]);
    assert_eq!(dropped(&effects).len(), 1);
    assert!(confirms(&effects, CHAN.0).is_empty(), "nothing is heard of it any more");
    assert_eq!(world.drain("q"), ["a", "b", "before"], "what was out is back, unsettled");
    assert_eq!(world.queue_names(), ["q"]);
    is_dead(&mut world);
}

#[test]
fn an_unknown_delivery_tag_is_a_failure() {
    for (tag, multiple) in [(9, false), (9, true), (0, false)] {
        let mut world = with(&["a", "b"]);
        world.consume_with(Consume { prefetch_messages: 1, ..consumer(CHAN.0, "q", "c") });
        let input = settlement(CHAN.0, tag, multiple, Settle::Requeue);
        let mut effects = world.turn(vec![input, settlement(CHAN.0, 1, false, Settle::Ack)]);
        assert!(deliveries(&mut effects).is_empty());
        let [Effect::ChannelFailed { refusal, .. }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(
            (refusal.kind, &*refusal.text),
            (PreconditionFailed, &*format!("unknown delivery tag {tag}"))
        );
        assert_eq!(failures(&effects), [(Cause::Settle { how: Settle::Requeue, tag }, PreconditionFailed)]);
        assert_eq!(world.drain("q"), ["a", "b"], "tag {tag}, multiple {multiple}");
        is_dead(&mut world);
    }
}

#[test]
fn a_refused_request_is_a_failure_and_its_answer_the_last_word() {
    let ops: [fn() -> Op; 4] = [
        || Op::DeclareQueue(DeclareQueue { durable: false, ..queue("q") }),
        || Op::Consume(consumer(CHAN.0, "missing", "c")),
        || Op::Get(get("missing", 1, Hold::AutoAck)),
        || Op::Unbind(super::world::binding("", "q", "q")),
    ];
    for op in ops {
        let mut world = with(&["a"]);
        assert_eq!(world.consume(CHAN.0, "q", "c").len(), 1);
        let bad = world.request_on(CHAN.0, op());
        let Input::Request { req, .. } = bad else { unreachable!() };
        let behind = world.publish_input(CHAN.0, to_queue("q", "never"));
        let effects = world.turn(vec![bad, behind]);
        assert_eq!(refusals(&effects).iter().map(|(req, _)| *req).collect::<Vec<_>>(), [req]);
        assert!(failures(&effects).is_empty(), "a reply says it");
        assert_eq!(world.drain("q"), ["a"]);
        is_dead(&mut world);
    }
}

#[test]
fn a_wrong_vhost_is_a_failure() {
    let mut world = with(&[]);
    let mut input = world.request_on(CHAN.0, Op::DeclareQueue(queue("x")));
    if let Input::Request { vhost, .. } = &mut input {
        *vhost = "other".into();
    }
    assert_eq!(refusals(&world.send(input)).len(), 1);
    is_dead(&mut world);
}

#[test]
fn a_failure_while_a_get_waits_drops_the_get_and_keeps_the_message() {
    for hold in [Hold::AutoAck, Hold::Channel(CHAN)] {
        let (mut world, req) = with_pending_get(hold);
        let effects = world.send(settlement(CHAN.0, 9, false, Settle::Ack));
        assert_eq!((failures(&effects).len(), dropped(&effects)), (1, vec![req]));
        world.prompt = true;
        let effects = world.answer();
        assert!(!effects.iter().any(|e| matches!(e, Effect::Reply { .. })), "{effects:?}");
        assert_eq!(world.drain("q"), ["a", "b"], "nobody took it");
        is_dead(&mut world);
    }
}

#[test]
fn a_channel_that_closes_while_a_get_waits_takes_it_along() {
    for end in [Input::ChannelClosed { chan: CHAN }, Input::ConnectionClosed { conn: ConnId(1) }] {
        let (mut world, req) = with_pending_get(Hold::AutoAck);
        let other = world.request(None, Op::Get(get("q", 1, Hold::AutoAck)));
        world.send(other);
        assert_eq!(dropped(&world.send(end)), [req]);
        let effects = world.answer();
        assert!(
            effects.iter().any(
                |e| matches!(e, Effect::Reply { result: Ok(Reply::Got(got)), .. } if got.messages.len() == 1)
            ),
            "the one behind it has its turn: {effects:?}"
        );
    }
}

#[test]
fn a_get_that_is_refused_while_it_waits_fails_its_channel() {
    for stop in [true, false] {
        let (mut world, req) = with_pending_get(Hold::AutoAck);
        let second = world.request_on(CHAN.0, Op::Get(get("q", 1, Hold::AutoAck)));
        let Input::Request { req: second_req, .. } = second else { unreachable!() };
        world.send(second);
        let op = Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false };
        let input = if stop { Input::StopDeliveries } else { world.request(Some(1), op) };
        let effects = world.send(input);
        let kind = if stop { RefusalKind::ShuttingDown } else { NotFound };
        assert_eq!((refusals(&effects), dropped(&effects)), (vec![(req, kind)], vec![second_req]));
        is_dead(&mut world);
    }
}

/// Guards against a queue that is removed once more while its removal makes the channel of its last consumer fail.
#[test]
fn a_deleted_queue_may_take_its_last_consumers_channel_along() {
    let mut world = World::with(crate::Settings { memory_budget_bytes: 0, ..super::world::SETTINGS });
    world.open(1, 1);
    world.ok(Op::DeclareQueue(DeclareQueue { auto_delete: true, ..queue("a") }));
    world.fill("a", &["1", "2", "3"]);
    world.open_strict(CHAN.0);
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(CHAN.0, "a", "c") });
    world.prompt = false;
    let input = world.request_on(CHAN.0, Op::Get(get("a", 3, Hold::Channel(CHAN))));
    assert!(!world.send(input).iter().any(|e| matches!(e, Effect::Reply { .. })), "a read is under way");
    let op = Op::DeleteQueue { name: "a".into(), if_unused: false, if_empty: false };
    let input = world.request(Some(1), op);
    let effects = world.send(input);
    assert_eq!(refusals(&effects).len(), 1);
    world.prompt = true;
    world.confirm();
    assert!(world.queue_names().is_empty() && world.store.facts.is_empty() && world.store.queues.is_empty());
    assert_eq!(world.broker.stats().body_bytes, 0);
    is_dead(&mut world);
}

#[test]
fn a_failed_channel_can_be_closed_and_its_connection_too() {
    for op in [Op::CloseChannel { chan: CHAN }, Op::CloseConnection] {
        let mut world = with(&["a"]);
        world.consume(CHAN.0, "q", "c");
        world.send(settlement(CHAN.0, 9, false, Settle::Ack));
        assert!(matches!(world.ask_on(CHAN.0, op), Ok(Reply::Done)));
        assert!(world.broker.failed_channels.is_empty());
    }
    let mut world = with(&[]);
    world.send(settlement(CHAN.0, 9, false, Settle::Ack));
    world.send(Input::ConnectionClosed { conn: ConnId(1) });
    assert!(world.broker.failed_channels.is_empty(), "the end of the connection forgets it");
}

#[test]
fn the_answer_to_a_close_says_that_all_is_done() {
    let mut world = with(&["a", "b"]);
    world.open(2, 2);
    world.ok(Op::DeclareQueue(DeclareQueue { exclusive: true, ..queue("mine") }));
    world.consume(CHAN.0, "q", "c");
    assert!(matches!(world.ask_on(CHAN.0, Op::CloseChannel { chan: CHAN }), Ok(Reply::Done)));
    assert_eq!(world.counts("q"), (2, 0), "what was out is requeued");
    world.open_strict(6);
    world.consume(6, "q", "c");
    let close = world.request(Some(1), Op::CloseConnection);
    let declare = world.request(Some(2), Op::DeclareQueue(DeclareQueue { exclusive: true, ..queue("mine") }));
    let effects = world.turn(vec![close, declare]);
    let done = effects.iter().filter(|e| matches!(e, Effect::Reply { result: Ok(_), .. })).count();
    assert_eq!(done, 2, "whoever comes back at once does not meet its old queue: {effects:?}");
    assert_eq!(world.counts("q"), (2, 0));
    assert_eq!(world.broker.connections.len(), 1);
}

#[test]
fn recover_brings_everything_on_the_channel_back() {
    let mut world = with(&["a", "b", "c"]);
    world.consume_with(Consume { prefetch_messages: 2, ..consumer(CHAN.0, "q", "c") });
    let input = world.request_on(CHAN.0, Op::Recover { chan: CHAN });
    let mut effects = world.send(input);
    let again: Vec<_> = deliveries(&mut effects).iter().map(|d| (d.delivery_tag, d.redelivered)).collect();
    assert_eq!(again, [(3, true), (4, true)], "under new tags, in their order");
    assert!(matches!(effects[..], [Effect::Reply { result: Ok(Reply::Done), .. }]));
    let effects = world.send(settlement(CHAN.0, 1, false, Settle::Ack));
    assert_eq!(failures(&effects).len(), 1, "the old tags are gone");
}
