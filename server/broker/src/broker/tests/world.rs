//! A broker with its store, and short words for what tests say to it.

mod ask;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use super::parts::{arguments_of, expiring, numbers_from, string, with_properties};
use super::store::Store;
use crate::broker::Broker;
use crate::effect::{Deliver, Effect, Fetch, Got, GotMessage, Outcome, Put, QueueRow, Reply};
use crate::ids::{AckId, ChanId, ConnId, ReqId, Ticket};
use crate::input::{
    Binding, ConnectionInfo, Consume, DeclareExchange, DeclareQueue, DestinationKind, Get, Hold, Input, Op,
    Publish, Settle,
};
use crate::refusal::{Refusal, RefusalKind};
use crate::value::{Table, Value};
use crate::{NameKey, Settings, record};

pub(crate) const SETTINGS: Settings = Settings {
    memory_budget_bytes: 1 << 20,
    message_bytes_max: 1 << 16,
    append_bytes_max: 1 << 20,
    name_key: NameKey::new([7; NameKey::BYTES]),
};

pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    /// The store answers within the turn; else a test says when.
    pub(crate) prompt: bool,
    /// Fetches that wait for their answer.
    pub(crate) fetches: Vec<Fetch>,
    /// Messages that wait to be spilled.
    pub(crate) spills: Vec<Put>,
    pub(crate) now_ms: u64,
    requests: u64,
    tags: Vec<(ChanId, u64)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(SETTINGS)
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let mut store = Store::default();
        let recovered = store.reopen(None);
        Self::on(store, settings, recovered, 1_000)
    }

    fn on(store: Store, settings: Settings, recovered: crate::Recovered, now_ms: u64) -> Self {
        let broker = Broker::new(settings, recovered, now_ms).expect("the store is sound");
        let (fetches, spills, tags) = (Vec::new(), Vec::new(), Vec::new());
        Self { broker, store, prompt: true, fetches, spills, now_ms, requests: 0, tags }
    }

    /// A world with connection 1 and channel 1 on it.
    pub(crate) fn ready() -> Self {
        let mut world = Self::new();
        world.open(1, 1);
        world
    }

    pub(crate) fn crash(mut self) -> Self {
        let recovered = self.store.reopen(None);
        Self::on(self.store, self.broker.settings.clone(), recovered, self.now_ms)
    }

    /// What a start makes of a store at some moment.
    pub(crate) fn crashed(mut store: Store, settings: Settings) -> Self {
        let recovered = store.reopen(None);
        Self::on(store, settings, recovered, 1_000)
    }

    pub(crate) fn restart(mut self) -> Self {
        let mark = self.broker.at_close();
        let recovered = self.store.reopen(Some(mark));
        Self::on(self.store, self.broker.settings.clone(), recovered, self.now_ms)
    }

    /// One turn. With a prompt store also those that follow from it.
    pub(crate) fn turn(&mut self, inputs: Vec<Input>) -> Vec<Effect> {
        let mut out = Vec::new();
        let mut seen = Vec::new();
        for input in inputs {
            self.broker.step(input, &mut out);
        }
        self.broker.finish(&mut out);
        loop {
            let before = self.store.issued;
            self.absorb(&mut out, &mut seen);
            let rests = self.fetches.is_empty() && self.spills.is_empty();
            if !self.prompt || (rests && before == self.store.issued) {
                return seen;
            }
            self.broker.step(Input::Confirmable { ticket: Ticket(self.store.issued) }, &mut out);
            for fetch in std::mem::take(&mut self.fetches) {
                self.broker.step(Input::Fetched(self.store.answer(&fetch)), &mut out);
            }
            for put in std::mem::take(&mut self.spills) {
                let places = self.store.spill(&put);
                self.broker.step(Input::Spilled { places }, &mut out);
            }
            self.broker.finish(&mut out);
        }
    }

    fn absorb(&mut self, out: &mut Vec<Effect>, seen: &mut Vec<Effect>) {
        for effect in out.drain(..) {
            match &effect {
                Effect::Append { ticket, batch, .. } => self.store.apply(*ticket, batch),
                Effect::Fetch(fetch) => self.fetches.push(fetch.clone()),
                Effect::Spill(put) => self.spills.push(put.clone()),
                Effect::Release { places } => self.store.release(places),
                _ => {}
            }
            seen.push(effect);
        }
    }

    pub(crate) fn send(&mut self, input: Input) -> Vec<Effect> {
        self.turn(vec![input])
    }

    /// Everything appended so far is confirmable.
    pub(crate) fn confirm(&mut self) -> Vec<Effect> {
        let ticket = Ticket(self.store.issued);
        self.send(Input::Confirmable { ticket })
    }

    /// Answers the fetches that wait.
    pub(crate) fn answer(&mut self) -> Vec<Effect> {
        let answers = std::mem::take(&mut self.fetches);
        let inputs = answers.iter().map(|fetch| Input::Fetched(self.store.answer(fetch))).collect();
        self.turn(inputs)
    }

    pub(crate) fn tick(&mut self, ms: u64) -> Vec<Effect> {
        self.now_ms += ms;
        self.send(Input::Tick { now_ms: self.now_ms })
    }

    pub(crate) fn open(&mut self, conn: u64, chan: u64) {
        self.connect(conn);
        self.send(channel_opened(conn, chan, 1 << 40));
    }

    pub(crate) fn connect(&mut self, conn: u64) {
        let info = ConnectionInfo::default();
        self.send(Input::ConnectionOpened { conn: ConnId(conn), info });
    }

    /// A request's input.
    pub(crate) fn request(&mut self, conn: Option<u64>, op: Op) -> Input {
        self.requests += 1;
        Input::Request {
            req: ReqId(self.requests),
            conn: conn.map(ConnId),
            chan: None,
            user: None,
            vhost: Arc::from("/"),
            op,
        }
    }

    /// Asks and returns the answer, if it came.
    pub(crate) fn try_ask(&mut self, conn: Option<u64>, op: Op) -> Option<Result<Reply, Refusal>> {
        let input = self.request(conn, op);
        let effects = self.send(input);
        replies(effects, self.requests)
    }

    pub(crate) fn ask(&mut self, conn: Option<u64>, op: Op) -> Result<Reply, Refusal> {
        self.try_ask(conn, op).expect("the answer comes at once")
    }

    #[track_caller]
    pub(crate) fn ok(&mut self, op: Op) -> Reply {
        self.ask(Some(1), op).expect("it is granted")
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, op: Op) -> Refusal {
        self.ask(Some(1), op).expect_err("it is refused")
    }

    #[track_caller]
    pub(crate) fn refused_with(&mut self, op: Op, kind: RefusalKind, text: &str) {
        let refusal = self.refused(op);
        assert_eq!((refusal.kind, &*refusal.text), (kind, text));
    }

    pub(crate) fn declare(&mut self, name: &str) {
        self.ok(Op::DeclareQueue(queue(name)));
    }

    pub(crate) fn declare_with(&mut self, name: &str, arguments: &[(&str, Value)]) {
        self.ok(Op::DeclareQueue(DeclareQueue { arguments: arguments_of(arguments), ..queue(name) }));
    }

    /// Channels begin anew.
    pub(crate) fn forget_tags(&mut self) {
        self.tags.clear();
    }

    pub(crate) fn publish_input(&mut self, chan: u64, publish: Publish) -> Input {
        let chan = ChanId(chan);
        let tag = match self.tags.iter_mut().find(|(c, _)| *c == chan) {
            Some((_, tag)) => {
                *tag += 1;
                *tag
            }
            None => {
                self.tags.push((chan, 1));
                1
            }
        };
        Input::Publish { chan, tag, vhost: Arc::from("/"), publish }
    }

    pub(crate) fn publish(&mut self, publish: Publish) -> Vec<Effect> {
        let input = self.publish_input(1, publish);
        self.send(input)
    }

    /// Whether a publish is refused.
    pub(crate) fn refused_publish(&mut self, publish: Publish) -> bool {
        let effects = self.publish(publish);
        let others = confirms(&effects, 1).into_iter().flat_map(|(_, others)| others);
        others.into_iter().any(|(_, outcome)| matches!(outcome, Outcome::Rejected(_)))
    }

    /// Publishes persistent messages with these bodies to a queue.
    pub(crate) fn fill(&mut self, queue: &str, bodies: &[&str]) {
        for body in bodies {
            self.publish(to_queue(queue, body));
        }
    }

    pub(crate) fn consume(&mut self, chan: u64, queue: &str, tag: &str) -> Vec<Deliver> {
        self.consume_with(consumer(chan, queue, tag))
    }

    #[track_caller]
    pub(crate) fn consume_with(&mut self, consume: Consume) -> Vec<Deliver> {
        let input = self.request(Some(1), Op::Consume(consume));
        let mut effects = self.send(input);
        let delivered = deliveries(&mut effects);
        let reply = replies(effects, self.requests).expect("consume is answered at once");
        assert!(matches!(reply, Ok(Reply::Consuming { .. })), "{reply:?}");
        delivered
    }

    pub(crate) fn settle(&mut self, chan: u64, tag: u64, multiple: bool, how: Settle) -> Vec<Effect> {
        self.send(settlement(chan, tag, multiple, how))
    }

    pub(crate) fn ack(&mut self, chan: u64, tag: u64) -> Vec<Effect> {
        self.settle(chan, tag, false, Settle::Ack)
    }

    #[track_caller]
    pub(crate) fn got(&mut self, queue: &str, count: u32, hold: Hold) -> Got {
        match self.ok(Op::Get(get(queue, count, hold))) {
            Reply::Got(got) => got,
            other => panic!("{other:?}"),
        }
    }

    /// Takes messages under a lease of 1000 ms.
    #[track_caller]
    pub(crate) fn leased(&mut self, queue: &str, count: u32) -> Vec<GotMessage> {
        self.got(queue, count, Hold::Lease { lease_ms: 1_000 }).messages
    }

    /// Bodies of all ready messages, taken for good.
    #[track_caller]
    pub(crate) fn drain(&mut self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let got = self.got(queue, 1_000, Hold::AutoAck);
            if got.messages.is_empty() {
                return bodies;
            }
            bodies.extend(got.messages.iter().map(|m| text(&m.message.body)));
        }
    }

    #[track_caller]
    pub(crate) fn settle_ids(&mut self, ids: &[AckId], how: Settle) -> Vec<Result<(), RefusalKind>> {
        match self.ok(Op::SettleIds { ids: ids.to_vec(), how }) {
            Reply::SettledIds(results) => results.into_iter().map(|r| r.map_err(|e| e.kind)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn row(&mut self, queue: &str) -> QueueRow {
        match self.ok(Op::ListQueues { name: Some(Arc::from(queue)) }) {
            Reply::Queues(mut rows) => rows.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Ready and unacknowledged.
    #[track_caller]
    pub(crate) fn counts(&mut self, queue: &str) -> (u64, u64) {
        let row = self.row(queue);
        (row.messages_ready, row.messages_unacknowledged)
    }

    #[track_caller]
    pub(crate) fn queue_names(&mut self) -> Vec<String> {
        match self.ok(Op::ListQueues { name: None }) {
            Reply::Queues(rows) => rows.iter().map(|r| r.name.to_string()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn exchange_names(&mut self) -> Vec<String> {
        match self.ok(Op::ListExchanges) {
            Reply::Exchanges(rows) => rows.iter().map(|r| r.name.to_string()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn binding_keys(&mut self) -> Vec<String> {
        match self.ok(Op::ListBindings) {
            Reply::Bindings(rows) => {
                let named = rows.iter().filter(|r| !r.binding.source.is_empty());
                named.map(|r| r.binding.routing_key.to_string()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Bodies that the store holds for a queue, in order; the highest priority first.
    pub(crate) fn stored(&self, queue: &str) -> Vec<String> {
        let id = self.broker.queue_id(queue).expect("the queue exists");
        let upper = self.broker.queues[&id].upper_levels().map(|(_, level)| level);
        let levels = upper.chain([id]).filter_map(|level| self.store.queues.get(&level));
        let body = |record: &Bytes| text(&record::decode_message(record).expect("a message").body);
        levels.flat_map(|level| level.live.values().map(body)).collect()
    }
}

pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn channel_opened(conn: u64, chan: u64, credit_bytes: u64) -> Input {
    Input::ChannelOpened { conn: ConnId(conn), chan: ChanId(chan), credit_bytes, strict: false }
}

pub(crate) fn settlement(chan: u64, tag: u64, multiple: bool, how: Settle) -> Input {
    Input::Settle { chan: ChanId(chan), tag, multiple, how }
}

pub(crate) fn queue(name: &str) -> DeclareQueue {
    DeclareQueue {
        name: Arc::from(name),
        durable: true,
        exclusive: false,
        auto_delete: false,
        passive: false,
        arguments: Table::default(),
    }
}

pub(crate) fn exchange(name: &str, kind: &str) -> DeclareExchange {
    DeclareExchange {
        name: Arc::from(name),
        kind: Arc::from(kind),
        durable: true,
        auto_delete: false,
        internal: false,
        passive: false,
        arguments: Table::default(),
    }
}

pub(crate) fn binding(source: &str, queue: &str, key: &str) -> Binding {
    Binding {
        source: Arc::from(source),
        destination_kind: DestinationKind::Queue,
        destination: Arc::from(queue),
        routing_key: Arc::from(key),
        arguments: Table::default(),
    }
}

pub(crate) fn message(exchange: &str, key: &str, body: &str) -> Publish {
    Publish {
        exchange: Arc::from(exchange),
        routing_key: Arc::from(key),
        mandatory: false,
        persistent: true,
        properties: Bytes::from_static(&[0x10, 0, 2]),
        body: Bytes::copy_from_slice(body.as_bytes()),
        blob: None,
        extras: None,
    }
}

pub(crate) fn to_queue(queue: &str, body: &str) -> Publish {
    message("", queue, body)
}

pub(crate) fn transient(queue: &str, body: &str) -> Publish {
    Publish { persistent: false, ..to_queue(queue, body) }
}

pub(crate) fn consumer(chan: u64, queue: &str, tag: &str) -> Consume {
    Consume {
        chan: ChanId(chan),
        queue: Arc::from(queue),
        consumer_tag: Arc::from(tag),
        prefetch_messages: 0,
        prefetch_bytes: 0,
        auto_ack: false,
        exclusive: false,
        priority: 0,
        arguments: Table::default(),
    }
}

pub(crate) fn get(queue: &str, count: u32, hold: Hold) -> Get {
    Get { queue: Arc::from(queue), count, bytes_max: u64::MAX, hold }
}

/// Takes the deliveries out of effects.
pub(crate) fn deliveries(effects: &mut Vec<Effect>) -> Vec<Deliver> {
    let mut delivered = Vec::new();
    effects.retain(|effect| match effect {
        Effect::Deliver(deliver) => {
            delivered.push(deliver.clone());
            false
        }
        _ => true,
    });
    delivered
}

pub(crate) fn bodies(delivered: &[Deliver]) -> Vec<String> {
    delivered.iter().map(|d| text(&d.message.body)).collect()
}

/// Who got what: tag and body.
pub(crate) fn shares(delivered: &[Deliver]) -> Vec<(String, String)> {
    delivered.iter().map(|d| (d.consumer_tag.to_string(), text(&d.message.body))).collect()
}

/// The one answer to a request, if it is there.
#[track_caller]
pub(crate) fn replies(effects: Vec<Effect>, wanted: u64) -> Option<Result<Reply, Refusal>> {
    let mut found = None;
    for effect in effects {
        if let Effect::Reply { req, result } = effect
            && req == ReqId(wanted)
        {
            assert!(found.is_none(), "a request is answered once");
            found = Some(result);
        }
    }
    found
}

/// Confirms on a channel: newest tag, and the outcomes that are not routed.
pub(crate) fn confirms(effects: &[Effect], wanted: u64) -> Vec<(u64, Vec<(u64, Outcome)>)> {
    let confirms = effects.iter().filter_map(|effect| match effect {
        Effect::Confirms { chan, upto, others } if *chan == ChanId(wanted) => Some((*upto, others.clone())),
        _ => None,
    });
    confirms.collect()
}

/// Settled notices on a channel: newest number, and what was unknown.
pub(crate) fn settled(effects: &[Effect], wanted: u64) -> Vec<(u64, Vec<(u64, u64)>)> {
    let notices = effects.iter().filter_map(|effect| match effect {
        Effect::Settled { chan, upto, unknown } if *chan == ChanId(wanted) => Some((*upto, unknown.clone())),
        _ => None,
    });
    notices.collect()
}

pub(crate) fn warnings(effects: &[Effect]) -> Vec<&str> {
    let texts = effects.iter().filter_map(|effect| match effect {
        Effect::Warn { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}
