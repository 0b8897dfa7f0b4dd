//! The budget of bodies in memory (P7), the handle through which a queue holds one, and where messages go that are in
//! no log and find no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::ids::{QueueId, Seq};
use crate::message::{MESSAGE_OVERHEAD_BYTES, Message};

/// Counts what all queues together hold in memory.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: u64,
    used: u64,
    /// Messages to be spilled with the places that are to be, and places that are spilled in vain from here on. Handed
    /// to the shell at the end of the turn.
    spills: Vec<Spill>,
    released: Vec<(QueueId, Seq, Seq)>,
}

/// Where the message of a place is, beside memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nowhere: its body stays in memory.
    Nowhere,
    /// On its way to a volatile segment: its body stays in memory until the store says that it is there.
    Spilling,
    /// In a volatile segment, until the place is released.
    Spilled,
    /// In the log, until it is acked.
    Log,
}

/// A message to be spilled, once whatever the number of places.
#[derive(Debug)]
pub(crate) struct Spill {
    pub(crate) places: Vec<(QueueId, Seq)>,
    pub(crate) message: Arc<Message>,
}

/// One place's hold on a message in memory. It is charged to a [`Budget`] and has to go back to it through
/// [`Budget::release`].
#[derive(Debug)]
pub(crate) struct Body {
    message: Arc<Message>,
    /// How many places hold the same message; None when only one ever can.
    holders: Option<Arc<AtomicU32>>,
    pub(crate) kept: Kept,
}

/// A message before any place holds it.
#[derive(Debug)]
pub(crate) struct Fresh {
    message: Arc<Message>,
    holders: Option<Arc<AtomicU32>>,
}

impl Fresh {
    /// A message that up to `places` places will hold.
    pub(crate) fn new(message: Arc<Message>, places: usize) -> Self {
        let holders = (places > 1).then(|| Arc::new(AtomicU32::new(0)));
        Self { message, holders }
    }

    pub(crate) fn message(&self) -> &Arc<Message> {
        &self.message
    }

    pub(crate) fn into_message(self) -> Arc<Message> {
        self.message
    }
}

impl Body {
    pub(crate) fn message(&self) -> &Arc<Message> {
        &self.message
    }

    pub(crate) fn cost_bytes(&self) -> u64 {
        self.message.cost_bytes()
    }

    fn shared_bytes(&self) -> u64 {
        self.message.cost_bytes() - MESSAGE_OVERHEAD_BYTES
    }
}

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, used: 0, spills: Vec::new(), released: Vec::new() }
    }

    /// Takes hold of a message for one place. Its bytes are charged once, whatever the number of places; the overhead
    /// for each.
    pub(crate) fn hold(&mut self, fresh: &Fresh, kept: Kept) -> Body {
        let body = Body { message: fresh.message.clone(), holders: fresh.holders.clone(), kept };
        let first = body.holders.as_ref().is_none_or(|h| h.fetch_add(1, Ordering::Relaxed) == 0);
        self.used += MESSAGE_OVERHEAD_BYTES + if first { body.shared_bytes() } else { 0 };
        body
    }

    /// Gives a hold back.
    pub(crate) fn release(&mut self, body: Body) {
        let last = body.holders.as_ref().is_none_or(|h| h.fetch_sub(1, Ordering::Relaxed) == 1);
        self.used -= MESSAGE_OVERHEAD_BYTES + if last { body.shared_bytes() } else { 0 };
    }

    /// Counts bytes that are in memory outside of any place.
    pub(crate) fn charge(&mut self, bytes: u64) {
        self.used += bytes;
    }

    /// Gives charged bytes back.
    pub(crate) fn discharge(&mut self, bytes: u64) {
        self.used -= bytes;
    }

    /// Asks for a message to be spilled on behalf of a place.
    pub(crate) fn spill(&mut self, queue: QueueId, seq: Seq, message: &Arc<Message>) {
        match self.spills.last_mut() {
            Some(last) if Arc::ptr_eq(&last.message, message) => last.places.push((queue, seq)),
            _ => self.spills.push(Spill { places: vec![(queue, seq)], message: message.clone() }),
        }
    }

    /// Spilled places of an inclusive range, or such that are being spilled, are not wanted any more.
    pub(crate) fn unspill(&mut self, queue: QueueId, first: Seq, last: Seq) {
        match self.released.last_mut() {
            Some((same, _, end)) if *same == queue && end.0.checked_add(1) == Some(first.0) => *end = last,
            _ => self.released.push((queue, first, last)),
        }
    }

    /// A place is not wanted any more: what of it is spilled goes.
    pub(crate) fn leave(&mut self, queue: QueueId, seq: Seq, kept: Kept) {
        if matches!(kept, Kept::Spilling | Kept::Spilled) {
            self.unspill(queue, seq, seq);
        }
    }

    /// Takes what is to be spilled.
    pub(crate) fn take_spills(&mut self) -> Vec<Spill> {
        std::mem::take(&mut self.spills)
    }

    /// Takes the places that are released.
    pub(crate) fn take_released(&mut self) -> Vec<(QueueId, Seq, Seq)> {
        std::mem::take(&mut self.released)
    }

    /// Bytes held now.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes left for what a consumer asks to be read back.
    pub(crate) fn room(&self) -> u64 {
        self.bytes_max.saturating_sub(self.used)
    }

    /// Whether a message that nobody waits for may stay. The last quarter is kept for reading back, or one queue
    /// without consumers would leave the others no window to read through.
    pub(crate) fn has_room_to_stay(&self) -> bool {
        self.used < self.bytes_max - self.bytes_max / 4
    }
}
