//! The one way of confirms, settled notices and answers.

use super::world::{World, confirms, settled, settlement, to_queue, transient};
use crate::effect::{Effect, Outcome};
use crate::ids::{ChanId, QueueId, Seq, Ticket};
use crate::input::{Input, Op, Publish, Settle};
use crate::refusal::RefusalKind;

fn confirmable(ticket: u64) -> Input {
    Input::Confirmable { ticket: Ticket(ticket) }
}

#[test]
fn confirms_come_in_order_of_tags() {
    let mut world = World::ready();
    world.declare("q");
    world.prompt = false;
    let before = world.store.issued;
    let publishes = [
        to_queue("q", "durable"),
        transient("q", "transient"),
        to_queue("nowhere", "unrouted"),
        Publish { exchange: "none".into(), ..to_queue("q", "rejected") },
        to_queue("q", "durable"),
        transient("q", "transient"),
    ];
    let mut inputs: Vec<Input> = publishes.into_iter().map(|p| world.publish_input(1, p)).collect();
    // Messages of one turn are one append, so the last two come in a turn of their own.
    let later = inputs.split_off(4);
    let mut effects = world.turn(inputs);
    effects.extend(world.turn(later));
    assert_eq!(confirms(&effects, 1), [], "even what is transient waits its turn");
    let effects = world.send(confirmable(before + 1));
    let others = vec![(3, Outcome::Unrouted), (4, Outcome::Rejected(RefusalKind::NotFound))];
    assert_eq!(confirms(&effects, 1), [(4, others)]);
    assert_eq!(confirms(&world.send(confirmable(before + 1)), 1), [], "nothing new");
    assert_eq!(confirms(&world.send(confirmable(before + 2)), 1), [(6, vec![])]);
    assert_eq!(confirms(&world.publish(transient("q", "t")), 1), [(7, vec![])], "nothing to wait for");
}

#[test]
fn confirms_of_one_turn_are_merged_per_channel() {
    let mut world = World::ready();
    world.open(1, 2);
    world.declare("q");
    world.prompt = false;
    for n in 0..10 {
        let input = world.publish_input(1 + n % 2, to_queue("q", "m"));
        world.send(input);
    }
    let effects = world.confirm();
    assert_eq!(confirms(&effects, 1), [(5, vec![])]);
    assert_eq!(confirms(&effects, 2), [(5, vec![])]);
}

#[test]
fn acks_of_one_turn_are_one_append_behind_the_puts() {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", &["a", "b", "c", "d", "e"]);
    world.consume(1, "q", "c");
    world.prompt = false;
    let mut inputs: Vec<Input> = [5, 1, 2, 3].map(|tag| settlement(1, tag, false, Settle::Ack)).into();
    inputs.push(world.publish_input(1, to_queue("q", "f")));
    let effects = world.turn(inputs);
    let batches: Vec<_> = effects
        .iter()
        .filter_map(|e| match e {
            Effect::Append { batch, .. } => Some(batch),
            _ => None,
        })
        .collect();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].puts.len(), 1);
    let queue = QueueId(1);
    assert_eq!(batches[1].acks, [(queue, Seq(1), Seq(3)), (queue, Seq(5), Seq(5))]);
    assert_eq!(settled(&effects, 1), []);
    let effects = world.confirm();
    assert_eq!(settled(&effects, 1), [(4, vec![])], "when the acks are durable");
}

#[test]
fn settled_counts_every_settlement_and_names_the_unknown() {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", &["a", "b"]);
    world.consume(1, "q", "c");
    world.prompt = false;
    let inputs = vec![
        settlement(1, 9, false, Settle::Ack),
        settlement(1, 1, false, Settle::Ack),
        settlement(1, 1, false, Settle::Ack),
        settlement(1, 0, false, Settle::Ack),
        settlement(1, 9, true, Settle::Ack),
        settlement(1, 0, true, Settle::Ack),
        settlement(1, 0, true, Settle::Ack),
    ];
    assert_eq!(settled(&world.turn(inputs), 1), []);
    let unknown = vec![(1, 9), (3, 1), (4, 0), (5, 9)];
    assert_eq!(settled(&world.confirm(), 1), [(7, unknown)]);
    assert_eq!(world.counts("q"), (0, 0));
    assert_eq!(settled(&world.ack(1, 2), 1), [(8, vec![(8, 2)])], "nothing to wait for");
}

#[test]
fn a_requeue_waits_for_nothing_of_its_own() {
    let mut world = World::ready();
    world.declare("q");
    world.fill("q", &["a"]);
    world.consume(1, "q", "c");
    world.prompt = false;
    assert_eq!(settled(&world.settle(1, 1, false, Settle::Requeue), 1), [(1, vec![])]);
}

#[test]
fn acks_of_a_queue_that_ends_in_the_same_turn_are_dropped() {
    let mut world = World::ready();
    world.declare("q");
    world.declare("other");
    world.fill("q", &["a"]);
    world.fill("other", &["b"]);
    world.consume(1, "q", "c");
    world.consume(1, "other", "d");
    let delete = Op::DeleteQueue { name: "q".into(), if_unused: false, if_empty: false };
    let inputs = vec![
        settlement(1, 1, false, Settle::Ack),
        settlement(1, 2, false, Settle::Ack),
        world.request(Some(1), delete),
    ];
    // The store panics on an ack behind its queue's end.
    let effects = world.turn(inputs);
    assert_eq!(settled(&effects, 1), [(2, vec![])]);
    assert!(world.stored("other").is_empty());
}

#[test]
fn a_closed_channel_hears_nothing_more() {
    let mut world = World::ready();
    world.open(1, 2);
    world.declare("q");
    world.prompt = false;
    let input = world.publish_input(2, to_queue("q", "m"));
    world.turn(vec![input, Input::ChannelClosed { chan: ChanId(2) }]);
    assert_eq!(confirms(&world.confirm(), 2), []);
    world.prompt = true;
    assert_eq!(world.drain("q"), ["m"], "the message stays");
}

#[test]
fn listings_show_what_is_unconfirmed() {
    let mut world = World::ready();
    world.declare("q");
    world.prompt = false;
    world.fill("q", &["a", "b"]);
    let unconfirmed = |world: &mut World| match world.ok(Op::ListChannels) {
        crate::effect::Reply::Channels(rows) => rows[0].messages_unconfirmed,
        other => panic!("{other:?}"),
    };
    assert_eq!(unconfirmed(&mut world), 2);
    world.confirm();
    assert_eq!(unconfirmed(&mut world), 0);
}
