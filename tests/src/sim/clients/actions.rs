//! What the simulated clients do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use leveret_broker::{
    Binding, ChanId, Consume, DestinationKind, Get, Hold, Input, Op, Publish, PublishExtras, Settle, Table,
};

use super::{Asked, CREDIT_BYTES, Clients, Consuming, FANOUT, Known, Lane, name_of, pick, publisher_of};
use crate::history::{Event, Keep, QueueRef, Share};
use crate::payload::{self, MsgId};
use crate::sim::reached::Reached;
use crate::sim::world::Life;

impl Clients {
    pub(super) fn bind(&mut self, life: &mut Life, rng: &mut Rng) {
        let Some(known) = self.pick(rng, |known| known.ready && !known.sole && !known.target) else { return };
        if !self.exchange_ready {
            return;
        }
        let binding = Binding {
            source: FANOUT.into(),
            destination_kind: DestinationKind::Queue,
            destination: Arc::clone(&known.name),
            routing_key: "".into(),
            arguments: Table::default(),
        };
        let name = name_of(&binding);
        // Only once per queue, and never off again: the record must know where a message goes.
        if let Some(known) = self.queues.iter_mut().find(|other| other.queue == known.queue)
            && !std::mem::replace(&mut known.fanned, true)
        {
            self.recorder.record(Event::BindSent { binding: name.clone() });
            self.ask(life, Op::Bind(binding), Asked::Bind(name));
        } else {
            // A binding that never was is removed without ado.
            let binding = Binding { routing_key: "none".into(), ..binding };
            let name = name_of(&binding);
            self.recorder.record(Event::UnbindSent { binding: name.clone() });
            self.ask(life, Op::Unbind(binding), Asked::Unbind(name));
        }
    }

    pub(super) fn purge(&mut self, life: &mut Life, rng: &mut Rng) {
        let Some(known) = self.pick(rng, |known| known.ready && !known.taken) else { return };
        self.recorder.record(Event::PurgeSent { queue: known.queue });
        self.ask(life, Op::PurgeQueue { name: known.name }, Asked::Purge(known.queue));
    }

    /// A message for one queue, or for all that are bound: none may be bound halfway meanwhile.
    pub(super) fn message(&mut self, publisher: u32, rng: &mut Rng) -> Option<(Publish, Event, MsgId)> {
        let fanout = self.fanout_targets().filter(|_| rng.u8(..4) == 0);
        let (exchange, key, queues): (Arc<str>, Arc<str>, Arc<[QueueRef]>) = match fanout {
            Some(bound) => (FANOUT.into(), "".into(), bound),
            None => {
                let known = self.pick(rng, |known| known.ready)?;
                ("".into(), known.name, [known.queue].into())
            }
        };
        let number = self.next_number.entry(publisher).or_insert(0);
        *number += 1;
        let id = MsgId { publisher, seq: *number };
        let length = match rng.u8(..16) {
            0 => rng.usize(3_000..9_000),
            1..4 => rng.usize(300..2_000),
            _ => rng.usize(24..100),
        };
        let body = payload::encode(id, length);
        let keep = if rng.u8(..5) == 0 { Keep::Transient } else { Keep::Persistent };
        let priority = self.priority_of(id);
        let publish = publish((exchange, key), keep, priority, body, rng.bool());
        let priority = priority.unwrap_or(0);
        let batch = self.recorder.new_batch();
        let length = publish.body.len() as u32;
        Some((publish, Event::Sent { id, length, keep, priority, batch, queues }, id))
    }

    /// The queues that a message to the exchange goes to, if that is known: every binding that was asked for was
    /// answered, or in an earlier life found in a listing.
    pub(super) fn fanout_targets(&self) -> Option<Arc<[QueueRef]>> {
        let bound: Vec<&Known> = self.queues.iter().filter(|known| known.fanned).collect();
        let asking = self.asked.values().any(|asked| matches!(asked, Asked::Bind(_)));
        let sure =
            self.exchange_ready && !bound.is_empty() && !asking && bound.iter().all(|known| known.ready);
        sure.then(|| bound.into_iter().map(|known| known.queue).collect())
    }

    pub(super) fn publish_on_lane(&mut self, life: &mut Life, rng: &mut Rng) {
        let publishers = self.lanes.iter().filter(|(_, lane)| matches!(lane, Lane::Publisher { .. }));
        let Some((chan, publisher)) = pick(publishers.map(|(chan, lane)| (*chan, publisher_of(lane))), rng)
        else {
            return self.open_lane(life, rng);
        };
        let Some((publish, sent, id)) = self.message(publisher, rng) else { return };
        self.record_sent(sent);
        let Some(Lane::Publisher { tag, unconfirmed, .. }) = self.lanes.get_mut(&chan) else { return };
        *tag += 1;
        unconfirmed.push_back((*tag, id));
        life.inputs.push_back(Input::Publish { chan, tag: *tag, vhost: "/".into(), publish });
    }

    pub(super) fn publish_batch(&mut self, life: &mut Life, rng: &mut Rng) {
        let (mut batch, mut ids) = (Vec::new(), Vec::new());
        let mut shared = None;
        for _ in 0..rng.u8(1..6) {
            let Some((publish, sent, id)) = self.message(100, rng) else { return };
            let Event::Sent { id: _, length, keep, priority, batch: fate, queues } = sent else { return };
            let fate = *shared.get_or_insert(fate);
            self.record_sent(Event::Sent { id, length, keep, priority, batch: fate, queues });
            batch.push(publish);
            ids.push(id);
        }
        self.ask(life, Op::Publish(batch), Asked::Publish(ids));
    }

    pub(super) fn open_lane(&mut self, life: &mut Life, rng: &mut Rng) {
        if self.lanes.len() > 6 {
            return;
        }
        let chan = ChanId(self.id());
        let opened =
            Input::ChannelOpened { conn: self.conn, chan, credit_bytes: CREDIT_BYTES, strict: false };
        if rng.bool() {
            // One lane per publisher at a time, so that its numbers keep their order.
            let taken: Vec<u32> = self.lanes.values().map(publisher_of).collect();
            let Some(publisher) = (1..4).find(|number| !taken.contains(number)) else { return };
            life.inputs.push_back(opened);
            self.lanes.insert(chan, Lane::Publisher { publisher, tag: 0, unconfirmed: VecDeque::new() });
            return;
        }
        let Some((known, share)) = self.pick_to_consume(rng) else { return };
        life.inputs.push_back(opened);
        let consumer = self.recorder.new_consumer();
        self.recorder.record(Event::ConsumerStarted { consumer, queue: known.queue, share });
        let lane = Consuming {
            consumer,
            queue: known.queue,
            acks: rng.bool(),
            out: BTreeMap::new(),
            settles: 0,
            settling: VecDeque::new(),
        };
        self.lanes.insert(chan, Lane::Consumer(lane));
        let consume = Consume {
            chan,
            queue: known.name,
            consumer_tag: "c".into(),
            prefetch_messages: rng.u32(0..8),
            prefetch_bytes: if rng.bool() { 0 } else { 1_000 },
            auto_ack: false,
            exclusive: false,
            priority: rng.i32(0..2),
            arguments: Table::default(),
        };
        self.ask(life, Op::Consume(consume), Asked::Nothing);
    }

    pub(super) fn settle_on_lane(&mut self, life: &mut Life, rng: &mut Rng) {
        let full = self
            .lanes
            .iter()
            .filter(|(_, lane)| matches!(lane, Lane::Consumer(lane) if !lane.out.is_empty()));
        let Some(chan) = pick(full.map(|(chan, _)| *chan), rng) else { return };
        let Some(Lane::Consumer(lane)) = self.lanes.get_mut(&chan) else { return };
        let Some(tag) = pick(lane.out.keys().copied(), rng) else { return };
        let multiple = rng.u8(..3) == 0;
        let how = match (lane.acks, rng.u8(..4)) {
            (true, 1..) | (false, 0) => Settle::Ack,
            (true, 0) | (false, 1) => Settle::Drop,
            _ => Settle::Requeue,
        };
        let tags: Vec<u64> =
            lane.out.keys().copied().filter(|t| *t == tag || (multiple && *t < tag)).collect();
        let ids: Vec<MsgId> = tags.iter().filter_map(|tag| lane.out.remove(tag)).collect();
        let (queue, consumer) = (lane.queue, lane.consumer);
        let to = if how == Settle::Drop { self.reject_from(queue) } else { [].into() };
        let mut done = Vec::new();
        for id in ids {
            let (asked, answered) = match (to.is_empty(), how) {
                (_, Settle::Requeue) => (
                    Event::ReturnSent { consumer, queue, id },
                    Event::Returned { consumer, queue, id, under_way: 0 },
                ),
                // Each of several letters is a move of its own.
                (false, _) => {
                    let batch = self.recorder.new_batch();
                    (Event::MoveSent { id, from: queue, to: Arc::clone(&to), batch }, Event::Moved { batch })
                }
                (true, _) => (Event::AckSent { queue, id }, Event::Acked { queue, id }),
            };
            self.recorder.record(asked);
            done.push(answered);
        }
        let Some(Lane::Consumer(lane)) = self.lanes.get_mut(&chan) else { return };
        lane.settles += 1;
        lane.settling.push_back((lane.settles, done));
        life.inputs.push_back(Input::Settle { chan, tag, multiple, how });
    }

    pub(super) fn close_lane(&mut self, life: &mut Life, rng: &mut Rng, reached: &mut Reached) {
        let Some(chan) = pick(self.lanes.keys().copied(), rng) else { return };
        let out = self.lanes.get(&chan).and_then(Lane::consuming).is_some_and(|(.., out)| out);
        reached.consumers_lost += u64::from(out);
        self.end_lane(life, chan);
    }

    pub(super) fn get(&mut self, life: &mut Life, rng: &mut Rng) {
        let Some(known) = self.pick(rng, |known| known.ready && !known.sole) else { return };
        if !self.take(known.queue) {
            return;
        }
        let consumer = self.recorder.new_consumer();
        if self.kinds {
            // What is taken may go back before anybody hears of it, and counts all the same.
            let (queue, share) = (known.queue, Share::Shared);
            self.recorder.record(Event::ConsumerStarted { consumer, queue, share });
        }
        let hold = Hold::Lease { lease_ms: rng.u64(1..200) };
        let get = Get { queue: known.name, count: rng.u32(1..6), bytes_max: 5_000, hold };
        self.ask(life, Op::Get(get), Asked::Get { consumer, queue: known.queue });
    }

    pub(super) fn settle_lease(&mut self, life: &mut Life, rng: &mut Rng) {
        if self.leases.is_empty() {
            return;
        }
        let (ack_id, id, queue, consumer) = self.leases.swap_remove(rng.usize(..self.leases.len()));
        let how = if rng.u8(..4) == 0 { Settle::Requeue } else { Settle::Ack };
        if how == Settle::Ack {
            self.recorder.record(Event::AckSent { queue, id });
        }
        let op = Op::SettleIds { ids: vec![ack_id], how };
        self.ask(life, op, Asked::Settle { queue, ids: vec![id], how, consumer });
    }
}

pub(super) fn publish(
    (exchange, key): (Arc<str>, Arc<str>),
    keep: Keep,
    priority: Option<u8>,
    body: Bytes,
    mandatory: bool,
) -> Publish {
    let mode: u8 = if keep == Keep::Persistent { 2 } else { 1 };
    Publish {
        exchange,
        routing_key: key,
        mandatory,
        persistent: keep == Keep::Persistent,
        properties: properties(mode, priority),
        body,
        blob: None,
        extras: priority.map(|priority| Box::new(PublishExtras { priority, ..PublishExtras::default() })),
    }
}

/// Only the delivery mode, flag bit 12 and its byte, and the priority, bit 11.
fn properties(mode: u8, priority: Option<u8>) -> Bytes {
    match priority {
        None => Bytes::from(vec![0x10, 0x00, mode]),
        Some(priority) => Bytes::from(vec![0x18, 0x00, mode, priority]),
    }
}
