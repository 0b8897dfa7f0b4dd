//! Users and permissions: added, changed, listed, deleted, and there again after a crash.

use std::sync::Arc;

use super::world::{World, queue};
use crate::effect::{Effect, Reply};
use crate::input::Op;
use crate::refusal::RefusalKind::{AccessRefused, AlreadyExists, InvalidArgument, NotFound};
use crate::{AddUser, AddVhost, PasswordHash, Permissions, TopicPermissions, UserRecord};

pub(super) fn hash(text: &str) -> PasswordHash {
    PasswordHash(Arc::from(text))
}

pub(super) fn add_user(name: &str, tags: &[&str]) -> Op {
    let tags = tags.iter().map(|tag| Arc::from(*tag)).collect();
    Op::AddUser(AddUser { name: name.into(), password_hash: hash("$argon2id$1"), tags })
}

pub(super) fn add_vhost(name: &str) -> Op {
    Op::AddVhost(AddVhost { name: name.into(), description: "".into(), tags: Vec::new() })
}

pub(super) fn permit(user: &str, vhost: &str, [configure, write, read]: [&str; 3]) -> Op {
    Op::SetPermissions(permissions(user, vhost, [configure, write, read]))
}

pub(super) fn permissions(user: &str, vhost: &str, [configure, write, read]: [&str; 3]) -> Permissions {
    Permissions {
        vhost: vhost.into(),
        user: user.into(),
        configure: configure.into(),
        write: write.into(),
        read: read.into(),
    }
}

pub(super) fn topics(user: &str, vhost: &str, exchange: &str, [write, read]: [&str; 2]) -> TopicPermissions {
    TopicPermissions {
        vhost: vhost.into(),
        user: user.into(),
        exchange: exchange.into(),
        write: write.into(),
        read: read.into(),
    }
}

/// A world with the users ann and bob and the virtual host "v".
fn peopled() -> World {
    let mut world = World::ready();
    world.ok(add_vhost("v"));
    world.ok(add_user("ann", &["administrator"]));
    world.ok(add_user("bob", &[]));
    world
}

fn user(world: &mut World, name: &str) -> Option<UserRecord> {
    let Reply::User(user) = world.ok(Op::LookUpUser { name: name.into() }) else { unreachable!() };
    user
}

fn users(world: &mut World) -> Vec<(String, usize)> {
    let Reply::Users(rows) = world.ok(Op::ListUsers) else { unreachable!() };
    rows.iter().map(|row| (row.name.to_string(), row.tags.len())).collect()
}

fn rows(world: &mut World, op: Op) -> Vec<Permissions> {
    let Reply::Permissions(rows) = world.ok(op) else { unreachable!() };
    rows
}

fn topic_rows(world: &mut World, vhost: &str) -> Vec<TopicPermissions> {
    let Reply::TopicPermissions(rows) = world.ok(Op::ListTopicPermissions { vhost: vhost.into() }) else {
        unreachable!()
    };
    rows
}

fn changes(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::AccessChanged)).count()
}

#[test]
fn users_come_back_as_they_were_last() {
    let mut world = peopled();
    world.ok(Op::ChangePassword { name: "bob".into(), password_hash: hash("$argon2id$2") });
    world.ok(Op::SetUserTags { name: "ann".into(), tags: vec!["monitoring".into(), "x".into()] });
    world.ok(add_user("cyd", &[]));
    world.ok(Op::DeleteUser { name: "cyd".into() });
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(users(&mut world), [("ann".to_string(), 2), ("bob".to_string(), 0)]);
    let bob = UserRecord { name: "bob".into(), password_hash: hash("$argon2id$2"), tags: Vec::new() };
    assert_eq!(user(&mut world, "bob"), Some(bob));
    assert_eq!(user(&mut world, "cyd"), None);
}

#[test]
fn what_is_wrong_with_a_user_is_said() {
    let mut world = peopled();
    world.refused_with(add_user("ann", &[]), AlreadyExists, "user 'ann' exists already");
    assert_eq!(user(&mut world, "ann").map(|ann| ann.tags.len()), Some(1), "it stays as it was");
    world.refused_with(add_user("", &[]), InvalidArgument, "the name of a user must not be empty");
    for name in ["a\0b", "a\nb", "\u{7f}"] {
        assert_eq!(world.refused(add_user(name, &[])).kind, InvalidArgument);
    }
    assert_eq!(world.refused(add_user(&"u".repeat(256), &[])).kind, InvalidArgument);
    assert_eq!(world.refused(add_user("cyd", &["a tag\twith a tab"])).kind, InvalidArgument);
    assert_eq!(world.refused(add_user("cyd", &["tag"; 65])).kind, InvalidArgument);
    let long = AddUser { name: "cyd".into(), password_hash: hash(&"x".repeat(5_000)), tags: Vec::new() };
    assert_eq!(world.refused(Op::AddUser(long)).kind, InvalidArgument);
    for op in [
        Op::ChangePassword { name: "cyd".into(), password_hash: hash("") },
        Op::SetUserTags { name: "cyd".into(), tags: Vec::new() },
        Op::DeleteUser { name: "cyd".into() },
        Op::ListUserPermissions { user: "cyd".into() },
        permit("cyd", "v", [".*"; 3]),
        Op::ClearPermissions { user: "cyd".into(), vhost: "v".into() },
        Op::SetTopicPermissions(topics("cyd", "v", "x", [".*"; 2])),
    ] {
        world.refused_with(op, NotFound, "user 'cyd' not found");
    }
    for op in [
        permit("ann", "w", [".*"; 3]),
        Op::ListPermissions { vhost: "w".into() },
        Op::ListTopicPermissions { vhost: "w".into() },
        Op::ClearTopicPermissions { user: "ann".into(), vhost: "w".into(), exchange: None },
    ] {
        world.refused_with(op, NotFound, "vhost 'w' not found");
    }
    assert_eq!(users(&mut world).len(), 2);
}

#[test]
fn permissions_come_back_and_go_with_their_user_and_their_vhost() {
    let mut world = peopled();
    world.ok(permit("ann", "/", ["^a", "b", ""]));
    world.ok(permit("ann", "v", [".*"; 3]));
    world.ok(permit("bob", "v", ["x"; 3]));
    world.ok(permit("bob", "v", ["", "^b", ".*"]));
    world.ok(Op::SetTopicPermissions(topics("bob", "v", "t", ["^a", ""])));
    world.ok(Op::SetTopicPermissions(topics("bob", "v", "u", ["", ""])));
    world.ok(Op::SetTopicPermissions(topics("ann", "v", "t", [".*", ".*"])));
    let mut world = world.crash();
    world.open(1, 1);
    let (ann, bob) = (permissions("ann", "v", [".*"; 3]), permissions("bob", "v", ["", "^b", ".*"]));
    assert_eq!(rows(&mut world, Op::ListPermissions { vhost: "v".into() }), [ann.clone(), bob]);
    let own = [permissions("ann", "/", ["^a", "b", ""]), ann];
    assert_eq!(rows(&mut world, Op::ListUserPermissions { user: "ann".into() }), own);
    let of_ann = topics("ann", "v", "t", [".*", ".*"]);
    let of_bob = [topics("bob", "v", "t", ["^a", ""]), topics("bob", "v", "u", ["", ""])];
    let all: Vec<TopicPermissions> = [of_ann.clone()].into_iter().chain(of_bob.clone()).collect();
    assert_eq!(topic_rows(&mut world, "v"), all);

    let (user, vhost) = (Arc::from("bob"), Arc::from("v"));
    let clear = |exchange: Option<&str>| Op::ClearTopicPermissions {
        user: Arc::clone(&user),
        vhost: Arc::clone(&vhost),
        exchange: exchange.map(Arc::from),
    };
    world.ok(clear(Some("t")));
    world.ok(clear(Some("t")));
    assert_eq!(topic_rows(&mut world, "v"), [of_ann.clone(), of_bob[1].clone()]);
    world.ok(clear(None));
    assert_eq!(topic_rows(&mut world, "v"), [of_ann]);
    world.ok(Op::ClearPermissions { user: user.clone(), vhost: vhost.clone() });
    world.ok(Op::ClearPermissions { user: user.clone(), vhost: vhost.clone() });
    assert_eq!(rows(&mut world, Op::ListUserPermissions { user }), []);

    world.ok(Op::DeleteVhost { name: vhost });
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(rows(&mut world, Op::ListUserPermissions { user: "ann".into() }), own[..1]);
    world.ok(Op::DeleteUser { name: "ann".into() });
    world.ok(add_user("ann", &[]));
    assert_eq!(rows(&mut world, Op::ListUserPermissions { user: "ann".into() }), []);
    world.ok(Op::DeleteUser { name: "ann".into() });
    world.ok(Op::DeleteUser { name: "bob".into() });
    assert!(world.store.facts.is_empty(), "nothing is left of any of it");
}

#[test]
fn a_pattern_that_cannot_be_used_changes_nothing() {
    let mut world = peopled();
    world.ok(permit("bob", "v", ["a"; 3]));
    for patterns in [["(", "b", "b"], ["b", "(", "b"], ["b", "b", "("]] {
        let text = "'(' is not a regular expression that can be used: unclosed group";
        world.refused_with(permit("bob", "v", patterns), InvalidArgument, text);
    }
    let bad = Op::SetTopicPermissions(topics("bob", "v", "t", ["[", ".*"]));
    assert_eq!(world.refused(bad).kind, InvalidArgument);
    assert_eq!(
        rows(&mut world, Op::ListPermissions { vhost: "v".into() }),
        [permissions("bob", "v", ["a"; 3])]
    );
    assert_eq!(topic_rows(&mut world, "v"), []);
}

#[test]
fn defaults_are_made_once_in_the_life_of_a_store() {
    let make = |hashed: &str| Op::MakeDefaults { user: "guest".into(), password_hash: hash(hashed) };
    let mut world = World::ready();
    assert!(!world.broker.defaults_made());
    world.declare("before");
    let before = world.store.issued;
    world.ok(make("$1"));
    assert_eq!((world.store.issued - before, world.broker.defaults_made()), (1, true));
    world.ok(make("$2"));
    assert_eq!(world.store.issued - before, 1, "the second time changes nothing");
    let guest = user(&mut world, "guest").unwrap();
    assert_eq!((guest.password_hash, guest.tags), (hash("$1"), vec![Arc::from("administrator")]));
    let Reply::Permissions(all) = world.ok(Op::ListPermissions { vhost: "/".into() }) else { unreachable!() };
    assert_eq!(all, [permissions("guest", "/", [".*"; 3])]);
    world.ask_as("guest", "/", Op::PurgeQueue { name: "before".into() }).unwrap();

    // From here on nothing comes back by itself.
    world.ok(Op::DeleteVhost { name: "/".into() });
    world.ok(Op::DeleteUser { name: "guest".into() });
    let mut world = world.crash();
    assert!(world.broker.defaults_made());
    world.open(1, 1);
    world.ok(make("$3"));
    assert_eq!(users(&mut world), []);
    world.refused_with(Op::DeclareQueue(queue("q")), NotFound, "vhost '/' not found");
    world.ok(add_vhost("/"));
    world.declare("q");
    let mut world = world.crash();
    world.open(1, 1);
    assert_eq!(world.queue_names(), ["q"]);
}

#[test]
fn a_user_that_was_there_before_keeps_the_password() {
    let mut world = peopled();
    world.ok(Op::MakeDefaults { user: "bob".into(), password_hash: hash("$new") });
    let mut world = world.crash();
    world.open(1, 1);
    let bob = user(&mut world, "bob").unwrap();
    assert_eq!((bob.password_hash, bob.tags), (hash("$argon2id$1"), Vec::new()));
    assert_eq!(rows(&mut world, Op::ListUserPermissions { user: "bob".into() }).len(), 1);
}

#[test]
fn whoever_remembers_users_hears_of_every_change() {
    let mut world = World::ready();
    let changing = [
        add_vhost("v"),
        add_user("ann", &[]),
        Op::ChangePassword { name: "ann".into(), password_hash: hash("2") },
        Op::SetUserTags { name: "ann".into(), tags: Vec::new() },
        permit("ann", "v", ["a"; 3]),
        Op::SetTopicPermissions(topics("ann", "v", "t", ["a"; 2])),
        Op::ClearTopicPermissions { user: "ann".into(), vhost: "v".into(), exchange: None },
        Op::ClearPermissions { user: "ann".into(), vhost: "v".into() },
        Op::DeleteUser { name: "ann".into() },
        Op::DeleteVhost { name: "v".into() },
        Op::MakeDefaults { user: "ann".into(), password_hash: hash("1") },
    ];
    for op in changing {
        let what = format!("{op:?}");
        let effects = world.ask_effects_in("/", op);
        let change = effects.iter().position(|effect| matches!(effect, Effect::AccessChanged));
        let answer = effects.iter().position(|effect| matches!(effect, Effect::Reply { result: Ok(_), .. }));
        assert!(change.is_some() && change < answer, "{what}: before the answer");
        assert_eq!(changes(&effects), 1, "{what}");
    }
    let quiet = [Op::ListUsers, Op::LookUpUser { name: "ann".into() }, add_vhost("/"), add_user("ann", &[])];
    for op in quiet {
        assert_eq!(changes(&world.ask_effects_in("/", op)), 0);
    }
}

#[test]
fn a_change_is_answered_when_it_is_durable() {
    let mut world = World::ready();
    world.prompt = false;
    assert!(world.try_ask(None, add_user("ann", &[])).is_none());
    let effects = world.confirm();
    assert!(matches!(effects[..], [Effect::Reply { result: Ok(Reply::Done), .. }]), "{effects:?}");
    assert!(world.try_ask(None, Op::ListUsers).is_some(), "who only asks does not wait");
}

#[test]
fn who_may_enter_a_vhost() {
    let mut world = peopled();
    world.ok(permit("bob", "v", [""; 3]));
    let enter = |user: &str, vhost: &str| Op::EnterVhost { user: user.into(), vhost: vhost.into() };
    world.ok(enter("bob", "v"));
    let refused = |user: &str, vhost: &str| format!("access to vhost '{vhost}' refused for user '{user}'");
    world.refused_with(enter("bob", "/"), AccessRefused, &refused("bob", "/"));
    world.refused_with(enter("ann", "v"), AccessRefused, &refused("ann", "v"));
    world.refused_with(enter("cyd", "v"), AccessRefused, &refused("cyd", "v"));
    world.refused_with(enter("bob", "w"), NotFound, "vhost 'w' not found");
}

#[test]
fn a_password_s_hash_is_not_printed() {
    let mut world = peopled();
    let Reply::User(Some(ann)) = world.ok(Op::LookUpUser { name: "ann".into() }) else { unreachable!() };
    assert!(format!("{ann:?}").contains("hashed") && !format!("{ann:?}").contains("argon2id"));
    assert!(!format!("{:?}", add_user("ann", &[])).contains("argon2id"));
}
