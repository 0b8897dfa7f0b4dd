//! Messages that a queue gives up for dead letters although they are not in memory: they are read back first.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Queue;
use super::aside::Aside;
use super::level::{Level, Out, Taken};
use super::window::{Loss, TakenIn};
use crate::budget::{Budget, Kept};
use crate::death::Reason;
use crate::ids::{QueueId, Seq};
use crate::input::Fetched;
use crate::message::Message;

/// A place that waits to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dying {
    pub(super) reason: Reason,
    /// Names it to who waits for its end.
    pub(super) number: u64,
}

/// The number of those for whose end nobody waits.
const NOBODY: u64 = 0;
/// Letters of a level that wait at most, so that memory stays bounded; then its head waits with them.
pub(crate) const WAITING_MAX: usize = 10_000;

/// A message that left its queue to be dead-lettered. It lives on in the log until the move is there.
#[derive(Debug)]
pub(crate) struct Dead {
    /// Its level's number.
    pub(crate) queue: QueueId,
    pub(crate) seq: Seq,
    /// Where it is: what is in the log, the move acks there.
    pub(crate) kept: Kept,
    pub(crate) reason: Reason,
    pub(crate) message: Arc<Message>,
}

impl Queue {
    /// A message that is out is to be dead-lettered. Says what it was, if it was out; the message comes with it, or,
    /// where it has to be read back, later with an answer, under that number.
    pub(crate) fn give_up(
        &mut self,
        (id, seq): (QueueId, Seq),
        reason: Reason,
        number: u64,
        budget: &mut Budget,
    ) -> Option<(Out, Option<Dead>)> {
        let level = self.levels.iter_mut().find(|level| level.id == id)?;
        let mut out = level.out.remove(seq.0)?;
        self.counters.acked += 1;
        let dead = match out.body.take() {
            Some(body) => {
                let message = body.message().clone();
                level.drop_body(body, budget);
                Some(Dead { queue: id, seq, kept: out.kept, reason, message })
            }
            None => {
                level.aside.make().dying.insert(seq.0, Dying { reason, number });
                None
            }
        };
        Some((out, dead))
    }

    /// A stored message that was ready is to be dead-lettered when there is room for it: until then it stays in the
    /// store at its place, and is neither ready nor out.
    pub(crate) fn wait_as_letter(&mut self, taken: Taken, reason: Reason, budget: &mut Budget) {
        if let Some(level) = self.level_mut(taken.queue) {
            level.aside.make().waiting.insert(taken.seq.0, reason);
        }
        self.discard(taken, budget);
    }

    /// Whether as many letters wait as may.
    pub(crate) fn waiting_is_full(&self) -> bool {
        self.levels.iter().any(|level| level.aside.waiting.len() >= WAITING_MAX)
    }

    /// Those that waited are read, to move.
    pub(crate) fn wake_letters(&mut self) {
        for level in &mut self.levels {
            let Some(Aside { waiting, dying, .. }) = level.aside.there() else { continue };
            // Nobody waits for their ends.
            let woken = std::mem::take(waiting).into_iter();
            dying.extend(woken.map(|(seq, reason)| (seq, Dying { reason, number: NOBODY })));
        }
    }

    /// The numbers of all that wait to be read.
    pub(crate) fn dying(&self) -> impl Iterator<Item = u64> {
        self.levels.iter().flat_map(|level| level.aside.dying.values().map(|dying| dying.number))
    }
}

impl Level {
    /// Whether a place waits to move by itself, or is read for it.
    pub(super) fn is_letter(&self, seq: u64) -> bool {
        let Aside { waiting, dying, .. } = &*self.aside;
        waiting.contains_key(&seq) || dying.get(&seq).is_some_and(|dying| dying.number == NOBODY)
    }

    /// Takes the places out that wait to move by themselves, or are read for it, in order.
    pub(super) fn take_letters(&mut self) -> BTreeSet<u64> {
        let Some(Aside { waiting, dying, .. }) = self.aside.there() else { return BTreeSet::new() };
        let mut letters: BTreeSet<u64> = std::mem::take(waiting).into_keys().collect();
        letters.extend(dying.iter().filter(|(_, dying)| dying.number == NOBODY).map(|(seq, _)| *seq));
        dying.retain(|_, dying| dying.number != NOBODY);
        letters
    }

    /// Takes in what was read of them.
    pub(super) fn take_dying(&mut self, from: u64, upto: u64, answer: Fetched) -> TakenIn {
        let mut taken = TakenIn::default();
        for (seq, reason) in answer.lost {
            if let Some(dying) = self.no_longer_dying(seq.0) {
                taken.ended.push(dying.number);
                taken.losses.push(Loss::Place(seq, reason));
            }
        }
        for (seq, bytes) in answer.records {
            let Some(Dying { reason, number }) = self.no_longer_dying(seq.0) else { continue };
            taken.ended.push(number);
            match bytes.decode() {
                Ok(message) => {
                    let (queue, kept, message) = (self.id, self.kept_as(&message), Arc::new(message));
                    taken.dead.push(Dead { queue, seq, kept, reason, message });
                }
                Err(reason) => taken.losses.push(Loss::Place(seq, reason.to_string())),
            }
        }
        // Whatever of the range is still there was live for us and not for the store.
        let missing: Vec<u64> = self.aside.dying.range(from..upto).map(|(seq, _)| *seq).collect();
        if !missing.is_empty() {
            taken.ended.extend(missing.iter().filter_map(|seq| Some(self.no_longer_dying(*seq)?.number)));
            taken.losses.push(Loss::Missing(missing.len() as u64, Seq(from), Seq(upto)));
        }
        self.aside.tidy();
        taken
    }

    fn no_longer_dying(&mut self, seq: u64) -> Option<Dying> {
        self.aside.there()?.dying.remove(&seq)
    }
}
