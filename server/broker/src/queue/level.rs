//! One level of a queue: its messages of one priority, in publish order. Most queues have a single one.
//!
//! ```text
//!  1 ........ cursor ............ loaded_to .................. next
//!    gone,    |  loaded: ready,   |  tail: ready, only counted; |  free places
//!    out or   |  in memory        |  stored ones are fetched,   |
//!    returned |                   |  some are `resident`        |
//! ```
//!
//! `returned` are messages below the cursor that were given back; they are served first, in order, which is their old
//! place (P4). A level thus holds runs and not messages: a cold backlog costs nothing here (P7). The store alone knows
//! for good which places are dead; the core knows those of its own epoch, since what was never out is not dead, and is
//! told the older ones at the start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::aside::Aside;
use super::lengths::ReadyBytes;
use super::ranges::Earlier;
use super::window::Fetching;
use crate::budget::{Body, Budget, Fresh, Kept};
use crate::ids::{ChanId, QueueId, Seq};
use crate::message::Message;
use crate::recovered::RecoveredQueue;
use crate::seldom::Seldom;
use crate::track::Track;

/// See the module.
#[derive(Debug)]
pub(crate) struct Level {
    /// Its number in the store, and in ack ids.
    pub(super) id: QueueId,
    pub(super) priority: u8,
    pub(super) keeps: Keeps,
    pub(super) next: u64,
    pub(super) next_at_open: u64,
    /// The last place that is in the log, or was before a purge.
    pub(super) last_stored: u64,
    pub(super) loaded: VecDeque<(u64, Body)>,
    pub(super) loaded_to: u64,
    /// Ready places in `[loaded_to, next)`.
    pub(super) tail: u64,
    /// Those of the tail that are in memory: transient messages, until they are spilled where there is no room, and
    /// stored ones that came while a read that nearly catches up was under way.
    pub(super) resident: BTreeMap<u64, Body>,
    /// Behind the last place of the tail that is not resident.
    pub(super) absent_to: u64,
    /// Places of it were spilled, or are.
    pub(super) spills: bool,
    pub(super) returned: BTreeMap<u64, Returned>,
    pub(super) out: Track<Out>,
    /// What few queues have.
    pub(super) aside: Seldom<Aside>,
    pub(super) generation: u64,
    pub(super) fetching: Option<Fetching>,
    /// What single places of before this epoch were.
    pub(super) earlier: Seldom<Earlier>,
    pub(super) redelivered_below: u64,
    pub(super) memory_bytes: u64,
    /// Where a limit asks for them.
    pub(super) ready_bytes: Option<Box<ReadyBytes>>,
}

/// Which messages a queue keeps in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// None: it does not survive a restart itself.
    Nothing,
    /// Those that ask for it.
    Persistent,
    /// All.
    Everything,
}

/// A message that was out and is ready again.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) attempt: u32,
    /// None: to be fetched.
    pub(super) body: Option<Body>,
    pub(super) kept: Kept,
    /// Length of its body.
    pub(super) size: u32,
}

/// A message that is out.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) attempt: u32,
    pub(crate) holder: Holder,
    /// Where it is beside memory, so who hears of its end.
    pub(crate) kept: Kept,
    /// Length of its body.
    pub(super) size: u32,
    /// Kept for a requeue as long as the budget has room; always when it is nowhere else.
    pub(super) body: Option<Body>,
}

/// Who has a message that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A channel, under this delivery tag.
    Channel(ChanId, u64),
    /// A lease, until this time on the lease clock.
    Lease(u64),
}

/// A ready message taken from the queue, on its way out.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Its level's number.
    pub(crate) queue: QueueId,
    pub(crate) seq: Seq,
    pub(crate) attempt: u32,
    pub(crate) redelivered: bool,
    pub(crate) kept: Kept,
    pub(super) body: Body,
}

impl Taken {
    pub(crate) fn message(&self) -> &Arc<Message> {
        self.body.message()
    }
}

/// Where the next ready message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    InMemory,
    InStore,
    Nothing,
}

impl Keeps {
    pub(crate) fn keeps(self, message: &Message) -> bool {
        match self {
            Self::Nothing => false,
            Self::Persistent => message.persistent,
            Self::Everything => true,
        }
    }
}

impl Level {
    /// An empty level.
    pub(super) fn new(id: QueueId, priority: u8, keeps: Keeps, counts_bytes: bool) -> Self {
        let first = Seq(1);
        let found = RecoveredQueue { queue: id, next: first, head: first, ..RecoveredQueue::default() };
        Self::recover(priority, keeps, counts_bytes, found)
    }

    /// A level as the store found it.
    pub(super) fn recover(priority: u8, keeps: Keeps, counts_bytes: bool, found: RecoveredQueue) -> Self {
        let next = found.next.0.max(1);
        let head = found.head.0.clamp(1, next);
        let earlier = Earlier::new(&found.dead, &found.redelivered);
        Self {
            id: found.queue,
            priority,
            keeps,
            next,
            next_at_open: next,
            last_stored: next - 1,
            loaded: VecDeque::new(),
            loaded_to: head,
            tail: next - head - earlier.dead.count(head, next),
            resident: BTreeMap::new(),
            absent_to: next,
            spills: false,
            returned: BTreeMap::new(),
            out: Track::default(),
            aside: Seldom::default(),
            generation: 0,
            fetching: None,
            earlier: Seldom::new(earlier),
            redelivered_below: found.redelivered_below.0,
            memory_bytes: 0,
            ready_bytes: counts_bytes.then(|| Box::new(ReadyBytes::new(head, next))),
        }
    }

    pub(super) fn ready(&self) -> u64 {
        self.loaded.len() as u64 + self.tail + self.returned.len() as u64
    }

    /// Adds a message at the end. `first`: somebody takes it at once if nothing is before it, so it is held in memory
    /// even if the budget is full. Others that find no room are left to the log, or spilled.
    pub(super) fn push(&mut self, fresh: &Fresh, first: bool, budget: &mut Budget) -> Seq {
        let seq = self.next;
        if self.tail == 0 {
            self.loaded_to = seq;
        }
        self.next += 1;
        self.count_bytes_in(seq, body_len(fresh.message()));
        let stored = self.keeps.keeps(fresh.message());
        if stored {
            self.last_stored = seq;
        }
        let has_room = budget.has_room_to_stay();
        if self.loaded_to == seq {
            // A ready consumer may always have one message, or a full budget would stop all queues.
            let first = first && self.loaded.is_empty() && self.returned.is_empty();
            if has_room || first {
                let body = self.hold(fresh, if stored { Kept::Log } else { Kept::Nowhere }, budget);
                self.loaded.push_back((seq, body));
                self.loaded_to = self.next;
                return Seq(seq);
            }
        }
        self.tail += 1;
        let kept = match (stored, has_room) {
            (true, true) if self.nearly_caught_up() => Kept::Log,
            (true, _) => {
                self.absent_to = self.next;
                return Seq(seq);
            }
            (false, true) => Kept::Nowhere,
            (false, false) => {
                self.spills = true;
                budget.spill(self.id, Seq(seq), fresh.message());
                Kept::Spilling
            }
        };
        let body = self.hold(fresh, kept, budget);
        self.resident.insert(seq, body);
        Seq(seq)
    }

    /// Where the next ready message is.
    pub(super) fn next_ready(&mut self) -> Next {
        if let Some((_, first)) = self.returned.first_key_value() {
            return if first.body.is_some() { Next::InMemory } else { Next::InStore };
        }
        if self.loaded.is_empty() {
            self.promote_residents(1);
        }
        match (self.loaded.is_empty(), self.tail) {
            (false, _) => Next::InMemory,
            (true, 0) => Next::Nothing,
            (true, _) => Next::InStore,
        }
    }

    /// The next ready message, if it is in memory.
    pub(super) fn peek(&mut self) -> Option<&Arc<Message>> {
        if self.next_ready() != Next::InMemory {
            return None;
        }
        let body = match self.returned.first_key_value() {
            Some((_, returned)) => returned.body.as_ref(),
            None => self.loaded.front().map(|(_, body)| body),
        };
        body.map(Body::message)
    }

    /// How many of the next ready messages are in memory, counted up to `most`.
    pub(super) fn in_memory(&mut self, most: usize) -> usize {
        let returned = self.returned.values().take(most).take_while(|r| r.body.is_some()).count();
        if returned == most || returned < self.returned.len() {
            return returned;
        }
        self.promote_residents(most);
        most.min(returned + self.loaded.len())
    }

    /// Takes the next ready message, if it is in memory.
    pub(super) fn take(&mut self) -> Option<Taken> {
        if self.next_ready() != Next::InMemory {
            return None;
        }
        let queue = self.id;
        if let Some((seq, returned)) = self.returned.pop_first() {
            let body = returned.body?;
            self.count_bytes_out(seq, returned.size);
            let attempt = returned.attempt + 1;
            return Some(Taken {
                queue,
                seq: Seq(seq),
                attempt,
                redelivered: true,
                kept: returned.kept,
                body,
            });
        }
        let (seq, body) = self.loaded.pop_front()?;
        self.count_bytes_out(seq, body_len(body.message()));
        let redelivered = self.was_delivered_before(seq);
        Some(Taken { queue, seq: Seq(seq), attempt: 1, redelivered, kept: body.kept, body })
    }

    /// Removes the next ready message although it is not in memory. The caller acks it if it is told to; where a spilled
    /// one may stand, that goes as well.
    pub(super) fn drop_unread(&mut self, budget: &mut Budget) -> Option<(Seq, bool)> {
        if self.next_ready() != Next::InStore {
            return None;
        }
        if let Some((seq, returned)) = self.returned.pop_first() {
            self.is_bodiless_no_more(seq);
            budget.leave(self.id, Seq(seq), returned.kept);
            return Some((Seq(seq), returned.kept == Kept::Log));
        }
        // No resident can be the first of the tail here, so the first live place is in the log or spilled.
        let seq = self.earlier.dead.first_outside(self.loaded_to);
        self.loaded_to = seq + 1;
        self.tail -= 1;
        self.forget_dead_below(self.loaded_to);
        if self.spills {
            budget.unspill(self.id, Seq(seq), Seq(seq));
        }
        // An ack of a transient place among logged ones repeats what the store knows.
        Some((Seq(seq), seq <= self.last_stored))
    }

    /// The taken message is now out.
    pub(super) fn put_out(&mut self, taken: Taken, holder: Holder, budget: &mut Budget) {
        let size = body_len(taken.message());
        let (body, kept) = self.keep_body(taken.seq.0, taken.body, taken.kept, budget);
        self.out.insert(taken.seq.0, Out { attempt: taken.attempt, holder, kept, size, body });
    }

    /// A message that is out is gone for good. Says what it was, if it was out.
    pub(super) fn settle(&mut self, seq: Seq, budget: &mut Budget) -> Option<Out> {
        let mut out = self.out.remove(seq.0)?;
        if let Some(body) = out.body.take() {
            self.drop_body(body, budget);
        }
        Some(out)
    }

    /// A message that is out goes back to its old place. Says what it was, if it was out.
    pub(super) fn requeue(&mut self, seq: Seq, budget: &mut Budget) -> Option<Out> {
        let mut out = self.out.remove(seq.0)?;
        let (body, kept) = match out.body.take() {
            Some(body) => self.keep_body(seq.0, body, out.kept, budget),
            None => (None, out.kept),
        };
        if body.is_none() {
            self.aside.make().bodiless.insert(seq.0);
        }
        let (attempt, size) = (out.attempt, out.size);
        self.returned.insert(seq.0, Returned { attempt, body, kept, size });
        self.count_bytes_in(seq.0, size);
        Some(out)
    }

    pub(super) fn was_delivered_before(&self, seq: u64) -> bool {
        seq < self.next_at_open && (seq < self.redelivered_below || self.earlier.redelivered.contains(seq))
    }

    /// A returned message has its body again, or goes without; whether it had none.
    pub(super) fn is_bodiless_no_more(&mut self, seq: u64) -> bool {
        self.aside.there().is_some_and(|aside| aside.bodiless.remove(&seq))
    }

    /// The tail does not reach over dead places below that one any more.
    pub(super) fn forget_dead_below(&mut self, seq: u64) {
        if let Some(earlier) = self.earlier.there() {
            earlier.dead.drop_below(seq);
        }
    }

    pub(super) fn hold(&mut self, fresh: &Fresh, kept: Kept, budget: &mut Budget) -> Body {
        let body = budget.hold(fresh, kept);
        self.memory_bytes += body.cost_bytes();
        body
    }

    pub(super) fn drop_body(&mut self, body: Body, budget: &mut Budget) {
        self.memory_bytes -= body.cost_bytes();
        budget.release(body);
    }

    /// Keeps a body that may be needed again, unless the budget is short and it is kept elsewhere; if it is not, it is
    /// to be.
    fn keep_body(&mut self, seq: u64, body: Body, kept: Kept, budget: &mut Budget) -> (Option<Body>, Kept) {
        if budget.has_room_to_stay() {
            return (Some(body), kept);
        }
        match kept {
            Kept::Log | Kept::Spilled => {
                self.drop_body(body, budget);
                (None, kept)
            }
            Kept::Spilling => (Some(body), kept),
            Kept::Nowhere => {
                self.spills = true;
                budget.spill(self.id, Seq(seq), body.message());
                (Some(body), Kept::Spilling)
            }
        }
    }
}

/// Bodies are far below 4 GiB: the largest message is a setting that is checked.
pub(super) fn body_len(message: &Message) -> u32 {
    u32::try_from(message.body.len()).unwrap_or(u32::MAX)
}
