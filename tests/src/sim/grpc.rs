//! Simulated gRPC clients: calls whose requests and responses go piece by piece through the server's real service, codec,
//! hub, inbox, lanes and permits; at the other end clients that publish by streams and by single calls, consume, get,
//! settle and lose their connections. They have queues of their own, like the AMQP clients.
//!
//! The tasks of streams run on a runtime of one thread, when the seed says so, and its clock is the simulator's. What is left
//! out: HTTP/2, the login of each call, Subscribe, sessions, and the end of the process in stages.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use leveret_broker::{Effect, Input};
use leveret_server::grpc::{InProcess, InProcessSettings};
use leveret_server::host::Host;
use tokio::runtime::{Builder, Runtime};

use super::kinds::Kind;
use super::reached::Reached;
use crate::history::{Event, QueueRef, Recorder, Share};

mod call;
mod client;
mod consuming;

use client::Client;

/// Ids of theirs begin here; those of all other clients stay below.
const IDS_FROM: u64 = 1 << 50;
/// Connections at a time.
const CONNECTIONS: usize = 3;

/// A queue of theirs.
#[derive(Debug, Clone)]
struct Queue {
    queue: QueueRef,
    name: Arc<str>,
    kind: Kind,
    /// Somebody has asked for it.
    asked: bool,
    /// It is there: only then it is used.
    ready: bool,
    /// Who takes from it in this life of the server, once somebody does: one consumer alone and nobody ever after, since the
    /// server may not know yet that it has gone; or several.
    taken: Option<Share>,
}

/// All connections.
pub(super) struct Grpc {
    recorder: Recorder,
    /// Of their own, so that the same seed makes the same of the rest.
    rng: Rng,
    queues: Vec<Queue>,
    /// Numbers of publishers so far.
    publishers: u32,
    ports: u16,
    /// None while no server runs.
    life: Option<Life>,
}

/// A running server, as far as it is theirs.
struct Life {
    // Before the runtime, which they need.
    clients: Vec<Connected>,
    server: InProcess,
    runtime: Runtime,
    /// Publishers wait while the store says so, and one at a time publishes by a stream: several would go on in an order that
    /// no seed decides. Else they never wait for the store.
    holds: bool,
    now_ms: u64,
    wall_ms: u64,
    /// Never behind the clock by which the core ends leases.
    leases_ms: u64,
}

/// A client and whether it is there: the server may not have noticed yet that it is not.
struct Connected {
    client: Client,
    gone: bool,
}

/// What clients share.
struct Shared<'a> {
    recorder: &'a Recorder,
    rng: &'a mut Rng,
    queues: &'a mut [Queue],
    server: &'a mut InProcess,
    reached: &'a mut Reached,
    leases_ms: u64,
    /// A client may begin to publish by a stream.
    may_stream: bool,
}

impl Grpc {
    pub(super) fn new(recorder: Recorder, seed: u64) -> Self {
        let queue = |(n, kind)| Queue {
            queue: recorder.new_queue(),
            name: format!("grpc.{n}").into(),
            kind,
            asked: false,
            ready: false,
            taken: None,
        };
        let kinds = [Kind::Plain, Kind::Priorities(4), Kind::Quorum(Some(2))];
        Self {
            queues: (0..).zip(kinds).map(queue).collect(),
            recorder,
            rng: Rng::with_seed(seed.rotate_left(32)),
            publishers: 1_000_000,
            ports: 0,
            life: None,
        }
    }

    /// A server has started.
    pub(super) fn begin(&mut self, host: &Host) {
        let settings = InProcessSettings {
            ids_from: IDS_FROM,
            publish_bytes: 20_000,
            channel_credit_bytes: 4_000,
            message_bytes_max: 1 << 20,
        };
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        self.life = Some(Life {
            clients: Vec::new(),
            server: InProcess::new(settings, host).expect("a thread for logins"),
            runtime: runtime.expect("a runtime of one thread"),
            holds: self.rng.bool(),
            now_ms: 0,
            wall_ms: u64::MAX,
            leases_ms: 0,
        });
    }

    /// The server is gone. What was on its way is lost, and nobody knows what came of it.
    pub(super) fn forget(&mut self) {
        self.life = None;
        for queue in &mut self.queues {
            (queue.ready, queue.taken) = (false, None);
        }
    }

    /// Those that may be there.
    pub(super) fn queues_to_drain(&self) -> Vec<(QueueRef, Arc<str>)> {
        let asked = self.queues.iter().filter(|queue| queue.asked);
        asked.map(|queue| (queue.queue, Arc::clone(&queue.name))).collect()
    }

    /// Some of what these clients have for the core.
    pub(super) fn inputs(&mut self) -> Vec<Input> {
        let Some(Life { server, .. }) = &mut self.life else { return Vec::new() };
        let most = self.rng.usize(0..=server.waiting());
        server.inputs(most)
    }

    /// A turn of the host is over.
    pub(super) fn after_turn(&mut self, host: &Host) {
        let Some(Life { server, holds, .. }) = &mut self.life else { return };
        server.after_turn(host);
        if *holds {
            server.hold_publishers(host);
        }
    }

    /// Takes what the core has for one of these clients; gives back what is not theirs.
    pub(super) fn receive(&mut self, effect: Effect) -> Option<Effect> {
        match &mut self.life {
            Some(life) => life.server.output(effect),
            None => Some(effect),
        }
    }

    /// What was received goes on.
    pub(super) fn flush(&mut self) {
        self.life.iter_mut().for_each(|life| life.server.flush());
    }

    /// One thing happens on some connection.
    pub(super) fn act(&mut self, (now_ms, wall_ms): (u64, u64), reached: &mut Reached) {
        let Some(life) = &mut self.life else { return };
        let may_stream = !life.holds || life.clients.iter().all(|other| !other.client.streams());
        let Life { clients, server, runtime, now_ms: before, wall_ms: wall_before, leases_ms, .. } = life;
        *leases_ms += wall_ms.saturating_sub(*wall_before);
        *wall_before = wall_ms;
        let leases_ms = *leases_ms;
        let past = Duration::from_millis(now_ms.saturating_sub(*before));
        *before = now_ms;
        if !past.is_zero() {
            runtime.block_on(tokio::time::advance(past));
        }
        if self.rng.bool() {
            let turns = self.rng.u8(1..6);
            runtime.block_on(async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            });
        }
        let _within = runtime.enter();
        if clients.len() < CONNECTIONS && self.rng.u8(..16) == 0 {
            self.ports += 1;
            let socket = server.connect(self.ports);
            self.publishers += 2;
            let client = Client::new(socket, self.publishers, &mut self.rng);
            clients.push(Connected { client, gone: false });
            return;
        }
        if clients.is_empty() {
            return;
        }
        let index = self.rng.usize(..clients.len());
        let Connected { client, gone } = &mut clients[index];
        let what = self.rng.u8(..40);
        let (recorder, rng, queues) = (&self.recorder, &mut self.rng, &mut self.queues[..]);
        let mut shared = Shared { recorder, rng, queues, server, reached, leases_ms, may_stream };
        match what {
            0..10 if !*gone => {
                shared.reached.operations += 1;
                client.act(&mut shared);
            }
            10..26 => client.serve(shared.rng),
            26..39 if !*gone => client.read(&mut shared),
            39 if *gone => drop(clients.swap_remove(index)),
            39 if shared.rng.u8(..8) == 0 => {
                client.goes(&mut shared);
                *gone = true;
                reached.grpc_lost += 1;
            }
            _ => {}
        }
    }
}

/// Asks for a queue; the first to ask says so.
fn ask_for(recorder: &Recorder, queue: &mut Queue) {
    if !std::mem::replace(&mut queue.asked, true) {
        recorder.record(Event::DeclareSent { queue: queue.queue, name: queue.name.to_string() });
        recorder.record_all(queue.kind.recorded(queue.queue, &[].into()));
    }
}
