//! Queues of type quorum: what they keep, and how often a message may come back.

use super::*;

const QUORUM_LIMIT: u32 = 1;

fn quorum(to: &[QueueRef]) -> Event {
    Event::Quorum { queue: A, limit: Some(QUORUM_LIMIT), to: Arc::from(to) }
}

fn counted(seq: u64, count: Option<u32>) -> Event {
    Event::Counted { queue: A, id: id(seq), count }
}

/// Message 1, handed out and given back once.
fn returned_once(to: &[QueueRef]) -> Vec<Event> {
    vec![quorum(to), sent(1), confirmed(1), reads(A), delivered(1), return_sent(1), returned(1)]
}

fn drained() -> [Event; 3] {
    [Event::Drained { queue: A }, Event::Drained { queue: B }, Event::AllDrained]
}

#[test]
fn transient_messages_are_kept() {
    let transient = [sent_as(1, Keep::Transient, &[A]), confirmed(1), Event::Crash];
    let came = [reads(A), again(1), Event::AckSent { queue: A, id: id(1) }];
    assert_eq!(verdict(&[&[quorum(&[])], &transient, &came, &drained()]), None);
    assert_eq!(verdict(&[&[quorum(&[])], &transient, &drained()]), Some(Invariant::I1));
    // In a classic queue beside it they are not.
    let both = [sent_as(1, Keep::Transient, &[A, B]), confirmed(1), Event::Crash];
    assert_eq!(verdict(&[&[quorum(&[])], &both, &came, &drained()]), None);
    let from_b = [reads(B), delivered_from(B, 1, true)];
    assert_eq!(verdict(&[&[quorum(&[])], &both, &from_b]), Some(Invariant::I3));
}

#[test]
fn a_transient_message_may_go_on_to_a_queue_that_does_not_keep_it() {
    let rule = Event::DeadLetters { queue: A, to: Arc::from([B]) };
    let sent = [sent_as(1, Keep::Transient, &[A]), confirmed(1), Event::Crash];
    assert_eq!(verdict(&[&[quorum(&[B]), rule], &sent, &[reads(B), delivered_from(B, 1, false)]]), None);
}

#[test]
fn a_message_that_came_back_too_often_is_gone_or_where_its_letters_go() {
    let second = [again(1), return_sent(1), returned(1)];
    assert_eq!(verdict(&[&returned_once(&[]), &second, &drained()]), None);
    let third = [again(1)];
    assert_eq!(verdict(&[&returned_once(&[]), &second, &third]), Some(Invariant::I8));
    let letter = [
        reads(B),
        delivered_from(B, 1, false),
        Event::AckSent { queue: B, id: id(1) },
        Event::Acked { queue: B, id: id(1) },
    ];
    assert_eq!(verdict(&[&returned_once(&[B]), &second, &letter, &drained()]), None);
    assert_eq!(verdict(&[&returned_once(&[B]), &second, &drained()]), Some(Invariant::I8));
    assert_eq!(verdict(&[&returned_once(&[B]), &second, &letter, &third]), Some(Invariant::I8));
}

#[test]
fn a_message_that_cannot_have_come_back_so_often_stays() {
    let untouched = [quorum(&[]), sent(1), confirmed(1)];
    assert_eq!(verdict(&[&untouched, &drained()]), Some(Invariant::I1));
    // Two that went without a word may have had it.
    let gone = [reads(A), Event::ConsumerGone { consumer: READER }];
    assert_eq!(verdict(&[&untouched, &gone, &drained()]), Some(Invariant::I1));
    assert_eq!(verdict(&[&untouched, &gone, &gone, &drained()]), None);
    // Each run counts for itself.
    assert_eq!(verdict(&[&untouched, &gone, &[Event::Crash], &gone, &drained()]), Some(Invariant::I1));
}

#[test]
fn i5_deliveries_say_how_often_the_message_came_back() {
    assert_eq!(verdict(&[&returned_once(&[]), &[again(1), counted(1, Some(1))]]), None);
    assert_eq!(verdict(&[&returned_once(&[]), &[again(1), counted(1, Some(0))]]), Some(Invariant::I5));
    assert_eq!(verdict(&[&returned_once(&[]), &[again(1), counted(1, None)]]), Some(Invariant::I5));
    assert_eq!(verdict(&[&returned_once(&[]), &[again(1), counted(1, Some(2))]]), Some(Invariant::I5));
    let classic = [sent(1), confirmed(1), reads(A), delivered(1)];
    assert_eq!(verdict(&[&classic, &[counted(1, None)]]), None);
    assert_eq!(verdict(&[&classic, &[counted(1, Some(0))]]), Some(Invariant::I5));
}
