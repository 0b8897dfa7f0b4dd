//! Messages and queues whose time is over: SEMANTICS 6.

use super::world::{
    SETTINGS, World, bodies, consumer, deliveries, expiring, get, queue, string, to_queue, transient,
};
use crate::Settings;
use crate::effect::Effect;
use crate::ids::ChanId;
use crate::input::{Consume, DeclareQueue, Hold, Op, Settle};
use crate::refusal::RefusalKind::NotFound;
use crate::value::Value;

fn with_ttl(ms: i32) -> World {
    let mut world = World::ready();
    world.declare_with("q", &[("x-message-ttl", Value::I32(ms))]);
    world
}

fn reads(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Fetch(_))).count()
}

#[test]
fn messages_expire_after_the_queue_s_time() {
    let mut world = with_ttl(100);
    world.fill("q", &["a"]);
    world.publish(transient("q", "t"));
    world.tick(50);
    world.fill("q", &["b"]);
    assert_eq!(world.broker.next_deadline_ms(), Some(1_100));
    world.tick(49);
    assert_eq!(world.counts("q"), (3, 0));
    world.tick(1);
    assert_eq!((world.counts("q"), world.stored("q")), ((1, 0), vec!["b".to_string()]));
    assert_eq!(world.broker.next_deadline_ms(), Some(1_150));
    assert_eq!(world.drain("q"), ["b"]);
    assert_eq!((world.broker.next_deadline_ms(), world.broker.stats().expired), (None, 2));
    assert_eq!(world.broker.stats().body_bytes, 0);
}

#[test]
fn the_shorter_time_counts() {
    let mut world = with_ttl(100);
    world.publish(expiring("q", "short", 10));
    world.publish(expiring("q", "long", 1_000));
    world.tick(10);
    assert_eq!(world.stored("q"), ["long"]);
    world.tick(90);
    assert_eq!(world.counts("q"), (0, 0));
}

#[test]
fn only_the_head_of_a_queue_expires() {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", &["first"]);
    world.publish(expiring("q", "second", 10));
    world.fill("q", &["third"]);
    world.tick(20);
    assert_eq!(world.counts("q"), (3, 0), "it counts until it is the head");
    assert_eq!(world.got("q", 3, Hold::AutoAck).messages.len(), 2);
    assert_eq!((world.counts("q"), world.stored("q").len()), ((0, 0), 0));
}

#[test]
fn what_has_expired_is_never_delivered() {
    let mut world = with_ttl(100);
    world.fill("q", &["a", "b"]);
    let delivered = world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    assert_eq!(bodies(&delivered), ["a"]);
    // The time goes on in the same turn in which the consumer is ready again.
    world.now_ms += 200;
    let tick = crate::Input::Tick { now_ms: world.now_ms };
    let mut effects = world.turn(vec![tick, super::world::settlement(1, 1, false, Settle::Ack)]);
    assert!(deliveries(&mut effects).is_empty());
    assert_eq!(world.counts("q"), (0, 0));
}

#[test]
fn a_message_without_any_time_is_delivered_at_once_or_not_at_all() {
    let mut world = with_ttl(0);
    world.fill("q", &["lost"]);
    assert_eq!(world.counts("q"), (0, 0));
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    assert_eq!(bodies(&deliveries(&mut world.publish(to_queue("q", "taken")))), ["taken"]);
    world.fill("q", &["lost too"]);
    assert!(deliveries(&mut world.ack(1, 1)).is_empty());
    assert!(world.stored("q").is_empty());
}

#[test]
fn a_returned_message_keeps_its_time() {
    let mut world = with_ttl(100);
    world.fill("q", &["a", "b"]);
    world.consume_with(Consume { prefetch_messages: 1, ..consumer(1, "q", "c") });
    world.tick(100);
    assert_eq!(world.counts("q"), (0, 1), "what is out does not expire");
    world.settle(1, 1, false, Settle::Requeue);
    assert_eq!((world.counts("q"), world.stored("q").len()), ((0, 0), 0), "back, it has expired");
}

#[test]
fn time_goes_on_while_the_broker_is_down() {
    let mut world = with_ttl(100);
    world.declare("plain");
    world.fill("q", &["a"]);
    world.publish(expiring("plain", "b", 100));
    world.fill("plain", &["kept"]);
    world.tick(50);
    world.fill("q", &["c"]);
    for (queue, left) in [("q", "c"), ("plain", "kept")] {
        assert_eq!(world.stored(queue).len(), 2);
        assert_eq!(world.stored(queue)[1], left);
    }
    world.now_ms += 60;
    let mut world = world.crash();
    let effects = world.tick(0);
    assert_eq!(reads(&effects), 2, "nobody consumes, yet the heads are looked at");
    world.open(1, 1);
    assert_eq!((world.stored("q"), world.stored("plain")), (vec!["c".into()], vec!["kept".into()]));
    assert_eq!(world.broker.next_deadline_ms(), Some(1_150));
    world.tick(40);
    assert_eq!(world.counts("q"), (0, 0));
}

#[test]
fn a_queue_without_times_is_not_looked_at() {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", &["a"]);
    let mut world = world.crash();
    assert_eq!(reads(&world.tick(0)), 0);
}

#[test]
fn a_cold_backlog_expires_within_the_budget() {
    let mut world = World::with(Settings { memory_budget_bytes: 2_000, ..SETTINGS });
    world.open(1, 1);
    world.declare_with("q", &[("x-message-ttl", Value::I32(100))]);
    for n in 0..500u32 {
        world.publish(to_queue("q", &n.to_string()));
    }
    assert!(world.broker.stats().body_bytes <= 2_000);
    world.tick(99);
    assert_eq!(world.counts("q"), (500, 0));
    world.publish(to_queue("q", "young"));
    world.tick(1);
    assert_eq!((world.counts("q"), world.stored("q")), ((1, 0), vec!["young".to_string()]));
    assert!(world.broker.stats().body_bytes <= 2_000);
    assert_eq!(world.broker.stats().expired, 500);
}

#[test]
fn a_get_passes_over_what_has_expired() {
    let mut world = World::with(Settings { memory_budget_bytes: 0, ..SETTINGS });
    world.open(1, 1);
    world.declare("q");
    world.publish(expiring("q", "gone", 10));
    world.publish(to_queue("q", "here"));
    world.prompt = false;
    world.now_ms += 20;
    world.send(crate::Input::Tick { now_ms: world.now_ms });
    assert!(world.try_ask(Some(1), Op::Get(get("q", 1, Hold::AutoAck))).is_none());
    let mut got = None;
    for _ in 0..3 {
        for effect in world.answer() {
            if let Effect::Reply { result: Ok(crate::effect::Reply::Got(answer)), .. } = effect {
                got = Some(answer);
            }
        }
    }
    let got = got.expect("it is answered");
    assert_eq!(got.messages.len(), 1);
    assert_eq!(super::world::text(&got.messages[0].message.body), "here");
}

#[test]
fn a_clock_set_back_does_not_expire_more() {
    let mut world = with_ttl(100);
    world.fill("q", &["a"]);
    world.send(crate::Input::Tick { now_ms: 500 });
    world.fill("q", &["b"]);
    assert_eq!(world.broker.next_deadline_ms(), Some(1_100));
    world.send(crate::Input::Tick { now_ms: 1_100 });
    assert_eq!(world.counts("q"), (0, 0));
}

fn with_expires(ms: i32) -> World {
    let mut world = World::ready();
    world.declare_with("q", &[("x-expires", Value::I32(ms))]);
    world
}

#[test]
fn a_queue_that_nobody_uses_goes() {
    let mut world = with_expires(100);
    world.fill("q", &["a"]);
    assert_eq!(world.broker.next_deadline_ms(), Some(1_100));
    world.tick(99);
    assert_eq!(world.queue_names(), ["q"]);
    world.tick(1);
    assert!(world.queue_names().is_empty());
    assert!(world.store.queues.is_empty() && world.store.facts.is_empty());
    assert_eq!(world.broker.next_deadline_ms(), None);
}

#[test]
fn declaring_getting_and_consuming_are_uses() {
    let mut world = with_expires(100);
    world.tick(90);
    world.declare_with("q", &[("x-expires", Value::I64(100))]);
    world.tick(90);
    world.ok(Op::DeclareQueue(DeclareQueue { passive: true, ..queue("q") }));
    world.tick(90);
    world.got("q", 1, Hold::AutoAck);
    world.tick(90);
    world.consume(1, "q", "c");
    world.tick(1_000);
    assert_eq!(world.queue_names(), ["q"], "a consumer holds it");
    world.ok(Op::Cancel { chan: ChanId(1), consumer_tag: "c".into() });
    world.tick(99);
    assert_eq!(world.queue_names(), ["q"]);
    world.tick(1);
    assert!(world.queue_names().is_empty());
    world.refused_with(Op::Get(get("q", 1, Hold::AutoAck)), NotFound, "no queue 'q' in vhost '/'");
}

#[test]
fn a_start_begins_the_time_anew() {
    let mut world = with_expires(100);
    world.tick(90);
    world.now_ms += 1_000;
    let mut world = world.crash();
    world.open(1, 1);
    world.tick(99);
    assert_eq!(world.queue_names(), ["q"]);
    world.tick(1);
    assert!(world.queue_names().is_empty());
}

#[test]
fn messages_of_a_queue_that_goes_are_not_dead_lettered() {
    let mut world = World::ready();
    world.declare("dead");
    let dlx = [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string("dead"))];
    world.declare_with("q", &[&dlx[..], &[("x-expires", Value::I32(10))]].concat());
    world.fill("q", &["a"]);
    world.tick(10);
    assert_eq!((world.queue_names(), world.counts("dead")), (vec!["dead".to_string()], (0, 0)));
}
