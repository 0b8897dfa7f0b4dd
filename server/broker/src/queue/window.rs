//! The part of a queue that is in memory, and reading the rest back.

use std::sync::Arc;

use super::dying::Dead;
use super::level::{Level, body_len};
use super::{Queue, ranges::Ranges};
use crate::budget::{Budget, Fresh, Kept};
use crate::effect::Fetch;
use crate::ids::{Seq, Ticket};
use crate::input::Fetched;
use crate::message::Message;
use crate::record::Stored;

const FETCH_COUNT_MAX: u32 = 4096;
const FETCH_BYTES_MAX: u64 = 1 << 20;
/// The window is filled up again when it holds fewer messages.
const WINDOW_LOW: usize = 2048;
/// Returned or dying messages no further apart than this are read in one go; what is out between them is read in vain.
const RETURNED_GAP_MAX: u64 = 16;

/// What a fetch that is under way is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fetching {
    from: u64,
    upto: u64,
    what: What,
}

impl Fetching {
    pub(super) fn new(from: u64, upto: u64, what: What) -> Self {
        Self { from, upto, what }
    }

    /// Of what is answered, only what stands before that place counts: the rest is read again.
    pub(super) fn end_before(&mut self, seq: u64) {
        if seq >= self.from {
            self.upto = self.upto.min(seq);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Tail,
    Returned,
    /// Messages to be dead-lettered.
    Dying,
    /// Bodies of messages that are out.
    Recalled,
    /// Bodies to be counted, not held.
    Sizes,
}

/// Why something may be read back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wants {
    /// Somebody waits for the next message: at least one is read however full the budget is.
    pub(crate) head: bool,
    /// The next message may have to be removed. Nobody waits to hold it.
    pub(crate) glance: bool,
    /// There are consumers: the window is filled up ahead of them.
    pub(crate) ahead: bool,
}

/// What became of an answer.
#[derive(Debug, Default)]
pub(crate) struct TakenIn {
    pub(crate) losses: Vec<Loss>,
    pub(crate) dead: Vec<Dead>,
    /// Numbers of those that are dying no more.
    pub(crate) ended: Vec<u64>,
}

/// Places that are gone although nobody removed them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// This place could not be read, for this reason.
    Place(Seq, String),
    /// So many of the places from the first to before the second were not there.
    Missing(u64, Seq, Seq),
}

impl Queue {
    /// What to read back now, if anything and if no read is under way.
    pub(crate) fn plan_fetch(&mut self, wants: Wants, budget: &Budget, after: Ticket) -> Option<Fetch> {
        if self.is_fetching() {
            return None;
        }
        let mut wants = wants;
        for level in &mut self.levels {
            let fetch = level.plan_fetch(wants, budget, after);
            if fetch.is_some() {
                return fetch;
            }
            // What is below the first level with something ready is not next.
            if level.ready() > 0 {
                wants = Wants { head: false, glance: false, ..wants };
            }
        }
        None
    }

    /// Whether a read is under way.
    pub(crate) fn is_fetching(&self) -> bool {
        self.levels.iter().any(|level| level.fetching.is_some())
    }

    /// Takes an answer in. One that is not wanted any more changes nothing (E8).
    pub(crate) fn fetched(&mut self, answer: Fetched, budget: &mut Budget) -> TakenIn {
        self.level_mut(answer.queue).map_or_else(TakenIn::default, |level| level.fetched(answer, budget))
    }

    /// The bug [`crate::controls::Control::StaleFetch`]: what was read before a purge is ready again.
    pub(crate) fn take_late(&mut self, answer: &Fetched, budget: &mut Budget) {
        let Some(level) = self.level_mut(answer.queue) else { return };
        if answer.generation == level.generation {
            return;
        }
        for (seq, bytes) in answer.records.iter().rev() {
            if let (false, Ok(fresh)) = (level.out.contains(seq.0), decode(bytes)) {
                let body = level.hold(&fresh, Kept::Log, budget);
                level.loaded.push_front((seq.0, body));
            }
        }
    }
}

impl Level {
    fn plan_fetch(&mut self, wants: Wants, budget: &Budget, after: Ticket) -> Option<Fetch> {
        let room = budget.room();
        let ahead = wants.ahead && room >= FETCH_BYTES_MAX && self.loaded.len() < WINDOW_LOW;
        let (plan, bytes_max) = if let Some(plan) = self.plan_dying().or_else(|| self.plan_recalled()) {
            (plan, room.clamp(1, FETCH_BYTES_MAX))
        } else if (wants.head || ahead)
            && let Some(plan) = self.plan_returned().or_else(|| self.plan_tail())
        {
            (plan, room.clamp(1, FETCH_BYTES_MAX))
        } else if wants.glance
            && let Some(plan) = self.plan_returned().or_else(|| self.plan_tail())
        {
            // Messages that nobody waits for take no room from those that somebody does.
            (plan, if budget.has_room_to_stay() { room.clamp(1, FETCH_BYTES_MAX) } else { 1 })
        } else {
            (self.plan_sizes()?, FETCH_BYTES_MAX)
        };
        self.fetching = Some(plan);
        Some(Fetch {
            queue: self.id,
            generation: self.generation,
            from: Seq(plan.from),
            upto: Seq(plan.upto),
            count_max: FETCH_COUNT_MAX,
            bytes_max,
            after,
        })
    }

    /// A read is under way that leaves little behind: what comes now is better kept than read back, or a queue whose
    /// consumers keep up would read every message of its publishers for ever.
    pub(super) fn nearly_caught_up(&self) -> bool {
        let reads = self.fetching.is_some_and(|plan| matches!(plan.what, What::Tail | What::Returned));
        reads && self.tail - self.resident.len() as u64 <= u64::from(FETCH_COUNT_MAX)
    }

    fn plan_dying(&self) -> Option<Fetching> {
        let mut places = self.aside.dying.keys().copied();
        let from = places.next()?;
        Some(Fetching { from, upto: run_end(from, places), what: What::Dying })
    }

    fn plan_sizes(&self) -> Option<Fetching> {
        self.uncounted().map(|(from, upto)| Fetching { from, upto, what: What::Sizes })
    }

    /// The first run of returned messages whose bodies are not here.
    fn plan_returned(&self) -> Option<Fetching> {
        let mut bodiless = self.aside.bodiless.iter().copied();
        let from = bodiless.next()?;
        Some(Fetching { from, upto: run_end(from, bodiless), what: What::Returned })
    }

    fn plan_tail(&mut self) -> Option<Fetching> {
        self.promote_residents(0);
        let absent = self.tail - self.resident.len() as u64;
        (absent > 0).then_some(Fetching { from: self.loaded_to, upto: self.absent_to, what: What::Tail })
    }

    fn fetched(&mut self, answer: Fetched, budget: &mut Budget) -> TakenIn {
        let Some(plan) = self.fetching else { return TakenIn::default() };
        if answer.generation != self.generation || answer.from.0 != plan.from {
            return TakenIn::default();
        }
        self.fetching = None;
        let upto = answer.upto.0.clamp(plan.from, plan.upto);
        let losses = match plan.what {
            What::Tail => self.take_tail(upto, answer, budget),
            What::Returned => self.take_returned(plan.from, upto, answer, budget),
            What::Dying => return self.take_dying(plan.from, upto, answer),
            What::Recalled => return self.take_recalled(plan.from, upto, answer, budget),
            What::Sizes => {
                self.take_sizes(upto, answer);
                Vec::new()
            }
        };
        TakenIn { losses, ..TakenIn::default() }
    }

    fn take_tail(&mut self, upto: u64, answer: Fetched, budget: &mut Budget) -> Vec<Loss> {
        let from = self.loaded_to;
        // What was dropped unread in the meantime is not wanted any more.
        let upto = upto.max(from);
        let (expected, mut found) = (self.live_in(from, upto), 0);
        let mut losses = Vec::new();
        let wanted = |seq: u64, dead: &Ranges| (from..upto).contains(&seq) && !dead.contains(seq);
        for (seq, reason) in answer.lost {
            if wanted(seq.0, &self.earlier.dead) && !self.resident.contains_key(&seq.0) {
                found += 1;
                losses.push(Loss::Place(seq, reason));
            }
        }
        for (seq, bytes) in answer.records {
            let here = seq.0 < self.loaded_to || self.resident.contains_key(&seq.0);
            if here || !wanted(seq.0, &self.earlier.dead) {
                continue;
            }
            found += 1 + self.load_residents(seq.0);
            match decode(&bytes) {
                Ok(fresh) => {
                    let kept = self.kept_as(fresh.message());
                    let body = self.hold(&fresh, kept, budget);
                    self.loaded.push_back((seq.0, body));
                }
                Err(reason) => losses.push(Loss::Place(seq, reason)),
            }
            self.loaded_to = seq.0 + 1;
        }
        found += self.load_residents(upto);
        if found < expected {
            losses.push(Loss::Missing(expected - found, Seq(from), Seq(upto)));
        }
        self.loaded_to = upto;
        self.tail -= expected;
        self.forget_dead_below(upto);
        // So that the next message finds the window at the end, if it is.
        self.promote_residents(0);
        losses
    }

    fn take_returned(&mut self, from: u64, upto: u64, answer: Fetched, budget: &mut Budget) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (seq, reason) in answer.lost {
            if self.aside.bodiless.contains(&seq.0) {
                self.lose_returned(seq.0);
                losses.push(Loss::Place(seq, reason));
            }
        }
        for (seq, bytes) in answer.records {
            if !self.is_bodiless_no_more(seq.0) {
                continue;
            }
            match decode(&bytes) {
                Ok(fresh) => {
                    let kept = self.kept_as(fresh.message());
                    let body = self.hold(&fresh, kept, budget);
                    if let Some(returned) = self.returned.get_mut(&seq.0) {
                        returned.body = Some(body);
                    }
                }
                Err(reason) => {
                    self.lose_returned(seq.0);
                    losses.push(Loss::Place(seq, reason));
                }
            }
        }
        // Whatever of the range is still without a body was live for us and not for the store.
        let missing: Vec<u64> = self.aside.bodiless.range(from..upto).copied().collect();
        if !missing.is_empty() {
            missing.iter().for_each(|seq| self.lose_returned(*seq));
            losses.push(Loss::Missing(missing.len() as u64, Seq(from), Seq(upto)));
        }
        self.aside.tidy();
        losses
    }

    fn lose_returned(&mut self, seq: u64) {
        self.is_bodiless_no_more(seq);
        if let Some(returned) = self.returned.remove(&seq) {
            self.count_bytes_out(seq, returned.size);
        }
    }

    fn take_sizes(&mut self, upto: u64, answer: Fetched) {
        let sizes = answer.records.iter().filter_map(|(seq, bytes)| {
            // What cannot be read is said when somebody wants it.
            Some((seq.0, body_len(&bytes.decode().ok()?)))
        });
        self.count_bytes(upto, &sizes.collect::<Vec<_>>());
    }

    /// Where a message is that was read back.
    pub(super) fn kept_as(&self, message: &Message) -> Kept {
        if self.keeps.keeps(message) { Kept::Log } else { Kept::Spilled }
    }

    /// Moves residents to the window as long as no stored message stands before them. Those that are being spilled, so
    /// that they leave memory soon, only while the window holds fewer than `spilling_max`.
    pub(super) fn promote_residents(&mut self, spilling_max: usize) {
        if self.tail == 0 {
            self.loaded_to = self.next;
            self.forget_dead_below(self.next);
            return;
        }
        if self.resident.is_empty() {
            return;
        }
        if self.loaded_to < self.next_at_open && self.live_in(self.loaded_to, self.next_at_open) == 0 {
            self.loaded_to = self.next_at_open;
            self.forget_dead_below(self.next_at_open);
        }
        while let Some(entry) = self.resident.first_entry()
            && *entry.key() == self.loaded_to
            && (entry.get().kept != Kept::Spilling || self.loaded.len() < spilling_max)
        {
            self.loaded.push_back(entry.remove_entry());
            self.loaded_to += 1;
            self.tail -= 1;
        }
    }

    /// Moves the residents below `upto` to the window, and says how many. The caller counts them off the tail.
    fn load_residents(&mut self, upto: u64) -> u64 {
        let mut moved = 0;
        while let Some(entry) = self.resident.first_entry()
            && *entry.key() < upto
        {
            self.loaded.push_back(entry.remove_entry());
            moved += 1;
        }
        moved
    }

    /// Live places of the tail in `[from, upto)`. Nothing in the tail was ever out in this epoch, so only what was
    /// dead before it is dead.
    fn live_in(&self, from: u64, upto: u64) -> u64 {
        upto.saturating_sub(from) - self.earlier.dead.count(from, upto)
    }
}

/// The end of what is read in one go with the place `from` and those that follow it.
pub(super) fn run_end(from: u64, places: impl Iterator<Item = u64>) -> u64 {
    let mut last = from;
    for seq in places.take(FETCH_COUNT_MAX as usize) {
        if seq - last > RETURNED_GAP_MAX {
            break;
        }
        last = seq;
    }
    last + 1
}

pub(super) fn decode(record: &Stored) -> Result<Fresh, String> {
    record.decode().map(|message| Fresh::new(Arc::new(message), 1)).map_err(|e| e.to_string())
}
