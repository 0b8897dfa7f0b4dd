//! One client: its channels, what it publishes and takes, and what it makes of the frames that it reads.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;
use fastrand::Rng;
use leveret_broker::Value;

use super::Queue;
use crate::amqp::codec::{self, BODY, Frame, HEADER, PROTOCOL_HEADER, Reader, Writer};
use crate::amqp::{Settle, calls, method};
use crate::history::{ConsumerRef, Event, Keep, QueueRef, Recorder, Share};
use crate::payload::{self, MsgId};
use crate::sim::kinds::priority_of;
use crate::sim::reached::Reached;

/// Channel that declares.
const DECLARES: u16 = 1;
/// Channel that publishes with confirms.
const PUBLISHES: u16 = 2;
/// Channel that consumes.
const CONSUMES: u16 = 3;
/// Frames are no longer than that: larger bodies come in parts.
const FRAME_MAX: u32 = 4096;
/// Publishes that may be unconfirmed.
const WINDOW: usize = 20;

/// One client, from its first byte to its last.
pub(super) struct Client {
    buffer: BytesMut,
    publisher: u32,
    number: u64,
    /// It asks for priorities.
    priorities: bool,
    /// The publishing channel confirms.
    confirms: bool,
    confirmed: u64,
    unconfirmed: VecDeque<MsgId>,
    prefetch: u16,
    consuming: Option<Consuming>,
    /// A content that is coming in.
    content: Option<Content>,
}

struct Consuming {
    consumer: ConsumerRef,
    queue: QueueRef,
    /// Settles little: others have to wait for what it has.
    hoards: bool,
    out: BTreeMap<u64, MsgId>,
    /// Requeued, and the method behind them is not answered yet.
    returning: VecDeque<Vec<MsgId>>,
}

struct Content {
    tag: u64,
    redelivered: bool,
    bytes: Option<u64>,
    body: Vec<u8>,
}

impl Client {
    pub(super) fn new(publisher: u32, priorities: bool, rng: &mut Rng) -> Self {
        Self {
            buffer: BytesMut::new(),
            publisher,
            number: 0,
            priorities,
            confirms: false,
            confirmed: 0,
            unconfirmed: VecDeque::new(),
            prefetch: rng.u16(1..12),
            consuming: None,
            content: None,
        }
    }

    /// What it says first: it does not wait for the answers.
    pub(super) fn hello(&self) -> Vec<u8> {
        let capabilities = ["consumer_cancel_notify", "basic.nack"];
        let able = capabilities.map(|name| (name.to_owned(), codec::Value::Bool(true)));
        let properties = [("capabilities".to_owned(), codec::Value::Table(able.into()))];
        let start =
            Writer::new().table(&properties).shortstr("PLAIN").longstr(b"\0guest\0guest").shortstr("en_US");
        let tune = Writer::new().short(8).long(FRAME_MAX).short(0);
        let open = Writer::new().shortstr("/").shortstr("").octet(0);
        let mut bytes = PROTOCOL_HEADER.to_vec();
        bytes.extend(codec::method(0, method::CONNECTION_START_OK, &start));
        bytes.extend(codec::method(0, method::CONNECTION_TUNE_OK, &tune));
        bytes.extend(codec::method(0, method::CONNECTION_OPEN, &open));
        for channel in [DECLARES, PUBLISHES, CONSUMES] {
            bytes.extend(codec::method(channel, method::CHANNEL_OPEN, &Writer::new().shortstr("")));
        }
        bytes.extend(codec::method(PUBLISHES, method::CONFIRM_SELECT, &Writer::new().octet(0)));
        let qos = Writer::new().long(0).short(self.prefetch).octet(0);
        bytes.extend(codec::method(CONSUMES, method::BASIC_QOS, &qos));
        bytes
    }

    pub(super) fn declare(&self, queue: &Queue) -> Vec<u8> {
        let arguments: Vec<_> = queue.kind.arguments().into_iter().map(argument).collect();
        let arguments = calls::queue(&queue.name, calls::DURABLE, &arguments);
        codec::method(DECLARES, method::QUEUE_DECLARE, &arguments)
    }

    /// Does something; the bytes of it.
    pub(super) fn act(&mut self, recorder: &Recorder, queues: &mut [Queue], rng: &mut Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        if rng.u8(..5) < 2 {
            for _ in 0..rng.u8(1..5) {
                bytes.extend(self.publish(recorder, queues, rng));
            }
        } else if self.consuming.is_none() {
            bytes.extend(self.consume(recorder, queues, rng));
        } else {
            bytes.extend(self.settle(recorder, rng));
        }
        bytes
    }

    /// It has gone: what it has out goes back.
    pub(super) fn goes(self, recorder: &Recorder) {
        if let Some(Consuming { consumer, .. }) = self.consuming {
            recorder.record(Event::ConsumerGone { consumer });
        }
    }

    fn publish(&mut self, recorder: &Recorder, queues: &[Queue], rng: &mut Rng) -> Vec<u8> {
        let ready: Vec<&Queue> = queues.iter().filter(|queue| queue.ready).collect();
        if !self.confirms || self.unconfirmed.len() >= WINDOW || ready.is_empty() {
            return Vec::new();
        }
        let queue = ready[rng.usize(..ready.len())];
        self.number += 1;
        let id = MsgId { publisher: self.publisher, seq: self.number };
        let length = match rng.u8(..16) {
            0 => rng.usize(5_000..12_000),
            1..4 => rng.usize(300..2_000),
            _ => rng.usize(24..100),
        };
        let body = payload::encode(id, length);
        let keep = if rng.u8(..5) == 0 { Keep::Transient } else { Keep::Persistent };
        let batch = recorder.new_batch();
        let (length, to) = (body.len() as u32, [queue.queue].into());
        let priority = if self.priorities { priority_of(id) } else { None };
        recorder.record(Event::Sent { id, length, keep, priority: priority.unwrap_or(0), batch, queues: to });
        self.unconfirmed.push_back(id);
        let mut properties = calls::delivery_mode(keep == Keep::Persistent).to_vec();
        if let Some(priority) = priority {
            // Flag bit 11.
            properties[0] |= 0x08;
            properties.push(priority);
        }
        calls::publish(PUBLISHES, ("", &queue.name), 0, &properties, &body, FRAME_MAX as usize)
    }

    fn consume(&mut self, recorder: &Recorder, queues: &mut [Queue], rng: &mut Rng) -> Vec<u8> {
        let index = rng.usize(..queues.len());
        let queue = &mut queues[index];
        if !queue.ready || queue.consumed == Some(Share::Sole) {
            return Vec::new();
        }
        let alone = queue.consumed.is_none() && rng.bool();
        let share = if alone { Share::Sole } else { Share::Shared };
        queue.consumed = Some(share);
        let consumer = recorder.new_consumer();
        recorder.record(Event::ConsumerStarted { consumer, queue: queue.queue, share });
        self.consuming = Some(Consuming {
            consumer,
            queue: queue.queue,
            hoards: rng.u8(..4) == 0,
            out: BTreeMap::new(),
            returning: VecDeque::new(),
        });
        let arguments = Writer::new().short(0).shortstr(&queue.name).shortstr("").octet(0).table(&[]);
        codec::method(CONSUMES, method::BASIC_CONSUME, &arguments)
    }

    fn settle(&mut self, recorder: &Recorder, rng: &mut Rng) -> Vec<u8> {
        let Some(Consuming { consumer, queue, hoards, out, returning }) = &mut self.consuming else {
            return Vec::new();
        };
        if out.is_empty() || (*hoards && rng.u8(..8) > 0) {
            return Vec::new();
        }
        let tags: Vec<u64> = out.keys().copied().collect();
        let tag = tags[rng.usize(..tags.len())];
        let multiple = rng.u8(..3) == 0;
        let settle = match rng.u8(..8) {
            0 | 1 => Settle::Requeue,
            2 => Settle::Reject,
            _ => Settle::Ack,
        };
        let ids: Vec<MsgId> = if multiple {
            let later = out.split_off(&(tag + 1));
            std::mem::replace(out, later).into_values().collect()
        } else {
            out.remove(&tag).into_iter().collect()
        };
        let (consumer, queue) = (*consumer, *queue);
        recorder.record_all(ids.iter().map(|id| match settle {
            Settle::Requeue => Event::ReturnSent { consumer, queue, id: *id },
            // A reject drops the message: gone like an acked one.
            Settle::Ack | Settle::Reject => Event::AckSent { queue, id: *id },
        }));
        let mut bytes = settle.bytes(CONSUMES, tag, multiple);
        if settle == Settle::Requeue {
            // Its answer comes when the requeue is done. A limit on the channel as a whole that is no limit changes nothing.
            let no_limit = Writer::new().long(0).short(0).octet(1);
            bytes.extend(codec::method(CONSUMES, method::BASIC_QOS, &no_limit));
            returning.push_back(ids);
        }
        bytes
    }

    /// Reads bytes, and records what they say.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        recorder: &Recorder,
        queues: &mut [Queue],
        reached: &mut Reached,
    ) {
        self.buffer.extend_from_slice(bytes);
        while let Some(frame) = Frame::parse(&mut self.buffer).unwrap_or_else(|why| panic!("{why}")) {
            match frame.kind {
                HEADER | BODY => self.part(&frame, recorder, reached),
                _ => self.method(&frame, recorder, queues, reached),
            }
        }
    }

    fn method(&mut self, frame: &Frame, recorder: &Recorder, queues: &mut [Queue], reached: &mut Reached) {
        let mut arguments = frame.arguments();
        match (frame.channel, frame.method().unwrap_or_default()) {
            (
                _,
                method::CONNECTION_START
                | method::CONNECTION_TUNE
                | method::CONNECTION_OPEN_OK
                | method::CHANNEL_OPEN_OK
                | method::BASIC_CONSUME_OK,
            ) => {}
            (DECLARES, method::QUEUE_DECLARE_OK) => {
                let (name, ready) = (arguments.shortstr(), arguments.long());
                let queue = queues.iter_mut().find(|queue| *queue.name == *name);
                let queue = queue.unwrap_or_else(|| panic!("nobody declared '{name}'"));
                recorder.record(Event::Declared { queue: queue.queue, ready: ready.into() });
                queue.ready = true;
            }
            (PUBLISHES, method::CONFIRM_SELECT_OK) => self.confirms = true,
            (PUBLISHES, method::BASIC_ACK) => {
                let (upto, multiple) = (arguments.longlong(), arguments.octet() & 1 == 1);
                let newly = upto.saturating_sub(self.confirmed);
                assert!(
                    newly > 0 && newly <= self.unconfirmed.len() as u64 && (newly == 1 || multiple),
                    "{upto} (multiple: {multiple}) confirmed after {}",
                    self.confirmed
                );
                self.confirmed = upto;
                reached.wire_confirms += newly;
                let ids = self.unconfirmed.drain(..newly as usize);
                recorder.record_all(ids.map(|id| Event::Confirmed { id }));
            }
            // The first one answers the limit that the channel began with.
            (CONSUMES, method::BASIC_QOS_OK) => {
                let Some(Consuming { consumer, queue, returning, .. }) = &mut self.consuming else { return };
                let Some(ids) = returning.pop_front() else { return };
                let (consumer, queue) = (*consumer, *queue);
                // Deliveries and answers of a channel come in one order: nothing is under way any more.
                let returned = |id| Event::Returned { consumer, queue, id, under_way: 0 };
                recorder.record_all(ids.into_iter().map(returned));
            }
            (CONSUMES, method::BASIC_DELIVER) => {
                arguments.shortstr();
                let (tag, redelivered) = (arguments.longlong(), arguments.octet() & 1 == 1);
                self.content = Some(Content { tag, redelivered, bytes: None, body: Vec::new() });
            }
            other => panic!("a client does not expect {other:?}: {:?}", Reader::new(frame.payload.clone())),
        }
    }

    fn part(&mut self, frame: &Frame, recorder: &Recorder, reached: &mut Reached) {
        let (Some(content), CONSUMES) = (&mut self.content, frame.channel) else {
            panic!("a content without its method")
        };
        if frame.kind == HEADER {
            let mut header = Reader::new(frame.payload.clone());
            header.long();
            content.bytes = Some(header.longlong());
        } else {
            content.body.extend_from_slice(&frame.payload);
        }
        if content.bytes.is_none_or(|bytes| (content.body.len() as u64) < bytes) {
            return;
        }
        let Some(Content { tag, redelivered, body, .. }) = self.content.take() else { return };
        let Some(Consuming { consumer, queue, out, .. }) = &mut self.consuming else {
            panic!("a delivery for nobody")
        };
        reached.wire_deliveries += 1;
        if let Some(id) = recorder.delivered(*consumer, *queue, &body, redelivered) {
            out.insert(tag, id);
        }
    }
}

/// An argument of a declaration as it goes over the wire.
fn argument((key, value): (&str, Value)) -> (String, codec::Value) {
    let value = match value {
        Value::I64(number) => codec::Value::Int(number as i32),
        Value::Bytes(text) => codec::Value::Text(String::from_utf8_lossy(&text).into_owned()),
        other => panic!("no queue is declared with {other:?}"),
    };
    (key.to_owned(), value)
}
