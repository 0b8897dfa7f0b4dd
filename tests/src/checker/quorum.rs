//! Queues of type quorum: they keep every message whatever its mode, count how often one comes back, and let it go on
//! to others when that is too often.

use std::sync::Arc;

use super::apply::broken;
use super::moves::{Fate, Rule};
use super::state::{Checker, Limit, Place};
use super::{Invariant, Violation};
use crate::history::{Keep, QueueRef};
use crate::payload::MsgId;

impl Checker {
    pub(super) fn quorum(&mut self, queue: QueueRef, limit: Option<u32>, to: &Arc<[QueueRef]>) {
        if let Some(state) = self.queues.get_mut(&queue) {
            assert!(!state.used, "the harness says what a queue is before it uses the queue");
            state.keeps_all = true;
            state.limit = limit.map(|most| Limit { most, to: Arc::clone(to) });
        }
    }

    /// Somebody is about to take from a queue. What he has and goes without having told of it, he had all the same.
    pub(super) fn taker_came(&mut self, queue: QueueRef) {
        let Some(state) = self.queues.get_mut(&queue) else { return };
        state.takers += 1;
        if state.limit.is_some() {
            let ids: Vec<MsgId> = state.places.keys().copied().collect();
            ids.into_iter().for_each(|id| self.wear(queue, id));
        }
    }

    /// A message that may have come back too often may go on by itself from here on.
    fn wear(&mut self, queue: QueueRef, id: MsgId) {
        let Some(state) = self.queues.get(&queue) else { return };
        let (Some(limit), Some(place)) = (&state.limit, state.places.get(&id)) else { return };
        let left = place.left.as_ref().is_some_and(|left| self.fate(left.batch) == Fate::Done);
        if place.rule.is_some() || left || place.acked || !limit.reached(place.handed_out + state.takers) {
            return;
        }
        let to = Arc::clone(&limit.to);
        for target in to.iter() {
            match self.queues.get_mut(target).and_then(|state| state.places.get_mut(&id)) {
                Some(place) => place.came_by_rule = Some(queue),
                None => self.arrive(*target, id, Place { came_by_rule: Some(queue), ..Place::default() }),
            }
        }
        self.place(queue, id).rule = Some(Rule { to, fate: Fate::Open });
    }

    /// A message was handed out once more.
    pub(super) fn handed_out(&mut self, queue: QueueRef, id: MsgId) -> Result<(), Violation> {
        let place = self.place(queue, id);
        place.handed_out += 1;
        let times = place.handed_out;
        let Some(state) = self.queues.get(&queue) else { return Ok(()) };
        if let Some(limit) = state.limit.as_ref().filter(|limit| limit.reached(times - 1)) {
            let text = format!(
                "{id:?} came from {} for the {times}. time, and may come back {} times there",
                state.name, limit.most
            );
            return broken(Invariant::I8, text);
        }
        self.wear(queue, id);
        Ok(())
    }

    /// What the newest delivery of a message said of how often it had come back.
    pub(super) fn counted(&self, queue: QueueRef, id: MsgId, count: Option<u32>) -> Result<(), Violation> {
        let Some(state) = self.queues.get(&queue) else { return Ok(()) };
        let least = state.places.get(&id).map_or(0, |place| place.handed_out.saturating_sub(1));
        let most = state.limit.as_ref().map_or(u32::MAX, |limit| limit.most);
        let fits = match count {
            Some(count) => state.keeps_all && (least..=most).contains(&count),
            None => !state.keeps_all,
        };
        if fits {
            return Ok(());
        }
        let text = format!(
            "{id:?} came from {}, counted as {count:?}, and came back {least} times or more",
            state.name
        );
        broken(Invariant::I5, text)
    }

    /// Not lost in a crash by its publisher's leave, as far as this queue goes.
    pub(super) fn is_kept(&self, queue: QueueRef, id: MsgId) -> bool {
        self.messages.get(&id).is_some_and(|sent| sent.run == self.run) || self.outlives(queue, id)
    }

    /// Whether a crash leaves the message in this queue.
    pub(super) fn outlives(&self, queue: QueueRef, id: MsgId) -> bool {
        let persistent = self.messages.get(&id).is_some_and(|sent| sent.keep == Keep::Persistent);
        persistent || self.queues.get(&queue).is_some_and(|queue| queue.keeps_all)
    }

    /// Whether a message may be here in spite of the crashes since it was sent: this queue keeps it, or one did from which
    /// it may have come here since.
    pub(super) fn may_outlive(&self, queue: QueueRef, id: MsgId) -> bool {
        let Some(place) = self.look(queue, id) else { return false };
        let group = place.came.and_then(|batch| self.groups.get(&batch));
        let asked = group.into_iter().flat_map(|group| &group.moves).filter(|(moved, _)| *moved == id);
        let mut from = asked.map(|(_, from)| *from).chain(place.came_by_rule);
        self.is_kept(queue, id) || from.any(|from| self.may_outlive(from, id))
    }

    /// A message came back for certain.
    pub(super) fn count_worn_out(&mut self, queue: QueueRef, id: MsgId) {
        let limit = self.queues.get(&queue).and_then(|queue| queue.limit.as_ref());
        let times = self.look(queue, id).map_or(0, |place| place.handed_out);
        self.counts.worn_out += u64::from(limit.is_some_and(|limit| limit.reached(times)));
    }
}

impl Limit {
    /// A message that was handed out so often does not come back.
    pub(super) fn reached(&self, times: u32) -> bool {
        times > self.most
    }
}
