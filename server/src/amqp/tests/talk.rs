//! A session as a conversation: what the client says, what the core hears and answers, what the client hears.

use leveret_broker::{ChanId, ConnId, Input, Op, Outcome, Publish, ReqId, Settle};

use crate::amqp::frame::{self, Kind};
use crate::amqp::fuzz::{Counter, admit, handshake, settings};
use crate::amqp::method::Method;
use crate::amqp::session::{End, Session};
use crate::hub::Output;

pub(super) struct Talk {
    pub(super) session: Session,
    buffer: Vec<u8>,
    now_ms: u64,
    pub(super) credit: Vec<(ChanId, u64)>,
}

impl Talk {
    /// Nothing was said yet.
    pub(super) fn new() -> Self {
        let session = Session::new(settings(), Box::new(Counter(100)), "127.0.0.1:9".into(), 0);
        Self { session, buffer: Vec::new(), now_ms: 0, credit: Vec::new() }
    }

    /// A connection on which all was said up to connection.open-ok.
    pub(super) fn open() -> Self {
        let mut talk = Self::new();
        talk.bytes(&handshake());
        talk.session.connected(ConnId(7));
        talk.hears();
        talk
    }

    /// The same with an open channel 1, which is c101 in the core.
    pub(super) fn with_channel() -> Self {
        let mut talk = Self::open();
        talk.says(1, &Method::ChannelOpen { reserved_1: "" });
        assert_eq!(talk.core_hears(), ["c101 opened"]);
        assert_eq!(talk.hears(), ["1 ChannelOpenOk { reserved_1: [] }"]);
        talk
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.session.heard();
        self.buffer.extend_from_slice(bytes);
        loop {
            let used = self.session.receive(&self.buffer);
            self.buffer.drain(..used);
            if !admit(&mut self.session) {
                break;
            }
        }
    }

    pub(super) fn says(&mut self, number: u16, method: &Method<'_>) {
        self.frame(Kind::Method, number, |out| method.encode(out));
    }

    pub(super) fn header(&mut self, number: u16, body_bytes: u64, properties: &[u8]) {
        self.frame(Kind::Header, number, |out| {
            out.extend_from_slice(&[0, 60, 0, 0]);
            out.extend_from_slice(&body_bytes.to_be_bytes());
            out.extend_from_slice(properties);
        });
    }

    pub(super) fn body(&mut self, number: u16, part: &[u8]) {
        self.frame(Kind::Body, number, |out| out.extend_from_slice(part));
    }

    pub(super) fn publishes(&mut self, number: u16, exchange: &str, routing_key: &str, body: &[u8]) {
        self.says(number, &publish(exchange, routing_key));
        self.header(number, body.len() as u64, &[0x10, 0, 2]);
        if !body.is_empty() {
            self.body(number, body);
        }
    }

    pub(super) fn frame(&mut self, kind: Kind, number: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, number, write);
        self.bytes(&bytes);
    }

    pub(super) fn core_says(&mut self, output: Output) {
        self.session.output(vec![output]);
        self.session.fill();
        // What waited may go on.
        self.bytes(&[]);
    }

    pub(super) fn replies(&mut self, req: u64, reply: leveret_broker::Reply) {
        self.core_says(Output::Reply { req: ReqId(req), result: Ok(reply) });
    }

    pub(super) fn refuses(&mut self, req: u64, refusal: leveret_broker::Refusal) {
        self.core_says(Output::Reply { req: ReqId(req), result: Err(refusal) });
    }

    pub(super) fn confirms(&mut self, chan: u64, upto: u64, others: &[(u64, Outcome)]) {
        self.core_says(Output::Confirms { chan: ChanId(chan), upto, others: others.to_vec() });
    }

    pub(super) fn time_passes(&mut self, ms: u64) {
        self.now_ms += ms;
        self.session.at(self.now_ms);
        self.session.tick();
    }

    /// What has gone to the core since the last look, a line each.
    pub(super) fn core_hears(&mut self) -> Vec<String> {
        self.session.take_for_core().inputs.iter().map(show_input).collect()
    }

    /// What the client has got since the last look, a line a frame.
    pub(super) fn hears(&mut self) -> Vec<String> {
        let bytes = self.hears_bytes();
        let mut rest = bytes.as_slice();
        let mut lines = Vec::new();
        while !rest.is_empty() {
            let (frame, length) = frame::split(rest, u32::MAX).expect("a frame").expect("a whole frame");
            lines.push(show_frame(frame));
            rest = &rest[length..];
        }
        lines
    }

    pub(super) fn hears_bytes(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            self.session.fill();
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let filled = self.session.out().slices(&mut slices);
            let mut count = 0;
            for slice in &slices[..filled] {
                all.extend_from_slice(slice);
                count += slice.len();
            }
            if count == 0 {
                return all;
            }
            self.session.written(count);
            for input in self.session.take_credit_due() {
                let Input::Writable { chan, bytes } = input else { panic!("{input:?}") };
                self.credit.push((chan, bytes));
            }
        }
    }

    /// The code and the text with which the connection was closed, and the method that failed.
    pub(super) fn hears_connection_close(&mut self) -> (u16, String, (u16, u16)) {
        let bytes = self.hears_bytes();
        let (frame, _) = frame::split(&bytes, u32::MAX).expect("a frame").expect("a whole frame");
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionClose { reply_code, reply_text, class_id, method_id }) => {
                assert_eq!(frame.channel, 0);
                (reply_code, reply_text.to_owned(), (class_id, method_id))
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn ended(&self) -> Option<&End> {
        self.session.ended()
    }
}

pub(super) fn publish<'a>(exchange: &'a str, routing_key: &'a str) -> Method<'a> {
    Method::BasicPublish { reserved_1: 0, exchange, routing_key, mandatory: false, immediate: false }
}

pub(super) fn declare(queue: &str) -> Method<'_> {
    Method::QueueDeclare {
        reserved_1: 0,
        queue,
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: Default::default(),
    }
}

pub(super) fn close_channel() -> Method<'static> {
    Method::ChannelClose { reply_code: 200, reply_text: "bye", class_id: 0, method_id: 0 }
}

pub(super) fn close_connection() -> Method<'static> {
    Method::ConnectionClose { reply_code: 200, reply_text: "bye", class_id: 0, method_id: 0 }
}

pub(super) fn show_frame(frame: frame::Frame<'_>) -> String {
    let number = frame.channel;
    match frame.kind {
        Kind::Method => format!("{number} {:?}", Method::decode(frame.payload).expect("a method")),
        Kind::Header => {
            let size = u64::from_be_bytes(frame.payload[4..12].try_into().expect("8 bytes"));
            format!("{number} header of {size}: {:?}", &frame.payload[12..])
        }
        Kind::Body if frame.payload.len() > 40 => format!("{number} body of {}", frame.payload.len()),
        Kind::Body => format!("{number} body '{}'", frame.payload.escape_ascii()),
        Kind::Heartbeat => "heartbeat".to_owned(),
    }
}

pub(super) fn show_input(input: &Input) -> String {
    match input {
        Input::ChannelOpened { chan, strict: true, .. } => format!("c{chan} opened"),
        Input::ChannelClosed { chan } => format!("c{chan} closed"),
        Input::ConnectionClosed { conn } => format!("connection {conn} closed"),
        Input::Writable { chan, bytes } => format!("c{chan} writable {bytes}"),
        Input::Publish { chan, tag, publish, .. } => {
            format!("c{chan} publish {tag} {}", show_publish(publish))
        }
        Input::Settle { chan, tag, multiple, how } => {
            let how = match how {
                Settle::Ack => "ack",
                Settle::Requeue => "requeue",
                Settle::Drop => "drop",
            };
            format!("c{chan} {how} {tag}{}", if *multiple { " multiple" } else { "" })
        }
        Input::Request { req, op, .. } => format!("r{req} {}", show_op(op)),
        other => format!("{other:?}"),
    }
}

fn show_publish(publish: &Publish) -> String {
    let mandatory = if publish.mandatory { " mandatory" } else { "" };
    let persistent = if publish.persistent { "" } else { " transient" };
    let body = match publish.body.len() {
        0..=40 => format!("'{}'", publish.body.escape_ascii()),
        bytes => format!("{bytes} bytes"),
    };
    format!("to '{}'/'{}'{mandatory}{persistent} {body}", publish.exchange, publish.routing_key)
}

fn show_op(op: &Op) -> String {
    match op {
        Op::DeclareQueue(declare) => format!("declare queue '{}'", declare.name),
        Op::PurgeQueue { name } => format!("purge '{name}'"),
        Op::Bind(binding) => {
            format!("bind '{}' to '{}' by '{}'", binding.destination, binding.source, binding.routing_key)
        }
        Op::Consume(consume) => format!(
            "consume '{}' as '{}' prefetch {} priority {}",
            consume.queue, consume.consumer_tag, consume.prefetch_messages, consume.priority
        ),
        Op::Get(get) => format!("get '{}' {:?}", get.queue, get.hold),
        other => format!("{other:?}"),
    }
}
