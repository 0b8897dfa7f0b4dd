//! Connections whose user or virtual host is deleted.

use std::sync::Arc;

use super::access::{add_user, add_vhost, hash, permit};
use super::world::{World, channel_opened, consumer, queue, to_queue};
use crate::effect::{Effect, Reply};
use crate::ids::{ChanId, ConnId};
use crate::input::{ConnectionInfo, DeclareQueue, Input, Op};
use crate::refusal::RefusalKind::ConnectionForced;

/// Users ann and bob, virtual hosts "/" and "v", and a connection of each user in each, 11 to 14.
fn crowded() -> World {
    let mut world = World::ready();
    world.ok(add_vhost("v"));
    for (user, conns) in [("ann", [11, 12]), ("bob", [13, 14])] {
        world.ok(add_user(user, &[]));
        for (vhost, conn) in ["/", "v"].into_iter().zip(conns) {
            world.ok(permit(user, vhost, [".*"; 3]));
            world.open_as(user, vhost, conn, conn);
        }
    }
    world
}

fn forced(effects: &[Effect]) -> Vec<(u64, String)> {
    let forced = effects.iter().filter_map(|effect| match effect {
        Effect::ConnectionForced { conn, refusal } => {
            assert_eq!(refusal.kind, ConnectionForced);
            Some((conn.0, refusal.text.clone()))
        }
        _ => None,
    });
    forced.collect()
}

fn open(world: &mut World) -> Vec<u64> {
    let Reply::Connections(rows) = world.ok(Op::ListConnections) else { unreachable!() };
    rows.iter().map(|row| row.conn.0).collect()
}

#[test]
fn a_deleted_user_s_connections_end() {
    let mut world = crowded();
    let effects = world.ask_effects_in("/", Op::DeleteUser { name: "ann".into() });
    let text = "user 'ann' is deleted";
    assert_eq!(forced(&effects), [(11, text.to_string()), (12, text.to_string())]);
    assert_eq!(open(&mut world), [1, 13, 14]);
}

#[test]
fn a_deleted_vhost_s_connections_end() {
    let mut world = crowded();
    let effects = world.ask_effects_in("/", Op::DeleteVhost { name: "v".into() });
    let text = "vhost 'v' is deleted";
    assert_eq!(forced(&effects), [(12, text.to_string()), (14, text.to_string())]);
    assert_eq!(open(&mut world), [1, 11, 13]);
}

#[test]
fn a_connection_ends_as_if_it_were_closed() {
    let mut world = crowded();
    world.declare("q");
    world.fill("q", &["one"]);
    let own = DeclareQueue { durable: false, exclusive: true, ..queue("own") };
    for op in [Op::DeclareQueue(own), Op::Consume(consumer(11, "q", "t"))] {
        let mut input = world.request(Some(11), op);
        if let Input::Request { user, .. } = &mut input {
            *user = Some("ann".into());
        }
        world.send(input);
    }
    assert_eq!((world.counts("q"), world.queue_names()), ((0, 1), vec!["own".to_string(), "q".to_string()]));
    world.ok(Op::DeleteUser { name: "ann".into() });
    assert_eq!((world.counts("q"), world.queue_names()), ((1, 0), vec!["q".to_string()]));

    // The shell may not know yet, and says that it is closed when it does.
    let late = [
        world.publish_input(11, to_queue("q", "late")),
        channel_opened(11, 99, 1 << 20),
        world.publish_input(99, to_queue("q", "late")),
        Input::ChannelClosed { chan: ChanId(11) },
        Input::ConnectionClosed { conn: ConnId(11) },
    ];
    let effects = world.turn(late.into());
    assert_eq!(effects.len(), 1, "{effects:?}");
    // Whoever opened the channel would else wait for ever.
    assert_eq!(forced(&effects), [(11, "the connection is not open any more".to_string())]);
    assert_eq!(world.counts("q"), (1, 0));
}

/// Opens connection 20, after a login that was looked at before all but the first `login_at` changes.
fn opened(world: &mut World, user: &str, vhost: &str, login_at: Option<u64>) -> Vec<(u64, String)> {
    let info =
        ConnectionInfo { user: user.into(), vhost: vhost.into(), login_at, ..ConnectionInfo::default() };
    let effects = forced(&world.send(Input::ConnectionOpened { conn: ConnId(20), info }));
    assert_eq!(open(world).contains(&20), effects.is_empty());
    world.send(Input::ConnectionClosed { conn: ConnId(20) });
    effects
}

#[test]
fn a_connection_that_comes_too_late_is_not_taken_in() {
    let mut world = crowded();
    let refused = |text: &str| vec![(20, text.to_string())];
    assert_eq!(opened(&mut world, "nobody", "", None), refused("user 'nobody' is deleted"));
    assert_eq!(opened(&mut world, "ann", "w", None), refused("vhost 'w' is deleted"));
    assert_eq!(opened(&mut world, "", "w", None), refused("vhost 'w' is deleted"));
    world.ok(Op::ClearPermissions { user: "ann".into(), vhost: "v".into() });
    assert_eq!(opened(&mut world, "ann", "v", None), refused("access to vhost 'v' refused for user 'ann'"));
    assert_eq!(opened(&mut world, "ann", "", None), []);
    assert_eq!(opened(&mut world, "bob", "v", None), []);
}

#[test]
fn a_new_user_of_the_same_name_does_not_inherit_a_login() {
    let mut world = crowded();
    let login_at = Some(world.broker.access_changes());
    // What else changes does not concern it.
    world.ok(add_user("cyd", &[]));
    assert_eq!(opened(&mut world, "ann", "/", login_at), []);
    world.ok(Op::DeleteUser { name: "ann".into() });
    world.ok(add_user("ann", &[]));
    world.ok(permit("ann", "/", [".*"; 3]));
    assert_eq!(opened(&mut world, "ann", "/", login_at), [(20, "user 'ann' is deleted".to_string())]);
    let login_at = Some(world.broker.access_changes());
    assert_eq!(opened(&mut world, "ann", "/", login_at), []);
    // Who was there at a start is older than every login.
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(opened(&mut world, "ann", "/", Some(0)), []);
}

#[test]
fn who_only_loses_permissions_stays_connected() {
    let mut world = crowded();
    let (user, vhost) = (Arc::from("ann"), Arc::from("/"));
    let effects = world.ask_effects_in("/", Op::ClearPermissions { user, vhost });
    assert_eq!(forced(&effects), []);
    assert_eq!(open(&mut world).len(), 5);
}

/// Guards against a client that was looked at while the server was still starting, before there was a count.
#[test]
fn the_first_user_is_older_than_every_login() {
    let mut world = World::ready();
    world.ok(Op::MakeDefaults { user: "guest".into(), password_hash: hash("1") });
    assert!(world.broker.access_changes() > 0);
    assert_eq!(opened(&mut world, "guest", "/", Some(0)), []);
}
