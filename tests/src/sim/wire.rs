//! Simulated AMQP clients: bytes that both ends have still to read, the server's real sessions at one of them, clients
//! that publish with confirms, consume, settle and lose their connections at the other. They have queues of their own,
//! since what is on its way in bytes may come much later than what the other clients do.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use fastrand::Rng;
use leveret_broker::{ChanId, ConnId, Effect, Input, Op, PasswordHash, ReqId};
use leveret_server::amqp::{Ids, Session, SessionSettings};
use leveret_server::hub::Output;

use super::kinds::Kind;
use super::reached::Reached;
use super::world::Life;
use crate::history::{Event, QueueRef, Recorder, Share};

mod client;

use client::Client;

/// Ids of these sessions begin here; those of the other clients stay below.
const IDS_FROM: u64 = 1 << 40;
/// Connections at a time.
const CONNECTIONS: usize = 3;
/// Queues.
const QUEUES: u32 = 3;

/// A queue of theirs.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) queue: QueueRef,
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    /// Somebody has asked for it.
    asked: bool,
    /// It is there: only then it is used.
    pub(super) ready: bool,
    /// Who consumes from it in this life of the server, once somebody does: one alone and nobody ever after, since the
    /// server may not know yet that he has gone; or several.
    consumed: Option<Share>,
}

/// All connections.
pub(super) struct Wires {
    recorder: Recorder,
    /// Of their own, so that the same seed makes the same of the rest.
    rng: Rng,
    settings: Arc<SessionSettings>,
    queues: Vec<Queue>,
    wires: Vec<Wire>,
    publishers: u32,
    kinds: bool,
    ids: u64,
}

/// One connection.
struct Wire {
    /// The server's end.
    session: Session,
    /// Read by the server, and not a whole frame yet.
    heard: Vec<u8>,
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// None: it has gone, and the server has not noticed yet.
    client: Option<Client>,
    conn: ConnId,
}

/// Ids from a block of its own.
struct Block(u64);

impl Ids for Block {
    fn channel(&mut self) -> ChanId {
        self.0 += 1;
        ChanId(self.0)
    }

    fn request(&mut self) -> ReqId {
        self.0 += 1;
        ReqId(self.0)
    }
}

/// What the server asks of its core at its first start: the virtual host and the user that everybody finds.
pub(super) fn defaults() -> Input {
    let (req, user) = (ReqId(0), "guest".into());
    let op = Op::MakeDefaults { user, password_hash: PasswordHash("unread".into()) };
    Input::Request { req, conn: None, chan: None, user: None, vhost: "/".into(), op }
}

impl Wires {
    /// `kinds`: not all of their queues are plain classic ones.
    pub(super) fn new(recorder: Recorder, seed: u64, kinds: bool) -> Self {
        let kind = |n| match n {
            0 if kinds => Kind::Priorities(3),
            1 if kinds => Kind::Quorum(Some(2)),
            _ => Kind::Plain,
        };
        let name = |n| -> Arc<str> { format!("wire.{n}").into() };
        let queue = |n| Queue {
            queue: recorder.new_queue(),
            name: name(n),
            kind: kind(n),
            asked: false,
            ready: false,
            consumed: None,
        };
        let settings = SessionSettings {
            message_bytes_max: 1 << 20,
            half_sent_bytes_max: 1 << 20,
            frame_max: 4096,
            channel_max: 8,
            heartbeat_s: 0,
            handshake_ms: u64::MAX / 2,
            close_ms: u64::MAX / 2,
            channel_credit_bytes: 4_000,
            product: "RabbitMQ".into(),
            version: "3.13.7".into(),
        };
        Self {
            queues: (0..QUEUES).map(queue).collect(),
            recorder,
            rng: Rng::with_seed(!seed),
            settings: Arc::new(settings),
            wires: Vec::new(),
            publishers: 1_000,
            kinds,
            ids: IDS_FROM,
        }
    }

    /// The server is gone. What was on its way is lost, and nobody knows what came of it.
    pub(super) fn forget(&mut self) {
        self.wires.clear();
        for queue in &mut self.queues {
            (queue.ready, queue.consumed) = (false, None);
        }
    }

    /// Those that may be there.
    pub(super) fn queues_to_drain(&self) -> Vec<(QueueRef, Arc<str>)> {
        let asked = self.queues.iter().filter(|queue| queue.asked);
        asked.map(|queue| (queue.queue, Arc::clone(&queue.name))).collect()
    }

    /// One thing happens on some connection.
    pub(super) fn act(&mut self, life: &mut Life, now_ms: u64, reached: &mut Reached) {
        if self.wires.len() < CONNECTIONS && self.rng.u8(..16) == 0 {
            return self.connect();
        }
        if self.wires.is_empty() {
            return;
        }
        let index = self.rng.usize(..self.wires.len());
        let (rng, recorder, queues) = (&mut self.rng, &self.recorder, &mut self.queues);
        let wire = &mut self.wires[index];
        match rng.u8(..40) {
            0..8 => {
                let Some(client) = &mut wire.client else { return };
                reached.operations += 1;
                wire.to_server.extend(client.act(recorder, queues, rng));
            }
            8..24 => wire.serve(life, rng, now_ms),
            24..39 => {
                let count = rng.usize(0..=wire.to_client.len());
                let bytes: Vec<u8> = wire.to_client.drain(..count).collect();
                let Some(client) = &mut wire.client else { return };
                client.read(&bytes, recorder, queues, reached);
            }
            _ => match wire.client.take() {
                Some(client) if rng.u8(..8) == 0 => {
                    client.goes(recorder);
                    reached.wires_lost += 1;
                    // What left it may still come, or not.
                    let count = rng.usize(0..=wire.to_server.len());
                    wire.to_server.truncate(count);
                }
                Some(client) => wire.client = Some(client),
                None => {
                    let mut wire = self.wires.swap_remove(index);
                    life.inputs.extend(wire.session.abandon());
                }
            },
        }
    }

    fn connect(&mut self) {
        self.ids += 1 << 20;
        let conn = ConnId(self.ids);
        let ids = Box::new(Block(self.ids));
        let session = Session::new(Arc::clone(&self.settings), ids, "simulated".into(), 0);
        self.publishers += 1;
        let client = Client::new(self.publishers, self.kinds, &mut self.rng);
        let mut wire = Wire {
            session,
            heard: Vec::new(),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            client: None,
            conn,
        };
        wire.to_server.extend(client.hello());
        for queue in &mut self.queues {
            if !std::mem::replace(&mut queue.asked, true) {
                let name = queue.name.to_string();
                self.recorder.record(Event::DeclareSent { queue: queue.queue, name });
                self.recorder.record_all(queue.kind.recorded(queue.queue, &[].into()));
            }
            wire.to_server.extend(client.declare(queue));
        }
        wire.client = Some(client);
        self.wires.push(wire);
    }

    /// Takes what the core has for one of these connections; gives back what is not theirs.
    pub(super) fn receive(&mut self, effect: Effect) -> Option<Effect> {
        let id = match &effect {
            Effect::Reply { req, .. } | Effect::Dropped { req } => req.0,
            Effect::Confirms { chan, .. }
            | Effect::Return { chan, .. }
            | Effect::Settled { chan, .. }
            | Effect::ConsumerCancelled { chan, .. }
            | Effect::ChannelFailed { chan, .. } => chan.0,
            Effect::Deliver(deliver) => deliver.chan.0,
            _ => return Some(effect),
        };
        if id < IDS_FROM {
            return Some(effect);
        }
        let output = match effect {
            Effect::Reply { req, result } => Output::Reply { req, result },
            Effect::Confirms { chan, upto, others } => Output::Confirms { chan, upto, others },
            Effect::Return { chan, tag, message } => Output::Return { chan, tag, message },
            Effect::Settled { chan, upto, unknown } => Output::Settled { chan, upto, unknown },
            Effect::ConsumerCancelled { chan, consumer_tag } => {
                Output::ConsumerCancelled { chan, consumer_tag }
            }
            Effect::ChannelFailed { chan, cause, refusal } => Output::ChannelFailed { chan, cause, refusal },
            Effect::Deliver(deliver) => Output::Deliver(deliver),
            _ => return None,
        };
        let block = |id: u64| (id - IDS_FROM) >> 20;
        // Else it has ended meanwhile.
        if let Some(wire) = self.wires.iter_mut().find(|wire| block(wire.conn.0) == block(id)) {
            wire.session.output(vec![output]);
        }
        None
    }
}

impl Wire {
    /// The server's end reads some, and writes some.
    fn serve(&mut self, life: &mut Life, rng: &mut Rng, now_ms: u64) {
        let session = &mut self.session;
        session.at(now_ms);
        session.tick();
        if session.reads() {
            let count = rng.usize(0..=self.to_server.len());
            self.heard.extend(self.to_server.drain(..count));
            session.heard();
        }
        let used = session.receive(&self.heard);
        self.heard.drain(..used);
        if session.wants_login().is_some() {
            session.login_checked(Ok("guest".into()));
        }
        if session.wants_vhost().is_some() {
            session.entered(Ok(()));
        }
        if let Some(info) = session.wants_connection() {
            life.inputs.push_back(Input::ConnectionOpened { conn: self.conn, info });
            session.connected(self.conn);
        }
        life.inputs.extend(session.take_for_core().inputs);
        session.fill();
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = session.out().slices(&mut slices);
        let whole: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        let written = rng.usize(0..=whole.len());
        self.to_client.extend(&whole[..written]);
        session.written(written);
        life.inputs.extend(session.take_credit_due());
        assert!(session.ended().is_none(), "the server ended a sound connection: {:?}", session.ended());
    }
}
