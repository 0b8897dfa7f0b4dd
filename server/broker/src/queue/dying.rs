//! Messages that a queue gives up for dead letters although they are not in memory: they are read back first.

use std::sync::Arc;

use super::Queue;
use super::level::{Level, Out};
use crate::budget::Budget;
use crate::death::Reason;
use crate::ids::{QueueId, Seq};
use crate::message::Message;

/// A place that waits to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dying {
    pub(super) reason: Reason,
}

/// A message that left its queue to be dead-lettered. It lives on in the log until the move is there.
#[derive(Debug)]
pub(crate) struct Dead {
    /// Its level's number.
    pub(crate) queue: QueueId,
    pub(crate) seq: Seq,
    /// It is in the log, so the move acks it there.
    pub(crate) stored: bool,
    pub(crate) reason: Reason,
    pub(crate) message: Arc<Message>,
}

impl Queue {
    /// A message that is out is to be dead-lettered. Says what it was, if it was out; the message comes with it, or,
    /// where it has to be read back, later with an answer.
    pub(crate) fn give_up(
        &mut self,
        (id, seq): (QueueId, Seq),
        reason: Reason,
        budget: &mut Budget,
    ) -> Option<(Out, Option<Dead>)> {
        let level = self.levels.iter_mut().find(|level| level.id == id)?;
        let mut out = level.out.remove(&seq.0)?;
        self.counters.acked += 1;
        let dead = match out.body.take() {
            Some(body) => {
                let message = body.message().clone();
                level.drop_body(body, budget);
                Some(Dead { queue: id, seq, stored: out.stored, reason, message })
            }
            None => {
                level.dying.insert(seq.0, Dying { reason });
                None
            }
        };
        Some((out, dead))
    }
}

impl Level {
    /// The dying one at a place has been read.
    pub(super) fn died(&mut self, seq: Seq, message: &Arc<Message>) -> Option<Dead> {
        let dying = self.dying.remove(&seq.0)?;
        let message = message.clone();
        Some(Dead { queue: self.id, seq, stored: true, reason: dying.reason, message })
    }
}
