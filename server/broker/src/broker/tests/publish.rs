//! Publishes and batches: SEMANTICS 4.

use std::sync::Arc;

use super::world::{World, binding, confirms, exchange, message, queue, to_queue, transient};
use crate::effect::{Effect, Outcome, Reply};
use crate::input::{Binding, DeclareExchange, DeclareQueue, DestinationKind, Input, Op, Publish};
use crate::record;
use crate::refusal::RefusalKind;

fn appends(effects: &[Effect]) -> Vec<&crate::effect::Batch> {
    let batches = effects.iter().filter_map(|e| match e {
        Effect::Append { batch, .. } => Some(batch),
        _ => None,
    });
    batches.collect()
}

fn published(reply: Reply) -> Vec<(Outcome, Option<String>)> {
    match reply {
        Reply::Published(results) => results.into_iter().map(|(o, r)| (o, r.map(|r| r.text))).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_publish_to_many_queues_is_one_put() {
    let mut world = World::ready();
    for name in ["a", "b", "c"] {
        world.declare(name);
        world.ok(Op::Bind(binding("amq.fanout", name, "")));
        world.ok(Op::Bind(binding("amq.fanout", name, "again")));
    }
    world.ok(Op::DeclareQueue(DeclareQueue { durable: false, ..queue("t") }));
    world.ok(Op::Bind(binding("amq.fanout", "t", "")));
    let effects = world.publish(message("amq.fanout", "key", "body"));
    let batches = appends(&effects);
    assert_eq!(batches.len(), 1);
    let [put] = &batches[0].puts[..] else { panic!("{batches:?}") };
    assert_eq!(put.targets.len(), 3, "durable queues, each once");
    let stored = record::decode_message(&put.record()).unwrap();
    assert_eq!(
        (&*stored.exchange, &*stored.routing_key, &stored.body[..]),
        ("amq.fanout", "key", &b"body"[..])
    );
    assert_eq!((stored.received_ms, stored.persistent), (1_000, true));
    for name in ["a", "b", "c", "t"] {
        assert_eq!(world.drain(name), ["body"]);
    }
}

#[test]
fn transient_messages_and_queues_never_reach_the_log() {
    let mut world = World::ready();
    world.declare("d");
    world.ok(Op::DeclareQueue(DeclareQueue { durable: false, ..queue("t") }));
    let issued = world.store.issued;
    for publish in [transient("d", "1"), to_queue("t", "2"), transient("t", "3")] {
        let effects = world.publish(publish);
        assert_eq!(confirms(&effects, 1).len(), 1, "confirmed at once");
    }
    world.fill("d", &["4"]);
    assert_eq!(world.drain("d"), ["1", "4"], "in publish order");
    assert_eq!(world.drain("t"), ["2", "3"]);
    assert_eq!(world.store.issued, issued + 2, "one put and one ack");
    assert!(world.stored("d").is_empty());
}

#[test]
fn refused_and_unroutable_publishes() {
    let mut world = World::ready();
    world.ok(Op::DeclareExchange(DeclareExchange { internal: true, ..exchange("in", "fanout") }));
    let big = "b".repeat(super::world::SETTINGS.message_bytes_max as usize + 1);
    let cases = [
        (message("none", "k", "m"), Outcome::Rejected(RefusalKind::NotFound)),
        (message("in", "k", "m"), Outcome::Rejected(RefusalKind::AccessRefused)),
        (to_queue("q", &big), Outcome::Rejected(RefusalKind::TooLarge)),
        (to_queue(&"k".repeat(256), "m"), Outcome::Rejected(RefusalKind::InvalidArgument)),
        (to_queue("no queue", "m"), Outcome::Unrouted),
        (message("amq.direct", "k", "m"), Outcome::Unrouted),
    ];
    for (n, (publish, outcome)) in cases.iter().cloned().enumerate() {
        let effects = world.publish(publish);
        let tag = n as u64 + 1;
        assert_eq!(confirms(&effects, 1), [(tag, vec![(tag, outcome)])]);
    }
    let stats = world.broker.stats();
    assert_eq!((stats.published, stats.confirmed, stats.rejected, stats.unrouted), (6, 6, 4, 2));

    world.declare("q");
    let mut batch: Vec<Publish> = cases.into_iter().map(|(publish, _)| publish).collect();
    batch.push(to_queue("q", "good"));
    let results = published(world.ok(Op::Publish(batch)));
    let text = |n: usize| results[n].1.clone().unwrap_or_default();
    assert_eq!(text(0), "no exchange 'none' in vhost '/'");
    assert!(text(1).contains("internal"), "{}", text(1));
    assert_eq!(text(2), "message size 65537 is larger than configured max size 65536");
    assert_eq!(results[4], (Outcome::Unrouted, None));
    assert_eq!(results[6], (Outcome::Routed { queues: 1 }, None));
    assert_eq!(world.drain("q"), ["good"]);
}

/// Guards against an append that the store would refuse, when the core has already carried it out.
#[test]
fn what_no_append_could_hold_is_refused_as_a_whole() {
    let settings = crate::Settings { append_bytes_max: 1_000, ..super::world::SETTINGS };
    let mut world = World::with(settings);
    world.open(1, 1);
    world.declare("q");
    let batch = vec![to_queue("q", &"a".repeat(400)), to_queue("q", &"b".repeat(500))];
    let refused = world.ask(None, Op::Publish(batch)).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::TooLarge);
    assert!(refused.text.contains("segment-size"), "{}", refused.text);
    let effects = world.publish(to_queue("q", &"c".repeat(1_000)));
    assert_eq!(confirms(&effects, 1), [(1, vec![(1, Outcome::Rejected(RefusalKind::TooLarge))])]);
    world.fill("q", &["small"]);
    assert_eq!(world.drain("q"), ["small"]);
}

/// Guards against a purge or delete of so much that no append could hold its removal.
#[test]
fn a_large_removal_is_cut_into_appends_that_fit() {
    use crate::effect::Batch;
    use crate::ids::{QueueId, Seq};
    let ack = |n: u64| (QueueId(1), Seq(2 * n), Seq(2 * n));
    let fact = |n: u64| (bytes::Bytes::from(n.to_le_bytes().to_vec()), None);
    let batch = Batch {
        acks: (1..100).map(ack).collect(),
        facts: (1..100).map(fact).collect(),
        queues_deleted: vec![QueueId(1)],
        ..Batch::default()
    };
    let whole = batch.acks.len() + batch.facts.len();
    let pieces = batch.pieces(1_000);
    assert!(pieces.len() > 5);
    assert_eq!(pieces.iter().map(|piece| piece.acks.len() + piece.facts.len()).sum::<usize>(), whole);
    assert!(pieces.iter().all(|piece| piece.acks.len() <= 20 && piece.facts.len() <= 30));
    let (last, others) = pieces.split_last().expect("pieces");
    assert_eq!(last.queues_deleted, [QueueId(1)], "what they belong to goes last");
    assert!(others.iter().all(|piece| piece.queues_deleted.is_empty()));
}

#[test]
fn a_message_through_an_internal_exchange_arrives() {
    let mut world = World::ready();
    world.declare("q");
    world.ok(Op::DeclareExchange(DeclareExchange { internal: true, ..exchange("in", "fanout") }));
    world.ok(Op::Bind(binding("in", "q", "")));
    world.ok(Op::Bind(Binding {
        destination_kind: DestinationKind::Exchange,
        ..binding("amq.direct", "in", "k")
    }));
    world.publish(message("amq.direct", "k", "m"));
    assert_eq!(world.drain("q"), ["m"]);
}

#[test]
fn a_mandatory_message_is_returned_before_its_confirm() {
    let mut world = World::ready();
    world.declare("q");
    let effects = world.publish(Publish { mandatory: true, ..to_queue("nowhere", "m") });
    let returned = effects
        .iter()
        .position(|e| matches!(e, Effect::Return { tag: 1, message, .. } if &message.body[..] == b"m"));
    let confirmed = effects.iter().position(|e| matches!(e, Effect::Confirms { .. }));
    assert!(returned.is_some() && returned < confirmed, "{effects:?}");
    let effects = world.publish(Publish { mandatory: true, ..to_queue("q", "m") });
    assert!(!effects.iter().any(|e| matches!(e, Effect::Return { .. })));
}

#[test]
fn a_batch_is_one_append() {
    let mut world = World::ready();
    world.declare("a");
    world.declare("b");
    world.prompt = false;
    let batch = vec![to_queue("a", "1"), transient("a", "2"), to_queue("b", "3")];
    let input = world.request(None, Op::Publish(batch));
    let effects = world.send(input);
    let batches = appends(&effects);
    assert_eq!(batches.iter().map(|b| b.puts.len()).collect::<Vec<_>>(), [2]);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Reply { .. })), "not before it is durable");
    let effects = world.confirm();
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Reply { result: Ok(Reply::Published(r)), .. } if r.len() == 3))
    );
}

#[test]
fn publishes_to_another_vhost_are_rejected() {
    let mut world = World::ready();
    let input = Input::Publish {
        chan: crate::ids::ChanId(1),
        tag: 1,
        vhost: Arc::from("other"),
        publish: to_queue("q", "m"),
    };
    let effects = world.send(input);
    assert_eq!(confirms(&effects, 1), [(1, vec![(1, Outcome::Rejected(RefusalKind::NotFound))])]);
}
