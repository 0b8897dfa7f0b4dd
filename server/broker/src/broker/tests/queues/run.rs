//! One history: the broker, its store and the naive queues side by side.

use std::collections::{BTreeMap, BTreeSet};

use super::Step;
use super::naive::{Conf, Message, Naive, No, Queue};
use crate::Settings;
use crate::arguments::Overflow;
use crate::broker::Broker;
use crate::broker::tests::store::{Mark, Store};
use crate::broker::tests::world::{
    SETTINGS, World, arguments_of, confirms, get, queue, string, text, with_properties,
};
use crate::effect::{Batch, Effect, GotMessage, Outcome, Reply};
use crate::ids::{AckId, QueueId, Ticket};
use crate::input::{DeclareQueue, Hold, Input, Op, Publish, Settle};
use crate::properties::Properties;
use crate::record;
use crate::refusal::RefusalKind;
use crate::value::{Table, Value};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Beyond the end of every history: what comes back while something else expires is read back in no order.
const LEASE_MS: u64 = 1_000_000;

pub(super) struct Run {
    world: World,
    naive: Naive,
    /// What is out: the newest id of each.
    held: BTreeMap<(&'static str, No), AckId>,
    /// As it was before the last step, with what that appended.
    base: Store,
    batches: Vec<Batch>,
    last_no: No,
    pub(super) reached: Reached,
}

/// What histories came by, so that an empty run does not pass for a good one.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub(super) deliveries: u64,
    pub(super) fetches: u64,
    pub(super) spilled: u64,
    pub(super) refused: u64,
    pub(super) expired: u64,
    pub(super) dropped: u64,
    pub(super) worn_out: u64,
    pub(super) moved: u64,
    pub(super) circles: u64,
    pub(super) opens: u64,
}

impl Reached {
    pub(super) fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.fetches += other.fetches;
        self.spilled += other.spilled;
        self.refused += other.refused;
        self.expired += other.expired;
        self.dropped += other.dropped;
        self.worn_out += other.worn_out;
        self.moved += other.moved;
        self.circles += other.circles;
        self.opens += other.opens;
    }
}

impl Run {
    pub(super) fn new(memory_budget_bytes: u64, confs: [Conf; 3]) -> Self {
        let mut world = World::with(Settings { memory_budget_bytes, ..SETTINGS });
        world.open(1, 1);
        let mut naive = Naive::default();
        naive.now_ms = world.now_ms;
        for (name, conf) in NAMES.into_iter().zip(confs) {
            let arguments = arguments(&conf);
            world.ok(Op::DeclareQueue(DeclareQueue { arguments, ..queue(name) }));
            naive.queues.insert(name, Queue { conf, messages: Vec::new() });
        }
        let base = world.store.clone();
        Self {
            world,
            naive,
            held: BTreeMap::new(),
            base,
            batches: Vec::new(),
            last_no: 0,
            reached: Reached::default(),
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        if let Step::Crash { part } = step {
            return self.crash(part);
        }
        self.base = self.world.store.clone();
        self.batches.clear();
        match step {
            Step::Publish { queue, persistent, size, priority, expiration_ms } => {
                self.publish(NAMES[queue], persistent, size, priority, expiration_ms);
            }
            Step::Get { queue, count, lease } => self.get(NAMES[queue], count, lease),
            Step::Settle { which, how } => self.settle(which, how),
            Step::Tick { ms } => self.tick(ms),
            Step::Purge { queue } => {
                let name = NAMES[queue];
                let (reply, _) = self.ask(Op::PurgeQueue { name: name.into() });
                let Reply::Removed { messages } = reply else { panic!("{reply:?}") };
                assert_eq!(messages, self.naive.purge(name));
            }
            Step::Restart => return self.restart(),
            Step::Crash { .. } => unreachable!("done above"),
        }
        self.naive.come_to_rest();
        self.compare();
        self.check_prefixes();
    }

    /// Empties all queues, comparing what comes.
    pub(super) fn drain(&mut self) {
        while !self.held.is_empty() {
            self.step(Step::Settle { which: 0, how: Settle::Requeue });
        }
        self.step(Step::Tick { ms: 100 });
        for (queue, name) in NAMES.into_iter().enumerate() {
            while self.naive.queues[name].ready().next().is_some() {
                self.step(Step::Get { queue, count: 100, lease: false });
            }
        }
        assert_eq!(self.world.broker.stats().body_bytes, 0);
        assert!(self.world.store.queues.values().all(|q| q.live.is_empty()));
        assert!(self.world.store.spilled.is_empty(), "what is gone is released");
        assert_eq!(self.world.broker.stats().messages_ready, 0);
        let reached = &mut self.reached;
        (reached.expired, reached.dropped) = (self.naive.expired, self.naive.dropped);
        (reached.moved, reached.circles) = (self.naive.moved, self.naive.circles);
        reached.worn_out = self.naive.worn_out;
    }

    fn turn(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.world.send(input);
        for effect in &effects {
            match effect {
                Effect::Append { batch, .. } => self.batches.push(copy(batch)),
                Effect::Fetch(_) => self.reached.fetches += 1,
                Effect::Spill(put) => self.reached.spilled += put.targets.len() as u64,
                _ => {}
            }
        }
        effects
    }

    fn ask(&mut self, op: Op) -> (Reply, Vec<Effect>) {
        let input = self.world.request(Some(1), op);
        let mut effects = self.turn(input);
        let at = effects.iter().position(|effect| matches!(effect, Effect::Reply { .. }));
        match effects.remove(at.expect("it is answered")) {
            Effect::Reply { result, .. } => (result.expect("it is granted"), effects),
            _ => unreachable!("it was found as a reply"),
        }
    }

    fn publish(
        &mut self,
        name: &'static str,
        persistent: bool,
        size: usize,
        priority: u8,
        expiration_ms: Option<u64>,
    ) {
        self.last_no += 1;
        let no = self.last_no;
        let expiration_ms = expiration_ms.filter(|_| !self.naive.queues[name].conf.is_limited());
        let body = format!("{no}{}", ".".repeat(size));
        let message = Message {
            no,
            order: 0,
            priority,
            given_priority: priority,
            persistent,
            received_ms: self.naive.now_ms,
            expiration_ms,
            size: body.len() as u64,
            deaths: Vec::new(),
            attempts: 0,
            delivered: false,
            out: false,
        };
        let properties = Properties {
            priority: Some(priority),
            expiration: expiration_ms.map(|ms| ms.to_string()),
            ..Properties::default()
        };
        let publish = Publish { persistent, ..with_properties(name, &body, &properties) };
        let input = self.world.publish_input(1, publish);
        let effects = self.turn(input);
        let others: Vec<_> = confirms(&effects, 1).into_iter().flat_map(|(_, others)| others).collect();
        let refused = others.iter().any(|(_, o)| *o == Outcome::Rejected(RefusalKind::Overflow));
        assert_eq!(refused, !self.naive.publish(name, message), "whether {name} refuses {no}");
        self.reached.refused += u64::from(refused);
    }

    fn get(&mut self, name: &'static str, count: u32, lease: bool) {
        let hold = if lease { Hold::Lease { lease_ms: LEASE_MS } } else { Hold::AutoAck };
        let (reply, _) = self.ask(Op::Get(get(name, count, hold)));
        let Reply::Got(got) = reply else { panic!("{reply:?}") };
        assert!(got.messages.len() <= count as usize);
        for got in &got.messages {
            let expected = self.naive.take(name, lease);
            let expected = expected.unwrap_or_else(|| panic!("{got:?} of {name}, which is empty"));
            self.delivered(name, got, &expected);
            if lease {
                self.held.insert((name, expected.no), got.ack_id);
            }
            // What comes next may have expired.
            self.naive.come_to_rest();
        }
        if got.messages.is_empty() {
            assert_eq!(self.naive.queues[name].ready().count(), 0, "an empty answer lies");
        }
    }

    fn delivered(&mut self, name: &str, got: &GotMessage, expected: &Message) {
        self.reached.deliveries += 1;
        assert_eq!(number(&text(&got.message.body)), expected.no, "the next message of {name}");
        assert_eq!((got.redelivered, got.attempt), (expected.delivered, expected.attempts + 1));
        let limit = self.naive.queues[name].conf.limit;
        assert_eq!(got.delivery_count, limit.map(|_| expected.attempts));
        assert_eq!(got.message.dead_lettered, !expected.deaths.is_empty());
        assert_eq!(deaths(&got.message.properties), owned(&expected.deaths));
    }

    fn settle(&mut self, which: usize, how: Settle) {
        if self.held.is_empty() {
            return;
        }
        let (name, no) = *self.held.keys().nth(which % self.held.len()).expect("it is there");
        let id = self.held.remove(&(name, no)).expect("it is there");
        let (reply, _) = self.ask(Op::SettleIds { ids: vec![id], how });
        assert!(matches!(&reply, Reply::SettledIds(results) if results == &[Ok(())]), "{reply:?}");
        self.naive.settle(name, no, how);
    }

    fn tick(&mut self, ms: u64) {
        self.world.now_ms += ms;
        self.naive.now_ms += ms;
        self.turn(Input::Tick { now_ms: self.world.now_ms });
    }

    /// A message that was in the log before the last step and is after it was there once all the time; one that is not
    /// persistent may have come by a queue that does not keep it.
    fn check_prefixes(&self) {
        let (before, after) = (copies(&self.base), copies(&self.world.store));
        let mut store = self.base.clone();
        for (n, batch) in self.batches.iter().enumerate() {
            store.apply(Ticket(self.base.issued + n as u64 + 1), batch);
            let now = copies(&store);
            for (no, kept) in before.iter().filter(|(no, _)| after.contains_key(no)) {
                assert!(now.contains_key(no) || !kept.persistent, "{no} is nowhere after append {n}");
            }
            assert!(now.values().all(|kept| kept.copies == 1), "a message twice after append {n}: {now:?}");
        }
    }

    fn compare(&self) {
        for (name, expected) in &self.naive.queues {
            let id = self.world.broker.queue_id(name).expect("it exists");
            let queue = &self.world.broker.queues[&id];
            let ready = expected.ready().count();
            let counts = (queue.messages_ready(), queue.messages_unacknowledged());
            assert_eq!(counts, (ready as u64, (expected.messages.len() - ready) as u64), "counts of {name}");
            let stored: BTreeSet<No> =
                expected.messages.iter().filter(|m| expected.stores(m)).map(|m| m.no).collect();
            let found: BTreeSet<No> = self.world.stored(name).iter().map(|body| number(body)).collect();
            assert_eq!(found, stored, "what the log has of {name}");
        }
    }

    fn restart(&mut self) {
        for queue in self.naive.queues.values_mut() {
            let conf_stores = queue.conf.limit.is_some();
            queue.messages.retain(|m| m.persistent || conf_stores);
            for message in &mut queue.messages {
                (message.attempts, message.out) = (0, false);
            }
        }
        let mark = self.world.broker.at_close();
        let store = self.world.store.clone();
        self.reopen(store, Some(mark));
    }

    fn crash(&mut self, part: usize) {
        let mut store = self.base.clone();
        for (n, batch) in self.batches.iter().take(part % (self.batches.len() + 1)).enumerate() {
            store.apply(Ticket(self.base.issued + n as u64 + 1), batch);
        }
        self.naive_of(&store);
        self.reopen(store, None);
    }

    fn reopen(&mut self, mut store: Store, mark: Option<Mark>) {
        self.reached.opens += 1;
        let recovered = store.reopen(mark);
        let settings = self.world.broker.settings.clone();
        self.world.broker = Broker::new(settings, recovered, self.world.now_ms).expect("the store is sound");
        self.world.store = store;
        self.world.forget_tags();
        self.held.clear();
        self.batches.clear();
        self.world.open(1, 1);
        self.naive.come_to_rest();
        self.compare();
        self.base = self.world.store.clone();
    }

    /// The naive queues of what a crash left.
    fn naive_of(&mut self, store: &Store) {
        for name in NAMES {
            let id = self.world.broker.queue_id(name).expect("it exists");
            let upper = self.world.broker.queues[&id].upper_levels().map(|(_, level)| level);
            let levels: Vec<QueueId> = upper.chain([id]).collect();
            let mut left = Vec::new();
            for record in levels.iter().filter_map(|id| store.queues.get(id)).flat_map(|q| q.live.values()) {
                let message = record::decode_message(record).expect("a message");
                let properties = Properties::decode(&message.properties).expect("sound");
                let body = text(&message.body);
                left.push(Message {
                    no: number(&body),
                    order: self.naive.next_order(),
                    priority: 0,
                    given_priority: properties.priority.unwrap_or(0),
                    persistent: message.persistent,
                    received_ms: message.received_ms,
                    expiration_ms: message.expiration_ms,
                    size: body.len() as u64,
                    deaths: deaths(&message.properties)
                        .into_iter()
                        .map(|(queue, reason, count)| (queue, static_reason(&reason), count))
                        .collect(),
                    attempts: 0,
                    delivered: true,
                    out: false,
                });
            }
            let queue = self.naive.queues.get_mut(name).expect("it exists");
            queue.messages.clear();
            left.into_iter().for_each(|message| queue.push(message));
        }
    }
}

fn arguments(conf: &Conf) -> Table {
    let number = |key, value: Option<u64>| value.map(|n| (key, Value::I64(n as i64)));
    let overflow = match conf.overflow {
        Overflow::DropHead => "drop-head",
        Overflow::RejectPublish => "reject-publish",
        Overflow::RejectPublishDlx => "reject-publish-dlx",
    };
    let priorities = (conf.priority_max > 0).then_some(u64::from(conf.priority_max));
    let optional = [
        number("x-message-ttl", conf.ttl_ms),
        number("x-max-length", conf.length_max),
        number("x-max-length-bytes", conf.bytes_max),
        number("x-max-priority", priorities),
        number("x-delivery-limit", conf.limit.map(u64::from)),
        conf.limit.map(|_| ("x-queue-type", string("quorum"))),
        conf.to.map(|_| ("x-dead-letter-exchange", string(""))),
        conf.to.map(|to| ("x-dead-letter-routing-key", string(to))),
        Some(("x-overflow", string(overflow))),
    ];
    arguments_of(&optional.into_iter().flatten().collect::<Vec<_>>())
}

fn number(body: &str) -> No {
    body.trim_end_matches('.').parse().expect("bodies begin with a number")
}

/// What the store has of a message.
#[derive(Debug, Default)]
struct Kept {
    copies: u64,
    persistent: bool,
}

fn copies(store: &Store) -> BTreeMap<No, Kept> {
    let mut copies: BTreeMap<No, Kept> = BTreeMap::new();
    for record in store.queues.values().flat_map(|queue| queue.live.values()) {
        let message = record::decode_message(record).expect("a message");
        let kept = copies.entry(number(&text(&message.body))).or_default();
        (kept.copies, kept.persistent) = (kept.copies + 1, message.persistent);
    }
    copies
}

fn copy(batch: &Batch) -> Batch {
    Batch {
        queues_created: batch.queues_created.clone(),
        puts: batch.puts.clone(),
        acks: batch.acks.clone(),
        facts: batch.facts.clone(),
        queues_deleted: batch.queues_deleted.clone(),
    }
}

fn owned(deaths: &[(String, &'static str, i64)]) -> Vec<(String, String, i64)> {
    deaths.iter().map(|(queue, reason, count)| (queue.clone(), reason.to_string(), *count)).collect()
}

fn static_reason(reason: &str) -> &'static str {
    let known = ["rejected", "expired", "maxlen", "delivery_limit"];
    known.into_iter().find(|known| *known == reason).expect("a reason")
}

/// The history of deaths in encoded properties.
fn deaths(properties: &[u8]) -> Vec<(String, String, i64)> {
    let headers = Properties::decode(properties).expect("sound").headers.unwrap_or_default();
    let Some(Value::Array(deaths)) = headers.get("x-death") else { return Vec::new() };
    let entry = |death: &Value| match death {
        Value::Table(death) => match (death.get("queue"), death.get("reason"), death.get("count")) {
            (Some(Value::Bytes(queue)), Some(Value::Bytes(reason)), Some(Value::I64(count))) => {
                (text(queue), text(reason), *count)
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    deaths.iter().map(entry).collect()
}
