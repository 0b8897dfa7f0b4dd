use super::Queue;
use super::level::Level;
use super::ranges::{Ranges, join};
use crate::ids::Seq;

fn ranges(of: &[(u64, u64)]) -> Ranges {
    Ranges::new(&of.iter().map(|(a, b)| (Seq(*a), Seq(*b))).collect::<Vec<_>>())
}

#[test]
fn ranges_count_and_contain() {
    let mut dead = ranges(&[(3, 4), (8, 8), (10, 20)]);
    let inside: Vec<u64> = (0..25).filter(|seq| dead.contains(*seq)).collect();
    let expected: Vec<u64> = [3, 4, 8].into_iter().chain(10..=20).collect();
    assert_eq!(inside, expected);
    for from in 0..25 {
        for upto in from..25 {
            let count = (from..upto).filter(|seq| expected.contains(seq)).count() as u64;
            assert_eq!(dead.count(from, upto), count, "[{from}, {upto})");
        }
    }
    dead.drop_below(9);
    assert_eq!(dead.iter().copied().collect::<Vec<_>>(), [(10, 20)]);
    dead.drop_below(15);
    assert_eq!(dead.count(0, 100), 11, "a range that still reaches over is kept whole");
}

#[test]
fn ranges_join_where_they_touch() {
    let mut joined = Vec::new();
    for (from, last) in [(1, 1), (2, 2), (4, 6), (5, 5), (7, 9), (11, 11)] {
        join(&mut joined, from, last);
    }
    assert_eq!(joined, [(1, 2), (4, 9), (11, 11)]);
}

/// There may be 100,000 of them. What a queue owns on the heap beside these comes to about as much again with its
/// names, its binding and what the store knows of it: `leveret-bench -- store idle`.
#[test]
fn an_idle_queue_is_small() {
    assert!(size_of::<Queue>() <= 320, "{} bytes", size_of::<Queue>());
    assert!(size_of::<Level>() <= 256, "{} bytes", size_of::<Level>());
}
