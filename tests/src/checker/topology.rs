//! Queues and bindings: declared, deleted, purged, and what a listing may show of them.

use std::collections::BTreeMap;

use super::apply::broken;
use super::state::{Checker, Existence, Queue};
use super::{Invariant, Violation};
use crate::history::{BindingName, Listed, QueueRef};
use crate::payload::MsgId;

impl Checker {
    pub(super) fn declare_sent(&mut self, queue: QueueRef, name: &str) {
        self.queues.entry(queue).or_insert_with(|| Queue::new(name.to_string()));
    }

    pub(super) fn declared(&mut self, queue: QueueRef, ready: u64) -> Result<(), Violation> {
        let Some(state) = self.queues.get_mut(&queue) else { return Ok(()) };
        state.existence = Existence::Made;
        if ready > 0 && !state.used {
            let text = format!("{} was declared anew and has {ready} messages", state.name);
            return broken(Invariant::I7, text);
        }
        Ok(())
    }

    pub(super) fn delete_sent(&mut self, queue: QueueRef) {
        if let Some(state) = self.queues.get_mut(&queue) {
            state.existence = Existence::MaybeGone;
            // Its bindings go with it.
            for (binding, existence) in &mut self.bindings {
                if binding.queue == state.name && *existence != Existence::Gone {
                    *existence = Existence::MaybeGone;
                }
            }
            state.places.values_mut().for_each(|place| place.maybe_purged = true);
        }
    }

    pub(super) fn deleted(&mut self, queue: QueueRef) {
        self.counts.deletes += 1;
        if let Some(state) = self.queues.get_mut(&queue) {
            state.existence = Existence::Gone;
            for (binding, existence) in &mut self.bindings {
                if binding.queue == state.name {
                    *existence = Existence::Gone;
                }
            }
        }
    }

    pub(super) fn purge_sent(&mut self, queue: QueueRef) {
        let (run, messages) = (self.run, &self.messages);
        let Some(state) = self.queues.get_mut(&queue) else { return };
        state.purging = true;
        for (id, place) in &mut state.places {
            place.maybe_purged = true;
            // What was on its way when the purge left may come after it, and what is out stays out.
            let arrived = messages.get(id).is_some_and(|sent| sent.confirmed_at.is_some() || sent.run < run);
            // What a move may bring here may come after it, and what one may have taken away cannot be purged.
            let arrived = arrived && place.published && place.left.is_none();
            place.purge_candidate = arrived && !place.out && !place.maybe_out;
        }
        // What was returned may be purged instead of coming again.
        for consumer in self.consumers.values_mut().filter(|consumer| consumer.queue == queue) {
            consumer.returned.clear();
        }
    }

    pub(super) fn purged(&mut self, queue: QueueRef) {
        self.counts.purges += 1;
        let Some(state) = self.queues.get_mut(&queue) else { return };
        state.purging = false;
        for place in state.places.values_mut().filter(|place| place.purge_candidate) {
            place.purge_candidate = false;
            place.purged = true;
        }
    }

    pub(super) fn bind_sent(&mut self, binding: &BindingName) {
        let existence = self.bindings.entry(binding.clone()).or_insert(Existence::MaybeMade);
        if *existence != Existence::Made {
            *existence = Existence::MaybeMade;
        }
    }

    pub(super) fn bound(&mut self, binding: &BindingName) {
        self.bindings.insert(binding.clone(), Existence::Made);
    }

    pub(super) fn unbind_sent(&mut self, binding: &BindingName) {
        self.bindings.insert(binding.clone(), Existence::MaybeGone);
    }

    pub(super) fn unbound(&mut self, binding: &BindingName) {
        self.bindings.insert(binding.clone(), Existence::Gone);
    }

    /// Judges a listing that was made while no client was at work.
    pub(super) fn listing(&self, queues: &[Listed], bindings: &[BindingName]) -> Result<(), Violation> {
        for (queue_ref, queue) in &self.queues {
            let listed = queues.iter().find(|listed| listed.name == queue.name);
            match (queue.existence, listed) {
                (Existence::Made, None) => {
                    return broken(Invariant::I7, format!("{} was declared and is not listed", queue.name));
                }
                (Existence::Gone, Some(_)) if !self.name_lives(&queue.name) => {
                    return broken(Invariant::I7, format!("{} was deleted and is listed", queue.name));
                }
                (Existence::Made, Some(listed)) => self.count_fits(*queue_ref, queue, listed.messages)?,
                _ => {}
            }
        }
        for (binding, existence) in &self.bindings {
            let listed = bindings.contains(binding);
            match existence {
                Existence::Made if !listed => {
                    return broken(Invariant::I7, format!("{binding:?} was made and is not listed"));
                }
                Existence::Gone if listed => {
                    return broken(Invariant::I7, format!("{binding:?} was removed and is listed"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Of the lives of a name that have ended, only the last is of interest: the name must not be listed.
    pub(super) fn forget_old_lives(&mut self) {
        let mut last = BTreeMap::new();
        for (queue, state) in &self.queues {
            last.insert(state.name.clone(), *queue);
        }
        self.queues.retain(|queue, state| state.existence != Existence::Gone || last[&state.name] == *queue);
    }

    /// Another life of the name may exist.
    fn name_lives(&self, name: &str) -> bool {
        self.queues.values().any(|queue| queue.name == name && queue.existence != Existence::Gone)
    }

    /// Confirmed and not acked <= what is there <= confirmed and uncertain, less what is acked.
    fn count_fits(&self, queue_ref: QueueRef, queue: &Queue, messages: u64) -> Result<(), Violation> {
        let (mut least, mut most) = (0, 0);
        for (id, place) in &queue.places {
            least += u64::from(self.must_be_there(queue_ref, *id, place));
            let may_live = self.messages.contains_key(id) && self.may_outlive(queue_ref, *id);
            let may_be = self.may_be(queue_ref, *id, place);
            most += u64::from(may_live && may_be && !place.acked && !place.purged);
        }
        if messages < least {
            let text = format!("{} lists {messages} messages, at least {least} must be there", queue.name);
            return broken(Invariant::I1, text);
        }
        if messages > most {
            let text = format!("{} lists {messages} messages, at most {most} can be there", queue.name);
            return broken(Invariant::I2, text);
        }
        Ok(())
    }

    /// The message went to another queue of the same name, which was deleted.
    pub(super) fn went_to_an_earlier_life(&self, queue: QueueRef, id: MsgId) -> bool {
        let name = self.queue_name(queue);
        let lives = self.queues.iter().filter(|(other, state)| **other != queue && state.name == name);
        lives.into_iter().any(|(_, state)| state.places.contains_key(&id))
    }

    pub(super) fn queue_name(&self, queue: QueueRef) -> String {
        self.queues.get(&queue).map_or_else(|| format!("{queue:?}"), |state| state.name.clone())
    }
}
