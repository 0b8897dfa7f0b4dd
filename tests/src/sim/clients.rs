//! The simulated clients: what they ask of the core, and what they make of its answers, written to the record.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use leveret_broker::{
    AckId, Binding, ChanId, ConnId, ConnectionInfo, Consume, DeclareExchange, DeclareQueue, Deliver,
    DestinationKind, Effect, Get, Got, Hold, Input, Op, Outcome, Publish, Reply, ReqId, Settle, Table,
};

use super::world::{Life, Reached};
use crate::history::{BindingName, ConsumerRef, Event, Keep, Listed, QueueRef, Recorder, Share};
use crate::payload::{self, MsgId};

const FANOUT: &str = "all";
const CREDIT_BYTES: u64 = 4_000;

/// A queue as clients know it.
#[derive(Debug, Clone)]
struct Known {
    queue: QueueRef,
    name: Arc<str>,
    /// Asked for and answered; only then is it used.
    ready: bool,
    /// Bound to the fanout exchange, or asked to be.
    fanned: bool,
    /// Taken from by one consumer at a time and nobody else.
    sole: bool,
    /// Somebody took from it in this life of the server. A purge leaves what is out, also what its taker never saw.
    taken: bool,
}

/// What a request was.
#[derive(Debug)]
enum Asked {
    Nothing,
    Exchange,
    Declare(QueueRef),
    Delete(QueueRef),
    Purge(QueueRef),
    Bind(BindingName),
    Unbind(BindingName),
    Publish(Vec<MsgId>),
    Get { consumer: ConsumerRef, queue: QueueRef },
    Settle { queue: QueueRef, ids: Vec<MsgId>, how: Settle, consumer: ConsumerRef },
    Queues,
    Bindings,
    Drain { consumer: ConsumerRef, queue: QueueRef },
}

/// An open channel.
#[derive(Debug)]
enum Lane {
    Publisher { publisher: u32, tag: u64, unconfirmed: VecDeque<(u64, MsgId)> },
    Consumer(Consuming),
}

#[derive(Debug)]
struct Consuming {
    consumer: ConsumerRef,
    queue: QueueRef,
    /// Acks, and does not return anything.
    acks: bool,
    out: BTreeMap<u64, MsgId>,
    settles: u64,
    settling: VecDeque<(u64, Vec<MsgId>, Settle)>,
}

/// All of them.
pub(super) struct Clients {
    recorder: Recorder,
    queues: Vec<Known>,
    next_number: BTreeMap<u32, u64>,
    next_id: u64,
    names: u32,
    exchange_ready: bool,
    conn: ConnId,
    lanes: BTreeMap<ChanId, Lane>,
    asked: BTreeMap<ReqId, Asked>,
    /// Leases that were taken: ack id, message, queue.
    leases: Vec<(AckId, MsgId, QueueRef, ConsumerRef)>,
    listed_queues: Vec<Listed>,
    listed_bindings: Vec<BindingName>,
    dry: bool,
}

impl Clients {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            queues: Vec::new(),
            next_number: BTreeMap::new(),
            next_id: 1,
            names: 0,
            exchange_ready: false,
            conn: ConnId(0),
            lanes: BTreeMap::new(),
            asked: BTreeMap::new(),
            leases: Vec::new(),
            listed_queues: Vec::new(),
            listed_bindings: Vec::new(),
            dry: false,
        }
    }

    /// The server is gone, and with it everything under way. What was asked for and not answered may or may not be;
    /// nobody uses it again.
    pub(super) fn forget(&mut self) {
        self.lanes.clear();
        self.asked.clear();
        self.leases.clear();
        self.exchange_ready = false;
        for known in &mut self.queues {
            known.sole = known.sole && known.ready;
            known.taken = false;
        }
    }

    pub(super) fn begin(&mut self, life: &mut Life, rng: &mut Rng) {
        self.conn = ConnId(self.id());
        life.inputs.push_back(Input::ConnectionOpened { conn: self.conn, info: ConnectionInfo::default() });
        // Declared again in every life: what exists already is answered as quickly as it is durable.
        let op = Op::DeclareExchange(DeclareExchange {
            name: FANOUT.into(),
            kind: "fanout".into(),
            durable: true,
            auto_delete: false,
            internal: false,
            passive: false,
            arguments: Table::default(),
        });
        self.ask(life, op, Asked::Exchange);
        for known in self.queues.clone() {
            if known.ready && rng.bool() {
                self.ask_declare(life, &known.name, known.queue);
            }
        }
    }

    /// One thing that some client does.
    pub(super) fn act(&mut self, life: &mut Life, rng: &mut Rng, reached: &mut Reached) {
        let ready = self.queues.iter().filter(|known| known.ready).count();
        if ready < 3 {
            return self.declare_new(life, rng);
        }
        match rng.u8(..40) {
            0..12 => self.publish_on_lane(life, rng),
            12..16 => self.publish_batch(life, rng),
            16..18 => self.open_lane(life, rng),
            18..25 => self.settle_on_lane(life, rng),
            25..28 => self.get(life, rng),
            28..31 => self.settle_lease(life, rng),
            31 => self.close_lane(life, rng, reached),
            32 => self.bind(life, rng),
            33 => self.purge(life, rng),
            34 => self.delete(life, rng),
            35 if self.queues.len() < 12 => self.declare_new(life, rng),
            36 => self.redeclare(life, rng),
            _ => self.publish_on_lane(life, rng),
        }
    }

    /// What the server has to say reaches its client.
    pub(super) fn receive(&mut self, effect: Effect, life: &mut Life) {
        match effect {
            Effect::Reply { req, result } => {
                if let Some(asked) = self.asked.remove(&req) {
                    self.answered(asked, result, life);
                }
            }
            Effect::Confirms { chan, upto, others } => {
                let Some(Lane::Publisher { unconfirmed, .. }) = self.lanes.get_mut(&chan) else { return };
                while unconfirmed.front().is_some_and(|(tag, _)| *tag <= upto) {
                    let Some((tag, id)) = unconfirmed.pop_front() else { break };
                    let other = others.iter().find(|(other, _)| *other == tag);
                    if other.is_none_or(|(_, outcome)| {
                        matches!(outcome, Outcome::Routed { .. } | Outcome::Unrouted)
                    }) {
                        self.recorder.record(Event::Confirmed { id });
                    }
                }
            }
            Effect::Deliver(deliver) => self.delivered(&deliver, life),
            Effect::Settled { chan, upto, .. } => {
                let Some(Lane::Consumer(lane)) = self.lanes.get_mut(&chan) else { return };
                while lane.settling.front().is_some_and(|(number, ..)| *number <= upto) {
                    let Some((_, ids, how)) = lane.settling.pop_front() else { break };
                    let (queue, consumer) = (lane.queue, lane.consumer);
                    self.recorder.record_all(ids.into_iter().map(|id| match how {
                        Settle::Requeue => Event::Returned { consumer, queue, id },
                        _ => Event::Acked { queue, id },
                    }));
                }
            }
            Effect::ConsumerCancelled { chan, .. } => {
                if let Some(Lane::Consumer(lane)) = self.lanes.remove(&chan) {
                    self.recorder.record(Event::ConsumerGone { consumer: lane.consumer });
                    life.inputs.push_back(Input::ChannelClosed { chan });
                }
            }
            Effect::Return { .. } | Effect::Warn { .. } => {}
            Effect::Append { .. } | Effect::Fetch(_) => panic!("the host carries these out"),
        }
    }

    pub(super) fn ask_listings(&mut self, life: &mut Life) {
        self.ask(life, Op::ListQueues { name: None }, Asked::Queues);
        self.ask(life, Op::ListBindings, Asked::Bindings);
    }

    pub(super) fn take_listings(&mut self) -> (Vec<Listed>, Vec<BindingName>) {
        let queues = std::mem::take(&mut self.listed_queues);
        let bindings = std::mem::take(&mut self.listed_bindings);
        // Queues whose declare was not answered are there or not: what is there can be used from here on.
        for known in &mut self.queues {
            known.ready = known.ready && queues.iter().any(|listed| *listed.name == *known.name);
            known.fanned =
                bindings.iter().any(|binding| binding.queue == *known.name && binding.key.is_empty());
        }
        (queues, bindings)
    }

    pub(super) fn waits_for_nothing(&self) -> bool {
        self.asked.is_empty()
    }

    /// The newest life of every name.
    pub(super) fn queues_to_drain(&self) -> Vec<QueueRef> {
        self.queues.iter().map(|known| known.queue).collect()
    }

    /// Takes some messages of a queue and acks them; false when the queue is not there.
    pub(super) fn drain_some(&mut self, life: &mut Life, queue: &QueueRef) -> bool {
        let Some(known) = self.queues.iter().find(|known| known.queue == *queue).cloned() else {
            return false;
        };
        self.dry = true;
        let consumer = self.recorder.new_consumer();
        self.recorder.record(Event::ConsumerStarted { consumer, queue: *queue, share: Share::Sole });
        let get = Get { queue: known.name, count: 50, bytes_max: 1 << 20, hold: Hold::AutoAck };
        self.ask(life, Op::Get(get), Asked::Drain { consumer, queue: *queue });
        true
    }

    pub(super) fn drained_dry(&self) -> bool {
        self.dry
    }

    fn answered(&mut self, asked: Asked, result: Result<Reply, leveret_broker::Refusal>, life: &mut Life) {
        let ok = result.is_ok();
        match (asked, result) {
            (Asked::Nothing, _) => {}
            (Asked::Exchange, _) => self.exchange_ready = ok,
            // Declared once more while its delete was on its way: the answer says nothing of what is there now.
            (Asked::Declare(queue), Ok(_)) if self.is_leaving(queue) => {}
            (Asked::Declare(queue), Ok(Reply::QueueDeclared { messages_ready, .. })) => {
                self.recorder.record(Event::Declared { queue, ready: messages_ready });
                if let Some(known) = self.queues.iter_mut().find(|known| known.queue == queue) {
                    known.ready = true;
                }
            }
            (Asked::Delete(queue), Ok(_)) => self.deleted(life, queue),
            (Asked::Purge(queue), Ok(_)) => self.recorder.record(Event::Purged { queue }),
            (Asked::Bind(binding), Ok(_)) => self.recorder.record(Event::Bound { binding }),
            (Asked::Unbind(binding), Ok(_)) => self.recorder.record(Event::Unbound { binding }),
            (Asked::Publish(ids), Ok(_)) => {
                self.recorder.record_all(ids.into_iter().map(|id| Event::Confirmed { id }));
            }
            (Asked::Get { consumer, queue }, Ok(Reply::Got(got))) => self.got(consumer, queue, got),
            (Asked::Settle { queue, ids, how, consumer }, Ok(Reply::SettledIds(results))) => {
                for (id, result) in ids.into_iter().zip(results) {
                    self.recorder.record_all(match (result, how) {
                        (Ok(()), Settle::Requeue) => Some(Event::Returned { consumer, queue, id }),
                        (Ok(()), _) => Some(Event::Acked { queue, id }),
                        (Err(_), Settle::Requeue) => None,
                        (Err(_), _) => Some(Event::AckRefused { queue, id }),
                    });
                }
            }
            (Asked::Queues, Ok(Reply::Queues(rows))) => {
                let messages =
                    |row: &leveret_broker::QueueRow| row.messages_ready + row.messages_unacknowledged;
                let listed = |row: leveret_broker::QueueRow| Listed {
                    messages: messages(&row),
                    name: row.name.to_string(),
                };
                self.listed_queues = rows.into_iter().map(listed).collect();
            }
            (Asked::Bindings, Ok(Reply::Bindings(rows))) => {
                let named = rows.into_iter().filter(|row| !row.binding.source.is_empty());
                self.listed_bindings = named.map(|row| name_of(&row.binding)).collect();
            }
            (Asked::Drain { consumer, queue }, Ok(Reply::Got(got))) => {
                self.dry = got.messages.is_empty();
                for message in got.messages {
                    let id =
                        self.recorder.delivered(consumer, queue, &message.message.body, message.redelivered);
                    if let Some(id) = id {
                        self.recorder.record_all([Event::AckSent { queue, id }, Event::Acked { queue, id }]);
                    }
                }
            }
            // Refused, or the queue is gone: nothing is known.
            _ => {}
        }
    }

    fn got(&mut self, consumer: ConsumerRef, queue: QueueRef, got: Got) {
        self.recorder.record(Event::ConsumerStarted { consumer, queue, share: Share::Shared });
        for message in got.messages {
            let body = &message.message.body;
            if let Some(id) = self.recorder.delivered(consumer, queue, body, message.redelivered) {
                // The lease may end at any time.
                self.recorder.record(Event::ReturnSent { consumer, queue, id });
                self.leases.push((message.ack_id, id, queue, consumer));
            }
        }
    }

    fn delivered(&mut self, deliver: &Deliver, life: &mut Life) {
        let Some(Lane::Consumer(lane)) = self.lanes.get_mut(&deliver.chan) else { return };
        let message = &deliver.message;
        let id = self.recorder.delivered(lane.consumer, lane.queue, &message.body, deliver.redelivered);
        if let Some(id) = id {
            lane.out.insert(deliver.delivery_tag, id);
        }
        let bytes = message.cost_bytes();
        life.inputs.push_back(Input::Writable { chan: deliver.chan, bytes });
    }

    fn declare_new(&mut self, life: &mut Life, rng: &mut Rng) {
        if self.queues.iter().filter(|known| !known.ready).count() > 3 && self.queues.len() > 8 {
            return;
        }
        self.names += 1;
        let name: Arc<str> = format!("q{}", self.names).into();
        let queue = self.recorder.new_queue();
        let sole = rng.u8(..3) == 0;
        self.queues.push(Known {
            queue,
            name: Arc::clone(&name),
            ready: false,
            fanned: false,
            sole,
            taken: false,
        });
        self.recorder.record(Event::DeclareSent { queue, name: name.to_string() });
        self.ask_declare(life, &name, queue);
    }

    fn ask_declare(&mut self, life: &mut Life, name: &Arc<str>, queue: QueueRef) {
        let op = Op::DeclareQueue(DeclareQueue {
            name: Arc::clone(name),
            durable: true,
            exclusive: false,
            auto_delete: false,
            passive: false,
            arguments: Table::default(),
        });
        self.ask(life, op, Asked::Declare(queue));
    }

    fn redeclare(&mut self, life: &mut Life, rng: &mut Rng) {
        if let Some(known) = self.pick(rng, |known| known.ready) {
            self.ask_declare(life, &known.name, known.queue);
        }
    }

    fn bind(&mut self, life: &mut Life, rng: &mut Rng) {
        let Some(known) = self.pick(rng, |known| known.ready && !known.sole) else { return };
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

    fn purge(&mut self, life: &mut Life, rng: &mut Rng) {
        let Some(known) = self.pick(rng, |known| known.ready && !known.taken) else { return };
        self.recorder.record(Event::PurgeSent { queue: known.queue });
        self.ask(life, Op::PurgeQueue { name: known.name }, Asked::Purge(known.queue));
    }

    /// Deletes a queue. Nobody uses it from here on.
    fn delete(&mut self, life: &mut Life, rng: &mut Rng) {
        let Some(known) = self.pick(rng, |known| known.ready && !known.fanned) else { return };
        self.recorder.record(Event::DeleteSent { queue: known.queue });
        let op = Op::DeleteQueue { name: Arc::clone(&known.name), if_unused: false, if_empty: false };
        self.ask(life, op, Asked::Delete(known.queue));
        if let Some(known) = self.queues.iter_mut().find(|other| other.queue == known.queue) {
            known.ready = false;
        }
    }

    /// A queue was deleted: its name is declared again, as another queue.
    fn deleted(&mut self, life: &mut Life, old: QueueRef) {
        self.recorder.record(Event::Deleted { queue: old });
        let queue = self.recorder.new_queue();
        let Some(known) = self.queues.iter_mut().find(|known| known.queue == old) else { return };
        known.queue = queue;
        let name = Arc::clone(&known.name);
        self.recorder.record(Event::DeclareSent { queue, name: name.to_string() });
        self.ask_declare(life, &name, queue);
    }

    /// A message for one queue, or for all that are bound: none may be bound halfway meanwhile.
    fn message(&mut self, publisher: u32, rng: &mut Rng) -> Option<(Publish, Event, MsgId)> {
        let fanout = self.exchange_ready && rng.u8(..4) == 0;
        let bound: Vec<QueueRef> = self.queues.iter().filter(|k| k.fanned).map(|k| k.queue).collect();
        let asking = self.asked.values().any(|asked| matches!(asked, Asked::Bind(_)));
        let unsure = self.queues.iter().any(|k| k.fanned && !k.ready);
        let (exchange, key, queues): (Arc<str>, Arc<str>, Arc<[QueueRef]>) =
            if fanout && !bound.is_empty() && !asking && !unsure && self.binds_are_sure() {
                (FANOUT.into(), "".into(), bound.into())
            } else {
                let known = self.pick(rng, |known| known.ready)?;
                ("".into(), known.name, [known.queue].into())
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
        let mode: u8 = if keep == Keep::Persistent { 2 } else { 1 };
        let publish = Publish {
            exchange,
            routing_key: key,
            mandatory: rng.bool(),
            persistent: keep == Keep::Persistent,
            // Only the delivery mode: flag bit 12 and its byte.
            properties: Bytes::from(vec![0x10, 0x00, mode]),
            body,
        };
        let batch = self.recorder.new_batch();
        let length = publish.body.len() as u32;
        Some((publish, Event::Sent { id, length, keep, batch, queues }, id))
    }

    /// Every binding that was asked for in an earlier life was answered or found in a listing: else where a message
    /// to the exchange goes is not known.
    fn binds_are_sure(&self) -> bool {
        !self.asked.values().any(|asked| matches!(asked, Asked::Bind(_)))
            && self.queues.iter().filter(|known| known.fanned).all(|known| known.ready)
    }

    fn publish_on_lane(&mut self, life: &mut Life, rng: &mut Rng) {
        let publishers = self.lanes.iter().filter(|(_, lane)| matches!(lane, Lane::Publisher { .. }));
        let Some((chan, publisher)) = pick(publishers.map(|(chan, lane)| (*chan, publisher_of(lane))), rng)
        else {
            return self.open_lane(life, rng);
        };
        let Some((publish, sent, id)) = self.message(publisher, rng) else { return };
        self.recorder.record(sent);
        let Some(Lane::Publisher { tag, unconfirmed, .. }) = self.lanes.get_mut(&chan) else { return };
        *tag += 1;
        unconfirmed.push_back((*tag, id));
        life.inputs.push_back(Input::Publish { chan, tag: *tag, vhost: "/".into(), publish });
    }

    fn publish_batch(&mut self, life: &mut Life, rng: &mut Rng) {
        let (mut batch, mut ids) = (Vec::new(), Vec::new());
        let mut shared = None;
        for _ in 0..rng.u8(1..6) {
            let Some((publish, sent, id)) = self.message(100, rng) else { return };
            let Event::Sent { id: _, length, keep, batch: fate, queues } = sent else { return };
            let fate = *shared.get_or_insert(fate);
            self.recorder.record(Event::Sent { id, length, keep, batch: fate, queues });
            batch.push(publish);
            ids.push(id);
        }
        self.ask(life, Op::Publish(batch), Asked::Publish(ids));
    }

    fn open_lane(&mut self, life: &mut Life, rng: &mut Rng) {
        if self.lanes.len() > 6 {
            return;
        }
        let chan = ChanId(self.id());
        let opened = Input::ChannelOpened { conn: self.conn, chan, credit_bytes: CREDIT_BYTES };
        if rng.bool() {
            // One lane per publisher at a time, so that its numbers keep their order.
            let taken: Vec<u32> = self.lanes.values().map(publisher_of).collect();
            let Some(publisher) = (1..4).find(|number| !taken.contains(number)) else { return };
            life.inputs.push_back(opened);
            self.lanes.insert(chan, Lane::Publisher { publisher, tag: 0, unconfirmed: VecDeque::new() });
            return;
        }
        let Some(known) = self.pick(rng, |known| known.ready) else { return };
        let busy = |lane: &Lane| matches!(lane, Lane::Consumer(lane) if lane.queue == known.queue);
        if (known.sole && self.lanes.values().any(busy)) || !self.take(known.queue) {
            return;
        }
        life.inputs.push_back(opened);
        let consumer = self.recorder.new_consumer();
        let share = if known.sole { Share::Sole } else { Share::Shared };
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

    fn settle_on_lane(&mut self, life: &mut Life, rng: &mut Rng) {
        let full = self
            .lanes
            .iter()
            .filter(|(_, lane)| matches!(lane, Lane::Consumer(lane) if !lane.out.is_empty()));
        let Some(chan) = pick(full.map(|(chan, _)| *chan), rng) else { return };
        let Some(Lane::Consumer(lane)) = self.lanes.get_mut(&chan) else { return };
        let Some(tag) = pick(lane.out.keys().copied(), rng) else { return };
        let multiple = rng.u8(..3) == 0;
        let how = match (lane.acks, rng.u8(..4)) {
            (true, _) | (false, 0) => Settle::Ack,
            (false, 1) => Settle::Drop,
            _ => Settle::Requeue,
        };
        let tags: Vec<u64> =
            lane.out.keys().copied().filter(|t| *t == tag || (multiple && *t < tag)).collect();
        let ids: Vec<MsgId> = tags.iter().filter_map(|tag| lane.out.remove(tag)).collect();
        let (queue, consumer) = (lane.queue, lane.consumer);
        self.recorder.record_all(ids.iter().map(|id| match how {
            Settle::Requeue => Event::ReturnSent { consumer, queue, id: *id },
            _ => Event::AckSent { queue, id: *id },
        }));
        lane.settles += 1;
        lane.settling.push_back((lane.settles, ids, how));
        life.inputs.push_back(Input::Settle { chan, tag, multiple, how });
    }

    fn close_lane(&mut self, life: &mut Life, rng: &mut Rng, reached: &mut Reached) {
        let Some(chan) = pick(self.lanes.keys().copied(), rng) else { return };
        if let Some(Lane::Consumer(lane)) = self.lanes.remove(&chan) {
            reached.consumers_lost += u64::from(!lane.out.is_empty());
            self.recorder.record(Event::ConsumerGone { consumer: lane.consumer });
        }
        life.inputs.push_back(Input::ChannelClosed { chan });
    }

    fn get(&mut self, life: &mut Life, rng: &mut Rng) {
        let Some(known) = self.pick(rng, |known| known.ready && !known.sole) else { return };
        if !self.take(known.queue) {
            return;
        }
        let consumer = self.recorder.new_consumer();
        let hold = Hold::Lease { lease_ms: rng.u64(1..200) };
        let get = Get { queue: known.name, count: rng.u32(1..6), bytes_max: 5_000, hold };
        self.ask(life, Op::Get(get), Asked::Get { consumer, queue: known.queue });
    }

    fn settle_lease(&mut self, life: &mut Life, rng: &mut Rng) {
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

    /// Marks the queue as taken from; false while a purge is on its way.
    fn take(&mut self, queue: QueueRef) -> bool {
        if self.asked.values().any(|asked| matches!(asked, Asked::Purge(other) if *other == queue)) {
            return false;
        }
        self.queues.iter_mut().filter(|known| known.queue == queue).for_each(|known| known.taken = true);
        true
    }

    fn is_leaving(&self, queue: QueueRef) -> bool {
        self.asked.values().any(|asked| matches!(asked, Asked::Delete(other) if *other == queue))
    }

    fn ask(&mut self, life: &mut Life, op: Op, asked: Asked) {
        let req = ReqId(self.id());
        self.asked.insert(req, asked);
        life.inputs.push_back(Input::Request { req, conn: None, vhost: "/".into(), op });
    }

    fn pick(&self, rng: &mut Rng, which: impl Fn(&Known) -> bool) -> Option<Known> {
        pick(self.queues.iter().filter(|known| which(known)).cloned(), rng)
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

fn publisher_of(lane: &Lane) -> u32 {
    match lane {
        Lane::Publisher { publisher, .. } => *publisher,
        Lane::Consumer(_) => 0,
    }
}

fn name_of(binding: &Binding) -> BindingName {
    BindingName {
        exchange: binding.source.to_string(),
        queue: binding.destination.to_string(),
        key: binding.routing_key.to_string(),
    }
}

fn pick<T>(from: impl Iterator<Item = T>, rng: &mut Rng) -> Option<T> {
    let mut all: Vec<T> = from.collect();
    if all.is_empty() { None } else { Some(all.swap_remove(rng.usize(..all.len()))) }
}
