//! Transient messages that find no room in memory: to volatile segments, and forgotten there.

use super::Broker;
use crate::effect::{Effect, Put};
use crate::ids::{QueueId, Seq};

impl Broker {
    /// Hands on what is to be spilled since the last turn, and what is not wanted there any more.
    pub(super) fn hand_spills_on(&mut self, out: &mut Vec<Effect>) {
        for spill in self.budget.take_spills() {
            out.push(Effect::Spill(Put { targets: spill.places.into(), message: spill.message }));
        }
        let places = self.budget.take_released();
        if !places.is_empty() {
            out.push(Effect::Release { places });
        }
    }

    /// These are in volatile segments now: memory lets go what nobody waits for.
    pub(super) fn spilled(&mut self, places: &[(QueueId, Seq)]) {
        for &(level, seq) in places {
            let id = self.owner(level);
            let wanted =
                self.queues.get_mut(&id).is_some_and(|queue| queue.spilled(level, seq, &mut self.budget));
            if wanted {
                self.mark_dirty(id);
            } else {
                // It went while it was written.
                self.budget.unspill(level, seq, seq);
            }
        }
    }
}
