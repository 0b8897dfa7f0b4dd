//! What is to happen at a time: messages that expire, queues that nobody uses, leases.

use std::collections::BTreeSet;

use super::Broker;
use crate::effect::{Batch, Effect};
use crate::ids::QueueId;

/// See the module. One entry for each queue that waits for something.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// When the next message of a queue expires, in wall-clock time: its deadline is absolute.
    heads: BTreeSet<(u64, QueueId)>,
    /// When to look whether a queue is still used, on the lease clock.
    unused: BTreeSet<(u64, QueueId)>,
}

impl Broker {
    /// When something is due by itself, in the time of [`crate::Input::Tick`]; a tick is needed no earlier for its sake.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let on_lease_clock = |ms: u64| self.now_ms.saturating_add(ms.saturating_sub(self.lease_clock_ms));
        let lease = self.leases.first_key_value().map(|((ms, ..), _)| on_lease_clock(*ms));
        let unused = self.timers.unused.first().map(|(ms, _)| on_lease_clock(*ms));
        let head = self.timers.heads.first().map(|(ms, _)| *ms);
        [lease, unused, head].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        self.lease_clock_ms += now_ms.saturating_sub(self.now_ms);
        self.now_ms = now_ms;
        self.end_leases();
        while let Some(&(ms, id)) = self.timers.heads.first()
            && ms <= now_ms
        {
            self.timers.heads.pop_first();
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.timer_ms = None;
            }
            self.mark_dirty(id);
        }
        while let Some(&(ms, id)) = self.timers.unused.first()
            && ms <= self.lease_clock_ms
        {
            self.timers.unused.pop_first();
            self.delete_if_unused(id, out);
        }
    }

    /// Sets the timer of a queue to its next message, if that is known and expires.
    pub(crate) fn arm(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if !queue.can_expire() {
            return;
        }
        let next = queue.peek().cloned();
        let due_ms = next.and_then(|message| queue.deadline_ms(&message));
        let armed_ms = std::mem::replace(&mut queue.timer_ms, due_ms);
        if armed_ms == due_ms {
            return;
        }
        self.timers.heads.extend(due_ms.map(|ms| (ms, id)));
        if let Some(ms) = armed_ms {
            self.timers.heads.remove(&(ms, id));
        }
    }

    /// A queue was declared or asked for a message, or a consumer left it: the time after which it goes begins anew.
    pub(crate) fn used(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(expires_ms) = queue.known.expires_ms else { return };
        queue.used_ms = self.lease_clock_ms;
        // While there is an entry it is early enough.
        if !std::mem::replace(&mut queue.watched, true) {
            self.timers.unused.insert((self.lease_clock_ms.saturating_add(expires_ms), id));
        }
    }

    /// Forgets the timers of a queue.
    pub(crate) fn disarm(&mut self, id: QueueId) {
        let armed_ms = self.queues.get_mut(&id).and_then(|queue| queue.timer_ms.take());
        if let Some(ms) = armed_ms {
            self.timers.heads.remove(&(ms, id));
        }
    }

    fn delete_if_unused(&mut self, id: QueueId, out: &mut Vec<Effect>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(expires_ms) = queue.known.expires_ms else { return };
        queue.watched = false;
        if !queue.consumers.is_empty() {
            // The last one that leaves begins it anew.
            return;
        }
        let due_ms = match queue.gets.is_empty() {
            true => queue.used_ms.saturating_add(expires_ms),
            false => self.lease_clock_ms.saturating_add(expires_ms),
        };
        if due_ms > self.lease_clock_ms {
            queue.watched = true;
            self.timers.unused.insert((due_ms, id));
            return;
        }
        let mut batch = Batch::default();
        self.remove_queue(id, &mut batch, out);
        self.append_unless_empty(batch, out);
    }
}
