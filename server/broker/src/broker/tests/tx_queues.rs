//! Transactions on queues with arguments: a commit is one append, whatever its messages do.

use super::world::{SETTINGS, World, get, string, to_queue, with_properties};
use crate::Settings;
use crate::effect::{Batch, Effect, Reply};
use crate::ids::ChanId;
use crate::input::{Hold, Op, Publish, Settle};
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
    assert_eq!((batch.puts.len(), batch.acks.len(), answers(&effects)), (2, 2, 1));
    assert_eq!((world.stored("q"), world.stored("dead")), (vec!["c".into()], vec!["a".into()]));
}

#[test]
fn what_has_to_be_read_first_moves_before_the_answer() {
    let mut world = with_budget(0);
    world.declare_with("q", &to_dead());
    world.fill("q", &["a"]);
    assert_eq!(take(&mut world, 1), 1);
    world.settle(CHAN.0, 1, false, Settle::Drop);
    world.prompt = false;
    let effects = commit(&mut world);
    assert_eq!(answers(&effects) + answers(&world.confirm()), 0);
    let effects = world.answer();
    assert_eq!((answers(&effects), world.stored("dead").len()), (0, 1));
    assert_eq!(answers(&world.confirm()), 1);
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
fn priorities_and_times_are_in_the_log_before_the_commit() {
    let mut world = with_budget(SETTINGS.memory_budget_bytes);
    world.declare_with("q", &[("x-max-priority", Value::I32(5))]);
    let given = Properties { priority: Some(3), expiration: Some("50".into()), ..Properties::default() };
    publish(&mut world, to_queue("q", "low"));
    publish(&mut world, with_properties("q", "high", &given));
    let effects = commit(&mut world);
    let [level, commit] = &appends(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((level.queues_created.len(), level.facts.len(), level.puts.len()), (1, 1, 0));
    assert_eq!((commit.puts.len(), commit.facts.len()), (2, 0));
    assert_eq!(world.stored("q"), ["high", "low"]);
    world.tick(50);
    assert_eq!(world.drain("q"), ["low"]);
}

#[test]
fn letters_that_do_not_fit_into_the_append_follow_it() {
    let mut world = World::with(Settings { append_bytes_max: 4_000, ..SETTINGS });
    world.open(1, 1);
    world.declare("dead");
    world.open_strict(CHAN.0);
    world.ask_on(CHAN.0, Op::TxSelect { chan: CHAN }).expect("granted");
    world.declare_with("q", &to_dead());
    let body = "x".repeat(1_000);
    world.fill("q", &[body.as_str(); 6]);
    assert_eq!(take(&mut world, 6), 6);
    world.settle(CHAN.0, 0, true, Settle::Drop);
    let effects = commit(&mut world);
    assert_eq!((appends(&effects).len(), answers(&effects)), (3, 1));
    assert_eq!((world.stored("q").len(), world.stored("dead").len()), (0, 6));
}
