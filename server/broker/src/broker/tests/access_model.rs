//! Any history of users, virtual hosts and permissions, with crashes, against plain maps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::access::{add_user, add_vhost, permissions, permit, topics};
use super::world::{World, to_queue};
use crate::effect::{Outcome, Reply};
use crate::input::Op;
use crate::refusal::RefusalKind;
use crate::{Permissions, TopicPermissions};

const USERS: [&str; 3] = ["ann", "bob", "cyd"];
const VHOSTS: [&str; 3] = ["/", "u", "v"];
const PATTERNS: [&str; 4] = ["", ".*", "^q$", "default"];

#[derive(Debug, Clone)]
enum Act {
    AddUser(usize),
    DeleteUser(usize),
    AddVhost(usize),
    DeleteVhost(usize),
    Permit(usize, usize, [usize; 3]),
    Clear(usize, usize),
    Topics(usize, usize, [usize; 2]),
    ClearTopics(usize, usize),
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    let pattern = 0..PATTERNS.len();
    let three = [pattern.clone(), pattern.clone(), pattern.clone()];
    prop_oneof![
        3 => (0..3usize).prop_map(Act::AddUser),
        1 => (0..3usize).prop_map(Act::DeleteUser),
        3 => (1..3usize).prop_map(Act::AddVhost),
        1 => (1..3usize).prop_map(Act::DeleteVhost),
        6 => (0..3usize, 0..3usize, three).prop_map(|(user, vhost, of)| Act::Permit(user, vhost, of)),
        2 => (0..3usize, 0..3usize).prop_map(|(user, vhost)| Act::Clear(user, vhost)),
        2 => (0..3usize, 0..3usize, [pattern.clone(), pattern]).prop_map(|(u, v, of)| Act::Topics(u, v, of)),
        1 => (0..3usize, 0..3usize).prop_map(|(user, vhost)| Act::ClearTopics(user, vhost)),
        1 => Just(Act::Crash),
    ]
}

/// What there should be.
#[derive(Default)]
struct Plain {
    users: BTreeSet<usize>,
    vhosts: BTreeSet<usize>,
    /// By virtual host and user.
    permissions: BTreeMap<(usize, usize), [usize; 3]>,
    topics: BTreeMap<(usize, usize), [usize; 2]>,
}

impl Plain {
    fn knows(&self, user: usize, vhost: usize) -> bool {
        self.users.contains(&user) && self.vhosts.contains(&vhost)
    }

    /// Whether an act succeeds, and what is there after it.
    fn take(&mut self, act: &Act) -> bool {
        match act {
            Act::AddUser(user) => self.users.insert(*user),
            Act::DeleteUser(user) => {
                self.permissions.retain(|(_, of), _| of != user);
                self.topics.retain(|(_, of), _| of != user);
                self.users.remove(user)
            }
            Act::AddVhost(vhost) => {
                self.vhosts.insert(*vhost);
                true
            }
            Act::DeleteVhost(vhost) => {
                self.permissions.retain(|(at, _), _| at != vhost);
                self.topics.retain(|(at, _), _| at != vhost);
                self.vhosts.remove(vhost)
            }
            Act::Permit(user, vhost, of) => {
                let knows = self.knows(*user, *vhost);
                self.permissions.extend(knows.then_some(((*vhost, *user), *of)));
                knows
            }
            Act::Clear(user, vhost) => {
                self.permissions.remove(&(*vhost, *user));
                self.knows(*user, *vhost)
            }
            Act::Topics(user, vhost, of) => {
                let knows = self.knows(*user, *vhost);
                self.topics.extend(knows.then_some(((*vhost, *user), *of)));
                knows
            }
            Act::ClearTopics(user, vhost) => {
                self.topics.remove(&(*vhost, *user));
                self.knows(*user, *vhost)
            }
            Act::Crash => true,
        }
    }

    fn rows(&self, vhost: usize) -> (Vec<Permissions>, Vec<TopicPermissions>) {
        let rights = self.permissions.iter().filter(|((at, _), _)| *at == vhost);
        let keys = self.topics.iter().filter(|((at, _), _)| *at == vhost);
        let row = |user: usize, of: [usize; 3]| {
            permissions(USERS[user], VHOSTS[vhost], of.map(|pattern| PATTERNS[pattern]))
        };
        let topic_row = |user: usize, of: [usize; 2]| {
            topics(USERS[user], VHOSTS[vhost], "x", of.map(|pattern| PATTERNS[pattern]))
        };
        (
            rights.map(|((_, user), of)| row(*user, *of)).collect(),
            keys.map(|((_, user), of)| topic_row(*user, *of)).collect(),
        )
    }
}

fn op(act: &Act) -> Option<Op> {
    let (user, vhost) = (|user: &usize| USERS[*user], |vhost: &usize| VHOSTS[*vhost]);
    Some(match act {
        Act::AddUser(u) => add_user(user(u), &[]),
        Act::DeleteUser(u) => Op::DeleteUser { name: user(u).into() },
        Act::AddVhost(v) => add_vhost(vhost(v)),
        Act::DeleteVhost(v) => Op::DeleteVhost { name: vhost(v).into() },
        Act::Permit(u, v, of) => permit(user(u), vhost(v), of.map(|pattern| PATTERNS[pattern])),
        Act::Clear(u, v) => Op::ClearPermissions { user: user(u).into(), vhost: vhost(v).into() },
        Act::Topics(u, v, of) => {
            Op::SetTopicPermissions(topics(user(u), vhost(v), "x", of.map(|pattern| PATTERNS[pattern])))
        }
        Act::ClearTopics(u, v) => {
            let (user, vhost) = (user(u).into(), vhost(v).into());
            Op::ClearTopicPermissions { user, vhost, exchange: None }
        }
        Act::Crash => return None,
    })
}

/// Compares every listing, and what a publish by each user to the default exchange of each virtual host comes to.
fn compare(world: &mut World, plain: &Plain) {
    for (vhost, name) in VHOSTS.iter().enumerate() {
        let rows = world.ask(None, Op::ListPermissions { vhost: (*name).into() });
        if !plain.vhosts.contains(&vhost) {
            assert_eq!(rows.unwrap_err().kind, RefusalKind::NotFound);
            continue;
        }
        let Ok(Reply::Permissions(rows)) = rows else { panic!("{rows:?}") };
        let topics = world.ask(None, Op::ListTopicPermissions { vhost: (*name).into() });
        let Ok(Reply::TopicPermissions(topics)) = topics else { panic!("{topics:?}") };
        assert_eq!((rows, topics), plain.rows(vhost));
        for (user, who) in USERS.iter().enumerate() {
            // "amq.default" is what the patterns see.
            let may = plain
                .permissions
                .get(&(vhost, user))
                .is_some_and(|of| [".*", "default"].contains(&PATTERNS[of[1]]));
            let entered = plain.permissions.contains_key(&(vhost, user));
            match world.ask_as(who, name, Op::Publish(vec![to_queue("nowhere", "")])) {
                Ok(Reply::Published(results)) => {
                    let wanted =
                        if may { Outcome::Unrouted } else { Outcome::Rejected(RefusalKind::AccessRefused) };
                    assert_eq!((results[0].0, entered), (wanted, true));
                }
                other => assert!(!entered, "{other:?}"),
            }
        }
    }
    let facts = plain.users.len() + plain.vhosts.len() - 1 + plain.permissions.len() + plain.topics.len();
    assert_eq!(world.store.facts.len(), facts, "one fact for each thing, and none for what is gone");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_history_of_permissions_agrees_with_plain_maps(acts in prop::collection::vec(act(), 0..60)) {
        let mut world = World::new();
        let mut plain = Plain::default();
        plain.vhosts.insert(0);
        for act in &acts {
            let succeeds = plain.take(act);
            match op(act) {
                Some(op) => {
                    let answer = world.ask(None, op);
                    assert_eq!(answer.is_ok(), succeeds, "{act:?}: {answer:?}");
                }
                None => {
                    world = world.crash();
                    compare(&mut world, &plain);
                }
            }
        }
        compare(&mut world, &plain);
        compare(&mut world.crash(), &plain);
    }
}
