//! Messages that are in no log and were spilled to volatile segments: from then on memory may let them go.

use super::Queue;
use super::level::Level;
use crate::budget::{Budget, Kept};
use crate::ids::{QueueId, Seq};

impl Queue {
    /// A place's message is in a volatile segment now. False where nobody wants it there.
    pub(crate) fn spilled(&mut self, id: QueueId, seq: Seq, budget: &mut Budget) -> bool {
        self.level_mut(id).is_some_and(|level| level.spilled(seq.0, budget))
    }
}

impl Level {
    fn spilled(&mut self, seq: u64, budget: &mut Budget) -> bool {
        // A read that is under way may have passed the place before it could be found there: it counts up to here.
        if let Some(plan) = &mut self.fetching {
            plan.end_before(seq);
        }
        let has_room = budget.has_room_to_stay();
        if let Some(body) = self.resident.get_mut(&seq) {
            body.kept = Kept::Spilled;
            if !has_room && let Some(body) = self.resident.remove(&seq) {
                self.drop_body(body, budget);
                self.absent_to = self.absent_to.max(seq + 1);
            }
            return true;
        }
        if let Some(out) = self.out.get_mut(seq) {
            out.kept = Kept::Spilled;
            // Wanted back for a dead letter that a transaction is to send, it stays.
            if !has_room
                && !self.aside.recalled.contains(&seq)
                && let Some(body) = out.body.take()
            {
                self.drop_body(body, budget);
            }
            return true;
        }
        if let Some(returned) = self.returned.get_mut(&seq) {
            returned.kept = Kept::Spilled;
            if !has_room && let Some(body) = returned.body.take() {
                self.drop_body(body, budget);
                self.aside.make().bodiless.insert(seq);
            }
            return true;
        }
        let Ok(at) = self.loaded.binary_search_by_key(&seq, |(place, _)| *place) else { return false };
        self.loaded[at].1.kept = Kept::Spilled;
        self.shorten_window(budget);
        true
    }

    /// Lets the end of the window go, as far as it is spilled and memory is short.
    fn shorten_window(&mut self, budget: &mut Budget) {
        // What is being read continues the window as it is now. And only places that follow each other: those between
        // may be lost, and are not to be waited for again.
        while self.fetching.is_none()
            && !budget.has_room_to_stay()
            && let Some((seq, body)) = self.loaded.pop_back()
        {
            if body.kept != Kept::Spilled || seq + 1 != self.loaded_to {
                self.loaded.push_back((seq, body));
                return;
            }
            self.drop_body(body, budget);
            self.loaded_to = seq;
            self.tail += 1;
            self.absent_to = self.absent_to.max(seq + 1);
        }
    }
}
