//! The index alone, with places that come in any order.

use super::*;
use crate::volatile::index::{Index, Segment};

#[test]
fn runs_of_any_order_are_found_and_counted() {
    let disk = SimDisk::default();
    let handle = disk.create("segment", 0).expect("a disk");
    let mut overlapping = 0;
    for seed in 0..2_000 {
        let mut rng = Rng::with_seed(seed);
        let mut index = Index::default();
        let mut expected: BTreeMap<(u64, u64), (FileId, u32)> = BTreeMap::new();
        for number in 1..rng.u64(2..40) {
            let (file, queue) = (FileId(number), rng.u64(..2));
            index.segments.insert(file, Segment::new(Arc::clone(&handle)));
            let mut places = Vec::new();
            let mut seq = rng.u64(1..30);
            for _ in 0..rng.usize(1..12) {
                if !expected.contains_key(&(queue, seq)) {
                    places.push(Seq(seq));
                }
                seq += rng.u64(1..5);
            }
            if places.is_empty() {
                continue;
            }
            let (first, last) = (places[0].0, places[places.len() - 1].0);
            overlapping += u64::from(expected.range((queue, first)..(queue, last)).next().is_some());
            index.insert(QueueId(queue), &places, file, (number as u32, rng.u32(1..1_000)));
            expected.extend(places.iter().map(|seq| ((queue, seq.0), (file, number as u32))));
            check(seed, &index, &expected);
            if rng.bool() {
                let (queue, first) = (rng.u64(..2), rng.u64(..40));
                let last = first + rng.u64(..30);
                index.release(QueueId(queue), Seq(first), Seq(last));
                expected.retain(|(of, seq), _| *of != queue || !(first..=last).contains(seq));
                check(seed, &index, &expected);
            }
        }
        (0..2).for_each(|queue| index.release(QueueId(queue), Seq(0), Seq(u64::MAX)));
        assert_eq!((index.places(), index.memory_bytes()), (0, 0), "seed {seed}");
        assert!(index.segments.values().all(|segment| segment.shares_left() == 0), "seed {seed}");
    }
    assert!(overlapping > 1_000, "an empty run");
}

fn check(seed: u64, index: &Index, expected: &BTreeMap<(u64, u64), (FileId, u32)>) {
    assert_eq!(index.places(), expected.len() as u64, "seed {seed}");
    for queue in 0..2 {
        let id = QueueId(queue);
        let of_queue = || expected.range((queue, 0)..(queue, u64::MAX));
        let live: Vec<_> = of_queue().map(|((_, seq), _)| Seq(*seq)).collect();
        assert_eq!(index.live_between(id, Seq(0), Seq(1_000)), live, "seed {seed}");
        let mut from = Seq(0);
        for ((_, seq), (file, offset)) in of_queue() {
            let (found, at) = index.find(id, from, Seq(1_000)).expect("it lives");
            assert_eq!((found.0, at.run.segment, at.run.offset), (*seq, *file, *offset), "seed {seed}");
            assert!(at.run.last >= found, "seed {seed}");
            assert!(index.stands_in(id, found, *file));
            from = found.next();
        }
        assert!(index.find(id, from, Seq(u64::MAX)).is_none());
    }
}
