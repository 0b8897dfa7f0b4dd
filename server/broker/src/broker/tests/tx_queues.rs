//! Transactions on queues with arguments: a commit is one append, whatever its messages do.

use super::world::{SETTINGS, World, get, string, to_queue, with_properties};
use crate::Settings;
use crate::effect::{Batch, Effect, Reply};
use crate::ids::ChanId;
use crate::input::{Hold, Input, Op, Publish, Settle};
use crate::properties::Properties;
use crate::refusal::RefusalKind::PreconditionFailed;
use crate::value::Value;

const CHAN: ChanId = ChanId(5);

/// The transactional channel 5, and a queue dead.
fn with_budget(memory_budget_bytes: u64) -> World {
    let mut world = World::with(Settings { memory_budget_bytes, ..SETTINGS });
    world.open(1, 1);
    world.declare("dead");
    world.open_strict(CHAN.0);
    world.ask_on(CHAN.0, Op::TxSelect { chan: CHAN }).expect("granted");
    world
}

fn to_dead() -> [(&'static str, Value); 2] {
    [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string("dead"))]
}

fn publish(world: &mut World, publish: Publish) {
    let input = world.publish_input(CHAN.0, publish);
    assert!(world.send(input).is_empty(), "nobody sees it before the commit");
}

fn take(world: &mut World, count: u32) -> usize {
    match world.ask_on(CHAN.0, Op::Get(get("q", count, Hold::Channel(CHAN)))) {
        Ok(Reply::Got(got)) => got.messages.len(),
        other => panic!("{other:?}"),
    }
}

fn commit(world: &mut World) -> Vec<Effect> {
    let input = world.request_on(CHAN.0, Op::TxCommit { chan: CHAN });
    world.send(input)
}

fn appends(effects: &[Effect]) -> Vec<&Batch> {
    let batches = effects.iter().filter_map(|e| match e {
        Effect::Append { batch, .. } => Some(batch),
        _ => None,
    });
    batches.collect()
}

fn answers(effects: &[Effect]) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Reply { result: Ok(_), .. })).count()
}

#[test]
fn what_is_rejected_moves_in_the_append_of_the_commit() {
    let mut world = with_budget(SETTINGS.memory_budget_bytes);
    world.declare_with("q", &to_dead());
    world.fill("q", &["a", "b"]);
    assert_eq!(take(&mut world, 2), 2);
    publish(&mut world, to_queue("q", "c"));
    world.settle(CHAN.0, 1, false, Settle::Drop);
    world.settle(CHAN.0, 2, false, Settle::Ack);
    assert!(world.stored("dead").is_empty());
    let effects = commit(&mut world);
    let [batch] = &appends(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((batch.puts.len(), batch.acks.len(), answers(&effects)), (2, 1, 1));
    assert_eq!((world.stored("q"), world.stored("dead")), (vec!["c".into()], vec!["a".into()]));
}

#[test]
fn what_has_to_be_read_first_moves_before_the_answer() {
    let mut world = with_budget(0);
    world.declare_with("q", &to_dead());
    world.fill("q", &["a"]);
    assert_eq!(take(&mut world, 1), 1);
    publish(&mut world, to_queue("q", "b"));
    world.settle(CHAN.0, 1, false, Settle::Drop);
    world.prompt = false;
    let effects = commit(&mut world);
    assert!(appends(&effects).is_empty(), "{effects:?}");
    assert_eq!(answers(&effects) + answers(&world.confirm()), 0);
    let effects = world.answer();
    let [batch] = &appends(&effects)[..] else { panic!("{effects:?}") };
    // One append with what else it does: never is only a part of it there.
    assert_eq!((batch.puts.len(), batch.acks.len(), answers(&effects)), (2, 1, 0));
    assert_eq!((world.stored("dead").len(), world.stored("q")), (1, vec!["b".into()]));
    assert_eq!(answers(&world.confirm()), 1);
}

#[test]
fn a_channel_that_ends_while_its_commit_reads_has_done_nothing() {
    let mut world = with_budget(0);
    world.declare_with("q", &to_dead());
    world.fill("q", &["a"]);
    assert_eq!(take(&mut world, 1), 1);
    publish(&mut world, to_queue("q", "b"));
    world.settle(CHAN.0, 1, false, Settle::Drop);
    world.prompt = false;
    commit(&mut world);
    let effects = world.send(Input::ChannelClosed { chan: CHAN });
    assert!(effects.iter().any(|e| matches!(e, Effect::Dropped { .. })), "{effects:?}");
    world.prompt = true;
    world.answer();
    world.confirm();
    assert_eq!((world.stored("q"), world.stored("dead").len()), (vec!["a".into()], 0));
    assert_eq!(world.drain("q"), ["a"]);
}

#[test]
fn a_commit_that_reads_goes_to_the_queues_that_were_there_when_it_came() {
    let mut world = with_budget(0);
    world.declare_with("q", &to_dead());
    world.declare("other");
    world.fill("q", &["a"]);
    assert_eq!(take(&mut world, 1), 1);
    publish(&mut world, to_queue("other", "b"));
    world.settle(CHAN.0, 1, false, Settle::Drop);
    world.prompt = false;
    commit(&mut world);
    let delete = Op::DeleteQueue { name: "other".into(), if_unused: false, if_empty: false };
    let delete = world.request(None, delete);
    world.send(delete);
    let declare = world.request(None, Op::DeclareQueue(super::world::queue("other")));
    world.send(declare);
    world.answer();
    assert_eq!(answers(&world.confirm()), 3);
    assert_eq!((world.stored("dead"), world.stored("other").len()), (vec!["a".into()], 0));
}

#[test]
fn what_a_commit_reads_for_may_be_settled_by_others_meanwhile() {
    let mut world = with_budget(0);
    world.declare_with("q", &to_dead());
    world.fill("q", &["a", "b"]);
    // Two gets: with no room in memory each has one.
    let first = match world.ask_on(CHAN.0, Op::Get(get("q", 1, Hold::Channel(CHAN)))) {
        Ok(Reply::Got(got)) => got.messages[0].ack_id,
        other => panic!("{other:?}"),
    };
    assert_eq!(take(&mut world, 1), 1);
    world.settle(CHAN.0, 0, true, Settle::Drop);
    world.prompt = false;
    let begun = commit(&mut world);
    assert_eq!(appends(&begun).len(), 0);
    let ack = world.request(None, Op::SettleIds { ids: vec![first], how: Settle::Ack });
    world.send(ack);
    // One body at a time, with no room for more.
    world.answer();
    world.answer();
    world.confirm();
    assert_eq!((world.stored("q").len(), world.stored("dead")), (0, vec!["b".into()]));
}

#[test]
fn a_commit_to_a_queue_that_is_full_does_nothing() {
    let mut world = with_budget(SETTINGS.memory_budget_bytes);
    let full = [("x-max-length", Value::I32(2)), ("x-overflow", string("reject-publish"))];
    world.declare_with("q", &full);
    for body in ["a", "b", "c"] {
        publish(&mut world, to_queue("q", body));
    }
    publish(&mut world, to_queue("dead", "d"));
    let refusal = world.ask_on(CHAN.0, Op::TxCommit { chan: CHAN }).expect_err("it is refused");
    let text = "partial tx completion: queue 'q' in vhost '/' is full and takes no more messages";
    assert_eq!((refusal.kind, &*refusal.text), (PreconditionFailed, text));
    assert_eq!((world.counts("q"), world.counts("dead")), ((0, 0), (0, 0)));
}

#[test]
fn what_a_queue_learns_is_in_the_append_of_the_commit() {
    let mut world = with_budget(SETTINGS.memory_budget_bytes);
    world.declare_with("q", &[("x-max-priority", Value::I32(5))]);
    let given = Properties { priority: Some(3), expiration: Some("50".into()), ..Properties::default() };
    publish(&mut world, to_queue("q", "low"));
    publish(&mut world, with_properties("q", "high", &given));
    let effects = commit(&mut world);
    let [commit] = &appends(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((commit.queues_created.len(), commit.facts.len(), commit.puts.len()), (1, 1, 2));
    assert_eq!(world.stored("q"), ["high", "low"]);
    world.tick(50);
    assert_eq!(world.drain("q"), ["low"]);
}

/// A world whose appends are small, the transactional channel, and queue q whose three letters were rejected.
fn with_letters(bodies: &[String], arguments: &[(&str, Value)]) -> World {
    let mut world = World::with(Settings { append_bytes_max: 4_000, ..SETTINGS });
    world.open(1, 1);
    world.declare_with("dead", arguments);
    world.open_strict(CHAN.0);
    world.ask_on(CHAN.0, Op::TxSelect { chan: CHAN }).expect("granted");
    world.declare_with("q", &to_dead());
    world.fill("q", &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(take(&mut world, 3), bodies.len());
    world.settle(CHAN.0, 0, true, Settle::Drop);
    world
}

#[test]
fn letters_that_do_not_fit_into_the_append_refuse_the_commit() {
    let bodies = ["a".repeat(1_900), "b".repeat(1_900)];
    let mut world = with_letters(&bodies, &[]);
    let refusal = world.ask_on(CHAN.0, Op::TxCommit { chan: CHAN }).expect_err("it is refused");
    assert_eq!(refusal.kind, PreconditionFailed);
    assert!(refusal.text.starts_with("partial tx completion: the publish takes"), "{}", refusal.text);
    assert_eq!((world.stored("q"), world.stored("dead").len()), (bodies.to_vec(), 0));
    // What obviously cannot fit is not even read.
    let mut world = with_letters(&["a".repeat(2_100), "b".repeat(2_100)], &[]);
    let effects = commit(&mut world);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Fetch(_))), "{effects:?}");
}

#[test]
fn what_follows_from_a_commit_and_finds_no_room_in_it_comes_behind_it() {
    // Queue dead is full and sends what it refuses on: that is a move of its own.
    let full = [
        ("x-max-length", Value::I32(1)),
        ("x-overflow", string("reject-publish-dlx")),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("later")),
    ];
    let bodies = ["a", "b", "c"].map(|body| body.repeat(500));
    let mut world = with_letters(&bodies, &full);
    world.declare_with("later", &[("x-max-priority", Value::I32(5))]);
    let effects = commit(&mut world);
    assert_eq!(answers(&effects), 1, "{effects:?}");
    assert_eq!(world.stored("q").len(), 0);
    assert_eq!((world.stored("dead"), world.stored("later")), (bodies[..1].to_vec(), bodies[1..].to_vec()));
    let world = world.crash();
    assert_eq!((world.stored("dead").len(), world.stored("later").len()), (1, 2));
}
