//! Moves: what an honest record may show, and every way to break one.

use super::*;

const C: QueueRef = QueueRef(4);
const MOVE: BatchRef = BatchRef(900);
const LATER: BatchRef = BatchRef(901);

fn leaves(seq: u64, to: &[QueueRef], batch: BatchRef) -> Event {
    Event::MoveSent { id: id(seq), from: A, to: Arc::from(to), batch }
}

fn moved(batch: BatchRef) -> Event {
    Event::Moved { batch }
}

/// From a queue to a new consumer, which acks it, as the drain at the end does.
fn drained(queue: QueueRef, seq: u64, redelivered: bool) -> Vec<Event> {
    let settled = [Event::AckSent { queue, id: id(seq) }, Event::Acked { queue, id: id(seq) }];
    let mut events = vec![Event::ConsumerStarted { consumer: READER, queue, share: Share::Sole }];
    events.push(delivered_from(queue, seq, redelivered));
    events.extend(settled);
    events
}

fn end() -> Vec<Event> {
    let mut events: Vec<Event> = [A, B, C].map(|queue| Event::Drained { queue }).into();
    events.push(Event::AllDrained);
    events
}

/// Message 1 in queue a, out with a consumer.
fn out_of_a() -> Vec<Event> {
    vec![sent(1), confirmed(1), reads(A), delivered(1)]
}

/// Queue a's messages go on to queue b by themselves.
fn rule() -> Event {
    Event::DeadLetters { queue: A, to: Arc::from([B]) }
}

/// Queues a, b and c, then `parts`.
fn judge(parts: &[&[Event]]) -> Option<Invariant> {
    let c = [Event::DeclareSent { queue: C, name: "c".into() }, Event::Declared { queue: C, ready: 0 }];
    let mut all: Vec<&[Event]> = vec![&c];
    all.extend(parts);
    verdict(&all)
}

#[test]
fn a_move_is_found_where_it_went() {
    let asked = [leaves(1, &[B], MOVE)];
    let answered = [leaves(1, &[B], MOVE), moved(MOVE)];
    assert_eq!(judge(&[&out_of_a(), &asked, &drained(B, 1, false), &end()]), None);
    assert_eq!(judge(&[&out_of_a(), &answered, &drained(B, 1, false), &end()]), None);
    let crash = [Event::Crash];
    assert_eq!(judge(&[&out_of_a(), &answered, &crash, &drained(B, 1, false), &end()]), None);
}

#[test]
fn a_crash_keeps_a_move_that_is_not_confirmed_or_undoes_it() {
    let asked = [leaves(1, &[B], MOVE), Event::Crash];
    assert_eq!(judge(&[&out_of_a(), &asked, &drained(B, 1, false), &end()]), None);
    assert_eq!(judge(&[&out_of_a(), &asked, &drained(A, 1, true), &end()]), None);
    // Also when it was seen before the crash.
    let seen = [leaves(1, &[B], MOVE), reads(B), delivered_from(B, 1, false), Event::Crash];
    assert_eq!(judge(&[&out_of_a(), &seen, &drained(A, 1, true), &end()]), None);
    // And what was undone can be done again, and is new there.
    let again = [Event::Crash, reads(A), again(1), leaves(1, &[B], LATER), moved(LATER)];
    assert_eq!(judge(&[&out_of_a(), &seen, &again, &drained(B, 1, false), &end()]), None);
}

#[test]
fn i8_in_both() {
    let answered = [leaves(1, &[B], MOVE), moved(MOVE)];
    assert_eq!(judge(&[&out_of_a(), &answered, &[reads(A), again(1)]]), Some(Invariant::I8));
    let crash = [Event::Crash, reads(A), again(1)];
    assert_eq!(judge(&[&out_of_a(), &answered, &crash]), Some(Invariant::I8));
    let asked = [leaves(1, &[B], MOVE), Event::Crash];
    assert_eq!(
        judge(&[&out_of_a(), &asked, &drained(A, 1, true), &drained(B, 1, false)]),
        Some(Invariant::I8)
    );
    assert_eq!(
        judge(&[&out_of_a(), &asked, &drained(B, 1, false), &drained(A, 1, true)]),
        Some(Invariant::I8)
    );
    let seen = [leaves(1, &[B], MOVE), reads(B), delivered_from(B, 1, false), reads(A), again(1)];
    assert_eq!(judge(&[&out_of_a(), &seen]), Some(Invariant::I8));
}

#[test]
fn i8_an_old_move_shows_after_it_was_undone() {
    let undone = [leaves(1, &[B], MOVE), Event::Crash, reads(A), again(1)];
    let later = [Event::Crash, reads(B), delivered_from(B, 1, true)];
    assert_eq!(judge(&[&out_of_a(), &undone, &acked(1), &later]), Some(Invariant::I8));
    assert_eq!(judge(&[&out_of_a(), &undone, &later]), Some(Invariant::I8));
    // Refused is undone.
    let refused = [leaves(1, &[B], MOVE), Event::MoveRefused { batch: MOVE }];
    assert_eq!(judge(&[&out_of_a(), &refused, &later]), Some(Invariant::I8));
}

#[test]
fn i8_in_neither() {
    let asked = [leaves(1, &[B], MOVE), Event::Crash];
    assert_eq!(judge(&[&out_of_a(), &asked, &end()]), Some(Invariant::I8));
    let answered = [leaves(1, &[B], MOVE), moved(MOVE)];
    assert_eq!(judge(&[&out_of_a(), &answered, &end()]), Some(Invariant::I8));
    assert_eq!(judge(&[&out_of_a(), &answered, &[Event::Crash], &end()]), Some(Invariant::I8));
    // Also when its publish was never confirmed: what was moved was there.
    let uncertain = [sent(1), reads(A), delivered(1)];
    assert_eq!(judge(&[&uncertain, &answered, &[Event::Crash], &end()]), Some(Invariant::I8));
    assert_eq!(judge(&[&uncertain, &asked, &end()]), None);
}

#[test]
fn i8_moved_without_being_asked() {
    // Queue b knows the message only from a move that was undone.
    let other = [leaves(1, &[B], MOVE), Event::MoveRefused { batch: MOVE }, leaves(1, &[C], LATER)];
    assert_eq!(judge(&[&out_of_a(), &other, &drained(B, 1, false)]), Some(Invariant::I8));
    assert_eq!(judge(&[&out_of_a(), &other, &drained(C, 1, false), &end()]), None);
}

#[test]
fn i6_a_move_to_several_queues_in_part() {
    let asked = [leaves(1, &[B, C], MOVE), Event::Crash];
    assert_eq!(judge(&[&out_of_a(), &asked, &drained(B, 1, false), &end()]), Some(Invariant::I6));
    let whole = [drained(B, 1, false), drained(C, 1, false)].concat();
    assert_eq!(judge(&[&out_of_a(), &asked, &whole, &end()]), None);
}

/// A transaction that moves message 1, acks message 2 and publishes message 3 to queue c.
fn transaction() -> Vec<Event> {
    let publish = Event::Sent {
        id: id(3),
        length: 24,
        keep: Keep::Persistent,
        priority: 0,
        batch: MOVE,
        queues: Arc::from([C]),
    };
    let second = [sent(2), confirmed(2), delivered(2)];
    [out_of_a(), second.into(), vec![leaves(1, &[B], MOVE), leaves(2, &[], MOVE), publish]].concat()
}

#[test]
fn a_transaction_is_whole() {
    let crash = [Event::Crash];
    let done = [drained(B, 1, false), drained(C, 3, false)].concat();
    assert_eq!(judge(&[&transaction(), &crash, &done, &end()]), None);
    let undone = [drained(A, 1, true), drained(A, 2, true)].concat();
    assert_eq!(judge(&[&transaction(), &crash, &undone, &end()]), None);
    let answered = [moved(MOVE), confirmed(3), Event::Crash];
    assert_eq!(judge(&[&transaction(), &answered, &done, &end()]), None);
}

#[test]
fn i6_a_transaction_in_part() {
    let crash = [Event::Crash];
    for done in [drained(B, 1, false), drained(C, 3, false)] {
        assert_eq!(judge(&[&transaction(), &crash, &done, &end()]), Some(Invariant::I6), "the rest is lost");
        let acked = drained(A, 2, true);
        assert_eq!(judge(&[&transaction(), &crash, &done, &acked]), Some(Invariant::I6), "the ack is lost");
    }
    // The other way round: it was undone, and part of it was done.
    let undone = drained(A, 2, true);
    let published = drained(C, 3, false);
    assert_eq!(judge(&[&transaction(), &crash, &undone, &published]), Some(Invariant::I6));
    let moved = drained(B, 1, false);
    assert_eq!(judge(&[&transaction(), &crash, &undone, &moved]), Some(Invariant::I8));
    let whole = [drained(A, 1, true), drained(A, 2, true)].concat();
    assert_eq!(judge(&[&transaction(), &crash, &whole, &published]), Some(Invariant::I6));
}

#[test]
fn i2_an_ack_of_a_committed_transaction_is_forgotten() {
    let answered = [moved(MOVE), confirmed(3), Event::Crash];
    assert_eq!(judge(&[&transaction(), &answered, &drained(A, 2, true)]), Some(Invariant::I2));
}

#[test]
fn moves_one_after_the_other_share_what_is_known_of_them() {
    let onward = Event::MoveSent { id: id(1), from: B, to: Arc::from([C]), batch: LATER };
    let chain = [leaves(1, &[B], MOVE), reads(B), delivered_from(B, 1, false), onward, Event::Crash];
    for (queue, redelivered) in [(A, true), (B, true), (C, false)] {
        assert_eq!(judge(&[&out_of_a(), &chain, &drained(queue, 1, redelivered), &end()]), None);
        for (other, redelivered) in [(A, true), (B, true), (C, false)].into_iter().filter(|o| o.0 != queue) {
            let both = [drained(queue, 1, queue != C), drained(other, 1, redelivered)].concat();
            assert_eq!(judge(&[&out_of_a(), &chain, &both]), Some(Invariant::I8), "{queue:?} {other:?}");
        }
    }
    assert_eq!(judge(&[&out_of_a(), &chain, &end()]), Some(Invariant::I8));
}

#[test]
fn a_message_goes_on_by_a_rule_at_any_time_or_stays() {
    let start = [rule(), sent(1), confirmed(1)];
    for crash in [&[][..], &[Event::Crash]] {
        let delivered_before = !crash.is_empty();
        assert_eq!(judge(&[&start, crash, &drained(A, 1, delivered_before), &end()]), None);
        assert_eq!(judge(&[&start, crash, &drained(B, 1, false), &end()]), None);
    }
    // Seen there, lost with the crash, and there again, or not yet.
    let seen = [reads(B), delivered_from(B, 1, false), Event::Crash];
    assert_eq!(judge(&[&start, &seen, &drained(A, 1, false), &end()]), None);
    assert_eq!(judge(&[&start, &seen, &drained(B, 1, false), &end()]), None);
    // Delivered and returned, it may still go.
    let back = [reads(A), delivered(1), return_sent(1), returned(1), sent(2), delivered(2)];
    assert_eq!(judge(&[&start, &back, &acked(2), &drained(B, 1, false), &end()]), None);
}

#[test]
fn i8_by_a_rule() {
    let start = [rule(), sent(1), confirmed(1)];
    assert_eq!(judge(&[&start, &end()]), Some(Invariant::I8), "in neither");
    let gone = [reads(B), delivered_from(B, 1, false), reads(A), delivered(1)];
    assert_eq!(judge(&[&start, &gone]), Some(Invariant::I8), "in both");
    let out = [reads(A), delivered(1), reads(B), delivered_from(B, 1, false)];
    assert_eq!(judge(&[&start, &out]), Some(Invariant::I8), "in both, out of its old queue");
    let acked_there = [reads(A), delivered(1)];
    assert_eq!(
        judge(&[&start, &acked_there, &acked(1), &drained(B, 1, false)]),
        Some(Invariant::I8),
        "after its ack"
    );
    let there = drained(B, 1, false);
    assert_eq!(judge(&[&start, &there, &[Event::Crash], &drained(A, 1, true)]), Some(Invariant::I8));
}

#[test]
fn an_ack_by_an_old_id_says_only_that_a_message_is_gone() {
    let start = [rule(), sent(1), confirmed(1), reads(A), delivered(1), return_sent(1)];
    let gone = [Event::AckSent { queue: A, id: id(1) }, Event::Gone { queue: A, id: id(1) }];
    assert_eq!(judge(&[&start, &gone, &drained(B, 1, false), &end()]), None);
    assert_eq!(judge(&[&start, &gone, &end()]), None);
    assert_eq!(judge(&[&start, &gone, &drained(A, 1, true)]), Some(Invariant::I2));
}

#[test]
fn a_reject_and_a_rule_lead_to_the_same_queue() {
    let start = [rule(), sent(1), confirmed(1), reads(A), delivered(1), leaves(1, &[B], MOVE)];
    assert_eq!(judge(&[&start, &drained(B, 1, false), &end()]), None);
    let crash = [Event::Crash];
    assert_eq!(judge(&[&start, &crash, &drained(B, 1, false), &end()]), None);
    assert_eq!(judge(&[&start, &crash, &drained(A, 1, true), &end()]), None);
    assert_eq!(
        judge(&[&start, &crash, &[reads(A), again(1)], &[Event::Crash], &drained(B, 1, false), &end()]),
        None
    );
    assert_eq!(judge(&[&start, &crash, &end()]), Some(Invariant::I8));
    let answered = [moved(MOVE), Event::Crash];
    assert_eq!(judge(&[&start, &answered, &drained(A, 1, true)]), Some(Invariant::I8));
}

/// Seen where both lead, it says nothing of the other queues of the rule.
#[test]
fn a_move_that_was_asked_for_and_a_rule_share_one_of_their_queues() {
    let both = Event::DeadLetters { queue: A, to: Arc::from([B, C]) };
    let start = [both, sent(1), confirmed(1), reads(A), delivered(1), leaves(1, &[B], MOVE), Event::Crash];
    let listing = |in_b, in_c| {
        let counts = [("a", 0), ("b", in_b), ("c", in_c)];
        let queues = counts.map(|(name, messages)| Listed { name: name.into(), messages });
        [Event::Listing { queues: queues.into(), bindings: Vec::new() }]
    };
    assert_eq!(judge(&[&start, &listing(1, 0), &drained(B, 1, false), &listing(0, 0), &end()]), None);
    assert_eq!(judge(&[&start, &listing(1, 1), &drained(B, 1, false), &listing(0, 1)]), None);
    let seen_in_c = [listing(1, 1).as_slice(), &drained(B, 1, false), &drained(C, 1, false)].concat();
    assert_eq!(judge(&[&start, &seen_in_c, &end()]), None);
    // What was seen may be undone by a crash, and come again by the other way.
    let seen = [leaves(2, &[B], MOVE), reads(B), delivered_from(B, 2, false), Event::Crash];
    let two = [
        Event::DeadLetters { queue: A, to: Arc::from([B, C]) },
        sent(2),
        confirmed(2),
        reads(A),
        delivered(2),
    ];
    assert_eq!(judge(&[&two, &seen, &drained(B, 2, false), &drained(C, 2, false), &end()]), None);
    // In the queue that only the rule leads to, it says all.
    assert_eq!(judge(&[&start, &drained(C, 1, false), &listing(0, 0)]), Some(Invariant::I1));
}

#[test]
fn order_where_messages_are_moved_to_is_that_of_the_moves() {
    let both = [sent(1), sent(2), confirmed(2), reads(A), delivered(1), delivered(2)];
    let moves = [leaves(2, &[B], MOVE), moved(MOVE), leaves(1, &[B], LATER), moved(LATER)];
    let there = [sent_as(3, Keep::Persistent, &[B]), reads(B), delivered_from(B, 3, false)];
    let seen = [delivered_from(B, 2, false), delivered_from(B, 1, false)];
    assert_eq!(judge(&[&both, &moves, &there, &seen]), None);
    // What was published there keeps its order.
    let fourth = [sent_as(4, Keep::Persistent, &[B]), delivered_from(B, 4, false)];
    let old = [delivered_from(B, 3, true)];
    assert_eq!(
        judge(&[&both, &moves, &there[..1], &fourth[..1], &[reads(B)], &fourth[1..], &old]),
        Some(Invariant::I4)
    );
}

#[test]
fn counts_take_moves_into_account() {
    let list = |a, b| Event::Listing {
        queues: [("a", a), ("b", b), ("c", 0)]
            .map(|(name, messages)| Listed { name: name.into(), messages })
            .into(),
        bindings: Vec::new(),
    };
    let asked = [leaves(1, &[B], MOVE), Event::Crash];
    for (a, b) in [(1, 0), (0, 1)] {
        assert_eq!(judge(&[&out_of_a(), &asked, &[list(a, b)]]), None);
    }
    let answered = [leaves(1, &[B], MOVE), moved(MOVE), Event::Crash];
    assert_eq!(judge(&[&out_of_a(), &answered, &[list(0, 1)]]), None);
    assert_eq!(judge(&[&out_of_a(), &answered, &[list(1, 1)]]), Some(Invariant::I2));
    assert_eq!(judge(&[&out_of_a(), &answered, &[list(0, 0)]]), Some(Invariant::I1));
}

#[test]
fn i7_a_moved_message_of_a_deleted_queue_comes_back_under_its_name() {
    let again_declared = QueueRef(5);
    let events = [
        leaves(1, &[B], MOVE),
        moved(MOVE),
        Event::DeleteSent { queue: B },
        Event::Deleted { queue: B },
        Event::DeclareSent { queue: again_declared, name: "b".into() },
        Event::Declared { queue: again_declared, ready: 0 },
    ];
    assert_eq!(judge(&[&out_of_a(), &events, &drained(again_declared, 1, true)]), Some(Invariant::I7));
    assert_eq!(judge(&[&out_of_a(), &events, &end()]), None);
}
