//! One AMQP connection without its socket: bytes and outputs of the core in, inputs for the core and bytes out. No
//! socket, clock or task; time comes as a value, ids from outside. So it can be tested as a conversation, and fuzzed.
//!
//! ```text
//! bytes --receive--> frames --> methods --> inputs for the core          (handshake, channel, request, content)
//! outputs --output--> waiting --fill--> frames --> outbox --> bytes      (answer, confirm, close)
//! ```
//!
//! The methods of one channel are handled one after another: while one waits for its reply, later frames of the channel
//! wait in its backlog. Publishes and settlements do not wait for anything.

mod answer;
mod channel;
mod client;
mod close;
mod content;
mod handshake;
mod request;
mod settle;
mod times;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use leveret_broker::{ChanId, ConnId, ConnectionInfo, Input, Op, ReqId};

use super::frame::{self, Frame, FrameError, Kind};
use super::method::{Method, MethodError};
use super::outbox::Outbox;
use super::reply_code::{Failure, ReplyCode};
use super::sasl::Credentials;
use crate::hub::Output;
use crate::recent::Recent;
use answer::{Answer, Asked};
use channel::Channel;
use client::Client;
use times::Times;

pub use close::End;

/// Outputs become bytes only while fewer than so many wait for the socket.
const OUTBOX_BYTES: usize = 256 * 1024;
/// With so many outputs waiting for a client that does not read, nothing more is read from it.
const WAITING_OUTPUTS_MAX: usize = 4096;
/// The same for returned messages and answers to gets, which no credit bounds.
const WAITING_BYTES_MAX: u64 = 1024 * 1024;
/// Frames that may wait behind requests before nothing more is read.
const BACKLOG_BYTES_MAX: usize = 1024 * 1024;
/// A connection may have half-sent bodies of so many bytes, or of two of the largest.
const HALF_SENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Frames before the tuning may be so large: tokens in a password can be long.
const EARLY_FRAME_MAX: u32 = 8192;

/// What comes before any frame.
const PROTOCOL_HEADER_BYTES: usize = 8;

/// What a session may do.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Largest body, and largest properties, in bytes.
    pub message_bytes_max: u64,
    /// What all connections together may have sent in part, in bytes.
    pub half_sent_bytes_max: u64,
    /// Largest frame offered.
    pub frame_max: u32,
    /// Channels offered.
    pub channel_max: u16,
    /// Heartbeat offered, in seconds; 0: none.
    pub heartbeat_s: u16,
    /// Time for the handshake, in milliseconds.
    pub handshake_ms: u64,
    /// Time for the other side's close-ok, in milliseconds.
    pub close_ms: u64,
    /// Credit of each channel for deliveries, in bytes.
    pub channel_credit_bytes: u64,
    /// `product` in the server's properties: clients branch on it.
    pub product: String,
    /// `version` in the server's properties.
    pub version: String,
}

/// Where ids come from.
pub trait Ids: Send {
    /// A new channel's.
    fn channel(&mut self) -> ChanId;
    /// A new request's.
    fn request(&mut self) -> ReqId;
}

/// What the session has for the core.
#[derive(Debug, Default)]
pub struct ForCore {
    /// In order.
    pub inputs: Vec<Input>,
    /// Room that the publishes among them need; 0: none are.
    pub publish_bytes: usize,
}

/// One connection. See the module.
pub struct Session {
    settings: Arc<SessionSettings>,
    ids: Box<dyn Ids>,
    phase: Phase,
    /// Where the client calls from, for listings.
    peer: String,
    client: Client,
    user: Arc<str>,
    vhost: Arc<str>,
    frame_max: u32,
    channel_max: u16,
    conn: Option<ConnId>,
    channels: BTreeMap<u16, Channel>,
    /// Channels of the core that are open, by number here.
    numbers: BTreeMap<ChanId, u16>,
    /// Channels whose requests wait for a reply.
    requests: BTreeMap<ReqId, u16>,
    /// Half-sent bodies, in bytes.
    half_sent_bytes: u64,
    /// Frames in backlogs, in bytes.
    backlog_bytes: usize,
    exchange: Recent,
    routing_key: Recent,
    /// The virtual host's name, for publishes.
    publish_vhost: Recent,
    for_core: ForCore,
    /// Outputs that are not bytes yet.
    waiting: VecDeque<Output>,
    /// What of them no credit bounds, in bytes.
    waiting_bytes: u64,
    out: Outbox,
    /// Credit for deliveries that are written, per channel, and all of it.
    credit: Vec<(ChanId, u64)>,
    credit_bytes: u64,
    times: Times,
    draining: bool,
    blocked: bool,
}

/// How far a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Waits for the protocol header.
    Header,
    /// Waits for start-ok.
    Starting,
    /// The owner is to check the login.
    Authenticating { mechanism: &'static str, credentials: Credentials },
    /// Waits for tune-ok.
    Tuning,
    /// Waits for connection.open.
    Opening,
    /// The owner is to ask whether the user may use the virtual host.
    Entering,
    /// The owner is to open a connection in the core.
    Connecting,
    /// Open.
    Running,
    /// The client closes; waits for the core.
    ClosedByClient(ReqId),
    /// We close; waits for close-ok.
    Closing { end: End, garbled: bool },
    /// Nothing more but what is in the outbox.
    Ended(End),
}

impl Session {
    /// A connection on which nothing was said yet. `now_ms` may start anywhere, and never goes back.
    pub fn new(settings: Arc<SessionSettings>, ids: Box<dyn Ids>, peer: String, now_ms: u64) -> Self {
        Self {
            times: Times::new(now_ms, settings.handshake_ms),
            frame_max: EARLY_FRAME_MAX,
            channel_max: settings.channel_max,
            settings,
            ids,
            phase: Phase::Header,
            peer,
            client: Client::default(),
            user: Arc::from(""),
            vhost: Arc::from(""),
            conn: None,
            channels: BTreeMap::new(),
            numbers: BTreeMap::new(),
            requests: BTreeMap::new(),
            half_sent_bytes: 0,
            backlog_bytes: 0,
            exchange: Recent::default(),
            routing_key: Recent::default(),
            publish_vhost: Recent::default(),
            for_core: ForCore::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            out: Outbox::default(),
            credit: Vec::new(),
            credit_bytes: 0,
            draining: false,
            blocked: false,
        }
    }

    /// Takes what was read, as far as it is whole frames: how many bytes were used. The rest is to be given again, with
    /// more behind it. Stops early when [`Session::reads`] turns false.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while self.reads() {
            let rest = &bytes[used..];
            if self.phase == Phase::Header {
                let Some(header) = rest.first_chunk::<PROTOCOL_HEADER_BYTES>() else { break };
                used += header.len();
                self.protocol_header(header);
                continue;
            }
            if matches!(self.phase, Phase::Closing { garbled: true, .. }) {
                return bytes.len();
            }
            match frame::split(rest, self.frame_max) {
                Ok(None) => break,
                Ok(Some((frame, length))) => {
                    used += length;
                    if let Err(failure) = self.frame(frame) {
                        self.fail(frame.channel, failure);
                    }
                }
                Err(error) => self.garbled(&error),
            }
        }
        used
    }

    /// More may be received now.
    pub fn reads(&self) -> bool {
        match self.phase {
            Phase::Header | Phase::Starting | Phase::Tuning | Phase::Opening => true,
            Phase::Running => {
                self.waiting.len() < WAITING_OUTPUTS_MAX
                    && self.waiting_bytes < WAITING_BYTES_MAX
                    && self.backlog_bytes < BACKLOG_BYTES_MAX
                    && !(self.draining && self.owes_nothing())
            }
            Phase::Closing { .. } => true,
            Phase::Authenticating { .. }
            | Phase::Entering
            | Phase::Connecting
            | Phase::ClosedByClient(_)
            | Phase::Ended(_) => false,
        }
    }

    /// Something was read: a sign of life.
    pub fn heard(&mut self) {
        self.times.received();
    }

    /// How long the frame is in all that begins with `bytes`, for a buffer that takes it as a whole.
    pub fn frame_bytes(&self, bytes: &[u8]) -> usize {
        if self.phase == Phase::Header {
            return PROTOCOL_HEADER_BYTES;
        }
        let most = self.frame_max as usize + frame::FRAME_BYTES;
        frame::length(bytes).unwrap_or(frame::FRAME_BYTES).min(most)
    }

    /// The connection that the owner is to open in the core now, who knows when it looked at the login; then it calls [`Session::connected`].
    pub fn wants_connection(&self) -> Option<ConnectionInfo> {
        (self.phase == Phase::Connecting).then(|| ConnectionInfo {
            peer: self.peer.clone(),
            protocol: super::PROTOCOL,
            user: self.user.to_string(),
            client: self.client.name.clone(),
            vhost: self.vhost.to_string(),
            login_at: None,
        })
    }

    /// The connection is open in the core.
    pub fn connected(&mut self, conn: ConnId) {
        self.conn = Some(conn);
        self.phase = Phase::Running;
        self.send(0, &Method::ConnectionOpenOk { reserved_1: "" });
        if self.draining {
            self.close_if_drained();
        }
    }

    /// What there is for the core, with the credit that is due.
    pub fn take_for_core(&mut self) -> ForCore {
        let mut taken = std::mem::take(&mut self.for_core);
        if taken.publish_bytes > 0 {
            [&mut self.exchange, &mut self.routing_key, &mut self.publish_vhost]
                .into_iter()
                .for_each(Recent::part);
        }
        if !taken.inputs.is_empty() {
            self.take_credit(&mut taken.inputs);
        }
        taken
    }

    /// There is something for the core.
    pub fn has_for_core(&self) -> bool {
        !self.for_core.inputs.is_empty()
    }

    /// Takes what the core has decided. [`Session::fill`] makes bytes of it.
    pub fn output(&mut self, outputs: Vec<Output>) {
        if !matches!(self.phase, Phase::Running | Phase::ClosedByClient(_)) {
            return;
        }
        for output in outputs {
            self.waiting_bytes += answer::unbounded_bytes(&output);
            self.waiting.push_back(output);
            self.merge_confirms();
        }
    }

    /// Makes bytes of outputs, as many as the outbox takes.
    pub fn fill(&mut self) {
        while self.out.len() < OUTBOX_BYTES {
            let Some(output) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= answer::unbounded_bytes(&output);
            self.answer(output);
        }
        if self.draining {
            self.close_if_drained();
        }
    }

    /// Bytes for the socket.
    pub fn out(&self) -> &Outbox {
        &self.out
    }

    /// The socket has taken `count` bytes of what is in the outbox.
    pub fn written(&mut self, count: usize) {
        self.times.sent();
        let Self { out, credit, credit_bytes, .. } = self;
        out.advance(count, |chan, bytes| {
            *credit_bytes += bytes;
            match credit.iter_mut().find(|(other, _)| *other == chan) {
                Some((_, sum)) => *sum += bytes,
                None => credit.push((chan, bytes)),
            }
        });
    }

    /// Credit to be given back, once it is worth an input: what is held back is always less than a part of what the
    /// core gave. It never waits for a permit.
    pub fn take_credit_due(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        if self.credit_bytes >= self.settings.channel_credit_bytes / 4 {
            self.take_credit(&mut inputs);
        }
        inputs
    }

    /// How the connection ended; the socket can be closed once the outbox is empty.
    pub fn ended(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// How the connection ended, or would have, had the other side waited for it. For the log.
    pub fn outcome(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended(end) | Phase::Closing { end, .. } => Some(end),
            _ => None,
        }
    }

    fn take_credit(&mut self, inputs: &mut Vec<Input>) {
        self.credit_bytes = 0;
        inputs.extend(self.credit.drain(..).map(|(chan, bytes)| Input::Writable { chan, bytes }));
    }

    fn frame(&mut self, frame: Frame<'_>) -> Result<(), Failure> {
        if matches!(self.phase, Phase::Closing { .. }) {
            self.frame_while_closing(frame);
            return Ok(());
        }
        match (frame.kind, frame.channel) {
            (Kind::Heartbeat, 0) => Ok(()),
            (Kind::Method, 0) => {
                let method = decode(frame.payload)?;
                let ids = method.ids();
                match self.phase {
                    Phase::Running => self.connection_method(&method),
                    _ => self.handshake_method(&method),
                }
                .map_err(|failure| Failure { ids, ..failure })
            }
            (Kind::Heartbeat, _) => Err(unexpected("heartbeat frame on a channel")),
            (_, 0) => Err(unexpected("content frame on channel 0")),
            (_, _) if self.phase != Phase::Running => {
                Err(Failure::new(ReplyCode::ChannelError, "the connection is not open yet", (0, 0)))
            }
            (kind, number) => self.channel_frame(number, kind, frame.payload),
        }
    }

    fn garbled(&mut self, error: &FrameError) {
        self.close_connection(Failure::new(ReplyCode::FrameError, error.to_string(), (0, 0)));
        if let Phase::Closing { garbled, .. } = &mut self.phase {
            *garbled = true;
        }
    }

    /// Asks the core on a channel's behalf; the channel waits.
    fn ask(&mut self, number: u16, ids: (u16, u16), op: Op, answer: Answer) {
        let req = self.ids.request();
        let Some(channel) = self.channels.get_mut(&number) else { return };
        channel.asked = Some(Asked { req, ids, answer });
        self.requests.insert(req, number);
        let (conn, chan) = (self.conn, Some(channel.chan));
        let (user, vhost) = (Some(Arc::clone(&self.user)), Arc::clone(&self.vhost));
        self.for_core.inputs.push(Input::Request { req, conn, chan, user, vhost, op });
    }

    fn send(&mut self, number: u16, method: &Method<'_>) {
        self.out.write(|out| frame::write(out, Kind::Method, number, |out| method.encode(out)));
    }

    /// Sends a method with content.
    fn send_content(&mut self, number: u16, method: &Method<'_>, properties: &[u8], body: &Bytes) {
        let part_bytes = self.frame_max as usize - frame::FRAME_BYTES;
        self.out.write(|out| {
            frame::write(out, Kind::Method, number, |out| method.encode(out));
            frame::write(out, Kind::Header, number, |out| {
                out.extend_from_slice(&BASIC.to_be_bytes());
                out.extend_from_slice(&[0; 2]);
                out.extend_from_slice(&(body.len() as u64).to_be_bytes());
                out.extend_from_slice(properties);
            });
        });
        let mut sent = 0;
        while sent < body.len() {
            let part = body.slice(sent..body.len().min(sent + part_bytes));
            sent += part.len();
            let head = frame::head(Kind::Body, number, part.len() as u32);
            self.out.write(|out| out.extend_from_slice(&head));
            self.out.body(part);
            self.out.write(|out| out.push(frame::FRAME_END));
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// The class basic, the only one with content.
const BASIC: u16 = 60;

fn decode(payload: &[u8]) -> Result<Method<'_>, Failure> {
    Method::decode(payload).map_err(|error| match error {
        MethodError::Unknown { class, method } => {
            Failure::new(ReplyCode::NotImplemented, error.to_string(), (class, method))
        }
        MethodError::Arguments { ids, .. } => Failure::new(ReplyCode::SyntaxError, error.to_string(), ids),
        MethodError::Short(_) => Failure::new(ReplyCode::SyntaxError, error.to_string(), (0, 0)),
    })
}

fn unexpected(text: impl Into<String>) -> Failure {
    Failure::new(ReplyCode::UnexpectedFrame, text, (0, 0))
}

/// Not a failure of its own method: the caller fills the ids in.
fn failed(code: ReplyCode, text: impl Into<String>) -> Failure {
    Failure::new(code, text, (0, 0))
}
