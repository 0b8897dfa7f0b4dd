use bytes::Bytes;

use super::{RecoverError, State, replay};
use crate::ids::{Epoch, QueueId, Seq};
use crate::record::fact::{
    BindingFact, DefaultsFact, ExchangeFact, Fact, FactError, LevelFact, PermissionFact, QueueFact,
    TopicPermissionFact, UserFact, VhostFact,
};
use crate::recovered::{Recovered, RecoveredQueue};
use crate::topology::Topology;

fn exchange(name: &str, kind: &str) -> Fact {
    Fact::Exchange(ExchangeFact {
        vhost: "/".into(),
        name: name.into(),
        kind: kind.into(),
        ..Default::default()
    })
}

fn queue(name: &str, id: u64) -> Fact {
    Fact::Queue(QueueFact { vhost: "/".into(), name: name.into(), queue: id, ..Default::default() })
}

fn binding(source: &str, destination: &str) -> Fact {
    Fact::Binding(BindingFact {
        vhost: "/".into(),
        source: source.into(),
        destination: destination.into(),
        ..Default::default()
    })
}

fn store_queue(id: u64) -> RecoveredQueue {
    RecoveredQueue { queue: QueueId(id), next: Seq(1), head: Seq(1), ..RecoveredQueue::default() }
}

fn recovered(facts: &[Fact], queues: Vec<RecoveredQueue>) -> Recovered {
    let facts = facts.iter().map(|f| (f.key(), f.value())).collect();
    Recovered { epoch: Epoch(2), next_queue_id: QueueId(5), facts, queues }
}

fn error(facts: &[Fact], queues: Vec<RecoveredQueue>) -> RecoverError {
    replay(recovered(facts, queues)).map(drop).expect_err("it is refused")
}

fn default_vhost(state: &State) -> &Topology {
    state.vhosts.find("/").and_then(|id| state.vhosts.topology(id)).expect("it is there")
}

fn vhost(name: &str) -> Fact {
    Fact::Vhost(VhostFact { name: name.into(), ..Default::default() })
}

#[test]
fn what_was_declared_is_there() {
    let facts =
        [exchange("x", "topic"), queue("a", 3), queue("b", 4), binding("x", "a"), binding("amq.direct", "b")];
    let state = replay(recovered(&facts, vec![store_queue(3), store_queue(4)])).unwrap();
    assert_eq!(default_vhost(&state).queue("a"), Some(QueueId(3)));
    assert_eq!(
        (default_vhost(&state).binding_count(), state.queues.len(), state.next_queue_id),
        (2, 2, QueueId(5))
    );
    assert!(default_vhost(&state).exchange("x").is_some());
}

#[test]
fn the_default_vhost_is_there_until_facts_say_what_is() {
    let names = |facts: &[Fact]| {
        let state = replay(recovered(facts, vec![])).unwrap();
        let names: Vec<String> = state.vhosts.iter().map(|vhost| vhost.name.to_string()).collect();
        (names, state.defaults_made)
    };
    let of = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&[]), (of(&["/"]), false));
    assert_eq!(names(&[vhost("a")]), (of(&["/", "a"]), false));
    let made = Fact::Defaults(DefaultsFact {});
    assert_eq!(names(&[vhost("a"), made.clone()]), (of(&["a"]), true));
    assert_eq!(names(&[vhost("/"), made.clone()]), (of(&["/"]), true));
    assert!(matches!(error(&[exchange("x", "topic"), made], vec![]), RecoverError::Dangling { .. }));
}

#[test]
fn permissions_need_their_user_their_vhost_and_a_pattern() {
    let user = || Fact::User(UserFact { name: "ann".into(), ..Default::default() });
    let permission = |vhost: &str, read: &str| {
        Fact::Permission(PermissionFact {
            vhost: vhost.into(),
            user: "ann".into(),
            read: read.into(),
            ..Default::default()
        })
    };
    let topic = |vhost: &str, read: &str| {
        Fact::TopicPermission(TopicPermissionFact {
            vhost: vhost.into(),
            user: "ann".into(),
            exchange: "x".into(),
            read: read.into(),
            ..Default::default()
        })
    };
    let state = replay(recovered(&[user(), permission("/", "^a"), topic("/", "^b")], vec![])).unwrap();
    assert!(state.access.may_enter("ann", "/") && !state.access.may_enter("ann", "v"));
    for (facts, text) in [
        (vec![permission("/", "a")], "there is no user 'ann'"),
        (vec![topic("/", "a")], "there is no user 'ann'"),
        (vec![user(), permission("v", "a")], "there is no vhost 'v'"),
        (vec![user(), topic("v", "a")], "there is no vhost 'v'"),
        (
            vec![user(), permission("/", "(")],
            "'(' is not a regular expression that can be used: unclosed group",
        ),
        (vec![user(), topic("/", "(")], "'(' is not a regular expression that can be used: unclosed group"),
    ] {
        let error = error(&facts, vec![]);
        let RecoverError::Dangling { key, text: said } = &error else { panic!("{error:?}") };
        assert!(key.contains("ann") && said == text, "{error}");
    }
}

#[test]
fn ids_are_never_given_twice() {
    let state = replay(recovered(&[queue("a", 9)], vec![store_queue(9)])).unwrap();
    assert_eq!(state.next_queue_id, QueueId(10));
    let state = replay(Recovered::default()).unwrap();
    assert_eq!(state.next_queue_id, QueueId(1));
}

#[test]
fn facts_and_queues_must_fit() {
    assert!(matches!(error(&[queue("a", 3)], vec![]), RecoverError::Dangling { .. }));
    assert_eq!(error(&[], vec![store_queue(3)]), RecoverError::Nameless(QueueId(3)));
    let pair = [queue("a", 3), queue("b", 3)];
    assert!(
        matches!(error(&pair, vec![store_queue(3)]), RecoverError::Dangling { .. }),
        "two names for one queue"
    );
    assert!(matches!(error(&[binding("x", "a")], vec![]), RecoverError::Dangling { .. }));
    assert!(matches!(error(&[exchange("x", "magic")], vec![]), RecoverError::Dangling { .. }));
    let elsewhere =
        Fact::Exchange(ExchangeFact { vhost: "v".into(), kind: "topic".into(), ..Default::default() });
    let text = error(&[elsewhere], vec![]).to_string();
    assert!(text.contains("there is no vhost 'v'"), "{text}");
}

fn levelled(name: &str, id: u64, levels: &[(u32, u64)]) -> Fact {
    let levels = levels.iter().map(|(priority, queue)| LevelFact { priority: *priority, queue: *queue });
    Fact::Queue(QueueFact {
        vhost: "/".into(),
        name: name.into(),
        queue: id,
        levels: levels.collect(),
        expiring: true,
        ..Default::default()
    })
}

#[test]
fn a_queue_comes_back_with_its_levels() {
    let live = |id, live| RecoveredQueue { next: Seq(live + 1), live, ..store_queue(id) };
    let facts = [levelled("a", 3, &[(2, 5), (9, 4)])];
    let state = replay(recovered(&facts, vec![live(3, 1), live(4, 10), live(5, 100)])).unwrap();
    let queue = &state.queues[&QueueId(3)];
    assert_eq!((queue.messages_ready(), queue.can_expire()), (111, true));
    assert_eq!(queue.upper_levels().collect::<Vec<_>>(), [(9, QueueId(4)), (2, QueueId(5))]);
    assert_eq!(state.levels.into_iter().collect::<Vec<_>>(), [4, 5].map(|id| (QueueId(id), QueueId(3))));
    let dangling = [
        (levelled("a", 3, &[(2, 4)]), vec![store_queue(3)]),
        (levelled("a", 3, &[(0, 4)]), vec![store_queue(3), store_queue(4)]),
        (levelled("a", 3, &[(256, 4)]), vec![store_queue(3), store_queue(4)]),
        (levelled("a", 3, &[(2, 4), (2, 5)]), vec![store_queue(3), store_queue(4), store_queue(5)]),
        (levelled("a", 3, &[(2, 3)]), vec![store_queue(3)]),
    ];
    for (fact, queues) in dangling {
        let said = format!("{fact:?}");
        assert!(matches!(error(&[fact], queues), RecoverError::Dangling { .. }), "{said}");
    }
}

#[test]
fn an_error_names_the_fact() {
    let mut recovered = recovered(&[exchange("ex", "topic")], vec![]);
    recovered.facts[0].1 = Bytes::from_static(&[9, 1, 2]);
    let error = replay(recovered).map(drop).unwrap_err();
    let RecoverError::Fact { key, source } = &error else { panic!("{error:?}") };
    assert!(key.ends_with("ex"));
    assert_eq!(*source, FactError::Version(9));
    assert!(error.to_string().contains("version 9, this broker reads version 1"), "{error}");
}

#[test]
fn numbers_that_contradict_each_other() {
    let sound = RecoveredQueue {
        next: Seq(10),
        head: Seq(2),
        live: 5,
        dead: vec![(Seq(3), Seq(4)), (Seq(8), Seq(8))],
        ..store_queue(3)
    };
    let facts = [queue("a", 3)];
    assert!(replay(recovered(&facts, vec![sound.clone()])).is_ok());
    let wrong = [
        RecoveredQueue { live: 6, ..sound.clone() },
        RecoveredQueue { head: Seq(0), ..sound.clone() },
        RecoveredQueue { head: Seq(11), ..sound.clone() },
        RecoveredQueue { dead: vec![(Seq(3), Seq(4)), (Seq(4), Seq(4))], ..sound.clone() },
        RecoveredQueue { dead: vec![(Seq(1), Seq(3))], ..sound.clone() },
        RecoveredQueue { dead: vec![(Seq(8), Seq(10))], ..sound.clone() },
        RecoveredQueue { dead: vec![(Seq(4), Seq(3))], ..sound.clone() },
    ];
    for queue in wrong {
        let said = format!("{queue:?}");
        assert!(matches!(error(&facts, vec![queue]), RecoverError::Numbers { .. }), "{said}");
    }
}
