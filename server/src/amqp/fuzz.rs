//! What fuzzing feeds, and a core that answers at once by simple rules. The entry points panic where something that must
//! hold does not; `fuzz/` calls them with new inputs, a test with those that were kept.

use std::sync::Arc;

use bytes::Bytes;
use leveret_broker::{
    AckId, Cause, ChanId, ConnId, Deliver, Epoch, Got, GotMessage, Input, Message, Op, QueueId, Refusal,
    RefusalKind, Reply, ReqId, Seq,
};

use super::frame::{self, Kind};
use super::method::Method;
use super::sasl::Credentials;
use super::session::{Ids, Session, SessionSettings};
use crate::auth::Refused;
use crate::hub::Output;

/// No answer to one step may be longer; what may wait is bounded elsewhere.
const OUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes as frames and methods: what is accepted is written back as the same.
pub fn frames(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, length))) = frame::split(rest, 131_072) {
        assert_eq!(frame::length(rest), Some(length));
        let mut back = Vec::new();
        frame::write(&mut back, frame.kind, frame.channel, |out| out.extend_from_slice(frame.payload));
        assert_eq!(back, rest[..length], "a frame that changes");
        if frame.kind == Kind::Method {
            method(frame.payload);
        }
        rest = &rest[length..];
    }
    method(data);
}

fn method(payload: &[u8]) {
    let Ok(method) = Method::decode(payload) else { return };
    let mut back = Vec::new();
    method.encode(&mut back);
    let again = Method::decode(&back).expect("what was written can be read");
    // As text: a NaN in a table is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{method:?}"), "a method that changes");
}

/// Bytes as one connection. The first says whether a good handshake stands before them; then come pieces, each behind
/// its length, with a control byte for what happens besides.
pub fn session(data: &[u8]) {
    let Some((first, mut rest)) = data.split_first() else { return };
    let mut session = Session::new(settings(), Box::new(Counter(0)), "peer".into(), 0);
    let mut core = RobotCore::default();
    let mut buffer = if first & 1 == 1 { handshake() } else { Vec::new() };
    let mut now_ms = 0;
    loop {
        step(&mut session, &mut core, &mut buffer, &mut now_ms);
        let Some(([control, length], tail)) = rest.split_first_chunk::<2>() else { break };
        let piece = &tail[..tail.len().min(usize::from(*length))];
        rest = &tail[piece.len()..];
        buffer.extend_from_slice(piece);
        session.heard();
        match control % 16 {
            0 => now_ms += u64::from(control / 16) * 1000,
            1 => session.set_blocked(control & 16 == 0),
            2 => session.drain(),
            3 => session.shut_down(),
            _ => {}
        }
    }
    drop(session.abandon());
}

/// Lets everything happen that follows from what is there.
fn step(session: &mut Session, core: &mut RobotCore, buffer: &mut Vec<u8>, now_ms: &mut u64) {
    session.at(*now_ms);
    session.tick();
    loop {
        while admit(session) {}
        if session.wants_connection().is_some() {
            session.connected(ConnId(1));
        }
        let before = buffer.len();
        let used = session.receive(buffer);
        assert!(used <= before, "uses what is there");
        buffer.drain(..used);
        session.fill();
        let mut answers = Vec::new();
        for input in session.take_for_core().inputs.into_iter().chain(session.take_credit_due()) {
            core.answer(input, &mut answers);
        }
        let answered = !answers.is_empty();
        session.output(answers);
        session.fill();
        let out = session.out().len();
        assert!(out <= OUT_BYTES_MAX, "{out} bytes wait");
        session.written(out);
        let wants = session.wants_login().is_some()
            || session.wants_vhost().is_some()
            || session.wants_connection().is_some();
        if !answered && used == 0 && !wants && !session.has_for_core() {
            assert!(session.ended().is_none() || !session.reads(), "an end is an end");
            return;
        }
    }
}

/// Lets guest in with its own password, and into virtual host "/"; user "banned" exists, but not from here. True when
/// there was something to decide.
pub(super) fn admit(session: &mut Session) -> bool {
    if let Some(Credentials { user, password }) = session.wants_login() {
        let user = match (user.as_str(), password.as_slice()) {
            ("guest", b"guest") => Ok("guest".into()),
            ("banned", _) => Err(Refused::NotFromThere),
            ("busy", _) => Err(Refused::Busy),
            _ => Err(Refused::Wrong),
        };
        session.login_checked(user);
        return true;
    }
    if let Some((_, vhost)) = session.wants_vhost() {
        session.entered(match &*vhost {
            "/" => Ok(()),
            "closed" => Err(RefusalKind::AccessRefused),
            _ => Err(RefusalKind::NotFound),
        });
        return true;
    }
    false
}

/// Small limits, so that small inputs reach them.
pub(super) fn settings() -> Arc<SessionSettings> {
    Arc::new(SessionSettings {
        message_bytes_max: 64 * 1024,
        half_sent_bytes_max: 1024 * 1024,
        frame_max: 8192,
        channel_max: 16,
        heartbeat_s: 10,
        handshake_ms: 10_000,
        close_ms: 5_000,
        channel_credit_bytes: 64 * 1024,
        product: "RabbitMQ".into(),
        version: "3.13.7".into(),
    })
}

/// What a client says until the connection is open.
pub(super) fn handshake() -> Vec<u8> {
    let mut bytes = b"AMQP\x00\x00\x09\x01".to_vec();
    let capabilities = ["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"]
        .map(|name| (name.to_owned(), leveret_broker::Value::Bool(true)));
    let capabilities = leveret_broker::Value::Table(leveret_broker::Table(capabilities.into()));
    let methods = [
        Method::ConnectionStartOk {
            client_properties: leveret_broker::Table(vec![("capabilities".into(), capabilities)]),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        },
        Method::ConnectionTuneOk { channel_max: 16, frame_max: 8192, heartbeat: 10 },
        Method::ConnectionOpen { vhost: "/", reserved_1: "", reserved_2: false },
    ];
    for method in &methods {
        frame::write(&mut bytes, Kind::Method, 0, |out| method.encode(out));
    }
    bytes
}

/// Ids that count.
pub(super) struct Counter(pub(super) u64);

impl Ids for Counter {
    fn channel(&mut self) -> ChanId {
        self.0 += 1;
        ChanId(self.0)
    }

    fn request(&mut self) -> ReqId {
        self.0 += 1;
        ReqId(self.0)
    }
}

/// Answers everything at once. Exchange "missing" and queue "missing" are not there; queue "empty" has no messages.
#[derive(Debug, Default)]
pub(super) struct RobotCore {
    delivery_tag: u64,
}

impl RobotCore {
    pub(super) fn answer(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Request { req, chan, op, .. } => {
                let (result, delivery) = self.reply(chan, op);
                out.push(Output::Reply { req, result });
                out.extend(delivery.map(Output::Deliver));
            }
            Input::Publish { chan, tag, publish, .. } if &*publish.exchange == "missing" => {
                let refusal = not_found("no exchange 'missing' in vhost '/'");
                out.push(Output::ChannelFailed { chan, cause: Cause::Publish { tag }, refusal });
            }
            Input::Publish { chan, tag, publish, .. } => {
                if publish.mandatory && &*publish.routing_key == "nowhere" {
                    let message = message(&publish.routing_key, publish.properties, publish.body);
                    out.push(Output::Return { chan, tag, message });
                }
                out.push(Output::Confirms { chan, upto: tag, others: Vec::new() });
            }
            Input::Settle { chan, tag, how, .. } if tag > self.delivery_tag => {
                let text = format!("unknown delivery tag {tag}");
                let refusal = Refusal::new(RefusalKind::PreconditionFailed, text);
                out.push(Output::ChannelFailed { chan, cause: Cause::Settle { how, tag }, refusal });
            }
            _ => {}
        }
    }

    fn reply(&mut self, chan: Option<ChanId>, op: Op) -> (Result<Reply, Refusal>, Option<Deliver>) {
        let reply = match op {
            Op::DeclareQueue(declare) if &*declare.name == "missing" => {
                return (Err(not_found("no queue 'missing' in vhost '/'")), None);
            }
            Op::DeclareQueue(declare) => {
                let name = if declare.name.is_empty() { "amq.gen-1".into() } else { declare.name };
                Reply::QueueDeclared { name, messages_ready: 1, consumers: 0 }
            }
            Op::PurgeQueue { .. } | Op::DeleteQueue { .. } => Reply::Removed { messages: 1 },
            Op::Consume(consume) => {
                let consumer_tag =
                    if consume.consumer_tag.is_empty() { "amq.ctag-1".into() } else { consume.consumer_tag };
                let delivery = chan.map(|chan| self.deliver(chan, Arc::clone(&consumer_tag)));
                return (Ok(Reply::Consuming { consumer_tag, reply_to: None }), delivery);
            }
            Op::Get(get) if &*get.queue == "empty" => Reply::Got(Got::default()),
            Op::Get(_) => {
                let deliver = self.deliver(ChanId(0), "".into());
                let message = GotMessage {
                    ack_id: deliver.ack_id,
                    delivery_tag: deliver.delivery_tag,
                    redelivered: false,
                    attempt: 1,
                    delivery_count: None,
                    message: deliver.message,
                };
                Reply::Got(Got { messages: vec![message], messages_ready: 4 })
            }
            _ => Reply::Done,
        };
        (Ok(reply), None)
    }

    pub(super) fn deliver(&mut self, chan: ChanId, consumer_tag: Arc<str>) -> Deliver {
        self.delivery_tag += 1;
        Deliver {
            chan,
            consumer_tag,
            delivery_tag: self.delivery_tag,
            ack_id: AckId { epoch: Epoch(1), queue: QueueId(1), seq: Seq(self.delivery_tag), attempt: 1 },
            redelivered: false,
            attempt: 1,
            delivery_count: None,
            message: message("q", Bytes::from_static(&[0x10, 0, 2]), "hello".into()),
        }
    }
}

pub(super) fn message(routing_key: &str, properties: Bytes, body: Bytes) -> Arc<Message> {
    Arc::new(Message {
        exchange: "".into(),
        routing_key: routing_key.into(),
        properties,
        body,
        received_ms: 0,
        persistent: true,
        expiration_ms: None,
        dead_lettered: false,
        blob: None,
    })
}

pub(super) fn not_found(text: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, text)
}
