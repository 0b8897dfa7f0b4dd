//! The transactional channel: settlements that wait, and commits that are one append.

use super::*;
use crate::record;

/// The slot of the channel that is strict and transactional.
pub(super) const TX: usize = 2;
/// The body of what is never published.
const NEVER: &str = "0";

impl Run {
    pub(super) fn select(&mut self) {
        let chan = ChanId(self.slots[TX]);
        self.request(Op::TxSelect { chan }, Asked::Nothing);
    }

    /// Settles in the transaction: what is named is out until the commit.
    pub(super) fn settle_in_tx(&mut self, delivery: usize, multiple: bool, how: Settle) {
        let id = self.slots[TX];
        let chan = self.chans.get_mut(&id).expect("slots are open");
        let (tag, multiple) = match pick(chan.out.keys(), delivery) {
            Some(tag) => (*tag, multiple),
            // With nothing out this alone is no failure.
            None => (0, true),
        };
        let tags: Vec<u64> = match multiple {
            true => chan.out.range(..=tag).map(|(tag, _)| *tag).collect(),
            false => vec![tag],
        };
        for tag in tags {
            let place = chan.out.remove(&tag).expect("it is out");
            chan.in_tx.insert(tag, (place, how));
        }
        self.input(settlement(id, tag, multiple, how));
    }

    /// Publishes and commits. All of it, with what was settled, is one append.
    pub(super) fn commit(&mut self, targets: Vec<(Target, bool)>) {
        // What was on its way goes out first, as with any other request.
        self.finish();
        let id = self.slots[TX];
        let mut stored = Vec::new();
        for (target, persistent) in targets {
            let (publish, _, promised) = self.message(target, persistent);
            stored.extend(promised);
            self.input(Input::Publish { chan: ChanId(id), tag: 1, vhost: "/".into(), publish });
        }
        let settled = std::mem::take(&mut self.chans.get_mut(&id).expect("slots are open").in_tx);
        let mut gone = Vec::new();
        let mut acks = BTreeSet::new();
        for (place, how) in settled.into_values() {
            let requeue = how == Settle::Requeue;
            if !requeue {
                gone.push(place);
                acks.extend(self.place_in_log(place));
            }
            self.oracle.settle(place.0, place.1, requeue);
            self.forget(place);
        }
        let puts: BTreeSet<No> = stored.iter().map(|(_, no)| *no).collect();
        let before = self.batches.len();
        self.request(Op::TxCommit { chan: ChanId(id) }, Asked::Committed { stored, gone });
        let parts = self.batches[before..].iter().map(|batch| {
            let decoded =
                batch.puts.iter().map(|put| record::decode_message(&put.record()).expect("a message"));
            let nos = decoded.map(|message| number(&message)).filter(|no| puts.contains(no)).count();
            let within = |(queue, seq): &&(QueueId, u64)| {
                batch.acks.iter().any(|(q, from, last)| q == queue && (from.0..=last.0).contains(seq))
            };
            (nos, acks.iter().filter(within).count())
        });
        let parts: Vec<_> = parts.filter(|part| *part != (0, 0)).collect();
        let expected = [(puts.len(), acks.len())];
        let nothing = puts.is_empty() && acks.is_empty();
        assert_eq!(parts, if nothing { &[][..] } else { &expected }, "a commit is one append");
        self.reached.commits += u64::from(!puts.is_empty() && !acks.is_empty());
    }

    pub(super) fn rollback(&mut self, publishes: usize) {
        self.finish();
        let id = self.slots[TX];
        for _ in 0..publishes {
            let publish = message("amq.fanout", "", NEVER);
            self.input(Input::Publish { chan: ChanId(id), tag: 1, vhost: "/".into(), publish });
        }
        let chan = self.chans.get_mut(&id).expect("slots are open");
        let back = std::mem::take(&mut chan.in_tx);
        chan.out.extend(back.into_iter().map(|(tag, (place, _))| (tag, place)));
        self.request(Op::TxRollback { chan: ChanId(id) }, Asked::Nothing);
    }

    /// The channel fails in the middle of a transaction.
    pub(super) fn fail(&mut self) {
        self.finish();
        let id = self.slots[TX];
        let publish = message("amq.fanout", "", NEVER);
        self.input(Input::Publish { chan: ChanId(id), tag: 1, vhost: "/".into(), publish });
        self.forget_channel(id);
        self.failing = Some(id);
        self.input(settlement(id, u64::MAX, false, Settle::Ack));
        assert_eq!(self.failing, None, "it has failed");
        self.input(Input::ChannelClosed { chan: ChanId(id) });
        self.open_channel(TX);
    }

    /// Where a message is in the log, if it is there.
    fn place_in_log(&self, (queue, no): (QueueId, No)) -> Option<(QueueId, u64)> {
        let known = self.oracle.queues.get(&queue).filter(|known| known.durable)?;
        known.messages.get(&no).filter(|message| message.persistent)?;
        let (id, _) = self.oracle.ids.iter().rev().find(|(id, of)| id.queue == queue && *of == no)?;
        Some((queue, id.seq.0))
    }
}
