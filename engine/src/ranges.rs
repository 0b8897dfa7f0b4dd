//! Sets of places: which of a queue's places are dead, as ranges where they stand together.

use roaring::RoaringTreemap;

use crate::ids::Seq;

/// A set of places of one queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Places(RoaringTreemap);

impl Places {
    /// Adds an inclusive range; says how many were new.
    pub(crate) fn insert(&mut self, first: Seq, last: Seq) -> u64 {
        self.0.insert_range(first.0..=last.0)
    }

    /// Removes an inclusive range.
    pub(crate) fn remove(&mut self, first: Seq, last: Seq) {
        self.0.remove_range(first.0..=last.0);
    }

    pub(crate) fn contains(&self, seq: Seq) -> bool {
        self.0.contains(seq.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many lie in an inclusive range.
    pub(crate) fn count(&self, first: Seq, last: Seq) -> u64 {
        if self.0.is_empty() || first > last {
            return 0;
        }
        let below = if first.0 == 0 { 0 } else { self.0.rank(first.0 - 1) };
        self.0.rank(last.0) - below
    }

    /// The places of an inclusive range that are in neither of two sets.
    pub(crate) fn outside(first: Seq, last: Seq, one: &Self, other: &Self) -> Self {
        let mut places = RoaringTreemap::new();
        places.insert_range(first.0..=last.0);
        places -= &one.0;
        places -= &other.0;
        Self(places)
    }

    /// The places that are in both sets.
    pub(crate) fn both(one: &Self, other: &Self) -> Self {
        Self(&one.0 & &other.0)
    }

    /// Takes another set's places out.
    pub(crate) fn take_out(&mut self, other: &Self) {
        self.0 -= &other.0;
    }

    /// Whether any place is in both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }

    /// Adds another set's places.
    pub(crate) fn add(&mut self, other: &Self) {
        self.0 |= &other.0;
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The first one at or behind that place.
    pub(crate) fn first_from(&self, seq: Seq) -> Option<Seq> {
        let below = if seq.0 == 0 { 0 } else { self.0.rank(seq.0 - 1) };
        self.0.select(below).map(Seq)
    }

    pub(crate) fn last(&self) -> Option<Seq> {
        self.0.max().map(Seq)
    }

    /// The places as inclusive ranges, in order.
    pub(crate) fn to_ranges(&self) -> Vec<(Seq, Seq)> {
        let mut ranges: Vec<(Seq, Seq)> = Vec::new();
        for seq in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if last.0 + 1 == seq => last.0 = seq,
                _ => ranges.push((Seq(seq), Seq(seq))),
            }
        }
        ranges
    }

    /// What it takes of memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.serialized_size() as u64 }
    }

    /// For a checkpoint: roaring's portable format.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.0.serialize_into(out).expect("writing into a Vec cannot fail");
    }

    /// Reads what [`Places::encode`] wrote; every length is checked.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        RoaringTreemap::deserialize_from(bytes)
            .map(Self)
            .map_err(|e| format!("a set of places cannot be read: {e}"))
    }
}
