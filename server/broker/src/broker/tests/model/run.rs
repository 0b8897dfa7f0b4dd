//! One history: the broker, its store and the oracle side by side.

mod channels;
mod check;
mod settle;
mod tx;

use std::collections::{BTreeMap, BTreeSet};

use super::oracle::{No, Oracle, Queue, State};
use super::survival::{Promises, survivors};
use super::{Hold, Step, Target};
use crate::Settings;
use crate::broker::Broker;
use crate::broker::tests::store::{Mark, Store};
use crate::broker::tests::world::{SETTINGS, binding, consumer, get, message, queue, settlement, text};
use crate::effect::{Batch, Fetch, Outcome, Put};
use crate::ids::{AckId, ChanId, ConnId, Epoch, QueueId, ReqId, Seq, Ticket};
use crate::input::{ConnectionInfo, Consume, DeclareQueue, Hold as Held, Input, Op, Publish, Settle};
use crate::message::Message;
use crate::refusal::RefusalKind;
use crate::value::Value;

/// The second one has a single active consumer, the third one is transient.
const QUEUES: [&str; 3] = ["a", "b", "t"];
const LEASE_MS: u64 = 50;
const CREDIT_BYTES: u64 = 1_500;

pub(super) struct Run {
    broker: Broker,
    settings: Settings,
    /// As the epoch began, with what was appended since.
    base: Store,
    batches: Vec<Batch>,
    /// All of it.
    store: Store,
    confirmable: u64,
    fetches: Vec<Fetch>,
    /// Messages that wait to be spilled, and places that were and the broker does not know.
    spills: Vec<Put>,
    told: Vec<(QueueId, Seq)>,
    oracle: Oracle,
    /// The channels that steps speak of, by what they are called now.
    slots: [u64; 3],
    chans: BTreeMap<u64, Chan>,
    consumers: BTreeMap<String, Consumer>,
    /// Who alone gets messages of the second queue.
    active: Option<String>,
    /// The channel that is about to fail.
    failing: Option<u64>,
    asked: BTreeMap<u64, Asked>,
    promises: Promises,
    now_ms: u64,
    last: Last,
    /// A hash over all effects, in order.
    pub(super) trace: u64,
    pub(super) reached: Reached,
}

/// What histories came by, so that an empty run does not pass for a good one.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub(super) deliveries: u64,
    pub(super) redeliveries: u64,
    pub(super) fetches: u64,
    pub(super) spilled: u64,
    pub(super) spilled_in_vain: u64,
    pub(super) late: u64,
    pub(super) stale: u64,
    pub(super) opens: u64,
    pub(super) commits: u64,
    pub(super) takeovers: u64,
}

/// Numbers given out.
#[derive(Default)]
struct Last {
    no: No,
    req: u64,
    chan: u64,
    consumer: u64,
}

#[derive(Default)]
struct Chan {
    /// Delivery tags that are out, also of queues that are gone.
    out: BTreeMap<u64, (QueueId, No)>,
    /// Per publish: outcome and, per durable target, what its confirm promises.
    publishes: Vec<(Outcome, Vec<(QueueId, No)>)>,
    confirmed: u64,
    /// Per settlement: what is gone when it is done.
    settlements: Vec<Vec<(QueueId, No)>>,
    unknown: Vec<(u64, u64)>,
    settled: u64,
    /// What a transaction is to settle, by delivery tag.
    in_tx: BTreeMap<u64, ((QueueId, No), Settle)>,
}

struct Consumer {
    number: u64,
    priority: i32,
    chan: u64,
    queue: QueueId,
    auto_ack: bool,
    prefetch: u32,
    out: BTreeSet<(QueueId, No)>,
}

/// What an answer must say, and what it promises.
enum Asked {
    Nothing,
    Published(Vec<(QueueId, No)>),
    Committed { stored: Vec<(QueueId, No)>, gone: Vec<(QueueId, No)> },
    Removed(u64, Vec<(QueueId, No)>),
    Deleted(QueueId, bool),
    Declared(QueueId),
    Settled(Result<(), RefusalKind>, Vec<(QueueId, No)>),
    Got { queue: QueueId, count: usize, hold: Held },
}

impl Reached {
    pub(super) fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.redeliveries += other.redeliveries;
        self.fetches += other.fetches;
        self.spilled += other.spilled;
        self.spilled_in_vain += other.spilled_in_vain;
        self.late += other.late;
        self.stale += other.stale;
        self.opens += other.opens;
        self.commits += other.commits;
        self.takeovers += other.takeovers;
    }
}

impl Run {
    pub(super) fn new(memory_budget_bytes: u64) -> Self {
        let settings = Settings { memory_budget_bytes, ..SETTINGS };
        let mut store = Store::default();
        let recovered = store.reopen(None);
        let mut run = Self {
            broker: Broker::new(settings.clone(), recovered, 0).expect("an empty store is sound"),
            settings,
            base: store.clone(),
            batches: Vec::new(),
            store,
            confirmable: 0,
            fetches: Vec::new(),
            spills: Vec::new(),
            told: Vec::new(),
            oracle: Oracle::default(),
            slots: [0; 3],
            chans: BTreeMap::new(),
            consumers: BTreeMap::new(),
            active: None,
            failing: None,
            asked: BTreeMap::new(),
            promises: Promises::default(),
            now_ms: 0,
            last: Last::default(),
            trace: 0,
            reached: Reached::default(),
        };
        run.begin();
        run
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Publish { chan, target, persistent } => self.publish(chan, target, persistent),
            Step::Batch { count, queue } => self.batch(count, queue),
            Step::Consume { chan, queue, prefetch, auto_ack, priority } => {
                self.consume(chan, queue, prefetch, auto_ack, priority)
            }
            Step::Cancel { consumer } => self.cancel(consumer),
            Step::Get { queue, count, hold } => self.get(queue, count, hold),
            Step::Settle { chan: tx::TX, delivery, multiple, how } => {
                self.settle_in_tx(delivery, multiple, how)
            }
            Step::Settle { chan, delivery, multiple, how } => self.settle(chan, delivery, multiple, how),
            Step::SettleId { delivery, how } => self.settle_id(delivery, how),
            Step::Purge { queue } => self.purge(queue),
            Step::DeleteAndDeclare { queue } => {
                self.delete(queue);
                self.declare(queue);
            }
            Step::CloseChannel { chan } => self.close_channel(chan),
            Step::Credit { chan } => {
                let chan = ChanId(self.slots[chan]);
                self.input(Input::Writable { chan, bytes: CREDIT_BYTES });
            }
            Step::Commit { targets } => self.commit(targets),
            Step::Rollback { publishes } => self.rollback(publishes),
            Step::Fail => self.fail(),
            Step::Tick => self.tick(LEASE_MS / 3),
            Step::EndTurn => self.finish(),
            Step::Confirm { part } => {
                let open = self.store.issued - self.confirmable;
                self.confirmable += part as u64 % (open + 1);
                self.input(Input::Confirmable { ticket: Ticket(self.confirmable) });
                self.finish();
            }
            Step::Answer { limit } => self.answer(limit),
            Step::Spill => self.spill(),
            Step::Restart => self.restart(),
            Step::Crash { part } => self.crash(part),
        }
    }

    /// Lets everything finish, and compares all that is left.
    pub(super) fn drain(&mut self) {
        for slot in 0..3 {
            self.close_channel(slot);
        }
        // Gets that still wait take their leases first.
        self.quiesce();
        self.tick(10 * LEASE_MS);
        self.quiesce();
        for slot in 0..QUEUES.len() {
            for _ in 0..1_000 {
                if self.oracle.queues[&self.queue(slot)].messages.is_empty() {
                    break;
                }
                self.get(slot, 3, Hold::AutoAck);
                self.quiesce();
            }
            assert_eq!(self.oracle.queues[&self.queue(slot)].messages.len(), 0, "the queue drains");
        }
        assert!(self.asked.is_empty(), "every request is answered");
        let stats = self.broker.stats();
        assert_eq!((stats.body_bytes, stats.confirmed), (0, stats.published));
        assert!(self.store.queues.values().all(|q| q.live.is_empty()));
        assert!(self.store.spilled.is_empty(), "what is gone is released: {:?}", self.store.spilled);
    }

    fn begin(&mut self) {
        self.input(Input::ConnectionOpened { conn: ConnId(1), info: ConnectionInfo::default() });
        for slot in 0..3 {
            self.open_channel(slot);
        }
        for (slot, name) in QUEUES.into_iter().enumerate() {
            match self.broker.queue_id(name) {
                None => self.declare(slot),
                // A crash may have cut off its binding.
                Some(_) => self.request(Op::Bind(binding("amq.fanout", name, "")), Asked::Nothing),
            }
        }
        self.finish();
    }

    fn queue(&self, slot: usize) -> QueueId {
        self.broker.queue_id(QUEUES[slot]).expect("declared at once when deleted")
    }

    fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        for (queue, no) in self.oracle.out_where(|s| matches!(s, State::Leased(end) if end <= self.now_ms)) {
            self.oracle.settle(queue, no, true);
        }
        self.input(Input::Tick { now_ms: self.now_ms });
    }

    fn request(&mut self, op: Op, asked: Asked) {
        self.last.req += 1;
        self.asked.insert(self.last.req, asked);
        let (req, conn) = (ReqId(self.last.req), Some(ConnId(1)));
        self.input(Input::Request { req, conn, chan: None, user: None, vhost: "/".into(), op });
    }

    fn declare(&mut self, slot: usize) {
        let name = QUEUES[slot];
        let durable = name != "t";
        // The answer comes after the input at the earliest, and the id is the next one.
        let id = self.broker.next_queue_id;
        self.oracle.queues.insert(id, Queue { durable, ..Queue::default() });
        let mut declare = DeclareQueue { durable, ..queue(name) };
        if slot == 1 {
            declare.arguments.0.push(("x-single-active-consumer".into(), Value::Bool(true)));
        }
        self.request(Op::DeclareQueue(declare), Asked::Declared(id));
        self.request(Op::Bind(binding("amq.fanout", name, "")), Asked::Nothing);
    }

    fn delete(&mut self, slot: usize) {
        let id = self.queue(slot);
        // What a consumer can take at this moment it may still get, so the turn ends before.
        self.finish();
        self.consumers.retain(|_, c| c.queue != id);
        self.elect();
        self.oracle.queues.remove(&id);
        let op = Op::DeleteQueue { name: QUEUES[slot].into(), if_unused: false, if_empty: false };
        self.request(op, Asked::Deleted(id, QUEUES[slot] != "t"));
    }

    fn purge(&mut self, slot: usize) {
        self.finish();
        let id = self.queue(slot);
        let gone: Vec<_> = self.oracle.purge(id).into_iter().map(|no| (id, no)).collect();
        self.request(Op::PurgeQueue { name: QUEUES[slot].into() }, Asked::Removed(gone.len() as u64, gone));
    }

    fn message(&mut self, target: Target, persistent: bool) -> (Publish, Outcome, Vec<(QueueId, No)>) {
        self.last.no += 1;
        let no = self.last.no;
        let (exchange, key, targets) = match target {
            Target::Queue(slot) => ("", QUEUES[slot], vec![self.queue(slot)]),
            Target::All => ("amq.fanout", "", (0..QUEUES.len()).map(|slot| self.queue(slot)).collect()),
            Target::Nowhere => ("", "nowhere", Vec::new()),
        };
        for queue in &targets {
            self.oracle.publish(*queue, no, persistent);
        }
        let outcome = match targets.len() {
            0 => Outcome::Unrouted,
            queues => Outcome::Routed { queues: queues as u32 },
        };
        let promised = targets.into_iter().filter(|id| persistent && self.oracle.queues[id].durable);
        let promised = promised.map(|id| (id, no)).collect();
        (Publish { persistent, ..message(exchange, key, &no.to_string()) }, outcome, promised)
    }

    fn publish(&mut self, slot: usize, target: Target, persistent: bool) {
        let (publish, outcome, promised) = self.message(target, persistent);
        let id = self.slots[slot];
        let chan = self.chans.get_mut(&id).expect("slots are open");
        chan.publishes.push((outcome, promised));
        let tag = chan.publishes.len() as u64;
        self.input(Input::Publish { chan: ChanId(id), tag, vhost: "/".into(), publish });
    }

    fn batch(&mut self, count: usize, slot: usize) {
        let (mut publishes, mut promises) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (publish, _, promised) = self.message(Target::Queue(slot), true);
            publishes.push(publish);
            promises.extend(promised);
        }
        self.request(Op::Publish(publishes), Asked::Published(promises));
    }

    fn get(&mut self, slot: usize, count: u32, hold: Hold) {
        let hold = match hold {
            Hold::AutoAck => Held::AutoAck,
            Hold::Lease => Held::Lease { lease_ms: LEASE_MS },
            Hold::Channel(slot) => Held::Channel(ChanId(self.slots[slot])),
        };
        let asked = Asked::Got { queue: self.queue(slot), count: count as usize, hold };
        self.request(Op::Get(get(QUEUES[slot], count, hold)), asked);
    }

    fn answer(&mut self, limit: usize) {
        if self.fetches.is_empty() {
            return;
        }
        let mut fetch = self.fetches.remove(0);
        fetch.count_max = fetch.count_max.min(limit as u32 + 1);
        let answer = self.store.answer(&fetch);
        let wanted = self.broker.queues.get(&self.broker.owner(fetch.queue));
        let wanted = wanted.is_some_and(|q| q.generation(fetch.queue) == Some(fetch.generation));
        self.reached.late += u64::from(!wanted);
        self.input(Input::Fetched(answer));
        self.finish();
    }

    fn spill(&mut self) {
        if !self.told.is_empty() {
            self.reached.spilled += self.told.len() as u64;
            let places = std::mem::take(&mut self.told);
            let is_gone = |(queue, seq): &&(QueueId, Seq)| !self.store.spilled.contains_key(&(*queue, seq.0));
            self.reached.spilled_in_vain += places.iter().filter(is_gone).count() as u64;
            self.input(Input::Spilled { places });
        }
        for put in std::mem::take(&mut self.spills) {
            self.told.extend(self.store.spill(&put));
        }
        self.finish();
    }

    /// What waits to be spilled is not any more where nobody wants it; what is spilled already is told all the same.
    pub(super) fn release(&mut self, places: &[(QueueId, Seq, Seq)]) {
        self.store.release(places);
        for put in &mut self.spills {
            put.targets.retain(|(queue, seq)| {
                !places.iter().any(|(of, first, last)| *of == *queue && (*first..=*last).contains(seq))
            });
        }
        self.spills.retain(|put| !put.targets.is_empty());
    }

    fn quiesce(&mut self) {
        self.finish();
        for _ in 0..10_000 {
            let spilled = self.spills.is_empty() && self.told.is_empty();
            if spilled && self.fetches.is_empty() && self.confirmable == self.store.issued {
                return;
            }
            self.spill();
            self.confirmable = self.store.issued;
            self.input(Input::Confirmable { ticket: Ticket(self.confirmable) });
            match self.fetches.is_empty() {
                true => self.finish(),
                false => self.answer(100),
            }
        }
        panic!("core and store turn in a circle");
    }

    fn finish(&mut self) {
        let mut out = Vec::new();
        self.broker.finish(&mut out);
        self.take_in(out);
        self.compare();
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.broker.step(input, &mut out);
        self.take_in(out);
    }

    fn compare(&self) {
        for (id, expected) in &self.oracle.queues {
            let queue = &self.broker.queues[id];
            let counts = (queue.messages_ready(), queue.messages_unacknowledged());
            assert_eq!(counts, (expected.ready(), expected.out()), "counts of {}", queue.props.name);
        }
        assert_eq!(self.broker.queues.len(), self.oracle.queues.len());
    }

    fn restart(&mut self) {
        self.finish();
        let mark = self.broker.at_close();
        let store = self.store.clone();
        self.reopen(store, Some(mark));
    }

    fn crash(&mut self, part: usize) {
        self.finish();
        let survived =
            self.confirmable as usize + part % (self.batches.len() + 1 - self.confirmable as usize);
        let mut store = self.base.clone();
        for (n, batch) in self.batches.iter().take(survived).enumerate() {
            store.apply(Ticket(n as u64 + 1), batch);
        }
        self.reopen(store, None);
    }

    fn reopen(&mut self, mut store: Store, mark: Option<Mark>) {
        let clean = mark.is_some();
        self.reached.opens += 1;
        self.promises.check(&self.oracle, &store);
        let recovered = store.reopen(mark);
        self.oracle.queues = survivors(&self.oracle, &store, clean);
        self.broker = Broker::new(self.settings.clone(), recovered, self.now_ms).expect("the store is sound");
        (self.base, self.store) = (store.clone(), store);
        self.batches.clear();
        self.confirmable = 0;
        self.fetches.clear();
        self.spills.clear();
        self.told.clear();
        self.chans.clear();
        self.consumers.clear();
        self.active = None;
        self.asked.clear();
        self.compare();
        let known: Vec<AckId> = self.oracle.ids.iter().map(|(id, _)| *id).collect();
        assert!(known.iter().all(|id| id.epoch < self.broker.epoch && id.epoch > Epoch(0)));
        // Whatever a crash cut off of the promises is not promised again; what was kept still is.
        self.begin();
    }
}

pub(super) fn number(message: &Message) -> No {
    text(&message.body).parse().expect("bodies are numbers")
}

fn pick<T>(mut from: impl ExactSizeIterator<Item = T>, which: usize) -> Option<T> {
    let count = from.len();
    if count == 0 { None } else { from.nth(which % count) }
}
