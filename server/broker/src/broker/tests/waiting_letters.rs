//! Dead letters that wait in their queues while the disk is low (E11).

use super::world::{SETTINGS, World, expiring, string, to_queue, transient};
use crate::Settings;
use crate::input::{Input, Op, Settle};
use crate::queue::WAITING_MAX;
use crate::refusal::RefusalKind;
use crate::value::Value;

/// A queue q whose dead letters go to the queue dead.
fn with(memory_budget_bytes: u64, arguments: &[(&str, Value)]) -> World {
    let mut world = World::with(Settings { memory_budget_bytes, ..SETTINGS });
    world.open(1, 1);
    world.declare("dead");
    let to = [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string("dead"))];
    world.declare_with("q", &[&to[..], arguments].concat());
    world
}

fn hold(world: &mut World, wait: bool) {
    world.send(Input::HoldLetters { wait });
    world.answer();
}

fn ttl() -> (&'static str, Value) {
    ("x-message-ttl", Value::I32(100))
}

#[test]
fn what_expires_waits_in_its_queue_and_moves_when_there_is_room() {
    for budget in [0, SETTINGS.memory_budget_bytes] {
        let mut world = with(budget, &[ttl()]);
        world.fill("q", &["a", "b"]);
        hold(&mut world, true);
        world.tick(100);
        world.answer();
        assert_eq!((world.counts("q"), world.counts("dead")), ((0, 0), (0, 0)), "nobody gets it");
        assert_eq!((world.stored("q"), world.stored("dead").len()), (vec!["a".to_string(), "b".into()], 0));
        assert_eq!(world.broker.stats().body_bytes, 0);
        hold(&mut world, false);
        world.answer();
        assert_eq!((world.stored("q").len(), world.drain("dead")), (0, vec!["a".to_string(), "b".into()]));
    }
}

#[test]
fn a_crash_meanwhile_leaves_them_where_they_are() {
    let mut world = with(SETTINGS.memory_budget_bytes, &[ttl()]);
    world.fill("q", &["a", "b"]);
    hold(&mut world, true);
    world.tick(100);
    let mut world = world.crash();
    world.open(1, 1);
    world.answer();
    assert_eq!((world.stored("q").len(), world.drain("dead")), (0, vec!["a".to_string(), "b".into()]));
}

#[test]
fn what_is_behind_an_expired_message_is_delivered() {
    let mut world = with(SETTINGS.memory_budget_bytes, &[]);
    world.publish(expiring("q", "short", 10));
    world.fill("q", &["stays"]);
    hold(&mut world, true);
    world.tick(10);
    assert_eq!(world.drain("q"), ["stays"]);
    hold(&mut world, false);
    assert_eq!(world.drain("dead"), ["short"]);
}

#[test]
fn what_is_too_much_waits_only_where_it_has_somewhere_to_go() {
    let mut world = with(SETTINGS.memory_budget_bytes, &[("x-max-length", Value::I32(1))]);
    world.declare_with("drops", &[("x-max-length", Value::I32(1))]);
    hold(&mut world, true);
    world.fill("q", &["a", "b"]);
    world.fill("drops", &["a", "b"]);
    assert_eq!((world.counts("q"), world.stored("q").len()), ((1, 0), 2));
    assert_eq!((world.counts("drops"), world.stored("drops").len()), ((1, 0), 1), "drop-head drops");
    hold(&mut world, false);
    assert_eq!((world.stored("q"), world.drain("dead")), (vec!["b".to_string()], vec!["a".to_string()]));
}

#[test]
fn rejected_and_transient_messages_move_all_the_same() {
    let mut world = with(SETTINGS.memory_budget_bytes, &[ttl()]);
    hold(&mut world, true);
    world.fill("q", &["a"]);
    let held = world.leased("q", 1);
    world.settle_ids(&[held[0].ack_id], Settle::Drop);
    assert_eq!(world.drain("dead"), ["a"]);
    world.publish(transient("q", "t"));
    world.tick(100);
    assert_eq!(world.drain("dead"), ["t"]);
}

#[test]
fn a_purge_takes_those_that_wait() {
    // One is returned before they expire, so that it stands below those that wait.
    let mut world = with(SETTINGS.memory_budget_bytes, &[]);
    world.publish(to_queue("q", "returned"));
    let held = world.leased("q", 1);
    world.publish(expiring("q", "a", 100));
    world.publish(expiring("q", "b", 100));
    hold(&mut world, true);
    world.tick(100);
    world.settle_ids(&[held[0].ack_id], Settle::Requeue);
    assert_eq!((world.counts("q"), world.stored("q").len()), ((1, 0), 3));
    world.ok(Op::PurgeQueue { name: "q".into() });
    assert_eq!(world.stored("q").len(), 0);
    hold(&mut world, false);
    assert_eq!(world.counts("dead"), (0, 0));
    // Nor is one moved that was being read when the purge came.
    world.publish(expiring("q", "c", 100));
    hold(&mut world, true);
    world.tick(100);
    world.prompt = false;
    world.send(Input::HoldLetters { wait: false });
    let purge = world.request(Some(1), Op::PurgeQueue { name: "q".into() });
    world.send(purge);
    world.prompt = true;
    world.confirm();
    world.answer();
    assert_eq!((world.stored("q").len(), world.counts("dead")), (0, (0, 0)));
}

#[test]
fn with_very_many_of_them_the_queue_waits_at_its_head() {
    let mut world = with(0, &[ttl()]);
    hold(&mut world, true);
    for number in 0..WAITING_MAX + 5 {
        world.publish(to_queue("q", &number.to_string()));
    }
    world.tick(100);
    world.answer();
    assert_eq!(world.counts("q"), (5, 0));
    assert_eq!(world.drain("q"), Vec::<String>::new(), "they are over");
    hold(&mut world, false);
    world.answer();
    assert_eq!((world.counts("q"), world.counts("dead").0), ((0, 0), WAITING_MAX as u64 + 5));
}

#[test]
fn a_late_ack_of_one_that_waits_does_not_say_that_it_is_gone() {
    let mut world = with(SETTINGS.memory_budget_bytes, &[ttl()]);
    world.fill("q", &["a"]);
    let held = world.leased("q", 1);
    world.settle_ids(&[held[0].ack_id], Settle::Requeue);
    hold(&mut world, true);
    world.tick(100);
    assert_eq!(world.settle_ids(&[held[0].ack_id], Settle::Ack), [Err(RefusalKind::AckIdStale)]);
    hold(&mut world, false);
    assert_eq!(world.drain("dead"), ["a"]);
}
