//! Moves: a message leaves one queue for others, by a transaction or as a dead letter, and is never in both, never in
//! neither, never in some.
//!
//! A move that was asked for belongs to a group, which is carried out as a whole or not at all: what is seen of one part
//! settles it for all. A move by a rule of the queue (a message expires, or has no room) needs no asking: it may happen
//! whenever the message is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::apply::broken;
use super::state::{Checker, Existence, Place};
use super::{Invariant, Violation};
use crate::history::{BatchRef, QueueRef};
use crate::payload::MsgId;

/// How sure it is that something was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may have been, or may yet be.
    Open,
    /// It was, which a crash may undo.
    Carried,
    /// It was, for good.
    Done,
    /// It was not, and will not be.
    Void,
}

impl Fate {
    pub(super) fn happened(self) -> bool {
        matches!(self, Self::Carried | Self::Done)
    }
}

/// What was asked for as one.
#[derive(Debug, Clone)]
pub(super) struct Group {
    fate: Fate,
    /// The run in which it was asked for.
    run: u32,
    /// Each message, and the queue that it leaves.
    pub(super) moves: Vec<(MsgId, QueueRef)>,
}

/// The way on of a message that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Left {
    pub(super) batch: BatchRef,
    /// Nowhere: it is only removed.
    pub(super) to: Arc<[QueueRef]>,
}

/// The way on of a message by the queue's rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) to: Arc<[QueueRef]>,
    pub(super) fate: Fate,
}

/// How a message that was not published to a queue comes to be there.
#[derive(Debug, Clone, Copy)]
enum Way {
    Asked(BatchRef),
    Rule(QueueRef),
    /// Nothing tells which of the two it was: the move that was asked for, or the rule of this queue.
    Either(BatchRef, QueueRef),
}

impl Checker {
    pub(super) fn rule(&mut self, queue: QueueRef, to: &Arc<[QueueRef]>) {
        if let Some(state) = self.queues.get_mut(&queue) {
            assert!(!state.used, "the harness names a queue's rule before it uses the queue");
            state.rule = Some(Arc::clone(to));
        }
    }

    /// A message was published to a queue.
    pub(super) fn published(&mut self, queue: QueueRef, id: MsgId) {
        let place = Place { published: true, ..Place::default() };
        self.arrive(queue, id, place);
    }

    pub(super) fn move_sent(&mut self, id: MsgId, from: QueueRef, to: &Arc<[QueueRef]>, batch: BatchRef) {
        let run = self.run;
        let group =
            self.groups.entry(batch).or_insert_with(|| Group { fate: Fate::Open, run, moves: Vec::new() });
        group.moves.push((id, from));
        let before = self.place(from, id).left.replace(Left { batch, to: Arc::clone(to) });
        let void = before.is_none_or(|before| self.fate(before.batch) == Fate::Void);
        assert!(void, "the harness moves only what is there: {id:?}");
        for target in to.iter() {
            let old =
                self.queues.get_mut(target).and_then(|queue| queue.places.remove(&id)).unwrap_or_default();
            let other =
                old.came.and_then(|batch| self.groups.get(&batch)).filter(|group| group.fate != Fate::Void);
            let other = other.is_some_and(|group| !group.moves.contains(&(id, from)));
            assert!(
                !old.published && !other,
                "the harness moves a message only to where it never was: {id:?}"
            );
            let place = Place { came: Some(batch), came_by_rule: old.came_by_rule, ..Place::default() };
            self.arrive(*target, id, place);
        }
    }

    /// A message is, or may come to be, at a place that knows nothing of it yet.
    pub(super) fn arrive(&mut self, queue: QueueRef, id: MsgId, place: Place) {
        let Some(state) = self.queues.get_mut(&queue) else { return };
        state.used = true;
        let maybe_purged = state.purging || state.leaving();
        let worn = state.limit.as_ref().filter(|limit| limit.reached(state.takers));
        let to = state.rule.clone().or_else(|| worn.map(|limit| Arc::clone(&limit.to)));
        let rule = to.map(|to| Rule { to, fate: Fate::Open });
        let next = rule.as_ref().map(|rule| Arc::clone(&rule.to));
        state.places.insert(id, Place { maybe_purged, rule, ..place });
        for target in next.iter().flat_map(|to| to.iter()) {
            self.arrive(*target, id, Place { came_by_rule: Some(queue), ..Place::default() });
        }
    }

    /// All of a group was answered.
    pub(super) fn moved(&mut self, batch: BatchRef) -> Result<(), Violation> {
        let Some(group) = self.groups.get(&batch) else { return Ok(()) };
        let moves = group.moves.clone();
        if group.fate == Fate::Void {
            let text =
                format!("{:?} came again from where it was, and then its move was confirmed", moves[0].0);
            return broken(Invariant::I8, text);
        }
        self.carry(batch, true);
        for (id, from) in moves {
            let place = self.place(from, id);
            place.out = false;
            place.maybe_out = false;
            let ack = place.left.as_ref().is_some_and(|left| left.to.is_empty());
            place.acked |= ack;
            self.counts.acked += u64::from(ack);
            self.counts.moved += u64::from(!ack);
        }
        Ok(())
    }

    /// All of a group was refused.
    pub(super) fn move_refused(&mut self, batch: BatchRef) -> Result<(), Violation> {
        if self.fate(batch).happened() {
            return broken(
                Invariant::I6,
                format!("part of {batch:?} was carried out, and then it was refused"),
            );
        }
        let run = self.run;
        self.groups.entry(batch).or_insert_with(|| Group { fate: Fate::Open, run, moves: Vec::new() });
        self.undo(batch);
        Ok(())
    }

    /// Whether a message may be at this place, as far as moves go.
    pub(super) fn may_stand(&self, queue: QueueRef, id: MsgId, place: &Place) -> Result<(), Violation> {
        let name = self.queue_name(queue);
        if let Some(left) = place.left.as_ref().filter(|left| self.fate(left.batch).happened()) {
            let to = self.queue_names(&left.to);
            return match left.to.is_empty() {
                true if place.acked => {
                    broken(Invariant::I2, format!("{id:?} came from {name} after its ack was committed"))
                }
                true => broken(
                    Invariant::I6,
                    format!(
                        "{id:?} came from {name}, and the rest of the transaction that acked it was done"
                    ),
                ),
                false => {
                    broken(Invariant::I8, format!("{id:?} came from {name} after its move to {to} was done"))
                }
            };
        }
        if let Some(rule) = place.rule.as_ref().filter(|rule| rule.fate.happened()) {
            let to = self.queue_names(&rule.to);
            return broken(Invariant::I8, format!("{id:?} came from {name} after it had gone on to {to}"));
        }
        if place.published {
            let batch = self.messages.get(&id).map(|sent| sent.batch);
            if batch.is_some_and(|batch| self.fate(batch) == Fate::Void) {
                let text = format!("{id:?} came from {name}, and the rest of its transaction was not done");
                return broken(Invariant::I6, text);
            }
            return Ok(());
        }
        if !self.may_have_been(queue, id) {
            return broken(Invariant::I8, format!("{id:?} came from {name}, and was not moved there"));
        }
        if let Some(from) = place.came_by_rule
            && !place.came.is_some_and(|batch| self.fate(batch) != Fate::Void)
            && self.look(from, id).is_some_and(|place| place.out)
        {
            let from = self.queue_name(from);
            return broken(Invariant::I8, format!("{id:?} came from {name} while it was out of {from}"));
        }
        Ok(())
    }

    /// Whether a message was at a place at some time, for all that is known.
    fn may_have_been(&self, queue: QueueRef, id: MsgId) -> bool {
        let Some(place) = self.look(queue, id) else { return false };
        place.published
            || place.came.is_some_and(|batch| self.fate(batch) != Fate::Void)
            || place
                .came_by_rule
                .is_some_and(|from| self.rule_fate(from, id) != Fate::Void && self.may_have_been(from, id))
    }

    /// Whether it may be there now.
    pub(super) fn may_be(&self, queue: QueueRef, id: MsgId, place: &Place) -> bool {
        let left = place.left.as_ref().is_some_and(|left| self.fate(left.batch).happened());
        let gone = place.rule.as_ref().is_some_and(|rule| rule.fate.happened());
        !left && !gone && self.may_have_been(queue, id)
    }

    /// Whether it is certain that a message came to this place and did not leave it by a move.
    pub(super) fn stands(&self, id: MsgId, place: &Place) -> bool {
        let left = place.left.as_ref().is_some_and(|left| self.fate(left.batch) != Fate::Void);
        let may_go = place.rule.as_ref().is_some_and(|rule| rule.fate != Fate::Void);
        let came = place.came.is_some_and(|batch| self.fate(batch).happened())
            || place.came_by_rule.is_some_and(|from| self.rule_fate(from, id).happened());
        !left && !may_go && (place.published || came)
    }

    /// A message was seen at a place: it came there, and did not leave it. `durable`: nor will it be anywhere else.
    pub(super) fn seen_at(&mut self, queue: QueueRef, id: MsgId, durable: bool) {
        let Some(place) = self.look(queue, id) else { return };
        let left = place.left.as_ref().map(|left| left.batch);
        left.into_iter().for_each(|batch| self.undo(batch));
        if durable && let Some(rule) = &mut self.place(queue, id).rule {
            rule.fate = Fate::Void;
        }
        self.came_to(queue, id, durable);
    }

    /// A message was at a place: what brings it there has happened.
    fn came_to(&mut self, queue: QueueRef, id: MsgId, durable: bool) {
        let Some(place) = self.look(queue, id) else { return };
        if place.published {
            let batch = self.messages.get(&id).map(|sent| sent.batch);
            return batch.into_iter().for_each(|batch| self.carry(batch, durable));
        }
        match self.way(id, place) {
            Some(Way::Asked(batch)) => self.carry(batch, durable),
            Some(Way::Rule(from)) => {
                let other = self.look(from, id).and_then(|place| place.left.as_ref().map(|left| left.batch));
                let asked = self.look(queue, id).and_then(|place| place.came);
                if let Some(rule) = &mut self.place(from, id).rule {
                    let done = durable || rule.fate == Fate::Done;
                    let before =
                        std::mem::replace(&mut rule.fate, if done { Fate::Done } else { Fate::Carried });
                    self.counts.moved_by_rule += u64::from(before == Fate::Open);
                }
                // It went this way and no other, unless both lead here.
                other.filter(|other| Some(*other) != asked).into_iter().for_each(|batch| self.undo(batch));
                self.came_to(from, id, durable);
            }
            Some(Way::Either(batch, from)) => {
                let both = self.groups.get(&batch).is_some_and(|group| group.moves.contains(&(id, from)));
                if both {
                    self.came_to(from, id, durable);
                }
            }
            None => {}
        }
    }

    /// By which way a message came, where it could be several.
    fn way(&self, id: MsgId, place: &Place) -> Option<Way> {
        let asked = place.came.map(|batch| (self.fate(batch), batch));
        let rule = place.came_by_rule.map(|from| (self.rule_fate(from, id), from));
        match (asked, rule) {
            (Some((fate, batch)), _) if fate.happened() => Some(Way::Asked(batch)),
            (_, Some((fate, from))) if fate.happened() => Some(Way::Rule(from)),
            (Some((Fate::Open, batch)), Some((Fate::Open, from))) => Some(Way::Either(batch, from)),
            (Some((Fate::Open, batch)), _) => Some(Way::Asked(batch)),
            (_, Some((Fate::Open, from))) => Some(Way::Rule(from)),
            _ => None,
        }
    }

    /// A group was carried out.
    fn carry(&mut self, batch: BatchRef, durable: bool) {
        let run = self.run;
        let Some(group) = self.groups.get_mut(&batch) else { return };
        // What outlived a crash is durable.
        let fate = if durable || group.run < run { Fate::Done } else { Fate::Carried };
        if matches!(group.fate, Fate::Done | Fate::Void) || group.fate == fate {
            return;
        }
        group.fate = fate;
        let moves = group.moves.clone();
        self.counts.moves_kept += if group.run < run { moves.len() as u64 } else { 0 };
        for (id, from) in moves {
            // It went this way, and thus no other.
            if fate == Fate::Done
                && let Some(rule) = &mut self.place(from, id).rule
            {
                rule.fate = Fate::Void;
            }
            self.came_to(from, id, fate == Fate::Done);
        }
    }

    /// A group was not carried out, nor anything that needs it.
    fn undo(&mut self, batch: BatchRef) {
        let run = self.run;
        let Some(group) = self.groups.get_mut(&batch) else { return };
        if group.fate != Fate::Open {
            return;
        }
        group.fate = Fate::Void;
        let moves = group.moves.clone();
        self.counts.moves_undone += if group.run < run { moves.len() as u64 } else { 0 };
        for (id, from) in moves {
            let to = self.look(from, id).and_then(|place| place.left.clone()).map(|left| left.to);
            for target in to.iter().flat_map(|to| to.iter()) {
                let Some(place) = self.look(*target, id) else { continue };
                if place.came.is_none_or(|by| by != batch) || place.came_by_rule.is_some() {
                    continue;
                }
                let next = place.left.as_ref().map(|left| left.batch);
                next.into_iter().for_each(|next| self.undo(next));
            }
        }
    }

    /// What was carried out in memory may be lost.
    pub(super) fn crash_moves(&mut self) {
        for group in self.groups.values_mut() {
            let under_way = group.run == self.run && matches!(group.fate, Fate::Open | Fate::Carried);
            self.counts.moves_at_crash += if under_way { group.moves.len() as u64 } else { 0 };
            if group.fate == Fate::Carried {
                group.fate = Fate::Open;
            }
        }
        let mut again = Vec::new();
        for queue in self.queues.values_mut() {
            for (id, place) in &mut queue.places {
                let undecided = |rule: &&mut Rule| matches!(rule.fate, Fate::Open | Fate::Carried);
                let Some(rule) = place.rule.as_mut().filter(undecided) else { continue };
                rule.fate = Fate::Open;
                again.extend(rule.to.iter().map(|to| (*to, *id)));
            }
        }
        // It may be back in its old queue and come again as if for the first time.
        again.into_iter().for_each(|(queue, id)| self.place(queue, id).delivered = false);
    }

    /// At the end, when everything that is anywhere was seen: every message that must be somewhere was, and what was
    /// carried out was carried out in full.
    pub(super) fn moves_are_whole(&self) -> Result<(), Violation> {
        let mut publishes: BTreeMap<BatchRef, Vec<(MsgId, QueueRef)>> = BTreeMap::new();
        for (id, sent) in &self.messages {
            if self.groups.contains_key(&sent.batch) {
                publishes
                    .entry(sent.batch)
                    .or_default()
                    .extend(sent.queues.iter().map(|queue| (*id, *queue)));
            }
        }
        for (batch, group) in self.groups.iter().filter(|(_, group)| group.fate.happened()) {
            let moves = group.moves.iter().flat_map(|(id, from)| {
                let to = self.look(*from, *id).and_then(|place| place.left.as_ref()).map(|left| &left.to);
                to.into_iter().flat_map(|to| to.iter().map(|to| (*id, *to)))
            });
            let mut parts: Vec<_> = moves.chain(publishes.remove(batch).unwrap_or_default()).collect();
            parts.retain(|(id, queue)| self.is_kept(*queue, *id));
            parts.sort_unstable();
            let missing = parts.iter().find(|(id, queue)| !self.accounted(*queue, *id));
            let Some((id, queue)) = missing else { continue };
            let name = self.queue_name(*queue);
            return match parts.iter().any(|(id, queue)| self.accounted(*queue, *id)) {
                true => broken(
                    Invariant::I6,
                    format!("{id:?} is not in {name}, and the rest of what it was to go there with was done"),
                ),
                false => broken(Invariant::I8, format!("{id:?} left its queue for {name} and is in neither")),
            };
        }
        for (queue, state) in self.queues.iter().filter(|(_, state)| state.existence != Existence::Gone) {
            for (id, place) in &state.places {
                let moves = place.left.is_some() || place.rule.is_some();
                let sent = self.messages.get(id).is_some_and(|sent| sent.confirmed_at.is_some());
                if moves
                    && place.published
                    && sent
                    && self.is_kept(*queue, *id)
                    && !self.accounted(*queue, *id)
                {
                    let text =
                        format!("{id:?} is neither in {} nor where it was to go from there", state.name);
                    return broken(Invariant::I8, text);
                }
            }
        }
        Ok(())
    }

    /// Whether a message was found at a place, or where it went from there, or was removed by somebody.
    pub(super) fn accounted(&self, queue: QueueRef, id: MsgId) -> bool {
        let Some(state) = self.queues.get(&queue) else { return true };
        let Some(place) = state.places.get(&id) else { return state.leaving() };
        let left = place.left.as_ref().filter(|left| self.fate(left.batch) != Fate::Void);
        state.leaving()
            || place.settled()
            || !self.is_kept(queue, id)
            || left.is_some_and(|left| left.to.iter().all(|to| self.accounted(*to, id)))
            || place.rule.as_ref().is_some_and(|rule| rule.to.iter().all(|to| self.accounted(*to, id)))
    }

    /// Whether anything says of a message at a place, or where it may have gone from there, what `which` says.
    pub(super) fn anywhere(&self, queue: QueueRef, id: MsgId, which: &impl Fn(&Place) -> bool) -> bool {
        let Some(place) = self.look(queue, id) else { return false };
        let left = place.left.iter().flat_map(|left| left.to.iter());
        let rule = place.rule.iter().flat_map(|rule| rule.to.iter());
        which(place) || left.chain(rule).any(|to| self.anywhere(*to, id, which))
    }

    fn queue_names(&self, queues: &[QueueRef]) -> String {
        queues.iter().map(|queue| self.queue_name(*queue)).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn fate(&self, batch: BatchRef) -> Fate {
        self.groups.get(&batch).map_or(Fate::Open, |group| group.fate)
    }

    fn rule_fate(&self, queue: QueueRef, id: MsgId) -> Fate {
        let rule = self.look(queue, id).and_then(|place| place.rule.as_ref());
        rule.map_or(Fate::Void, |rule| rule.fate)
    }

    pub(super) fn look(&self, queue: QueueRef, id: MsgId) -> Option<&Place> {
        self.queues.get(&queue)?.places.get(&id)
    }
}
