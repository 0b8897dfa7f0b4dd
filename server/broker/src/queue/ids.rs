//! What an ack id of this queue means now (E9).

use super::Queue;
use super::level::{Holder, Level, Out};
use crate::ids::{AckId, Epoch};

/// Where the delivery stands that an ack id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Out under just this id.
    Out,
    /// The message is gone, for whatever reason: settling it again is fine.
    Gone,
    /// The message lives and this id does not name a delivery of it that is out.
    Stale,
}

impl Queue {
    /// Judges an id of this queue.
    pub(crate) fn standing(&self, id: AckId, epoch: Epoch) -> Standing {
        self.level(id.queue).map_or(Standing::Gone, |level| level.standing(id, epoch))
    }

    /// Who has the delivery that an id names, while it is out.
    pub(crate) fn holder(&self, id: AckId, epoch: Epoch) -> Option<Holder> {
        let level = self.level(id.queue)?;
        let is_out = level.standing(id, epoch) == Standing::Out;
        level.out.get(id.seq.0).filter(|_| is_out).map(|out| out.holder)
    }
}

impl Level {
    fn standing(&self, id: AckId, epoch: Epoch) -> Standing {
        let seq = id.seq.0;
        if id.epoch > epoch || seq == 0 {
            return Standing::Stale;
        }
        let old = id.epoch < epoch;
        if old && seq >= self.next_at_open {
            // It never became durable, so it ended with its epoch; a message of ours may have its place by now.
            return Standing::Gone;
        }
        match self.out.get(seq) {
            Some(Out { attempt, .. }) if !old && *attempt == id.attempt => return Standing::Out,
            Some(_) => return Standing::Stale,
            // A letter that waits to move may yet come back: it is not gone before its move is in the log.
            None if self.returned.contains_key(&seq) || self.is_letter(seq) => return Standing::Stale,
            None => {}
        }
        // A dying one too: it was settled.
        let cursor = self.loaded.front().map_or(self.loaded_to, |(first, _)| *first);
        if seq < cursor {
            return Standing::Gone;
        }
        // Ready and never delivered in this epoch, or dead since before it.
        let live = if seq < self.loaded_to {
            self.loaded.binary_search_by_key(&seq, |(place, _)| *place).is_ok()
        } else {
            !self.earlier.dead.contains(seq)
        };
        if old && !live { Standing::Gone } else { Standing::Stale }
    }
}
