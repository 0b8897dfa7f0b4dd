//! The checker's own tests: an honest record passes, and for every invariant a doctored one is caught by name.

mod moves;
mod priorities;
mod quorum;

use std::sync::Arc;

use super::{Checker, Invariant};
use crate::history::{BatchRef, BindingName, ConsumerRef, Event, Keep, Listed, QueueRef, Share};
use crate::payload::{BadPayload, MsgId};

const A: QueueRef = QueueRef(1);
const B: QueueRef = QueueRef(2);
const READER: ConsumerRef = ConsumerRef(10);

fn id(seq: u64) -> MsgId {
    MsgId { publisher: 1, seq }
}

fn sent_as(seq: u64, keep: Keep, queues: &[QueueRef]) -> Event {
    Event::Sent {
        id: id(seq),
        length: 24,
        keep,
        priority: 0,
        batch: BatchRef(seq),
        queues: Arc::from(queues),
    }
}

fn sent(seq: u64) -> Event {
    sent_as(seq, Keep::Persistent, &[A])
}

fn confirmed(seq: u64) -> Event {
    Event::Confirmed { id: id(seq) }
}

fn delivered_from(queue: QueueRef, seq: u64, redelivered: bool) -> Event {
    Event::Delivered { consumer: READER, queue, body: Ok(id(seq)), length: 24, redelivered }
}

fn delivered(seq: u64) -> Event {
    delivered_from(A, seq, false)
}

fn again(seq: u64) -> Event {
    delivered_from(A, seq, true)
}

fn reads(queue: QueueRef) -> Event {
    Event::ConsumerStarted { consumer: READER, queue, share: Share::Sole }
}

fn acked(seq: u64) -> [Event; 2] {
    [Event::AckSent { queue: A, id: id(seq) }, Event::Acked { queue: A, id: id(seq) }]
}

fn return_sent(seq: u64) -> Event {
    Event::ReturnSent { consumer: READER, queue: A, id: id(seq) }
}

fn returned(seq: u64) -> Event {
    Event::Returned { consumer: READER, queue: A, id: id(seq), under_way: 0 }
}

fn listing(queues: &[(&str, u64)], bindings: &[BindingName]) -> Event {
    let queues =
        queues.iter().map(|(name, messages)| Listed { name: (*name).into(), messages: *messages }).collect();
    Event::Listing { queues, bindings: bindings.to_vec() }
}

fn binding() -> BindingName {
    BindingName { exchange: "x".into(), queue: "a".into(), key: "k".into() }
}

/// Queues a and b, declared, then `parts`.
fn record(parts: &[&[Event]]) -> Vec<Event> {
    let mut events = Vec::new();
    for (queue, name) in [(A, "a"), (B, "b")] {
        events.push(Event::DeclareSent { queue, name: name.into() });
        events.push(Event::Declared { queue, ready: 0 });
    }
    events.extend(parts.iter().flat_map(|part| part.iter().cloned()));
    events
}

fn verdict(parts: &[&[Event]]) -> Option<Invariant> {
    Checker::new().apply_all(&record(parts)).err().map(|violation| {
        assert!(violation.to_string().contains(&format!("{:?}", violation.invariant)), "{violation}");
        violation.invariant
    })
}

#[test]
fn an_honest_record_passes() {
    let before = [
        sent(1),
        confirmed(1),
        sent(2),
        confirmed(2),
        sent(3),
        reads(A),
        delivered(1),
        delivered(2),
        return_sent(2),
        returned(2),
        again(2),
    ];
    let crash = [Event::Crash, listing(&[("a", 2), ("b", 0)], &[]), reads(A)];
    let after = [again(2), again(3)];
    let end = [Event::Drained { queue: A }, Event::AllDrained];
    assert_eq!(verdict(&[&before, &acked(1), &crash, &after, &acked(2), &acked(3), &end]), None);
}

#[test]
fn i1_lost_confirmed_message() {
    let start = [sent(1), confirmed(1), sent(2), confirmed(2), Event::Crash, reads(A), again(2)];
    assert_eq!(verdict(&[&start, &acked(2), &[Event::Drained { queue: A }]]), Some(Invariant::I1));
}

#[test]
fn i1_lost_message_shows_in_a_listing() {
    let events = [sent(1), confirmed(1), sent(2), Event::Crash, listing(&[("a", 0), ("b", 0)], &[])];
    assert_eq!(verdict(&[&events]), Some(Invariant::I1));
}

#[test]
fn i1_allows_the_loss_of_uncertain_and_transient_messages() {
    let events = [
        sent(1),
        sent_as(2, Keep::Transient, &[A]),
        confirmed(2),
        Event::Crash,
        listing(&[("a", 0), ("b", 0)], &[]),
        Event::Drained { queue: A },
    ];
    assert_eq!(verdict(&[&events]), None);
}

#[test]
fn i2_acked_message_comes_back() {
    let start = [sent(1), confirmed(1), reads(A), delivered(1)];
    let end = [Event::Crash, reads(A), again(1)];
    assert_eq!(verdict(&[&start, &acked(1), &end]), Some(Invariant::I2));
    // Also long after it was forgotten.
    let drained = [Event::Drained { queue: A }, Event::AllDrained];
    assert_eq!(verdict(&[&start, &acked(1), &drained, &end]), Some(Invariant::I2));
}

#[test]
fn i2_allows_an_unconfirmed_ack_to_be_lost() {
    let ack_sent = Event::AckSent { queue: A, id: id(1) };
    let events = [sent(1), confirmed(1), reads(A), delivered(1), ack_sent, Event::Crash, reads(A), again(1)];
    assert_eq!(verdict(&[&events]), None);
}

#[test]
fn i3_phantom() {
    assert_eq!(verdict(&[&[sent(1), reads(A), delivered(2)]]), Some(Invariant::I3));
}

#[test]
fn i3_changed_body() {
    let body = Err(BadPayload::Hash { said: 1, actual: 2 });
    let changed = Event::Delivered { consumer: READER, queue: A, body, length: 24, redelivered: false };
    assert_eq!(verdict(&[&[sent(1), reads(A), changed]]), Some(Invariant::I3));
    let shorter =
        Event::Delivered { consumer: READER, queue: A, body: Ok(id(1)), length: 25, redelivered: false };
    assert_eq!(verdict(&[&[sent(1), reads(A), shorter]]), Some(Invariant::I3));
}

#[test]
fn i3_message_in_a_queue_that_it_was_not_sent_to() {
    assert_eq!(verdict(&[&[sent(1), reads(B), delivered_from(B, 1, false)]]), Some(Invariant::I3));
}

#[test]
fn i3_transient_message_outlives_a_crash() {
    let events = [sent_as(1, Keep::Transient, &[A]), confirmed(1), Event::Crash, reads(A), again(1)];
    assert_eq!(verdict(&[&events]), Some(Invariant::I3));
}

#[test]
fn i4_order_of_first_deliveries() {
    assert_eq!(verdict(&[&[sent(1), sent(2), reads(A), delivered(2), delivered(1)]]), Some(Invariant::I4));
}

#[test]
fn i4_order_after_a_crash() {
    let events = [sent(1), confirmed(1), sent(2), confirmed(2), Event::Crash, reads(A), again(2), again(1)];
    assert_eq!(verdict(&[&events]), Some(Invariant::I4));
}

#[test]
fn i4_returned_message_is_not_in_its_old_place() {
    let start = [sent(1), sent(2), reads(A), delivered(1), return_sent(1)];
    assert_eq!(verdict(&[&start, &[returned(1), delivered(2)]]), Some(Invariant::I4));
    // Until its return is confirmed, later ones may be on their way.
    assert_eq!(verdict(&[&start, &[delivered(2), returned(1), again(1)]]), None);
}

#[test]
fn i4_a_notice_may_overtake_deliveries_that_were_under_way() {
    let notice = Event::Returned { consumer: READER, queue: A, id: id(1), under_way: 1 };
    let start = [sent(1), sent(2), sent(3), reads(A), delivered(1), return_sent(1), notice];
    assert_eq!(verdict(&[&start, &[delivered(2), again(1), delivered(3)]]), None);
    assert_eq!(
        verdict(&[&start, &[delivered(2), delivered(3)]]),
        Some(Invariant::I4),
        "more than were under way"
    );
    assert_eq!(
        verdict(&[&start, &[sent(4), delivered(4)]]),
        Some(Invariant::I4),
        "sent later than the notice"
    );
}

#[test]
fn i4_a_confirmation_belongs_to_the_oldest_return() {
    let start = [sent(1), sent(2), reads(A), delivered(1), return_sent(1), again(1), return_sent(1)];
    assert_eq!(verdict(&[&start, &[returned(1), delivered(2), returned(1), again(1)]]), None);
    assert_eq!(verdict(&[&start, &[returned(1), returned(1), delivered(2)]]), Some(Invariant::I4));
}

#[test]
fn i5_second_delivery_without_the_flag() {
    let start = [sent(1), confirmed(1), reads(A), delivered(1)];
    assert_eq!(verdict(&[&start, &[return_sent(1), delivered(1)]]), Some(Invariant::I5));
    assert_eq!(verdict(&[&start, &[Event::Crash, reads(A), delivered(1)]]), Some(Invariant::I5));
}

#[test]
fn i6_twice() {
    assert_eq!(verdict(&[&[sent(1), reads(A), delivered(1), again(1)]]), Some(Invariant::I6));
}

#[test]
fn i6_in_part_of_its_queues() {
    let start = [sent_as(1, Keep::Persistent, &[A, B]), Event::Crash, reads(A), again(1)];
    let end = [Event::Drained { queue: A }, Event::Drained { queue: B }, Event::AllDrained];
    assert_eq!(verdict(&[&start, &acked(1), &end]), Some(Invariant::I6));
}

#[test]
fn i6_part_of_a_batch() {
    let part = |seq| Event::Sent {
        id: id(seq),
        length: 24,
        keep: Keep::Persistent,
        priority: 0,
        batch: BatchRef(7),
        queues: Arc::from([A]),
    };
    let start = [part(1), part(2), Event::Crash, reads(A), again(1)];
    let end = [Event::Drained { queue: A }, Event::AllDrained];
    assert_eq!(verdict(&[&start, &acked(1), &end]), Some(Invariant::I6));
}

#[test]
fn i6_allows_a_delivery_before_the_crash_that_lost_the_message() {
    let start = [sent_as(1, Keep::Persistent, &[A, B]), reads(A), delivered(1), Event::Crash];
    let end = [Event::Drained { queue: A }, Event::Drained { queue: B }, Event::AllDrained];
    assert_eq!(verdict(&[&start, &end]), None);
}

#[test]
fn i7_deleted_queue_comes_back() {
    let events = [
        Event::DeleteSent { queue: A },
        Event::Deleted { queue: A },
        Event::Crash,
        listing(&[("a", 0), ("b", 0)], &[]),
    ];
    assert_eq!(verdict(&[&events]), Some(Invariant::I7));
}

#[test]
fn i7_declared_queue_is_gone() {
    assert_eq!(verdict(&[&[Event::Crash, listing(&[("b", 0)], &[])]]), Some(Invariant::I7));
}

#[test]
fn i7_message_of_a_deleted_queue_comes_back_under_its_name() {
    let again_declared = QueueRef(3);
    let events = [
        sent(1),
        confirmed(1),
        Event::DeleteSent { queue: A },
        Event::Deleted { queue: A },
        Event::DeclareSent { queue: again_declared, name: "a".into() },
    ];
    let full = Event::Declared { queue: again_declared, ready: 1 };
    assert_eq!(verdict(&[&events, &[full]]), Some(Invariant::I7));
    let empty = Event::Declared { queue: again_declared, ready: 0 };
    let old = [empty, reads(again_declared), delivered_from(again_declared, 1, true)];
    assert_eq!(verdict(&[&events, &old]), Some(Invariant::I7));
}

#[test]
fn i7_purged_message_comes_back() {
    let purge = [sent(1), confirmed(1), Event::PurgeSent { queue: A }, Event::Purged { queue: A }];
    assert_eq!(verdict(&[&purge, &[Event::Crash, reads(A), again(1)]]), Some(Invariant::I7));
    assert_eq!(verdict(&[&purge, &[Event::Drained { queue: A }]]), None);
}

#[test]
fn i7_an_unanswered_purge_may_be_lost() {
    let purge = [sent(1), confirmed(1), Event::PurgeSent { queue: A }, Event::Crash];
    assert_eq!(verdict(&[&purge, &[reads(A), again(1)]]), None);
    assert_eq!(verdict(&[&purge, &[Event::Drained { queue: A }]]), None);
}

#[test]
fn i7_bindings() {
    let made = [Event::BindSent { binding: binding() }, Event::Bound { binding: binding() }, Event::Crash];
    let queues = [("a", 0), ("b", 0)];
    assert_eq!(verdict(&[&made, &[listing(&queues, &[])]]), Some(Invariant::I7));
    assert_eq!(verdict(&[&made, &[listing(&queues, &[binding()])]]), None);
    let removed =
        [Event::UnbindSent { binding: binding() }, Event::Unbound { binding: binding() }, Event::Crash];
    assert_eq!(verdict(&[&made, &removed, &[listing(&queues, &[binding()])]]), Some(Invariant::I7));
}

#[test]
fn every_invariant_has_a_sentence() {
    for invariant in Invariant::ALL {
        assert!(invariant.to_string().starts_with(&format!("{invariant:?} ")));
    }
}
