//! What the checker remembers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::moves::{Group, Left, Rule};
use crate::history::{BatchRef, BindingName, ConsumerRef, Keep, QueueRef, Share};
use crate::payload::MsgId;

/// Judges events one by one. Memory goes with what was published since the queues were last drained.
#[derive(Debug, Default, Clone)]
pub struct Checker {
    pub(super) run: u32,
    pub(super) messages: HashMap<MsgId, Sent>,
    /// Per publisher: everything up to this number was drained and acked.
    pub(super) drained_upto: HashMap<u32, u64>,
    pub(super) newest: HashMap<u32, u64>,
    pub(super) queues: BTreeMap<QueueRef, Queue>,
    /// Moves by what they share their fate with.
    pub(super) groups: BTreeMap<BatchRef, Group>,
    pub(super) bindings: BTreeMap<BindingName, Existence>,
    pub(super) consumers: HashMap<ConsumerRef, Consumer>,
    pub(super) in_flight: u64,
    /// Events so far.
    pub(super) clock: u64,
    pub(super) counts: Counts,
}

/// What a checker has seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Confirms.
    pub confirmed: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Deliveries flagged as redelivered.
    pub redelivered: u64,
    /// Messages of an earlier run that came after a crash, once per queue.
    pub recovered: u64,
    /// Those among them that were never confirmed.
    pub uncertain_found: u64,
    /// Confirmed acks.
    pub acked: u64,
    /// Confirmed requeues.
    pub returned: u64,
    /// Confirmed purges.
    pub purges: u64,
    /// Confirmed deletes of queues.
    pub deletes: u64,
    /// Confirmed moves of messages.
    pub moved: u64,
    /// Moves and acks of groups that were under way at a crash...
    pub moves_at_crash: u64,
    /// ...those of them that turned out to be carried out...
    pub moves_kept: u64,
    /// ...and those that turned out not to be.
    pub moves_undone: u64,
    /// Messages that went on by a rule of their queue.
    pub moved_by_rule: u64,
    /// Deliveries that came before a message of a lower priority which had stood there longer.
    pub overtakes: u64,
    /// Confirmed requeues of messages that had come back as often as their queue allows.
    pub worn_out: u64,
    /// Transient messages that a queue of type quorum kept over a crash.
    pub transient_found: u64,
    /// Crashes with a publish in flight.
    pub crashes_in_flight: u64,
    /// Crashes.
    pub crashes: u64,
}

/// A message as it was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) length: u32,
    pub(super) keep: Keep,
    pub(super) priority: u8,
    /// By the checker's clock.
    pub(super) confirmed_at: Option<u64>,
    pub(super) run: u32,
    pub(super) batch: BatchRef,
    pub(super) queues: Arc<[QueueRef]>,
    /// When, by the checker's clock.
    pub(super) at: u64,
}

/// How sure it is that a queue or a binding exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existence {
    /// Asked for, not answered.
    MaybeMade,
    /// Answered.
    Made,
    /// Its removal was asked for, not answered.
    MaybeGone,
    /// Its removal was answered.
    Gone,
}

/// One life of a queue name.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) existence: Existence,
    pub(super) purging: bool,
    /// Something was ever sent to it.
    pub(super) used: bool,
    /// The highest priority that it tells from others.
    pub(super) priority_max: u8,
    /// It keeps transient messages, too.
    pub(super) keeps_all: bool,
    /// How often its messages may come back.
    pub(super) limit: Option<Limit>,
    /// Who began to take from it in this run.
    pub(super) takers: u32,
    /// Where its messages may go on to by themselves.
    pub(super) rule: Option<Arc<[QueueRef]>>,
    pub(super) places: BTreeMap<MsgId, Place>,
}

/// How often messages of a queue may come back in one run of the server.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) most: u32,
    /// Where they go then. Nowhere: they are dropped.
    pub(super) to: Arc<[QueueRef]>,
}

/// What happened to a message in one queue.
#[derive(Debug, Default, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state machine")]
pub(super) struct Place {
    /// It was published to the queue, not moved there.
    pub(super) published: bool,
    /// The newest move that may have brought it here.
    pub(super) came: Option<BatchRef>,
    /// The queue by whose rule it may have come here.
    pub(super) came_by_rule: Option<QueueRef>,
    /// The newest move that may have taken it away.
    pub(super) left: Option<Left>,
    /// The rule by which it may go away.
    pub(super) rule: Option<Rule>,
    pub(super) delivered: bool,
    /// Deliveries in this run.
    pub(super) handed_out: u32,
    /// With a consumer of this run.
    pub(super) out: bool,
    /// On its way back; it may still be out.
    pub(super) maybe_out: bool,
    /// Acks under way, refused ones taken off again.
    pub(super) acks_sent: u32,
    pub(super) acked: bool,
    /// Delivered in a later run than it was sent in.
    pub(super) found_after_crash: bool,
    pub(super) maybe_purged: bool,
    /// Certain to go with the purge that is under way.
    pub(super) purge_candidate: bool,
    pub(super) purged: bool,
}

/// What a consumer saw.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) queue: QueueRef,
    pub(super) share: Share,
    /// When it started, by the checker's clock.
    pub(super) since: u64,
    pub(super) out: BTreeSet<MsgId>,
    /// Per publisher and priority, the highest number it got.
    pub(super) highest: HashMap<(u32, u8), u64>,
    /// The same among first deliveries.
    pub(super) highest_fresh: HashMap<(u32, u8), u64>,
    /// May come again.
    pub(super) maybe_returned: BTreeSet<MsgId>,
    /// Requeues that are not confirmed. There may be several of one message: it can come again before the first
    /// confirmation does.
    pub(super) returns_under_way: HashMap<MsgId, u32>,
    /// Stand in their old place for certain, and did not come again yet.
    pub(super) returned: BTreeMap<MsgId, Return>,
    /// Deliveries to it.
    pub(super) deliveries: u64,
}

/// A confirmed return.
#[derive(Debug, Clone, Copy)]
pub(super) struct Return {
    /// When it was confirmed, by the checker's clock: what was sent later cannot have been under way.
    pub(super) at: u64,
    /// The consumer's deliveries up to here may have been under way.
    pub(super) deliveries_upto: u64,
}

impl Checker {
    /// A checker that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Publishes sent in this run and not confirmed yet.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

impl Queue {
    pub(super) fn new(name: String) -> Self {
        let existence = Existence::MaybeMade;
        Self {
            name,
            existence,
            purging: false,
            used: false,
            priority_max: 0,
            keeps_all: false,
            limit: None,
            takers: 0,
            rule: None,
            places: BTreeMap::new(),
        }
    }

    /// A delete was asked for or answered.
    pub(super) fn leaving(&self) -> bool {
        matches!(self.existence, Existence::MaybeGone | Existence::Gone)
    }
}

impl Place {
    /// Somebody removed it, or may have.
    pub(super) fn settled(&self) -> bool {
        self.acks_sent > 0 || self.acked || self.maybe_purged
    }
}

impl Consumer {
    pub(super) fn new(queue: QueueRef, share: Share, since: u64) -> Self {
        Self {
            queue,
            share,
            since,
            out: BTreeSet::new(),
            highest: HashMap::new(),
            highest_fresh: HashMap::new(),
            maybe_returned: BTreeSet::new(),
            returns_under_way: HashMap::new(),
            returned: BTreeMap::new(),
            deliveries: 0,
        }
    }
}
