//! How long a queue may get, in ready messages and in bytes of their bodies.

use super::level::{Level, Next};
use super::{Queue, ranges::Ranges};
use crate::arguments::Overflow;
use crate::budget::Budget;
use crate::ids::{QueueId, Seq};
use crate::message::Message;

/// Bytes of the ready bodies of a level.
///
/// After a start only the store knows how large the messages are that it kept. They are read through once and counted;
/// the limit bounds what there is to read. Until then, what was not counted yet counts as nothing: the limit holds
/// for the rest.
#[derive(Debug)]
pub(super) struct ReadyBytes {
    bytes: u64,
    /// Places in `[counted_to, count_end)` are not counted yet.
    counted_to: u64,
    count_end: u64,
}

impl ReadyBytes {
    /// Of a level with places from before this epoch in `[head, next)`.
    pub(super) fn new(head: u64, next: u64) -> Self {
        Self { bytes: 0, counted_to: head, count_end: next }
    }

    fn counts(&self, seq: u64) -> bool {
        seq < self.counted_to || seq >= self.count_end
    }
}

impl Level {
    /// A message becomes ready.
    pub(super) fn count_bytes_in(&mut self, seq: u64, size: u32) {
        if let Some(ready) = &mut self.ready_bytes
            && ready.counts(seq)
        {
            ready.bytes += u64::from(size);
        }
    }

    /// A message is not ready any more.
    pub(super) fn count_bytes_out(&mut self, seq: u64, size: u32) {
        let empty = self.ready() == 0;
        if let Some(ready) = &mut self.ready_bytes
            && ready.counts(seq)
        {
            // Places that could not be read went without their size being known.
            ready.bytes = if empty { 0 } else { ready.bytes.saturating_sub(u64::from(size)) };
        }
    }

    /// All ready messages are gone.
    pub(super) fn count_bytes_none(&mut self) {
        let next = self.next;
        if let Some(ready) = &mut self.ready_bytes {
            **ready = ReadyBytes::new(next, next);
        }
    }

    /// The places that are still to be counted, if any.
    pub(super) fn uncounted(&self) -> Option<(u64, u64)> {
        let ready = self.ready_bytes.as_ref()?;
        (ready.counted_to < ready.count_end).then_some((ready.counted_to, ready.count_end))
    }

    /// Counts the places up to `upto`, of which these were found, with the lengths of their bodies.
    pub(super) fn count_bytes(&mut self, upto: u64, found: &[(u64, u32)]) {
        let ready = |seq: u64| self.is_ready(seq);
        let sum: u64 = found.iter().filter(|(seq, _)| ready(*seq)).map(|(_, size)| u64::from(*size)).sum();
        if let Some(ready) = &mut self.ready_bytes {
            ready.bytes += sum;
            ready.counted_to = ready.counted_to.max(upto);
        }
    }

    /// Whether a live place of an older epoch is ready.
    fn is_ready(&self, seq: u64) -> bool {
        let in_tail = |dead: &Ranges| seq >= self.loaded_to && !dead.contains(seq);
        self.returned.contains_key(&seq)
            || in_tail(&self.earlier.dead)
            || self.loaded.binary_search_by_key(&seq, |(place, _)| *place).is_ok()
    }
}

impl Queue {
    /// It holds more than it may, and its oldest messages give way.
    pub(crate) fn is_over_limit(&self) -> bool {
        if self.known.overflow != Overflow::DropHead {
            return false;
        }
        self.ready_bytes() > self.known.bytes_max.unwrap_or(u64::MAX)
            || self.messages_ready() > self.known.length_max.unwrap_or(u64::MAX)
    }

    /// It refuses a message rather than let its oldest ones go.
    pub(crate) fn refuses(&self, message: &Message) -> bool {
        self.refuses_after(message.body.len() as u64, (0, 0))
    }

    /// It would refuse a message with a body of that size after it took so many more messages and bytes.
    pub(crate) fn refuses_after(&self, size: u64, (messages, bytes): (u64, u64)) -> bool {
        if self.known.overflow == Overflow::DropHead {
            return false;
        }
        let bytes = self.ready_bytes() + bytes + size;
        self.messages_ready() + messages >= self.known.length_max.unwrap_or(u64::MAX)
            || bytes > self.known.bytes_max.unwrap_or(u64::MAX)
    }

    /// Whether the next message can go without being looked at: only its number counts.
    pub(crate) fn drops_unread(&self) -> bool {
        self.known.bytes_max.is_none() && self.known.dead_letter.is_none()
    }

    /// Removes the next message although it is not in memory. The caller acks it if it is true that it has to.
    pub(crate) fn drop_unread(&mut self, budget: &mut Budget) -> Option<(QueueId, Seq, bool)> {
        let level = self.head_level()?;
        let (seq, logged) = level.drop_unread(budget)?;
        Some((level.id, seq, logged))
    }

    fn ready_bytes(&self) -> u64 {
        self.levels.iter().filter_map(|level| level.ready_bytes.as_ref()).map(|ready| ready.bytes).sum()
    }

    /// Where the next ready message is.
    pub(crate) fn next_ready(&mut self) -> Next {
        self.head_level().map_or(Next::Nothing, Level::next_ready)
    }
}
