//! Who may settle which delivery by its id, and what anybody else learns.

use super::access::{add_user, permit};
use super::world::{World, consumer, get, queue};
use crate::effect::Reply;
use crate::ids::{AckId, QueueId};
use crate::input::{DeclareQueue, Hold, Op, Settle};
use crate::refusal::RefusalKind::{AccessRefused, AckIdStale};

/// Queues "q" and "other" with a message each, and users: ann may read "q", bob everything, cyd nothing.
fn peopled() -> World {
    let mut world = World::ready();
    for (user, reads) in [("ann", "^q$"), ("bob", ".*"), ("cyd", "^$")] {
        world.ok(add_user(user, &[]));
        world.ok(permit(user, "/", [".*", ".*", reads]));
    }
    for name in ["q", "other"] {
        world.declare(name);
        world.fill(name, &["one"]);
    }
    world
}

/// What a user hears who settles these as done.
fn settle(world: &mut World, user: &str, conn: Option<u64>, ids: &[AckId]) -> Vec<String> {
    let settle = Op::SettleIds { ids: ids.to_vec(), how: Settle::Ack };
    let reply = match conn {
        Some(conn) => world.ask(Some(conn), settle),
        None => world.ask_as(user, "/", settle),
    };
    let Ok(Reply::SettledIds(results)) = reply else { panic!("{reply:?}") };
    results
        .into_iter()
        .map(|result| match result {
            Ok(()) => "done".to_string(),
            Err(refusal) if refusal.kind == AckIdStale => "stale".to_string(),
            Err(refusal) => {
                assert_eq!(refusal.kind, AccessRefused);
                refusal.text
            }
        })
        .collect()
}

fn of_no_queue(id: AckId) -> AckId {
    AckId { queue: QueueId(77), ..id }
}

#[test]
fn who_may_read_the_queue_settles_what_others_hold() {
    let mut world = peopled();
    let id = world.leased("q", 1)[0].ack_id;
    assert_eq!(settle(&mut world, "ann", None, &[id, id]), ["done", "done"]);
    assert_eq!(world.counts("q"), (0, 0));
}

/// Guards against ids as a way to find out what there is.
#[test]
fn a_forbidden_id_is_like_one_of_no_queue() {
    let mut world = peopled();
    let id = world.leased("other", 1)[0].ack_id;
    for (user, answer) in [("ann", "done"), ("cyd", "user 'cyd' may not read any queue")] {
        for attempt in 0..3 {
            let id = AckId { attempt, ..id };
            assert_eq!(settle(&mut world, user, None, &[id, of_no_queue(id)]), [answer; 2], "{user}");
        }
    }
    assert_eq!(world.counts("other"), (0, 1), "nothing happened");
    // Who may read it hears more.
    let stale = AckId { attempt: 9, ..id };
    assert_eq!(settle(&mut world, "bob", None, &[stale, id]), ["stale", "done"]);
}

/// E9, also for who may read some queues only.
#[test]
fn what_was_settled_stays_settled_when_its_queue_is_gone() {
    let mut world = peopled();
    let id = world.leased("q", 1)[0].ack_id;
    assert_eq!(settle(&mut world, "ann", None, &[id]), ["done"]);
    world.ok(Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false });
    assert_eq!(settle(&mut world, "ann", None, &[id]), ["done"]);
}

/// Guards against an answer that says of a live delivery that it is done.
#[test]
fn whom_a_delivery_was_made_to_settles_it_though_the_queue_is_closed_to_it_by_now() {
    for leased in [true, false] {
        let mut world = peopled();
        world.open_as("bob", "/", 2, 2);
        let hold =
            if leased { Hold::Lease { lease_ms: 1_000 } } else { Hold::Channel(crate::ids::ChanId(2)) };
        let Ok(Reply::Got(got)) = world.ask(Some(2), Op::Get(get("q", 1, hold))) else { unreachable!() };
        let id = got.messages[0].ack_id;
        world.ok(permit("bob", "/", ["", "", "^other$"]));
        assert_eq!(settle(&mut world, "bob", None, &[id]), ["done"]);
        assert_eq!(world.counts("q"), (0, 0));
    }
}

#[test]
fn an_exclusive_queue_s_deliveries_are_its_connection_s_and_its_user_s() {
    let mut world = peopled();
    for (user, conn) in [("ann", 2), ("bob", 3)] {
        world.open_as(user, "/", conn, conn);
    }
    let own = Op::DeclareQueue(DeclareQueue { durable: false, exclusive: true, ..queue("q2") });
    world.ok(permit("ann", "/", [".*"; 3]));
    world.ask(Some(2), own).unwrap();
    world.fill("q2", &["one", "two"]);
    world.ask(Some(2), Op::Consume(consumer(2, "q2", "t"))).unwrap();
    let id = AckId {
        queue: world.broker.queues.values().next_back().unwrap().id,
        ..world.leased("q", 1)[0].ack_id
    };
    let ids = [1, 2].map(|seq| AckId { seq: crate::ids::Seq(seq), ..id });
    // Bob may read every queue but not this one, which is locked.
    assert_eq!(settle(&mut world, "bob", Some(3), &[ids[0], of_no_queue(id)]), ["done"; 2]);
    assert_eq!(world.unacked("q2"), 2, "nothing happened");
    assert_eq!(settle(&mut world, "ann", Some(2), &ids[..1]), ["done"]);
    assert_eq!(settle(&mut world, "ann", None, &ids[1..]), ["done"]);
    assert_eq!(world.unacked("q2"), 0);
}
