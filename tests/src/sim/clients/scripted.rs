//! The simulated clients, told what kind of thing to do next.

use fastrand::Rng;
use leveret_broker::{Input, Op};

use super::{Clients, Lane};
use crate::history::{QueueRef, Recorder};
use crate::sim::reached::Reached;
use crate::sim::world::Life;

/// A kind of thing that a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Deed {
    /// Declares a queue, and those that its dead letters go to.
    Declare,
    /// Binds a queue to the exchange that all messages of which go everywhere.
    Bind,
    /// Publishes on a channel with confirms.
    Publish,
    /// Publishes several messages as one.
    Batch,
    /// Consumes.
    Consume,
    /// Acks, rejects or returns on a channel.
    Settle,
    /// Takes messages for a while.
    Get,
    /// Acks or returns one of those.
    SettleLease,
    /// Moves messages on in a transaction, and commits it.
    Commit,
    /// Purges a queue.
    Purge,
    /// Deletes a queue; its name is declared again as soon as that is answered.
    Delete,
    /// Closes a channel, with whatever is out.
    Close,
}

impl Clients {
    /// Does it; false when nothing was there to do it with.
    pub(in crate::sim) fn perform(
        &mut self,
        deed: Deed,
        life: &mut Life,
        rng: &mut Rng,
        reached: &mut Reached,
    ) -> bool {
        let before = life.inputs.len();
        match deed {
            Deed::Declare => self.declare_new(life, rng),
            Deed::Bind => self.bind(life, rng),
            Deed::Publish => self.publish_on_lane(life, rng),
            Deed::Batch => self.publish_batch(life, rng),
            Deed::Consume => self.open_lane(life, rng),
            Deed::Settle => self.settle_on_lane(life, rng),
            Deed::Get => self.get(life, rng),
            Deed::SettleLease => self.settle_lease(life, rng),
            Deed::Commit => self.transact(life, rng),
            Deed::Purge => self.purge(life, rng),
            Deed::Delete => self.delete(life, rng),
            Deed::Close => self.close_lane(life, rng, reached),
        }
        let mut done = life.inputs.iter().skip(before);
        match deed {
            Deed::Publish => done.any(|input| matches!(input, Input::Publish { .. })),
            Deed::Bind => done.any(|input| matches!(input, Input::Request { op: Op::Bind(_), .. })),
            Deed::Commit => done.any(|input| matches!(input, Input::Request { op: Op::TxCommit { .. }, .. })),
            Deed::Consume => {
                let opened = done.find_map(|input| match input {
                    Input::ChannelOpened { chan, .. } => Some(*chan),
                    _ => None,
                });
                opened.is_some_and(|chan| matches!(self.lanes.get(&chan), Some(Lane::Consumer(_))))
            }
            _ => done.next().is_some(),
        }
    }

    /// Between which queues messages go by themselves.
    pub(in crate::sim) fn flows(&self) -> Vec<(QueueRef, QueueRef)> {
        let ruled = self.queues.iter().filter(|known| known.dead.rule);
        ruled.flat_map(|known| known.dead.to.iter().map(|to| (known.queue, *to))).collect()
    }

    /// Where they write what they do and see.
    pub(in crate::sim) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Those who come after a crash: they know what these know of queues and messages, and write another record.
    pub(in crate::sim) fn successors(&self, recorder: Recorder) -> Self {
        Self {
            kinds: self.kinds,
            queues: self.queues.clone(),
            next_number: self.next_number.clone(),
            next_id: self.next_id,
            names: self.names,
            aims: self.aims.clone(),
            ..Self::new(recorder)
        }
    }
}
