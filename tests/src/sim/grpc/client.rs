//! One client: its calls, what it publishes, and what it gets and settles by single calls. What it consumes by a stream
//! stands in `consuming`.

use std::collections::VecDeque;

use fastrand::Rng;
use leveret_broker::Value;
use leveret_proto::v1::{
    self, AckRequest, AckResponse, DeclareQueueRequest, DeclareQueueResponse, Delivery, GetRequest,
    GetResponse, NackRequest, NackResponse, Properties, PublishMessage, PublishOutcome, PublishRequest,
    PublishResponse, PublishStreamRequest, PublishStreamResponse, Table, TableEntry, message, value,
};
use leveret_server::grpc::Socket;

use super::call::{Call, Heard};
use super::consuming::Consuming;
use super::{Shared, ask_for};
use crate::history::{BatchRef, ConsumerRef, Event, Keep, QueueRef, Recorder, Share};
use crate::payload::{self, MsgId};
use crate::sim::kinds::{Kind, priority_of};

/// Publishes of a stream that may be unconfirmed.
const WINDOW: usize = 20;

/// One client, from its first call to its last.
pub(super) struct Client {
    // Before the socket, so that the connection ends last.
    declaring: Vec<(usize, Call)>,
    stream: Option<Stream>,
    publishing: Option<(Call, Vec<MsgId>)>,
    consuming: Option<Consuming>,
    getting: Option<Getting>,
    settling: Option<Settling>,
    /// Leases that were taken.
    leases: Vec<Lease>,
    socket: Socket,
    declared: bool,
    /// Of single calls.
    publisher: Publisher,
    /// Of the stream; each has one of its own.
    next_stream: Option<Publisher>,
    prefetch: u32,
    /// It reads that many pieces at a time.
    pieces: usize,
}

struct Publisher {
    number: u32,
    seq: u64,
}

/// A PublishStream.
struct Stream {
    call: Call,
    publisher: Publisher,
    confirmed: u64,
    unconfirmed: VecDeque<MsgId>,
}

/// A Get.
struct Getting {
    call: Call,
    consumer: ConsumerRef,
    /// Which queue.
    index: usize,
    /// Its leases do not end before.
    until_ms: u64,
}

struct Lease {
    ack_id: String,
    id: MsgId,
    queue: QueueRef,
    consumer: ConsumerRef,
}

/// An Ack, or a Nack that gives back.
struct Settling {
    call: Call,
    requeue: bool,
    leases: Vec<Lease>,
}

impl Client {
    /// `number`: of its publisher by single calls; that of its stream is the next one.
    pub(super) fn new(socket: Socket, number: u32, rng: &mut Rng) -> Self {
        Self {
            declaring: Vec::new(),
            stream: None,
            publishing: None,
            consuming: None,
            getting: None,
            settling: None,
            leases: Vec::new(),
            socket,
            declared: false,
            publisher: Publisher { number, seq: 0 },
            next_stream: Some(Publisher { number: number + 1, seq: 0 }),
            prefetch: rng.u32(1..12),
            pieces: if rng.u8(..4) == 0 { 1 } else { 8 },
        }
    }

    /// Does something.
    pub(super) fn act(&mut self, shared: &mut Shared<'_>) {
        if !std::mem::replace(&mut self.declared, true) {
            return self.declare(shared);
        }
        match shared.rng.u8(..16) {
            0..5 => self.publish_on_stream(shared),
            5..7 => self.publish(shared),
            7..9 => self.get(shared),
            9..11 => self.settle_leases(shared),
            _ => match &mut self.consuming {
                Some(consuming) => consuming.settle(shared),
                None => self.consuming = Consuming::begin(shared, &self.socket, self.prefetch),
            },
        }
    }

    /// It publishes by a stream.
    pub(super) fn streams(&self) -> bool {
        self.stream.is_some()
    }

    /// What was sent comes on, and its calls with it.
    pub(super) fn serve(&mut self, rng: &mut Rng) {
        for call in self.calls() {
            call.carry(rng);
            call.serve();
        }
    }

    /// It has gone: what it has out goes back.
    pub(super) fn goes(&mut self, shared: &mut Shared<'_>) {
        for call in self.calls() {
            call.cut(shared.rng);
        }
        if let Some(consuming) = self.consuming.as_ref() {
            consuming.goes(shared.recorder);
        }
    }

    /// Reads from every call, as much as it is used to.
    pub(super) fn read(&mut self, shared: &mut Shared<'_>) {
        let pieces = shared.rng.usize(0..=self.pieces);
        self.read_declared(shared);
        self.read_published(shared);
        if self.stream.as_mut().is_some_and(|stream| stream.read(pieces, shared)) {
            // Refused, or cut off. Nobody knows what came of the rest; another client publishes on.
            self.stream = None;
        }
        if self.consuming.as_mut().is_some_and(|consuming| consuming.read(pieces, shared)) {
            self.consuming.take().into_iter().for_each(|consuming| consuming.goes(shared.recorder));
        }
        self.read_got(shared);
        self.read_settled(shared);
    }

    fn calls(&mut self) -> impl Iterator<Item = &mut Call> {
        let declaring = self.declaring.iter_mut().map(|(_, call)| call);
        let stream = self.stream.as_mut().map(|stream| &mut stream.call);
        let publishing = self.publishing.as_mut().map(|(call, _)| call);
        let consuming = self.consuming.as_mut().map(Consuming::call);
        let getting = self.getting.as_mut().map(|getting| &mut getting.call);
        let settling = self.settling.as_mut().map(|settling| &mut settling.call);
        declaring.chain(stream).chain(publishing).chain(consuming).chain(getting).chain(settling)
    }

    fn declare(&mut self, shared: &mut Shared<'_>) {
        for (index, queue) in shared.queues.iter_mut().enumerate() {
            ask_for(shared.recorder, queue);
            let entries = queue.kind.arguments().into_iter().map(argument).collect();
            let request = DeclareQueueRequest {
                name: queue.name.to_string(),
                arguments: Some(Table { entries }),
                ..DeclareQueueRequest::default()
            };
            let call = Call::unary(shared.server, &self.socket, "DeclareQueue", &request);
            self.declaring.push((index, call));
        }
    }

    fn read_declared(&mut self, shared: &mut Shared<'_>) {
        self.declaring.retain_mut(|(index, call)| {
            let heard = call.read::<DeclareQueueResponse>(8);
            for answer in heard {
                match answer {
                    Heard::Message(DeclareQueueResponse { messages_ready, .. }) => {
                        let queue = &mut shared.queues[*index];
                        queue.ready = true;
                        shared.recorder.record(Event::Declared { queue: queue.queue, ready: messages_ready });
                    }
                    Heard::Ended(code) => {
                        assert_eq!(code, tonic::Code::Ok, "a declaration was refused");
                        return false;
                    }
                }
            }
            true
        });
    }

    fn publish_on_stream(&mut self, shared: &mut Shared<'_>) {
        if self.stream.is_none() {
            if !shared.may_stream {
                return self.publish(shared);
            }
            let Some(publisher) = self.next_stream.take() else { return };
            let call = Call::new(shared.server, &self.socket, "PublishStream");
            self.stream = Some(Stream { call, publisher, confirmed: 0, unconfirmed: VecDeque::new() });
        }
        let Some(stream) = &mut self.stream else { return };
        for _ in 0..shared.rng.u8(1..4) {
            let mut messages = Vec::new();
            for _ in 0..shared.rng.u8(1..4) {
                let batch = shared.recorder.new_batch();
                if stream.unconfirmed.len() < WINDOW
                    && let Some((id, message)) = stream.publisher.message(shared, batch)
                {
                    stream.unconfirmed.push_back(id);
                    messages.push(message);
                }
            }
            if !messages.is_empty() {
                stream.call.send(&PublishStreamRequest { vhost: String::new(), messages });
            }
        }
    }

    fn publish(&mut self, shared: &mut Shared<'_>) {
        if self.publishing.is_some() {
            return;
        }
        let batch = shared.recorder.new_batch();
        let count = shared.rng.u8(1..6);
        let sent = (0..count).filter_map(|_| self.publisher.message(shared, batch));
        let (ids, messages): (Vec<_>, Vec<_>) = sent.unzip();
        if !ids.is_empty() {
            let request = PublishRequest { vhost: String::new(), messages };
            let call = Call::unary(shared.server, &self.socket, "Publish", &request);
            self.publishing = Some((call, ids));
        }
    }

    fn read_published(&mut self, shared: &mut Shared<'_>) {
        let Some((call, ids)) = &mut self.publishing else { return };
        for answer in call.read::<PublishResponse>(8) {
            match answer {
                Heard::Message(PublishResponse { results }) => {
                    assert_eq!(results.len(), ids.len(), "each message has its result");
                    let routed = |result: &v1::PublishResult| result.outcome() == PublishOutcome::Routed;
                    assert!(results.iter().all(routed), "a publish was refused: {results:?}");
                    shared.reached.grpc_confirms += ids.len() as u64;
                    shared.recorder.record_all(ids.drain(..).map(|id| Event::Confirmed { id }));
                }
                // Also refused, because the disk is low: then it is not there, but a client cannot build on that.
                Heard::Ended(_) => {
                    self.publishing = None;
                    return;
                }
            }
        }
    }

    fn get(&mut self, shared: &mut Shared<'_>) {
        let index = shared.rng.usize(..shared.queues.len());
        let queue = &mut shared.queues[index];
        if self.getting.is_some() || !queue.ready || queue.taken == Some(Share::Sole) {
            return;
        }
        queue.taken = Some(Share::Shared);
        let (consumer, share) = (shared.recorder.new_consumer(), Share::Shared);
        shared.recorder.record(Event::ConsumerStarted { consumer, queue: queue.queue, share });
        let (count, lease_ms) = (shared.rng.u32(1..6), shared.rng.u64(100..5_000));
        let request = GetRequest { queue: queue.name.to_string(), count, lease_ms, ..GetRequest::default() };
        let call = Call::unary(shared.server, &self.socket, "Get", &request);
        self.getting = Some(Getting { call, consumer, index, until_ms: shared.leases_ms + lease_ms });
    }

    fn read_got(&mut self, shared: &mut Shared<'_>) {
        let Some(Getting { call, consumer, index, until_ms }) = &mut self.getting else { return };
        let (consumer, until_ms) = (*consumer, *until_ms);
        for answer in call.read::<GetResponse>(8) {
            match answer {
                Heard::Message(GetResponse { deliveries, .. }) => {
                    let (queue, kind) = (shared.queues[*index].queue, shared.queues[*index].kind);
                    if shared.leases_ms >= until_ms {
                        // It comes so late that others may have had it all meanwhile.
                        continue;
                    }
                    shared.reached.grpc_deliveries += deliveries.len() as u64;
                    for delivery in deliveries {
                        let Some(id) = came(shared.recorder, consumer, (queue, kind), &delivery) else {
                            continue;
                        };
                        // The lease may end at any time.
                        shared.recorder.record(Event::ReturnSent { consumer, queue, id });
                        self.leases.push(Lease { ack_id: delivery.ack_id, id, queue, consumer });
                    }
                }
                Heard::Ended(code) => {
                    assert_eq!(code, tonic::Code::Ok, "a get was refused");
                    self.getting = None;
                    return;
                }
            }
        }
    }

    fn settle_leases(&mut self, shared: &mut Shared<'_>) {
        if self.settling.is_some() || self.leases.is_empty() {
            return;
        }
        let from = shared.rng.usize(..self.leases.len());
        let leases = self.leases.split_off(from);
        let ack_ids: Vec<String> = leases.iter().map(|lease| lease.ack_id.clone()).collect();
        let requeue = shared.rng.u8(..4) == 0;
        let call = if requeue {
            let request = NackRequest { ack_ids, requeue: Some(true) };
            Call::unary(shared.server, &self.socket, "Nack", &request)
        } else {
            let sent = leases.iter().map(|Lease { queue, id, .. }| Event::AckSent { queue: *queue, id: *id });
            shared.recorder.record_all(sent);
            Call::unary(shared.server, &self.socket, "Ack", &AckRequest { ack_ids })
        };
        self.settling = Some(Settling { call, requeue, leases });
    }

    fn read_settled(&mut self, shared: &mut Shared<'_>) {
        let Some(Settling { call, requeue, leases }) = &mut self.settling else { return };
        let results = if *requeue {
            call.read::<NackResponse>(8)
                .into_iter()
                .map(|heard| results(heard, |answer| answer.results))
                .collect()
        } else {
            call.read::<AckResponse>(8)
                .into_iter()
                .map(|heard| results(heard, |answer| answer.results))
                .collect()
        };
        let results: Vec<Option<Vec<v1::SettleResult>>> = results;
        for result in results {
            let Some(result) = result else {
                self.settling = None;
                return;
            };
            assert_eq!(result.len(), leases.len(), "each id has its result");
            for (Lease { id, queue, consumer, .. }, result) in leases.drain(..).zip(result) {
                let event = match (*requeue, result.error) {
                    (true, None) => Event::Returned { consumer, queue, id, under_way: 0 },
                    (false, None) => Event::Gone { queue, id },
                    (true, Some(_)) => continue,
                    (false, Some(_)) => Event::AckRefused { queue, id },
                };
                shared.recorder.record(event);
            }
        }
    }
}

/// The results in an answer; None at the end of the call, which is a good one.
fn results<T>(heard: Heard<T>, of: impl Fn(T) -> Vec<v1::SettleResult>) -> Option<Vec<v1::SettleResult>> {
    match heard {
        Heard::Message(answer) => Some(of(answer)),
        Heard::Ended(code) => {
            assert_eq!(code, tonic::Code::Ok, "a settlement was refused");
            None
        }
    }
}

impl Publisher {
    /// The next message, recorded as sent.
    fn message(&mut self, shared: &mut Shared<'_>, batch: BatchRef) -> Option<(MsgId, PublishMessage)> {
        let ready: Vec<_> = shared.queues.iter().filter(|queue| queue.ready).collect();
        if ready.is_empty() {
            return None;
        }
        let rng = &mut *shared.rng;
        let queue = ready[rng.usize(..ready.len())];
        self.seq += 1;
        let id = MsgId { publisher: self.number, seq: self.seq };
        let length = match rng.u8(..16) {
            0 => rng.usize(5_000..12_000),
            1..4 => rng.usize(300..2_000),
            _ => rng.usize(24..100),
        };
        let body = payload::encode(id, length);
        let keep = if rng.u8(..5) == 0 { Keep::Transient } else { Keep::Persistent };
        let priority = priority_of(id);
        shared.recorder.record(Event::Sent {
            id,
            length: body.len() as u32,
            keep,
            priority: priority.unwrap_or(0),
            batch,
            queues: [queue.queue].into(),
        });
        let properties =
            priority.map(|priority| Properties { priority: Some(priority.into()), ..Properties::default() });
        let message = v1::Message {
            body: Some(message::Body::Bytes(body.to_vec().into())),
            persistent: Some(keep == Keep::Persistent),
            properties: properties.map(Box::new),
        };
        let (exchange, routing_key) = (String::new(), queue.name.to_string());
        let mandatory = rng.bool();
        Some((id, PublishMessage { exchange, routing_key, message: Some(message), mandatory }))
    }
}

impl Stream {
    /// True: it is over.
    fn read(&mut self, pieces: usize, shared: &mut Shared<'_>) -> bool {
        for answer in self.call.read::<PublishStreamResponse>(pieces) {
            let Heard::Message(PublishStreamResponse { confirmed_upto, exceptions, returned }) = answer
            else {
                return true;
            };
            assert!(exceptions.is_empty() && returned.is_empty(), "publishes were refused: {exceptions:?}");
            let newly = confirmed_upto.saturating_sub(self.confirmed);
            assert!(
                newly > 0 && newly <= self.unconfirmed.len() as u64,
                "{confirmed_upto} confirmed after {}",
                self.confirmed
            );
            self.confirmed = confirmed_upto;
            shared.reached.grpc_confirms += newly;
            let ids = self.unconfirmed.drain(..newly as usize);
            shared.recorder.record_all(ids.map(|id| Event::Confirmed { id }));
        }
        false
    }
}

/// Records a delivery, and gives the message's name.
pub(super) fn came(
    recorder: &Recorder,
    consumer: ConsumerRef,
    (queue, kind): (QueueRef, Kind),
    delivery: &Delivery,
) -> Option<MsgId> {
    let message = delivery.message.as_ref()?;
    let body = match &message.body {
        Some(message::Body::Bytes(bytes)) => &bytes[..],
        other => panic!("a client asked for bytes and got {other:?}"),
    };
    let id = recorder.delivered(consumer, queue, body, delivery.redelivered)?;
    let headers = message.properties.as_ref().and_then(|properties| properties.headers.as_ref());
    let count = headers.and_then(|headers| {
        let entry = headers.entries.iter().find(|entry| entry.name == "x-delivery-count")?;
        match entry.value.as_ref()?.kind {
            Some(value::Kind::Int64(count)) => u32::try_from(count).ok(),
            _ => panic!("a count is a number: {entry:?}"),
        }
    });
    // The first time it is left out.
    let count = if matches!(kind, Kind::Quorum(_)) { Some(count.unwrap_or(0)) } else { count };
    recorder.record(Event::Counted { queue, id, count });
    Some(id)
}

fn argument((name, value): (&str, Value)) -> TableEntry {
    let kind = match value {
        Value::I64(number) => value::Kind::Int64(number),
        Value::Bytes(text) => value::Kind::Text(String::from_utf8_lossy(&text).into_owned()),
        other => panic!("no queue is declared with {other:?}"),
    };
    TableEntry { name: name.to_owned(), value: Some(v1::Value { kind: Some(kind) }) }
}
