//! Priorities: which order is certain, and which is not.

use super::*;

fn priorities() -> Event {
    Event::Priorities { queue: A, max: 5 }
}

fn sent_with(seq: u64, priority: u8) -> Event {
    let (keep, batch) = (Keep::Persistent, BatchRef(seq));
    Event::Sent { id: id(seq), length: 24, keep, priority, batch, queues: Arc::from([A]) }
}

/// Messages of these priorities, from number 1 on, each confirmed before the next.
fn confirmed_with(priorities: &[u8]) -> Vec<Event> {
    let each = (1..).zip(priorities).map(|(seq, priority)| [sent_with(seq, *priority), confirmed(seq)]);
    each.flatten().collect()
}

fn order(sent: &[Event], came: &[u64]) -> Option<Invariant> {
    let came: Vec<Event> = came.iter().map(|seq| delivered(*seq)).collect();
    verdict(&[&[priorities()], sent, &[reads(A)], &came])
}

#[test]
fn the_higher_priority_comes_first_and_each_keeps_its_order() {
    let sent = confirmed_with(&[0, 3, 0, 3]);
    assert_eq!(order(&sent, &[2, 4, 1, 3]), None);
    assert_eq!(order(&sent, &[2, 1]), Some(Invariant::I4));
    assert_eq!(order(&sent, &[4, 2]), Some(Invariant::I4));
    assert_eq!(order(&sent, &[2, 4, 3, 1]), Some(Invariant::I4));
    let beyond = confirmed_with(&[9, 5]);
    assert_eq!(order(&beyond, &[1, 2]), None, "more than the queue knows is its highest");
    assert_eq!(order(&beyond, &[2, 1]), Some(Invariant::I4));
}

#[test]
fn without_priorities_a_queue_takes_no_notice() {
    let sent = confirmed_with(&[0, 3]);
    let came = [reads(A), delivered(1), delivered(2)];
    assert_eq!(verdict(&[&sent, &came]), None);
}

#[test]
fn only_what_was_ready_for_certain_is_judged() {
    let (low, high) = (sent_with(1, 0), sent_with(2, 3));
    // Not confirmed: it may be on its way.
    assert_eq!(verdict(&[&[priorities(), low.clone(), high.clone(), reads(A), delivered(1)]]), None);
    // Confirmed after the consumer came and the other one was sent: that may have been on its way out.
    let late = [priorities(), reads(A), low.clone(), high.clone(), confirmed(2), delivered(1)];
    assert_eq!(verdict(&[&late]), None);
    // Others may have it.
    let shared = Event::ConsumerStarted { consumer: READER, queue: A, share: Share::Shared };
    let others = [priorities(), low.clone(), high.clone(), confirmed(2), shared, delivered(1)];
    assert_eq!(verdict(&[&others]), None);
    // A purge may have taken it.
    let purge = Event::PurgeSent { queue: A };
    let purged = [priorities(), low.clone(), high.clone(), confirmed(2), purge, reads(A), delivered(1)];
    assert_eq!(verdict(&[&purged]), None);
    // What a crash left is there from the start, whenever it was sent.
    let found = [priorities(), low, high, confirmed(2), Event::Crash, reads(A), again(1)];
    assert_eq!(verdict(&[&found]), Some(Invariant::I4));
}

#[test]
fn a_returned_message_of_a_higher_priority_comes_first() {
    let sent = confirmed_with(&[0, 3]);
    let returned = [return_sent(2), returned(2)];
    let after =
        |last: Event| verdict(&[&[priorities()], &sent, &[reads(A), delivered(2)], &returned, &[last]]);
    assert_eq!(after(again(2)), None);
    assert_eq!(after(delivered(1)), Some(Invariant::I4));
}

#[test]
fn what_overtakes_is_counted() {
    let mut checker = Checker::new();
    let came = [reads(A), delivered(2), delivered(1)];
    let events = record(&[&[priorities()], &confirmed_with(&[0, 3]), &came]);
    assert_eq!(checker.apply_all(&events), Ok(()));
    assert_eq!(checker.counts().overtakes, 1);
}
