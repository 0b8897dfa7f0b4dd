//! Queues as lists: every rule in the plainest way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::arguments::Overflow;
use crate::input::Settle;

/// A message's number, which its body begins with.
pub(super) type No = u64;

/// What a queue is declared with.
#[derive(Debug, Clone)]
pub(super) struct Conf {
    pub(super) ttl_ms: Option<u64>,
    pub(super) length_max: Option<u64>,
    pub(super) bytes_max: Option<u64>,
    pub(super) overflow: Overflow,
    pub(super) priority_max: u8,
    pub(super) to: Option<&'static str>,
    /// Of type quorum, with this delivery limit.
    pub(super) limit: Option<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) no: No,
    pub(super) order: u64,
    pub(super) priority: u8,
    /// As it was published.
    pub(super) given_priority: u8,
    pub(super) persistent: bool,
    pub(super) received_ms: u64,
    pub(super) expiration_ms: Option<u64>,
    pub(super) size: u64,
    /// Queue, reason and count, the newest first.
    pub(super) deaths: Vec<(String, &'static str, i64)>,
    pub(super) attempts: u32,
    pub(super) delivered: bool,
    pub(super) out: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) conf: Conf,
    /// In order of delivery.
    pub(super) messages: Vec<Message>,
}

/// All queues.
#[derive(Debug, Default)]
pub(super) struct Naive {
    pub(super) queues: BTreeMap<&'static str, Queue>,
    pub(super) now_ms: u64,
    letters: VecDeque<(&'static str, &'static str, Message)>,
    orders: u64,
    pub(super) expired: u64,
    pub(super) dropped: u64,
    pub(super) worn_out: u64,
    pub(super) moved: u64,
    pub(super) circles: u64,
}

impl Conf {
    /// Why a message leaves that has expired and is too much as well depends on when it is read back. So what comes
    /// behind one that has not expired does not expire in such a queue.
    pub(super) fn is_limited(&self) -> bool {
        self.length_max.is_some() || self.bytes_max.is_some()
    }
}

impl Queue {
    pub(super) fn ready(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|m| !m.out)
    }

    fn bytes(&self) -> u64 {
        self.ready().map(|m| m.size).sum()
    }

    pub(super) fn stores(&self, message: &Message) -> bool {
        message.persistent || self.conf.limit.is_some()
    }

    fn refuses(&self, size: u64) -> bool {
        self.conf.overflow != Overflow::DropHead
            && (self.ready().count() as u64 + 1 > self.conf.length_max.unwrap_or(u64::MAX)
                || self.bytes() + size > self.conf.bytes_max.unwrap_or(u64::MAX))
    }

    fn is_too_long(&self) -> bool {
        self.conf.overflow == Overflow::DropHead
            && (self.ready().count() as u64 > self.conf.length_max.unwrap_or(u64::MAX)
                || self.bytes() > self.conf.bytes_max.unwrap_or(u64::MAX))
    }

    pub(super) fn push(&mut self, mut message: Message) {
        message.priority = message.given_priority.min(self.conf.priority_max);
        self.messages.push(message);
        self.messages.sort_by_key(|m| (Reverse(m.priority), m.order));
    }

    fn take_head_if(&mut self, wanted: impl Fn(&Conf, &Message) -> bool) -> Option<Message> {
        let at = self.messages.iter().position(|m| !m.out)?;
        wanted(&self.conf, &self.messages[at]).then(|| self.messages.remove(at))
    }
}

impl Naive {
    pub(super) fn next_order(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    /// Whether the queue takes it.
    pub(super) fn publish(&mut self, queue: &'static str, mut message: Message) -> bool {
        message.order = self.next_order();
        let target = self.queues.get_mut(queue).expect("the queue exists");
        if target.refuses(message.size) {
            if target.conf.overflow == Overflow::RejectPublishDlx {
                self.letters.push_back((queue, "maxlen", message));
            }
            return false;
        }
        target.push(message);
        true
    }

    /// Takes the next message of a queue; a lease keeps it.
    pub(super) fn take(&mut self, queue: &'static str, lease: bool) -> Option<Message> {
        let queue = self.queues.get_mut(queue)?;
        let at = queue.messages.iter().position(|m| !m.out)?;
        let seen = queue.messages[at].clone();
        match lease {
            false => drop(queue.messages.remove(at)),
            true => {
                let message = &mut queue.messages[at];
                message.attempts += 1;
                message.delivered = true;
                message.out = true;
            }
        }
        Some(seen)
    }

    pub(super) fn settle(&mut self, queue: &'static str, no: No, how: Settle) {
        let target = self.queues.get_mut(queue).expect("the queue exists");
        let at = target.messages.iter().position(|m| m.no == no && m.out);
        let at = at.expect("it is out");
        let worn_out = target.conf.limit.is_some_and(|limit| target.messages[at].attempts > limit);
        match how {
            Settle::Ack => drop(target.messages.remove(at)),
            Settle::Drop => self.letters.push_back((queue, "rejected", target.messages.remove(at))),
            Settle::Requeue if worn_out => {
                self.worn_out += 1;
                self.letters.push_back((queue, "delivery_limit", target.messages.remove(at)));
            }
            Settle::Requeue => target.messages[at].out = false,
        }
    }

    pub(super) fn purge(&mut self, queue: &'static str) -> u64 {
        let queue = self.queues.get_mut(queue).expect("the queue exists");
        let before = queue.messages.len();
        queue.messages.retain(|m| m.out);
        (before - queue.messages.len()) as u64
    }

    /// Lets everything happen that follows.
    pub(super) fn come_to_rest(&mut self) {
        loop {
            let names: Vec<_> = self.queues.keys().copied().collect();
            names.into_iter().for_each(|name| self.tidy(name));
            if self.letters.is_empty() {
                return;
            }
            for letter in std::mem::take(&mut self.letters) {
                self.send(letter);
            }
        }
    }

    fn tidy(&mut self, name: &'static str) {
        let queue = self.queues.get_mut(name).expect("the queue exists");
        let now_ms = self.now_ms;
        let over = |conf: &Conf, m: &Message| {
            let ttl_ms = conf.ttl_ms.into_iter().chain(m.expiration_ms).min();
            ttl_ms.is_some_and(|ttl_ms| m.received_ms + ttl_ms <= now_ms)
        };
        loop {
            while let Some(message) = queue.take_head_if(over) {
                self.expired += 1;
                self.letters.push_back((name, "expired", message));
            }
            if !queue.is_too_long() {
                return;
            }
            while queue.is_too_long()
                && let Some(message) = queue.take_head_if(|_, _| true)
            {
                self.dropped += 1;
                self.letters.push_back((name, "maxlen", message));
            }
        }
    }

    fn send(&mut self, (from, reason, mut message): (&'static str, &'static str, Message)) {
        let Some(to) = self.queues[from].conf.to else { return };
        let known = message.deaths.iter().position(|(queue, why, _)| queue == from && *why == reason);
        let count = known.map_or(0, |at| message.deaths.remove(at).2);
        message.deaths.insert(0, (from.to_string(), reason, count + 1));
        let circle = message.deaths.iter().position(|(queue, ..)| queue == to);
        let by_itself = circle.is_some_and(|at| message.deaths[..=at].iter().all(|d| d.1 != "rejected"));
        if reason != "rejected" && by_itself {
            self.circles += 1;
            return;
        }
        message.order = self.next_order();
        (message.received_ms, message.expiration_ms) = (self.now_ms, None);
        (message.attempts, message.delivered, message.out) = (0, false, false);
        if let Some(target) = self.queues.get_mut(to) {
            target.push(message);
            self.moved += 1;
        }
    }
}
