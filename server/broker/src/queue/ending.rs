//! What ends: purged messages, a deleted queue, and the process.

use std::collections::BTreeSet;

use super::level::{Holder, Level};
use super::{Queue, ranges};
use crate::budget::{Budget, Kept};
use crate::ids::{QueueId, Seq};

impl Queue {
    /// Removes all ready messages. Returns how many, and the places to be acked in the log.
    pub(crate) fn purge(&mut self, budget: &mut Budget) -> (u64, Vec<(QueueId, Seq, Seq)>) {
        let mut acks = Vec::new();
        let mut removed = 0;
        for level in &mut self.levels {
            let (ready, places) = level.purge(budget);
            removed += ready;
            acks.extend(places.into_iter().map(|(from, last)| (level.id, Seq(from), Seq(last))));
        }
        (removed, acks)
    }

    /// Gives all memory back. The queue is not used any more.
    pub(crate) fn clear(&mut self, budget: &mut Budget) {
        self.levels.iter_mut().for_each(|level| level.clear(budget));
    }

    /// The leases on its messages: when they end, and on which place.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (u64, QueueId, Seq)> {
        self.levels.iter().flat_map(|level| level.leases().map(|(end, seq)| (end, level.id, seq)))
    }

    /// Per level, the stored messages that are known to have been delivered and are still live, as inclusive ranges
    /// (E10).
    pub(crate) fn delivered_before(&self) -> impl Iterator<Item = (QueueId, Vec<(Seq, Seq)>)> {
        self.levels.iter().map(|level| (level.id, level.delivered_before()))
    }
}

impl Level {
    fn purge(&mut self, budget: &mut Budget) -> (u64, Vec<(u64, u64)>) {
        let (letters, mut waiting) = (self.take_letters(), Vec::new());
        letters.iter().for_each(|seq| ranges::join(&mut waiting, *seq, *seq));
        let ready = self.ready() + letters.len() as u64;
        let mut places = Vec::new();
        for (seq, returned) in std::mem::take(&mut self.returned) {
            match returned.kept {
                Kept::Log => ranges::join(&mut places, seq, seq),
                kept => budget.leave(self.id, Seq(seq), kept),
            }
            if let Some(body) = returned.body {
                self.drop_body(body, budget);
            }
        }
        for (seq, body) in std::mem::take(&mut self.loaded) {
            match body.kept {
                Kept::Log => ranges::join(&mut places, seq, seq),
                kept => budget.leave(self.id, Seq(seq), kept),
            }
            self.drop_body(body, budget);
        }
        if self.last_stored >= self.loaded_to {
            // Transient and dead places in between are dead already, which an ack may repeat.
            ranges::join(&mut places, self.loaded_to, self.last_stored);
        }
        if self.spills && self.tail > 0 {
            budget.unspill(self.id, Seq(self.loaded_to), Seq(self.next - 1));
        }
        places.extend(waiting);
        for (_, body) in std::mem::take(&mut self.resident) {
            self.drop_body(body, budget);
        }
        if let Some(aside) = self.aside.there() {
            aside.bodiless.clear();
        }
        self.aside.tidy();
        self.tail = 0;
        self.loaded_to = self.next;
        self.forget_dead_below(self.next);
        self.generation += 1;
        self.fetching = None;
        self.count_bytes_none();
        (ready, places)
    }

    fn clear(&mut self, budget: &mut Budget) {
        self.purge(budget);
        for (_, mut out) in std::mem::take(&mut self.out) {
            if let Some(body) = out.body.take() {
                self.drop_body(body, budget);
            }
        }
        if self.spills {
            budget.unspill(self.id, Seq(0), Seq(u64::MAX));
        }
    }

    fn leases(&self) -> impl Iterator<Item = (u64, Seq)> {
        self.out.iter().filter_map(|(seq, out)| match out.holder {
            Holder::Lease(deadline) => Some((deadline, Seq(seq))),
            Holder::Channel(..) => None,
        })
    }

    fn delivered_before(&self) -> Vec<(Seq, Seq)> {
        let out = self.out.iter().filter(|(_, o)| o.kept == Kept::Log).map(|(seq, _)| seq);
        let returned = self.returned.iter().filter(|(_, r)| r.kept == Kept::Log).map(|(seq, _)| *seq);
        let loaded =
            self.loaded.iter().filter(|(seq, _)| self.was_delivered_before(*seq)).map(|(seq, _)| *seq);
        let dying = self.aside.dying.keys().chain(self.aside.waiting.keys()).copied();
        let singles: BTreeSet<u64> = out.chain(returned).chain(loaded).chain(dying).collect();
        let mut places = Vec::new();
        singles.into_iter().for_each(|seq| ranges::join(&mut places, seq, seq));
        let below = self.redelivered_below.min(self.next_at_open);
        if self.loaded_to < below {
            ranges::join(&mut places, self.loaded_to, below - 1);
        }
        for &(from, last) in self.earlier.redelivered.iter().filter(|(_, last)| *last >= self.loaded_to) {
            ranges::join(&mut places, from.max(self.loaded_to), last);
        }
        places.into_iter().map(|(a, b)| (Seq(a), Seq(b))).collect()
    }
}
