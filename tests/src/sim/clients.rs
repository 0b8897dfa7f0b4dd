//! The simulated clients: what they make of the core's answers, written to the record. What they do stands in
//! `actions`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fastrand::Rng;
use leveret_broker::{
    AckId, Binding, ChanId, ConnId, ConnectionInfo, Deliver, Effect, Get, Got, Hold, Input, Op, Outcome,
    Reply, ReqId, Settle, Table,
};

use super::kinds::{self, Kind};
use super::reached::Reached;
use super::world::Life;
use crate::history::{BindingName, ConsumerRef, Event, Listed, QueueRef, Recorder, Share};
use crate::payload::MsgId;

mod actions;
mod queues;
mod scripted;
mod transactions;

use queues::DeadLetters;
pub(super) use scripted::Deed;
use transactions::{Committing, Transacting};

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
    /// Something of it was rejected in this life of the server. What has to be read before it can go where dead letters
    /// go is lost if the queue is deleted meanwhile.
    rejected: bool,
    arguments: Table,
    kind: Kind,
    dead: DeadLetters,
    /// Dead letters go there.
    target: bool,
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
    TxConsume(ChanId),
    TxSelect(ChanId),
    Commit(Committing),
    Rollback(ChanId),
}

/// An open channel.
#[derive(Debug)]
enum Lane {
    Publisher { publisher: u32, tag: u64, unconfirmed: VecDeque<(u64, MsgId)> },
    Consumer(Consuming),
    Tx(Transacting),
}

impl Lane {
    /// Who consumes on it, what, and whether something is out.
    fn consuming(&self) -> Option<(ConsumerRef, QueueRef, bool)> {
        match self {
            Self::Publisher { .. } => None,
            Self::Consumer(lane) => Some((lane.consumer, lane.queue, !lane.out.is_empty())),
            Self::Tx(lane) => Some((lane.consumer, lane.queue, !lane.out.is_empty())),
        }
    }

    fn queue(&self) -> Option<QueueRef> {
        self.consuming().map(|(_, queue, _)| queue)
    }
}

#[derive(Debug)]
struct Consuming {
    consumer: ConsumerRef,
    queue: QueueRef,
    /// Acks, and does not return anything.
    acks: bool,
    out: BTreeMap<u64, MsgId>,
    settles: u64,
    /// What is recorded when a settlement is answered.
    settling: VecDeque<(u64, Vec<Event>)>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Clients {
    recorder: Recorder,
    /// Queues of other kinds than plain classic ones.
    pub(super) kinds: bool,
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
    /// Where each message was ever to go, and from where it was to move there.
    aims: BTreeMap<MsgId, Vec<(QueueRef, Option<QueueRef>)>>,
    pub(super) commits: u64,
    /// Those of them that had something to roll back.
    pub(super) rollbacks: u64,
}

impl Clients {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            kinds: false,
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
            aims: BTreeMap::new(),
            commits: 0,
            rollbacks: 0,
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
            known.rejected = false;
        }
    }

    pub(super) fn begin(&mut self, life: &mut Life, rng: &mut Rng) {
        self.conn = ConnId(self.id());
        life.inputs.push_back(Input::ConnectionOpened { conn: self.conn, info: ConnectionInfo::default() });
        // Declared again in every life: what exists already is answered as quickly as it is durable.
        self.ask_exchange(life, &FANOUT.into(), Asked::Exchange);
        for known in self.queues.clone() {
            if known.ready && rng.bool() {
                self.ask_declare(life, &known);
            }
        }
    }

    /// One thing that some client does.
    pub(super) fn act(&mut self, life: &mut Life, rng: &mut Rng, reached: &mut Reached) {
        let ready = self.queues.iter().filter(|known| known.ready).count();
        if ready < 3 {
            return self.declare_new(life, rng);
        }
        match rng.u8(..48) {
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
            40.. => self.transact(life, rng),
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
                while lane.settling.front().is_some_and(|(number, _)| *number <= upto) {
                    let Some((_, done)) = lane.settling.pop_front() else { break };
                    self.recorder.record_all(done);
                }
            }
            Effect::ConsumerCancelled { chan, .. } => {
                self.end_lane(life, chan);
            }
            Effect::ChannelFailed { chan, .. } => self.end_lane(life, chan),
            Effect::Dropped { req } => {
                self.asked.remove(&req).into_iter().for_each(|asked| self.dropped(asked));
            }
            Effect::Return { .. } | Effect::Warn { .. } | Effect::AccessChanged => {}
            Effect::ConnectionForced { .. } => panic!("no user or virtual host is deleted"),
            Effect::Append { .. } | Effect::Fetch(_) | Effect::Spill(_) | Effect::Release { .. } => {
                panic!("the host carries these out")
            }
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
            let fans = |binding: &BindingName| binding.queue == *known.name && binding.exchange == FANOUT;
            known.fanned = bindings.iter().any(fans);
        }
        (queues, bindings)
    }

    pub(super) fn waits_for_nothing(&self) -> bool {
        self.asked.is_empty()
    }

    /// The newest life of every name.
    pub(super) fn queues_to_drain(&self) -> Vec<(QueueRef, Arc<str>)> {
        self.queues.iter().map(|known| (known.queue, Arc::clone(&known.name))).collect()
    }

    /// Takes some messages of a queue and acks them.
    pub(super) fn drain_some(&mut self, life: &mut Life, queue: &QueueRef, name: Arc<str>) {
        self.dry = true;
        let consumer = self.recorder.new_consumer();
        self.recorder.record(Event::ConsumerStarted { consumer, queue: *queue, share: Share::Sole });
        let get = Get { queue: name, count: 50, bytes_max: 1 << 20, hold: Hold::AutoAck };
        self.ask(life, Op::Get(get), Asked::Drain { consumer, queue: *queue });
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
                        (Ok(()), Settle::Requeue) => {
                            Some(Event::Returned { consumer, queue, id, under_way: 0 })
                        }
                        (Ok(()), _) => Some(Event::Gone { queue, id }),
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
                    let body = &message.message.body;
                    let id = self.came((consumer, queue), body, message.redelivered, message.delivery_count);
                    if let Some(id) = id {
                        self.recorder.record_all([Event::AckSent { queue, id }, Event::Acked { queue, id }]);
                    }
                }
            }
            (Asked::TxConsume(chan), result) => self.tx_consuming(chan, &result, life),
            (Asked::TxSelect(chan), result) => self.tx_selected(chan, &result, life),
            (Asked::Commit(done), result) => self.committed(done, &result, life),
            (Asked::Rollback(chan), result) => self.rolled_back(chan, &result, life),
            // Refused, or the queue is gone: nothing is known.
            _ => {}
        }
    }

    fn got(&mut self, consumer: ConsumerRef, queue: QueueRef, got: Got) {
        self.recorder.record(Event::ConsumerStarted { consumer, queue, share: Share::Shared });
        for message in got.messages {
            let body = &message.message.body;
            let id = self.came((consumer, queue), body, message.redelivered, message.delivery_count);
            if let Some(id) = id {
                // The lease may end at any time.
                self.recorder.record(Event::ReturnSent { consumer, queue, id });
                self.leases.push((message.ack_id, id, queue, consumer));
            }
        }
    }

    fn delivered(&mut self, deliver: &Deliver, life: &mut Life) {
        let consuming = self.lanes.get(&deliver.chan).and_then(Lane::consuming);
        let Some((consumer, queue, _)) = consuming else { return };
        let message = &deliver.message;
        let id = self.came((consumer, queue), &message.body, deliver.redelivered, deliver.delivery_count);
        match (id, self.lanes.get_mut(&deliver.chan)) {
            (Some(id), Some(Lane::Consumer(lane))) => drop(lane.out.insert(deliver.delivery_tag, id)),
            (Some(id), Some(Lane::Tx(lane))) => lane.delivered(deliver, id),
            _ => {}
        }
        let bytes = message.cost_bytes();
        life.inputs.push_back(Input::Writable { chan: deliver.chan, bytes });
    }

    /// Records a delivery, and gives the message's name. `count`: how often it came back, as far as its queue counts that.
    fn came(
        &self,
        (consumer, queue): (ConsumerRef, QueueRef),
        body: &[u8],
        redelivered: bool,
        count: Option<u32>,
    ) -> Option<MsgId> {
        let id = self.recorder.delivered(consumer, queue, body, redelivered)?;
        if self.kinds {
            self.recorder.record(Event::Counted { queue, id, count });
        }
        Some(id)
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
        self.ask_as(life, None, op, asked);
    }

    /// Asks on a strict channel.
    fn ask_on(&mut self, life: &mut Life, chan: ChanId, op: Op, asked: Asked) {
        self.ask_as(life, Some(chan), op, asked);
    }

    fn ask_as(&mut self, life: &mut Life, chan: Option<ChanId>, op: Op, asked: Asked) {
        let req = ReqId(self.id());
        self.asked.insert(req, asked);
        let conn = chan.map(|_| self.conn);
        life.inputs.push_back(Input::Request { req, conn, chan, user: None, vhost: "/".into(), op });
    }

    /// A channel is over: its client closes it.
    fn end_lane(&mut self, life: &mut Life, chan: ChanId) {
        let Some(lane) = self.lanes.remove(&chan) else { return };
        if let Some((consumer, ..)) = lane.consuming() {
            self.recorder.record(Event::ConsumerGone { consumer });
        }
        life.inputs.push_back(Input::ChannelClosed { chan });
    }

    /// Records a publish, and remembers where it goes.
    fn record_sent(&mut self, sent: Event) {
        if let Event::Sent { id, queues, .. } = &sent {
            queues.iter().for_each(|queue| self.aim(*id, *queue, None));
        }
        self.recorder.record(sent);
    }

    /// The priority that a message asks for.
    fn priority_of(&self, id: MsgId) -> Option<u8> {
        if self.kinds { kinds::priority_of(id) } else { None }
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
        Lane::Tx(lane) => lane.publisher,
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
