//! What the core knows of a connection and of a channel: deliveries out, outcomes in order, credit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::access::Passes;
use crate::consumers::ConsumerId;
use crate::effect::Outcome;
use crate::ids::{ChanId, ConnId, QueueId, Seq};
use crate::input::{ConnectionInfo, Publish, Settle};
use crate::track::Track;
use crate::vhosts::{LastVhost, VhostId};

/// A connection or session.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) info: ConnectionInfo,
    /// None may do everything.
    pub(crate) user: Option<Arc<str>>,
    pub(crate) connected_at_ms: u64,
    pub(crate) channels: BTreeSet<ChanId>,
    pub(crate) exclusive_queues: BTreeSet<QueueId>,
}

/// A channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) conn: ConnId,
    /// Whose publishes they are. None may do everything.
    pub(crate) user: Option<Arc<str>>,
    /// The first refusal ends it.
    pub(crate) strict: bool,
    /// Bytes its writer is ready to take; one message may overdraw it.
    pub(crate) credit_bytes: i64,
    /// Shared prefetch; 0: none.
    pub(crate) prefetch_messages: u32,
    pub(crate) consumers: BTreeMap<Arc<str>, ConsumerId>,
    /// Consumers that wait for this channel's credit or prefetch, not for their own.
    pub(crate) parked: Vec<ConsumerId>,
    /// By delivery tag. One whose queue is gone stays until it is settled: its tag is still known.
    pub(crate) unacked: Track<Unacked>,
    last_delivery_tag: u64,
    pub(crate) confirms: Confirms,
    pub(crate) settlements: Settlements,
    /// What waits for a commit, on a transactional channel.
    pub(crate) tx: Option<Tx>,
    /// Queues on which gets made on this channel wait, once for each.
    pub(crate) gets: Vec<QueueId>,
    /// Where its publishes go, and that they may.
    pub(crate) last_vhost: LastVhost,
    pub(crate) passes: Passes,
}

/// A delivery that is out on a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unacked {
    pub(crate) queue: QueueId,
    pub(crate) seq: Seq,
    /// None after a get.
    pub(crate) consumer: Option<ConsumerId>,
    pub(crate) cost_bytes: u64,
}

/// Outcomes of publishes on their way out.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    /// The newest publish.
    pub(crate) published: u64,
    /// The newest that has its outcome, sent or about to be.
    pub(crate) confirmed: u64,
    /// Outcomes other than `Routed` since the last effect.
    pub(crate) others: Vec<(u64, Outcome)>,
    /// Goes out at the end of this turn.
    pub(crate) due: bool,
}

/// Settlements of one channel.
#[derive(Debug, Default)]
pub(crate) struct Settlements {
    /// How many came.
    pub(crate) count: u64,
    /// Those of this turn that named no delivery.
    pub(crate) unknown: Vec<(u64, u64)>,
    /// There were some in this turn.
    pub(crate) due: bool,
}

/// What a transaction is to do.
#[derive(Debug, Default)]
pub(crate) struct Tx {
    pub(crate) publishes: Vec<TxPublish>,
    /// By delivery tag: out until the commit, and not on the channel's list any more.
    pub(crate) settled: BTreeMap<u64, (Unacked, Settle)>,
    /// What the publishes are charged to the budget.
    pub(crate) charged_bytes: u64,
    /// What the publishes take in the log at least.
    pub(crate) append_bytes: u64,
}

/// A publish that waits for a commit.
#[derive(Debug)]
pub(crate) struct TxPublish {
    /// Its number on its channel.
    pub(crate) tag: u64,
    pub(crate) vhost: VhostId,
    pub(crate) publish: Publish,
}

impl Channel {
    pub(crate) fn new(conn: ConnId, user: Option<Arc<str>>, credit_bytes: u64, strict: bool) -> Self {
        Self {
            conn,
            user,
            strict,
            credit_bytes: i64::try_from(credit_bytes).unwrap_or(i64::MAX),
            prefetch_messages: 0,
            consumers: BTreeMap::new(),
            parked: Vec::new(),
            unacked: Track::default(),
            last_delivery_tag: 0,
            confirms: Confirms::default(),
            settlements: Settlements::default(),
            tx: None,
            gets: Vec::new(),
            last_vhost: LastVhost::default(),
            passes: Passes::default(),
        }
    }

    pub(crate) fn next_delivery_tag(&mut self) -> u64 {
        self.last_delivery_tag += 1;
        self.last_delivery_tag
    }

    pub(crate) fn has_credit(&self) -> bool {
        self.credit_bytes > 0
    }

    pub(crate) fn has_prefetch(&self) -> bool {
        self.prefetch_messages == 0 || self.messages_out() < self.prefetch_messages as usize
    }

    /// Deliveries that are out on it, with those that a transaction is to settle.
    pub(crate) fn messages_out(&self) -> usize {
        self.unacked.len() + self.tx.as_ref().map_or(0, |tx| tx.settled.len())
    }

    /// Takes a delivery out that was settled by another way than its tag.
    pub(crate) fn let_go(&mut self, tag: u64) -> Option<Unacked> {
        let in_tx = || Some(self.tx.as_mut()?.settled.remove(&tag)?.0);
        self.unacked.remove(tag).or_else(in_tx)
    }

    /// A get that waited on this queue has its answer.
    pub(crate) fn forget_get(&mut self, queue: QueueId) {
        if let Some(place) = self.gets.iter().position(|id| *id == queue) {
            self.gets.swap_remove(place);
        }
    }

    pub(crate) fn add_credit(&mut self, bytes: u64) {
        self.credit_bytes = self.credit_bytes.saturating_add_unsigned(bytes);
    }

    pub(crate) fn spend_credit(&mut self, bytes: u64) {
        self.credit_bytes = self.credit_bytes.saturating_sub_unsigned(bytes);
    }

    /// Takes the deliveries out that a settlement names; None when it names none that is out.
    pub(crate) fn take_unacked(&mut self, tag: u64, multiple: bool) -> Option<SmallVec<[(u64, Unacked); 1]>> {
        if tag == 0 && multiple {
            return Some(self.unacked.take_upto(u64::MAX).into());
        }
        if !multiple {
            return self.unacked.remove(tag).map(|unacked| SmallVec::from([(tag, unacked)]));
        }
        self.unacked.contains(tag).then(|| self.unacked.take_upto(tag).into())
    }
}
