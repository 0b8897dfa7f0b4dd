//! Messages that leave their queue without being acked, and where they go.

use std::sync::Arc;

use super::Broker;
use super::enqueue::learned_bytes;
use crate::budget::Kept;
use crate::death::{Letter, Reason};
use crate::effect::{Batch, Effect};
use crate::ids::{QueueId, Seq};
use crate::message::Message;
use crate::queue::{Dead, Next, Out, Taken};
use crate::topology::Routing;

impl Broker {
    /// Removes the messages of a queue that have expired, as far as they are next. Those that came just now are left
    /// until `all` are to go: one that has no time at all is thus handed out at once or not at all.
    pub(crate) fn drop_expired(&mut self, id: QueueId, all: bool) {
        loop {
            let Some(queue) = self.queues.get_mut(&id).filter(|queue| queue.can_expire()) else { return };
            let Some(message) = queue.peek().cloned() else { return };
            let over = queue.deadline_ms(&message).is_some_and(|deadline_ms| deadline_ms <= self.now_ms);
            if !over || (message.received_ms == self.now_ms && !all) {
                return;
            }
            if self.letters_wait && queue.waiting_is_full() {
                return;
            }
            let Some(taken) = queue.remove() else { return };
            self.counters.expired += 1;
            self.give_up(id, taken, Reason::Expired);
        }
    }

    /// Removes the oldest messages of a queue that has more than it may.
    pub(crate) fn drop_overflow(&mut self, id: QueueId) {
        loop {
            let Some(queue) = self.queues.get_mut(&id).filter(|queue| queue.is_over_limit()) else { return };
            match queue.next_ready() {
                Next::InMemory if self.letters_wait && queue.waiting_is_full() => return,
                Next::InMemory => {
                    let Some(taken) = queue.remove() else { return };
                    self.counters.dropped += 1;
                    self.give_up(id, taken, Reason::MaxLen);
                }
                Next::InStore if queue.drops_unread() => {
                    let dropped = queue.drop_unread(&mut self.budget);
                    let Some((level, seq, logged)) = dropped else { return };
                    self.counters.dropped += 1;
                    if logged {
                        self.tickets.ack(level, seq);
                    }
                }
                // It is read first; until then the queue is longer than it may be.
                Next::InStore | Next::Nothing => return,
            }
        }
    }

    /// The disk is low, or not any more: what leaves queues by itself for others waits where it is. What a client rejects
    /// moves at once, since its answer says so, and messages that are not in the log do.
    pub(crate) fn hold_letters(&mut self, wait: bool) {
        if !std::mem::replace(&mut self.letters_wait, wait) || wait {
            return;
        }
        // Also those whose heads waited.
        let letters = self.queues.values_mut().filter(|queue| queue.known.dead_letter.is_some());
        let woken: Vec<QueueId> = letters
            .map(|queue| {
                queue.wake_letters();
                queue.id
            })
            .collect();
        woken.into_iter().for_each(|id| self.mark_dirty(id));
    }

    /// Whether the next message of a queue has expired and waits at its head: nobody gets it.
    pub(crate) fn head_waits(&mut self, id: QueueId) -> bool {
        if !self.letters_wait {
            return false;
        }
        let Some(queue) = self.queues.get_mut(&id) else { return false };
        if !queue.waiting_is_full() || !queue.can_expire() {
            return false;
        }
        let Some(message) = queue.peek().cloned() else { return false };
        queue.deadline_ms(&message).is_some_and(|deadline_ms| deadline_ms <= self.now_ms)
    }

    /// A message that was ready leaves its queue.
    fn give_up(&mut self, id: QueueId, taken: Taken, reason: Reason) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let (level, seq, kept) = (taken.queue, taken.seq, taken.kept);
        if queue.known.dead_letter.is_some() && kept == Kept::Log && self.letters_wait {
            return queue.wait_as_letter(taken, reason, &mut self.budget);
        }
        if queue.known.dead_letter.is_some() {
            let message = taken.message().clone();
            self.letters.push_back(Dead { queue: level, seq, kept, reason, message });
        } else {
            self.tickets.leave(level, seq, kept, &mut self.budget);
        }
        queue.discard(taken, &mut self.budget);
    }

    /// A message that was out is not wanted any more and goes where the queue's dead letters go. None: it was not out.
    pub(super) fn give_up_out(&mut self, id: QueueId, place: (QueueId, Seq), reason: Reason) -> Option<Out> {
        let queue = self.queues.get_mut(&id)?;
        if queue.known.dead_letter.is_none() {
            let out = queue.settle(place.0, place.1, &mut self.budget)?;
            self.tickets.leave(place.0, place.1, out.kept, &mut self.budget);
            return Some(out);
        }
        let number = self.tickets.next_dying();
        let (out, dead) = queue.give_up(place, reason, number, &mut self.budget)?;
        match dead {
            Some(dead) => self.letters.push_back(dead),
            None => {
                self.tickets.begin_dying(number);
                self.mark_dirty(id);
            }
        }
        Some(out)
    }

    /// Sends all dead letters on, and those that follow from them: a letter may find a full queue, too.
    pub(crate) fn send_letters(&mut self, out: &mut Vec<Effect>) {
        while let Some(dead) = self.letters.pop_front() {
            self.send_letter(&dead, out);
        }
    }

    /// The move is one append: the message is in its old queue or in its new ones.
    fn send_letter(&mut self, dead: &Dead, out: &mut Vec<Effect>) {
        let id = self.owner(dead.queue);
        let Some(queue) = self.queues.get(&id) else { return };
        let (name, to) = (queue.props.name.clone(), queue.known.dead_letter.clone());
        let (mut put, mut queues) = (None, 0);
        if let Some(to) = to {
            let letter = Letter::new(&dead.message, &name, dead.reason, &to, self.now_ms);
            let targets = self.targets(id, &letter, dead.reason, out);
            let message = Arc::new(letter.message);
            let bytes = message.logged_bytes();
            if Batch::put_bytes(bytes, targets.len() as u64) > self.settings.append_bytes_max {
                let text = format!(
                    "a dead letter of queue '{name}' is larger than an append may be and is dropped: raise segment-size"
                );
                out.push(Effect::Warn { text });
            } else {
                let done = self.enqueue(message, letter.priority, &targets, out);
                self.counters.dead_lettered += u64::from(done.queues > 0);
                (put, queues) = (done.put, done.queues);
            }
        }
        self.budget.leave(dead.queue, dead.seq, dead.kept);
        let old = (dead.kept == Kept::Log).then_some((dead.queue, dead.seq));
        match old {
            Some((level, seq)) if queues == 0 => self.tickets.ack(level, seq),
            _ => self.tickets.shift(old, put, out),
        }
    }

    /// Upper bound of what the move of a message takes in the log, with what its new queues learn from it.
    pub(super) fn letter_bytes(
        &mut self,
        id: QueueId,
        message: &Message,
        reason: Reason,
        out: &mut Vec<Effect>,
    ) -> u64 {
        let Some(queue) = self.queues.get(&id) else { return 0 };
        let (name, to) = (queue.props.name.clone(), queue.known.dead_letter.clone());
        let Some(to) = to else { return 0 };
        let letter = Letter::new(message, &name, reason, &to, self.now_ms);
        let targets = self.targets(id, &letter, reason, out);
        let bytes = letter.message.logged_bytes();
        let targeted = targets.iter().filter_map(|id| self.queues.get(id));
        let learns = targeted.filter(|queue| !queue.has_level(queue.priority(letter.priority)));
        let learned = learns.map(|queue| learned_bytes(queue));
        Batch::put_bytes(bytes, targets.len() as u64) + learned.sum::<u64>()
    }

    /// The queues of a letter, without those where it would begin to go in a circle.
    fn targets(
        &mut self,
        from: QueueId,
        letter: &Letter,
        reason: Reason,
        out: &mut Vec<Effect>,
    ) -> Vec<QueueId> {
        let Some((key, more_keys)) = letter.routing_keys.split_first() else { return Vec::new() };
        let (exchange, properties) = (&letter.message.exchange, &letter.message.properties);
        let vhost = self.queues.get(&from).map(|queue| queue.props.vhost.id);
        let Some(topology) = vhost.and_then(|vhost| self.vhosts.topology(vhost)) else { return Vec::new() };
        let mut targets = topology.route_within(Routing { exchange, key, more_keys, properties });
        if reason == Reason::Rejected {
            return targets.into_iter().collect();
        }
        let count = targets.len();
        targets.retain(|id| !self.queues.get(id).is_some_and(|queue| letter.would_circle(&queue.props.name)));
        if targets.len() < count
            && let Some(queue) = self.queues.get_mut(&from)
            && !std::mem::replace(&mut queue.told_of_cycle, true)
        {
            let text = format!(
                "dead letters of queue '{}' would come back to a queue that they died in before; such letters are \
                 dropped",
                queue.props.name
            );
            out.push(Effect::Warn { text });
        }
        targets.into_iter().collect()
    }
}
