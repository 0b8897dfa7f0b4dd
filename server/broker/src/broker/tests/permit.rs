//! Who may do what, for every verb.

use std::sync::Arc;

use super::access::{add_user, add_vhost, hash, permit, topics};
use super::world::{World, binding, confirms, consumer, exchange, get, message, queue, text, to_queue};
use crate::effect::{Cause, Effect, Outcome, Reply};
use crate::ids::{ChanId, ConnId};
use crate::input::{
    Binding, DeclareExchange, DeclareQueue, DestinationKind, Hold, Input, Op, Publish, PublishExtras,
};
use crate::refusal::Refusal;
use crate::refusal::RefusalKind::{AccessRefused, NotFound, PreconditionFailed};
use crate::value::{Table, Value};

/// A world with queue "q", topic exchange "x", fanout exchange "f" and the user ann with these permissions on "/".
fn with_permissions(patterns: [&str; 3]) -> World {
    let mut world = World::ready();
    world.declare("q");
    world.ok(Op::DeclareExchange(exchange("x", "topic")));
    world.ok(Op::DeclareExchange(exchange("f", "fanout")));
    world.ok(add_user("ann", &[]));
    world.ok(permit("ann", "/", patterns));
    world
}

fn to_exchange(source: &str, destination: &str) -> Binding {
    Binding { destination_kind: DestinationKind::Exchange, ..binding(source, destination, "k") }
}

fn with_argument(name: &str, value: &str) -> Table {
    Table(vec![(name.into(), Value::Bytes(value.to_string().into()))])
}

fn text_of(right: &str, thing: &str) -> String {
    format!("{right} access to {thing} in vhost '/' refused for user 'ann'")
}

type Make = fn() -> Op;

/// A verb and the three patterns without any of which it is refused, with the words that the refusal then has.
type Case = (&'static str, Make, [&'static str; 3], &'static [(usize, &'static str, &'static str)]);

const CASES: &[Case] = &[
    (
        "declare an exchange",
        || Op::DeclareExchange(exchange("new", "direct")),
        ["^new$", "", ""],
        &[(0, "configure", "exchange 'new'")],
    ),
    (
        "declare an exchange with an alternate one",
        || {
            let arguments = with_argument("alternate-exchange", "f");
            Op::DeclareExchange(DeclareExchange { arguments, ..exchange("new", "direct") })
        },
        ["^new$", "^f$", "^new$"],
        &[(0, "configure", "exchange 'new'"), (1, "write", "exchange 'f'"), (2, "read", "exchange 'new'")],
    ),
    (
        "delete an exchange",
        || Op::DeleteExchange { name: "x".into(), if_unused: false },
        ["^x$", "", ""],
        &[(0, "configure", "exchange 'x'")],
    ),
    (
        "declare a queue",
        || Op::DeclareQueue(queue("new")),
        ["^new$", "", ""],
        &[(0, "configure", "queue 'new'")],
    ),
    (
        "declare a queue that exists",
        || Op::DeclareQueue(queue("q")),
        ["^q$", "", ""],
        &[(0, "configure", "queue 'q'")],
    ),
    (
        "declare a queue with dead letters",
        || {
            let arguments = with_argument("x-dead-letter-exchange", "");
            Op::DeclareQueue(DeclareQueue { arguments, ..queue("new") })
        },
        ["^new$", "^amq[.]default$", "^new$"],
        &[
            (0, "configure", "queue 'new'"),
            (1, "write", "exchange 'amq.default'"),
            (2, "read", "queue 'new'"),
        ],
    ),
    (
        "delete a queue",
        || Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false },
        ["^q$", "", ""],
        &[(0, "configure", "queue 'q'")],
    ),
    ("purge", || Op::PurgeQueue { name: "q".into() }, ["", "", "^q$"], &[(2, "read", "queue 'q'")]),
    ("get", || Op::Get(get("q", 1, Hold::AutoAck)), ["", "", "^q$"], &[(2, "read", "queue 'q'")]),
    ("consume", || Op::Consume(consumer(2, "q", "t")), ["", "", "^q$"], &[(2, "read", "queue 'q'")]),
    (
        "bind a queue",
        || Op::Bind(binding("x", "q", "k")),
        ["", "^q$", "^x$"],
        &[(1, "write", "queue 'q'"), (2, "read", "exchange 'x'")],
    ),
    (
        "unbind a queue",
        || Op::Unbind(binding("x", "q", "k")),
        ["", "^q$", "^x$"],
        &[(1, "write", "queue 'q'"), (2, "read", "exchange 'x'")],
    ),
    (
        "bind an exchange",
        || Op::Bind(to_exchange("x", "f")),
        ["", "^f$", "^x$"],
        &[(1, "write", "exchange 'f'"), (2, "read", "exchange 'x'")],
    ),
    (
        "unbind an exchange",
        || Op::Unbind(to_exchange("x", "f")),
        ["", "^f$", "^x$"],
        &[(1, "write", "exchange 'f'"), (2, "read", "exchange 'x'")],
    ),
];

#[test]
fn each_verb_needs_just_the_rights_of_rabbitmq_s_table() {
    for (verb, make, needed, refusals) in CASES {
        let mut world = with_permissions(*needed);
        world.open_as("ann", "/", 2, 2);
        let granted = world.ask(Some(2), make());
        assert!(granted.is_ok(), "{verb}: {granted:?}");
        for (lacking, right, thing) in *refusals {
            let mut patterns = *needed;
            patterns[*lacking] = "^another$";
            let mut world = with_permissions(patterns);
            world.open_as("ann", "/", 2, 2);
            let refusal = world.ask(Some(2), make()).expect_err(verb);
            assert_eq!((refusal.kind, refusal.text), (AccessRefused, text_of(right, thing)), "{verb}");
        }
    }
}

#[test]
fn nothing_is_said_of_what_exists_to_who_may_not_touch_it() {
    let mut there = with_permissions(["^mine"; 3]);
    let mut missing = World::ready();
    missing.ok(add_user("ann", &[]));
    missing.ok(permit("ann", "/", ["^mine"; 3]));
    there.open_as("ann", "/", 2, 2);
    missing.open_as("ann", "/", 2, 2);
    for (verb, make, ..) in CASES {
        let (there, missing) = (there.ask(Some(2), make()), missing.ask(Some(2), make()));
        assert_eq!(there.unwrap_err(), missing.unwrap_err(), "{verb}");
    }
}

#[test]
fn to_ask_passively_needs_no_right_in_the_vhost() {
    let mut world = with_permissions(["", "", ""]);
    world.ask_as("ann", "/", Op::DeclareQueue(DeclareQueue { passive: true, ..queue("q") })).unwrap();
    let passive = DeclareExchange { passive: true, ..exchange("x", "topic") };
    world.ask_as("ann", "/", Op::DeclareExchange(passive)).unwrap();
    world.ask_as("ann", "/", Op::ListQueues { name: None }).unwrap();
}

#[test]
fn a_name_that_the_server_chooses_is_checked_like_any_other() {
    let declare = Op::DeclareQueue(queue(""));
    let mut world = with_permissions(["^amq[.]gen-", "", ""]);
    world.open_as("ann", "/", 2, 2);
    let ask = |world: &mut World, op| {
        let mut input = world.request(Some(2), op);
        if let Input::Request { user, .. } = &mut input {
            *user = Some("ann".into());
        }
        let effects = world.send(input);
        effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { result, .. } => Some(result),
            _ => None,
        })
    };
    assert!(matches!(ask(&mut world, declare), Some(Ok(Reply::QueueDeclared { .. }))));
    world.ok(permit("ann", "/", ["^q", ".*", ".*"]));
    let refusal = ask(&mut world, Op::DeclareQueue(queue(""))).unwrap().unwrap_err();
    assert!(refusal.text.starts_with("configure access to queue 'amq.gen-"), "{refusal}");
}

#[test]
fn a_vhost_is_closed_to_who_has_no_permissions_in_it() {
    let mut world = with_permissions([".*"; 3]);
    world.ok(add_vhost("v"));
    world.ok(add_user("root", &["administrator"]));
    let ops: [Make; 6] = [
        || Op::ListQueues { name: None },
        || Op::ListExchanges,
        || Op::ListBindings,
        || Op::ListConsumers,
        || Op::DeclareQueue(DeclareQueue { passive: true, ..queue("q") }),
        || Op::Publish(vec![to_queue("q", "")]),
    ];
    for op in ops {
        for vhost in ["v", "w"] {
            let refusal = world.ask_as("ann", vhost, op()).unwrap_err();
            let text = format!("access to vhost '{vhost}' refused for user 'ann'");
            assert_eq!((refusal.kind, refusal.text), (AccessRefused, text), "there or not");
        }
        assert_eq!(world.ask_as("root", "v", op()).unwrap_err().kind, AccessRefused);
        assert_eq!(world.ask_as("root", "w", op()).unwrap_err().kind, NotFound);
        assert_eq!(world.ask_as("nobody", "/", op()).unwrap_err().kind, AccessRefused);
    }
}

#[test]
fn only_administrators_see_to_users_vhosts_and_permissions() {
    let mut world = with_permissions([".*"; 3]);
    world.ok(add_user("root", &["monitoring", "administrator"]));
    let ops: [Make; 16] = [
        || add_vhost("v"),
        || Op::MakeDefaults { user: "me".into(), password_hash: hash("") },
        || add_user("eve", &["administrator"]),
        || Op::ChangePassword { name: "eve".into(), password_hash: hash("") },
        || Op::SetUserTags { name: "eve".into(), tags: vec!["administrator".into()] },
        || Op::ListUsers,
        || permit("eve", "v", [".*"; 3]),
        || Op::ListPermissions { vhost: "v".into() },
        || Op::ListUserPermissions { user: "eve".into() },
        || Op::SetTopicPermissions(topics("eve", "v", "t", [".*"; 2])),
        || Op::ListTopicPermissions { vhost: "v".into() },
        || Op::ClearTopicPermissions { user: "eve".into(), vhost: "v".into(), exchange: None },
        || Op::ClearPermissions { user: "eve".into(), vhost: "v".into() },
        || Op::LookUpUser { name: "eve".into() },
        || Op::DeleteUser { name: "eve".into() },
        || Op::DeleteVhost { name: "v".into() },
    ];
    for op in ops {
        for user in ["ann", "nobody"] {
            let refusal = world.ask_as(user, "/", op()).unwrap_err();
            let text = format!("user '{user}' lacks the tag 'administrator' that this needs");
            assert_eq!((refusal.kind, refusal.text), (AccessRefused, text), "{:?}", op());
        }
        assert!(world.ask_as("root", "/", op()).is_ok(), "{:?}", op());
    }
    let enter = |user: &str| Op::EnterVhost { user: user.into(), vhost: "/".into() };
    assert!(world.ask_as("ann", "/", enter("ann")).is_ok());
    assert!(world.ask_as("ann", "/", enter("root")).is_err());
}

#[test]
fn a_user_sees_the_vhosts_that_it_may_enter() {
    let mut world = with_permissions([""; 3]);
    world.ok(add_vhost("v"));
    world.ok(add_user("eye", &["monitoring"]));
    let mut seen = |user: &str| {
        let Reply::Vhosts(rows) = world.ask_as(user, "/", Op::ListVhosts).ok()? else { unreachable!() };
        Some(rows.iter().map(|row| row.name.to_string()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(
        (seen("ann").as_deref(), seen("eye").as_deref(), seen("nobody")),
        (Some("/"), Some("/ v"), None)
    );
}

#[test]
fn connections_and_channels_of_others_are_for_those_who_monitor() {
    let mut world = with_permissions([".*"; 3]);
    world.ok(add_user("eye", &["monitoring"]));
    world.open_as("ann", "/", 2, 2);
    let mut seen = |user: &str| {
        let Ok(Reply::Connections(conns)) = world.ask_as(user, "/", Op::ListConnections) else {
            unreachable!()
        };
        let Ok(Reply::Channels(chans)) = world.ask_as(user, "/", Op::ListChannels) else { unreachable!() };
        let conns: Vec<u64> = conns.iter().map(|row| row.conn.0).collect();
        let chans: Vec<u64> = chans.iter().map(|row| row.chan.0).collect();
        (conns, chans)
    };
    assert_eq!(seen("ann"), (vec![2], vec![2]));
    assert_eq!(seen("eye"), (vec![1, 2], vec![1, 2]));
    for op in [Op::ListConnections, Op::ListChannels, Op::Stats] {
        assert_eq!(world.ask_as("nobody", "/", op).unwrap_err().kind, AccessRefused);
    }
}

#[test]
fn figures_are_of_what_the_user_sees() {
    let mut world = with_permissions([".*"; 3]);
    world.ok(add_vhost("v"));
    world.ok(add_user("eye", &["monitoring"]));
    world.open_as("ann", "/", 2, 2);
    world.fill("q", &["one", "two"]);
    world.ok(Op::Bind(binding("x", "q", "#")));
    world.ask_in("v", Op::DeclareQueue(queue("elsewhere"))).unwrap();
    world.ask_in("v", Op::Publish(vec![to_queue("elsewhere", "three")])).unwrap();
    let mut stats = |user: &str| {
        let Ok(Reply::Stats(stats)) = world.ask_as(user, "/", Op::Stats) else { unreachable!() };
        stats
    };
    let all = stats("eye");
    assert!(!all.partial);
    assert_eq!((all.connections, all.channels, all.queues, all.bindings), (2, 2, 2, 1));
    assert_eq!((all.messages_ready, all.published, all.confirmed), (3, 3, 3));
    let own = stats("ann");
    assert!(own.partial);
    assert_eq!((own.connections, own.channels, own.queues, own.bindings), (1, 1, 1, 1));
    assert_eq!((own.messages_ready, own.published, own.confirmed), (2, 2, 0));
    assert!(own.exchanges < all.exchanges && own.body_bytes < all.body_bytes);
}

#[track_caller]
fn rejected(effects: &[Effect], chan: u64) -> bool {
    let others = confirms(effects, chan).into_iter().flat_map(|(_, others)| others);
    others.into_iter().any(|(_, outcome)| matches!(outcome, Outcome::Rejected(AccessRefused)))
}

#[test]
fn a_publish_on_a_channel_needs_write_on_the_exchange() {
    let mut world = with_permissions(["", "^x$", ""]);
    world.ok(Op::Bind(binding("x", "q", "#")));
    world.open_as("ann", "/", 2, 2);
    let publish = |world: &mut World, exchange: &str| {
        let input = world.publish_input(2, message(exchange, "k", exchange));
        rejected(&world.send(input), 2)
    };
    assert!(!publish(&mut world, "x") && !publish(&mut world, "x"));
    assert!(publish(&mut world, "") && publish(&mut world, "missing"));
    // What a channel remembers ends with the next change.
    world.ok(permit("ann", "/", ["", "^$|default", ""]));
    assert!(publish(&mut world, "x"));
    let input = world.publish_input(2, to_queue("q", "by name"));
    assert!(!rejected(&world.send(input), 2));
    world.ok(Op::ClearPermissions { user: "ann".into(), vhost: "/".into() });
    assert!(publish(&mut world, ""));
    assert_eq!(world.drain("q"), ["x", "x", "by name"]);
}

#[test]
fn a_refused_publish_ends_a_strict_channel_also_in_a_transaction() {
    let refusal = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| match effect {
            Effect::ChannelFailed { cause: Cause::Publish { tag: 1 }, refusal, .. } => Some(refusal),
            _ => None,
        })
    };
    for in_tx in [false, true] {
        let mut world = with_permissions(["", "^x$", ""]);
        world.open_as("ann", "/", 2, 2);
        let (conn, chan) = (ConnId(2), ChanId(3));
        world.send(Input::ChannelOpened { conn, chan, credit_bytes: 1 << 20, strict: true });
        if in_tx {
            world.ok(Op::TxSelect { chan });
        }
        let input = world.publish_input(3, to_queue("q", "no"));
        let refusal = refusal(world.send(input)).expect("the channel fails");
        assert_eq!((refusal.kind, refusal.text), (AccessRefused, text_of("write", "exchange 'amq.default'")));
        assert_eq!(world.drain("q"), [""; 0]);
    }
}

#[test]
fn of_a_batch_what_the_user_may_not_publish_is_refused() {
    let mut world = with_permissions(["", "default|^x$", ""]);
    let topic = Op::SetTopicPermissions(topics("ann", "/", "x", ["^a", ".*"]));
    world.ok(topic);
    world.ok(Op::Bind(binding("x", "q", "#")));
    let claims = PublishExtras { user_id: Some("bob".into()), ..PublishExtras::default() };
    let batch = vec![
        to_queue("q", "one"),
        message("f", "", "two"),
        message("x", "a", "three"),
        message("x", "b", "four"),
        Publish { extras: Some(Box::new(claims)), ..to_queue("q", "five") },
    ];
    let Ok(Reply::Published(results)) = world.ask_as("ann", "/", Op::Publish(batch)) else { unreachable!() };
    let said: Vec<Option<Refusal>> = results.into_iter().map(|(_, refusal)| refusal).collect();
    let texts: Vec<&str> =
        said.iter().map(|refusal| refusal.as_ref().map_or("", |r| r.text.as_str())).collect();
    let topic = "write access to topic 'b' in exchange 'x' in vhost '/' refused for user 'ann'";
    let claimed = "user_id property set to 'bob' but authenticated user was 'ann'";
    assert_eq!(texts, ["", &*text_of("write", "exchange 'f'"), "", topic, claimed]);
    assert_eq!(said[4].as_ref().map(|refusal| refusal.kind), Some(PreconditionFailed));
    assert_eq!(world.drain("q"), ["one", "three"]);
}

#[test]
fn topic_permissions_decide_on_bindings_of_topic_exchanges() {
    let mut world = with_permissions([".*"; 3]);
    world.ok(Op::SetTopicPermissions(topics("ann", "/", "x", [".*", "^a[.]"])));
    world.ok(Op::SetTopicPermissions(topics("ann", "/", "f", [".*", "^a[.]"])));
    let mut bind = |op| world.ask_as("ann", "/", op).map_err(|refusal| refusal.text);
    assert!(bind(Op::Bind(binding("x", "q", "a.#"))).is_ok());
    let text = "read access to topic 'b.#' in exchange 'x' in vhost '/' refused for user 'ann'".to_string();
    assert_eq!(bind(Op::Bind(binding("x", "q", "b.#"))).unwrap_err(), text);
    assert_eq!(bind(Op::Unbind(binding("x", "q", "b.#"))).unwrap_err(), text);
    assert!(bind(Op::Bind(to_exchange("x", "f"))).is_err());
    assert!(bind(Op::Bind(binding("f", "q", "b.#"))).is_ok(), "it is no topic exchange");
}

#[test]
fn a_request_on_a_connection_is_its_user_s() {
    let mut world = with_permissions(["", "", "^q$"]);
    world.open_as("ann", "/", 2, 2);
    world.declare("other");
    let purge = |name: &str| Op::PurgeQueue { name: name.into() };
    assert!(world.ask(Some(2), purge("q")).is_ok());
    assert_eq!(world.ask(Some(2), purge("other")).unwrap_err().kind, AccessRefused, "without saying who");
    world.ok(add_user("bob", &[]));
    world.ok(permit("bob", "/", [".*"; 3]));
    for op in [purge("q"), Op::CloseConnection] {
        let mut input = world.request(Some(2), op);
        if let Input::Request { user, .. } = &mut input {
            *user = Some("bob".into());
        }
        let effects = world.send(input);
        let [Effect::Reply { result: Err(refusal), .. }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(refusal.text, "the connection is not one of user 'bob'");
    }
}

#[test]
fn who_was_deleted_may_do_nothing_more() {
    let mut world = with_permissions([".*"; 3]);
    world.ask_as("ann", "/", Op::PurgeQueue { name: "q".into() }).unwrap();
    world.ok(Op::DeleteUser { name: "ann".into() });
    for op in [Op::PurgeQueue { name: "q".into() }, Op::ListConnections, Op::ListQueues { name: None }] {
        assert_eq!(world.ask_as("ann", "/", op).unwrap_err().kind, AccessRefused);
    }
    // One of the same name is another one.
    world.ok(add_user("ann", &[]));
    assert!(world.ask_as("ann", "/", Op::PurgeQueue { name: "q".into() }).is_err());
}

#[test]
fn permissions_hold_after_a_crash() {
    let mut world = with_permissions(["", "default", "^q$"]);
    world.ok(Op::SetTopicPermissions(topics("ann", "/", "x", ["^a", ".*"])));
    let mut world = world.crash();
    world.open(1, 1);
    world.open_as("ann", "/", 2, 2);
    let input = world.publish_input(2, to_queue("q", "one"));
    assert!(!rejected(&world.send(input), 2));
    let input = world.publish_input(2, message("f", "", "two"));
    assert!(rejected(&world.send(input), 2));
    let Ok(Reply::Got(got)) = world.ask_as("ann", "/", Op::Get(get("q", 9, Hold::AutoAck))) else {
        unreachable!()
    };
    assert_eq!(got.messages.iter().map(|got| text(&got.message.body)).collect::<Vec<_>>(), ["one"]);
    assert!(world.ask_as("ann", "/", Op::DeclareQueue(queue("q"))).is_err());
    let refusal = world.ask_as("ann", "/", Op::Bind(binding("x", "q", "a"))).unwrap_err();
    assert_eq!(refusal.details, [("queue", Arc::<str>::from("q").to_string())]);
}
