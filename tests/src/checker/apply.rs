//! One event after another: messages, deliveries, acks, crashes.

use std::collections::BTreeMap;

use super::state::{Checker, Consumer, Existence, Place, Sent};
use super::{Invariant, Violation};
use crate::history::{BatchRef, ConsumerRef, Event, Keep, QueueRef};
use crate::payload::MsgId;

impl Checker {
    /// Judges events in order; stops at the first broken invariant.
    pub fn apply_all<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) -> Result<(), Violation> {
        events.into_iter().try_for_each(|event| self.apply(event))
    }

    /// Judges one event.
    pub fn apply(&mut self, event: &Event) -> Result<(), Violation> {
        self.clock += 1;
        match event {
            Event::DeclareSent { queue, name } => self.declare_sent(*queue, name),
            Event::DeadLetters { queue, to } => self.rule(*queue, to),
            Event::Priorities { queue, max } => self.priorities(*queue, *max),
            Event::Quorum { queue, limit, to } => self.quorum(*queue, *limit, to),
            Event::Declared { queue, ready } => self.declared(*queue, *ready)?,
            Event::DeleteSent { queue } => self.delete_sent(*queue),
            Event::Deleted { queue } => self.deleted(*queue),
            Event::PurgeSent { queue } => self.purge_sent(*queue),
            Event::Purged { queue } => self.purged(*queue),
            Event::BindSent { binding } => self.bind_sent(binding),
            Event::Bound { binding } => self.bound(binding),
            Event::UnbindSent { binding } => self.unbind_sent(binding),
            Event::Unbound { binding } => self.unbound(binding),
            Event::Sent { id, length, keep, priority, batch, queues } => {
                let (run, at, confirmed_at) = (self.run, self.clock, None);
                let (length, keep, priority, batch) = (*length, *keep, *priority, *batch);
                let queues = queues.clone();
                self.sent(*id, Sent { length, keep, priority, confirmed_at, run, batch, queues, at });
            }
            Event::Confirmed { id } => self.confirmed(*id)?,
            Event::MoveSent { id, from, to, batch } => self.move_sent(*id, *from, to, *batch),
            Event::Moved { batch } => self.moved(*batch)?,
            Event::MoveRefused { batch } => self.move_refused(*batch)?,
            Event::ConsumerStarted { consumer, queue, share } => {
                self.consumers.insert(*consumer, Consumer::new(*queue, *share, self.clock));
                self.taker_came(*queue);
            }
            Event::ConsumerGone { consumer } => self.consumer_gone(*consumer),
            Event::Delivered { consumer, queue, body, length, redelivered } => match body {
                Ok(id) => self.delivered(*consumer, *queue, *id, *length, *redelivered)?,
                Err(bad) => return broken(Invariant::I3, format!("from {}: {bad}", self.queue_name(*queue))),
            },
            Event::Counted { queue, id, count } => self.counted(*queue, *id, *count)?,
            Event::AckSent { queue, id } => self.place(*queue, *id).acks_sent += 1,
            Event::Acked { queue, id } => self.acked(*queue, *id),
            Event::Gone { queue, id } => self.gone(*queue, *id),
            Event::AckRefused { queue, id } => {
                let place = self.place(*queue, *id);
                place.acks_sent = place.acks_sent.saturating_sub(1);
            }
            Event::ReturnSent { consumer, queue, id } => self.return_sent(*consumer, *queue, *id),
            Event::Returned { consumer, queue, id, under_way } => {
                self.returned(*consumer, *queue, *id, *under_way);
            }
            Event::Crash => self.crash(),
            Event::Listing { queues, bindings } => self.listing(queues, bindings)?,
            Event::Drained { queue } => self.drained(*queue)?,
            Event::AllDrained => self.all_drained()?,
        }
        Ok(())
    }

    fn sent(&mut self, id: MsgId, sent: Sent) {
        self.counts.sent += 1;
        self.in_flight += 1;
        let newest = self.newest.entry(id.publisher).or_default();
        assert!(id.seq > *newest, "the harness must number a publisher's messages upwards: {id:?}");
        *newest = id.seq;
        for queue in sent.queues.iter() {
            self.published(*queue, id);
        }
        self.messages.insert(id, sent);
    }

    fn confirmed(&mut self, id: MsgId) -> Result<(), Violation> {
        self.counts.confirmed += 1;
        match self.messages.get_mut(&id) {
            Some(sent) if sent.run == self.run && sent.confirmed_at.is_none() => {
                sent.confirmed_at = Some(self.clock);
                self.in_flight -= 1;
                Ok(())
            }
            _ => broken(Invariant::I3, format!("a confirm for {id:?}, which is not in flight")),
        }
    }

    fn delivered(
        &mut self,
        consumer: ConsumerRef,
        queue: QueueRef,
        id: MsgId,
        length: u32,
        redelivered: bool,
    ) -> Result<(), Violation> {
        self.counts.delivered += 1;
        self.counts.redelivered += u64::from(redelivered);
        self.may_come(queue, id, length, redelivered)?;
        self.order(consumer, queue, id, redelivered)?;
        self.seen_at(queue, id, false);
        self.handed_out(queue, id)?;
        let run = self.run;
        let Some(sent) = self.messages.get(&id) else { return Ok(()) };
        let (of_earlier_run, confirmed) = (sent.run < run, sent.confirmed_at.is_some());
        let transient = sent.keep == Keep::Transient;
        let place = self.place(queue, id);
        place.delivered = true;
        // Out before a purge that is under way: it may not go with it.
        place.purge_candidate = false;
        place.out = true;
        place.maybe_out = false;
        if of_earlier_run && !place.found_after_crash {
            place.found_after_crash = true;
            self.counts.recovered += 1;
            self.counts.uncertain_found += u64::from(!confirmed);
            self.counts.transient_found += u64::from(transient);
        }
        Ok(())
    }

    /// Whether this message may come from this queue now, flagged like this.
    fn may_come(&self, queue: QueueRef, id: MsgId, length: u32, redelivered: bool) -> Result<(), Violation> {
        let name = self.queue_name(queue);
        if self.queues.get(&queue).is_some_and(|queue| queue.existence == Existence::Gone) {
            return broken(Invariant::I7, format!("{id:?} came from {name} after its delete was answered"));
        }
        let Some(sent) = self.messages.get(&id) else {
            let drained = self.drained_upto.get(&id.publisher).is_some_and(|upto| id.seq <= *upto);
            return match drained {
                true => {
                    broken(Invariant::I2, format!("{id:?} came from {name} after it was drained and acked"))
                }
                false => broken(Invariant::I3, format!("{id:?} came from {name} and was never sent")),
            };
        };
        let Some(place) = self.queues.get(&queue).and_then(|queue| queue.places.get(&id)) else {
            return match self.went_to_an_earlier_life(queue, id) {
                true => broken(
                    Invariant::I7,
                    format!("{id:?} came from {name}, and was sent before the name's delete"),
                ),
                false => broken(Invariant::I3, format!("{id:?} came from {name}, where it was not sent")),
            };
        };
        if length != sent.length {
            return broken(Invariant::I3, format!("{id:?} has {length} bytes, {} were sent", sent.length));
        }
        self.may_stand(queue, id, place)?;
        if place.acked {
            return broken(Invariant::I2, format!("{id:?} came from {name} after its ack was confirmed"));
        }
        if place.purged {
            return broken(Invariant::I7, format!("{id:?} came from {name} after the purge that removed it"));
        }
        if !self.may_outlive(queue, id) {
            return broken(Invariant::I3, format!("the transient {id:?} came from {name} after a crash"));
        }
        if place.out {
            return broken(Invariant::I6, format!("{id:?} came from {name} while it was out"));
        }
        if place.delivered && !redelivered {
            return broken(Invariant::I5, format!("{id:?} came from {name} again, with redelivered=false"));
        }
        Ok(())
    }

    fn acked(&mut self, queue: QueueRef, id: MsgId) {
        self.counts.acked += 1;
        self.seen_at(queue, id, true);
        let place = self.place(queue, id);
        place.acked = true;
        place.out = false;
    }

    fn gone(&mut self, queue: QueueRef, id: MsgId) {
        if self.look(queue, id).is_none_or(|place| self.stands(id, place)) {
            return self.acked(queue, id);
        }
        self.counts.acked += 1;
        let place = self.place(queue, id);
        place.acked = true;
        place.out = false;
    }

    fn consumer_gone(&mut self, consumer: ConsumerRef) {
        let Some(state) = self.consumers.remove(&consumer) else { return };
        for id in state.out {
            let place = self.place(state.queue, id);
            place.maybe_out = place.out;
            place.out = false;
        }
    }

    fn crash(&mut self) {
        self.counts.crashes += 1;
        self.counts.crashes_in_flight += u64::from(self.in_flight > 0);
        self.crash_moves();
        self.run += 1;
        self.in_flight = 0;
        self.consumers.clear();
        for queue in self.queues.values_mut() {
            queue.purging = false;
            queue.takers = 0;
            for place in queue.places.values_mut() {
                place.out = false;
                place.maybe_out = false;
                place.purge_candidate = false;
                place.handed_out = 0;
            }
        }
    }

    fn drained(&self, queue: QueueRef) -> Result<(), Violation> {
        let Some(state) = self.queues.get(&queue) else { return Ok(()) };
        for (id, place) in &state.places {
            // What was moved here is judged with what it was moved with, in the end.
            if place.published && self.must_be_there(queue, *id, place) {
                let text = format!("{id:?} was confirmed, and {} was drained without it", state.name);
                return broken(Invariant::I1, text);
            }
        }
        Ok(())
    }

    /// Confirmed, kept over crashes, and nothing asked for its removal.
    pub(super) fn must_be_there(&self, queue: QueueRef, id: MsgId, place: &Place) -> bool {
        let Some(sent) = self.messages.get(&id) else { return false };
        sent.confirmed_at.is_some() && self.is_kept(queue, id) && !place.settled() && self.stands(id, place)
    }

    fn all_drained(&mut self) -> Result<(), Violation> {
        self.all_or_nothing()?;
        self.moves_are_whole()?;
        for (publisher, newest) in &self.newest {
            self.drained_upto.insert(*publisher, *newest);
        }
        self.messages.clear();
        self.groups.clear();
        self.in_flight = 0;
        for queue in self.queues.values_mut() {
            queue.places.clear();
        }
        self.forget_old_lives();
        Ok(())
    }

    /// P5: when one part of an atomic publish outlived a crash, every part did.
    fn all_or_nothing(&self) -> Result<(), Violation> {
        let mut batches: BTreeMap<BatchRef, Vec<(MsgId, QueueRef)>> = BTreeMap::new();
        for (id, sent) in &self.messages {
            let kept = sent.queues.iter().filter(|queue| self.outlives(**queue, *id));
            batches.entry(sent.batch).or_default().extend(kept.map(|queue| (*id, *queue)));
        }
        for parts in batches.values().filter(|parts| parts.len() > 1) {
            // Here, or where it went from here.
            let found = |(id, queue): &&(MsgId, QueueRef)| {
                self.anywhere(*queue, *id, &|place| place.found_after_crash || place.acked)
            };
            let survived = parts.iter().find(found);
            let missing = parts.iter().find(|part| !found(part) && !self.accounted(part.1, part.0));
            if let (Some((id, queue)), Some((lost, nowhere))) = (survived, missing) {
                let (there, not_there) = (self.queue_name(*queue), self.queue_name(*nowhere));
                let text =
                    format!("{id:?} is in {there}, and {lost:?} of the same publish is not in {not_there}");
                return broken(Invariant::I6, text);
            }
        }
        Ok(())
    }

    pub(super) fn place(&mut self, queue: QueueRef, id: MsgId) -> &mut Place {
        let queue = self.queues.get_mut(&queue).expect("the harness declares a queue before it uses it");
        queue.places.entry(id).or_default()
    }
}

pub(super) fn broken<T>(invariant: Invariant, text: String) -> Result<T, Violation> {
    Err(Violation { invariant, text })
}
