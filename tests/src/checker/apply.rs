//! One event after another: messages, deliveries, acks, crashes.

use std::collections::BTreeMap;

use super::state::{Checker, Consumer, Existence, Place, Return, Sent};
use super::{Invariant, Violation};
use crate::history::{BatchRef, ConsumerRef, Event, Keep, QueueRef, Share};
use crate::payload::MsgId;

impl Checker {
    /// Judges events in order; stops at the first broken invariant.
    pub fn apply_all<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) -> Result<(), Violation> {
        events.into_iter().try_for_each(|event| self.apply(event))
    }

    /// Judges one event.
    pub fn apply(&mut self, event: &Event) -> Result<(), Violation> {
        match event {
            Event::DeclareSent { queue, name } => self.declare_sent(*queue, name),
            Event::DeadLetters { queue, to } => self.rule(*queue, to),
            Event::Declared { queue, ready } => self.declared(*queue, *ready)?,
            Event::DeleteSent { queue } => self.delete_sent(*queue),
            Event::Deleted { queue } => self.deleted(*queue),
            Event::PurgeSent { queue } => self.purge_sent(*queue),
            Event::Purged { queue } => self.purged(*queue),
            Event::BindSent { binding } => self.bind_sent(binding),
            Event::Bound { binding } => self.bound(binding),
            Event::UnbindSent { binding } => self.unbind_sent(binding),
            Event::Unbound { binding } => self.unbound(binding),
            Event::Sent { id, length, keep, batch, queues } => {
                let (run, confirmed, order) = (self.run, false, self.counts.sent);
                let (length, keep, batch, queues) = (*length, *keep, *batch, queues.clone());
                self.sent(*id, Sent { length, keep, confirmed, run, batch, queues, order });
            }
            Event::Confirmed { id } => self.confirmed(*id)?,
            Event::MoveSent { id, from, to, batch } => self.move_sent(*id, *from, to, *batch),
            Event::Moved { batch } => self.moved(*batch)?,
            Event::MoveRefused { batch } => self.move_refused(*batch)?,
            Event::ConsumerStarted { consumer, queue, share } => {
                self.consumers.insert(*consumer, Consumer::new(*queue, *share));
            }
            Event::ConsumerGone { consumer } => self.consumer_gone(*consumer),
            Event::Delivered { consumer, queue, body, length, redelivered } => match body {
                Ok(id) => self.delivered(*consumer, *queue, *id, *length, *redelivered)?,
                Err(bad) => return broken(Invariant::I3, format!("from {}: {bad}", self.queue_name(*queue))),
            },
            Event::AckSent { queue, id } => self.place(*queue, *id).acks_sent += 1,
            Event::Acked { queue, id } => self.acked(*queue, *id),
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
            Some(sent) if sent.run == self.run && !sent.confirmed => {
                sent.confirmed = true;
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
        let run = self.run;
        let Some(sent) = self.messages.get(&id) else { return Ok(()) };
        let (of_earlier_run, confirmed) = (sent.run < run, sent.confirmed);
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
        if sent.keep == Keep::Transient && sent.run < self.run {
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

    fn order(
        &mut self,
        consumer: ConsumerRef,
        queue: QueueRef,
        id: MsgId,
        redelivered: bool,
    ) -> Result<(), Violation> {
        let moved_here = self.look(queue, id).is_some_and(|place| !place.published);
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
            let highest = state.highest_fresh.entry(id.publisher).or_default();
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
        let first_of_publisher = MsgId { publisher: id.publisher, seq: 0 };
        let sent_order = self.messages.get(&id).map_or(0, |sent| sent.order);
        for (waiting, since) in state.returned.range(first_of_publisher..id) {
            if sent_order >= since.order || state.deliveries > since.deliveries_upto {
                let text = format!("{id:?} came before {waiting:?}, which had been returned to its place");
                return broken(Invariant::I4, text);
            }
        }
        let highest = state.highest.entry(id.publisher).or_default();
        if id.seq <= *highest && !returned {
            return broken(Invariant::I4, format!("{id:?} came after number {highest}"));
        }
        *highest = (*highest).max(id.seq);
        Ok(())
    }

    fn acked(&mut self, queue: QueueRef, id: MsgId) {
        self.counts.acked += 1;
        self.seen_at(queue, id, true);
        let place = self.place(queue, id);
        place.acked = true;
        place.out = false;
    }

    fn return_sent(&mut self, consumer: ConsumerRef, queue: QueueRef, id: MsgId) {
        let place = self.place(queue, id);
        place.out = false;
        place.maybe_out = true;
        if let Some(state) = self.consumers.get_mut(&consumer) {
            state.out.remove(&id);
            state.maybe_returned.insert(id);
            *state.returns_under_way.entry(id).or_default() += 1;
        }
    }

    fn returned(&mut self, consumer: ConsumerRef, queue: QueueRef, id: MsgId, deliveries_under_way: u32) {
        self.counts.returned += 1;
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
            let order = self.counts.sent;
            let deliveries_upto = state.deliveries + u64::from(deliveries_under_way);
            state.returned.insert(id, Return { order, deliveries_upto });
        }
        self.place(queue, id).maybe_out = false;
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
            for place in queue.places.values_mut() {
                place.out = false;
                place.maybe_out = false;
                place.purge_candidate = false;
            }
        }
    }

    fn drained(&self, queue: QueueRef) -> Result<(), Violation> {
        let Some(state) = self.queues.get(&queue) else { return Ok(()) };
        for (id, place) in &state.places {
            // What was moved here is judged with what it was moved with, in the end.
            if place.published && self.must_be_there(*id, place) {
                let text = format!("{id:?} was confirmed, and {} was drained without it", state.name);
                return broken(Invariant::I1, text);
            }
        }
        Ok(())
    }

    /// Confirmed, kept over crashes, and nothing asked for its removal.
    pub(super) fn must_be_there(&self, id: MsgId, place: &Place) -> bool {
        let Some(sent) = self.messages.get(&id) else { return false };
        sent.confirmed && self.is_kept(id) && !place.settled() && self.stands(id, place)
    }

    /// Not lost in a crash by its publisher's leave.
    pub(super) fn is_kept(&self, id: MsgId) -> bool {
        self.messages.get(&id).is_some_and(|sent| sent.keep == Keep::Persistent || sent.run == self.run)
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
        for (id, sent) in self.messages.iter().filter(|(_, sent)| sent.keep == Keep::Persistent) {
            batches.entry(sent.batch).or_default().extend(sent.queues.iter().map(|queue| (*id, *queue)));
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
