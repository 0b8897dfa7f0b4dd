//! Connections and channels that come and go.

use super::world::{World, consumer, deliveries, queue, to_queue};
use crate::effect::{Effect, Reply};
use crate::ids::{ChanId, ConnId};
use crate::input::{ConnectionInfo, DeclareQueue, Hold, Input, Op};

#[test]
fn a_connection_takes_its_channels_and_exclusive_queues_along() {
    let mut world = World::ready();
    world.open(2, 2);
    world.declare("shared");
    world.ok(Op::DeclareQueue(DeclareQueue { exclusive: true, ..queue("mine") }));
    world.ok(Op::Bind(super::world::binding("amq.topic", "mine", "#")));
    world.consume(1, "mine", "c");
    world.fill("mine", &["x"]);
    world.fill("shared", &["a", "b"]);
    world.consume(1, "shared", "d");
    world.got("shared", 1, Hold::Channel(ChanId(1)));
    let mut effects = world.send(Input::ConnectionClosed { conn: ConnId(1) });
    assert!(deliveries(&mut effects).is_empty());
    assert!(effects.iter().all(|e| matches!(e, Effect::Append { .. })), "nothing is said to it: {effects:?}");
    assert_eq!(world.queue_names(), ["shared"]);
    assert_eq!(world.counts("shared"), (2, 0));
    let stats = world.broker.stats();
    assert_eq!((stats.connections, stats.channels, stats.consumers, stats.bindings), (1, 1, 0, 0));
    world.send(Input::ConnectionClosed { conn: ConnId(1) });
    world.send(Input::ChannelClosed { chan: ChanId(1) });
}

#[test]
fn consumers_of_others_on_a_sessions_queue_are_told() {
    let mut world = World::ready();
    world.connect(5);
    world.ask(Some(5), Op::DeclareQueue(DeclareQueue { exclusive: true, ..queue("s") })).expect("granted");
    // A gRPC stream is a connection of its own that acts for the session.
    world.ask(Some(5), Op::Consume(consumer(1, "s", "c"))).expect("granted");
    let effects = world.send(Input::ConnectionClosed { conn: ConnId(5) });
    assert!(
        matches!(&effects[..], [Effect::ConsumerCancelled { chan: ChanId(1), consumer_tag }] if &**consumer_tag == "c")
    );
    world.declare("s");
    world.consume_with(consumer(1, "s", "c"));
}

#[test]
fn what_a_closed_channel_still_sends_is_ignored() {
    let mut world = World::ready();
    world.declare("q");
    world.send(Input::ChannelClosed { chan: ChanId(1) });
    let appended = world.store.issued;
    assert!(world.publish(to_queue("q", "m")).is_empty());
    assert!(world.ack(1, 1).is_empty());
    assert!(world.send(Input::Writable { chan: ChanId(1), bytes: 1 }).is_empty());
    assert_eq!(world.store.issued, appended);
}

/// Guards against a stop that waits for outcomes which nobody will ever hear.
#[test]
fn publishes_of_a_channel_that_ends_count_as_done() {
    let mut world = World::ready();
    world.declare("q");
    world.prompt = false;
    let input = world.publish_input(1, to_queue("q", "not durable yet"));
    world.turn(vec![input]);
    assert_eq!((world.broker.stats().published, world.broker.stats().confirmed), (1, 0));
    world.send(Input::ChannelClosed { chan: ChanId(1) });
    assert_eq!((world.broker.stats().published, world.broker.stats().confirmed), (1, 1));
    world.confirm();
    assert_eq!(world.broker.stats().confirmed, 1);
    // A strict channel ends with its refused publish.
    let (conn, chan) = (ConnId(1), ChanId(9));
    world.send(Input::ChannelOpened { conn, chan, credit_bytes: 1, strict: true });
    let input = world.publish_input(9, super::world::message("missing", "", ""));
    world.turn(vec![input]);
    assert_eq!((world.broker.stats().published, world.broker.stats().confirmed), (2, 2));
}

#[test]
fn listings_show_connections_and_channels() {
    let mut world = World::new();
    world.tick(500);
    let info = ConnectionInfo { peer: "127.0.0.1:1".into(), ..ConnectionInfo::default() };
    world.send(Input::ConnectionOpened { conn: ConnId(7), info });
    world.send(super::world::channel_opened(7, 3, 1));
    match world.ok(Op::ListConnections) {
        Reply::Connections(rows) => {
            let row = &rows[0];
            assert_eq!((row.conn, &*row.info.peer), (ConnId(7), "127.0.0.1:1"));
            assert_eq!((row.channels, row.connected_at_ms), (1, 1_500));
        }
        other => panic!("{other:?}"),
    }
    world.declare("q");
    world.consume(3, "q", "c");
    world.ok(Op::ChannelPrefetch { chan: ChanId(3), messages: 4 });
    match world.ok(Op::ListChannels) {
        Reply::Channels(rows) => {
            let row = &rows[0];
            assert_eq!(
                (row.chan, row.conn, row.consumers, row.prefetch_messages),
                (ChanId(3), ConnId(7), 1, 4)
            );
        }
        other => panic!("{other:?}"),
    }
    match world.ok(Op::Stats) {
        Reply::Stats(stats) => assert_eq!((stats.connections, stats.channels, stats.exchanges), (1, 1, 7)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_waits_for_an_idle_channel_is_answered_once_nothing_is_out() {
    let when_idle = || Op::WhenIdle { chan: ChanId(1) };
    let mut world = World::ready();
    world.declare("q");
    world.ok(when_idle());
    world.fill("q", &["a", "b"]);
    let delivered = world.consume(1, "q", "c");
    world.ok(Op::Cancel { chan: ChanId(1), consumer_tag: "c".into() });
    assert!(world.try_ask(Some(1), when_idle()).is_none());
    let answered = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Reply { .. })).count();
    assert_eq!(answered(&world.ack(1, 1)), 0);
    let ids = vec![delivered[1].ack_id];
    let input = world.request(None, Op::SettleIds { ids, how: crate::input::Settle::Ack });
    assert_eq!(answered(&world.send(input)), 2, "by an id from anywhere, too");
    world.ok(when_idle());

    let ends: [fn(&mut World) -> Input; 2] = [
        |_| Input::ChannelClosed { chan: ChanId(1) },
        |world| {
            let op = Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false };
            world.request(None, op)
        },
    ];
    for end in ends {
        let mut world = World::ready();
        world.declare("q");
        world.fill("q", &["a"]);
        world.got("q", 1, Hold::Channel(ChanId(1)));
        assert!(world.try_ask(Some(1), when_idle()).is_none());
        let input = end(&mut world);
        assert!(answered(&world.send(input)) > 0);
        assert!(world.broker.idle.is_empty());
    }
}
