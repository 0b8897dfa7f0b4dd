//! Inclusive ranges of places, in order, disjoint.

use std::collections::VecDeque;

use crate::ids::Seq;
use crate::seldom::Empty;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Ranges(VecDeque<(u64, u64)>);

/// Places of before this epoch.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Earlier {
    /// Dead ones, as far as the tail still reaches over them.
    pub(super) dead: Ranges,
    /// Those that were delivered before.
    pub(super) redelivered: Ranges,
}

impl Earlier {
    pub(super) fn new(dead: &[(Seq, Seq)], redelivered: &[(Seq, Seq)]) -> Self {
        Self { dead: Ranges::new(dead), redelivered: Ranges::new(redelivered) }
    }
}

impl Empty for Earlier {
    fn empty() -> &'static Self {
        const NONE: Ranges = Ranges(VecDeque::new());
        static EMPTY: Earlier = Earlier { dead: NONE, redelivered: NONE };
        &EMPTY
    }
}

impl Ranges {
    pub(super) fn new(ranges: &[(Seq, Seq)]) -> Self {
        Self(ranges.iter().map(|(from, last)| (from.0, last.0)).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, u64)> {
        self.0.iter()
    }

    pub(super) fn contains(&self, seq: u64) -> bool {
        let after = self.0.partition_point(|(from, _)| *from <= seq);
        after > 0 && self.0[after - 1].1 >= seq
    }

    /// How many places of `[from, upto)` they hold.
    pub(super) fn count(&self, from: u64, upto: u64) -> u64 {
        let start = self.0.partition_point(|(_, last)| *last < from);
        let inside = self.0.iter().skip(start).take_while(|(first, _)| *first < upto);
        inside.map(|(first, last)| (last + 1).min(upto) - (*first).max(from)).sum()
    }

    /// The first place at or behind `seq` that they do not hold.
    pub(super) fn first_outside(&self, seq: u64) -> u64 {
        let after = self.0.partition_point(|(from, _)| *from <= seq);
        let mut free = seq;
        if after > 0 && self.0[after - 1].1 >= seq {
            free = self.0[after - 1].1 + 1;
        }
        // Ranges that touch are as good as one.
        for (from, last) in self.0.iter().skip(after) {
            if *from > free {
                break;
            }
            free = last + 1;
        }
        free
    }

    /// Forgets the ranges that end below `seq`.
    pub(super) fn drop_below(&mut self, seq: u64) {
        while self.0.front().is_some_and(|(_, last)| *last < seq) {
            self.0.pop_front();
        }
    }
}

/// Adds a range that does not begin before the last one, joining it to that one where they touch.
pub(super) fn join(ranges: &mut Vec<(u64, u64)>, from: u64, last: u64) {
    match ranges.last_mut() {
        Some(end) if from <= end.1 + 1 => end.1 = end.1.max(last),
        _ => ranges.push((from, last)),
    }
}
