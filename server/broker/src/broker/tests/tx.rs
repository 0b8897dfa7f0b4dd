//! Transactions: SEMANTICS 4, tx.

use bytes::Bytes;

use super::world::{
    World, binding, bodies, confirms, consumer, deliveries, exchange, message, queue, settlement, to_queue,
    transient,
};
use crate::effect::{Batch, Cause, ChannelRow, Effect, Reply};
use crate::ids::ChanId;
use crate::input::{Consume, DeclareExchange, DeclareQueue, Hold, Input, Op, Publish, PublishExtras, Settle};
use crate::refusal::RefusalKind::{NotAllowed, NotFound, PreconditionFailed, TooLarge};
use crate::refusal::{Refusal, RefusalKind};
use crate::value::{Table, Value};

const CHAN: ChanId = ChanId(5);

fn commit() -> Op {
    Op::TxCommit { chan: CHAN }
}

/// Queue q with messages, and the transactional channel 5.
fn with(messages: &[&str]) -> World {
    with_settings(super::world::SETTINGS, messages)
}

fn with_settings(settings: crate::Settings, messages: &[&str]) -> World {
    let mut world = World::with(settings);
    world.open(1, 1);
    world.declare("q");
    world.fill("q", messages);
    world.open_strict(CHAN.0);
    world.ask_on(CHAN.0, Op::TxSelect { chan: CHAN }).expect("granted");
    world
}

fn publish(world: &mut World, publish: Publish) -> Vec<Effect> {
    let input = world.publish_input(CHAN.0, publish);
    world.send(input)
}

/// Takes messages of q, held by the channel.
fn take(world: &mut World, count: u32) -> Vec<u64> {
    let op = Op::Get(super::world::get("q", count, Hold::Channel(CHAN)));
    match world.ask_on(CHAN.0, op) {
        Ok(Reply::Got(got)) => got.messages.iter().map(|m| m.delivery_tag).collect(),
        other => panic!("{other:?}"),
    }
}

fn appends(effects: &[Effect]) -> Vec<&Batch> {
    let batches = effects.iter().filter_map(|e| match e {
        Effect::Append { batch, .. } => Some(batch),
        _ => None,
    });
    batches.collect()
}

fn failure(effects: &[Effect]) -> Option<(Cause, RefusalKind)> {
    effects.iter().find_map(|e| match e {
        Effect::ChannelFailed { chan: CHAN, cause, refusal } => Some((*cause, refusal.kind)),
        _ => None,
    })
}

fn row(world: &mut World) -> ChannelRow {
    match world.ok(Op::ListChannels) {
        Reply::Channels(rows) => rows.into_iter().find(|row| row.chan == CHAN).expect("it is open"),
        other => panic!("{other:?}"),
    }
}

fn refused_commit(world: &mut World) -> Refusal {
    world.ask_on(CHAN.0, commit()).expect_err("it is refused")
}

#[test]
fn a_commit_is_one_append_and_answered_when_it_is_durable() {
    let mut world = with(&["a", "b", "c", "d"]);
    world.declare("p");
    let tags = take(&mut world, 4);
    assert!(publish(&mut world, to_queue("p", "1")).is_empty(), "no confirm, no append");
    publish(&mut world, transient("p", "2"));
    publish(&mut world, to_queue("q", "3"));
    assert!(world.settle(CHAN.0, tags[1], true, Settle::Ack).is_empty());
    assert!(world.settle(CHAN.0, tags[2], false, Settle::Drop).is_empty());
    assert_eq!((world.counts("p"), world.counts("q")), ((0, 0), (0, 4)), "nothing has happened yet");
    assert_eq!(world.stored("q"), ["a", "b", "c", "d"]);
    let row = row(&mut world);
    assert_eq!((row.messages_unacknowledged, row.messages_unconfirmed), (4, 3));

    world.prompt = false;
    let input = world.request_on(CHAN.0, commit());
    let effects = world.send(input);
    let [batch] = &appends(&effects)[..] else { panic!("one append: {effects:?}") };
    assert_eq!((batch.puts.len(), batch.acks.len()), (2, 1));
    let (_, first, last) = batch.acks[0];
    assert_eq!((first.0, last.0), (1, 3));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Reply { .. } | Effect::Confirms { .. })));
    let effects = world.confirm();
    assert!(matches!(&effects[..], [Effect::Reply { result: Ok(Reply::Done), .. }]), "{effects:?}");
    assert_eq!((world.stored("p"), world.stored("q")), (vec!["1".to_string()], vec!["d".into(), "3".into()]));
    world.prompt = true;
    assert_eq!(world.drain("p"), ["1", "2"]);
    let stats = world.broker.stats();
    assert_eq!((stats.published, stats.confirmed, stats.acked), (7, 7, 5));
}

#[test]
fn a_rollback_forgets_publishes_and_brings_back_what_was_settled() {
    let mut world = with(&["a", "b"]);
    let tags = take(&mut world, 2);
    publish(&mut world, to_queue("q", "never"));
    world.settle(CHAN.0, 0, true, Settle::Ack);
    let held = world.broker.stats().body_bytes;
    world.ask_on(CHAN.0, Op::TxRollback { chan: CHAN }).expect("granted");
    assert!(world.broker.stats().body_bytes < held, "its memory is given back");
    assert_eq!((row(&mut world).messages_unacknowledged, world.counts("q")), (2, (0, 2)));
    world.settle(CHAN.0, tags[0], false, Settle::Ack);
    world.settle(CHAN.0, tags[1], false, Settle::Requeue);
    assert_eq!(world.counts("q"), (0, 2), "also a requeue waits");
    world.ask_on(CHAN.0, commit()).expect("granted");
    assert_eq!(world.drain("q"), ["b"]);
    assert_eq!(world.broker.stats().body_bytes, 0);
}

#[test]
fn a_requeue_goes_to_the_old_place_at_the_commit() {
    let mut world = with(&["a", "b", "c"]);
    let tags = take(&mut world, 2);
    world.settle(CHAN.0, tags[0], false, Settle::Requeue);
    publish(&mut world, to_queue("q", "d"));
    world.ask_on(CHAN.0, commit()).expect("granted");
    let delivered = world.consume(1, "q", "c");
    assert_eq!(bodies(&delivered), ["a", "c", "d"]);
    assert!(delivered[0].redelivered && !delivered[1].redelivered);
}

#[test]
fn a_publish_to_a_missing_exchange_fails_at_once_and_takes_everything_along() {
    let mut world = with(&["a"]);
    let tags = take(&mut world, 1);
    publish(&mut world, to_queue("q", "never"));
    world.settle(CHAN.0, tags[0], false, Settle::Ack);
    let effects = publish(&mut world, message("missing", "k", "m"));
    assert_eq!(failure(&effects), Some((Cause::Publish { tag: 2 }, NotFound)));
    assert_eq!(world.counts("q"), (1, 0), "what was settled is back, what was published is not there");
    assert_eq!(world.drain("q"), ["a"]);
    assert_eq!(world.broker.stats().body_bytes, 0);
    let input = world.request_on(CHAN.0, commit());
    assert!(matches!(world.send(input)[..], [Effect::Dropped { .. }]));
}

#[test]
fn a_settlement_is_checked_at_once() {
    for twice in [false, true] {
        let mut world = with(&["a"]);
        let tags = take(&mut world, 1);
        if twice {
            world.settle(CHAN.0, tags[0], false, Settle::Ack);
        }
        let wrong = if twice { tags[0] } else { 9 };
        let effects = world.settle(CHAN.0, wrong, false, Settle::Drop);
        let cause = Cause::Settle { how: Settle::Drop, tag: wrong };
        assert_eq!(failure(&effects), Some((cause, PreconditionFailed)), "twice: {twice}");
        assert_eq!(world.drain("q"), ["a"]);
    }
    let mut world = with(&[]);
    assert!(world.settle(CHAN.0, 0, true, Settle::Ack).is_empty(), "all of nothing is fine");
    world.ask_on(CHAN.0, commit()).expect("granted");
}

#[test]
fn prefetch_is_free_again_at_the_commit() {
    let mut world = with(&["a", "b", "c"]);
    let consume = Consume { prefetch_messages: 1, ..consumer(CHAN.0, "q", "c") };
    assert_eq!(bodies(&world.consume_with(consume)), ["a"]);
    assert!(world.settle(CHAN.0, 1, false, Settle::Ack).is_empty());
    let input = world.request_on(CHAN.0, commit());
    assert_eq!(bodies(&deliveries(&mut world.send(input))), ["b"]);

    let mut world = with(&["a", "b", "c"]);
    world.ok(Op::ChannelPrefetch { chan: CHAN, messages: 1 });
    assert_eq!(bodies(&world.consume(CHAN.0, "q", "c")), ["a"]);
    assert!(world.settle(CHAN.0, 1, false, Settle::Ack).is_empty(), "nor is that of the channel");
    let input = world.request_on(CHAN.0, commit());
    assert_eq!(bodies(&deliveries(&mut world.send(input))), ["b"]);
}

#[test]
fn a_commit_that_cannot_be_carried_out_does_nothing_of_it() {
    let mut world = with(&["a"]);
    world.ok(Op::DeclareExchange(exchange("x", "fanout")));
    let tags = take(&mut world, 1);
    publish(&mut world, to_queue("q", "1"));
    publish(&mut world, message("x", "k", "2"));
    world.settle(CHAN.0, tags[0], false, Settle::Ack);
    world.ok(Op::DeleteExchange { name: "x".into(), if_unused: false });
    let refusal = refused_commit(&mut world);
    let text = "partial tx completion: no exchange 'x' in vhost '/'";
    assert_eq!((refusal.kind, &*refusal.text), (PreconditionFailed, text));
    assert_eq!(world.drain("q"), ["a"]);
    assert_eq!(world.broker.stats().body_bytes, 0);
    assert!(world.broker.failed_channels.contains_key(&CHAN));
}

#[test]
fn a_commit_that_no_append_could_hold_does_nothing_of_it() {
    let settings = crate::Settings { append_bytes_max: 2_000, ..super::world::SETTINGS };
    let mut world = with_settings(settings, &[]);
    for n in 0..100 {
        let name = format!("q{n}");
        world.ok(Op::DeclareQueue(DeclareQueue { durable: false, ..queue(&name) }));
        world.ok(Op::Bind(binding("amq.fanout", &name, "")));
    }
    publish(&mut world, message("amq.fanout", "", "one"));
    publish(&mut world, message("amq.fanout", "", "two"));
    let refusal = refused_commit(&mut world);
    assert_eq!(refusal.kind, PreconditionFailed);
    assert!(refusal.text.starts_with("partial tx completion: the publish takes"), "{}", refusal.text);
    assert_eq!(world.counts("q7"), (0, 0));
}

#[test]
fn a_transaction_holds_no_more_than_an_append() {
    let settings = crate::Settings { append_bytes_max: 2_000, ..super::world::SETTINGS };
    let mut world = with_settings(settings, &[]);
    let before = world.broker.stats().body_bytes;
    let body = "b".repeat(500);
    for n in 1..=3 {
        assert!(publish(&mut world, to_queue("q", &body)).is_empty());
        let held = world.broker.stats().body_bytes - before;
        assert!(held >= n * 628, "{held} bytes are counted after {n}");
    }
    let effects = publish(&mut world, to_queue("q", &body));
    assert_eq!(failure(&effects), Some((Cause::Publish { tag: 4 }, TooLarge)));
    assert_eq!((world.broker.stats().body_bytes, world.counts("q")), (0, (0, 0)));
}

#[test]
fn the_keys_of_a_buffered_publish_count_too() {
    let mut world = with(&[]);
    let keys: Vec<_> = (0..10).map(|n| format!("{n}").repeat(200).into()).collect();
    let extras = PublishExtras { routing_keys: keys, ..PublishExtras::default() };
    publish(&mut world, Publish { extras: Some(Box::new(extras)), ..to_queue("q", "m") });
    assert!(world.broker.stats().body_bytes > 2_000);
    world.ask_on(CHAN.0, commit()).expect("granted");
    assert_eq!(world.drain("q"), ["m"]);
    assert_eq!(world.broker.stats().body_bytes, 0);
}

#[test]
fn what_is_mandatory_comes_back_before_the_answer() {
    let mut world = with(&[]);
    world.prompt = false;
    let nowhere = || Publish { mandatory: true, ..to_queue("nowhere", "m") };
    assert!(publish(&mut world, to_queue("q", "m")).is_empty());
    assert!(publish(&mut world, nowhere()).is_empty(), "it is routed at the commit");
    let input = world.request_on(CHAN.0, commit());
    let mut effects = world.send(input);
    effects.extend(world.confirm());
    let returned = effects.iter().position(|e| matches!(e, Effect::Return { chan: CHAN, tag: 2, .. }));
    let answered = effects.iter().position(|e| matches!(e, Effect::Reply { result: Ok(_), .. }));
    assert!(returned.is_some() && returned < answered, "{effects:?}");
}

#[test]
fn publishes_are_routed_at_the_commit() {
    let mut world = with(&[]);
    publish(&mut world, to_queue("late", "m"));
    world.declare("late");
    world.ask_on(CHAN.0, commit()).expect("granted");
    assert_eq!(world.drain("late"), ["m"]);
}

#[test]
fn publishes_from_before_the_transaction_keep_their_confirms() {
    let mut world = World::ready();
    world.declare("q");
    world.open_strict(CHAN.0);
    world.prompt = false;
    publish(&mut world, to_queue("q", "1"));
    let input = world.request_on(CHAN.0, Op::TxSelect { chan: CHAN });
    world.send(input);
    publish(&mut world, to_queue("q", "2"));
    assert_eq!(confirms(&world.confirm(), CHAN.0), [(1, vec![])]);
    let input = world.request_on(CHAN.0, commit());
    world.send(input);
    assert!(confirms(&world.confirm(), CHAN.0).is_empty());
    assert_eq!(row(&mut world).messages_unconfirmed, 0);
}

#[test]
fn only_a_transactional_channel_commits() {
    for op in [commit(), Op::TxRollback { chan: CHAN }] {
        let mut world = World::ready();
        world.open_strict(CHAN.0);
        let refusal = world.ask_on(CHAN.0, op).expect_err("nothing was selected");
        assert_eq!((refusal.kind, &*refusal.text), (PreconditionFailed, "channel is not transactional"));
        assert!(world.broker.failed_channels.contains_key(&CHAN));
    }
    let mut world = with(&[]);
    world.ask_on(CHAN.0, Op::TxSelect { chan: CHAN }).expect("again is fine");
    world.ask_on(CHAN.0, commit()).expect("nothing is fine, too");
    assert_eq!(world.refused(Op::TxSelect { chan: ChanId(1) }).kind, NotAllowed, "not strict");
    assert_eq!(world.refused(Op::TxSelect { chan: ChanId(9) }).kind, NotFound);
}

#[test]
fn an_internal_exchange_is_refused_at_once() {
    let mut world = with(&[]);
    world.ok(Op::DeclareExchange(DeclareExchange { internal: true, ..exchange("in", "fanout") }));
    let effects = publish(&mut world, message("in", "", "m"));
    assert_eq!(failure(&effects), Some((Cause::Publish { tag: 1 }, RefusalKind::AccessRefused)));
}

/// Guards against a commit that settles the delivery of somebody else.
#[test]
fn what_was_settled_by_its_id_meanwhile_is_not_the_transactions_any_more() {
    let mut world = with(&["a", "b"]);
    let op = Op::Get(super::world::get("q", 2, Hold::Channel(CHAN)));
    let Ok(Reply::Got(got)) = world.ask_on(CHAN.0, op) else { panic!("granted") };
    world.settle(CHAN.0, 0, true, Settle::Ack);
    world.settle_ids(&[got.messages[0].ack_id], Settle::Requeue);
    world.settle_ids(&[got.messages[1].ack_id], Settle::Ack);
    assert_eq!(world.leased("q", 1).len(), 1, "now somebody else has it");
    world.ask_on(CHAN.0, commit()).expect("granted");
    assert_eq!(world.stored("q"), ["a"]);
    assert_eq!(world.counts("q"), (0, 1));
}

#[test]
fn the_end_of_a_channel_is_a_rollback_and_a_requeue() {
    for close in
        [Input::ChannelClosed { chan: CHAN }, Input::ConnectionClosed { conn: crate::ids::ConnId(1) }]
    {
        let mut world = with(&["a", "b"]);
        let tags = take(&mut world, 2);
        publish(&mut world, to_queue("q", "never"));
        world.settle(CHAN.0, tags[0], false, Settle::Ack);
        world.send(close);
        assert_eq!(world.counts("q"), (2, 0));
        assert_eq!(world.drain("q"), ["a", "b"]);
        assert_eq!(world.broker.stats().body_bytes, 0);
    }
}

#[test]
fn what_needs_no_log_is_committed_without_it() {
    let mut world = with(&[]);
    world.ok(Op::DeclareQueue(DeclareQueue { durable: false, ..queue("t") }));
    publish(&mut world, to_queue("t", "1"));
    publish(&mut world, transient("q", "2"));
    let issued = world.store.issued;
    world.ask_on(CHAN.0, commit()).expect("granted");
    assert_eq!(world.store.issued, issued);
    assert_eq!((world.drain("t"), world.drain("q")), (vec!["1".to_string()], vec!["2".to_string()]));
}

#[test]
fn the_queue_may_be_gone_by_the_commit() {
    let mut world = with(&["a"]);
    let tags = take(&mut world, 1);
    world.settle(CHAN.0, tags[0], false, Settle::Requeue);
    world.ok(Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false });
    publish(&mut world, to_queue("q", "nowhere"));
    world.ask_on(CHAN.0, commit()).expect("granted");
    assert!(world.queue_names().is_empty());
}

/// Guards against a group that takes in what the same turn brought before and after it.
#[test]
fn other_settlements_of_the_turn_stay_outside_of_the_commit() {
    let mut world = with(&["a", "b"]);
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    let tags = take(&mut world, 1);
    world.settle(CHAN.0, tags[0], false, Settle::Ack);
    let ack = settlement(1, 1, false, Settle::Ack);
    let before = world.publish_input(1, to_queue("q", "before"));
    let commit = world.request_on(CHAN.0, commit());
    let after = world.publish_input(1, to_queue("q", "after"));
    let effects = world.turn(vec![ack, before, commit, after]);
    let sizes: Vec<_> = appends(&effects).iter().map(|b| (b.puts.len(), b.acks.len())).collect();
    assert_eq!(sizes, [(1, 0), (0, 1), (1, 0), (0, 1)]);
}

fn limited(name: &str, arguments: &[(&str, Value)]) -> Op {
    let arguments = arguments.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    Op::DeclareQueue(DeclareQueue { arguments: Table(arguments), ..queue(name) })
}

fn string(value: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(value.as_bytes()))
}

#[test]
fn dead_letters_of_a_commit_move_with_it() {
    let mut world = with(&[]);
    world.declare("dead");
    let to_dead = [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string("dead"))];
    world.ok(limited("jobs", &to_dead));
    world.fill("jobs", &["a", "b"]);
    let op = Op::Get(super::world::get("jobs", 2, Hold::Channel(CHAN)));
    world.ask_on(CHAN.0, op).expect("granted");
    world.settle(CHAN.0, 0, true, Settle::Drop);
    publish(&mut world, to_queue("q", "done"));
    assert_eq!(world.stored("dead"), Vec::<String>::new(), "a reject waits for the commit");
    let input = world.request_on(CHAN.0, commit());
    let effects = world.send(input);
    let [batch] = &appends(&effects)[..] else { panic!("one append: {effects:?}") };
    assert_eq!((batch.puts.len(), batch.acks.len()), (3, 1));
    assert_eq!(world.drain("dead"), ["a", "b"]);
    assert!(world.stored("jobs").is_empty());
}

#[test]
fn a_full_queue_that_refuses_more_refuses_the_commit() {
    let limits: [&[(&str, Value)]; 2] =
        [&[("x-max-length", Value::I32(2))], &[("x-max-length-bytes", Value::I32(5))]];
    for limit in limits {
        let mut world = with(&["a"]);
        let refusing = [limit, &[("x-overflow", string("reject-publish"))]].concat();
        world.ok(limited("small", &refusing));
        let tags = take(&mut world, 1);
        for body in ["12", "34"] {
            publish(&mut world, to_queue("small", body));
        }
        world.ask_on(CHAN.0, commit()).expect("that much it takes");
        world.ok(Op::PurgeQueue { name: "small".into() });
        for body in ["12", "34", "56"] {
            publish(&mut world, to_queue("small", body));
        }
        world.settle(CHAN.0, tags[0], false, Settle::Ack);
        let refusal = refused_commit(&mut world);
        let text = "partial tx completion: queue 'small' in vhost '/' is full and takes no more messages";
        assert_eq!((refusal.kind, &*refusal.text), (PreconditionFailed, text));
        assert_eq!((world.counts("small"), world.counts("q")), ((0, 0), (1, 0)));
    }
}
