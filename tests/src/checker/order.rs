//! In which order messages come: that of their publish, within a priority; what was given back in its old place; and
//! a higher priority before a lower one, where both stood there for certain.

use std::collections::HashMap;

use super::apply::broken;
use super::state::{Checker, Return, Sent};
use super::{Invariant, Violation};
use crate::history::{ConsumerRef, QueueRef, Share};
use crate::payload::MsgId;

impl Checker {
    pub(super) fn priorities(&mut self, queue: QueueRef, max: u8) {
        if let Some(state) = self.queues.get_mut(&queue) {
            assert!(!state.used, "the harness says what a queue is before it uses the queue");
            state.priority_max = max;
        }
    }

    pub(super) fn order(
        &mut self,
        consumer: ConsumerRef,
        queue: QueueRef,
        id: MsgId,
        redelivered: bool,
    ) -> Result<(), Violation> {
        self.nothing_higher_waits(consumer, queue, id)?;
        let moved_here = self.look(queue, id).is_some_and(|place| !place.published);
        let priority_max = self.queues.get(&queue).map_or(0, |queue| queue.priority_max);
        let level = level(&self.messages, priority_max, id);
        let Some(state) = self.consumers.get_mut(&consumer) else {
            return Ok(());
        };
        state.out.insert(id);
        state.deliveries += 1;
        if moved_here {
            // Its place is after what was there when it came, wherever it was published.
            return Ok(());
        }
        if !redelivered {
            let highest = state.highest_fresh.entry((id.publisher, level)).or_default();
            if id.seq <= *highest {
                let text = format!("{id:?} came for the first time after number {highest}");
                return broken(Invariant::I4, text);
            }
            *highest = id.seq;
        }
        let returned = state.maybe_returned.remove(&id);
        state.returned.remove(&id);
        if state.share == Share::Shared {
            return Ok(());
        }
        let sent_at = self.messages.get(&id).map_or(0, |sent| sent.at);
        for (waiting, since) in &state.returned {
            let other = self::level(&self.messages, priority_max, *waiting);
            let same = other == level && waiting.publisher == id.publisher && waiting.seq < id.seq;
            let before = same || other > level;
            if before && (sent_at >= since.at || state.deliveries > since.deliveries_upto) {
                let text = format!("{id:?} came before {waiting:?}, which had been returned to its place");
                return broken(Invariant::I4, text);
            }
        }
        let highest = state.highest.entry((id.publisher, level)).or_default();
        if id.seq <= *highest && !returned {
            return broken(Invariant::I4, format!("{id:?} came after number {highest}"));
        }
        *highest = (*highest).max(id.seq);
        Ok(())
    }

    /// Of two messages of which nobody had any, the one of the higher priority comes first. It stood there for certain
    /// when the other was handed out, if it was confirmed before that one was sent or before its consumer came, or found
    /// there by this run; and as long as one consumer alone takes from the queue, none but that one can have it.
    fn nothing_higher_waits(
        &mut self,
        consumer: ConsumerRef,
        queue: QueueRef,
        id: MsgId,
    ) -> Result<(), Violation> {
        let Some(state) = self.queues.get(&queue).filter(|state| state.priority_max > 0) else {
            return Ok(());
        };
        let (Some(taker), Some(sent)) = (self.consumers.get(&consumer), self.messages.get(&id)) else {
            return Ok(());
        };
        let level_of = |id: MsgId| level(&self.messages, state.priority_max, id);
        let own = level_of(id);
        let mut overtakes = false;
        for (other, place) in &state.places {
            let level = level_of(*other);
            let waits = level != own && place.handed_out == 0 && place.published;
            if !waits || !self.must_be_there(queue, *other, place) {
                continue;
            }
            let since = self.messages.get(other).and_then(|other| match other.run < self.run {
                true => Some(0),
                false => other.confirmed_at,
            });
            let was_there = since.is_some_and(|since| since < taker.since.max(sent.at));
            if level > own && was_there && taker.share == Share::Sole {
                let text = format!(
                    "{id:?} of priority {own} came before {other:?} of priority {level}, which was ready"
                );
                return broken(Invariant::I4, text);
            }
            overtakes |= level < own && since.is_some_and(|since| since < sent.at);
        }
        self.counts.overtakes += u64::from(overtakes);
        Ok(())
    }

    pub(super) fn return_sent(&mut self, consumer: ConsumerRef, queue: QueueRef, id: MsgId) {
        let place = self.place(queue, id);
        place.out = false;
        place.maybe_out = true;
        if let Some(state) = self.consumers.get_mut(&consumer) {
            state.out.remove(&id);
            state.maybe_returned.insert(id);
            *state.returns_under_way.entry(id).or_default() += 1;
        }
    }

    pub(super) fn returned(
        &mut self,
        consumer: ConsumerRef,
        queue: QueueRef,
        id: MsgId,
        deliveries_under_way: u32,
    ) {
        self.counts.returned += 1;
        self.count_worn_out(queue, id);
        let Some(state) = self.consumers.get_mut(&consumer) else { return };
        let under_way = state.returns_under_way.entry(id).or_default();
        *under_way = under_way.saturating_sub(1);
        if *under_way > 0 {
            // It came again and was returned again meanwhile: this says nothing of where it is now.
            return;
        }
        state.returns_under_way.remove(&id);
        // One that was moved there has another order, and one that may go on by itself need not come again.
        let place = self.queues.get(&queue).and_then(|queue| queue.places.get(&id));
        let stays = place.is_some_and(|place| place.published && place.rule.is_none());
        if stays && state.maybe_returned.contains(&id) {
            let at = self.clock;
            let deliveries_upto = state.deliveries + u64::from(deliveries_under_way);
            state.returned.insert(id, Return { at, deliveries_upto });
        }
        self.place(queue, id).maybe_out = false;
    }
}

/// The priority under which a queue with priorities up to this one files a message.
fn level(messages: &HashMap<MsgId, Sent>, priority_max: u8, id: MsgId) -> u8 {
    messages.get(&id).map_or(0, |sent| sent.priority).min(priority_max)
}
