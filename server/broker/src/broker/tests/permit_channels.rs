//! Whose a channel is, and what holds for what waits on it.

use std::sync::Arc;

use super::access::{add_user, permit};
use super::world::{World, binding, consumer, exchange, get, message, to_queue};
use crate::effect::{Effect, Reply};
use crate::ids::{ChanId, ConnId, ReqId};
use crate::input::{Hold, Input, Op};
use crate::refusal::Refusal;
use crate::refusal::RefusalKind::{AccessRefused, NotFound};

/// Queue "q", topic exchange "x" that leads to it, and the users ann and bob with connections 2 and 3. On each is a
/// channel of the same number and a strict one, 12 and 13.
fn shared() -> World {
    let mut world = World::ready();
    world.declare("q");
    world.ok(Op::DeclareExchange(exchange("x", "topic")));
    world.ok(Op::Bind(binding("x", "q", "#")));
    for (user, conn) in [("ann", 2), ("bob", 3)] {
        world.ok(add_user(user, &[]));
        world.ok(permit(user, "/", [".*"; 3]));
        world.open_as(user, "/", conn, conn);
        let (conn, chan) = (ConnId(conn), ChanId(conn + 10));
        world.send(Input::ChannelOpened { conn, chan, credit_bytes: 1 << 20, strict: true });
    }
    world
}

/// Asks on a strict channel.
fn ask_on(world: &mut World, conn: u64, on: u64, op: Op) -> Option<Result<Reply, Refusal>> {
    let mut input = world.request(Some(conn), op);
    let Input::Request { chan, req, .. } = &mut input else { unreachable!() };
    *chan = Some(ChanId(on));
    let asked: ReqId = *req;
    world.send(input).into_iter().find_map(|effect| match effect {
        Effect::Reply { req, result } if req == asked => Some(result),
        _ => None,
    })
}

type Make = fn(ChanId) -> Op;

#[test]
fn a_request_reaches_channels_of_its_own_connection_only() {
    let mut world = shared();
    let ops: [Make; 10] = [
        |chan| Op::Get(get("q", 1, Hold::Channel(chan))),
        |chan| Op::Get(get("q", 1, Hold::AutoAckOn(chan))),
        |chan| Op::Consume(consumer(chan.0, "q", "t")),
        |chan| Op::Cancel { chan, consumer_tag: "t".into() },
        |chan| Op::ChannelPrefetch { chan, messages: 1 },
        |chan| Op::Recover { chan },
        |chan| Op::TxSelect { chan },
        |chan| Op::TxRollback { chan },
        |chan| Op::TxCommit { chan },
        |chan| Op::CloseChannel { chan },
    ];
    let text = "channel 13 is not one of the connection that the request is made on";
    for op in ops {
        let chan = ChanId(13);
        for refusal in [
            world.ask(Some(2), op(chan)).unwrap_err(),
            world.ask_as("ann", "/", op(chan)).unwrap_err(),
            world.ask_as("bob", "/", op(chan)).unwrap_err(),
        ] {
            assert_eq!((refusal.kind, &*refusal.text), (AccessRefused, text), "{:?}", op(chan));
        }
    }
    for op in ops {
        assert!(world.ask(Some(3), op(ChanId(13))).is_ok(), "{:?}", op(ChanId(13)));
    }
    let gone = world.ask(Some(3), Op::Recover { chan: ChanId(13) }).unwrap_err();
    assert_eq!(gone.kind, NotFound);
}

#[test]
fn nobody_fails_the_channel_of_another_connection() {
    let mut world = shared();
    let purge = |name: &str| Op::PurgeQueue { name: name.into() };
    let refusal = ask_on(&mut world, 2, 13, purge("q")).unwrap().unwrap_err();
    assert_eq!(refusal.kind, AccessRefused);
    assert!(matches!(ask_on(&mut world, 3, 13, purge("q")), Some(Ok(_))), "it works as before");
    // One that has failed is silent to its own connection; to others it is not theirs.
    assert!(matches!(ask_on(&mut world, 3, 13, purge("missing")), Some(Err(_))));
    assert!(ask_on(&mut world, 3, 13, purge("q")).is_none());
    assert_eq!(ask_on(&mut world, 2, 13, purge("q")).unwrap().unwrap_err().kind, AccessRefused);
}

/// Publishes in ann's transaction, then changes something, and says what becomes of the commit.
fn commit_after(change: impl FnOnce(&mut World)) -> (Option<Result<Reply, Refusal>>, Vec<String>) {
    let mut world = shared();
    world.ask(Some(2), Op::TxSelect { chan: ChanId(12) }).unwrap();
    for publish in [to_queue("q", "one"), message("x", "k", "two")] {
        let input = world.publish_input(12, publish);
        assert!(world.send(input).is_empty());
    }
    change(&mut world);
    let committed = ask_on(&mut world, 2, 12, Op::TxCommit { chan: ChanId(12) });
    (committed, world.drain("q"))
}

#[test]
fn a_commit_needs_what_its_publishes_need() {
    let (committed, messages) = commit_after(|_| {});
    assert!(matches!(committed, Some(Ok(Reply::Done))));
    assert_eq!(messages, ["one", "two"]);
    let no_x = |world: &mut World| drop(world.ok(permit("ann", "/", [".*", "default", ".*"])));
    let nothing = |world: &mut World| {
        world.ok(Op::ClearPermissions { user: "ann".into(), vhost: Arc::from("/") });
    };
    for change in [&no_x as &dyn Fn(&mut World), &nothing] {
        let (committed, messages) = commit_after(change);
        let refusal = committed.unwrap().unwrap_err();
        assert_eq!(refusal.kind, AccessRefused);
        assert!(refusal.text.starts_with("write access to exchange '"), "{refusal}");
        assert_eq!(messages, [""; 0]);
    }
}

#[test]
fn a_commit_of_a_user_who_is_gone_does_nothing() {
    let (committed, messages) = commit_after(|world| {
        world.ok(Op::DeleteUser { name: "ann".into() });
        world.ok(add_user("ann", &[]));
        world.ok(permit("ann", "/", [".*"; 3]));
    });
    assert_eq!(committed.unwrap().unwrap_err().kind, NotFound, "its channel went with it");
    assert_eq!(messages, [""; 0]);
}
