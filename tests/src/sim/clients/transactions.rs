//! Clients that work in transactions: each consumes on a strict channel, and moves what it gets to other queues, acks it
//! or returns it, publishes beside that, and commits all of it or rolls it back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use leveret_broker::{ChanId, Consume, Deliver, Input, Op, Publish, Refusal, Reply, Settle, Table};

use super::{Asked, CREDIT_BYTES, Clients, FANOUT, Lane, pick, publisher_of};
use crate::history::{BatchRef, ConsumerRef, Event, Keep, QueueRef, Share};
use crate::payload::MsgId;
use crate::sim::world::Life;

/// Publishers that publish in transactions.
const PUBLISHERS: std::ops::Range<u32> = 11..14;
const LANES_MAX: usize = 2;
/// A commit of that many bytes may not fit into a log segment.
const REFUSED_BYTES_MIN: u64 = 16 << 10;

/// A transactional channel.
#[derive(Debug)]
pub(super) struct Transacting {
    pub(super) consumer: ConsumerRef,
    pub(super) queue: QueueRef,
    pub(super) publisher: u32,
    /// Publishes on the channel so far.
    tag: u64,
    pub(super) out: BTreeMap<u64, Held>,
    /// What the next commit is to do.
    staged: Vec<Staged>,
    /// A method waits for its answer; others of the channel wait behind it.
    waiting: bool,
}

/// A delivery.
#[derive(Debug, Clone)]
pub(super) struct Held {
    id: MsgId,
    body: Bytes,
    keep: Keep,
}

/// A part of a transaction.
#[derive(Debug)]
enum Staged {
    /// Acked, after it was published to other queues, if any.
    Moved {
        tag: u64,
        held: Held,
        to: Arc<[QueueRef]>,
        fanout: bool,
    },
    /// Not wanted: it goes to where dead letters go.
    Rejected {
        tag: u64,
        held: Held,
        to: Arc<[QueueRef]>,
    },
    Returned {
        tag: u64,
        held: Held,
    },
    Published {
        sent: Event,
        fanout: bool,
    },
}

impl Staged {
    fn held(&self) -> Option<&Held> {
        match self {
            Self::Moved { held, .. } | Self::Rejected { held, .. } | Self::Returned { held, .. } => {
                Some(held)
            }
            Self::Published { .. } => None,
        }
    }

    /// Bytes that it adds to the commit, about.
    fn bytes(&self) -> u64 {
        match self {
            Self::Moved { held, .. } => held.body.len() as u64,
            Self::Published { sent: Event::Sent { length, queues, .. }, .. } => {
                u64::from(*length) + 16 * queues.len() as u64
            }
            _ => 0,
        }
    }
}

/// How to publish a message, and where it goes then.
struct Way {
    exchange: Arc<str>,
    key: Arc<str>,
    to: Arc<[QueueRef]>,
}

/// A commit that waits for its answer.
#[derive(Debug)]
pub(super) struct Committing {
    chan: ChanId,
    batch: BatchRef,
    /// Dead letters. One that has to be read first moves after the rest, so that each is a move of its own.
    letters: Vec<BatchRef>,
    published: Vec<MsgId>,
    returned: Vec<(ConsumerRef, QueueRef, MsgId)>,
}

impl Transacting {
    pub(super) fn delivered(&mut self, deliver: &Deliver, id: MsgId) {
        let keep = if deliver.message.persistent { Keep::Persistent } else { Keep::Transient };
        self.out.insert(deliver.delivery_tag, Held { id, body: deliver.message.body.clone(), keep });
    }
}

impl Clients {
    /// One step of a transaction: some more of it, its commit or its rollback.
    pub(super) fn transact(&mut self, life: &mut Life, rng: &mut Rng) {
        let idle = self.lanes.iter().filter(|(_, lane)| matches!(lane, Lane::Tx(lane) if !lane.waiting));
        let idle = pick(idle.map(|(chan, _)| *chan), rng);
        let Some(chan) = idle.filter(|_| rng.u8(..8) > 0) else { return self.open_transacting(life, rng) };
        match rng.u8(..8) {
            0 => self.roll_back(life, chan),
            1 => self.commit(life, chan),
            _ => {
                for _ in 0..rng.u8(1..5) {
                    self.stage(life, rng, chan);
                }
                if rng.bool() {
                    self.commit(life, chan);
                }
            }
        }
    }

    fn open_transacting(&mut self, life: &mut Life, rng: &mut Rng) {
        let taken: Vec<u32> = self.lanes.values().map(publisher_of).collect();
        let Some(publisher) = PUBLISHERS.into_iter().find(|number| !taken.contains(number)) else { return };
        if self.lanes.values().filter(|lane| matches!(lane, Lane::Tx(_))).count() >= LANES_MAX {
            return;
        }
        let Some((known, share)) = self.pick_to_consume(rng) else { return };
        let chan = ChanId(self.id());
        life.inputs.push_back(Input::ChannelOpened {
            conn: self.conn,
            chan,
            credit_bytes: CREDIT_BYTES,
            strict: true,
        });
        let consumer = self.recorder.new_consumer();
        let queue = known.queue;
        self.recorder.record(Event::ConsumerStarted { consumer, queue, share });
        let lane = Transacting {
            consumer,
            queue,
            publisher,
            tag: 0,
            out: BTreeMap::new(),
            staged: Vec::new(),
            waiting: true,
        };
        self.lanes.insert(chan, Lane::Tx(lane));
        let consume = Consume {
            chan,
            queue: known.name,
            consumer_tag: "t".into(),
            prefetch_messages: rng.u32(0..8),
            prefetch_bytes: 0,
            auto_ack: false,
            exclusive: false,
            priority: 1,
            arguments: Table::default(),
        };
        self.ask_on(life, chan, Op::Consume(consume), Asked::TxConsume(chan));
    }

    /// Adds something to a transaction.
    fn stage(&mut self, life: &mut Life, rng: &mut Rng, chan: ChanId) {
        let Some(Lane::Tx(lane)) = self.lanes.get(&chan) else { return };
        let (publisher, queue) = (lane.publisher, lane.queue);
        let Some(tag) = pick(lane.out.keys().copied(), rng).filter(|_| rng.u8(..6) > 0) else {
            let Some((publish, sent, _)) = self.message(publisher, rng) else { return };
            let fanout = &*publish.exchange == FANOUT;
            self.publish_in_tx(life, chan, publish, Staged::Published { sent, fanout });
            return;
        };
        let Some(held) = lane.out.get(&tag).cloned() else { return };
        let (how, staged) = match rng.u8(..8) {
            0 => (Settle::Requeue, Staged::Returned { tag, held }),
            1 => (Settle::Ack, Staged::Moved { tag, held, to: [].into(), fanout: false }),
            2 => {
                let to = self.reject_from(queue);
                (Settle::Drop, Staged::Rejected { tag, held, to })
            }
            _ => {
                let Some(Way { exchange, key, to }) = self.where_to(rng, held.id, queue) else { return };
                let fanout = &*exchange == FANOUT;
                let priority = self.priority_of(held.id);
                let body = held.body.clone();
                let publish = super::actions::publish((exchange, key), held.keep, priority, body, rng.bool());
                self.publish_in_tx(life, chan, publish, Staged::Moved { tag, held, to, fanout });
                life.inputs.push_back(Input::Settle { chan, tag, multiple: false, how: Settle::Ack });
                self.let_go(chan, tag);
                return;
            }
        };
        life.inputs.push_back(Input::Settle { chan, tag, multiple: false, how });
        self.let_go(chan, tag);
        if let Some(Lane::Tx(lane)) = self.lanes.get_mut(&chan) {
            lane.staged.push(staged);
        }
    }

    fn let_go(&mut self, chan: ChanId, tag: u64) {
        if let Some(Lane::Tx(lane)) = self.lanes.get_mut(&chan) {
            lane.out.remove(&tag);
        }
    }

    fn publish_in_tx(&mut self, life: &mut Life, chan: ChanId, publish: Publish, staged: Staged) {
        let Some(Lane::Tx(lane)) = self.lanes.get_mut(&chan) else { return };
        lane.tag += 1;
        lane.staged.push(staged);
        life.inputs.push_back(Input::Publish { chan, tag: lane.tag, vhost: "/".into(), publish });
    }

    /// Where a message can be moved to, that never was there.
    fn where_to(&self, rng: &mut Rng, id: MsgId, from: QueueRef) -> Option<Way> {
        if rng.u8(..3) == 0
            && let Some(all) = self.fanout_targets()
            && all.iter().all(|to| self.may_move(id, from, *to))
        {
            return Some(Way { exchange: FANOUT.into(), key: "".into(), to: all });
        }
        let known = self.pick(rng, |known| known.ready && self.may_move(id, from, known.queue))?;
        Some(Way { exchange: "".into(), key: known.name, to: [known.queue].into() })
    }

    /// Commits, unless a queue has gone or come that something is to go to: then nobody knows where it will go.
    fn commit(&mut self, life: &mut Life, chan: ChanId) {
        let Some(Lane::Tx(lane)) = self.lanes.get(&chan) else { return };
        let all = self.fanout_targets();
        let from = lane.queue;
        let sure = lane.staged.iter().all(|staged| {
            let there = |to: &QueueRef| self.queues.iter().any(|known| known.queue == *to && known.ready);
            let (to, fanout) = match staged {
                // It may be on its way there from another queue meanwhile.
                Staged::Moved { held, to, .. } if !to.iter().all(|to| self.may_move(held.id, from, *to)) => {
                    return false;
                }
                Staged::Moved { to, fanout, .. } => (to, *fanout),
                Staged::Published { sent: Event::Sent { queues, .. }, fanout } => (queues, *fanout),
                Staged::Rejected { .. } => return there(&from),
                _ => return true,
            };
            if fanout { all.as_ref() == Some(to) } else { to.iter().all(there) }
        });
        if !sure {
            return self.roll_back(life, chan);
        }
        let batch = self.recorder.new_batch();
        let Some(Lane::Tx(lane)) = self.lanes.get_mut(&chan) else { return };
        lane.waiting = true;
        let (consumer, queue) = (lane.consumer, lane.queue);
        if lane.staged.iter().map(Staged::bytes).sum::<u64>() > REFUSED_BYTES_MIN {
            // Refused for its length, the commit ends the channel: others may get what is out before this client hears of it.
            let held = lane.staged.iter().filter_map(Staged::held).chain(lane.out.values());
            let back = held.map(|held| Event::ReturnSent { consumer, queue, id: held.id });
            self.recorder.record_all(back.collect::<Vec<_>>());
        }
        let mut done =
            Committing { chan, batch, letters: Vec::new(), published: Vec::new(), returned: Vec::new() };
        for staged in std::mem::take(&mut lane.staged) {
            match staged {
                Staged::Moved { held: Held { id, .. }, to, .. } => {
                    to.iter().for_each(|to| self.aim(id, *to, Some(queue)));
                    self.recorder.record(Event::MoveSent { id, from: queue, to, batch });
                }
                Staged::Rejected { held: Held { id, .. }, to, .. } => {
                    let letter = if to.is_empty() { batch } else { self.recorder.new_batch() };
                    self.recorder.record(Event::MoveSent { id, from: queue, to, batch: letter });
                    done.letters.extend((letter != batch).then_some(letter));
                }
                Staged::Returned { held: Held { id, .. }, .. } => {
                    self.recorder.record(Event::ReturnSent { consumer, queue, id });
                    done.returned.push((consumer, queue, id));
                }
                Staged::Published {
                    sent: Event::Sent { id, length, keep, priority, queues, .. }, ..
                } => {
                    done.published.push(id);
                    self.record_sent(Event::Sent { id, length, keep, priority, batch, queues });
                }
                Staged::Published { .. } => {}
            }
        }
        self.ask_on(life, chan, Op::TxCommit { chan }, Asked::Commit(done));
    }

    fn roll_back(&mut self, life: &mut Life, chan: ChanId) {
        let Some(Lane::Tx(lane)) = self.lanes.get_mut(&chan) else { return };
        lane.waiting = true;
        self.ask_on(life, chan, Op::TxRollback { chan }, Asked::Rollback(chan));
    }

    /// A method of a transactional channel was answered. One that is refused ends the channel.
    pub(super) fn tx_consuming(&mut self, chan: ChanId, result: &Result<Reply, Refusal>, life: &mut Life) {
        match result {
            Ok(_) => self.ask_on(life, chan, Op::TxSelect { chan }, Asked::TxSelect(chan)),
            Err(_) => self.end_lane(life, chan),
        }
    }

    pub(super) fn tx_selected(&mut self, chan: ChanId, result: &Result<Reply, Refusal>, life: &mut Life) {
        match (result, self.lanes.get_mut(&chan)) {
            (Ok(_), Some(Lane::Tx(lane))) => lane.waiting = false,
            _ => self.end_lane(life, chan),
        }
    }

    pub(super) fn committed(&mut self, done: Committing, result: &Result<Reply, Refusal>, life: &mut Life) {
        let Committing { chan, batch, letters, published, returned } = done;
        let batches = letters.into_iter().chain([batch]);
        if result.is_err() {
            self.recorder.record_all(batches.map(|batch| Event::MoveRefused { batch }));
            return self.end_lane(life, chan);
        }
        self.commits += 1;
        self.recorder.record_all(batches.map(|batch| Event::Moved { batch }));
        self.recorder.record_all(published.into_iter().map(|id| Event::Confirmed { id }));
        if let Some(Lane::Tx(lane)) = self.lanes.get_mut(&chan) {
            lane.waiting = false;
            self.recorder.record_all(returned.into_iter().map(|(consumer, queue, id)| Event::Returned {
                consumer,
                queue,
                id,
                under_way: 0,
            }));
        }
    }

    /// What was settled is out again.
    pub(super) fn rolled_back(&mut self, chan: ChanId, result: &Result<Reply, Refusal>, life: &mut Life) {
        let Some(Lane::Tx(lane)) = self.lanes.get_mut(&chan) else { return };
        if result.is_err() {
            return self.end_lane(life, chan);
        }
        self.rollbacks += u64::from(!lane.staged.is_empty());
        lane.waiting = false;
        for staged in std::mem::take(&mut lane.staged) {
            if let Staged::Moved { tag, held, .. }
            | Staged::Rejected { tag, held, .. }
            | Staged::Returned { tag, held } = staged
            {
                lane.out.insert(tag, held);
            }
        }
    }

    /// A request was ignored, since its channel had failed before.
    pub(super) fn dropped(&mut self, asked: Asked) {
        if let Asked::Commit(Committing { batch, letters, .. }) = asked {
            let batches = letters.into_iter().chain([batch]);
            self.recorder.record_all(batches.map(|batch| Event::MoveRefused { batch }));
        }
    }

    /// A queue for a new consumer, and whether that is the only one.
    pub(super) fn pick_to_consume(&mut self, rng: &mut Rng) -> Option<(super::Known, Share)> {
        let known = self.pick(rng, |known| known.ready)?;
        let busy = self.lanes.values().any(|lane| lane.queue() == Some(known.queue));
        if (known.sole && busy) || !self.take(known.queue) {
            return None;
        }
        let share = if known.sole { Share::Sole } else { Share::Shared };
        Some((known, share))
    }
}
