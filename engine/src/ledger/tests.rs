//! Places, and where they stand.

use proptest::prelude::*;

use super::*;
use crate::ranges::Places;

const Q: QueueId = QueueId(1);

fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.create_queue(Q);
    ledger
}

fn put(ledger: &mut Ledger, segment: u64, block: u32, seqs: impl IntoIterator<Item = u64>) {
    for seq in seqs {
        let record = Record::Put { targets: vec![(Q, Seq(seq))], payload: Bytes::new(), blob: None };
        ledger.apply_record(SegmentNo(segment), block, record);
    }
}

fn ack(ledger: &mut Ledger, first: u64, last: u64) {
    ledger.apply_record(SegmentNo(1), 1, Record::Ack { queue: Q, first: Seq(first), last: Seq(last) });
}

fn found(ledger: &Ledger, from: u64) -> Option<(u64, u32, u64)> {
    ledger.queues[&Q].find(Seq(from)).map(|found| match found.at {
        At::Log { segment, block } => (segment.0, block, found.upto.0),
        At::Settled(_) => panic!("nothing is settled here"),
    })
}

#[test]
fn a_place_is_found_in_its_run_and_its_segment() {
    let mut ledger = ledger();
    put(&mut ledger, 1, 1, 1..=3);
    put(&mut ledger, 1, 2, 4..=5);
    put(&mut ledger, 2, 1, 6..=9);
    assert_eq!(found(&ledger, 0), Some((1, 1, 4)));
    assert_eq!(found(&ledger, 3), Some((1, 1, 4)));
    assert_eq!(found(&ledger, 4), Some((1, 2, 6)));
    assert_eq!(found(&ledger, 6), Some((2, 1, 10)));
    assert_eq!(found(&ledger, 10), None);
    assert_eq!(ledger.queues[&Q].live(), 9);
}

#[test]
fn transient_holes_are_dead_and_belong_to_the_run_before() {
    let mut ledger = ledger();
    put(&mut ledger, 1, 1, [1]);
    ack(&mut ledger, 2, 4);
    put(&mut ledger, 1, 2, [5]);
    let queue = &ledger.queues[&Q];
    assert_eq!((queue.live(), queue.next), (2, Seq(6)));
    assert!(!queue.is_live(Seq(3)) && queue.is_live(Seq(5)) && !queue.is_live(Seq(6)));
    assert_eq!(found(&ledger, 3), Some((1, 1, 5)));
    assert_eq!(found(&ledger, 5), Some((1, 2, 6)));
    // A hole where a segment begins.
    ack(&mut ledger, 6, 7);
    put(&mut ledger, 2, 1, [8]);
    assert_eq!(found(&ledger, 6), Some((2, 1, 9)));
    assert_eq!(found(&ledger, 8), Some((2, 1, 9)));
}

#[test]
fn the_head_moves_over_what_was_acked_ahead_of_it() {
    let mut ledger = ledger();
    put(&mut ledger, 1, 1, 1..=10);
    ack(&mut ledger, 3, 4);
    ack(&mut ledger, 6, 6);
    ack(&mut ledger, 1, 2);
    let queue = &ledger.queues[&Q];
    assert_eq!((queue.head, queue.live()), (Seq(5), 5));
    assert_eq!(queue.dead.to_ranges(), [(Seq(6), Seq(6))]);
    ack(&mut ledger, 5, 5);
    assert_eq!(ledger.queues[&Q].head, Seq(7));
    assert!(ledger.queues[&Q].dead.is_empty());
    // Acked again, and acked below the head: nothing changes.
    ack(&mut ledger, 1, 5);
    assert_eq!((ledger.queues[&Q].head, ledger.queues[&Q].live()), (Seq(7), 4));
}

#[test]
fn a_segment_is_dead_when_nothing_in_it_lives() {
    let mut ledger = ledger();
    put(&mut ledger, 1, 1, 1..=3);
    put(&mut ledger, 2, 1, 4..=5);
    assert!(!ledger.is_dead(SegmentNo(1)));
    ack(&mut ledger, 2, 3);
    assert!(!ledger.is_dead(SegmentNo(1)));
    ack(&mut ledger, 1, 1);
    assert!(ledger.is_dead(SegmentNo(1)) && !ledger.is_dead(SegmentNo(2)));
    assert!(ledger.is_dead(SegmentNo(3)), "one without places");
    ledger.forget(SegmentNo(1));
    assert_eq!(found(&ledger, 1), Some((2, 1, 6)));
    ledger.apply_record(SegmentNo(2), 2, Record::QueueDeleted { queue: Q });
    assert!(ledger.is_dead(SegmentNo(2)), "its queue is gone");
}

#[test]
fn what_a_recovery_copied_stands_in_its_new_place_only() {
    let mut ledger = ledger();
    put(&mut ledger, 1, 1, 1..=4);
    put(&mut ledger, 1, 2, 5..=6);
    put(&mut ledger, 1, 3, 7..=8);
    for seq in 5..=8 {
        let record = Record::Put { targets: vec![(Q, Seq(seq))], payload: Bytes::new(), blob: None };
        ledger.move_record(SegmentNo(2), if seq < 7 { 1 } else { 2 }, &record);
    }
    assert_eq!(found(&ledger, 4), Some((1, 1, 5)));
    assert_eq!(found(&ledger, 5), Some((2, 1, 7)));
    assert_eq!(found(&ledger, 8), Some((2, 2, 9)));
    ack(&mut ledger, 1, 4);
    assert!(ledger.is_dead(SegmentNo(1)), "nothing of what was copied is left there");
    assert!(!ledger.is_dead(SegmentNo(2)));
}

#[test]
fn what_moves_whole_leaves_nothing_behind() {
    let mut ledger = ledger();
    put(&mut ledger, 1, 1, 1..=2);
    for seq in 1..=2 {
        let record = Record::Put { targets: vec![(Q, Seq(seq))], payload: Bytes::new(), blob: None };
        ledger.move_record(SegmentNo(2), 1, &record);
    }
    assert!(ledger.is_dead(SegmentNo(1)));
    assert_eq!(found(&ledger, 1), Some((2, 1, 3)));
}

#[test]
fn puts_of_a_deleted_queue_are_void() {
    let mut ledger = ledger();
    ledger.apply_record(SegmentNo(1), 1, Record::QueueDeleted { queue: Q });
    put(&mut ledger, 1, 2, [1]);
    assert!(ledger.queues.is_empty());
    assert_eq!(ledger.next_queue, QueueId(2));
}

proptest! {
    /// Against the obvious set.
    #[test]
    fn places_are_a_set(steps in prop::collection::vec((any::<bool>(), 1_u64..200, 0_u64..30), 0..40)) {
        let mut places = Places::default();
        let mut model = std::collections::BTreeSet::new();
        for (insert, first, more) in steps {
            let last = first + more;
            if insert {
                let new = (first..=last).filter(|seq| model.insert(*seq)).count() as u64;
                prop_assert_eq!(places.insert(Seq(first), Seq(last)), new);
            } else {
                places.remove(Seq(first), Seq(last));
                model.retain(|seq| *seq < first || *seq > last);
            }
        }
        let ranges = places.to_ranges();
        let listed: Vec<u64> = ranges.iter().flat_map(|(first, last)| first.0..=last.0).collect();
        prop_assert_eq!(&listed, &model.iter().copied().collect::<Vec<_>>());
        prop_assert!(ranges.windows(2).all(|pair| pair[0].1.0 + 1 < pair[1].0.0));
        prop_assert_eq!(places.count(Seq(50), Seq(120)), model.range(50..=120).count() as u64);
        prop_assert_eq!(places.count(Seq(0), Seq(u64::MAX)), places.len());
        prop_assert_eq!(places.count(Seq(9), Seq(3)), 0);
        prop_assert_eq!(places.last().map(|seq| seq.0), model.last().copied());
        let none = Places::default();
        let outside = Places::outside(Seq(10), Seq(99), &places, &none);
        prop_assert_eq!(outside.len(), 90 - model.range(10..=99).count() as u64);
        let mut bytes = Vec::new();
        places.encode(&mut bytes);
        prop_assert_eq!(Places::decode(&bytes), Ok(places));
    }

    /// Whatever is put and acked: what lives is found, in the run where it was put.
    #[test]
    fn what_lives_is_found(
        puts in prop::collection::vec((0_u64..3, 0_u64..4, 1_u32..4), 1..60),
        acks in prop::collection::vec((1_u64..150, 0_u64..20), 0..12),
    ) {
        let mut ledger = ledger();
        let (mut next, mut segment, mut block) = (1, 1, 1);
        let mut stands = std::collections::BTreeMap::new();
        for (hole, rotate, blocks) in puts {
            (segment, block) = if rotate == 0 { (segment + 1, 1) } else { (segment, block + blocks) };
            if hole > 0 {
                ack(&mut ledger, next, next + hole - 1);
            }
            next += hole;
            put(&mut ledger, segment, block, [next]);
            stands.insert(next, (segment, block));
            next += 1;
        }
        for (first, more) in acks {
            let last = (first + more).min(next - 1);
            if first <= last {
                ack(&mut ledger, first, last);
                stands.retain(|seq, _| *seq < first || *seq > last);
            }
        }
        let queue = &ledger.queues[&Q];
        prop_assert_eq!(queue.live(), stands.len() as u64);
        for (seq, (segment, block)) in &stands {
            prop_assert!(queue.is_live(Seq(*seq)));
            let (found_segment, found_block, upto) = found(&ledger, *seq).expect("it lives");
            prop_assert_eq!((found_segment, found_block), (*segment, *block));
            prop_assert!(upto > *seq);
        }
        for no in 1..=segment {
            let lives = stands.values().any(|(segment, _)| *segment == no);
            prop_assert_eq!(ledger.is_dead(SegmentNo(no)), !lives);
        }
    }
}
