//! The naive broker: every message by its number, in the state it must be in.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{AckId, QueueId};

/// A message's number: publish order over all queues. It is its body.
pub(super) type No = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    OnChannel(u64, u64),
    Leased(u64),
}

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) state: State,
    /// Deliveries in this epoch.
    pub(super) attempts: u32,
    /// Delivered in any epoch.
    pub(super) delivered: bool,
    pub(super) persistent: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) durable: bool,
    /// What is not gone.
    pub(super) messages: BTreeMap<No, Message>,
    pub(super) ever: BTreeSet<No>,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) queues: BTreeMap<QueueId, Queue>,
    pub(super) ids: Vec<(AckId, No)>,
}

impl Queue {
    pub(super) fn ready(&self) -> u64 {
        self.messages.values().filter(|m| m.state == State::Ready).count() as u64
    }

    pub(super) fn out(&self) -> u64 {
        self.messages.len() as u64 - self.ready()
    }
}

impl Oracle {
    pub(super) fn publish(&mut self, queue: QueueId, no: No, persistent: bool) {
        let queue = self.queues.get_mut(&queue).expect("the queue exists");
        let message = Message { state: State::Ready, attempts: 0, delivered: false, persistent };
        queue.messages.insert(no, message);
        queue.ever.insert(no);
    }

    /// A delivery: the first ready message it must be, flagged as it must be.
    pub(super) fn take(&mut self, id: AckId, no: No, redelivered: bool, attempt: u32, state: Option<State>) {
        let queue = self.queues.get_mut(&id.queue).expect("deliveries come from queues that exist");
        let first = queue.messages.iter_mut().find(|(_, m)| m.state == State::Ready);
        let (first, message) = first.unwrap_or_else(|| panic!("{no} delivered, but nothing is ready"));
        assert_eq!(*first, no, "the first ready message is delivered");
        assert_eq!(redelivered, message.delivered, "redelivered flag of {no}");
        message.attempts += 1;
        message.delivered = true;
        assert_eq!((attempt, id.attempt), (message.attempts, message.attempts), "attempts of {no}");
        match state {
            Some(state) => message.state = state,
            None => drop(queue.messages.remove(&no)),
        }
        self.ids.push((id, no));
    }

    /// Settles what is out.
    pub(super) fn settle(&mut self, queue: QueueId, no: No, requeue: bool) {
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        if requeue {
            if let Some(message) = queue.messages.get_mut(&no) {
                message.state = State::Ready;
            }
        } else {
            queue.messages.remove(&no);
        }
    }

    /// What is out, by a test of its state.
    pub(super) fn out_where(&self, wanted: impl Fn(State) -> bool) -> Vec<(QueueId, No)> {
        let all = self.queues.iter().flat_map(|(id, q)| q.messages.iter().map(move |(no, m)| (*id, *no, m)));
        all.filter(|(_, _, m)| m.state != State::Ready && wanted(m.state))
            .map(|(id, no, _)| (id, no))
            .collect()
    }

    /// Removes what is ready and says what it was.
    pub(super) fn purge(&mut self, queue: QueueId) -> Vec<No> {
        let queue = self.queues.get_mut(&queue).expect("the queue exists");
        let ready: Vec<No> =
            queue.messages.iter().filter(|(_, m)| m.state == State::Ready).map(|(no, _)| *no).collect();
        queue.messages.retain(|_, m| m.state != State::Ready);
        ready
    }
}
