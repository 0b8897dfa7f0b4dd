//! Bodies of messages that are out, read back while they stay out: for a transaction that rejects them and is to move
//! them with its own append.

use std::sync::Arc;

use super::Queue;
use super::level::Level;
use super::window::{Fetching, Loss, TakenIn, What, decode, run_end};
use crate::budget::{Body, Budget};
use crate::ids::{QueueId, Seq};
use crate::input::Fetched;
use crate::message::Message;

/// Where the body of a message that is out stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutBody {
    /// In memory.
    Here,
    /// Only in the store.
    Away,
    /// Being read.
    Recalled,
    /// The message is not out any more.
    Gone,
}

impl Queue {
    /// Where the body of a message is, if that is out.
    pub(crate) fn out_body(&self, id: QueueId, seq: Seq) -> OutBody {
        let Some(level) = self.level(id) else { return OutBody::Gone };
        match level.out.get(seq.0) {
            None => OutBody::Gone,
            Some(out) if out.body.is_some() => OutBody::Here,
            Some(_) if level.aside.recalled.contains(&seq.0) => OutBody::Recalled,
            Some(_) => OutBody::Away,
        }
    }

    /// Length of a message's body, if that is out.
    pub(crate) fn out_size(&self, id: QueueId, seq: Seq) -> u64 {
        self.level(id).and_then(|level| level.out.get(seq.0)).map_or(0, |out| u64::from(out.size))
    }

    /// A message that is out, where its body is in memory.
    pub(crate) fn out_message(&self, id: QueueId, seq: Seq) -> Option<&Arc<Message>> {
        self.level(id)?.out.get(seq.0)?.body.as_ref().map(Body::message)
    }

    /// Asks for the body of a message that is out; the next read that is planned may bring it.
    pub(crate) fn recall(&mut self, id: QueueId, seq: Seq) {
        if let Some(level) = self.level_mut(id) {
            level.aside.make().recalled.insert(seq.0);
        }
    }
}

impl Level {
    pub(super) fn plan_recalled(&self) -> Option<Fetching> {
        let mut places = self.aside.recalled.iter().copied();
        let from = places.next()?;
        Some(Fetching::new(from, run_end(from, places), What::Recalled))
    }

    /// Takes in what was read of them. What came back meanwhile is not wanted any more; what is not there stays out
    /// without a body, and is found to be lost when it is dead-lettered.
    pub(super) fn take_recalled(
        &mut self,
        from: u64,
        upto: u64,
        answer: Fetched,
        budget: &mut Budget,
    ) -> TakenIn {
        let mut losses: Vec<_> =
            answer.lost.into_iter().map(|(seq, reason)| Loss::Place(seq, reason)).collect();
        for (seq, bytes) in answer.records {
            if !self.aside.recalled.contains(&seq.0)
                || self.out.get(seq.0).is_none_or(|out| out.body.is_some())
            {
                continue;
            }
            match decode(&bytes) {
                Ok(fresh) => {
                    let kept = self.kept_as(fresh.message());
                    let body = self.hold(&fresh, kept, budget);
                    if let Some(out) = self.out.get_mut(seq.0) {
                        out.body = Some(body);
                    }
                }
                Err(reason) => losses.push(Loss::Place(seq, reason)),
            }
        }
        if let Some(aside) = self.aside.there() {
            aside.recalled.retain(|seq| !(from..upto).contains(seq));
        }
        self.aside.tidy();
        TakenIn { losses, ..TakenIn::default() }
    }
}
